// Networks of one host: their definitions, address management, containers' endpoints, published ports.
// This module takes a network-namespace fd and hands back addresses; it knows no container beyond an id.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/time.hpp"
#include "base/unique_fd.hpp"
#include "linux/rtnetlink.hpp"
#include "linux/socket.hpp"
#include "state/store.hpp"

namespace caisson::network {

enum class Protocol : std::uint8_t { tcp, udp, sctp };  // stored as numbers: append only
/// "tcp", "udp", "sctp".
std::string_view to_string(Protocol protocol);
/// Errors: invalid.
Result<Protocol> parse_protocol(std::string_view name);

struct PortBinding {
  Protocol protocol = Protocol::tcp;
  std::uint16_t container_port = 0;
  std::string host_ip;            ///< "": every address, of both families where the endpoint has both; "0.0.0.0", "::": every one of a family
  std::uint16_t host_port = 0;    ///< 0: pick a free one (of the kernel's ephemeral range)
  std::uint16_t host_port_last = 0;  ///< not 0: pick a free one from host_port to this ("8000-8010:80"); 0 in results
  bool operator==(const PortBinding&) const = default;
};

struct Subnet {
  std::string cidr;     ///< "172.30.0.0/16", "fd00::/64"
  std::string gateway;  ///< "172.30.0.1"; "": none
  std::string range;    ///< addresses are handed out of this part only; "": of all of it
  std::map<std::string, std::string> reserved;  ///< never handed out: name → address
  bool operator==(const Subnet&) const = default;
};

struct Network {
  std::string id;      ///< 64 hex digits
  std::string name;    ///< "bridge", "host", "none", or the user's
  std::string driver;  ///< "bridge", "host", "null", "macvlan"
  std::string bridge_interface;  ///< of driver bridge
  bool adopts_bridge = false;    ///< the bridge was there before the network, so it stays when the network goes
  std::string parent;            ///< of driver macvlan: the host's interface
  bool made_parent = false;      ///< it is a tagged subinterface that was made for this network
  std::vector<Subnet> subnets;
  std::uint32_t mtu = 1500;
  bool internal = false;    ///< no way out of it, and no published ports
  bool attachable = false;  ///< kept and shown; of meaning in clusters only
  bool ipv6 = false;
  bool isolates_containers = false;  ///< com.docker.network.bridge.enable_icc=false
  bool keeps_source = false;         ///< com.docker.network.bridge.enable_ip_masquerade=false
  std::string host_binding;          ///< com.docker.network.bridge.host_binding_ipv4: host address of ports that name none
  TimestampNs created = 0;
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> options;
  std::map<std::string, std::string> ipam_options;
};

/// "bridge", "host" and "none" are always there and cannot be removed.
bool is_predefined(std::string_view name);

/// What a user asks a new network to be.
struct NetworkRequest {
  std::string name;
  std::string driver;          ///< "": bridge
  bool internal = false;
  bool attachable = false;
  bool ipv6 = false;
  std::string ipam_driver;     ///< "", "default"
  std::map<std::string, std::string> ipam_options;
  std::vector<Subnet> subnets; ///< an empty `cidr` or none of a family: chosen
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> options;  ///< of the driver, in docker's words
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
  std::string interface;            ///< name inside; "": the first free one of eth0, eth1, …
  std::vector<PortBinding> ports;   ///< published by the first endpoint of the container whose network can
  std::optional<std::string> ipv4;  ///< a wanted address
  std::optional<std::string> ipv6;
  std::vector<std::string> link_local;  ///< more addresses, of 169.254.0.0/16 or fe80::/10
  std::optional<std::string> mac;
  std::int64_t gateway_priority = 0;    ///< the network with the highest one has the default route
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
  std::string ipv6;                ///< "": none
  std::uint8_t ipv6_prefix_length = 0;
  std::string ipv6_gateway;
};

/// Who may reach published ports from outside. Packets to them are translated before the host's input chains see them, so a host that
/// closes its ports says here for whom they are open.
struct PortPolicy {
  std::vector<std::string> allowed_sources;     ///< "192.168.0.0/16", "fd00::/8"
  std::vector<std::string> allowed_interfaces;  ///< "lan0"
  [[nodiscard]] bool is_declared() const { return !allowed_sources.empty() || !allowed_interfaces.empty(); }
};

struct Options {
  std::string bridge_interface = "caisson0";
  std::string subnet;               ///< "" : the first of 172.30.0.0/16, 172.29…, 10.88… that no route of the host touches
  std::string nft_table = "caisson";  ///< one per engine, so that several engines run side by side
  std::uint32_t mtu = 0;            ///< 0: the MTU of the host's default route, else 1500
  bool enabled = true;              ///< false: no bridge is made; connect() to it is `unsupported`
  PortPolicy published;             ///< undeclared: open to everybody
  /// Set where our network namespace is not the host's (an engine without root): binds published ports on the host, and what comes there is relayed.
  std::function<Result<UniqueFd>(Protocol, const linux::SocketAddress&)> bind_on_host;
  /// Set with it: whether no route of the host touches a subnet that would be chosen.
  std::function<Result<bool>(const linux::Ipv4Prefix&)> is_free_on_host;
};

/// Thread-safe. Privilege: CAP_NET_ADMIN.
class NetworkManager {
 public:
  virtual ~NetworkManager() = default;
  virtual Result<std::vector<Network>> list() = 0;
  /// Full id, name, then unique id prefix. Errors: not_found, invalid (ambiguous).
  virtual Result<Network> find(const std::string& name_or_id) = 0;
  /// Chooses addresses, records the definition and makes the bridge. Errors: invalid, conflict (the name is taken), denied (a name of
  /// ours, addresses of another network), not_found (an unknown driver), unavailable (no addresses left), unsupported.
  virtual Result<Network> create(const NetworkRequest& request) = 0;
  /// Errors: not_found, denied (predefined, or with endpoints). Returns what was removed.
  virtual Result<Network> remove(const std::string& name_or_id) = 0;
  /// veth, addresses, routes, lo up, published ports. The bridge and the nft table are made at the first call (so that an
  /// idle engine touches nothing). Errors: conflict ("port is already allocated" with the address), not_found (network),
  /// conflict (connected already), unavailable (no address left). On error nothing is left behind.
  virtual Result<Endpoint> connect(const ConnectRequest& request) = 0;
  /// What connect() to the default bridge does for a namespace that no container has yet, with the address it will have. Use it up by
  /// connect() (whatever that answers), or give it back. Errors: as connect().
  virtual Result<ReadyLink> prepare_link(int netns_fd) = 0;
  virtual void give_back(const ReadyLink& link) = 0;
  /// Only brings `lo` up: for networks "none" and container-private namespaces.
  virtual Status bring_up_loopback(int netns_fd) = 0;
  /// The end of a container: withdraws ports and returns the addresses of all its endpoints. A veth goes with its namespace (deleting one
  /// takes 15–50 ms). Safe to repeat.
  virtual Status disconnect(const std::string& container_id) = 0;
  /// Takes one network away from a running container: interface, address, ports (another endpoint publishes them from then on, where one
  /// can) and default route. Errors: not_found when it is not connected.
  virtual Status disconnect_from(const std::string& container_id, const std::string& network_id, int netns_fd) = 0;
  /// After a restart of the daemon: keeps the endpoints of `live` containers (ports reserved again), removes all others.
  /// Returns one sentence per repair.
  virtual Result<std::vector<std::string>> recover(const std::vector<std::string>& live_container_ids) = 0;
  /// Endpoints now in use, by container id, each container's in the order they were connected.
  virtual Result<std::vector<std::pair<std::string, Endpoint>>> endpoints() = 0;
  virtual std::vector<Endpoint> endpoints_of(const std::string& container_id) = 0;
  /// Removes the nft table and the bridges (when no endpoint uses them).
  virtual Status shut_down() = 0;
};

Result<std::unique_ptr<NetworkManager>> create_network_manager(state::Store& store, const Options& options);

/// The endpoint that has the default route of its family, docker's rule: not of an internal network, the highest priority, then the
/// first name. Pure; used by what shows a container too.
struct GatewayClaim {
  std::string network_name;
  std::int64_t priority = 0;
  bool internal = false;
};
/// Whether `a` goes before `b`.
bool precedes(const GatewayClaim& a, const GatewayClaim& b);

/// "8080:80", "127.0.0.1:53:53/udp", "80", "8000-8002:80-82/tcp", "[::1]:8080:80". Errors: invalid, naming the text.
Result<std::vector<PortBinding>> parse_publish(std::string_view text);

}  // namespace caisson::network
