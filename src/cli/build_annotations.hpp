// `build --annotation`: notes on an image's manifest, and on the index of an image of several platforms.
#pragma once

#include <string>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"

namespace caisson::cli {

struct Annotation {
  std::string level;     ///< "manifest", "index", "manifest-descriptor", "index-descriptor"
  std::string platform;  ///< of a manifest; "": all
  std::string key;
  std::string value;
};
/// "K=V", "index:K=V", "index,manifest:K=V", "manifest[linux/arm64]:K=V". Errors: invalid, naming the flag.
Result<std::vector<Annotation>> parse_annotations(const std::vector<std::string>& texts);

/// Those of the manifest for `platform`, by name.
json::object manifest_annotations(const std::vector<Annotation>& annotations, const std::string& platform);
/// Those of the others, as the daemon's `annotations` has them: {"index", "manifests", "entry"}.
json::object index_annotations(const std::vector<Annotation>& annotations);

}  // namespace caisson::cli
