// A blob at hand whose digest was checked, wherever it comes from; and what a name stands for on one platform.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/unique_fd.hpp"
#include "transport/place.hpp"
#include "transport/spool.hpp"

namespace caisson::transport {

struct CheckedBlob {
  UniqueFd fd;
  std::string path;  ///< in the spool, for the caller to rename or remove; "": it lies at the source itself
};
/// Fetches into the spool what does not lie at hand, going on with what an earlier attempt left there. `is_needed` (may be empty) is asked once more when
/// this process is the only one that brings the blob; none is returned when it says no.
/// Errors: corrupt (it is something else; naming place and digest), those of the place.
Result<std::optional<CheckedBlob>> bring_checked(Place& source, const image::Descriptor& blob, const Spool& spool, const OnBytes& on_bytes, const std::function<Result<bool>()>& is_needed = {});

/// Follows indexes to the manifest of one image. Errors: those of the place; not_found (no such platform), invalid (nested too deep).
Result<image::FetchedManifest> resolve_image(Place& source, const std::string& name, const image::Platform& platform);
/// The same with the digests that lead to it: its own, then those of the indexes above it.
Result<image::FoundManifest> find_image(Place& source, const std::string& name, const image::Platform& platform);
/// The manifest that an index of `source` lists, checked for its size too.
Result<image::FetchedManifest> listed_manifest(Place& source, const image::Descriptor& descriptor);

inline constexpr std::size_t most_index_depth = 3;

}  // namespace caisson::transport
