// DnsServer: the resolver that containers on user-defined networks find at 127.0.0.11. It answers the names of a container's
// networks itself and asks the host's or the user's servers for all others.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.hpp"
#include "linux/rtnetlink.hpp"
#include "linux/socket.hpp"

namespace caisson::network {

/// An IPv6 address in network byte order, as linux::SocketAddress::ipv6 takes it.
using Ipv6Bytes = std::array<std::uint8_t, 16>;
using IpAddress = std::variant<linux::Ipv4, Ipv6Bytes>;

/// What one name stands for. Both empty: the name is not known here.
struct NameAddresses {
  std::vector<linux::Ipv4> ipv4;
  std::vector<Ipv6Bytes> ipv6;
  [[nodiscard]] bool empty() const { return ipv4.empty() && ipv6.empty(); }
  bool operator==(const NameAddresses&) const = default;
};

/// What the containers of this host are called. Implementations are thread-safe and quick: they are asked for every query, on the one
/// thread that serves all containers, which holds no lock then (so an implementation may take the lock under which its owner
/// calls DnsServer).
class NameSource {
 public:
  virtual ~NameSource() = default;
  /// `name`: lower case, without the dot at its end. Addresses of everything called so on the networks that `container_id` is connected
  /// to: names, aliases, short ids, links, and each of them followed by "." and the network's name (docker answers both).
  virtual NameAddresses addresses_of(const std::string& container_id, std::string_view name) = 0;
  /// The name of an address on one of these networks, for PTR: docker answers "web.backend" (container, network). Empty: not known here.
  virtual std::string name_of(const std::string& container_id, const IpAddress& address) = 0;
};

/// A server that is asked what we do not know.
struct DnsUpstream {
  linux::SocketAddress address;  ///< with its port
  /// Asked from the host's network namespace instead of the container's: for the host's own servers on its loopback.
  bool from_host = false;
};

struct DnsConfig {
  std::vector<DnsUpstream> upstreams;  ///< asked in this order, at most dns_upstream_limit of them
  /// False for a container that is on internal networks only: foreign names are answered with SERVFAIL, so that a resolver of the host is no
  /// way out (CVE-2024-29018).
  bool forwards = true;
  /// The container's options hold an ndots above 0: a name without a dot that is not known here is answered as empty, so that the client
  /// goes on with its search domains, instead of being asked upstream (docker's rule).
  bool keeps_single_labels = false;
};
inline constexpr std::size_t dns_upstream_limit = 3;  ///< docker's

/// The address containers find in their resolv.conf.
inline constexpr linux::Ipv4 dns_address{127U << 24 | 11U};

/// The servers of a resolv.conf in their order: the host's own on loopback are asked from the host. Lines that are no address are skipped.
std::vector<DnsUpstream> host_upstreams(std::string_view resolv_conf);
/// Servers that the user has named (`--dns`): asked from the container, wherever they are. Errors: invalid (no address).
Result<std::vector<DnsUpstream>> container_upstreams(const std::vector<std::string>& addresses);

/// Thread-safe. One thread serves all containers. Everything lives in sockets inside the containers' namespaces, and in a small nftables
/// table there that leads port 53 of 127.0.0.11 to them; so a container may have a DNS server of its own on 0.0.0.0:53.
class DnsServer {
 public:
  /// `names` must outlive the server. The network namespace of the caller is "the host's".
  static Result<std::unique_ptr<DnsServer>> create(NameSource& names);
  virtual ~DnsServer() = default;

  /// Makes 127.0.0.11 answer in the namespace `netns_fd` (borrowed) on behalf of `container_id`; in place when this returns. A new daemon
  /// calls it for containers that run: the sockets of the old one died with it, its rules are replaced in one transaction. Called
  /// again for the same container it starts anew. Brings `lo` up. Privilege: CAP_NET_ADMIN and CAP_SYS_ADMIN over the
  /// namespace. Errors: unsupported (no nf_tables in this kernel), unavailable (descriptors are short), by errno. On error no socket is left.
  virtual Status serve(const std::string& container_id, int netns_fd, DnsConfig config) = 0;
  /// Takes effect for queries that come afterwards. A container that is not served: no effect.
  virtual Status update(const std::string& container_id, DnsConfig config) = 0;
  /// Closes the sockets, which would keep the container's namespace (and its veth) alive. Done by the serving thread within a moment of
  /// this call; never waits, so it may be called under any lock. A container that is not served: no effect.
  virtual Status forget(const std::string& container_id) = 0;
};

}  // namespace caisson::network
