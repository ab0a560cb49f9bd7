// The refusals of strict documents.
#include "trust/strict_json.hpp"

#include <algorithm>

#include "base/json_text.hpp"
#include "base/strings.hpp"

namespace caisson::trust {

Result<json::value> parse_strict_json(std::string_view text, std::string_view what) {
  auto document = TRY_PLAIN(parse_json(text, what));
  if (auto twice = find_repeated_member(text)) return Error(ErrorKind::invalid, concat(what, ": \"", *twice, "\" occurs twice in one object"));
  return document;
}

Status refuse_unknown(const JsonView& object, std::initializer_list<std::string_view> known) {
  if (!object.is_set()) return object.error("is missing");
  return object.for_each_member([&](std::string_view key, const JsonView& member) -> Status {
    if (std::find(known.begin(), known.end(), key) == known.end()) return member.error("is not known here");
    return {};
  });
}

}  // namespace caisson::trust
