// Endpoints of a registry.
#include "image/registry_hosts.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::image {

namespace {

constexpr std::string_view hub_domain = "docker.io";
constexpr std::string_view hub_host = "registry-1.docker.io";

std::string without_port(std::string_view host) {
  if (host.starts_with('[')) return std::string(host.substr(1, host.find(']') - 1));
  return std::string(host.substr(0, host.find(':')));
}

std::optional<std::uint32_t> parse_ipv4(std::string_view text) {
  auto parts = split(text, '.');
  if (parts.size() != 4) return {};
  std::uint32_t address = 0;
  for (auto part : parts) {
    auto number = parse_integer<std::uint32_t>(part);
    if (!number.ok() || *number > 255) return {};
    address = address << 8U | *number;
  }
  return address;
}

struct Network {
  std::uint32_t address = 0;
  std::uint32_t mask = 0;
};
std::optional<Network> parse_network(std::string_view text) {
  auto halves = split_once(text, '/');
  auto address = parse_ipv4(halves.before);
  auto bits = parse_integer<std::uint32_t>(halves.after);
  if (!halves.found || !address || !bits.ok() || *bits > 32) return {};
  return Network{*address, *bits == 0 ? 0 : UINT32_MAX << (32 - *bits)};
}

bool is_host_text(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_' || c == ':' || c == '[' || c == ']';
  });
}

/// A registry that may speak TLS without a known certificate or no TLS at all is tried in this order, as docker does.
std::vector<RegistryEndpoint> origin_endpoints(const std::string& host, bool insecure) {
  std::vector<RegistryEndpoint> out;
  RegistryEndpoint endpoint;
  endpoint.url = concat("https://", host, "/v2");
  endpoint.skip_verify = insecure;
  out.push_back(endpoint);
  if (!insecure) return out;
  endpoint.skip_verify = false;
  endpoint.url = concat("http://", host, "/v2");
  out.push_back(endpoint);
  return out;
}

std::string api_root(std::string_view url) {
  while (url.ends_with('/')) url.remove_suffix(1);
  return url.ends_with("/v2") ? std::string(url) : concat(url, "/v2");
}

Result<std::string> read_pem(const std::string& file, const std::string& folder) {
  const std::string path = file.starts_with('/') ? file : concat(folder, "/", file);
  return linux::read_file(path);
}

/// containerd's names of the folder, most exact first: "host:5000", "host_5000_", "_default".
std::vector<std::string> folder_names(const std::string& domain) {
  std::vector<std::string> names{domain};
  auto halves = split_last(domain, ':');
  if (halves.found) names.push_back(concat(halves.before, "_", halves.after, "_"));
  names.emplace_back("_default");
  return names;
}

/// dockerd's and containerd's older form: *.crt are authorities, x.cert and x.key a client's.
Status read_certificates(RegistryFiles& files) {
  auto entries = linux::list_dir(files.folder);
  if (!entries.ok()) return std::move(entries).error();
  std::set<std::string> names;
  for (const auto& entry : *entries) names.insert(entry.name);
  for (const auto& name : names) {
    if (name.ends_with(".crt")) files.ca_pem += TRY_PLAIN(read_pem(name, files.folder)) + "\n";
    if (!name.ends_with(".cert")) continue;
    const std::string key = name.substr(0, name.size() - std::string_view(".cert").size()) + ".key";
    if (names.count(key) == 0) return Error(ErrorKind::invalid, concat(files.folder, "/", name, ": there is no ", key, " beside it"));
    files.client_certificate_pem = TRY_PLAIN(read_pem(name, files.folder));
    files.client_key_pem = TRY_PLAIN(read_pem(key, files.folder));
  }
  return {};
}

Result<RegistryFiles> read_files(const std::string& domain, const std::string& hosts_dir) {
  RegistryFiles files;
  for (const auto& name : folder_names(domain)) {
    const std::string folder = concat(hosts_dir, "/", name);
    if (!TRY_PLAIN(linux::exists(folder))) continue;
    files.folder = folder;
    auto text = linux::read_file(folder + "/hosts.toml");
    if (text.ok()) files.hosts_toml = std::move(*text);
    else if (text.error().kind() != ErrorKind::not_found) return std::move(text).error();
    else TRY_PLAIN(read_certificates(files));
    return files;
  }
  return files;
}

Status read_named_files(PlannedHost& host, const std::string& folder) {
  for (const auto& file : host.ca_files) host.endpoint.ca_pem += TRY_PLAIN(read_pem(file, folder)) + "\n";
  if (!host.client_certificate_file.empty()) host.endpoint.client_certificate_pem = TRY_PLAIN(read_pem(host.client_certificate_file, folder));
  // One file may hold both, as containerd allows.
  const auto& key = host.client_key_file.empty() ? host.client_certificate_file : host.client_key_file;
  if (!key.empty()) host.endpoint.client_key_pem = TRY_PLAIN(read_pem(key, folder));
  return {};
}

}  // namespace

std::string registry_host(const std::string& domain) { return domain == hub_domain ? std::string(hub_host) : domain; }

bool is_insecure(const std::string& host, const std::vector<std::string>& insecure) {
  const auto name = without_port(host);
  const auto address = parse_ipv4(name);
  constexpr std::uint32_t loopback = 127;
  if (name == "localhost" || name == "::1" || (address && *address >> 24U == loopback)) return true;
  return std::any_of(insecure.begin(), insecure.end(), [&](const std::string& entry) {
    if (entry == host) return true;
    auto network = parse_network(entry);
    return network && address && (*address & network->mask) == (network->address & network->mask);
  });
}

Result<std::vector<RegistryEndpoint>> plan_endpoints(const std::string& domain, const RegistryOptions& options, const RegistryFiles& files) {
  std::vector<RegistryEndpoint> out;
  if (domain == hub_domain) {
    for (const auto& mirror : options.mirrors) {
      RegistryEndpoint endpoint;
      endpoint.url = api_root(mirror);
      endpoint.is_origin = false;
      endpoint.can_push = false;
      auto host = split_once(split_once(mirror, ':').after.substr(2), '/').before;
      endpoint.skip_verify = mirror.starts_with("https:") && is_insecure(std::string(host), options.insecure);
      out.push_back(std::move(endpoint));
    }
  }
  if (!files.hosts_toml.empty()) {
    for (auto& host : TRY(parse_hosts_toml(files.hosts_toml, domain), concat(files.folder, "/hosts.toml"))) {
      TRY(read_named_files(host, files.folder), concat(files.folder, "/hosts.toml"));
      if (host.can_pull || host.endpoint.can_push) out.push_back(std::move(host.endpoint));
    }
    return out;
  }
  const auto host = registry_host(domain);
  for (auto& endpoint : origin_endpoints(host, is_insecure(host, options.insecure))) {
    endpoint.ca_pem = files.ca_pem;
    endpoint.client_certificate_pem = files.client_certificate_pem;
    endpoint.client_key_pem = files.client_key_pem;
    if (!files.ca_pem.empty()) endpoint.skip_verify = false;
    out.push_back(std::move(endpoint));
  }
  return out;
}

Result<std::vector<RegistryEndpoint>> endpoints_of(const std::string& domain, const RegistryOptions& options) {
  return plan_endpoints(domain, options, TRY_PLAIN(read_files(domain, options.hosts_dir)));
}

Status check_mirror(std::string_view text) {
  const auto scheme = text.starts_with("https://") ? 8U : text.starts_with("http://") ? 7U : 0U;
  if (scheme == 0) return Error(ErrorKind::invalid, concat("invalid mirror: \"", text, "\" begins with neither http:// nor https://"));
  if (!is_host_text(split_once(text.substr(scheme), '/').before) || text.find_first_of("?# @") != std::string_view::npos)
    return Error(ErrorKind::invalid, concat("invalid mirror: \"", text, "\"")).with_hint("write it as http://host:port");
  return {};
}

Status check_insecure(std::string_view text) {
  if (text.find("://") != std::string_view::npos)
    return Error(ErrorKind::invalid, concat("insecure registry \"", text, "\" should not contain '://'")).with_hint("write it as host:port or 10.0.0.0/8");
  if (text.find('/') != std::string_view::npos ? !parse_network(text).has_value() : !is_host_text(text))
    return Error(ErrorKind::invalid, concat("insecure registry \"", text, "\" is neither host:port nor an IPv4 network"));
  return {};
}

}  // namespace caisson::image
