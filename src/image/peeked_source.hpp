// PeekedSource: looks at the first bytes of an input, which are read again afterwards.
#pragma once

#include <string>
#include <string_view>

#include "image/byte_source.hpp"

namespace caisson::image {

class PeekedSource final : public ByteSource {
 public:
  /// `input`: borrowed.
  explicit PeekedSource(ByteSource& input) : input_(input) {}
  /// Reads until `bytes` are there, or the input has ended.
  Status peek(std::size_t bytes) {
    while (head_.size() < bytes) {
      auto piece = TRY_PLAIN(input_.next());
      if (piece.empty()) break;
      head_ += piece;
    }
    return {};
  }
  [[nodiscard]] std::string_view head() const { return head_; }
  Result<std::string_view> next() override {
    if (head_given_) return input_.next();
    head_given_ = true;
    if (head_.empty()) return input_.next();
    return std::string_view(head_);
  }

 private:
  ByteSource& input_;
  std::string head_;
  bool head_given_ = false;
};

}  // namespace caisson::image
