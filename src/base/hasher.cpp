// The hash behind digests, by OpenSSL. Its EVP interface would look for a provider first: that is a millisecond of a process's start, for the same code.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <variant>

#include "base/digest.hpp"

namespace caisson {

struct Hasher::State {
  std::variant<SHA256_CTX, SHA512_CTX> context;
};

Hasher::Hasher(DigestAlgorithm algorithm) : state_(std::make_unique<State>()) {
  if (algorithm == DigestAlgorithm::sha256) SHA256_Init(&state_->context.emplace<SHA256_CTX>());
  else SHA512_Init(&state_->context.emplace<SHA512_CTX>());
}
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::update(std::string_view bytes) {
  if (auto* context = std::get_if<SHA256_CTX>(&state_->context)) SHA256_Update(context, bytes.data(), bytes.size());
  else SHA512_Update(&std::get<SHA512_CTX>(state_->context), bytes.data(), bytes.size());
}

Digest Hasher::finish() {
  std::array<std::uint8_t, SHA512_DIGEST_LENGTH> hash{};
  if (auto* context = std::get_if<SHA256_CTX>(&state_->context)) {
    SHA256_Final(hash.data(), context);
    return Digest::from_hash(DigestAlgorithm::sha256, std::span(hash).first(SHA256_DIGEST_LENGTH));
  }
  SHA512_Final(hash.data(), &std::get<SHA512_CTX>(state_->context));
  return Digest::from_hash(DigestAlgorithm::sha512, hash);
}

Digest sha256_of(std::string_view bytes) { return digest_of(bytes, DigestAlgorithm::sha256); }

Digest digest_of(std::string_view bytes, DigestAlgorithm algorithm) {
  Hasher hasher(algorithm);
  hasher.update(bytes);
  return hasher.finish();
}

}  // namespace caisson
