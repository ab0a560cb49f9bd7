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

namespace {
constexpr std::string_view public_servers[] = {"8.8.8.8", "8.8.4.4"};  // docker's choice for a host without any

std::string options_of(const ResolverFile& file, const ContainerSpec& spec) {
  return spec.dns_options.empty() ? file.options : join(spec.dns_options, " ");
}

/// The number behind "ndots:"; none when no option says it.
std::optional<std::uint32_t> ndots_of(std::string_view options) {
  for (auto option : split(options, ' ')) {
    const Halves halves = split_once(option, ':');
    if (halves.before != "ndots") continue;
    if (auto number = parse_integer<std::uint32_t>(halves.after); number.ok()) return *number;
  }
  return std::nullopt;
}
}  // namespace

std::string resolv_conf_text(std::string_view host_text, const ContainerSpec& spec, bool has_embedded_dns) {
  auto file = parse_resolver(host_text);
  std::vector<std::string> servers;
  bool shares_host_network = spec.network.mode == "host";
  for (const auto& server : file.servers)
    if (shares_host_network || !is_loopback(server)) servers.push_back(server);
  if (!spec.dns.empty()) servers = spec.dns;
  if (servers.empty()) servers.assign(std::begin(public_servers), std::end(public_servers));
  std::string options = options_of(file, spec);
  if (has_embedded_dns) {
    servers = {linux::to_string(network::dns_address)};
    if (!ndots_of(options)) options += options.empty() ? "ndots:0" : " ndots:0";
  }
  if (!spec.dns_search.empty()) file.search = spec.dns_search.size() == 1 && spec.dns_search[0] == "." ? "" : join(spec.dns_search, " ");
  std::string text;
  for (const auto& server : servers) text += concat("nameserver ", server, '\n');
  if (!file.search.empty()) text += concat("search ", file.search, '\n');
  if (!options.empty()) text += concat("options ", options, '\n');
  return text;
}

Result<network::DnsConfig> dns_config(std::string_view host_text, const ContainerSpec& spec, bool forwards) {
  network::DnsConfig config;
  config.upstreams = spec.dns.empty() ? network::host_upstreams(host_text) : TRY_PLAIN(network::container_upstreams(spec.dns));
  if (config.upstreams.empty()) config.upstreams = TRY_PLAIN(network::container_upstreams({std::begin(public_servers), std::end(public_servers)}));
  config.forwards = forwards;
  config.keeps_single_labels = ndots_of(options_of(parse_resolver(host_text), spec)).value_or(0) > 0;
  return config;
}

}  // namespace caisson::engine
