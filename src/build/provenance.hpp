// What an image was made of, and how: the predicate of a SLSA provenance, version 1 (https://slsa.dev/spec/v1.0/provenance).
#pragma once

#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/time.hpp"
#include "build/builder.hpp"
#include "dockerfile/source.hpp"

namespace caisson::build {

/// Something from outside that a build used.
struct Material {
  std::string uri;        ///< without credentials
  std::string algorithm;  ///< "sha256", "gitCommit"
  std::string value;      ///< hexadecimal
  auto operator<=>(const Material&) const = default;
};
/// An image by the digest its registry has it under; one that is of this host alone by its id.
Material image_material(const std::string& name, const image::Image& image);
/// `commit`: a whole hash.
Material git_material(const std::string& address, const std::string& commit);
Material url_material(const std::string& address, const Digest& content);

/// Filled by the stages of one build, side by side.
class Materials {
 public:
  void add(Material material);
  /// Each once, in the order of their uris.
  [[nodiscard]] std::vector<Material> all() const;

 private:
  mutable std::mutex mutex_;
  std::set<Material> known_;
};

struct ProvenanceFacts {
  std::string id;              ///< of the build in the history
  std::string build_platform;
  std::string platform;        ///< of the result
  TimestampNs started = 0;
  TimestampNs ended = 0;
};
/// JSON. What a build was given as arguments, labels and text of the Dockerfile is in it for Provenance::max only; values of secrets never.
std::string write_provenance(const BuildRequest& request, const dockerfile::Source& source, const std::vector<Material>& materials, const ProvenanceFacts& facts);

}  // namespace caisson::build
