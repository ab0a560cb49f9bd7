// Query parameters and `filters`, read as Docker's clients write them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace caisson::api {

class Query {
 public:
  Query() = default;
  /// `raw`: what stands behind '?'.
  explicit Query(std::string_view raw);
  /// First value of that name; nothing when it is absent.
  [[nodiscard]] std::optional<std::string> find(std::string_view name) const;
  /// The same, "" when absent.
  [[nodiscard]] std::string text(std::string_view name) const;
  [[nodiscard]] std::vector<std::string> all(std::string_view name) const;
  /// Docker's rule: everything but "", "0", "no", "false", "none" (any case) is true. `fallback` when absent.
  [[nodiscard]] bool flag(std::string_view name, bool fallback = false) const;
  /// Nothing when absent or empty. Errors: invalid, naming the parameter.
  [[nodiscard]] Result<std::optional<std::int64_t>> integer(std::string_view name) const;

 private:
  std::vector<std::pair<std::string, std::string>> pairs_;
};

/// `filters={"label":{"a=b":true}}` (Go) or `{"label":["a=b"]}` (python, node).
class Filters {
 public:
  /// `text`: "" for none. Errors: invalid ("invalid filter" when it is no JSON, "invalid filter 'x'" for a key that is not in `known`).
  static Result<Filters> parse(std::string_view text, std::initializer_list<std::string_view> known);

  [[nodiscard]] bool empty() const { return values_.empty(); }
  [[nodiscard]] bool has(std::string_view key) const { return values_.find(key) != values_.end(); }
  [[nodiscard]] const std::vector<std::string>& get(std::string_view key) const;
  /// True when nothing is asked for `key`, or one of its values equals `value`.
  [[nodiscard]] bool exact(std::string_view key, std::string_view value) const;
  /// The same for values that are regular parts: one of them is contained in `value`.
  [[nodiscard]] bool part(std::string_view key, std::string_view value) const;
  /// The same for beginnings.
  [[nodiscard]] bool prefix(std::string_view key, std::string_view value) const;
  /// Every asked "k" or "k=v" is there (labels are and-ed).
  [[nodiscard]] bool labels(std::string_view key, const std::map<std::string, std::string>& labels) const;
  /// "true", "1" and so on. Errors: invalid ("invalid filter 'dangling=x'").
  [[nodiscard]] Result<std::optional<bool>> boolean(std::string_view key) const;

 private:
  std::map<std::string, std::vector<std::string>, std::less<>> values_;
};

}  // namespace caisson::api
