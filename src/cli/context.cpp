// Docker's own files and variables, read only.
#include "cli/context.hpp"


#include "base/digest.hpp"
#include "base/environment.hpp"
#include "base/json.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"

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

Result<Context> read_context(const Invocation& global, const std::string& name) {
  const auto digest = sha256_of(name);
  const std::string_view id = digest.hex();
  const std::string folder = config_folder(global) + "/contexts";
  auto text = linux::read_file(concat(folder, "/meta/", id, "/meta.json"));
  if (!text.ok() && text.error().kind() == ErrorKind::not_found)
    return Error(ErrorKind::not_found, concat("unable to resolve docker endpoint: context \"", name, "\": context not found"));
  if (!text.ok()) return std::move(text).error().in(concat("context \"", name, "\""));
  auto document = TRY_PLAIN(parse_json(*text, concat("context \"", name, "\"")));
  auto endpoints = TRY_PLAIN(JsonView(document, "context").at("Endpoints"));
  auto docker = TRY_PLAIN(endpoints.at("docker"));
  Context context;
  TRY_PLAIN(docker.read("Host", context.host));
  bool skips_verify = false;
  TRY_PLAIN(docker.read("SkipTLSVerify", skips_verify));
  const std::string keys = concat(folder, "/tls/", id, "/docker/");
  wire::TlsFiles files{if_there(keys + "ca.pem"), if_there(keys + "cert.pem"), if_there(keys + "key.pem"), !skips_verify};
  if (skips_verify || !files.ca.empty() || !files.certificate.empty()) context.tls = std::move(files);
  return context;
}

}  // namespace caisson::cli
