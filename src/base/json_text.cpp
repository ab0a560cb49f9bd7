// The search for a member in a document's text.
#include "base/json_text.hpp"

#include <cstddef>
#include <set>

#include "base/json.hpp"
#include "base/strings.hpp"

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
    std::size_t end = begin;  // not at_ itself: the compiler would keep it in memory
    while (end < text_.size() && text_[end] != '"') end += text_[end] == '\\' ? 2U : 1U;
    if (end >= text_.size()) return fail();
    at_ = end + 1;
    return text_.substr(begin, end - begin);
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

/// Steps over the object that comes next and finds what `path` leads to in it. False: there, but not to be relied on.
bool search(Walk& walk, std::span<const std::string_view> path, std::optional<std::string_view>& found) {
  bool seen = false;
  if (!walk.take('{')) return false;
  if (walk.take('}')) return true;
  do {
    const std::string_view name = walk.string();
    if (name.find('\\') != std::string_view::npos || !walk.take(':')) return false;
    if (name != path.front()) {
      (void)walk.value();
    } else {
      if (seen) return false;
      seen = true;
      if (path.size() == 1) found = walk.value();
      else if (!search(walk, path.subspan(1), found)) return false;
    }
  } while (walk.ok() && walk.take(','));
  return walk.ok() && walk.take('}');
}

/// A member's name as it is meant: escapes are another way to write the same name.
std::string meant_name(std::string_view written) {
  if (written.find('\\') == std::string_view::npos) return std::string(written);
  auto name = parse_json(concat("\"", written, "\""), "name");
  return name.ok() && name->is_string() ? std::string(name->get_string()) : std::string(written);
}

/// Steps over the value that comes next. What it finds ends the walk.
void look_for_repeated(Walk& walk, std::optional<std::string>& found) {
  if (walk.take('{')) {
    std::set<std::string> names;
    if (walk.take('}')) return;
    do {
      auto name = meant_name(walk.string());
      if (!walk.ok() || !walk.take(':')) return;
      if (!names.insert(name).second) {
        found = std::move(name);
        (void)walk.fail();
        return;
      }
      look_for_repeated(walk, found);
    } while (walk.ok() && walk.take(','));
    if (walk.ok() && !walk.take('}')) (void)walk.fail();
  } else if (walk.take('[')) {
    if (walk.take(']')) return;
    do look_for_repeated(walk, found);
    while (walk.ok() && walk.take(','));
    if (walk.ok() && !walk.take(']')) (void)walk.fail();
  } else {
    (void)walk.value();
  }
}

}  // namespace

std::optional<std::string> find_repeated_member(std::string_view document) {
  std::optional<std::string> found;
  Walk walk(document);
  look_for_repeated(walk, found);
  return found;
}

std::optional<std::string_view> find_member_text(std::string_view document, std::span<const std::string_view> path) {
  std::optional<std::string_view> found;
  Walk walk(document);
  return search(walk, path, found) ? found : std::nullopt;
}

}  // namespace caisson
