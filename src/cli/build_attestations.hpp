// What `build --sbom`, `--provenance` and `--attest` attach to an image where it was pushed.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "cli/parse.hpp"
#include "cli/session.hpp"
#include "trust/key.hpp"

namespace caisson::cli {

struct AttestationFlags {
  bool sbom = false;
  std::string provenance;  ///< "", "min" or "max"
  std::optional<trust::PrivateKey> key;
  [[nodiscard]] bool any() const { return sbom || !provenance.empty(); }
};
/// Errors: invalid, unsupported (another generator), naming the flag; those of the key.
Result<AttestationFlags> parse_attestation_flags(Session& session, const Invocation& invocation);

/// One image of what was built.
struct BuiltImage {
  std::string platform;    ///< "linux/amd64"; "": nobody asked for one, and there is one image
  std::string image;       ///< id
  std::string provenance;  ///< a predicate of SLSA 1.0, or ""
};
/// To each image under the pushed name `tag`, with a key also as signed attestations. Prints what each is called.
/// Errors: those of the registry, and of reading the image.
Status attach_attestations(Session& session, const Invocation& invocation, const AttestationFlags& flags, const std::string& tag, const std::vector<BuiltImage>& images);

}  // namespace caisson::cli
