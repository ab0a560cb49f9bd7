// Variables in an instruction's words: $name, ${name:-word} and their kin, quotes and escapes.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace caisson::dockerfile {

/// The value of a name, or nothing when it is not set.
using Lookup = std::function<std::optional<std::string>(std::string_view name)>;

/// Forms: $n ${n} ${n:-w} ${n-w} ${n:+w} ${n+w} ${n:?w} ${n?w} ${n#p} ${n##p} ${n%p} ${n%%p} ${n/p/r} ${n//p/r}.
class Expander {
 public:
  explicit Expander(Lookup lookup, char escape = '\\') : lookup_(std::move(lookup)), escape_(escape) {}

  /// One word: blanks of values stay. Errors: invalid, in docker's words; also for a result above a megabyte.
  Result<std::string> word(std::string_view text);
  /// A list of words: blanks outside quotes separate, also those of expanded values.
  Result<std::vector<std::string>> words(std::string_view text);
  /// A here-document's body: quotes mean nothing, escapes only before '$' and themselves.
  Result<std::string> body(std::string_view text);

  /// Names that were asked for without a word of their own for that case, and are not set.
  [[nodiscard]] const std::set<std::string, std::less<>>& missing() const { return missing_; }

 private:
  Lookup lookup_;
  char escape_;
  std::set<std::string, std::less<>> missing_;
};

}  // namespace caisson::dockerfile
