// The only place where toml++'s parser is compiled.
#define TOML_IMPLEMENTATION
#include "base/toml.hpp"

#include <utility>

#include "base/strings.hpp"

namespace caisson {

namespace {

Error refused(std::size_t line, std::size_t column, std::string_view why) { return {ErrorKind::invalid, concat("line ", line, ", column ", column, ": ", why)}; }

/// TOML 1.0 has ASCII alone outside of texts and comments. The parser's table of other white space has a hole (U+FCFF: is_non_ascii_horizontal_whitespace runs
/// into what is said to be unreachable), so it must not see any. Both agree on where a text begins and ends up to the first mistake, where it stops.
Status check_ascii_outside_of_texts(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  std::string_view quote;  // that ends the text we are in; "#": a comment
  std::size_t line = 1;
  std::size_t column = 1;
  const auto pass = [&](std::size_t& at, std::size_t characters) {
    at += characters;
    column += characters;
  };
  for (std::size_t i = 0; i < text.size(); pass(i, 1)) {
    const char c = text[i];
    if (c == '\n') {
      if (quote.size() == 1) quote = {};
      ++line;
      column = 0;
    } else if (quote.empty() && static_cast<unsigned char>(c) >= 0x80) {
      return refused(line, column, "a character that is not ASCII, outside of a text and a comment");
    } else if (quote.empty() && (c == '"' || c == '\'' || c == '#')) {
      const std::string_view three = c == '"' ? R"(""")" : "'''";
      quote = c != '#' && text.substr(i).starts_with(three) ? three : text.substr(i, 1);
      pass(i, quote.size() - 1);
    } else if (c == '\\' && quote.starts_with('"')) {
      if (i + 1 < text.size() && text[i + 1] != '\n') pass(i, 1);
    } else if (!quote.empty() && quote != "#" && text.substr(i).starts_with(quote)) {
      pass(i, quote.size() - 1);
      quote = {};
    }
  }
  return {};
}

}  // namespace

Result<toml::table> parse_toml(std::string_view text) {
  TRY_PLAIN(check_ascii_outside_of_texts(text));
  auto parsed = toml::parse(text);
  if (parsed) return std::move(parsed).table();
  const auto& at = parsed.error().source().begin;
  return refused(at.line, at.column, parsed.error().description());
}

}  // namespace caisson
