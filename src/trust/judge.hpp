// Whether a policy lets an image pass: its requirements against the signatures that were found. Pure but for gpgv, which the caller gives.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "base/reference.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "trust/policy.hpp"

namespace caisson::trust {

enum class SignatureFormat : std::uint8_t {
  cosign,    ///< a simple signing document, and the signature over it
  bundle,    ///< a sigstore bundle with an in-toto statement
  notation,  ///< a JWS envelope
  gpg,       ///< an OpenPGP message that holds a simple signing document
};
std::string_view to_string(SignatureFormat format);

/// A signature as it was found beside an image; nothing of it is believed.
struct FoundSignature {
  SignatureFormat format = SignatureFormat::cosign;
  std::string document;   ///< the payload, bundle, envelope or message
  std::string signature;  ///< cosign: the bytes over the payload
};

/// What is to be used, by digest: names were resolved before, once.
struct Subject {
  std::string transport = "docker";    ///< as policies name it
  std::optional<Reference> reference;  ///< of transport "docker"
  /// The manifest of the image, then the indexes by which it was found, each naming the one before: a signature over any of them covers it.
  std::vector<Digest> digests;
};

/// Takes an OpenPGP message and keyrings; gives the text that was signed by one of their keys. Errors: denied, unavailable (no gpgv).
using VerifyMessage = std::function<Result<std::string>(const std::vector<std::string>& keyrings, std::string_view message)>;

/// Why an image may pass.
struct Admission {
  std::string scope;            ///< of the policy, as Chosen has it
  TimestampNs valid_until = 0;  ///< a signature or certificate ends then; 0: nothing that ends was needed
  std::vector<std::string> reasons;  ///< one per requirement: "sigstoreSigned: cosign signature by key SHA256:…"
};

/// Every requirement has to be fulfilled, each by one signature of its own or the same. `keys` of the requirements are read (policy_file.hpp).
/// Errors: denied: "image N (D) is refused by WHERE: scope S: REQUIREMENT: why each signature did not do".
Result<Admission> judge(const Chosen& chosen, std::string_view where, const Subject& subject, const std::vector<FoundSignature>& signatures,
                        const VerifyMessage& verify_message, TimestampNs now);

/// Which formats could fulfil the requirements: what has to be fetched.
struct Wants {
  bool sigstore = false;
  bool notation = false;
  bool gpg = false;
  [[nodiscard]] bool any() const { return sigstore || notation || gpg; }
};
Wants wants_of(const Requirements& requirements);

}  // namespace caisson::trust
