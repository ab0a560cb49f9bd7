// The image config: parsing what others wrote, writing our own.
#include <algorithm>

#include "base/json_array.hpp"
#include "base/strings.hpp"
#include "image/manifest.hpp"

namespace caisson::image {

namespace {

/// Sets are JSON objects with empty values in Docker's and OCI's config ("ExposedPorts": {"80/tcp": {}}).
Status read_set(const JsonView& view, std::string_view key, std::vector<std::string>& out) {
  auto member = TRY_PLAIN(view.at(key));
  return member.for_each_member([&](std::string_view name, const JsonView&) -> Status {
    out.emplace_back(name);
    return {};
  });
}

Status read_time(const JsonView& view, std::string_view key, TimestampNs& out) {
  auto member = TRY_PLAIN(view.at(key));
  std::string text;
  TRY_PLAIN(member.read(text));
  if (text.empty()) return {};
  auto time = parse_rfc3339(text);
  if (!time.ok()) return member.error(time.error().text());
  out = *time;
  return {};
}

Status read_healthcheck(const JsonView& view, std::optional<Healthcheck>& out) {
  auto member = TRY_PLAIN(view.at("Healthcheck"));
  if (!member.is_set()) return {};
  Healthcheck check;
  TRY_PLAIN(member.read("Test", check.test));
  TRY_PLAIN(member.read("Interval", check.interval_ns));
  TRY_PLAIN(member.read("Timeout", check.timeout_ns));
  TRY_PLAIN(member.read("StartPeriod", check.start_period_ns));
  TRY_PLAIN(member.read("StartInterval", check.start_interval_ns));
  TRY_PLAIN(member.read("Retries", check.retries));
  out = std::move(check);
  return {};
}

Status read_container_config(const JsonView& view, ImageConfig& out) {
  auto& config = out.config;
  TRY_PLAIN(view.read("User", config.user));
  TRY_PLAIN(read_set(view, "ExposedPorts", config.exposed_ports));
  TRY_PLAIN(view.read("Env", config.env));
  TRY_PLAIN(view.read("Entrypoint", config.entrypoint));
  TRY_PLAIN(view.read("Cmd", config.cmd));
  TRY_PLAIN(read_set(view, "Volumes", config.volumes));
  TRY_PLAIN(view.read("WorkingDir", config.working_dir));
  TRY_PLAIN(view.read("Labels", config.labels));
  TRY_PLAIN(view.read("StopSignal", config.stop_signal));
  TRY_PLAIN(view.read("Shell", config.shell));
  TRY_PLAIN(view.read("OnBuild", out.on_build));
  return read_healthcheck(view, config.healthcheck);
}

/// The runtime hands these to the kernel as C strings: a NUL would let two readers see different things.
Status refuse_nul(const JsonView& view, const std::vector<std::string>& texts, std::string_view key) {
  for (const auto& text : texts)
    if (text.find('\0') != std::string::npos) return view.error(concat(key, " holds a NUL character"));
  return {};
}

}  // namespace

static Status from_json(const JsonView& view, HistoryEntry& out) {
  TRY_PLAIN(read_time(view, "created", out.created));
  TRY_PLAIN(view.read("created_by", out.created_by));
  TRY_PLAIN(view.read("author", out.author));
  TRY_PLAIN(view.read("comment", out.comment));
  return view.read("empty_layer", out.empty_layer);
}

Result<ImageConfig> parse_image_config(std::string_view text) {
  auto document = TRY_PLAIN(parse_json(text, "image config"));
  JsonView view(document, "image config");
  ImageConfig out;
  TRY_PLAIN(read_time(view, "created", out.created));
  TRY_PLAIN(view.read("author", out.author));
  TRY_PLAIN(view.read("architecture", out.architecture));
  TRY_PLAIN(view.read("os", out.os));
  TRY_PLAIN(view.read("variant", out.variant));
  TRY_PLAIN(view.read("comment", out.comment));
  auto config = TRY_PLAIN(view.at("config"));
  TRY_PLAIN(read_container_config(config, out));
  TRY_PLAIN(refuse_nul(config, out.config.env, "Env"));
  TRY_PLAIN(refuse_nul(config, out.config.cmd, "Cmd"));
  TRY_PLAIN(refuse_nul(config, out.config.entrypoint, "Entrypoint"));
  TRY_PLAIN(refuse_nul(config, {out.config.user, out.config.working_dir}, "User or WorkingDir"));
  auto rootfs = TRY_PLAIN(view.at("rootfs"));
  std::vector<std::string> diff_ids;
  TRY_PLAIN(rootfs.read("diff_ids", diff_ids));
  for (const auto& id : diff_ids) {
    auto digest = Digest::parse(id);
    if (!digest.ok()) return rootfs.error(concat("diff_ids: ", digest.error().text()));
    out.diff_ids.push_back(std::move(*digest));
  }
  TRY_PLAIN(view.read("history", out.history));
  return out;
}

namespace {

json::object write_set(std::vector<std::string> items) {
  std::sort(items.begin(), items.end());
  json::object out;
  for (const auto& item : items) out[item] = json::object();
  return out;
}

json::object write_container_config(const ImageConfig& image) {
  const auto& config = image.config;
  json::object out;
  if (!config.user.empty()) out["User"] = config.user;
  if (!config.exposed_ports.empty()) out["ExposedPorts"] = write_set(config.exposed_ports);
  if (!config.env.empty()) out["Env"] = texts(config.env);
  if (!config.entrypoint.empty()) out["Entrypoint"] = texts(config.entrypoint);
  if (!config.cmd.empty()) out["Cmd"] = texts(config.cmd);
  if (!config.volumes.empty()) out["Volumes"] = write_set(config.volumes);
  if (!config.working_dir.empty()) out["WorkingDir"] = config.working_dir;
  if (!config.labels.empty()) {
    json::object labels;
    for (const auto& [key, value] : config.labels) labels[key] = value;
    out["Labels"] = std::move(labels);
  }
  if (!config.stop_signal.empty()) out["StopSignal"] = config.stop_signal;
  if (!config.shell.empty()) out["Shell"] = texts(config.shell);
  if (!image.on_build.empty()) out["OnBuild"] = texts(image.on_build);
  if (config.healthcheck) {
    const auto& check = *config.healthcheck;
    json::object health;
    if (!check.test.empty()) health["Test"] = texts(check.test);
    if (check.interval_ns != 0) health["Interval"] = check.interval_ns;
    if (check.timeout_ns != 0) health["Timeout"] = check.timeout_ns;
    if (check.start_period_ns != 0) health["StartPeriod"] = check.start_period_ns;
    if (check.start_interval_ns != 0) health["StartInterval"] = check.start_interval_ns;
    if (check.retries != 0) health["Retries"] = check.retries;
    out["Healthcheck"] = std::move(health);
  }
  return out;
}

json::object write_history(const HistoryEntry& entry) {
  json::object out;
  out["created"] = to_rfc3339(entry.created);
  if (!entry.created_by.empty()) out["created_by"] = entry.created_by;
  if (!entry.author.empty()) out["author"] = entry.author;
  if (!entry.comment.empty()) out["comment"] = entry.comment;
  if (entry.empty_layer) out["empty_layer"] = true;
  return out;
}

}  // namespace

std::string write_image_config(const ImageConfig& config) {
  json::object out;
  out["architecture"] = config.architecture;
  out["os"] = config.os;
  if (!config.variant.empty()) out["variant"] = config.variant;
  if (!config.author.empty()) out["author"] = config.author;
  if (!config.comment.empty()) out["comment"] = config.comment;
  out["created"] = to_rfc3339(config.created);
  out["config"] = write_container_config(config);
  json::object rootfs;
  rootfs["type"] = "layers";
  json::array diff_ids;
  for (const auto& id : config.diff_ids) diff_ids.push_back(json::value(id.text()));
  rootfs["diff_ids"] = std::move(diff_ids);
  out["rootfs"] = std::move(rootfs);
  json::array history;
  for (const auto& entry : config.history) history.push_back(write_history(entry));
  out["history"] = std::move(history);
  return to_text(out);
}

}  // namespace caisson::image
