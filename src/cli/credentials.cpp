// Reading and keeping credentials.
#include "cli/credentials.hpp"

#include <set>

#include "base/environment.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/spawn.hpp"
#include "linux/tree.hpp"

namespace caisson::cli {

namespace {

constexpr std::string_view hub_key = "https://index.docker.io/v1/";
/// What helpers say as the user name when the secret is an identity token (docker-credential-helpers).
constexpr std::string_view token_user = "<token>";
constexpr int helper_timeout_ms = 60'000;  // some ask the user for a passphrase

/// Runs docker-credential-SUFFIX VERB. Errors: io with what it said.
Result<std::string> ask_helper(const std::string& suffix, const std::string& verb, std::string_view input) {
  linux::RunOptions options;
  options.standard_input = input;
  options.timeout_ms = helper_timeout_ms;
  options.env.clear();
  for (const char* name : {"PATH", "HOME", "USER", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "WAYLAND_DISPLAY", "GNUPGHOME", "GPG_TTY", "PASSWORD_STORE_DIR", "LANG"})
    if (auto value = environment_text(name); !value.empty()) options.env.push_back(concat(name, "=", value));
  const std::string program = "docker-credential-" + suffix;
  auto output = TRY(linux::run_program({program, verb}, options), concat("credential helper ", program));
  if (output.status.exit_code() == 0) return std::move(output.standard_output);
  const auto said = trim(output.standard_output.empty() ? output.standard_error : output.standard_output);
  if (said.find("credentials not found") != std::string_view::npos) return std::string();
  return Error(ErrorKind::io, concat(program, " ", verb, ": ", said));
}

Result<Credentials> parse_helper_answer(std::string_view text) {
  Credentials out;
  if (trim(text).empty()) return out;
  auto document = TRY_PLAIN(parse_json(text, "the credential helper's answer"));
  JsonView view(document);
  std::string user;
  std::string secret;
  TRY_PLAIN(view.read("Username", user));
  TRY_PLAIN(view.read("Secret", secret));
  if (user == token_user) {
    out.identity_token = std::move(secret);
  } else {
    out.username = std::move(user);
    out.password = std::move(secret);
  }
  return out;
}

bool is_helper_name(std::string_view name) { return !name.empty() && name.find('/') == std::string_view::npos; }

}  // namespace

std::string credentials_key(std::string_view server) {
  for (std::string_view scheme : {"https://", "http://"})
    if (server.starts_with(scheme)) server.remove_prefix(scheme.size());
  auto host = split_once(server, '/').before;
  if (host.empty() || host == "docker.io" || host == "index.docker.io" || host == "registry-1.docker.io") return std::string(hub_key);
  return std::string(host);
}

std::string credentials_path(std::string_view folder) {
  std::string base(folder);
  if (base.empty()) base = environment_text("DOCKER_CONFIG");
  if (base.empty()) base = environment_text("HOME") + "/.docker";
  return base + "/config.json";
}

json::object auth_object(const Credentials& credentials, const std::string& server) {
  json::object out;
  if (!credentials.username.empty()) {
    out["username"] = credentials.username;
    out["password"] = credentials.password;
  }
  if (!credentials.identity_token.empty()) out["identitytoken"] = credentials.identity_token;
  if (!out.empty()) out["serveraddress"] = server;
  return out;
}

std::string auth_header(const Credentials& credentials, const std::string& server) {
  std::string text = base64_encode(to_text(auth_object(credentials, server)));
  for (char& c : text) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return text;
}

Result<CredentialFile> CredentialFile::open(std::string path) {
  auto text = linux::read_file(path);
  if (!text.ok() && text.error().kind() == ErrorKind::not_found) return CredentialFile(std::move(path), {});
  if (!text.ok()) return std::move(text).error();
  if (trim(*text).empty()) return CredentialFile(std::move(path), {});
  auto document = TRY_PLAIN(parse_json(*text, path));
  if (!document.is_object()) return Error(ErrorKind::invalid, concat(path, ": want a JSON object"));
  return CredentialFile(std::move(path), std::move(document.get_object()));
}

Result<Credentials> CredentialFile::stored(const std::string& key) const {
  const json::value document(document_);
  auto auths = TRY(JsonView(document).at("auths"), path_);
  Credentials out;
  std::string auth;
  // docker has written hosts with and without a scheme over the years.
  for (const auto& name : {key, concat("https://", key), concat("http://", key), concat("https://", key, "/v1/"), concat("https://", key, "/v2/")}) {
    auto entry = TRY(auths.at(name), path_);
    if (!entry.is_set()) continue;
    TRY(entry.read("auth", auth), path_);
    TRY(entry.read("identitytoken", out.identity_token), path_);
    TRY(entry.read("username", out.username), path_);
    TRY(entry.read("password", out.password), path_);
    break;
  }
  if (auth.empty()) return out;
  auto decoded = base64_decode(auth);
  auto halves = split_once(decoded.ok() ? std::string_view(*decoded) : std::string_view(), ':');
  if (!halves.found) return Error(ErrorKind::invalid, concat(path_, ": auths: ", key, ": auth is not base64 of user:password"));
  out.username = halves.before;
  out.password = halves.after;
  return out;
}

std::string CredentialFile::helper_for(const std::string& key) const {
  if (const auto* helpers = document_.if_contains("credHelpers"); helpers != nullptr && helpers->is_object())
    if (const auto* name = helpers->get_object().if_contains(key); name != nullptr && name->is_string()) return std::string(name->get_string());
  if (const auto* store = document_.if_contains("credsStore"); store != nullptr && store->is_string()) return std::string(store->get_string());
  return "";
}

Result<Credentials> CredentialFile::find(const std::string& key) const {
  const auto helper = helper_for(key);
  if (!is_helper_name(helper)) return stored(key);
  return parse_helper_answer(TRY_PLAIN(ask_helper(helper, "get", key)));
}

json::object CredentialFile::all(std::vector<std::string>& problems) const {
  std::set<std::string> keys;
  for (std::string_view list : {"auths", "credHelpers"})
    if (const auto* found = document_.if_contains(list); found != nullptr && found->is_object())
      for (const auto& member : found->get_object()) keys.insert(credentials_key(std::string_view(member.key())));
  json::object out;
  for (const auto& key : keys) {
    auto credentials = find(key);
    if (!credentials.ok()) problems.push_back(credentials.error().text());
    else if (!credentials->empty()) out[key] = auth_object(*credentials, key);
  }
  return out;
}

Status CredentialFile::write() const {
  const std::string folder(split_last(path_, '/').before);
  TRY(linux::make_dirs(folder, 0700), concat("folder ", folder));
  return linux::write_file_atomic(path_, to_text(document_) + "\n", 0600, linux::Durability::none);
}

Status CredentialFile::keep(const std::string& key, const Credentials& credentials, bool& is_plain) {
  is_plain = false;
  const bool is_token = !credentials.identity_token.empty();
  json::object entry;
  if (const auto helper = helper_for(key); is_helper_name(helper)) {
    json::object secret{{"ServerURL", key}, {"Username", is_token ? token_user : std::string_view(credentials.username)},
                        {"Secret", is_token ? credentials.identity_token : credentials.password}};
    TRY_PLAIN(ask_helper(helper, "store", to_text(secret)));
  } else {
    is_plain = true;
    // With a token the password is not needed any more, and not kept.
    entry["auth"] = base64_encode(concat(credentials.username, ":", is_token ? "" : credentials.password));
    if (is_token) entry["identitytoken"] = credentials.identity_token;
  }
  auto& auths = document_["auths"];
  if (!auths.is_object()) auths = json::object();
  auths.get_object()[key] = std::move(entry);
  return write();
}

Result<bool> CredentialFile::forget(const std::string& key) {
  bool found = false;
  if (const auto helper = helper_for(key); is_helper_name(helper)) {
    found = !TRY_PLAIN(find(key)).empty();
    if (found) TRY_PLAIN(ask_helper(helper, "erase", key));
  }
  if (auto* auths = document_.if_contains("auths"); auths != nullptr && auths->is_object() && auths->get_object().erase(key) > 0) {
    found = true;
    TRY_PLAIN(write());
  }
  return found;
}

}  // namespace caisson::cli
