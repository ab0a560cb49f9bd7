// The hash behind digests, by OpenSSL.
#include <openssl/evp.h>

#include <array>

#include "base/digest.hpp"

namespace caisson {

struct Hasher::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  DigestAlgorithm algorithm = DigestAlgorithm::sha256;
  State() = default;
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { EVP_MD_CTX_free(context); }
};

Hasher::Hasher(DigestAlgorithm algorithm) : state_(std::make_unique<State>()) {
  state_->algorithm = algorithm;
  EVP_DigestInit_ex(state_->context, algorithm == DigestAlgorithm::sha256 ? EVP_sha256() : EVP_sha512(), nullptr);
}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::update(std::string_view bytes) { EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()); }

Digest Hasher::finish() {
  std::array<std::uint8_t, EVP_MAX_MD_SIZE> hash{};
  unsigned int length = 0;
  EVP_DigestFinal_ex(state_->context, hash.data(), &length);
  return Digest::from_hash(state_->algorithm, std::span(hash).first(length));
}

Digest sha256_of(std::string_view bytes) { return digest_of(bytes, DigestAlgorithm::sha256); }

Digest digest_of(std::string_view bytes, DigestAlgorithm algorithm) {
  Hasher hasher(algorithm);
  hasher.update(bytes);
  return hasher.finish();
}

}  // namespace caisson
