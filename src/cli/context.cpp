// Docker's own files and variables, and the one file of ours beside them.
#include "cli/context.hpp"

#include "base/environment.hpp"
#include "base/json.hpp"
#include "base/strings.hpp"
#include "cli/context_store.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::cli {

namespace {
std::string if_there(const std::string& path) { return linux::exists(path).value_or(false) ? path : ""; }
}  // namespace

std::string config_folder(const Invocation& global) {
  if (global.has("config")) return std::string(global.text("config"));
  std::string folder = environment_text("DOCKER_CONFIG");
  return folder.empty() ? environment_text("HOME") + "/.docker" : folder;
}

std::optional<wire::TlsFiles> tls_files(const Invocation& global) {
  // Docker: any value of the variable but the empty one switches it on, and --tlsverify=false switches it off.
  const bool verify = global.has("tlsverify") ? global.flag("tlsverify") : !environment_text("DOCKER_TLS_VERIFY").empty();
  const bool named = global.has("tlscacert") || global.has("tlscert") || global.has("tlskey");
  if (!verify && !global.flag("tls") && !named) return std::nullopt;
  std::string folder = environment_text("DOCKER_CERT_PATH");
  if (folder.empty()) folder = config_folder(global);
  auto path = [&](std::string_view flag, std::string_view name, bool is_needed) {
    if (global.has(flag)) return std::string(global.text(flag));
    const std::string file = concat(folder, "/", name);
    return is_needed ? file : if_there(file);
  };
  wire::TlsFiles files;
  files.verify = verify;
  files.ca = path("tlscacert", "ca.pem", verify);
  files.certificate = path("tlscert", "cert.pem", false);
  files.key = path("tlskey", "key.pem", false);
  return files;
}

std::string context_name(const Invocation& global) {
  std::string name(global.text("context"));
  if (name.empty()) name = environment_text("DOCKER_CONTEXT");
  return name == "default" ? "" : name;
}

namespace {
std::string settings_path(const Invocation& global) { return config_folder(global) + "/caisson.json"; }

Result<json::object> read_settings(const Invocation& global) {
  const std::string path = settings_path(global);
  auto text = linux::read_file(path);
  if (!text.ok() && text.error().kind() == ErrorKind::not_found) return json::object();
  if (!text.ok()) return std::move(text).error().in(path);
  auto document = TRY_PLAIN(parse_json(*text, path));
  if (!document.is_object()) return Error(ErrorKind::invalid, concat(path, ": want a JSON object"));
  return document.get_object();
}
}  // namespace

Result<std::string> current_context(const Invocation& global) {
  const json::value settings(TRY_PLAIN(read_settings(global)));
  std::string name;
  TRY_PLAIN(JsonView(settings, settings_path(global)).read("currentContext", name));
  return name == "default" ? std::string() : name;
}

Status set_current_context(const Invocation& global, const std::string& name) {
  auto settings = TRY_PLAIN(read_settings(global));
  if (name.empty() || name == "default") settings.erase("currentContext");
  else settings["currentContext"] = name;
  TRY(linux::make_dirs(config_folder(global), 0700), concat("make ", config_folder(global)));
  return linux::write_file_atomic(settings_path(global), to_text(settings) + "\n", 0600, linux::Durability::none);
}

Result<Context> read_context(const Invocation& global, const std::string& name) {
  const ContextStore store(config_folder(global));
  const auto stored = TRY(store.find(name), "unable to resolve docker endpoint");
  Context context;
  context.host = stored.host;
  const std::string keys = store.tls_folder(name) + "/docker/";
  wire::TlsFiles files{if_there(keys + "ca.pem"), if_there(keys + "cert.pem"), if_there(keys + "key.pem"), !stored.skips_verify};
  if (stored.skips_verify || !files.ca.empty() || !files.certificate.empty()) context.tls = std::move(files);
  return context;
}

}  // namespace caisson::cli
