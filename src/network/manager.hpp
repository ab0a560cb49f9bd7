// The NetworkManager of one host: keeps store, kernel and memory in step.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "network/address_pool.hpp"
#include "network/bridge.hpp"
#include "network/firewall.hpp"
#include "network/local_forwarder.hpp"
#include "network/network.hpp"
#include "network/port_reservations.hpp"
#include "network/records.hpp"

namespace caisson::network {

/// Order of work in connect(): memory and ports, then the store, then the kernel; undone in reverse. So a daemon that dies
/// in between leaves at most a record of a container that does not live, which recover() removes.
class HostNetworkManager : public NetworkManager {
 public:
  /// Reads the records; changes nothing. One that cannot be read is put right, and said, by recover(). Errors: invalid (options), and
  /// those of the store.
  static Result<std::unique_ptr<NetworkManager>> create(state::Store& store, const Options& options);

  Result<std::vector<Network>> list() override;
  Result<Network> find(const std::string& name_or_id) override;
  Result<Network> create(const NetworkRequest& request) override;
  Result<Network> remove(const std::string& name_or_id) override;
  Result<Endpoint> connect(const ConnectRequest& request) override;
  Result<ReadyLink> prepare_link(int netns_fd) override;
  void give_back(const ReadyLink& link) override;
  Status bring_up_loopback(int netns_fd) override;
  Status disconnect(const std::string& container_id) override;
  Status disconnect_from(const std::string& container_id, const std::string& network_id, int netns_fd) override;
  Result<std::vector<std::string>> recover(const std::vector<std::string>& live_container_ids) override;
  Result<std::vector<std::pair<std::string, Endpoint>>> endpoints() override;
  std::vector<Endpoint> endpoints_of(const std::string& container_id) override;
  Status shut_down() override;

 private:
  HostNetworkManager(state::Store& store, Options options) : store_(store), options_(std::move(options)), reservations_(options_.bind_on_host) {}

  /// A network with what only memory knows of it.
  struct Known {
    Network definition;
    std::optional<AddressPool> pool;
    std::optional<AddressPool6> pool6;
    std::uint64_t generation = 0;       ///< of the pools; one made anew knows nothing of links made ahead
    std::optional<BridgeState> bridge;  ///< set once bridge and table are there
  };
  using Records = std::vector<EndpointRecord>;

  /// What connect() has prepared under the lock and does without it.
  struct Prepared {
    EndpointRecord record;
    Attachment attachment;
    std::vector<PublishedPort> ports;
    bool is_attached = false;  ///< by prepare_link()
    std::string parent;        ///< of a macvlan; "": it is plugged into a bridge
    std::uint32_t macvlan_mode = 0;
  };
  struct Addresses {
    linux::Ipv4 ipv4;
    std::optional<linux::Ipv6> ipv6;
  };

  // All of these: mutex_ is held.
  // -- manager.cpp
  Status load_records();
  Status ensure_predefined();
  Result<Known*> default_bridge();
  /// Of networks that ask for none: the options', else that of the host's default route.
  Result<std::uint32_t> usual_mtu(linux::NetlinkSocket& socket) const;
  Result<Network> make_bridge_definition();
  Result<Known*> resolve(const std::string& name_or_id);
  Known* known_by_id(const std::string& id);
  [[nodiscard]] bool has_endpoints(const std::string& network_id) const;
  Status save(const Network& definition);
  // -- networks.cpp
  Status ensure_pool(Known& network);
  Status ensure_ready(Known& network);
  Status bring_up(Known& network, linux::NetlinkSocket& socket, std::vector<std::string>& changes);
  Status note_host_changes(Known& network, const std::vector<std::string>& changes);
  Status rebuild_table(const Known* coming);
  Status enter_in_table(Known& network);
  Status leave_table(const Known& network);
  Status take_down(Known& network);
  Status choose_addresses(Network& network);
  Result<Subnet> choose_ipv6_subnet();
  Status check_neighbours(const Network& network) const;
  [[nodiscard]] ForwardPlan forward_plan(const Network& network) const;
  [[nodiscard]] std::vector<PublishedPort> all_ports() const;
  // -- endpoints.cpp
  Result<Prepared> prepare(const ConnectRequest& request);
  Result<Addresses> take_addresses(Known& network, const ConnectRequest& request);
  static void give_back_addresses(Known& network, const Addresses& addresses);
  [[nodiscard]] static Result<linux::MacAddress> choose_mac(const ConnectRequest& request, const Addresses& addresses);
  Status fill_record(Known& network, const ConnectRequest& request, const Addresses& addresses, Prepared& prepared);
  [[nodiscard]] std::string free_interface(const std::string& container_id) const;
  [[nodiscard]] GatewayClaim claim_of(const EndpointRecord& record);
  [[nodiscard]] bool leads_out(const std::string& container_id, const EndpointRecord& record, bool ipv6);
  [[nodiscard]] DefaultRoutes default_routes_of(const std::string& container_id);
  [[nodiscard]] Attachment plain_attachment(const Known& network, int netns_fd, const Addresses& addresses) const;
  Status forget(const std::string& container_id);
  Status forget_one(const std::string& container_id, const std::string& network_id);
  Status move_ports(const std::string& container_id, std::vector<PortBinding> ports);
  Status withdraw(const EndpointRecord& record);
  Status hold_ports(const std::string& container_id, Endpoint& endpoint);
  Status forward_local(const std::string& container_id, Endpoint& endpoint, std::size_t& refused);
  Status forward_port(const std::string& container_id, const Endpoint& endpoint, PortBinding& binding);
  [[nodiscard]] bool answers_on_loopback(const Endpoint& endpoint, const PortBinding& binding) const;
  static Status deliver_answers();
  Status relay_port(const std::string& container_id, const Endpoint& endpoint, const PortBinding& binding);
  Result<LocalForwarder*> forwarder();
  void release_ports(const std::string& container_id);
  void release_addresses(const EndpointRecord& record);
  // -- recover.cpp
  Status reserve_again(const std::string& container_id, EndpointRecord& record, std::vector<std::string>& repairs);
  Status forget_unreadable(std::vector<std::string>& repairs);
  Status forget_dead(const std::set<std::string>& live, std::vector<std::string>& repairs);
  Status restore_definitions(std::vector<std::string>& repairs);
  Status settle_leases(const std::set<std::string>& live, std::vector<std::string>& repairs);
  Result<bool> adopt(const state::Entry& lease, const std::set<std::string>& live, std::vector<std::string>& repairs);

  // Without the lock.
  Status apply(const Prepared& prepared);
  Status attach(const Prepared& prepared);
  Status publish(const std::vector<PublishedPort>& ports);

  state::Store& store_;
  const Options options_;

  std::mutex mutex_;
  std::map<std::string, Known> networks_;   ///< by name
  std::map<std::string, Records> records_;  ///< by container id, in the order of connecting
  std::map<std::string, std::string> unreadable_;  ///< key of a record → why it cannot be read; until recover()
  bool table_is_there_ = false;
  bool keeps_sources_ = false;  ///< relayed connections have their clients' addresses
  std::uint64_t pool_generation_ = 0;  ///< counts the pools there were
  PortReservations reservations_;
  std::unique_ptr<LocalForwarder> forwarder_;  ///< made when the first port that [::1] answers is published
};

/// Published ports of one endpoint, as the table has them.
std::vector<PublishedPort> published_ports(const Endpoint& endpoint);
/// A definition of the network that an endpoint was connected to, for one whose record was lost. Errors: corrupt.
Result<Network> definition_around(const EndpointRecord& record);

}  // namespace caisson::network
