// containers-policy.json(5): which signatures an image needs, by where it comes from. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/reference.hpp"
#include "base/result.hpp"

namespace caisson::trust {

enum class RequirementKind : std::uint8_t {
  accept,             ///< insecureAcceptAnything
  reject,
  signed_by,          ///< OpenPGP, by gpgv
  signed_base_layer,  ///< parsed, as containers does, and never fulfilled
  sigstore_signed,    ///< cosign's tag form, or a bundle attached to the image
  notation_signed,    ///< ours: containers knows no such type
};

enum class IdentityKind : std::uint8_t {
  match_repo_digest_or_exact,  ///< the default
  match_exact,
  match_repository,
  exact_reference,
  exact_repository,
  remap,
  any,  ///< not in files: a person who checks a signature by hand asks for a key, not for a name
};

/// Under which name an image must have been signed.
struct Identity {
  IdentityKind kind = IdentityKind::match_repo_digest_or_exact;
  std::string reference;      ///< exact_reference: dockerReference; exact_repository: dockerRepository; remap: prefix
  std::string signed_prefix;  ///< remap
};

/// A key or certificate: in the policy itself, or in a file that is read when the policy is.
struct KeySource {
  std::string path;  ///< "": `data` stood in the policy
  std::string data;
};

struct Requirement {
  RequirementKind kind = RequirementKind::reject;
  std::vector<KeySource> keys;          ///< signed_by: keyrings; sigstore_signed: public keys; notation_signed: root certificates
  std::vector<std::string> identities;  ///< notation_signed: trustedIdentities
  Identity identity;
};
/// "sigstoreSigned", as the file says it.
std::string_view to_string(RequirementKind kind);

using Requirements = std::vector<Requirement>;

struct Policy {
  Requirements fallback;                                            ///< "default"
  std::map<std::string, std::map<std::string, Requirements>> transports;  ///< transport → scope → what it takes
};

/// Strict: an unknown member, one that is there twice, or a list without a requirement refuses the file. Errors: invalid, naming the member;
/// unsupported, naming it, for keyless requirements (fulcio, pki, rekor keys), which need services that are not asked here.
Result<Policy> parse_policy(std::string_view text, std::string_view what);
/// A list of requirements alone, in the same words. Errors: as parse_policy.
Result<Requirements> parse_requirements(std::string_view text, std::string_view what);
json::array to_json(const Requirements& requirements);
std::string write_policy(const Policy& policy);

/// The requirements that hold, and the scope that has them.
struct Chosen {
  std::string scope;  ///< as people look for it in the file: "docker docker.io/library", "docker \"\"", "default"
  const Requirements* requirements = nullptr;
};
/// `reference`: of images from registries (transport "docker"). Other transports have one scope here, "": what they bring comes as a stream
/// without a place.
Chosen choose(const Policy& policy, std::string_view transport, const std::optional<Reference>& reference);
/// The scopes of an image in a registry, the narrowest first: reference, repository, namespaces above it, host, "*.domain".
std::vector<std::string> scopes_of(const Reference& reference);

/// Whether an image signed as `claimed` may pass as `wanted`. Errors: denied, saying why not.
Status check_identity(const Identity& identity, const Reference& wanted, std::string_view claimed);

}  // namespace caisson::trust
