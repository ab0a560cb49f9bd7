// The only place where toml++'s parser is compiled.
#define TOML_IMPLEMENTATION
#include "base/toml.hpp"

#include <utility>

#include "base/strings.hpp"

namespace caisson {

Result<toml::table> parse_toml(std::string_view text) {
  auto parsed = toml::parse(text);
  if (parsed) return std::move(parsed).table();
  const auto& at = parsed.error().source().begin;
  return Error(ErrorKind::invalid, concat("line ", at.line, ", column ", at.column, ": ", parsed.error().description()));
}

}  // namespace caisson
