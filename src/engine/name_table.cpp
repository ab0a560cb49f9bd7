// Names of containers, by network.
#include "engine/name_table.hpp"

#include <algorithm>

#include "base/strings.hpp"

namespace caisson::engine {

namespace {
constexpr std::size_t short_id_length = 12;

network::NameAddresses addresses_of_endpoint(const network::Endpoint& endpoint) {
  network::NameAddresses addresses;
  if (auto address = linux::parse_ipv4(endpoint.ipv4)) addresses.ipv4.push_back(*address);
  if (auto address = linux::parse_ipv6(endpoint.ipv6)) addresses.ipv6.push_back(address->bytes());
  return addresses;
}

void append(network::NameAddresses& into, const network::NameAddresses& more) {
  into.ipv4.insert(into.ipv4.end(), more.ipv4.begin(), more.ipv4.end());
  into.ipv6.insert(into.ipv6.end(), more.ipv6.begin(), more.ipv6.end());
}
}  // namespace

bool has_embedded_dns(const std::vector<network::Endpoint>& endpoints) {
  return std::any_of(endpoints.begin(), endpoints.end(), [](const auto& endpoint) { return endpoint.network_name != "bridge"; });
}

void NameTable::put(const std::string& container_id, const std::string& name, const NetworkSpec& spec, const std::vector<network::Endpoint>& endpoints) {
  std::vector<Member> members;
  for (const auto& wanted : spec.endpoints) {
    const auto* endpoint = endpoint_on(endpoints, wanted.network);
    if (endpoint == nullptr || endpoint->network_name == "bridge") continue;
    Member member;
    member.network_id = endpoint->network_id;
    member.network_name = lower(endpoint->network_name);
    member.container_name = name;
    member.names = {lower(name), container_id.substr(0, short_id_length)};
    for (const auto& alias : wanted.aliases) member.names.push_back(lower(alias));
    std::sort(member.names.begin(), member.names.end());
    member.names.erase(std::unique(member.names.begin(), member.names.end()), member.names.end());
    for (const auto& link : wanted.links) {
      const Halves halves = split_once(link, ':');
      member.links[lower(halves.found ? halves.after : halves.before)] = lower(halves.before);
    }
    member.addresses = addresses_of_endpoint(*endpoint);
    members.push_back(std::move(member));
  }
  std::lock_guard lock(mutex_);
  remove(container_id);
  for (const auto& member : members) {
    Names& network = networks_[member.network_id];
    for (const auto& called : member.names) network.containers.emplace(called, container_id);
    for (const auto& address : member.addresses.ipv4) network.by_address[address] = name;
    for (const auto& address : member.addresses.ipv6) network.by_address[address] = name;
  }
  if (!members.empty()) members_[container_id] = std::move(members);
}

void NameTable::remove(const std::string& container_id) {
  auto found = members_.find(container_id);
  if (found == members_.end()) return;
  for (const auto& member : found->second) {
    auto network = networks_.find(member.network_id);
    if (network == networks_.end()) continue;
    for (const auto& called : member.names) {
      auto [first, last] = network->second.containers.equal_range(called);
      for (auto entry = first; entry != last; ++entry) {
        if (entry->second != container_id) continue;
        network->second.containers.erase(entry);
        break;
      }
    }
    for (const auto& address : member.addresses.ipv4) network->second.by_address.erase(address);
    for (const auto& address : member.addresses.ipv6) network->second.by_address.erase(address);
    if (network->second.containers.empty()) networks_.erase(network);
  }
  members_.erase(found);
}

void NameTable::erase(const std::string& container_id) {
  std::lock_guard lock(mutex_);
  remove(container_id);
}

void NameTable::collect(const Member& asker, std::string_view name, network::NameAddresses& found) const {
  auto network = networks_.find(asker.network_id);
  if (network == networks_.end()) return;
  if (auto link = asker.links.find(name); link != asker.links.end()) name = link->second;
  auto [first, last] = network->second.containers.equal_range(name);
  for (auto entry = first; entry != last; ++entry) {
    auto members = members_.find(entry->second);
    if (members == members_.end()) continue;
    for (const auto& member : members->second)
      if (member.network_id == asker.network_id) append(found, member.addresses);
  }
}

network::NameAddresses NameTable::addresses_of(const std::string& container_id, std::string_view name) {
  std::lock_guard lock(mutex_);
  network::NameAddresses found;
  auto asker = members_.find(container_id);
  if (asker == members_.end()) return found;
  // docker's order: the first network that knows the name answers alone.
  for (const auto& member : asker->second) {
    collect(member, name, found);
    if (!found.empty()) return found;
  }
  const Halves halves = split_last(name, '.');
  if (!halves.found) return found;
  for (const auto& member : asker->second)
    if (member.network_name == halves.after) collect(member, halves.before, found);
  return found;
}

std::string NameTable::name_of(const std::string& container_id, const network::IpAddress& address) {
  std::lock_guard lock(mutex_);
  auto asker = members_.find(container_id);
  if (asker == members_.end()) return "";
  for (const auto& member : asker->second) {
    auto network = networks_.find(member.network_id);
    if (network == networks_.end()) continue;
    auto found = network->second.by_address.find(address);
    if (found != network->second.by_address.end()) return concat(found->second, ".", member.network_name);
  }
  return "";
}

}  // namespace caisson::engine
