// Parsing and choosing; nothing here asks anybody.
#include "transport/sync_plan.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/reference.hpp"
#include "base/strings.hpp"
#include "base/toml.hpp"
#include "base/yaml.hpp"
#include "dockerfile/glob.hpp"

namespace caisson::transport {

namespace {

constexpr std::string_view layout_scheme = "oci:";

/// The tag of "host:5000/a:1": a colon behind the last slash.
std::string_view tag_in(std::string_view name) {
  const auto colon = name.rfind(':');
  const auto slash = name.rfind('/');
  if (colon == std::string_view::npos || (slash != std::string_view::npos && colon < slash)) return {};
  return name.substr(colon + 1);
}

json::value to_json(const toml::node& node) {
  if (const auto* table = node.as_table()) {
    json::object out;
    for (const auto& [key, value] : *table) out[std::string_view(key)] = to_json(value);
    return out;
  }
  if (const auto* array = node.as_array()) {
    json::array out;
    for (const auto& value : *array) out.push_back(to_json(value));
    return out;
  }
  if (const auto* value = node.as_string()) return json::value(value->get());
  if (const auto* value = node.as_boolean()) return json::value(value->get());
  if (const auto* value = node.as_integer()) return json::value(value->get());
  return nullptr;  // dates and fractions: the list has no field for them
}

Status read_entry(const JsonView& view, SyncEntry& out) {
  if (view.is_set() && view.raw().is_string()) {
    std::string line;
    TRY_PLAIN(view.read(line));
    auto parsed = parse_sync_line(line);
    if (!parsed.ok()) return view.error(parsed.error().text());
    out = std::move(*parsed);
    return {};
  }
  TRY_PLAIN(view.for_each_member([](std::string_view key, const JsonView& member) -> Status {
    for (const char* known : {"from", "tags", "except", "to"})
      if (key == known) return {};
    return member.error("is not known; there are from, tags, except and to");
  }));
  std::string from;
  std::vector<std::string> tags;
  TRY_PLAIN(view.read("from", from));
  if (from.empty()) return view.error("from is missing");
  auto parsed = parse_sync_line(from);
  if (!parsed.ok()) return view.error(parsed.error().text());
  out = std::move(*parsed);
  TRY_PLAIN(view.read("tags", tags));
  if (!tags.empty() && (!out.tags.empty() || !out.digest.empty())) return view.error("from names a tag or digest, and there are tags beside it");
  if (!tags.empty()) out.tags = std::move(tags);
  TRY_PLAIN(view.read("except", out.except));
  TRY_PLAIN(view.read("to", out.to));
  return {};
}

Result<std::vector<SyncEntry>> read_document(const json::value& document) {
  std::vector<SyncEntry> out;
  JsonView view(document);
  TRY_PLAIN(view.for_each_member([](std::string_view key, const JsonView& member) -> Status { return key == "images" ? Status() : member.error("is not known; there is images"); }));
  auto images = TRY_PLAIN(view.at("images"));
  if (!images.is_set()) return view.error("images is missing");
  TRY_PLAIN(images.for_each_element([&](const JsonView& item) { return read_entry(item, out.emplace_back()); }));
  return out;
}

Result<std::vector<SyncEntry>> read_lines(std::string_view text) {
  std::vector<SyncEntry> out;
  std::size_t number = 0;
  for (auto line : split(text, '\n')) {
    ++number;
    line = trim(split_once(line, '#').before);
    if (line.empty()) continue;
    out.push_back(TRY(parse_sync_line(line), concat("line ", number)));
  }
  return out;
}

}  // namespace

SyncFormat format_of(std::string_view file_name) {
  if (file_name.ends_with(".yaml") || file_name.ends_with(".yml")) return SyncFormat::yaml;
  return file_name.ends_with(".toml") ? SyncFormat::toml : SyncFormat::lines;
}

Result<SyncEntry> parse_sync_line(std::string_view line) {
  SyncEntry out;
  if (line.starts_with("docker://")) line.remove_prefix(std::string_view("docker://").size());
  auto halves = split_once(line, '@');
  auto name = halves.before;
  if (halves.found) out.digest = TRY(Digest::parse(halves.after), concat("\"", line, "\"")).text();
  const auto tag = tag_in(name);
  if (!tag.empty()) {
    name = name.substr(0, name.size() - tag.size() - 1);
    if (!halves.found) out.tags.emplace_back(tag);
  }
  const bool has_path = !name.empty() && name.find_first_of(" \t") == std::string_view::npos;
  if (!has_path) return Error(ErrorKind::invalid, concat("\"", line, "\" is no repository"));
  out.from = name;
  return out;
}

Result<std::vector<SyncEntry>> parse_sync_list(std::string_view text, SyncFormat format) {
  if (format == SyncFormat::lines) return read_lines(text);
  if (format == SyncFormat::yaml) return read_document(TRY_PLAIN(parse_yaml(text, "list")));
  return read_document(to_json(TRY_PLAIN(parse_toml(text))));
}

bool needs_listing(const SyncEntry& entry) {
  if (!entry.digest.empty()) return false;
  return entry.tags.empty() || std::any_of(entry.tags.begin(), entry.tags.end(), dockerfile::has_wildcards);
}

Result<std::vector<std::string>> select_tags(const SyncEntry& entry, const std::vector<std::string>& there) {
  std::vector<std::string> out;
  auto any_matches = [](const std::vector<std::string>& patterns, const std::string& tag) -> Result<bool> {
    for (const auto& pattern : patterns)
      if (TRY(dockerfile::Glob::for_paths(pattern), concat("\"", pattern, "\"")).matches(tag)) return true;
    return false;
  };
  for (const auto& tag : there) {
    if (!entry.tags.empty() && !TRY_PLAIN(any_matches(entry.tags, tag))) continue;
    if (!TRY_PLAIN(any_matches(entry.except, tag))) out.push_back(tag);
  }
  for (const auto& tag : entry.tags) {
    if (dockerfile::has_wildcards(tag) || std::find(out.begin(), out.end(), tag) != out.end() || TRY_PLAIN(any_matches(entry.except, tag))) continue;
    if (!is_tag(tag)) return Error(ErrorKind::invalid, concat("\"", tag, "\" is no tag"));
    out.push_back(tag);
  }
  return out;
}

Result<SyncTarget> parse_sync_target(std::string_view text) {
  SyncTarget out;
  if (text.starts_with(layout_scheme)) {
    out.is_folder = true;
    out.folder = text.substr(layout_scheme.size());
    if (out.folder.empty()) return Error(ErrorKind::invalid, concat("\"", text, "\" names no folder"));
    return out;
  }
  if (text.starts_with("docker://")) text.remove_prefix(std::string_view("docker://").size());
  while (text.ends_with('/')) text.remove_suffix(1);
  // "x" makes a reference of what is only the beginning of one.
  const auto reference = TRY(image::parse_reference(concat(text, "/x")), concat("\"", text, "\""));
  out.domain = reference.domain;
  const auto path = split_last(reference.path, '/');
  if (path.found) out.prefix = path.before;
  const bool is_hub = out.domain == "docker.io" && !text.starts_with("docker.io/") && !text.starts_with("index.docker.io/");
  if (is_hub) return Error(ErrorKind::invalid, concat("\"", text, "\" names no registry")).with_hint("write host[:port]/path, docker.io/NAME for Docker Hub, or oci:FOLDER");
  return out;
}

Result<std::string> target_of(const SyncTarget& target, const std::string& path) {
  const auto below = target.prefix.empty() ? path : concat(target.prefix, "/", path);
  if (!is_repository_path(below) || below.size() > most_repository_bytes) return Error(ErrorKind::invalid, concat("\"", below, "\" is no path of a repository"));
  return concat(target.is_folder ? target.folder : target.domain, "/", below);
}

}  // namespace caisson::transport
