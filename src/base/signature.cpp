// OpenSSL's EVP, for the kinds of keys that registries, images and tokens are signed with.
#include "base/signature.hpp"

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <array>
#include <optional>

#include "base/openssl.hpp"

namespace caisson {

namespace {

constexpr int least_rsa_bits = 2048;  // RFC 7518, 3.3
constexpr int most_rsa_bits = 16384;  // OpenSSL's own bound for what is still quick to verify

using ContextPointer = std::unique_ptr<EVP_MD_CTX, Free<EVP_MD_CTX_free>>;
using EcPointer = std::unique_ptr<ECDSA_SIG, Free<ECDSA_SIG_free>>;
using NumberPointer = std::unique_ptr<BIGNUM, Free<BN_free>>;

std::optional<KeyKind> kind_of_curve(EVP_PKEY* key) {
  std::array<char, 64> group{};
  std::size_t size = 0;
  if (EVP_PKEY_get_group_name(key, group.data(), group.size(), &size) != 1) return std::nullopt;
  const std::string_view name(group.data(), size);
  if (name == "prime256v1") return KeyKind::p256;
  if (name == "secp384r1") return KeyKind::p384;
  if (name == "secp521r1") return KeyKind::p521;
  return std::nullopt;
}

std::optional<KeyKind> kind_of(EVP_PKEY* key) {
  switch (EVP_PKEY_get_base_id(key)) {
    case EVP_PKEY_RSA: {
      const int bits = EVP_PKEY_get_bits(key);
      return bits >= least_rsa_bits && bits <= most_rsa_bits ? std::optional(KeyKind::rsa) : std::nullopt;
    }
    case EVP_PKEY_EC: return kind_of_curve(key);
    case EVP_PKEY_ED25519: return KeyKind::ed25519;
    default: return std::nullopt;
  }
}

enum class Form : std::uint8_t { pkcs1, pss, jose, der, plain };

struct Plan {
  Form form;
  const EVP_MD* hash;
  std::optional<KeyKind> kind;     ///< nothing: any curve
  std::size_t half_bytes = 0;      ///< of JOSE's r and s
};

Plan plan_of(SignatureAlgorithm algorithm) {
  switch (algorithm) {
    case SignatureAlgorithm::rs256: return {Form::pkcs1, EVP_sha256(), KeyKind::rsa};
    case SignatureAlgorithm::ps256: return {Form::pss, EVP_sha256(), KeyKind::rsa};
    case SignatureAlgorithm::ps384: return {Form::pss, EVP_sha384(), KeyKind::rsa};
    case SignatureAlgorithm::ps512: return {Form::pss, EVP_sha512(), KeyKind::rsa};
    case SignatureAlgorithm::es256: return {Form::jose, EVP_sha256(), KeyKind::p256, 32};
    case SignatureAlgorithm::es384: return {Form::jose, EVP_sha384(), KeyKind::p384, 48};
    case SignatureAlgorithm::es512: return {Form::jose, EVP_sha512(), KeyKind::p521, 66};
    case SignatureAlgorithm::ecdsa_sha256: return {Form::der, EVP_sha256(), std::nullopt};
    case SignatureAlgorithm::ecdsa_sha384: return {Form::der, EVP_sha384(), std::nullopt};
    case SignatureAlgorithm::ecdsa_sha512: return {Form::der, EVP_sha512(), std::nullopt};
    case SignatureAlgorithm::ed25519: break;
  }
  return {Form::plain, nullptr, KeyKind::ed25519};
}

bool is_curve(KeyKind kind) { return kind == KeyKind::p256 || kind == KeyKind::p384 || kind == KeyKind::p521; }

}  // namespace

std::string_view to_string(KeyKind kind) {
  switch (kind) {
    case KeyKind::rsa: return "RSA";
    case KeyKind::p256: return "P-256";
    case KeyKind::p384: return "P-384";
    case KeyKind::p521: return "P-521";
    case KeyKind::ed25519: return "Ed25519";
  }
  return "";
}

std::string ecdsa_der(std::string_view raw, std::size_t half_bytes) {
  if (raw.size() != 2 * half_bytes) return {};
  NumberPointer r(BN_bin2bn(bytes_of(raw), static_cast<int>(half_bytes), nullptr));
  NumberPointer s(BN_bin2bn(bytes_of(raw.substr(half_bytes)), static_cast<int>(half_bytes), nullptr));
  EcPointer pair(ECDSA_SIG_new());
  if (!r || !s || !pair) return {};
  if (ECDSA_SIG_set0(pair.get(), r.get(), s.get()) != 1) return {};
  (void)r.release();  // they belong to the pair now
  (void)s.release();
  const int size = i2d_ECDSA_SIG(pair.get(), nullptr);
  if (size <= 0) return {};
  std::string der(static_cast<std::size_t>(size), '\0');
  auto* end = reinterpret_cast<unsigned char*>(der.data());
  i2d_ECDSA_SIG(pair.get(), &end);
  return der;
}

struct PublicKey::State {
  KeyPointer key;
  KeyKind kind = KeyKind::rsa;
};

PublicKey::PublicKey(std::unique_ptr<State> state) : state_(std::move(state)) {}
PublicKey::PublicKey(PublicKey&&) noexcept = default;
PublicKey& PublicKey::operator=(PublicKey&&) noexcept = default;
PublicKey::~PublicKey() = default;

Result<PublicKey> PublicKey::parse(std::string_view pem) {
  BioPointer bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  if (!bio) return Error(ErrorKind::unavailable, "public key: out of memory");
  auto state = std::make_unique<State>();
  if (pem.find("BEGIN CERTIFICATE") != std::string_view::npos) {
    CertificatePointer certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    if (certificate) state->key.reset(X509_get_pubkey(certificate.get()));
  } else {
    state->key.reset(PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr));
  }
  if (!state->key) return Error(ErrorKind::invalid, "no public key and no certificate in PEM");
  auto kind = kind_of(state->key.get());
  if (!kind) return Error(ErrorKind::invalid, "the key is neither RSA of 2048 bits or more, nor P-256, P-384, P-521, nor Ed25519");
  state->kind = *kind;
  return PublicKey(std::move(state));
}

KeyKind PublicKey::kind() const { return state_->kind; }
unsigned PublicKey::bits() const { return static_cast<unsigned>(EVP_PKEY_get_bits(state_->key.get())); }

std::string PublicKey::info_der() const {
  const int size = i2d_PUBKEY(state_->key.get(), nullptr);
  if (size <= 0) return {};
  std::string der(static_cast<std::size_t>(size), '\0');
  auto* end = reinterpret_cast<unsigned char*>(der.data());
  i2d_PUBKEY(state_->key.get(), &end);
  return der;
}

bool PublicKey::verifies(SignatureAlgorithm algorithm, std::string_view message, std::string_view signature) const {
  const auto plan = plan_of(algorithm);
  if (plan.kind ? *plan.kind != state_->kind : !is_curve(state_->kind)) return false;
  std::string der;
  if (plan.form == Form::jose) {
    der = ecdsa_der(signature, plan.half_bytes);
    if (der.empty()) return false;
    signature = der;
  }
  ContextPointer context(EVP_MD_CTX_new());
  EVP_PKEY_CTX* key_context = nullptr;  // belongs to `context`
  if (!context || EVP_DigestVerifyInit(context.get(), &key_context, plan.hash, nullptr, state_->key.get()) != 1) return false;
  if (plan.form == Form::pss &&
      (EVP_PKEY_CTX_set_rsa_padding(key_context, RSA_PKCS1_PSS_PADDING) != 1 || EVP_PKEY_CTX_set_rsa_pss_saltlen(key_context, RSA_PSS_SALTLEN_DIGEST) != 1))
    return false;
  return EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(), bytes_of(message), message.size()) == 1;
}

std::string hmac_sha256(std::string_view key, std::string_view message) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> out{};
  unsigned size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes_of(message), message.size(), out.data(), &size);
  return {reinterpret_cast<const char*>(out.data()), size};
}

bool equal_secrets(std::string_view a, std::string_view b) { return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0; }

}  // namespace caisson
