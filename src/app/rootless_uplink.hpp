// pasta or slirp4netns: what carries packets between the network namespace of an engine without root and the host.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "app/daemon_options.hpp"
#include "app/rootless_space.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::app {

/// Which program it is; none where none is wanted, or `automatic` finds none. Errors: not_found (one that was asked for is not installed).
struct UplinkProgram {
  RootlessNetwork kind = RootlessNetwork::none;
  std::string path;
};
Result<UplinkProgram> find_uplink(RootlessNetwork wanted);

/// The words that start it for the network namespace of process `holder`. `resolves`: uplink_resolver() shall stand for the first server of the host's
/// /etc/resolv.conf. Pure.
std::vector<std::string> uplink_command(const UplinkProgram& program, int holder, bool resolves);

/// Where the program answers DNS inside, by asking the host's resolver: for a host whose resolver listens on loopback, where no namespace reaches it.
std::string uplink_resolver(RootlessNetwork kind);

/// Whether a resolv.conf names a server by an IPv4 address, as uplink_resolver() has one. Pure.
bool has_ipv4_nameserver(std::string_view resolv_conf);

/// Starts it and waits until the namespace has a default route. Its words go to `log_path`.
/// Errors: unavailable (it ended, or the route did not come in time), with the end of its words.
struct Uplink {
  KnownProcess process;
  UniqueFd pidfd;
};
Result<Uplink> start_uplink(const UplinkProgram& program, int holder, bool resolves, const std::string& log_path);

/// Whether texts of /proc/PID/net/route and ipv6_route have a default route. Pure.
bool has_default_route(std::string_view ipv4_routes, std::string_view ipv6_routes);

}  // namespace caisson::app
