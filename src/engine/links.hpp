// Links (--link): what one container knows of another by an alias. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/types.hpp"

namespace caisson::engine {

struct Link {
  std::string target;  ///< id (what create records), or name as a client wrote it
  std::string alias;   ///< "db"; dockerd takes slashes too
};

/// "db", "db:alias", and inspect's "/db:/web/alias".
Link parse_link(std::string_view text);
/// The alias's last component: what /etc/hosts and the variables call it.
std::string link_host_name(const Link& link);

/// DB_PORT, DB_PORT_80_TCP and its _ADDR, _PORT, _PROTO, those of runs of ports, DB_NAME, DB_ENV_*: byte for byte and in the order of dockerd
/// 20.10 (libnetwork's links.go, observed), where the first port is the lowest. Repeated names are left to merge_environment().
/// `owner`: the name of the container that links; `address`: of `target` on the default bridge.
std::vector<std::string> link_environment(const std::string& owner, const Link& link, const std::string& address, const ContainerSpec& target);

}  // namespace caisson::engine
