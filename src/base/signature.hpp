// Signatures by public key, by OpenSSL. Apart from the hash, so that only who verifies links it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson {

enum class SignatureAlgorithm : std::uint8_t {
  rs256,  ///< RSASSA-PKCS1-v1_5 with SHA-256
  es256,  ///< ECDSA on P-256 with SHA-256; r and s of 32 bytes each, as JOSE has it (RFC 7518, 3.4)
};

/// A public key from PEM: "PUBLIC KEY", or a "CERTIFICATE"'s. Thread-safe.
class PublicKey {
 public:
  /// Errors: invalid (no PEM; neither RSA of at least 2048 bits nor P-256).
  static Result<PublicKey> parse(std::string_view pem);
  PublicKey(PublicKey&&) noexcept;
  PublicKey& operator=(PublicKey&&) noexcept;
  ~PublicKey();

  /// What the key can do, whatever a message claims.
  [[nodiscard]] SignatureAlgorithm algorithm() const;
  [[nodiscard]] bool verifies(std::string_view message, std::string_view signature) const;

 private:
  struct State;
  explicit PublicKey(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Compares secrets in a time that does not tell where they differ.
bool equal_secrets(std::string_view a, std::string_view b);

}  // namespace caisson
