// JSON of networks and endpoints.
#include "network/records.hpp"

#include "base/strings.hpp"
#include "linux/rtnetlink.hpp"

namespace caisson::network {
namespace {

json::object to_json(const PortBinding& binding) {
  json::object object;
  object["protocol"] = to_string(binding.protocol);
  object["container_port"] = binding.container_port;
  object["host_ip"] = binding.host_ip;
  object["host_port"] = binding.host_port;
  return object;
}

json::array to_json(const std::vector<PortBinding>& bindings) {
  json::array array;
  for (const auto& binding : bindings) array.push_back(to_json(binding));
  return array;
}

json::object to_json(const std::map<std::string, std::string>& texts) {
  json::object object;
  for (const auto& [key, value] : texts) object[key] = value;
  return object;
}

}  // namespace

// Found by argument-dependent lookup from JsonView::read.
Status from_json(const JsonView& view, PortBinding& binding) {
  std::string protocol;
  TRY_PLAIN(view.read("protocol", protocol));
  auto known = parse_protocol(protocol);
  if (!known) return view.error(concat("protocol \"", protocol, "\" is not known"));
  binding.protocol = *known;
  TRY_PLAIN(view.read("container_port", binding.container_port));
  TRY_PLAIN(view.read("host_ip", binding.host_ip));
  return view.read("host_port", binding.host_port);
}

Status from_json(const JsonView& view, Subnet& subnet) {
  TRY_PLAIN(view.read("cidr", subnet.cidr));
  TRY_PLAIN(view.read("range", subnet.range));
  TRY_PLAIN(view.read("reserved", subnet.reserved));
  return view.read("gateway", subnet.gateway);
}

Status from_json(const JsonView& view, Network& network) {
  TRY_PLAIN(view.read("id", network.id));
  TRY_PLAIN(view.read("name", network.name));
  TRY_PLAIN(view.read("driver", network.driver));
  TRY_PLAIN(view.read("bridge_interface", network.bridge_interface));
  TRY_PLAIN(view.read("parent", network.parent));
  TRY_PLAIN(view.read("subnets", network.subnets));
  TRY_PLAIN(view.read("mtu", network.mtu));
  TRY_PLAIN(view.read("adopts_bridge", network.adopts_bridge));
  TRY_PLAIN(view.read("made_parent", network.made_parent));
  TRY_PLAIN(view.read("internal", network.internal));
  TRY_PLAIN(view.read("attachable", network.attachable));
  TRY_PLAIN(view.read("ipv6", network.ipv6));
  TRY_PLAIN(view.read("isolates_containers", network.isolates_containers));
  TRY_PLAIN(view.read("keeps_source", network.keeps_source));
  TRY_PLAIN(view.read("host_binding", network.host_binding));
  TRY_PLAIN(view.read("ipam_options", network.ipam_options));
  TRY_PLAIN(view.read("created", network.created));
  TRY_PLAIN(view.read("labels", network.labels));
  return view.read("options", network.options);
}

Status from_json(const JsonView& view, EndpointRecord& record) {
  Endpoint& endpoint = record.endpoint;
  TRY_PLAIN(view.read("endpoint_id", endpoint.endpoint_id));
  TRY_PLAIN(view.read("network_id", endpoint.network_id));
  TRY_PLAIN(view.read("network_name", endpoint.network_name));
  TRY_PLAIN(view.read("interface", endpoint.interface));
  TRY_PLAIN(view.read("ipv4", endpoint.ipv4));
  std::uint16_t prefix_length = 0;
  TRY_PLAIN(view.read("prefix_length", prefix_length));
  endpoint.prefix_length = static_cast<std::uint8_t>(prefix_length);
  TRY_PLAIN(view.read("gateway", endpoint.gateway));
  TRY_PLAIN(view.read("mac", endpoint.mac));
  TRY_PLAIN(view.read("ports", endpoint.ports));
  TRY_PLAIN(view.read("host_interface", record.host_interface));
  TRY_PLAIN(view.read("gateway_priority", record.gateway_priority));
  TRY_PLAIN(view.read("sequence", record.sequence));
  TRY_PLAIN(view.read("ipv6", endpoint.ipv6));
  std::uint16_t ipv6_prefix_length = 0;
  TRY_PLAIN(view.read("ipv6_prefix_length", ipv6_prefix_length));
  endpoint.ipv6_prefix_length = static_cast<std::uint8_t>(ipv6_prefix_length);
  TRY_PLAIN(view.read("ipv6_gateway", endpoint.ipv6_gateway));
  if (!endpoint.ipv6.empty() && !linux::parse_ipv6(endpoint.ipv6)) return view.error(concat("ipv6 \"", endpoint.ipv6, "\" is no address"));
  if (!linux::parse_ipv4(endpoint.ipv4)) return view.error(concat("ipv4 \"", endpoint.ipv4, "\" is no address"));
  return {};
}

std::string definition_key(std::string_view name) { return concat(definition_prefix, name); }
std::string endpoint_key(std::string_view container_id, std::string_view network_id) { return concat(endpoint_prefix, container_id, "/", network_id); }
std::string address_key(std::string_view network_id, std::string_view address) { return concat(address_prefix, network_id, "/", address); }

std::string lease_text(std::string_view container_id) {
  json::object object;
  object["container"] = container_id;
  return caisson::to_text(object);
}

Result<std::string> container_of_lease(std::string_view text, std::string_view key) {
  auto document = TRY_PLAIN(parse_json(text, key));
  std::string container_id;
  TRY_PLAIN(JsonView(document, std::string(key)).read("container", container_id));
  return container_id;
}

std::string to_text(const Network& network) {
  json::object object;
  object["id"] = network.id;
  object["name"] = network.name;
  object["driver"] = network.driver;
  object["bridge_interface"] = network.bridge_interface;
  json::array subnets;
  for (const auto& subnet : network.subnets) {
    json::object item;
    item["cidr"] = subnet.cidr;
    item["gateway"] = subnet.gateway;
    if (!subnet.range.empty()) item["range"] = subnet.range;
    if (!subnet.reserved.empty()) item["reserved"] = to_json(subnet.reserved);
    subnets.push_back(std::move(item));
  }
  object["subnets"] = std::move(subnets);
  object["mtu"] = network.mtu;
  if (!network.parent.empty()) object["parent"] = network.parent;
  if (!network.host_binding.empty()) object["host_binding"] = network.host_binding;
  for (const auto& [name, value] : {std::pair("internal", network.internal), std::pair("attachable", network.attachable), std::pair("ipv6", network.ipv6),
                                    std::pair("isolates_containers", network.isolates_containers), std::pair("keeps_source", network.keeps_source),
                                    std::pair("adopts_bridge", network.adopts_bridge), std::pair("made_parent", network.made_parent)})
    if (value) object[name] = true;
  if (!network.ipam_options.empty()) object["ipam_options"] = to_json(network.ipam_options);
  object["created"] = network.created;
  object["labels"] = to_json(network.labels);
  object["options"] = to_json(network.options);
  return caisson::to_text(object);
}

std::string to_text(const EndpointRecord& record) {
  const Endpoint& endpoint = record.endpoint;
  json::object object;
  object["endpoint_id"] = endpoint.endpoint_id;
  object["network_id"] = endpoint.network_id;
  object["network_name"] = endpoint.network_name;
  object["interface"] = endpoint.interface;
  object["ipv4"] = endpoint.ipv4;
  object["prefix_length"] = endpoint.prefix_length;
  object["gateway"] = endpoint.gateway;
  object["mac"] = endpoint.mac;
  object["ports"] = to_json(endpoint.ports);
  object["host_interface"] = record.host_interface;
  if (record.gateway_priority != 0) object["gateway_priority"] = record.gateway_priority;
  if (record.sequence != 0) object["sequence"] = record.sequence;
  if (endpoint.ipv6.empty()) return caisson::to_text(object);
  object["ipv6"] = endpoint.ipv6;
  object["ipv6_prefix_length"] = endpoint.ipv6_prefix_length;
  object["ipv6_gateway"] = endpoint.ipv6_gateway;
  return caisson::to_text(object);
}

namespace {
template <typename T>
Result<T> from_text(std::string_view text, std::string_view key) {
  auto document = parse_json(text, key);
  if (!document) return std::move(document).error().with_kind(ErrorKind::corrupt);
  T value;
  Status read = from_json(JsonView(*document, std::string(key)), value);
  if (!read) return std::move(read).error().with_kind(ErrorKind::corrupt);
  return value;
}
}  // namespace

Result<Network> network_from_text(std::string_view text, std::string_view key) { return from_text<Network>(text, key); }
Result<EndpointRecord> endpoint_from_text(std::string_view text, std::string_view key) { return from_text<EndpointRecord>(text, key); }

}  // namespace caisson::network
