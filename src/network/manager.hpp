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
  Result<Endpoint> connect(const ConnectRequest& request) override;
  Result<ReadyLink> prepare_link(int netns_fd) override;
  void give_back(const ReadyLink& link) override;
  Status bring_up_loopback(int netns_fd) override;
  Status disconnect(const std::string& container_id) override;
  Result<std::vector<std::string>> recover(const std::vector<std::string>& live_container_ids) override;
  Result<std::vector<std::pair<std::string, Endpoint>>> endpoints() override;
  Status shut_down() override;

 private:
  HostNetworkManager(state::Store& store, Options options) : store_(store), options_(std::move(options)) {}

  /// What connect() has prepared under the lock and does without it.
  struct Prepared {
    EndpointRecord record;
    Attachment attachment;
    std::vector<PublishedPort> ports;
    bool is_attached = false;  ///< by prepare_link()
  };

  // All of these: mutex_ is held.
  Result<std::vector<Network>> definitions();
  Result<Network> bridge_definition();
  Result<Network> make_bridge_definition();
  Status load_records();
  Status ensure_pool();
  Status ensure_ready();
  Status rebuild_table();
  Result<Prepared> prepare(const ConnectRequest& request);
  Result<linux::Ipv4> take_address(const ConnectRequest& request);
  [[nodiscard]] Attachment plain_attachment(const Network& network, int netns_fd, linux::Ipv4 address) const;
  Status forget(const std::string& container_id);
  [[nodiscard]] std::vector<PublishedPort> all_ports() const;
  Status reserve_again(const std::string& container_id, EndpointRecord& record, std::vector<std::string>& repairs);
  Status forget_unreadable(std::vector<std::string>& repairs);
  Result<bool> adopt(const state::Entry& lease, const std::set<std::string>& live, std::vector<std::string>& repairs);

  // Without the lock.
  Status apply(const Prepared& prepared);
  Status publish(const std::vector<PublishedPort>& ports);

  state::Store& store_;
  const Options options_;

  std::mutex mutex_;
  std::map<std::string, EndpointRecord> records_;  ///< by container id
  std::map<std::string, std::string> unreadable_;  ///< key of a record → why it cannot be read; until recover()
  std::optional<Network> bridge_;
  std::optional<FirewallPlan> firewall_;
  std::optional<AddressPool> pool_;
  std::uint64_t pool_generation_ = 0;  ///< counts the pools there were
  std::optional<BridgeState> bridge_state_;  ///< set once bridge and table are there
  PortReservations reservations_;
};

}  // namespace caisson::network
