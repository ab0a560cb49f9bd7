// A JSON object cut at its members without reading what is in them.
#include "base/strings.hpp"
#include "inventory/advisories.hpp"

namespace caisson::inventory {

namespace {

Error cut_off() { return {ErrorKind::corrupt, "JSON: it ends inside of an object"}; }

/// Where the text behind the opening quote ends.
Result<std::size_t> end_of_text(std::string_view json, std::size_t at) {
  for (; at < json.size(); ++at) {
    if (json[at] == '\\') ++at;
    else if (json[at] == '"') return at;
  }
  return cut_off();
}

std::size_t skip_blanks(std::string_view json, std::size_t at) {
  while (at < json.size() && (json[at] == ' ' || json[at] == '\n' || json[at] == '\r' || json[at] == '\t')) ++at;
  return at;
}

/// One behind the value that begins at `at`: at a comma or bracket of the level it is on.
Result<std::size_t> end_of_value(std::string_view json, std::size_t at) {
  std::size_t depth = 0;
  for (; at < json.size(); ++at) {
    const char c = json[at];
    if (c == '"') at = TRY_PLAIN(end_of_text(json, at + 1));
    else if (c == '{' || c == '[') ++depth;
    else if (depth == 0 && (c == ',' || c == '}' || c == ']')) return at;
    else if (c == '}' || c == ']') --depth;
  }
  return cut_off();
}

}  // namespace

Status for_each_raw_member(std::string_view object, const std::function<Status(std::string_view, std::string_view)>& visit) {
  auto at = skip_blanks(object, 0);
  if (at == object.size() || object[at] != '{') return Error(ErrorKind::corrupt, "JSON: no object");
  at = skip_blanks(object, at + 1);
  if (at < object.size() && object[at] == '}') return {};
  for (;;) {
    at = skip_blanks(object, at);
    if (at >= object.size() || object[at] != '"') return Error(ErrorKind::corrupt, concat("JSON: no name of a member at byte ", at));
    const auto end = TRY_PLAIN(end_of_text(object, at + 1));
    const auto key = object.substr(at + 1, end - at - 1);
    at = skip_blanks(object, end + 1);
    if (at >= object.size() || object[at] != ':') return Error(ErrorKind::corrupt, concat("JSON: no value at byte ", at));
    const auto value = skip_blanks(object, at + 1);
    at = TRY_PLAIN(end_of_value(object, value));
    if (object[at] == ']') return Error(ErrorKind::corrupt, concat("JSON: a bracket too many at byte ", at));
    TRY_PLAIN(visit(key, object.substr(value, at - value)));
    if (object[at] == '}') return {};
    ++at;
  }
}

}  // namespace caisson::inventory
