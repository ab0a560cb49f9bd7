// Content digests: "sha256:<64 hex>" and "sha512:<128 hex>", and the incremental hash behind them.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson {

enum class DigestAlgorithm : std::uint8_t { sha256, sha512 };

/// A checked digest. Default-constructed: empty (empty() is true).
class Digest {
 public:
  Digest() = default;
  /// Errors: invalid (unknown algorithm, wrong length, not lower-case hex).
  static Result<Digest> parse(std::string_view text);
  static Digest from_hash(DigestAlgorithm algorithm, std::span<const std::uint8_t> hash);

  [[nodiscard]] const std::string& text() const { return text_; }  ///< "sha256:…"
  [[nodiscard]] std::string_view algorithm() const { return std::string_view(text_).substr(0, text_.find(':')); }
  [[nodiscard]] DigestAlgorithm kind() const { return algorithm() == "sha512" ? DigestAlgorithm::sha512 : DigestAlgorithm::sha256; }
  [[nodiscard]] std::string_view hex() const { return std::string_view(text_).substr(text_.find(':') + 1); }
  [[nodiscard]] bool empty() const { return text_.empty(); }
  auto operator<=>(const Digest&) const = default;

 private:
  std::string text_;
};

/// Incremental hash (OpenSSL; uses the CPU's SHA instructions).
class Hasher {
 public:
  explicit Hasher(DigestAlgorithm algorithm = DigestAlgorithm::sha256);
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  void update(std::string_view bytes);
  /// Ends the computation; the hasher must not be used afterwards.
  Digest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Digest sha256_of(std::string_view bytes);
Digest digest_of(std::string_view bytes, DigestAlgorithm algorithm);

}  // namespace caisson
