// The texts of a container's /etc/hosts and /etc/resolv.conf. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/types.hpp"
#include "network/dns_server.hpp"

namespace caisson::engine {

/// An address and its names.
struct HostsLine {
  std::string address;
  std::vector<std::string> names;
};

/// `endpoints`: none without a network of its own. "host-gateway" in
/// extra_hosts stands for the first gateway; without one such entries are left out. `links`: of other containers.
std::string hosts_text(const ContainerSpec& spec, const std::string& hostname, const std::vector<network::Endpoint>& endpoints, const std::vector<HostsLine>& links);

/// From the host's file: without nameservers on loopback, which are not the container's (unless it shares the host's network),
/// and with the user's own servers, domains and options in place of the host's. Without any server left: public ones, docker's rule.
/// `has_embedded_dns`: names are asked at 127.0.0.11, with docker's ndots:0 unless somebody has chosen another.
std::string resolv_conf_text(std::string_view host_text, const ContainerSpec& spec, bool has_embedded_dns = false);

/// What the embedded DNS server asks on behalf of a container: the user's servers, else the host's. `forwards`: the container has a way out.
/// Errors: invalid (a server that is no address).
Result<network::DnsConfig> dns_config(std::string_view host_text, const ContainerSpec& spec, bool forwards);

/// Whether every nameserver of that file is on loopback, so that the file of systemd-resolved's own servers should be read instead.
bool has_only_loopback_nameservers(std::string_view resolv_conf);

}  // namespace caisson::engine
