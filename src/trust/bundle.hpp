// Sigstore's bundle v0.3 with a DSSE envelope: an in-toto statement about a manifest, signed by a key. Pure.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "trust/key.hpp"

namespace caisson::trust {

namespace media_type {
inline constexpr std::string_view bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
inline constexpr std::string_view in_toto = "application/vnd.in-toto+json";
inline constexpr std::string_view dsse = "application/vnd.dsse.envelope.v1+json";  ///< of layers under cosign's ".att" tag
}  // namespace media_type
/// Of a referrer that carries a bundle.
inline constexpr std::string_view bundle_content_annotation = "dev.sigstore.bundle.content";
inline constexpr std::string_view bundle_predicate_annotation = "dev.sigstore.bundle.predicateType";
/// The predicate that says no more than "I signed this image"; others (SBOM, provenance, scans) state facts and approve of nothing.
inline constexpr std::string_view sign_predicate = "https://sigstore.dev/cosign/sign/v1";
inline constexpr std::string_view spdx_predicate = "https://spdx.dev/Document";
inline constexpr std::string_view statement_type = "https://in-toto.io/Statement/v1";

struct Bundle {
  std::string key_hint;      ///< "" when it names none
  bool is_keyless = false;   ///< signed under a certificate of Fulcio's, which is not verified here
  std::string payload_type;
  std::string payload;       ///< decoded
  std::string signature;     ///< decoded
};

struct StatementSubject {
  std::string name;
  std::map<std::string, std::string> digest;  ///< "sha256" → hex
};
struct Statement {
  std::vector<StatementSubject> subjects;
  std::string predicate_type;
  std::string predicate;  ///< JSON text
};

/// Errors: invalid, naming the member; unsupported for bundles of other versions and for message signatures.
Result<Bundle> parse_bundle(std::string_view text);
/// A DSSE envelope alone, as cosign keeps attestations under its tag. Errors: invalid, naming the member.
Result<Bundle> parse_envelope(std::string_view text);
/// An in-toto statement, v1 or v0.1. Errors: invalid.
Result<Statement> parse_statement(std::string_view text);

struct Attestation {
  Statement statement;
  std::string signer;  ///< "ecdsa-p256 key SHA256:…"
};
/// What the bundle says of one of `digests`, when one of `keys` signed it. Errors: denied (saying why it does not count), invalid (no statement).
Result<Attestation> verify_attestation(const Bundle& bundle, const std::vector<PublicKey>& keys, const std::vector<Digest>& digests);

/// DSSE's pre-authentication encoding: the bytes that are signed.
std::string dsse_encoding(std::string_view payload_type, std::string_view payload);

/// A statement about `manifest`, named `name`. `predicate`: a JSON object's text, "" for none.
Result<std::string> write_statement(const Digest& manifest, std::string_view name, std::string_view predicate_type, std::string_view predicate);
/// Signs the statement. Errors: the key's.
Result<std::string> write_bundle(const PrivateKey& key, std::string_view statement);

}  // namespace caisson::trust
