// The document that cosign's and simple signing's signatures are over: which manifest, under which name. Pure.
#pragma once

#include <string>
#include <string_view>

#include "base/digest.hpp"
#include "base/result.hpp"

namespace caisson::trust {

namespace media_type {
inline constexpr std::string_view simple_signing = "application/vnd.dev.cosign.simplesigning.v1+json";  ///< a layer with such a document
}  // namespace media_type
/// On that layer: the signature over the document's bytes, base64.
inline constexpr std::string_view cosign_signature_annotation = "dev.cosignproject.cosign/signature";

/// What `critical.type` says.
inline constexpr std::string_view cosign_type = "cosign container image signature";
inline constexpr std::string_view gpg_type = "atomic container signature";

struct SimpleSigning {
  Digest manifest;
  std::string docker_reference;  ///< the name under which it was signed, as it is written there
};

/// Strict, as containers-signature(5) asks for: in `critical` every member is known, needed and there once. `type`: what it has to say.
/// Errors: invalid, naming the member.
Result<SimpleSigning> parse_simple_signing(std::string_view text, std::string_view type);
/// As cosign writes it, byte for byte.
std::string write_simple_signing(const SimpleSigning& document);

}  // namespace caisson::trust
