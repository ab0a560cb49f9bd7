// nfnetlink: a table that leads one port of a local address to other ports, without connection tracking and without starting nft.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.hpp"
#include "linux/netlink.hpp"
#include "linux/rtnetlink.hpp"

namespace caisson::linux {

struct PortRedirect {
  std::string table;         ///< of family ip; replaced when it is there
  Ipv4 address;              ///< on loopback: packets and their answers both pass this namespace's output hook
  std::uint16_t port = 0;    ///< what clients ask
  std::uint16_t udp_port = 0;  ///< where the sockets are
  std::uint16_t tcp_port = 0;
};

enum class RedirectTable : std::uint8_t { fresh, replaced };

/// The bytes of one transaction. Pure. `fresh` fails with EEXIST when the table is there.
///
/// The ports are written into the packets and back out of the answers; there is no NAT. So no packet of this namespace is tracked because of
/// it, and a client that keeps one socket for ever reaches the new port at its next packet when the rules are replaced, where a tracked flow
/// would go on to the old one. The request is changed before connection tracking (priority raw) and its answer behind it (postrouting), so
/// that a firewall with tracking inside sees one consistent flow.
NetlinkBatch port_redirect_batch(const PortRedirect& redirect, RedirectTable table);

/// Puts it into the calling thread's network namespace, all or nothing. Takes 0.2 ms where nothing has to be taken away, also when the same
/// redirect is there already; else the kernel waits for all readers of the old rules (7 to 25 ms measured). Errors: unsupported (no nf_tables), denied.
/// Privilege: CAP_NET_ADMIN.
Status install_port_redirect(const PortRedirect& redirect);

}  // namespace caisson::linux
