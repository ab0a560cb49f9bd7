// Building request targets: escaped path pieces, queries and docker's filters.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"

namespace caisson::cli {

/// A name inside a path. "/" and ":" stay, because image names hold them raw (docker's rule).
std::string path_piece(std::string_view text);
/// "/containers/NAME/SUFFIX", without the API version.
std::string object_path(std::string_view collection, std::string_view name, std::string_view suffix = "");

/// "a=1&b=x%20y"; keys in the order they were added.
class Query {
 public:
  Query& add(std::string_view key, std::string_view value);
  Query& add_if(bool condition, std::string_view key, std::string_view value = "1") { return condition ? add(key, value) : *this; }
  /// Nothing when `filters` is empty.
  Query& add_filters(const json::object& filters);
  /// "" or "?…".
  [[nodiscard]] std::string text() const { return text_.empty() ? "" : "?" + text_; }

 private:
  std::string text_;
};

/// --filter values, "key=value", to docker's {"key":{"value":true}}. Errors: invalid.
Result<json::object> parse_filters(std::span<const std::string> filters);
void add_filter(json::object& filters, std::string_view key, std::string_view value);

}  // namespace caisson::cli
