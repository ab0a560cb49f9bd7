// What a pushed manifest is: checked by the image module's parsers, and turned into the catalog's record. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "registry/catalog.hpp"

namespace caisson::registry {

/// The distribution specification asks for at least 4 MiB; more is refused.
inline constexpr std::size_t most_manifest_bytes = 4 << 20;

struct CheckedManifest {
  ManifestRecord record;  ///< without `blobs`, `manifests` and `pushed`
  struct Part {
    Digest digest;
    std::uint64_t size_bytes = 0;
    bool may_be_missing = false;  ///< a layer that its licence keeps elsewhere
  };
  std::vector<Part> blobs;
  std::vector<Part> manifests;
};

/// `content_type`: the request's. Errors: invalid, naming the field or what contradicts itself; unsupported (schema 1, unknown types).
Result<CheckedManifest> check_manifest(std::string_view text, std::string_view content_type);

}  // namespace caisson::registry
