// Query parameters and filters.
#include "api/query.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "wire/http_server.hpp"

namespace caisson::api {

Query::Query(std::string_view raw) : pairs_(wire::parse_query(raw)) {}

std::optional<std::string> Query::find(std::string_view name) const {
  for (const auto& [key, value] : pairs_)
    if (key == name) return value;
  return std::nullopt;
}

std::string Query::text(std::string_view name) const { return find(name).value_or(""); }

std::vector<std::string> Query::all(std::string_view name) const {
  std::vector<std::string> values;
  for (const auto& [key, value] : pairs_)
    if (key == name) values.push_back(value);
  return values;
}

bool Query::flag(std::string_view name, bool fallback) const {
  auto value = find(name);
  if (!value) return fallback;
  const std::string word = lower(trim(*value));
  return !(word.empty() || word == "0" || word == "no" || word == "false" || word == "none");
}

Result<std::optional<std::int64_t>> Query::integer(std::string_view name) const {
  auto value = find(name);
  if (!value || value->empty()) return std::optional<std::int64_t>();
  auto number = parse_integer<std::int64_t>(*value);
  if (!number.ok()) return Error(ErrorKind::invalid, concat("query parameter ", name, ": ", number.error().text()));
  return std::optional<std::int64_t>(*number);
}

Result<Filters> Filters::parse(std::string_view text, std::initializer_list<std::string_view> known) {
  Filters filters;
  if (trim(text).empty()) return filters;
  auto document = parse_json(text, "filters");
  if (!document.ok()) return Error(ErrorKind::invalid, concat("invalid filter: ", document.error().text()));
  if (document->is_null()) return filters;
  const auto* object = document->if_object();
  if (object == nullptr) return Error(ErrorKind::invalid, "invalid filter: want a JSON object");
  for (const auto& member : *object) {
    const std::string key(member.key());
    if (std::find(known.begin(), known.end(), key) == known.end()) return Error(ErrorKind::invalid, concat("invalid filter '", key, "'"));
    auto& values = filters.values_[key];
    auto refuse = [&] { return Error(ErrorKind::invalid, concat("invalid filter '", key, "': want a list of strings")); };
    if (const auto* set = member.value().if_object()) {
      // {"value": false} is how a Go client would take a value back; nobody sends it, Docker ignores the boolean.
      for (const auto& entry : *set) values.emplace_back(entry.key());
    } else if (const auto* list = member.value().if_array()) {
      for (const auto& entry : *list) {
        if (!entry.is_string()) return refuse();
        values.emplace_back(entry.get_string());
      }
    } else if (!member.value().is_null()) {
      return refuse();
    }
    if (values.empty()) filters.values_.erase(key);
  }
  return filters;
}

const std::vector<std::string>& Filters::get(std::string_view key) const {
  static const std::vector<std::string> none;
  auto found = values_.find(key);
  return found == values_.end() ? none : found->second;
}

namespace {
template <typename Matches>
bool any_of(const std::vector<std::string>& asked, const Matches& matches) {
  return asked.empty() || std::any_of(asked.begin(), asked.end(), matches);
}
}  // namespace

bool Filters::exact(std::string_view key, std::string_view value) const {
  return any_of(get(key), [&](const std::string& asked) { return asked == value; });
}

bool Filters::part(std::string_view key, std::string_view value) const {
  return any_of(get(key), [&](const std::string& asked) { return value.find(asked) != std::string_view::npos; });
}

bool Filters::prefix(std::string_view key, std::string_view value) const {
  return any_of(get(key), [&](const std::string& asked) { return value.starts_with(asked); });
}

bool Filters::labels(std::string_view key, const std::map<std::string, std::string>& labels) const {
  for (const auto& asked : get(key)) {
    auto halves = split_once(asked, '=');
    auto found = labels.find(std::string(halves.before));
    if (found == labels.end() || (halves.found && found->second != halves.after)) return false;
  }
  return true;
}

Result<std::optional<bool>> Filters::boolean(std::string_view key) const {
  const auto& values = get(key);
  if (values.empty()) return std::optional<bool>();
  const std::string word = lower(values.front());
  if (values.size() == 1 && (word == "true" || word == "1" || word == "t")) return std::optional<bool>(true);
  if (values.size() == 1 && (word == "false" || word == "0" || word == "f")) return std::optional<bool>(false);
  return Error(ErrorKind::invalid, concat("invalid filter '", key, "=", values.front(), "'"));
}

}  // namespace caisson::api
