// Signatures by public key, by OpenSSL. Apart from the hash, so that only who verifies links it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson {

enum class KeyKind : std::uint8_t { rsa, p256, p384, p521, ed25519 };
std::string_view to_string(KeyKind kind);

/// What is computed, and how the signature is written down.
enum class SignatureAlgorithm : std::uint8_t {
  rs256,  ///< RSASSA-PKCS1-v1_5 with SHA-256
  ps256,  ///< RSASSA-PSS, MGF1 and a salt of the hash's length (RFC 7518, 3.5)
  ps384,
  ps512,
  es256,  ///< ECDSA on P-256 with SHA-256; r and s of 32 bytes each, as JOSE has it (RFC 7518, 3.4)
  es384,  ///< on P-384
  es512,  ///< on P-521, 66 bytes each
  ecdsa_sha256,  ///< ECDSA on any of the curves, as a DER sequence (RFC 3279, 2.2.3), which X.509 and sigstore use
  ecdsa_sha384,
  ecdsa_sha512,
  ed25519,  ///< RFC 8032, over the message itself
};

/// A public key from PEM: "PUBLIC KEY", or a "CERTIFICATE"'s. Thread-safe.
class PublicKey {
 public:
  /// Errors: invalid (no PEM; no kind of key that is named above; RSA of less than 2048 or more than 16384 bits).
  static Result<PublicKey> parse(std::string_view pem);
  PublicKey(PublicKey&&) noexcept;
  PublicKey& operator=(PublicKey&&) noexcept;
  ~PublicKey();

  [[nodiscard]] KeyKind kind() const;
  [[nodiscard]] unsigned bits() const;
  /// The SubjectPublicKeyInfo in DER: what names of keys are digests of.
  [[nodiscard]] std::string info_der() const;
  /// False also when the key is of another kind than the algorithm: what a message claims cannot choose what is computed.
  [[nodiscard]] bool verifies(SignatureAlgorithm algorithm, std::string_view message, std::string_view signature) const;

 private:
  struct State;
  explicit PublicKey(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// r and s of `half_bytes` each, one behind the other, as a DER sequence; "" when it cannot be one.
std::string ecdsa_der(std::string_view raw, std::size_t half_bytes);

/// HMAC with SHA-256 (RFC 2104): 32 bytes.
std::string hmac_sha256(std::string_view key, std::string_view message);

/// Compares secrets in a time that does not tell where they differ.
bool equal_secrets(std::string_view a, std::string_view b);

}  // namespace caisson
