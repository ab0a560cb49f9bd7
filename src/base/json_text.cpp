// The search for a member in a document's text.
#include "base/json_text.hpp"

#include <cstddef>

namespace caisson {
namespace {

/// Walks over a document from value to value. After the first thing that is not as RFC 8259 says, ok() is false for good.
class Walk {
 public:
  explicit Walk(std::string_view text) : text_(text) {}

  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] std::size_t at() const { return at_; }

  /// Steps over white space and then over `wanted`, if that comes next.
  bool take(char wanted) {
    skip_space();
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }

  /// A string's inside, as it is written.
  std::string_view string() {
    if (!take('"')) return fail();
    const std::size_t begin = at_;
    while (at_ < text_.size() && text_[at_] != '"') at_ += text_[at_] == '\\' ? 2U : 1U;
    if (at_ >= text_.size()) return fail();
    return text_.substr(begin, at_++ - begin);
  }

  /// Any value, as it is written.
  std::string_view value() {
    skip_space();
    const std::size_t begin = at_;
    if (peek() == '"') (void)string();
    else if (peek() == '{' || peek() == '[') skip_nested();
    else skip_scalar();
    return ok_ ? text_.substr(begin, at_ - begin) : std::string_view();
  }

  std::string_view fail() {
    ok_ = false;
    at_ = text_.size();
    return {};
  }

 private:
  [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) ++at_;
  }
  void skip_nested() {
    std::size_t depth = 0;
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '"') {
        (void)string();
        continue;
      }
      ++at_;
      if (c == '{' || c == '[') ++depth;
      else if ((c == '}' || c == ']') && --depth == 0) return;
    }
    (void)fail();
  }
  void skip_scalar() {
    const std::size_t end = text_.find_first_of(",]} \t\r\n", at_);
    if (end == std::string_view::npos || end == at_) (void)fail();
    else at_ = end;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

/// The value of the one member `key` of the object that `object` is the text of.
std::optional<std::string_view> find_member(std::string_view object, std::string_view key) {
  Walk walk(object);
  std::optional<std::string_view> found;
  if (!walk.take('{')) return std::nullopt;
  if (walk.take('}')) return std::nullopt;
  do {
    const std::string_view name = walk.string();
    if (name.find('\\') != std::string_view::npos || !walk.take(':')) return std::nullopt;
    const std::string_view value = walk.value();
    if (!walk.ok()) return std::nullopt;
    if (name != key) continue;
    if (found) return std::nullopt;
    found = value;
  } while (walk.take(','));
  return walk.take('}') ? found : std::nullopt;
}

}  // namespace

std::optional<std::string_view> find_member_text(std::string_view document, std::span<const std::string_view> path) {
  std::optional<std::string_view> found = document;
  for (const std::string_view key : path) {
    found = find_member(*found, key);
    if (!found) return std::nullopt;
  }
  return found;
}

}  // namespace caisson
