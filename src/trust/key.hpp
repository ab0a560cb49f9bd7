// Keys that sign images: made, read, written, and used as sigstore uses them.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/signature.hpp"

namespace caisson::trust {

/// A private key. Its bytes are wiped by OpenSSL when it ends.
class PrivateKey {
 public:
  /// RSA has 3072 bits. Errors: internal (no randomness).
  static Result<PrivateKey> generate(KeyKind kind);
  /// PKCS#8, plain or encrypted, or the older forms of openssl(1). Errors: invalid, naming what is wrong; denied (the passphrase does not fit);
  /// unsupported for cosign's own encrypted form, which OpenSSL cannot read.
  static Result<PrivateKey> parse(std::string_view pem, std::string_view passphrase);
  PrivateKey(PrivateKey&&) noexcept;
  PrivateKey& operator=(PrivateKey&&) noexcept;
  ~PrivateKey();

  [[nodiscard]] KeyKind kind() const;
  [[nodiscard]] unsigned bits() const;
  /// PKCS#8; with a passphrase encrypted by AES-256-CBC under scrypt (RFC 7914), as `openssl pkcs8 -topk8 -scrypt` does.
  [[nodiscard]] Result<std::string> pem(std::string_view passphrase) const;
  [[nodiscard]] Result<std::string> public_pem() const;
  /// Errors: invalid (another kind of key than the algorithm's), internal.
  [[nodiscard]] Result<std::string> sign(SignatureAlgorithm algorithm, std::string_view message) const;

 private:
  struct State;
  explicit PrivateKey(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Whether PEM text holds an encrypted private key, so that a passphrase has to be asked for.
bool is_encrypted_key(std::string_view pem);

/// What cosign signs with this kind of key: PKCS#1 v1.5, ECDSA in DER, or Ed25519; SHA-256.
SignatureAlgorithm sigstore_algorithm(KeyKind kind);
/// The same, and for P-384 and P-521 also the hash of the curve's size, which bundles of newer sigstore clients use.
bool verifies_sigstore(const PublicKey& key, std::string_view message, std::string_view signature);
/// The hint by which bundles name a key: base64 of the SHA-256 of its SubjectPublicKeyInfo.
std::string key_hint(const PublicKey& key);

}  // namespace caisson::trust
