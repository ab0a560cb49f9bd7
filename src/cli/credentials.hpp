// The credentials of registries, kept where docker keeps them: config.json, and credential helpers named there.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"

namespace caisson::cli {

struct Credentials {
  std::string username;
  std::string password;
  std::string identity_token;
  [[nodiscard]] bool empty() const { return username.empty() && identity_token.empty(); }
};

/// The key under which a registry's credentials are kept: "https://index.docker.io/v1/" for Docker Hub, else its host.
std::string credentials_key(std::string_view server);

/// config.json of docker. Reads and writes only what it knows; the rest of the file stays as it is.
class CredentialFile {
 public:
  /// A file that is missing is empty. Errors: invalid (no JSON), io.
  static Result<CredentialFile> open(std::string path);
  /// An entry of "auths" alone, without asking helpers. Pure; for tests. Errors: invalid.
  [[nodiscard]] Result<Credentials> stored(const std::string& key) const;
  /// The program's suffix ("pass" for docker-credential-pass), or "": credHelpers first, then credsStore.
  [[nodiscard]] std::string helper_for(const std::string& key) const;

  /// From the helper or the file; empty when there are none. Errors: io (the helper failed).
  [[nodiscard]] Result<Credentials> find(const std::string& key) const;
  /// Those of every registry that the file names, by key, as X-Registry-Config carries them; what a helper or an entry fails at is told in
  /// `problems` and left out, because a build rarely needs all of them.
  [[nodiscard]] json::object all(std::vector<std::string>& problems) const;
  /// Into the helper, or the file (0600). `is_plain`: it went into the file, where anybody who can read it sees the password.
  Status keep(const std::string& key, const Credentials& credentials, bool& is_plain);
  /// False when there were none.
  Result<bool> forget(const std::string& key);

 private:
  CredentialFile(std::string path, json::object document) : path_(std::move(path)), document_(std::move(document)) {}
  [[nodiscard]] Status write() const;
  std::string path_;
  json::object document_;
};

/// $DOCKER_CONFIG/config.json, else ~/.docker/config.json. `folder`: of --config, or "".
std::string credentials_path(std::string_view folder);

/// X-Registry-Auth's object: username and password, or an identity token, and the server; empty without any.
json::object auth_object(const Credentials& credentials, const std::string& server);
/// X-Registry-Auth: base64url of the credentials as JSON; "e30=" (an empty object) without any.
std::string auth_header(const Credentials& credentials, const std::string& server);

}  // namespace caisson::cli
