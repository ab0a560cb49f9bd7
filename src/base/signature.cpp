// OpenSSL's EVP for two algorithms.
#include "base/signature.hpp"

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <array>
#include <vector>

namespace caisson {

namespace {

constexpr int least_rsa_bits = 2048;  // RFC 7518, 3.3
constexpr std::size_t p256_bytes = 32;

template <auto function>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    function(object);
  }
};
using BioPointer = std::unique_ptr<BIO, Free<BIO_free>>;
using KeyPointer = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using CertificatePointer = std::unique_ptr<X509, Free<X509_free>>;
using ContextPointer = std::unique_ptr<EVP_MD_CTX, Free<EVP_MD_CTX_free>>;
using EcPointer = std::unique_ptr<ECDSA_SIG, Free<ECDSA_SIG_free>>;
using NumberPointer = std::unique_ptr<BIGNUM, Free<BN_free>>;

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

/// r ‖ s as the DER sequence that OpenSSL wants; empty when it cannot be one.
std::vector<unsigned char> der_of(std::string_view signature) {
  if (signature.size() != 2 * p256_bytes) return {};
  NumberPointer r(BN_bin2bn(bytes_of(signature), p256_bytes, nullptr));
  NumberPointer s(BN_bin2bn(bytes_of(signature.substr(p256_bytes)), p256_bytes, nullptr));
  EcPointer pair(ECDSA_SIG_new());
  if (!r || !s || !pair) return {};
  if (ECDSA_SIG_set0(pair.get(), r.get(), s.get()) != 1) return {};
  (void)r.release();  // they belong to the pair now
  (void)s.release();
  const int size = i2d_ECDSA_SIG(pair.get(), nullptr);
  if (size <= 0) return {};
  std::vector<unsigned char> der(static_cast<std::size_t>(size));
  unsigned char* end = der.data();
  i2d_ECDSA_SIG(pair.get(), &end);
  return der;
}

bool is_p256(EVP_PKEY* key) {
  std::array<char, 64> group{};
  std::size_t size = 0;
  if (EVP_PKEY_get_group_name(key, group.data(), group.size(), &size) != 1) return false;
  return std::string_view(group.data(), size) == "prime256v1";
}

}  // namespace

struct PublicKey::State {
  KeyPointer key;
  SignatureAlgorithm algorithm = SignatureAlgorithm::rs256;
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
  const int type = EVP_PKEY_get_base_id(state->key.get());
  if (type == EVP_PKEY_RSA && EVP_PKEY_get_bits(state->key.get()) >= least_rsa_bits) state->algorithm = SignatureAlgorithm::rs256;
  else if (type == EVP_PKEY_EC && is_p256(state->key.get())) state->algorithm = SignatureAlgorithm::es256;
  else return Error(ErrorKind::invalid, "the key is neither RSA of 2048 bits or more nor P-256");
  return PublicKey(std::move(state));
}

SignatureAlgorithm PublicKey::algorithm() const { return state_->algorithm; }

bool PublicKey::verifies(std::string_view message, std::string_view signature) const {
  std::vector<unsigned char> der;
  if (state_->algorithm == SignatureAlgorithm::es256) {
    der = der_of(signature);
    if (der.empty()) return false;
    signature = {reinterpret_cast<const char*>(der.data()), der.size()};
  }
  ContextPointer context(EVP_MD_CTX_new());
  if (!context || EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, state_->key.get()) != 1) return false;
  return EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(), bytes_of(message), message.size()) == 1;
}

bool equal_secrets(std::string_view a, std::string_view b) { return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0; }

}  // namespace caisson
