// Endpoints: connecting containers, disconnecting them, and finding them again after a restart.
#include <algorithm>
#include <cerrno>
#include <set>

#include "base/ids.hpp"
#include "base/strings.hpp"
#include "linux/nfnetlink_conntrack.hpp"
#include "network/manager.hpp"

namespace caisson::network {

Status HostNetworkManager::bring_up_loopback(int netns_fd) {
  TRY(bring_up_loopback_in(netns_fd), "bringing up the loopback interface");
  return {};
}

Result<std::vector<std::pair<std::string, Endpoint>>> HostNetworkManager::endpoints() {
  std::lock_guard lock(mutex_);
  std::vector<std::pair<std::string, Endpoint>> all;
  for (const auto& [container_id, record] : records_) all.emplace_back(container_id, record.endpoint);
  return all;
}

Result<linux::Ipv4> HostNetworkManager::take_address(const ConnectRequest& request) {
  if (request.ready) return linux::parse_ipv4(request.ready->ipv4);  // taken by prepare_link()
  if (!request.ipv4) return pool_->take();
  auto wanted = TRY(linux::parse_ipv4(*request.ipv4), "--ip");
  TRY_PLAIN(pool_->take(wanted));
  return wanted;
}

namespace {
std::string host_interface_of(const std::string& random) { return concat("veth", random.substr(0, 7)); }
}  // namespace

Attachment HostNetworkManager::plain_attachment(const Network& network, int netns_fd, linux::Ipv4 address) const {
  Attachment attachment;
  attachment.bridge_index = bridge_state_->index;
  attachment.mtu = network.mtu;
  attachment.interface = ConnectRequest().interface;
  attachment.netns_fd = netns_fd;
  attachment.mac = mac_of(address);
  attachment.address = address;
  attachment.prefix_length = firewall_->subnet.length;
  attachment.gateway = linux::parse_ipv4(network.subnets.front().gateway).value_or(linux::Ipv4{});
  return attachment;
}

Result<ReadyLink> HostNetworkManager::prepare_link(int netns_fd) {
  if (!options_.enabled) return Error(ErrorKind::unsupported, "this engine was started without a bridge network");
  Attachment attachment;
  std::uint64_t generation = 0;
  {
    std::lock_guard lock(mutex_);
    Network network = TRY(bridge_definition(), "preparing a link");
    TRY(ensure_ready(), "preparing a link");
    attachment = plain_attachment(network, netns_fd, TRY(pool_->take(), "preparing a link"));
    generation = pool_generation_;
  }
  attachment.host_interface = host_interface_of(random_id());
  ReadyLink link;
  link.ipv4 = linux::to_string(attachment.address);
  link.host_interface = attachment.host_interface;
  link.generation = generation;
  auto attached = attach_container(attachment);
  if (attached) return link;
  give_back(link);
  return std::move(attached).error().in("preparing a link");
}

void HostNetworkManager::give_back(const ReadyLink& link) {
  std::lock_guard lock(mutex_);
  // The pool may have been made anew since, with the bridge; then the address is another link's by now, or will be.
  if (!pool_ || link.generation != pool_generation_) return;
  if (auto address = linux::parse_ipv4(link.ipv4)) pool_->give_back(*address);
}

Result<HostNetworkManager::Prepared> HostNetworkManager::prepare(const ConnectRequest& request) {
  Network network = TRY_PLAIN(bridge_definition());
  if (request.network != network.name && request.network != network.id)
    return Error(ErrorKind::not_found, concat("network ", request.network, " not found"));
  TRY_PLAIN(check_interface_name(request.interface));
  if (records_.contains(request.container_id))
    return Error(ErrorKind::conflict, concat("container ", request.container_id, " is already connected to network ", network.name));
  TRY_PLAIN(ensure_ready());
  if (request.ready && request.ready->generation != pool_generation_)
    return Error(ErrorKind::not_found, concat("interface ", request.ready->host_interface, " was prepared for a bridge that is gone"));

  Prepared prepared;
  Endpoint& endpoint = prepared.record.endpoint;
  linux::Ipv4 address = TRY_PLAIN(take_address(request));
  auto undo_address = [&] {
    if (!request.ready) pool_->give_back(address);  // connect() gives back what was ready
  };
  linux::MacAddress mac = mac_of(address);
  if (request.mac) {
    auto wanted = linux::parse_mac(*request.mac);
    if (!wanted) {
      undo_address();
      return std::move(wanted).error();
    }
    mac = *wanted;
  }
  endpoint.ports = request.ports;
  Status reserved = reservations_.reserve(request.container_id, endpoint.ports);
  if (!reserved) {
    undo_address();
    return std::move(reserved).error();
  }
  endpoint.endpoint_id = random_id();
  endpoint.network_id = network.id;
  endpoint.network_name = network.name;
  endpoint.interface = request.interface;
  endpoint.ipv4 = linux::to_string(address);
  endpoint.prefix_length = firewall_->subnet.length;
  endpoint.gateway = network.subnets.front().gateway;
  endpoint.mac = linux::to_string(mac);
  prepared.is_attached = request.ready.has_value();
  prepared.record.host_interface = request.ready ? request.ready->host_interface : host_interface_of(endpoint.endpoint_id);

  state::Transaction transaction;
  transaction.require_absent(endpoint_key(request.container_id))
      .require_absent(address_key(network.id, endpoint.ipv4))
      .put(endpoint_key(request.container_id), to_text(prepared.record))
      .put(address_key(network.id, endpoint.ipv4), lease_text(request.container_id));
  auto committed = store_.commit(transaction);
  if (!committed) {
    reservations_.release(request.container_id);
    undo_address();
    return std::move(committed).error().in("recording the endpoint");
  }
  records_[request.container_id] = prepared.record;

  Attachment& attachment = prepared.attachment;
  attachment = plain_attachment(network, request.netns_fd, address);
  attachment.hairpin = bridge_state_->needs_hairpin && !endpoint.ports.empty();
  attachment.host_interface = prepared.record.host_interface;
  attachment.interface = request.interface;
  attachment.mac = mac;
  attachment.sysctls = request.sysctls;
  for (const auto& binding : endpoint.ports) prepared.ports.push_back({binding, address});
  return prepared;
}

namespace {

/// Clients that keep sending UDP to a port keep the translation (or the lack of one) of their first packet.
Status forget_flows(const std::vector<PublishedPort>& ports) {
  for (const auto& port : ports) {
    if (port.binding.protocol != Protocol::udp) continue;
    linux::Ipv4 address = TRY_PLAIN(host_address(port.binding));
    std::optional<linux::Ipv4> only_on;
    if (address.value != 0) only_on = address;
    TRY_PLAIN(linux::forget_udp_flows(port.binding.host_port, only_on));
  }
  return {};
}

}  // namespace

Status HostNetworkManager::publish(const std::vector<PublishedPort>& ports) {
  Status added = linux::add_nft_elements(options_.nft_table, port_elements(ports));
  if (!added && added.error().kind() == ErrorKind::not_found) {
    // Somebody has flushed the host's ruleset. All endpoints are in memory, this one too: write the whole table again.
    std::lock_guard lock(mutex_);
    added = rebuild_table();
  }
  if (!added) return added;
  return forget_flows(ports);
}

Status HostNetworkManager::apply(const Prepared& prepared) {
  Status attached = prepared.is_attached ? complete_attachment(prepared.attachment) : attach_container(prepared.attachment);
  if (!attached) return attached;
  Status published = publish(prepared.ports);
  if (!published) ignore(remove_interface(prepared.attachment.host_interface));  // the first error is the one to report
  return published;
}

Result<Endpoint> HostNetworkManager::connect(const ConnectRequest& request) {
  if (!options_.enabled)
    return Error(ErrorKind::unsupported, "this engine was started without a bridge network").with_hint("use --network none or --network host");
  if (request.container_id.empty()) return Error(ErrorKind::invalid, "connecting to a network: the container's id is empty");
  std::string step = concat("connecting container ", request.container_id.substr(0, 12), " to network ", request.network);
  std::optional<Prepared> prepared;
  {
    std::unique_lock lock(mutex_);
    auto result = prepare(request);
    lock.unlock();
    if (!result && request.ready) give_back(*request.ready);
    prepared = TRY(std::move(result), step);
  }
  Status applied = apply(*prepared);
  if (!applied) {
    std::lock_guard lock(mutex_);
    if (applied.error().kind() == ErrorKind::not_found) bridge_state_.reset();  // the bridge is gone: the next connect makes it again
    ignore(forget(request.container_id));  // the first error is the one to report; recover() removes what this leaves
    return std::move(applied).error().in(step);
  }
  return prepared->record.endpoint;
}

/// Withdraws ports, record, lease and address.
Status HostNetworkManager::forget(const std::string& container_id) {
  auto found = records_.find(container_id);
  if (found == records_.end()) return {};
  const Endpoint endpoint = found->second.endpoint;
  std::vector<PublishedPort> ports;
  auto address = linux::parse_ipv4(endpoint.ipv4);
  if (address)
    for (const auto& binding : endpoint.ports) ports.push_back({binding, *address});
  if (!ports.empty()) {
    TRY(linux::delete_nft_elements(options_.nft_table, port_elements(ports)), "withdrawing published ports");
    TRY(forget_flows(ports), "withdrawing published ports");
  }
  state::Transaction transaction;
  transaction.erase(endpoint_key(container_id)).erase(address_key(endpoint.network_id, endpoint.ipv4));
  TRY(store_.commit(transaction), "removing the endpoint's record");
  reservations_.release(container_id);
  if (address && pool_) pool_->give_back(*address);
  records_.erase(container_id);
  return {};
}

Status HostNetworkManager::disconnect(const std::string& container_id) {
  std::lock_guard lock(mutex_);
  TRY(forget(container_id), concat("disconnecting container ", container_id.substr(0, 12)));
  return {};
}

/// Ports that cannot be had again are dropped from the endpoint, and said; the container runs on.
Status HostNetworkManager::reserve_again(const std::string& container_id, EndpointRecord& record, std::vector<std::string>& repairs) {
  reservations_.release(container_id);  // recover() may be called twice
  std::vector<PortBinding> kept;
  for (const auto& binding : record.endpoint.ports) {
    std::vector<PortBinding> one = {binding};
    Status reserved = reservations_.reserve(container_id, one);
    if (reserved) kept.push_back(binding);
    else repairs.push_back(concat("container ", container_id.substr(0, 12), ": ", reserved.error().text(), "; the port is not published any more"));
  }
  if (kept.size() == record.endpoint.ports.size()) return {};
  record.endpoint.ports = kept;
  state::Transaction transaction;
  transaction.put(endpoint_key(container_id), to_text(record));
  TRY(store_.commit(transaction), "recording the endpoint");
  return {};
}

/// Unreadable records would come up again at every start, and forbid their container a new endpoint.
Status HostNetworkManager::forget_unreadable(std::vector<std::string>& repairs) {
  for (const auto& [key, reason] : unreadable_) {
    state::Transaction transaction;
    transaction.erase(key);
    TRY(store_.commit(transaction), concat("removing the unreadable record ", key));
    repairs.push_back(concat("the record ", key, " cannot be read (", reason, ") and was removed"));
  }
  unreadable_.clear();
  return {};
}

/// A container that runs without a readable endpoint record, but whose address lease names it, gets a new record: nobody else may be
/// given its address. Its published ports were known by the lost record alone. False when the lease is nobody's.
Result<bool> HostNetworkManager::adopt(const state::Entry& lease, const std::set<std::string>& live, std::vector<std::string>& repairs) {
  auto container_id = container_of_lease(lease.value, lease.key);
  if (!container_id || !options_.enabled || !live.contains(*container_id) || records_.contains(*container_id)) return false;
  Network network = TRY_PLAIN(bridge_definition());
  EndpointRecord record;
  Endpoint& endpoint = record.endpoint;
  endpoint.ipv4 = split_last(lease.key, '/').after;
  auto address = linux::parse_ipv4(endpoint.ipv4);
  if (!address || network.subnets.empty() || lease.key != address_key(network.id, endpoint.ipv4)) return false;
  endpoint.endpoint_id = random_id();
  endpoint.network_id = network.id;
  endpoint.network_name = network.name;
  endpoint.interface = "eth0";
  endpoint.prefix_length = TRY_PLAIN(linux::parse_ipv4_prefix(network.subnets.front().cidr)).length;
  endpoint.gateway = network.subnets.front().gateway;
  endpoint.mac = linux::to_string(mac_of(*address));
  state::Transaction transaction;
  transaction.put(endpoint_key(*container_id), to_text(record));
  TRY(store_.commit(transaction), "recording the endpoint");
  records_[*container_id] = std::move(record);
  pool_.reset();  // it does not know the address yet
  repairs.push_back(concat("container ", container_id->substr(0, 12), ": its network endpoint was made anew from its address ", records_[*container_id].endpoint.ipv4,
                           "; ports it had published are not published any more until it starts again"));
  return true;
}

Result<std::vector<std::string>> HostNetworkManager::recover(const std::vector<std::string>& live_container_ids) {
  std::lock_guard lock(mutex_);
  std::vector<std::string> repairs;
  const std::set<std::string> live(live_container_ids.begin(), live_container_ids.end());
  TRY_PLAIN(forget_unreadable(repairs));
  std::vector<std::string> gone;
  for (const auto& [container_id, record] : records_)
    if (!live.contains(container_id)) gone.push_back(container_id);
  for (const auto& container_id : gone) {
    std::string address = records_[container_id].endpoint.ipv4;
    TRY(forget(container_id), concat("network of container ", container_id.substr(0, 12)));
    repairs.push_back(concat("removed the network endpoint ", address, " of container ", container_id.substr(0, 12), ", which does not run"));
  }
  // Leases without an endpoint: written by nobody, but a store put back from a backup may have them.
  std::set<std::string> leased;
  for (const auto& [container_id, record] : records_) leased.insert(address_key(record.endpoint.network_id, record.endpoint.ipv4));
  for (const auto& entry : TRY(store_.list(address_prefix), "reading address leases")) {
    if (leased.contains(entry.key) || TRY_PLAIN(adopt(entry, live, repairs))) continue;
    state::Transaction transaction;
    transaction.erase(entry.key);
    TRY(store_.commit(transaction), "removing an address lease");
    repairs.push_back(concat("removed the address lease ", entry.key.substr(address_prefix.size()), ", which no endpoint uses"));
  }
  if (records_.empty()) return repairs;
  for (auto& [container_id, record] : records_) TRY(reserve_again(container_id, record, repairs), concat("network of container ", container_id.substr(0, 12)));
  if (options_.enabled) TRY_PLAIN(ensure_ready());
  return repairs;
}

}  // namespace caisson::network
