// Patterns as a set of states walked along the text, so that no pattern takes more than its length per character.
#include "dockerfile/glob.hpp"

#include <algorithm>

#include "base/strings.hpp"

namespace caisson::dockerfile {

namespace {

/// UTF-8 to characters; a byte that is none stands for itself above the range of characters, so that encoding gives it back.
constexpr char32_t lone_byte = 0x110000;

std::u32string characters_of(std::string_view text) {
  std::u32string out;
  for (std::size_t at = 0; at < text.size();) {
    auto byte = static_cast<unsigned char>(text[at]);
    std::size_t length = byte < 0x80 ? 1 : byte >= 0xf0 && byte < 0xf8 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc2 ? 2 : 0;
    bool is_whole = length > 0 && byte < 0xf8 && at + length <= text.size();
    for (std::size_t i = 1; is_whole && i < length; ++i) is_whole = (static_cast<unsigned char>(text[at + i]) & 0xc0) == 0x80;
    if (!is_whole) {
      out += lone_byte + byte;
      ++at;
      continue;
    }
    char32_t c = length == 1 ? byte : byte & (0xffU >> (length + 1));
    for (std::size_t i = 1; i < length; ++i) c = (c << 6) | (static_cast<unsigned char>(text[at + i]) & 0x3fU);
    out += c;
    at += length;
  }
  return out;
}

std::size_t bytes_of(char32_t c) { return c >= lone_byte || c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4; }

Error bad_pattern() { return {ErrorKind::invalid, "syntax error in pattern"}; }

}  // namespace

bool Glob::accepts(const Token& token, char32_t c) {
  switch (token.kind) {
    case Kind::literal: return c == token.character;
    case Kind::any:
    case Kind::run:
    case Kind::depth: return true;
    case Kind::segment_any:
    case Kind::segment_run: return c != U'/';
    case Kind::set: {
      bool inside = std::any_of(token.ranges.begin(), token.ranges.end(), [&](const auto& range) { return c >= range.first && c <= range.second; });
      return inside != token.negated;
    }
  }
  return false;
}

std::optional<std::pair<std::size_t, std::size_t>> Glob::scan(const std::u32string& text) const {
  const auto count = tokens_.size();
  std::vector<bool> states(count + 1);
  std::vector<bool> next(count + 1);
  // Entering a token that may match nothing also enters the one behind it.
  auto enter = [&](std::vector<bool>& set, std::size_t index) {
    for (; index <= count; ++index) {
      set[index] = true;
      if (index == count) return;
      auto kind = tokens_[index].kind;
      if (kind != Kind::run && kind != Kind::segment_run && kind != Kind::depth) return;
    }
  };
  enter(states, 0);
  std::optional<std::pair<std::size_t, std::size_t>> found;
  std::size_t bytes = 0;
  for (std::size_t at = 0;; ++at) {
    if (states[count]) found = found ? std::pair(found->first, bytes) : std::pair(bytes, bytes);
    if (at == text.size()) return found;
    std::fill(next.begin(), next.end(), false);
    for (std::size_t index = 0; index < count; ++index) {
      if (!states[index] || !accepts(tokens_[index], text[at])) continue;
      auto kind = tokens_[index].kind;
      if (kind == Kind::depth) {
        next[index] = true;  // goes on; only behind a '/' may it end
        if (text[at] == U'/') enter(next, index + 1);
      } else if (kind == Kind::run || kind == Kind::segment_run) {
        enter(next, index);
      } else {
        enter(next, index + 1);
      }
    }
    std::swap(states, next);
    bytes += bytes_of(text[at]);
  }
}

bool Glob::matches(std::string_view text) const {
  auto found = scan(characters_of(text));
  return found && found->second == text.size();
}

std::optional<std::pair<std::size_t, std::size_t>> Glob::matching_starts(std::string_view text) const { return scan(characters_of(text)); }

std::optional<std::pair<std::size_t, std::size_t>> Glob::matching_ends(std::string_view text) const {
  Glob reversed = *this;
  std::reverse(reversed.tokens_.begin(), reversed.tokens_.end());
  auto characters = characters_of(text);
  std::reverse(characters.begin(), characters.end());
  return reversed.scan(characters);
}

/// `at` stands behind the '['; afterwards behind the ']'.
Status Glob::add_set(std::u32string_view pattern, std::size_t& at) {
  Token token{.kind = Kind::set};
  if (at < pattern.size() && pattern[at] == U'^') {
    token.negated = true;
    ++at;
  }
  auto character = [&]() -> Result<char32_t> {
    if (at == pattern.size() || pattern[at] == U'-' || pattern[at] == U']') return bad_pattern();
    if (pattern[at] == U'\\' && ++at == pattern.size()) return bad_pattern();
    return pattern[at++];
  };
  while (at < pattern.size() && (pattern[at] != U']' || token.ranges.empty())) {
    char32_t low = TRY_PLAIN(character());
    char32_t high = low;
    if (at < pattern.size() && pattern[at] == U'-') {
      ++at;
      high = TRY_PLAIN(character());
    }
    token.ranges.emplace_back(low, high);
  }
  if (at == pattern.size()) return bad_pattern();
  ++at;
  tokens_.push_back(std::move(token));
  return {};
}

Result<Glob> Glob::for_paths(std::string_view text) {
  Glob glob;
  auto pattern = characters_of(text);
  for (std::size_t at = 0; at < pattern.size();) {
    auto c = pattern[at++];
    if (c == U'*') {
      glob.tokens_.push_back({.kind = Kind::segment_run});
    } else if (c == U'?') {
      glob.tokens_.push_back({.kind = Kind::segment_any});
    } else if (c == U'[') {
      TRY_PLAIN(glob.add_set(pattern, at));
    } else if (c == U'\\') {
      if (at == pattern.size()) return bad_pattern();
      glob.add_literal(pattern[at++]);
    } else {
      glob.add_literal(c);
    }
  }
  return glob;
}

/// docker's patternmatcher: "**/" is any depth, a "**" at the end everything, and a leading "**" before plain text any start at all.
Result<Glob> Glob::for_ignore(std::string_view text) {
  TRY_PLAIN(for_paths(text));  // its syntax decides what is an error
  Glob glob;
  auto pattern = characters_of(text);
  bool is_plain_behind_start = text.starts_with("**") && text.find_first_of("*?[]\\", 2) == std::string_view::npos;
  for (std::size_t at = 0; at < pattern.size();) {
    auto c = pattern[at++];
    if (c == U'*' && at < pattern.size() && pattern[at] == U'*') {
      bool is_start = at == 1;
      ++at;
      bool has_slash = at < pattern.size() && pattern[at] == U'/';
      if (has_slash) ++at;
      bool ends = at == pattern.size();
      glob.tokens_.push_back({.kind = ends || (is_start && is_plain_behind_start && !has_slash) ? Kind::run : Kind::depth});
    } else if (c == U'*') {
      glob.tokens_.push_back({.kind = Kind::segment_run});
    } else if (c == U'?') {
      glob.tokens_.push_back({.kind = Kind::segment_any});
    } else if (c == U'[') {
      TRY_PLAIN(glob.add_set(pattern, at));
    } else if (c == U'\\' && at < pattern.size()) {
      glob.add_literal(pattern[at++]);
    } else {
      glob.add_literal(c);
    }
  }
  return glob;
}

Glob Glob::for_substitution(std::string_view text) {
  Glob glob;
  auto pattern = characters_of(text);
  for (std::size_t at = 0; at < pattern.size();) {
    auto c = pattern[at++];
    if (c == U'*') glob.tokens_.push_back({.kind = Kind::run});
    else if (c == U'?') glob.tokens_.push_back({.kind = Kind::any});
    else glob.add_literal(c == U'\\' && at < pattern.size() ? pattern[at++] : c);
  }
  return glob;
}

bool has_wildcards(std::string_view path) { return path.find_first_of("*?[\\") != std::string_view::npos; }

}  // namespace caisson::dockerfile
