// The notary project's signatures: a JWS envelope whose key is vouched for by a chain of X.509 certificates. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "trust/certificate.hpp"
#include "trust/key.hpp"

namespace caisson::trust {

namespace media_type {
inline constexpr std::string_view notation = "application/vnd.cncf.notary.signature";  ///< of the referrer's config, and its artifact type
inline constexpr std::string_view jws = "application/jose+json";
}  // namespace media_type
/// On the referrer: a JSON array of the chain's SHA-256 digests in hex.
inline constexpr std::string_view thumbprint_annotation = "io.cncf.notary.x509chain.thumbprint#S256";

/// An envelope as it came: nothing in it is believed yet.
struct NotationEnvelope {
  std::string signed_text;               ///< "protected.payload", as it was signed
  std::string signature;                 ///< decoded
  std::string algorithm;                 ///< of the header; it has to be what the signer's key makes
  std::vector<std::string> chain;        ///< DER, the signer's first
  TimestampNs signing_time = 0;
  TimestampNs expiry = 0;                ///< 0: none
  Digest target;                         ///< the manifest
  std::string target_media_type;
  std::uint64_t target_bytes = 0;
};

/// What the signature's own words are worth once they are verified.
struct NotationSigner {
  std::map<std::string, std::string> subject;
  TimestampNs valid_until = 0;  ///< of the chain and the signature, whichever ends first
};

struct NotationTrust {
  std::string roots_pem;
  std::vector<std::string> identities;  ///< "x509.subject: …" or "*"; one has to match
};

/// Errors: invalid, naming the member; unsupported for critical headers that are not known here and for the signing authority's scheme, whose
/// time only an authority can vouch for.
Result<NotationEnvelope> parse_notation(std::string_view text);
/// Errors: denied (no trusted signer, wrong algorithm, expired, not this signature), invalid (the trust is written wrongly).
Result<NotationSigner> verify_notation(const NotationEnvelope& envelope, const NotationTrust& trust, TimestampNs now);

struct NotationTarget {
  std::string media_type;
  Digest digest;
  std::uint64_t size_bytes = 0;
};
/// `chain_pem`: the signer's certificate first. `expiry` 0: never. Errors: invalid (the certificate is not the key's), those of the key.
Result<std::string> write_notation(const PrivateKey& key, std::string_view chain_pem, const NotationTarget& target, TimestampNs now, TimestampNs expiry);

}  // namespace caisson::trust
