// Connection tracking: forgetting the UDP flows of a port, so that a changed translation takes effect at once.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.hpp"
#include "linux/rtnetlink.hpp"

namespace caisson::linux {

/// Forgets all tracked IPv4 UDP flows of this network namespace whose first packet went to `port` (and to `address`, when
/// given). A tracked flow keeps its translation for as long as its client keeps sending, whatever the rules say by then.
/// Returns how many were forgotten; 0 on a kernel without ctnetlink, where they end by their time-out (30 to 120 s).
/// Privilege: CAP_NET_ADMIN. Cost: the kernel walks its table once.
Result<std::size_t> forget_udp_flows(std::uint16_t port, std::optional<Ipv4> address);
/// The same for IPv6 flows to any address.
Result<std::size_t> forget_udp6_flows(std::uint16_t port);

}  // namespace caisson::linux
