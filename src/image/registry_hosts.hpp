// Which servers stand behind a registry's name: Docker Hub's naming, mirrors, containerd's hosts.toml. Planning is pure, reading is thin.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "image/fetch_protocol.hpp"
#include "image/image_store.hpp"

namespace caisson::image {

/// What the administrator has set up.
struct RegistryOptions {
  std::string fetch_path;                 ///< the caisson-fetch binary
  std::vector<std::string> mirrors;       ///< of Docker Hub, in order: "http://127.0.0.1:5000"
  std::vector<std::string> insecure;      ///< registries ("host[:port]") and networks ("10.0.0.0/8") without certificates, or without TLS
  std::string hosts_dir = "/etc/caisson/certs.d";  ///< containerd's layout: HOST/hosts.toml, HOST/*.crt, _default/hosts.toml
  std::uint32_t concurrent_downloads = 3;  ///< layers of one pull at the same time
  FetchPatience patience;
};

/// The files of a registry in hosts_dir, read.
struct RegistryFiles {
  std::string hosts_toml;   ///< "": none
  std::string folder;       ///< where relative names of files start
  std::string ca_pem;       ///< all *.crt, for a folder without hosts.toml
  std::string client_certificate_pem;
  std::string client_key_pem;
};

/// One server that hosts.toml names; files are not read yet.
struct PlannedHost {
  RegistryEndpoint endpoint;
  bool can_pull = true;
  std::vector<std::string> ca_files;
  std::string client_certificate_file;
  std::string client_key_file;
};
/// containerd's hosts.toml (docs/hosts.md of containerd 1.7): `server`, `[host."URL"]` with capabilities, ca, client, skip_verify,
/// override_path, header. In the file's order, the origin (or `server`) last. Errors: invalid, naming the key.
Result<std::vector<PlannedHost>> parse_hosts_toml(std::string_view text, const std::string& domain);

/// "docker.io" → "registry-1.docker.io".
std::string registry_host(const std::string& domain);
/// Addresses 127.0.0.0/8 and ::1, "localhost", and what `insecure` names: TLS without a known certificate, or plain HTTP, will do.
bool is_insecure(const std::string& host, const std::vector<std::string>& insecure);

/// All endpoints in the order in which they are tried.
Result<std::vector<RegistryEndpoint>> plan_endpoints(const std::string& domain, const RegistryOptions& options, const RegistryFiles& files);
/// Reads the files and plans. Errors: invalid and io, naming the file.
Result<std::vector<RegistryEndpoint>> endpoints_of(const std::string& domain, const RegistryOptions& options);

/// What an administrator may write as a mirror: "http://host[:port][/path]". Errors: invalid.
Status check_mirror(std::string_view text);
/// What `insecure` may hold. Errors: invalid.
Status check_insecure(std::string_view text);

}  // namespace caisson::image
