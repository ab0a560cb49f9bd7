// How networks come and go: chosen addresses, bridge and firewall.
#include <algorithm>

#include "base/ids.hpp"
#include "base/json.hpp"
#include "base/strings.hpp"
#include "network/definition.hpp"
#include "network/manager.hpp"

namespace caisson::network {
namespace {

constexpr const char* ula_key = "network/ula";

Result<BridgeRules> rules_of(const Network& network) {
  const Subnet* subnet = ipv4_subnet(network);
  if (subnet == nullptr) return Error(ErrorKind::corrupt, concat("network ", network.name, ": its record has no subnet"));
  BridgeRules rules;
  rules.bridge = network.bridge_interface;
  rules.subnet = TRY_PLAIN(linux::parse_ipv4_prefix(subnet->cidr));
  if (const Subnet* subnet6 = ipv6_subnet(network)) rules.subnet6 = TRY_PLAIN(linux::parse_ipv6_prefix(subnet6->cidr));
  rules.internal = network.internal;
  rules.isolates_containers = network.isolates_containers;
  rules.keeps_source = network.keeps_source;
  return rules;
}

Result<BridgePlan> plan_of(const Network& network) {
  const Subnet* subnet = ipv4_subnet(network);
  if (subnet == nullptr) return Error(ErrorKind::corrupt, concat("network ", network.name, ": its record has no subnet"));
  BridgePlan plan;
  plan.name = network.bridge_interface;
  plan.subnet = TRY_PLAIN(linux::parse_ipv4_prefix(subnet->cidr));
  plan.gateway = TRY_PLAIN(linux::parse_ipv4(subnet->gateway));
  plan.mtu = network.mtu;
  plan.internal = network.internal;
  const Subnet* subnet6 = ipv6_subnet(network);
  if (subnet6 == nullptr) return plan;
  plan.subnet6 = TRY_PLAIN(linux::parse_ipv6_prefix(subnet6->cidr));
  plan.gateway6 = TRY_PLAIN(linux::parse_ipv6(subnet6->gateway));
  return plan;
}

}  // namespace

std::vector<PublishedPort> published_ports(const Endpoint& endpoint) {
  std::vector<PublishedPort> ports;
  auto address = linux::parse_ipv4(endpoint.ipv4);
  if (!address) return ports;  // ensure_pool has refused such a record already
  std::optional<linux::Ipv6> address6;
  if (auto parsed = linux::parse_ipv6(endpoint.ipv6)) address6 = *parsed;
  for (const auto& binding : endpoint.ports) ports.push_back({binding, *address, address6});
  return ports;
}

std::vector<PublishedPort> HostNetworkManager::all_ports() const {
  std::vector<PublishedPort> all;
  for (const auto& [container_id, records] : records_)
    for (const auto& record : records)
      for (auto& port : published_ports(record.endpoint)) all.push_back(std::move(port));
  return all;
}

ForwardPlan HostNetworkManager::forward_plan(const Network& network) const {
  ForwardPlan plan;
  plan.table = options_.nft_table;
  plan.bridge = network.bridge_interface;
  plan.mark = concat("caisson:", options_.nft_table);
  // The default bridge's mark is that of builds that had no other.
  if (network.name != "bridge") plan.mark += concat(":", network.bridge_interface);
  plan.ipv6 = network.ipv6;
  return plan;
}

/// Every bridge that is there, that containers hang on, or that is about to come.
Status HostNetworkManager::rebuild_table(const Known* coming) {
  FirewallPlan plan;
  plan.table = options_.nft_table;
  plan.published = options_.published;
  plan.relays = options_.bind_on_host != nullptr;
  for (const auto& [name, network] : networks_) {
    const Network& definition = network.definition;
    if (definition.driver != "bridge") continue;
    if (network.bridge || &network == coming || has_endpoints(definition.id)) plan.bridges.push_back(TRY_PLAIN(rules_of(definition)));
  }
  TRY_PLAIN(install_table(plan, all_ports()));
  table_is_there_ = true;
  return {};
}

Status HostNetworkManager::deliver_answers() {
  auto socket = TRY_PLAIN(linux::NetlinkSocket::open(NETLINK_ROUTE));
  for (const int family : {AF_INET, AF_INET6}) {
    linux::NetlinkBatch batch;
    linux::add_local_delivery(batch, static_cast<std::uint8_t>(family), answer_mark, answer_table);
    for (const auto& answer : TRY_PLAIN(socket.exchange(batch))) {
      const bool is_there = answer.error_number == 0 || answer.error_number == EEXIST;
      if (!is_there && family == AF_INET) return linux::netlink_error(answer);  // a host may have no IPv6
    }
  }
  return {};
}

Status HostNetworkManager::enter_in_table(Known& network) {
  if (!table_is_there_) return rebuild_table(&network);
  Status added = run_table_change(options_.nft_table, add_bridge_text(options_.nft_table, TRY_PLAIN(rules_of(network.definition))));
  // Somebody may have flushed the host's ruleset.
  return added ? std::move(added) : rebuild_table(&network);
}

/// Precondition: network.bridge is not set, and it has no endpoints.
Status HostNetworkManager::leave_table(const Known& network) {
  if (!table_is_there_) return {};
  Status left = run_table_change(options_.nft_table, delete_bridge_text(options_.nft_table, TRY_PLAIN(rules_of(network.definition))));
  return left ? std::move(left) : rebuild_table(nullptr);
}

Status HostNetworkManager::take_down(Known& network) {
  const Network& definition = network.definition;
  TRY_PLAIN(close_forward_chains(forward_plan(definition)));
  linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink());
  // The bridge before its lines in the table: it never forwards without its default-deny.
  if (!definition.adopts_bridge) TRY_PLAIN(remove_bridge(socket, definition.bridge_interface));
  const bool was_up = network.bridge.has_value();
  network.bridge.reset();
  network.pool.reset();  // with the links that were made ahead
  network.pool6.reset();
  return was_up ? leave_table(network) : Status();
}

Status HostNetworkManager::ensure_pool(Known& network) {
  if (network.pool) return {};
  const Network& definition = network.definition;
  const Subnet* subnet = ipv4_subnet(definition);
  if (subnet == nullptr) return Error(ErrorKind::corrupt, concat("network ", definition.name, ": its record has no subnet"));
  AddressPool pool = TRY(AddressPool::create(*subnet), concat("network ", definition.name));
  std::optional<AddressPool6> pool6;
  if (const Subnet* subnet6 = ipv6_subnet(definition)) pool6 = TRY(AddressPool6::create(*subnet6), concat("network ", definition.name));
  for (const auto& [container_id, records] : records_) {
    for (const auto& record : records) {
      if (record.endpoint.network_id != definition.id) continue;
      const std::string step = concat("endpoint of container ", container_id);
      TRY(pool.take(TRY(linux::parse_ipv4(record.endpoint.ipv4), step)), step);
      if (pool6 && !record.endpoint.ipv6.empty()) TRY(pool6->take(TRY(linux::parse_ipv6(record.endpoint.ipv6), step)), step);
    }
  }
  network.pool = std::move(pool);
  network.pool6 = std::move(pool6);
  network.generation = ++pool_generation_;
  return {};
}

Status HostNetworkManager::bring_up(Known& network, linux::NetlinkSocket& socket, std::vector<std::string>& changes) {
  // The table first: the bridge must never forward without its default-deny.
  TRY_PLAIN(enter_in_table(network));
  auto state = TRY_PLAIN(ensure_bridge(socket, TRY_PLAIN(plan_of(network.definition))));
  changes = TRY_PLAIN(open_forward_chains(forward_plan(network.definition)));
  changes.insert(changes.end(), state.host_changes.begin(), state.host_changes.end());
  network.bridge = std::move(state);
  return {};
}

Status HostNetworkManager::ensure_ready(Known& network) {
  if (network.bridge) return {};
  TRY_PLAIN(ensure_pool(network));
  const Network& definition = network.definition;
  const std::string step = concat("network ", definition.name);
  linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink());
  const bool existed = TRY(interface_exists(socket, definition.bridge_interface), step);
  std::vector<std::string> changes;
  Status up = bring_up(network, socket, changes);
  if (!up) {
    // The first error is the one to report.
    if (!existed) {
      ignore(close_forward_chains(forward_plan(definition)));
      ignore(remove_bridge(socket, definition.bridge_interface));
      ignore(leave_table(network));
    }
    return std::move(up).error().in(step);
  }
  return note_host_changes(network, changes);
}

/// Remembered where an administrator looks: `network inspect`.
Status HostNetworkManager::note_host_changes(Known& network, const std::vector<std::string>& changes) {
  if (changes.empty()) return {};
  for (std::size_t i = 0; i < changes.size(); ++i) network.definition.options[concat("host_change.", i)] = changes[i];
  return save(network.definition);
}

Status HostNetworkManager::check_neighbours(const Network& network) const {
  for (const auto& [name, other] : networks_) {
    if (name == network.name) return Error(ErrorKind::conflict, concat("network with name ", name, " already exists"));
    TRY_PLAIN(check_overlaps(network, other.definition));
    if (!network.bridge_interface.empty() && network.bridge_interface == other.definition.bridge_interface)
      return Error(ErrorKind::denied, concat("networks have same bridge name: ", network.bridge_interface, " is the bridge of network ", name));
  }
  return {};
}

/// A /64 of a /48 of our own, drawn once per engine as RFC 4193 wants it: nobody else's network has it.
Result<Subnet> HostNetworkManager::choose_ipv6_subnet() {
  std::string site;
  auto entry = store_.get(ula_key);
  if (entry) {
    auto document = TRY_PLAIN(parse_json(entry->value, ula_key));
    TRY_PLAIN(JsonView(document, ula_key).read(site));
  } else if (entry.error().kind() == ErrorKind::not_found) {
    const std::string random = random_id();
    site = concat("fd", random.substr(0, 2), ":", random.substr(2, 4), ":", random.substr(6, 4), "::/48");
    state::Transaction transaction;
    transaction.put(ula_key, caisson::to_text(json::value(site)));
    TRY_PLAIN(store_.commit(transaction));
  } else {
    return std::move(entry).error();
  }
  const auto prefix = TRY(linux::parse_ipv6_prefix(site), ula_key);
  for (std::uint64_t number = 1; number < 65536; ++number) {
    Network candidate;
    Subnet subnet;
    subnet.cidr = linux::to_string(linux::Ipv6Prefix{{prefix.address.high | number, 0}, 64});
    subnet.gateway = TRY_PLAIN(first_address(subnet.cidr));
    candidate.subnets = {subnet};
    const bool is_taken = std::any_of(networks_.begin(), networks_.end(), [&](const auto& known) { return !check_overlaps(candidate, known.second.definition); });
    if (!is_taken) return subnet;
  }
  return Error(ErrorKind::unavailable, concat("no IPv6 subnet left in ", site));
}

Status HostNetworkManager::choose_addresses(Network& network) {
  linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink());
  if (network.mtu == 0 && network.driver == "bridge") network.mtu = TRY_PLAIN(usual_mtu(socket));
  if (network.driver == "bridge") network.adopts_bridge = TRY_PLAIN(interface_exists(socket, network.bridge_interface));
  if (ipv4_subnet(network) == nullptr) {
    std::vector<linux::Ipv4Prefix> taken;
    for (const auto& [name, other] : networks_) {
      auto prefixes = ipv4_subnets(other.definition);
      taken.insert(taken.end(), prefixes.begin(), prefixes.end());
    }
    Subnet subnet;
    subnet.cidr = linux::to_string(TRY_PLAIN(choose_subnet(socket, "", taken, options_.is_free_on_host)));
    subnet.gateway = TRY_PLAIN(first_address(subnet.cidr));
    network.subnets.insert(network.subnets.begin(), std::move(subnet));
  }
  if (network.ipv6 && ipv6_subnet(network) == nullptr) network.subnets.push_back(TRY_PLAIN(choose_ipv6_subnet()));
  return {};
}

Result<Network> HostNetworkManager::create(const NetworkRequest& request) {
  if (!options_.enabled) return Error(ErrorKind::unsupported, "this engine was started without networks").with_hint("start the daemon without --network=false");
  Network definition = TRY_PLAIN(define_network(request));
  std::lock_guard lock(mutex_);
  TRY_PLAIN(ensure_predefined());
  TRY_PLAIN(check_neighbours(definition));
  const std::string step = concat("network ", definition.name);
  TRY(choose_addresses(definition), step);
  if (definition.driver == "macvlan") {
    linux::NetlinkSocket socket = TRY_PLAIN(linux::open_rtnetlink());
    TRY(ensure_parent(socket, definition.parent, definition.made_parent), step);
  }
  state::Transaction transaction;
  transaction.require_absent(definition_key(definition.name)).put(definition_key(definition.name), to_text(definition));
  TRY(store_.commit(transaction), concat(step, ": recording its definition"));
  Known& network = networks_[definition.name];
  network.definition = definition;
  Status ready = definition.driver == "bridge" ? ensure_ready(network) : ensure_pool(network);
  if (ready) return network.definition;
  networks_.erase(definition.name);
  state::Transaction undo;
  undo.erase(definition_key(definition.name));
  if (auto undone = store_.commit(undo); !undone) return std::move(ready).error().in(concat("its record stays: ", undone.error().text()));
  return std::move(ready).error();
}

Result<Network> HostNetworkManager::remove(const std::string& name_or_id) {
  std::lock_guard lock(mutex_);
  Known* network = TRY_PLAIN(resolve(name_or_id));
  const Network definition = network->definition;
  const std::string step = concat("error while removing network ", definition.name);
  if (is_predefined(definition.name)) return Error(ErrorKind::denied, concat(definition.name, " is a pre-defined network and cannot be removed"));
  if (has_endpoints(definition.id))
    return Error(ErrorKind::denied, concat("error while removing network: network ", definition.name, " id ", definition.id, " has active endpoints"));
  if (definition.driver == "bridge") TRY(take_down(*network), step);
  if (definition.made_parent) TRY(remove_interface(definition.parent), step);
  // The record last: what a crash leaves is a network without its bridge, which the next connect makes again.
  state::Transaction transaction;
  transaction.erase(definition_key(definition.name));
  transaction.frees = true;
  TRY(store_.commit(transaction), step);
  networks_.erase(definition.name);
  return definition;
}

}  // namespace caisson::network
