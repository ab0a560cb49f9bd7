// The names are asked for only after a failure, on a connection of their own, and with little patience.
#include "cli/suggest.hpp"

#include <vector>

#include "base/strings.hpp"
#include "cli/parse.hpp"
#include "wire/http_server.hpp"

namespace caisson::cli {

namespace {

constexpr int patience_ms = 300;

Status collect(std::string_view collection, const JsonView& answer, std::vector<std::string>& out) {
  JsonView list = answer;
  if (collection == "volumes") list = TRY_PLAIN(answer.at("Volumes"));
  return list.for_each_element([&](const JsonView& item) -> Status {
    std::vector<std::string> names;
    if (collection == "containers") TRY_PLAIN(item.read("Names", names));
    else if (collection == "images") TRY_PLAIN(item.read("RepoTags", names));
    else TRY_PLAIN(item.read("Name", names.emplace_back()));
    for (auto& name : names) {
      if (name.starts_with("/")) name.erase(0, 1);
      constexpr std::string_view default_tag = ":latest";
      if (collection == "images" && name.ends_with(default_tag)) out.push_back(name.substr(0, name.size() - default_tag.size()));
      out.push_back(std::move(name));
    }
    return {};
  });
}

Result<std::vector<std::string>> names_of(Session& session, std::string_view collection) {
  const std::string_view target = collection == "containers" ? "/containers/json?all=1" : collection == "images" ? "/images/json" : collection == "volumes" ? "/volumes" : "/networks";
  auto client = TRY_PLAIN(session.connect_quickly(patience_ms));
  TRY_PLAIN(session.open_stream(*client, "GET", target));
  auto document = TRY_PLAIN(parse_json(TRY_PLAIN(client->read_all()), "the daemon's answer"));
  std::vector<std::string> names;
  TRY_PLAIN(collect(collection, JsonView(document), names));
  return names;
}

}  // namespace

std::string suggest_name(Session& session, std::string_view collection, std::string_view name) {
  auto names = names_of(session, collection);
  if (!names.ok()) return "";
  std::vector<std::string_view> candidates(names->begin(), names->end());
  std::string near = nearest(name, candidates);
  return near == name ? "" : near;
}

std::string suggest_for(Session& session, std::string_view target) {
  target = target.substr(0, target.find('?'));
  if (!target.starts_with('/')) return "";
  auto halves = split_once(target.substr(1), '/');
  const std::string_view collection = halves.before;
  std::string_view name = halves.after;
  const bool is_known = collection == "containers" || collection == "images" || collection == "volumes" || collection == "networks";
  if (!is_known || name.empty() || name == "create" || name == "json") return "";
  // An image's name has slashes of its own, so only what stands behind it by docker's routes is cut off.
  if (collection == "images") {
    for (std::string_view verb : {"/json", "/history", "/tag", "/push", "/get"})
      if (name.ends_with(verb)) name.remove_suffix(verb.size());
  } else {
    name = split_once(name, '/').before;
  }
  return suggest_name(session, collection, wire::percent_decode(name));
}

Error with_suggestion(Session& session, const Error& error) {
  if (error.kind() != ErrorKind::not_found || !error.hint().empty() || session.missing_target().empty()) return error;
  const std::string near = suggest_for(session, session.missing_target());
  if (near.empty()) return error;
  return Error(error).with_hint(concat("did you mean '", near, "'?"));
}

}  // namespace caisson::cli
