// Networks of one host: the default bridge, address management, published ports.
// This module takes a network-namespace fd and hands back addresses; it knows no container beyond an id.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/time.hpp"
#include "base/unique_fd.hpp"
#include "state/store.hpp"

namespace caisson::network {

enum class Protocol : std::uint8_t { tcp, udp };

struct PortBinding {
  Protocol protocol = Protocol::tcp;
  std::uint16_t container_port = 0;
  std::string host_ip;            ///< "" and "0.0.0.0": every address
  std::uint16_t host_port = 0;    ///< 0: pick a free one (of the kernel's ephemeral range)
  std::uint16_t host_port_last = 0;  ///< not 0: pick a free one from host_port to this ("8000-8010:80"); 0 in results
  bool operator==(const PortBinding&) const = default;
};

struct Subnet {
  std::string cidr;     ///< "172.30.0.0/16"
  std::string gateway;  ///< "172.30.0.1"
};

struct Network {
  std::string id;      ///< 64 hex digits
  std::string name;    ///< "bridge", "host", "none"
  std::string driver;  ///< "bridge", "host", "null"
  std::string bridge_interface;
  std::vector<Subnet> subnets;
  std::uint32_t mtu = 1500;
  TimestampNs created = 0;
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> options;
};

/// A link to the default bridge made before its container exists. Nothing of it is recorded: link and address die with the namespace and the
/// daemon's memory.
struct ReadyLink {
  std::string ipv4;
  std::string host_interface;
  std::uint64_t generation = 0;  ///< of the pool its address is taken from; one made anew knows nothing of it
};

struct ConnectRequest {
  std::string container_id;
  std::string network = "bridge";   ///< name or id
  int netns_fd = -1;                ///< borrowed; owned by the container's user namespace
  std::string interface = "eth0";   ///< name inside
  std::vector<PortBinding> ports;
  std::optional<std::string> ipv4;  ///< a wanted address
  std::optional<std::string> mac;
  std::map<std::string, std::string> sysctls;
  std::optional<ReadyLink> ready;   ///< already in the namespace: only for the default bridge, interface and address, without sysctls
};

struct Endpoint {
  std::string endpoint_id;
  std::string network_id;
  std::string network_name;
  std::string interface;
  std::string ipv4;
  std::uint8_t prefix_length = 0;
  std::string gateway;
  std::string mac;
  std::vector<PortBinding> ports;  ///< host ports filled in
};

struct Options {
  std::string bridge_interface = "caisson0";
  std::string subnet;               ///< "" : the first of 172.30.0.0/16, 172.29…, 10.88… that no route of the host touches
  std::string nft_table = "caisson";  ///< one per engine, so that several engines run side by side
  std::uint32_t mtu = 0;            ///< 0: the MTU of the host's default route, else 1500
  bool enabled = true;              ///< false: no bridge is made; connect() to it is `unsupported`
};

/// Thread-safe. Privilege: CAP_NET_ADMIN.
class NetworkManager {
 public:
  virtual ~NetworkManager() = default;
  virtual Result<std::vector<Network>> list() = 0;
  /// Errors: not_found.
  virtual Result<Network> find(const std::string& name_or_id) = 0;
  /// veth, address, routes, lo up, published ports. The bridge and the nft table are made at the first call (so that an
  /// idle engine touches nothing). Errors: conflict ("port is already allocated" with the address), not_found (network),
  /// unavailable (no address left). On error nothing is left behind.
  virtual Result<Endpoint> connect(const ConnectRequest& request) = 0;
  /// What connect() to the default bridge does for a namespace that no container has yet, with the address it will have. Use it up by
  /// connect() (whatever that answers), or give it back. Errors: as connect().
  virtual Result<ReadyLink> prepare_link(int netns_fd) = 0;
  virtual void give_back(const ReadyLink& link) = 0;
  /// Only brings `lo` up: for networks "none" and container-private namespaces.
  virtual Status bring_up_loopback(int netns_fd) = 0;
  /// Withdraws ports and returns the address. The veth goes with its namespace (deleting one takes 15–50 ms). Safe to repeat.
  virtual Status disconnect(const std::string& container_id) = 0;
  /// After a restart of the daemon: keeps the endpoints of `live` containers (ports reserved again), removes all others.
  /// Returns one sentence per repair.
  virtual Result<std::vector<std::string>> recover(const std::vector<std::string>& live_container_ids) = 0;
  /// Endpoints now in use, by container id.
  virtual Result<std::vector<std::pair<std::string, Endpoint>>> endpoints() = 0;
  /// Removes the nft table and the bridge (when no endpoint uses it).
  virtual Status shut_down() = 0;
};

Result<std::unique_ptr<NetworkManager>> create_network_manager(state::Store& store, const Options& options);

/// "8080:80", "127.0.0.1:53:53/udp", "80", "8000-8002:80-82/tcp", "[::1]:8080:80". Errors: invalid, naming the text.
Result<std::vector<PortBinding>> parse_publish(std::string_view text);

}  // namespace caisson::network
