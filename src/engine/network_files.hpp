// The texts of a container's /etc/hosts and /etc/resolv.conf. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/types.hpp"

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
std::string resolv_conf_text(std::string_view host_text, const ContainerSpec& spec);

/// Whether every nameserver of that file is on loopback, so that the file of systemd-resolved's own servers should be read instead.
bool has_only_loopback_nameservers(std::string_view resolv_conf);

}  // namespace caisson::engine
