// Patterns of the three kinds a build knows: COPY's wildcards, .dockerignore's lines, and those of ${name#pattern}.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace caisson::dockerfile {

/// One pattern, matched in time proportional to text × pattern whatever it holds.
class Glob {
 public:
  /// COPY and ADD: '*' and '?' stop at '/', "[a-z]", "[^a]", "\x". Errors: invalid ("syntax error in pattern").
  static Result<Glob> for_paths(std::string_view pattern);
  /// .dockerignore: as above, and "**" for any depth. Errors: invalid.
  static Result<Glob> for_ignore(std::string_view pattern);
  /// ${name#pattern}: '*' and '?' match anything, "\x" is x, nothing else is special.
  static Glob for_substitution(std::string_view pattern);

  [[nodiscard]] bool matches(std::string_view text) const;
  /// Lengths in bytes of the shortest and the longest start of `text` that matches; none when no start does.
  [[nodiscard]] std::optional<std::pair<std::size_t, std::size_t>> matching_starts(std::string_view text) const;
  /// The same from the end.
  [[nodiscard]] std::optional<std::pair<std::size_t, std::size_t>> matching_ends(std::string_view text) const;
  [[nodiscard]] std::size_t size() const { return tokens_.size(); }

 private:
  enum class Kind : std::uint8_t {
    literal,
    any,          ///< one character
    segment_any,  ///< one character but '/'
    run,          ///< any characters
    segment_run,  ///< any characters but '/'
    depth,        ///< "" or anything that ends in '/'
    set,
  };
  struct Token {
    Kind kind = Kind::literal;
    char32_t character = 0;
    bool negated = false;
    std::vector<std::pair<char32_t, char32_t>> ranges;
  };
  static bool accepts(const Token& token, char32_t c);
  [[nodiscard]] std::optional<std::pair<std::size_t, std::size_t>> scan(const std::u32string& text) const;
  Status add_set(std::u32string_view pattern, std::size_t& at);
  void add_literal(char32_t c) { tokens_.push_back({.kind = Kind::literal, .character = c}); }

  std::vector<Token> tokens_;
};

/// True when COPY looks for files with this name as a pattern.
bool has_wildcards(std::string_view path);

}  // namespace caisson::dockerfile
