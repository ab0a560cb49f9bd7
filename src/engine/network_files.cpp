// hosts(5) and resolv.conf(5).
#include "engine/network_files.hpp"

#include "base/strings.hpp"

namespace caisson::engine {

namespace {
bool is_loopback(std::string_view address) { return address.starts_with("127.") || address == "::1"; }

struct ResolverFile {
  std::vector<std::string> servers;
  std::string search;
  std::string options;
};

ResolverFile parse_resolver(std::string_view text) {
  ResolverFile file;
  for (auto line : split(text, '\n')) {
    line = trim(line);
    auto blank = line.find_first_of(" \t");
    if (blank == std::string_view::npos) continue;
    auto keyword = line.substr(0, blank);
    auto value = trim(line.substr(blank));
    if (keyword == "nameserver") file.servers.emplace_back(value);
    if (keyword == "search" || keyword == "domain") file.search = value;
    if (keyword == "options") file.options += (file.options.empty() ? "" : " ") + std::string(value);
  }
  return file;
}
}  // namespace

std::string hosts_text(const ContainerSpec& spec, const std::string& hostname, const std::vector<network::Endpoint>& endpoints, const std::vector<HostsLine>& links) {
  std::string text =
      "127.0.0.1\tlocalhost\n"
      "::1\tlocalhost ip6-localhost ip6-loopback\n"
      "fe00::0\tip6-localnet\n"
      "ff00::0\tip6-mcastprefix\n"
      "ff02::1\tip6-allnodes\n"
      "ff02::2\tip6-allrouters\n";
  std::string gateway = spec.network.mode == "host" ? "127.0.0.1" : "";
  for (const auto& endpoint : endpoints)
    if (gateway.empty()) gateway = endpoint.gateway;
  for (const auto& entry : spec.extra_hosts) {
    auto halves = split_once(entry, ':');
    std::string address(halves.after);
    if (address.starts_with('[') && address.ends_with(']')) address = address.substr(1, address.size() - 2);
    if (address == "host-gateway") address = gateway;
    if (!address.empty()) text += concat(address, '\t', halves.before, '\n');
  }
  for (const auto& link : links) text += concat(link.address, '\t', join(link.names, " "), '\n');
  for (const auto& endpoint : endpoints) {
    for (const auto& address : {endpoint.ipv4, endpoint.ipv6}) {
      if (address.empty()) continue;
      text += concat(address, '\t');
      if (!spec.domainname.empty()) text += concat(hostname, '.', spec.domainname, ' ');
      text += concat(hostname, '\n');
    }
  }
  return text;
}

bool has_only_loopback_nameservers(std::string_view resolv_conf) {
  auto file = parse_resolver(resolv_conf);
  for (const auto& server : file.servers)
    if (!is_loopback(server)) return false;
  return !file.servers.empty();
}

std::string resolv_conf_text(std::string_view host_text, const ContainerSpec& spec) {
  auto file = parse_resolver(host_text);
  std::vector<std::string> servers;
  bool shares_host_network = spec.network.mode == "host";
  for (const auto& server : file.servers)
    if (shares_host_network || !is_loopback(server)) servers.push_back(server);
  if (!spec.dns.empty()) servers = spec.dns;
  if (servers.empty()) servers = {"8.8.8.8", "8.8.4.4"};
  if (!spec.dns_search.empty()) file.search = spec.dns_search.size() == 1 && spec.dns_search[0] == "." ? "" : join(spec.dns_search, " ");
  if (!spec.dns_options.empty()) file.options = join(spec.dns_options, " ");
  std::string text;
  for (const auto& server : servers) text += concat("nameserver ", server, '\n');
  if (!file.search.empty()) text += concat("search ", file.search, '\n');
  if (!file.options.empty()) text += concat("options ", file.options, '\n');
  return text;
}

}  // namespace caisson::engine
