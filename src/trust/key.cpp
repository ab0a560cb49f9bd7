// Private keys by OpenSSL's EVP.
#include "trust/key.hpp"

#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/digest.hpp"
#include "base/strings.hpp"
#include "base/openssl.hpp"

namespace caisson::trust {

namespace {

constexpr unsigned new_rsa_bits = 3072;
/// scrypt's cost: 16 MiB and some 50 ms; OpenSSL's own default, and the most that it takes without being told more.
constexpr std::uint64_t scrypt_n = 16384;
constexpr std::uint64_t scrypt_r = 8;
constexpr std::uint64_t scrypt_p = 1;
constexpr std::size_t salt_bytes = 16;

using ContextPointer = std::unique_ptr<EVP_MD_CTX, Free<EVP_MD_CTX_free>>;
using InfoPointer = std::unique_ptr<PKCS8_PRIV_KEY_INFO, Free<PKCS8_PRIV_KEY_INFO_free>>;
using EncryptedPointer = std::unique_ptr<X509_SIG, Free<X509_SIG_free>>;
using EcPointer = std::unique_ptr<ECDSA_SIG, Free<ECDSA_SIG_free>>;

Error failed(std::string_view what) {
  const auto code = ERR_peek_last_error();
  const char* reason = ERR_reason_error_string(code);
  ERR_clear_error();
  return {ErrorKind::internal, concat(what, ": ", reason != nullptr ? reason : "OpenSSL refused it")};
}

EVP_PKEY* generate_key(KeyKind kind) {
  switch (kind) {
    case KeyKind::rsa: return EVP_RSA_gen(new_rsa_bits);
    case KeyKind::p256: return EVP_EC_gen("P-256");
    case KeyKind::p384: return EVP_EC_gen("P-384");
    case KeyKind::p521: return EVP_EC_gen("P-521");
    case KeyKind::ed25519: return EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
  }
  return nullptr;
}

std::string public_pem_of(EVP_PKEY* key) {
  BioPointer bio(BIO_new(BIO_s_mem()));
  if (!bio || PEM_write_bio_PUBKEY(bio.get(), key) != 1) return {};
  return text_of(bio.get());
}

/// Never asks at a terminal, which is OpenSSL's default.
int give_passphrase(char* buffer, int size, int /*for_writing*/, void* user) {
  const auto& passphrase = *static_cast<const std::string_view*>(user);
  if (passphrase.size() > static_cast<std::size_t>(size)) return -1;
  std::copy(passphrase.begin(), passphrase.end(), buffer);
  return static_cast<int>(passphrase.size());
}

/// Raw r ‖ s, as JOSE has it, from the DER sequence that OpenSSL makes.
Result<std::string> raw_of(std::string_view der, std::size_t half_bytes) {
  const auto* at = bytes_of(der);
  EcPointer pair(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())));
  if (!pair) return failed("signature");
  std::string raw(2 * half_bytes, '\0');
  auto* out = reinterpret_cast<unsigned char*>(raw.data());
  if (BN_bn2binpad(ECDSA_SIG_get0_r(pair.get()), out, static_cast<int>(half_bytes)) < 0 ||
      BN_bn2binpad(ECDSA_SIG_get0_s(pair.get()), out + half_bytes, static_cast<int>(half_bytes)) < 0)
    return failed("signature");
  return raw;
}

const EVP_MD* hash_of(SignatureAlgorithm algorithm) {
  switch (algorithm) {
    case SignatureAlgorithm::ps384:
    case SignatureAlgorithm::es384:
    case SignatureAlgorithm::ecdsa_sha384: return EVP_sha384();
    case SignatureAlgorithm::ps512:
    case SignatureAlgorithm::es512:
    case SignatureAlgorithm::ecdsa_sha512: return EVP_sha512();
    case SignatureAlgorithm::ed25519: return nullptr;
    default: return EVP_sha256();
  }
}

bool is_pss(SignatureAlgorithm algorithm) {
  return algorithm == SignatureAlgorithm::ps256 || algorithm == SignatureAlgorithm::ps384 || algorithm == SignatureAlgorithm::ps512;
}

std::size_t jose_half_bytes(SignatureAlgorithm algorithm) {
  switch (algorithm) {
    case SignatureAlgorithm::es256: return 32;
    case SignatureAlgorithm::es384: return 48;
    case SignatureAlgorithm::es512: return 66;
    default: return 0;
  }
}

}  // namespace

struct PrivateKey::State {
  KeyPointer key;
  std::string public_pem;
  PublicKey public_key;
};

PrivateKey::PrivateKey(std::unique_ptr<State> state) : state_(std::move(state)) {}
PrivateKey::PrivateKey(PrivateKey&&) noexcept = default;
PrivateKey& PrivateKey::operator=(PrivateKey&&) noexcept = default;
PrivateKey::~PrivateKey() = default;

Result<PrivateKey> PrivateKey::generate(KeyKind kind) {
  KeyPointer key(generate_key(kind));
  if (!key) return failed(concat("make a key of the kind ", to_string(kind)));
  auto pem = public_pem_of(key.get());
  auto public_key = TRY(PublicKey::parse(pem), "the key that was made");
  return PrivateKey(std::unique_ptr<State>(new State{std::move(key), std::move(pem), std::move(public_key)}));
}

Result<PrivateKey> PrivateKey::parse(std::string_view pem, std::string_view passphrase) {
  if (pem.find("ENCRYPTED SIGSTORE PRIVATE KEY") != std::string_view::npos || pem.find("ENCRYPTED COSIGN PRIVATE KEY") != std::string_view::npos)
    return Error(ErrorKind::unsupported, "this is cosign's own encrypted form of a private key (NaCl secretbox), which OpenSSL cannot read")
        .with_hint("make a key with \"caisson image generate-key\"; cosign takes it over with \"cosign import-key-pair\"");
  auto bio = bio_of(pem);
  if (!bio) return Error(ErrorKind::unavailable, "private key: out of memory");
  KeyPointer key(PEM_read_bio_PrivateKey(bio.get(), nullptr, give_passphrase, &passphrase));
  ERR_clear_error();
  if (!key && is_encrypted_key(pem)) return Error(ErrorKind::denied, passphrase.empty() ? "the private key is encrypted and needs a passphrase" : "the passphrase does not open the private key");
  if (!key) return Error(ErrorKind::invalid, "no private key in PEM");
  auto public_pem = public_pem_of(key.get());
  auto public_key = TRY_PLAIN(PublicKey::parse(public_pem));
  return PrivateKey(std::unique_ptr<State>(new State{std::move(key), std::move(public_pem), std::move(public_key)}));
}

KeyKind PrivateKey::kind() const { return state_->public_key.kind(); }
unsigned PrivateKey::bits() const { return state_->public_key.bits(); }
Result<std::string> PrivateKey::public_pem() const { return state_->public_pem; }

Result<std::string> PrivateKey::pem(std::string_view passphrase) const {
  BioPointer bio(BIO_new(BIO_s_mem()));
  InfoPointer info(EVP_PKEY2PKCS8(state_->key.get()));
  if (!bio || !info) return failed("write the private key");
  if (passphrase.empty()) {
    if (PEM_write_bio_PKCS8_PRIV_KEY_INFO(bio.get(), info.get()) != 1) return failed("write the private key");
    return text_of(bio.get());
  }
  std::array<unsigned char, salt_bytes> salt{};
  if (RAND_bytes(salt.data(), salt.size()) != 1) return failed("salt");
  auto* method = PKCS5_pbe2_set_scrypt(EVP_aes_256_cbc(), salt.data(), salt.size(), nullptr, scrypt_n, scrypt_r, scrypt_p);
  if (method == nullptr) return failed("scrypt");
  EncryptedPointer encrypted(PKCS8_set0_pbe(passphrase.data(), static_cast<int>(passphrase.size()), info.get(), method));
  if (!encrypted) {
    X509_ALGOR_free(method);  // it belongs to `encrypted` only when that was made
    return failed("encrypt the private key");
  }
  if (PEM_write_bio_PKCS8(bio.get(), encrypted.get()) != 1) return failed("write the private key");
  return text_of(bio.get());
}

Result<std::string> PrivateKey::sign(SignatureAlgorithm algorithm, std::string_view message) const {
  ContextPointer context(EVP_MD_CTX_new());
  EVP_PKEY_CTX* key_context = nullptr;  // belongs to `context`
  if (!context || EVP_DigestSignInit(context.get(), &key_context, hash_of(algorithm), nullptr, state_->key.get()) != 1) return failed("sign");
  if (is_pss(algorithm) &&
      (EVP_PKEY_CTX_set_rsa_padding(key_context, RSA_PKCS1_PSS_PADDING) != 1 || EVP_PKEY_CTX_set_rsa_pss_saltlen(key_context, RSA_PSS_SALTLEN_DIGEST) != 1))
    return failed("sign");
  std::size_t size = 0;
  if (EVP_DigestSign(context.get(), nullptr, &size, bytes_of(message), message.size()) != 1) return failed("sign");
  std::string signature(size, '\0');
  if (EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size, bytes_of(message), message.size()) != 1) return failed("sign");
  signature.resize(size);
  if (const auto half = jose_half_bytes(algorithm); half != 0) signature = TRY_PLAIN(raw_of(signature, half));
  if (!state_->public_key.verifies(algorithm, message, signature))
    return Error(ErrorKind::invalid, concat("a key of the kind ", to_string(kind()), " does not make this kind of signature"));
  return signature;
}

bool is_encrypted_key(std::string_view pem) {
  return pem.find("BEGIN ENCRYPTED PRIVATE KEY") != std::string_view::npos || pem.find("Proc-Type: 4,ENCRYPTED") != std::string_view::npos;
}

SignatureAlgorithm sigstore_algorithm(KeyKind kind) {
  switch (kind) {
    case KeyKind::rsa: return SignatureAlgorithm::rs256;
    case KeyKind::ed25519: return SignatureAlgorithm::ed25519;
    default: return SignatureAlgorithm::ecdsa_sha256;
  }
}

bool verifies_sigstore(const PublicKey& key, std::string_view message, std::string_view signature) {
  if (key.verifies(sigstore_algorithm(key.kind()), message, signature)) return true;
  if (key.kind() == KeyKind::p384) return key.verifies(SignatureAlgorithm::ecdsa_sha384, message, signature);
  return key.kind() == KeyKind::p521 && key.verifies(SignatureAlgorithm::ecdsa_sha512, message, signature);
}

std::string key_hint(const PublicKey& key) {
  auto bytes = from_hex(sha256_of(key.info_der()).hex());
  if (!bytes.ok()) return {};
  return base64_encode({reinterpret_cast<const char*>(bytes->data()), bytes->size()});
}

}  // namespace caisson::trust
