// What a request path of the distribution API names. Pure; paths are hostile.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace caisson::registry {

enum class Target : std::uint8_t {
  none,       ///< no path of this API
  base,       ///< /v2/
  catalog,    ///< /v2/_catalog
  tags,       ///< /v2/NAME/tags/list
  manifest,   ///< /v2/NAME/manifests/REFERENCE
  blob,       ///< /v2/NAME/blobs/DIGEST
  uploads,    ///< /v2/NAME/blobs/uploads/
  upload,     ///< /v2/NAME/blobs/uploads/ID
  referrers,  ///< /v2/NAME/referrers/DIGEST
};

struct Route {
  Target target = Target::none;
  std::string repository;       ///< as it was sent: see is_good_name
  std::string reference;        ///< a tag or digest, or an upload's id; not checked
  bool is_good_name = true;     ///< the repository's name follows the grammar
};

/// Repositories may have parts named "blobs" or "manifests", so the path is read from its end.
Route parse_route(std::string_view path);

}  // namespace caisson::registry
