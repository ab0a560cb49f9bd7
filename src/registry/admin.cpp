// The administrators' API: plain JSON, no pages.
#include "registry/admin.hpp"

#include <limits>

#include "base/reference.hpp"
#include "base/strings.hpp"

namespace caisson::registry {

namespace {

constexpr std::size_t everything = std::numeric_limits<std::size_t>::max();

Answer answer_error(const Error& error) {
  const int status = error.kind() == ErrorKind::not_found ? 404 : error.kind() == ErrorKind::invalid ? 400 : 500;
  return refuse(status, code::unknown, error.text());
}

}  // namespace

std::string admin_socket(const std::string& root) { return root + "/admin.sock"; }

Answer Admin::answer(std::string_view method, std::string_view path, std::string_view query) {
  auto result = dispatch(method, path, query);
  return result.ok() ? std::move(*result) : answer_error(result.error());
}

Result<Answer> Admin::dispatch(std::string_view method, std::string_view path, std::string_view query) {
  const auto pairs = wire::parse_query(query);
  auto parameter = [&](std::string_view name) -> std::string_view {
    for (const auto& [key, value] : pairs)
      if (key == name) return value;
    return {};
  };
  if (method == "GET" && path == "/repositories") return list(parameter("name"));
  if (method == "GET" && path == "/usage") return usage();
  if (method == "POST" && path == "/clean-up") return clean_up(parameter("untagged"), parameter("grace"));
  if (method == "DELETE" && path == "/items") return remove(parameter("name"));
  if (method == "GET" && path == "/metrics") {
    Answer answer;
    answer.with("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
    answer.body = service_.metrics().text(service_.gauges());
    return answer;
  }
  return Error(ErrorKind::not_found, concat(method, " ", path, ": no such address"));
}

Result<Answer> Admin::list(std::string_view repository) {
  json::array out;
  auto& catalog = service_.catalog();
  if (repository.empty()) {
    const auto usage = catalog.usage();
    for (const auto& name : TRY_PLAIN(catalog.repositories("", everything)).names) {
      json::object item;
      item["name"] = name;
      item["tags"] = TRY_PLAIN(catalog.tags(name, "", everything)).names.size();
      const auto held = usage.by_repository.find(name);
      item["bytes"] = held == usage.by_repository.end() ? 0 : held->second;
      out.push_back(std::move(item));
    }
    return answer_json(out);
  }
  if (!TRY_PLAIN(catalog.exists(repository))) return Error(ErrorKind::not_found, concat("no repository ", repository));
  for (const auto& tag : TRY_PLAIN(catalog.tags(repository, "", everything)).names) {
    const auto digest = TRY_PLAIN(catalog.tag(repository, tag));
    const auto record = digest ? TRY_PLAIN(catalog.manifest(repository, *digest)) : std::nullopt;
    if (!record) continue;  // it went while we read
    json::object item;
    item["tag"] = tag;
    item["digest"] = digest->text();
    item["mediaType"] = record->media_type;
    item["pushed"] = to_rfc3339(record->pushed);
    out.push_back(std::move(item));
  }
  return answer_json(out);
}

Result<Answer> Admin::usage() {
  const auto usage = service_.catalog().usage();
  json::object out;
  json::object repositories;
  for (const auto& [name, bytes] : usage.by_repository) repositories[name] = bytes;
  out["repositories"] = std::move(repositories);
  out["total"] = usage.total_bytes;
  out["uploads"] = service_.uploads().count();
  return answer_json(out);
}

Result<Answer> Admin::clean_up(std::string_view untagged, std::string_view grace) {
  Catalog::CleanUpOptions options;
  options.untagged = service_.config().removes_untagged || untagged == "1";
  options.grace_ns = grace.empty() ? service_.config().grace_ns : TRY(parse_duration_ns(grace), "grace");
  const auto done = TRY_PLAIN(service_.clean_up(options));
  json::object out;
  out["manifests"] = done.manifests;
  out["links"] = done.links;
  out["blobs"] = done.blobs;
  out["bytes"] = done.bytes;
  out["uploads"] = done.uploads;
  return answer_json(out);
}

Result<Answer> Admin::remove(std::string_view item) {
  auto& catalog = service_.catalog();
  const auto by_digest = split_once(item, '@');
  const auto by_tag = split_once(item, ':');
  const std::string name(by_digest.found ? by_digest.before : by_tag.before);
  if (!is_repository_path(name)) return Error(ErrorKind::invalid, concat("\"", item, "\": want REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST"));
  if (by_digest.found) TRY_PLAIN(catalog.remove_manifest(name, TRY_PLAIN(Digest::parse(by_digest.after))));
  else if (by_tag.found) TRY_PLAIN(catalog.remove_tag(name, std::string(by_tag.after)));
  else TRY_PLAIN(catalog.remove_repository(name));
  return answer_json(json::object());
}

}  // namespace caisson::registry
