// Endpoints: connecting containers to networks and taking them away again.
#include <algorithm>
#include <cerrno>
#include <set>

#include "base/ids.hpp"
#include "base/strings.hpp"
#include "linux/nfnetlink_conntrack.hpp"
#include "network/definition.hpp"
#include "network/manager.hpp"

namespace caisson::network {
namespace {

std::string host_interface_of(const std::string& random) { return concat("veth", random.substr(0, 7)); }

/// Clients that keep sending UDP to a port keep the translation (or the lack of one) of their first packet.
Status forget_flows(const std::vector<PublishedPort>& ports) {
  for (const auto& port : ports) {
    if (port.binding.protocol != Protocol::udp) continue;
    auto addresses = TRY_PLAIN(host_addresses(port.binding, port.container6.has_value()));
    if (addresses.ipv4) {
      std::optional<linux::Ipv4> only_on;
      if (addresses.ipv4->value != 0) only_on = addresses.ipv4;
      TRY_PLAIN(linux::forget_udp_flows(port.binding.host_port, only_on));
    }
    if (addresses.ipv6) TRY_PLAIN(linux::forget_udp6_flows(port.binding.host_port));
  }
  return {};
}

bool is_taken(const std::vector<EndpointRecord>& records, const std::string& interface) {
  return std::any_of(records.begin(), records.end(), [&](const auto& record) { return record.endpoint.interface == interface; });
}

bool holds_ports(const std::vector<EndpointRecord>& records) {
  return std::any_of(records.begin(), records.end(), [](const auto& record) { return !record.endpoint.ports.empty(); });
}

Status add_link_local(const std::vector<std::string>& texts, Attachment& attachment) {
  for (const auto& text : texts) {
    if (text.find(':') == std::string::npos) {
      auto address = TRY(linux::parse_ipv4(text), "--link-local-ip");
      if (address.value >> 16 != 0xa9fe) return Error(ErrorKind::invalid, concat("link-local IP address ", text, " is not of 169.254.0.0/16"));
      attachment.link_local.push_back(address);
      continue;
    }
    auto address = TRY(linux::parse_ipv6(text), "--link-local-ip");
    if (address.high >> 54 != 0x3fa) return Error(ErrorKind::invalid, concat("link-local IP address ", text, " is not of fe80::/10"));
    attachment.link_local6.push_back(address);
  }
  return {};
}

}  // namespace

Status HostNetworkManager::bring_up_loopback(int netns_fd) {
  TRY(bring_up_loopback_in(netns_fd), "bringing up the loopback interface");
  return {};
}

Result<std::vector<std::pair<std::string, Endpoint>>> HostNetworkManager::endpoints() {
  std::lock_guard lock(mutex_);
  std::vector<std::pair<std::string, Endpoint>> all;
  for (const auto& [container_id, records] : records_)
    for (const auto& record : records) all.emplace_back(container_id, record.endpoint);
  return all;
}

std::vector<Endpoint> HostNetworkManager::endpoints_of(const std::string& container_id) {
  std::lock_guard lock(mutex_);
  std::vector<Endpoint> all;
  auto found = records_.find(container_id);
  if (found == records_.end()) return all;
  for (const auto& record : found->second) all.push_back(record.endpoint);
  return all;
}

Attachment HostNetworkManager::plain_attachment(const Known& network, int netns_fd, const Addresses& addresses) const {
  const Network& definition = network.definition;
  Attachment attachment;
  attachment.bridge_index = network.bridge ? network.bridge->index : 0;
  attachment.mtu = definition.mtu;
  // Where our table sees bridged packets, its rule suffices; an isolated port would also refuse what is translated to it on the bridge.
  attachment.isolated = definition.isolates_containers && !(network.bridge && network.bridge->shows_bridged);
  attachment.interface = "eth0";
  attachment.netns_fd = netns_fd;
  attachment.mac = mac_of(addresses.ipv4);
  attachment.address = addresses.ipv4;
  attachment.prefix_length = network.pool->subnet().length;
  attachment.address6 = addresses.ipv6;
  if (network.pool6) attachment.prefix_length6 = network.pool6->subnet().length;
  return attachment;
}

Result<ReadyLink> HostNetworkManager::prepare_link(int netns_fd) {
  if (!options_.enabled) return Error(ErrorKind::unsupported, "this engine was started without a bridge network");
  Attachment attachment;
  std::uint64_t generation = 0;
  {
    std::lock_guard lock(mutex_);
    Known* network = TRY(default_bridge(), "preparing a link");
    TRY(ensure_ready(*network), "preparing a link");
    Addresses addresses;
    addresses.ipv4 = TRY(network->pool->take(), "preparing a link");
    attachment = plain_attachment(*network, netns_fd, addresses);
    if (auto gateway = linux::parse_ipv4(network->definition.subnets.front().gateway)) attachment.gateway = *gateway;
    generation = network->generation;
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
  auto found = networks_.find("bridge");
  // The pool may have been made anew since, with the bridge; then the address is another link's by now, or will be.
  if (found == networks_.end() || !found->second.pool || link.generation != found->second.generation) return;
  if (auto address = linux::parse_ipv4(link.ipv4)) found->second.pool->give_back(*address);
}

Result<HostNetworkManager::Addresses> HostNetworkManager::take_addresses(Known& network, const ConnectRequest& request) {
  Addresses addresses;
  if (request.ready) {
    addresses.ipv4 = TRY_PLAIN(linux::parse_ipv4(request.ready->ipv4));  // taken by prepare_link()
    return addresses;
  }
  if (request.ipv4) {
    addresses.ipv4 = TRY(linux::parse_ipv4(*request.ipv4), "--ip");
    TRY_PLAIN(network.pool->take(addresses.ipv4));
  } else {
    addresses.ipv4 = TRY_PLAIN(network.pool->take());
  }
  auto take_ipv6 = [&]() -> Status {
    if (request.ipv6 && !network.pool6)
      return Error(ErrorKind::invalid, concat("IPv6 address ", *request.ipv6, ": network ", network.definition.name, " has no IPv6 subnet"));
    if (!network.pool6) return {};
    if (!request.ipv6) {
      addresses.ipv6 = TRY_PLAIN(network.pool6->take());
      return {};
    }
    auto wanted = TRY(linux::parse_ipv6(*request.ipv6), "--ip6");
    TRY_PLAIN(network.pool6->take(wanted));
    addresses.ipv6 = wanted;
    return {};
  };
  if (Status taken = take_ipv6(); !taken) {
    network.pool->give_back(addresses.ipv4);
    return std::move(taken).error();
  }
  return addresses;
}

void HostNetworkManager::give_back_addresses(Known& network, const Addresses& addresses) {
  if (network.pool) network.pool->give_back(addresses.ipv4);
  if (network.pool6 && addresses.ipv6) network.pool6->give_back(*addresses.ipv6);
}

Result<linux::MacAddress> HostNetworkManager::choose_mac(const ConnectRequest& request, const Addresses& addresses) {
  if (request.mac) return linux::parse_mac(*request.mac);
  return mac_of(addresses.ipv4);
}

std::string HostNetworkManager::free_interface(const std::string& container_id) const {
  auto found = records_.find(container_id);
  for (int number = 0;; ++number) {
    std::string name = concat("eth", number);
    if (found == records_.end() || !is_taken(found->second, name)) return name;
  }
}

GatewayClaim HostNetworkManager::claim_of(const EndpointRecord& record) {
  GatewayClaim claim;
  claim.network_name = record.endpoint.network_name;
  claim.priority = record.gateway_priority;
  const Known* network = known_by_id(record.endpoint.network_id);
  claim.internal = network != nullptr && network->definition.internal;
  return claim;
}

/// Whether the default route of a family leads through `record`, beside the container's other endpoints.
bool HostNetworkManager::leads_out(const std::string& container_id, const EndpointRecord& record, bool ipv6) {
  auto gateway = [&](const EndpointRecord& of) -> const std::string& { return ipv6 ? of.endpoint.ipv6_gateway : of.endpoint.gateway; };
  if (gateway(record).empty()) return false;
  const GatewayClaim claim = claim_of(record);
  for (const auto& other : records_[container_id]) {
    if (other.endpoint.endpoint_id == record.endpoint.endpoint_id || gateway(other).empty()) continue;
    if (precedes(claim_of(other), claim)) return false;
  }
  return true;
}

DefaultRoutes HostNetworkManager::default_routes_of(const std::string& container_id) {
  DefaultRoutes routes;
  auto found = records_.find(container_id);
  if (found == records_.end()) return routes;
  for (const auto& record : found->second) {
    if (auto gateway = linux::parse_ipv4(record.endpoint.gateway); gateway && leads_out(container_id, record, false)) {
      routes.interface = record.endpoint.interface;
      routes.gateway = *gateway;
    }
    if (auto gateway = linux::parse_ipv6(record.endpoint.ipv6_gateway); gateway && leads_out(container_id, record, true)) {
      routes.interface6 = record.endpoint.interface;
      routes.gateway6 = *gateway;
    }
  }
  return routes;
}

/// Record and attachment; reserves the ports. Changes nothing else.
Status HostNetworkManager::fill_record(Known& network, const ConnectRequest& request, const Addresses& addresses, Prepared& prepared) {
  const Network& definition = network.definition;
  EndpointRecord& record = prepared.record;
  Endpoint& endpoint = record.endpoint;
  Attachment& attachment = prepared.attachment;
  attachment = plain_attachment(network, request.netns_fd, addresses);
  attachment.mac = TRY_PLAIN(choose_mac(request, addresses));
  TRY_PLAIN(add_link_local(request.link_local, attachment));
  const Records& others = records_[request.container_id];
  if (can_publish(definition) && !holds_ports(others)) endpoint.ports = request.ports;
  for (auto& binding : endpoint.ports)
    if (binding.host_ip.empty()) binding.host_ip = definition.host_binding;
  const Subnet* subnet6 = ipv6_subnet(definition);
  endpoint.endpoint_id = random_id();
  endpoint.network_id = definition.id;
  endpoint.network_name = definition.name;
  endpoint.interface = attachment.interface = request.interface.empty() ? free_interface(request.container_id) : request.interface;
  endpoint.ipv4 = linux::to_string(addresses.ipv4);
  endpoint.prefix_length = attachment.prefix_length;
  if (!definition.internal) endpoint.gateway = ipv4_subnet(definition)->gateway;
  endpoint.mac = linux::to_string(attachment.mac);
  if (addresses.ipv6) {
    endpoint.ipv6 = linux::to_string(*addresses.ipv6);
    endpoint.ipv6_prefix_length = attachment.prefix_length6;
    if (!definition.internal) endpoint.ipv6_gateway = subnet6->gateway;
  }
  TRY_PLAIN(hold_ports(request.container_id, endpoint));
  prepared.is_attached = request.ready.has_value();
  if (definition.driver == "bridge") record.host_interface = request.ready ? request.ready->host_interface : host_interface_of(endpoint.endpoint_id);
  record.gateway_priority = request.gateway_priority;
  record.sequence = others.empty() ? 1 : others.back().sequence + 1;
  record.key = endpoint_key(request.container_id, definition.id);
  attachment.host_interface = record.host_interface;
  attachment.hairpin = network.bridge && network.bridge->needs_hairpin && !endpoint.ports.empty();
  attachment.sysctls = request.sysctls;
  if (auto gateway = linux::parse_ipv4(endpoint.gateway); gateway && leads_out(request.container_id, record, false)) attachment.gateway = *gateway;
  if (auto gateway = linux::parse_ipv6(endpoint.ipv6_gateway); gateway && leads_out(request.container_id, record, true)) attachment.gateway6 = *gateway;
  prepared.ports = published_ports(endpoint);
  return {};
}

Result<HostNetworkManager::Prepared> HostNetworkManager::prepare(const ConnectRequest& request) {
  Known* network = TRY_PLAIN(resolve(request.network));
  const Network& definition = network->definition;
  if (definition.driver != "bridge" && definition.driver != "macvlan")
    return Error(ErrorKind::invalid, concat("network ", definition.name, " has no interfaces to connect"));
  if (!request.interface.empty()) TRY_PLAIN(check_interface_name(request.interface));
  auto records = records_.find(request.container_id);
  const bool has_others = records != records_.end();
  if (has_others && std::any_of(records->second.begin(), records->second.end(), [&](const auto& record) { return record.endpoint.network_id == definition.id; }))
    return Error(ErrorKind::conflict, concat("container ", request.container_id, " is already connected to network ", definition.name));
  if (definition.driver == "bridge") TRY_PLAIN(ensure_ready(*network));
  else TRY_PLAIN(ensure_pool(*network));
  if (request.ready && (definition.name != "bridge" || request.ready->generation != network->generation))
    return Error(ErrorKind::not_found, concat("interface ", request.ready->host_interface, " was prepared for a bridge that is gone"));

  Prepared prepared;
  if (definition.driver == "macvlan") {
    prepared.parent = definition.parent;
    prepared.macvlan_mode = TRY_PLAIN(macvlan_mode(definition));
  }
  const Addresses addresses = TRY_PLAIN(take_addresses(*network, request));
  auto undo = [&] {
    if (!request.ready) give_back_addresses(*network, addresses);  // connect() gives back what was ready
    if (!has_others) records_.erase(request.container_id);
    if (!prepared.record.endpoint.ports.empty()) release_ports(request.container_id);
  };
  Status filled = fill_record(*network, request, addresses, prepared);
  if (!filled) {
    prepared.record.endpoint.ports.clear();  // hold_ports() has taken all or none
    undo();
    return std::move(filled).error();
  }
  const EndpointRecord& record = prepared.record;
  state::Transaction transaction;
  transaction.require_absent(record.key).put(record.key, to_text(record));
  for (const auto& address : {record.endpoint.ipv4, record.endpoint.ipv6})
    if (!address.empty())
      transaction.require_absent(address_key(definition.id, address)).put(address_key(definition.id, address), lease_text(request.container_id));
  auto committed = store_.commit(transaction);
  if (!committed) {
    undo();
    return std::move(committed).error().in("recording the endpoint");
  }
  records_[request.container_id].push_back(record);
  return prepared;
}

Status HostNetworkManager::publish(const std::vector<PublishedPort>& ports) {
  Status added = linux::add_nft_elements(options_.nft_table, port_elements(ports));
  if (!added && added.error().kind() == ErrorKind::not_found) {
    // Somebody has flushed the host's ruleset. All endpoints are in memory, this one too: write the whole table again.
    std::lock_guard lock(mutex_);
    added = rebuild_table(nullptr);
  }
  if (!added) return added;
  return forget_flows(ports);
}

Status HostNetworkManager::attach(const Prepared& prepared) {
  if (prepared.is_attached) return complete_attachment(prepared.attachment);
  if (prepared.parent.empty()) return attach_container(prepared.attachment);
  linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink());
  bool made = false;
  auto parent = TRY_PLAIN(ensure_parent(socket, prepared.parent, made));
  return attach_to_parent(prepared.attachment, parent, prepared.macvlan_mode);
}

Status HostNetworkManager::apply(const Prepared& prepared) {
  Status attached = attach(prepared);
  if (!attached) return attached;
  Status published = publish(prepared.ports);
  // Ports are of bridges alone. The first error is the one to report.
  if (!published) ignore(remove_interface(prepared.attachment.host_interface));
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
    const std::string& network_id = prepared->record.endpoint.network_id;
    Known* network = known_by_id(network_id);
    // The bridge is gone: the next connect makes it again.
    if (network != nullptr && applied.error().kind() == ErrorKind::not_found) network->bridge.reset();
    ignore(forget_one(request.container_id, network_id));  // the first error is the one to report; recover() removes what this leaves
    return std::move(applied).error().in(step);
  }
  return prepared->record.endpoint;
}

Status HostNetworkManager::withdraw(const EndpointRecord& record) {
  auto ports = published_ports(record.endpoint);
  if (ports.empty()) return {};
  TRY(linux::delete_nft_elements(options_.nft_table, port_elements(ports)), "withdrawing published ports");
  TRY(forget_flows(ports), "withdrawing published ports");
  return {};
}

/// Reserves the endpoint's ports on the host, all or none, and fills in those that were free to choose.
Status HostNetworkManager::hold_ports(const std::string& container_id, Endpoint& endpoint) {
  constexpr int most_attempts = 16;  // a port that the kernel chose may be taken on ::1
  std::vector<PortBinding> wanted = endpoint.ports;
  for (int attempt = 1;; ++attempt) {
    endpoint.ports = wanted;
    TRY_PLAIN(reservations_.reserve(container_id, endpoint.ports, !endpoint.ipv6.empty()));
    std::size_t refused = 0;
    Status forwarded = forward_local(container_id, endpoint, refused);
    if (forwarded) return {};
    release_ports(container_id);
    if (forwarded.error().kind() != ErrorKind::conflict || attempt == most_attempts) return forwarded;
    // The next one of a range, or another one of the kernel's choice.
    PortBinding& binding = wanted[refused];
    const std::uint16_t port = endpoint.ports[refused].host_port;
    if (binding.host_port != 0 && port >= binding.host_port_last) return forwarded;
    if (binding.host_port != 0) binding.host_port = static_cast<std::uint16_t>(port + 1);
  }
}

/// `refused`: on error, the number of the binding it is about.
Status HostNetworkManager::forward_local(const std::string& container_id, Endpoint& endpoint, std::size_t& refused) {
  for (std::size_t i = 0; i < endpoint.ports.size(); ++i) {
    refused = i;
    if (answers_on_loopback(endpoint, endpoint.ports[i])) TRY_PLAIN(forward_port(container_id, endpoint, endpoint.ports[i]));
    if (options_.bind_on_host) TRY_PLAIN(relay_port(container_id, endpoint, endpoint.ports[i]));
  }
  return {};
}

/// Where a relay serves the host's [::] too, that is its [::1].
bool HostNetworkManager::answers_on_loopback(const Endpoint& endpoint, const PortBinding& binding) const {
  return is_forwarded(binding) || (has_loopback_twin(binding) && (!options_.bind_on_host || endpoint.ipv6.empty()));
}

Result<LocalForwarder*> HostNetworkManager::forwarder() {
  if (forwarder_) return forwarder_.get();
  LocalForwarder::BindLoopback bind;
  if (options_.bind_on_host)
    bind = [this](Protocol protocol, std::uint16_t port) { return options_.bind_on_host(protocol, linux::SocketAddress::ipv6(linux::Ipv6{0, 1}.bytes(), port)); };
  forwarder_ = TRY_PLAIN(LocalForwarder::create(std::move(bind)));
  return forwarder_.get();
}

/// The sockets on the host that hold the port lead to the container from now on; what the table says of the port is for packets of our own namespace.
Status HostNetworkManager::relay_port(const std::string& container_id, const Endpoint& endpoint, const PortBinding& binding) {
  if (is_forwarded(binding)) return {};
  if (binding.protocol == Protocol::sctp)
    return Error(ErrorKind::unsupported, concat("port ", binding.container_port, "/sctp: without root only ports of tcp and udp are published"));
  LocalForwarder* relays = TRY_PLAIN(forwarder());
  for (auto& held : TRY_PLAIN(reservations_.sockets_of(container_id, binding))) {
    RelayPlace place;
    place.socket = std::move(held.socket);
    place.target = held.is_v6 ? linux::SocketAddress::ipv6(TRY_PLAIN(linux::parse_ipv6(endpoint.ipv6)).bytes(), binding.container_port)
                              : linux::SocketAddress::ipv4(TRY_PLAIN(linux::parse_ipv4(endpoint.ipv4)).value, binding.container_port);
    place.keeps_source = keeps_sources_;
    if (options_.published.is_declared()) {
      auto sources = options_.published.allowed_sources;
      sources.insert(sources.end(), {"127.0.0.0/8", "::1/128"});  // the host itself, which the firewall of an engine of root does not ask either
      place.admits = [sources = std::move(sources)](const linux::SocketAddress& client) { return is_allowed_source(sources, client); };
    }
    TRY(relays->relay(container_id, binding.protocol, std::move(place)), host_endpoint_text(binding));
  }
  return {};
}

Status HostNetworkManager::forward_port(const std::string& container_id, const Endpoint& endpoint, PortBinding& binding) {
  LocalForwarder* relays = TRY_PLAIN(forwarder());
  const auto target = linux::SocketAddress::ipv4(TRY_PLAIN(linux::parse_ipv4(endpoint.ipv4)).value, binding.container_port);
  if (!options_.bind_on_host) TRY_PLAIN(reservations_.set_shared(container_id, binding, true));
  auto port = relays->add(container_id, binding, target);
  if (!options_.bind_on_host) TRY_PLAIN(reservations_.set_shared(container_id, binding, false));
  // "Every address" of a host without IPv6 is every one of IPv4; dockerd starts such a container too.
  if (!port && port.error().kind() == ErrorKind::unsupported && binding.host_ip.empty()) return {};
  if (!port) return std::move(port).error();
  binding.host_port = *port;
  binding.host_port_last = 0;
  return {};
}

void HostNetworkManager::release_ports(const std::string& container_id) {
  reservations_.release(container_id);
  if (forwarder_) ignore(forwarder_->remove(container_id));  // fails only when no thread can be started, and then nothing serves them
}

void HostNetworkManager::release_addresses(const EndpointRecord& record) {
  Known* network = known_by_id(record.endpoint.network_id);
  if (network == nullptr) return;
  Addresses addresses;
  if (auto address = linux::parse_ipv4(record.endpoint.ipv4)) addresses.ipv4 = *address;
  if (auto address = linux::parse_ipv6(record.endpoint.ipv6)) addresses.ipv6 = *address;
  give_back_addresses(*network, addresses);
}

namespace {
void erase_record(state::Transaction& transaction, const EndpointRecord& record) {
  transaction.frees = true;
  transaction.erase(record.key);
  for (const auto& address : {record.endpoint.ipv4, record.endpoint.ipv6})
    if (!address.empty()) transaction.erase(address_key(record.endpoint.network_id, address));
}
}  // namespace

/// Withdraws ports, records, leases and addresses.
Status HostNetworkManager::forget(const std::string& container_id) {
  auto found = records_.find(container_id);
  if (found == records_.end()) return {};
  state::Transaction transaction;
  for (const auto& record : found->second) {
    TRY_PLAIN(withdraw(record));
    erase_record(transaction, record);
  }
  TRY(store_.commit(transaction), "removing the endpoint's record");
  release_ports(container_id);
  for (const auto& record : found->second) release_addresses(record);
  records_.erase(found);
  return {};
}

/// The same of one endpoint. Its ports are released with it.
Status HostNetworkManager::forget_one(const std::string& container_id, const std::string& network_id) {
  auto found = records_.find(container_id);
  if (found == records_.end()) return {};
  auto record = std::find_if(found->second.begin(), found->second.end(), [&](const auto& each) { return each.endpoint.network_id == network_id; });
  if (record == found->second.end()) return {};
  TRY_PLAIN(withdraw(*record));
  state::Transaction transaction;
  erase_record(transaction, *record);
  TRY(store_.commit(transaction), "removing the endpoint's record");
  if (!record->endpoint.ports.empty()) release_ports(container_id);
  release_addresses(*record);
  found->second.erase(record);
  if (found->second.empty()) records_.erase(found);
  return {};
}

Status HostNetworkManager::disconnect(const std::string& container_id) {
  std::lock_guard lock(mutex_);
  TRY(forget(container_id), concat("disconnecting container ", container_id.substr(0, 12)));
  return {};
}

/// To the endpoint that goes before all others that can have them; to none when there is none.
Status HostNetworkManager::move_ports(const std::string& container_id, std::vector<PortBinding> ports) {
  auto found = records_.find(container_id);
  if (ports.empty() || found == records_.end()) return {};
  EndpointRecord* heir = nullptr;
  for (auto& record : found->second) {
    const Known* network = known_by_id(record.endpoint.network_id);
    if (network == nullptr || !can_publish(network->definition)) continue;
    if (heir == nullptr || precedes(claim_of(record), claim_of(*heir))) heir = &record;
  }
  if (heir == nullptr) return {};
  Endpoint endpoint = heir->endpoint;
  endpoint.ports = std::move(ports);
  TRY_PLAIN(hold_ports(container_id, endpoint));
  heir->endpoint = std::move(endpoint);
  state::Transaction transaction;
  transaction.put(heir->key, to_text(*heir));
  TRY_PLAIN(store_.commit(transaction));
  const Known* network = known_by_id(heir->endpoint.network_id);
  if (network->bridge && network->bridge->needs_hairpin) TRY_PLAIN(enable_hairpin(heir->host_interface));
  const auto published = published_ports(heir->endpoint);
  TRY_PLAIN(linux::add_nft_elements(options_.nft_table, port_elements(published)));
  return forget_flows(published);
}

Status HostNetworkManager::disconnect_from(const std::string& container_id, const std::string& network_id, int netns_fd) {
  const std::string step = concat("disconnecting container ", container_id.substr(0, 12));
  std::optional<EndpointRecord> leaving;
  {
    std::lock_guard lock(mutex_);
    if (auto found = records_.find(container_id); found != records_.end())
      for (const auto& record : found->second)
        if (record.endpoint.network_id == network_id) leaving = record;
  }
  if (!leaving) return Error(ErrorKind::not_found, concat(step, ": it is not connected to network ", network_id));
  // The interface first: while it is there, so must be the record.
  TRY(leaving->host_interface.empty() ? remove_interface_in(netns_fd, leaving->endpoint.interface) : remove_interface(leaving->host_interface), step);
  DefaultRoutes routes;
  {
    std::lock_guard lock(mutex_);
    TRY(forget_one(container_id, network_id), step);
    TRY(move_ports(container_id, leaving->endpoint.ports), concat(step, ": moving its published ports"));
    routes = default_routes_of(container_id);
  }
  TRY(set_default_routes(netns_fd, routes), step);
  return {};
}

}  // namespace caisson::network
