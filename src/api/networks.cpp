// /networks: listed, made, removed; containers connected to them and disconnected.
#include "api/create_body.hpp"
#include "api/handlers.hpp"
#include "api/json_out.hpp"
#include "base/strings.hpp"

namespace caisson::api {

namespace {

json::object ipam_json(const network::Network& network) {
  json::array configs;
  for (const auto& subnet : network.subnets) {
    json::object entry{{"Subnet", subnet.cidr}};
    if (!subnet.range.empty()) entry["IPRange"] = subnet.range;
    if (!subnet.gateway.empty()) entry["Gateway"] = subnet.gateway;
    if (!subnet.reserved.empty()) entry["AuxiliaryAddresses"] = text_map(subnet.reserved);
    configs.push_back(std::move(entry));
  }
  return json::object{{"Driver", "default"}, {"Options", text_map_or_null(network.ipam_options)}, {"Config", std::move(configs)}};
}

std::string with_length(const std::string& address, std::uint8_t length) { return address.empty() ? "" : concat(address, "/", length); }

/// The bridge's own settings show on the default one, as docker shows them; on others what the user has set.
std::map<std::string, std::string> shown_options(const network::Network& network) {
  auto options = network.options;
  if (network.name != "bridge") return options;
  options.emplace("com.docker.network.bridge.default_bridge", "true");
  options.emplace("com.docker.network.bridge.enable_icc", "true");
  options.emplace("com.docker.network.bridge.enable_ip_masquerade", "true");
  options.emplace("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0");
  options.emplace("com.docker.network.bridge.name", network.bridge_interface);
  options.emplace("com.docker.network.driver.mtu", concat(network.mtu));
  return options;
}

Result<std::vector<network::Subnet>> read_subnets(const JsonView& ipam) {
  std::vector<network::Subnet> subnets;
  TRY_PLAIN(TRY_PLAIN(ipam.at("Config")).for_each_element([&](const JsonView& entry) -> Status {
    network::Subnet subnet;
    TRY_PLAIN(entry.read("Subnet", subnet.cidr));
    TRY_PLAIN(entry.read("IPRange", subnet.range));
    TRY_PLAIN(entry.read("Gateway", subnet.gateway));
    TRY_PLAIN(entry.read("AuxiliaryAddresses", subnet.reserved));
    TRY_PLAIN(entry.read("AuxAddress", subnet.reserved));  // the name before 1.24
    subnets.push_back(std::move(subnet));
    return {};
  }));
  return subnets;
}

Result<network::NetworkRequest> read_network(const json::value& document) {
  JsonView body(document);
  if (!document.is_object()) return Error(ErrorKind::invalid, "request body: want an object");
  network::NetworkRequest network;
  TRY_PLAIN(body.read("Name", network.name));
  TRY_PLAIN(body.read("Driver", network.driver));
  TRY_PLAIN(body.read("Internal", network.internal));
  TRY_PLAIN(body.read("Attachable", network.attachable));
  TRY_PLAIN(body.read("EnableIPv6", network.ipv6));
  TRY_PLAIN(body.read("Options", network.options));
  TRY_PLAIN(body.read("Labels", network.labels));
  JsonView ipam = TRY_PLAIN(body.at("IPAM"));
  TRY_PLAIN(ipam.read("Driver", network.ipam_driver));
  TRY_PLAIN(ipam.read("Options", network.ipam_options));
  network.subnets = TRY_PLAIN(read_subnets(ipam));
  for (auto field : {"ConfigOnly", "Ingress"}) {
    bool wanted = false;
    TRY_PLAIN(body.read(field, wanted));
    if (wanted) return Error(ErrorKind::unsupported, concat(field, ": such networks belong to clusters"));
  }
  std::string scope;
  TRY_PLAIN(body.read("Scope", scope));
  if (!scope.empty() && scope != "local") return Error(ErrorKind::denied, "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.");
  return network;
}

}  // namespace

json::object network_json(const engine::NetworkInfo& info, bool with_containers) {
  const auto& network = info.network;
  json::object containers;
  if (with_containers) {
    for (const auto& [id, endpoint] : info.endpoints) {
      auto name = info.container_names.find(id);
      containers[id] = json::object{{"Name", name == info.container_names.end() ? "" : name->second},
                                    {"EndpointID", endpoint.endpoint_id},
                                    {"MacAddress", endpoint.mac},
                                    {"IPv4Address", with_length(endpoint.ipv4, endpoint.prefix_length)},
                                    {"IPv6Address", with_length(endpoint.ipv6, endpoint.ipv6_prefix_length)}};
    }
  }
  return json::object{{"Name", network.name},
                      {"Id", network.id},
                      {"Created", to_rfc3339(network.created)},
                      {"Scope", "local"},
                      {"Driver", network.driver},
                      {"EnableIPv6", network.ipv6},
                      {"IPAM", ipam_json(network)},
                      {"Internal", network.internal},
                      {"Attachable", network.attachable},
                      {"Ingress", false},
                      {"ConfigFrom", json::object{{"Network", ""}}},
                      {"ConfigOnly", false},
                      {"Containers", std::move(containers)},
                      {"Options", text_map(shown_options(network))},
                      {"Labels", text_map(network.labels)}};
}

Status list_networks(Request& request) {
  auto filters = TRY_PLAIN(Filters::parse(request.query.text("filters"), {"dangling", "driver", "id", "label", "name", "scope", "type"}));
  auto dangling = TRY_PLAIN(filters.boolean("dangling"));
  for (const auto& type : filters.get("type"))
    if (type != "builtin" && type != "custom") return Error(ErrorKind::invalid, concat("invalid filter: 'type'='", type, "'"));
  auto networks = TRY_PLAIN(request.engine.list_networks(request.caller));
  json::array out;
  for (const auto& info : networks) {
    const auto& network = info.network;
    const bool builtin = network::is_predefined(network.name);
    if (dangling && *dangling != (!builtin && info.endpoints.empty())) continue;
    if (!filters.exact("driver", network.driver) || !filters.prefix("id", network.id) || !filters.part("name", network.name) ||
        !filters.labels("label", network.labels) || !filters.exact("scope", "local") || !filters.exact("type", builtin ? "builtin" : "custom"))
      continue;
    out.push_back(network_json(info, false));
  }
  return request.reply_json(200, out);
}

Status inspect_network(Request& request) {
  const std::string scope = request.query.text("scope");
  if (!scope.empty() && scope != "local") return request.reply_error(404, concat("network ", request.name, " not found"));
  auto info = TRY_PLAIN(request.engine.inspect_network(request.caller, request.name));
  return request.reply_json(200, network_json(info, true));
}

Status create_network(Request& request) {
  auto body = TRY_PLAIN(request.read_json());
  auto network = TRY_PLAIN(request.engine.create_network(request.caller, TRY_PLAIN(read_network(body))));
  return request.reply_json(201, json::object{{"Id", network.id}, {"Warning", ""}});
}

Status remove_network(Request& request) {
  TRY_PLAIN(request.engine.remove_network(request.caller, request.name));
  return request.reply_empty(204);
}

Status connect_network(Request& request) {
  auto document = TRY_PLAIN(request.read_json());
  JsonView body(document);
  std::string container;
  TRY_PLAIN(body.read("Container", container));
  auto wanted = TRY_PLAIN(read_endpoint(TRY_PLAIN(body.at("EndpointConfig")), request.name));
  TRY_PLAIN(request.engine.connect_network(request.caller, container, std::move(wanted)));
  return request.reply_empty(200);
}

Status disconnect_network(Request& request) {
  auto document = TRY_PLAIN(request.read_json());
  JsonView body(document);
  std::string container;
  bool force = false;
  TRY_PLAIN(body.read("Container", container));
  TRY_PLAIN(body.read("Force", force));
  TRY_PLAIN(request.engine.disconnect_network(request.caller, request.name, container, force));
  return request.reply_empty(200);
}

Status prune_networks(Request& request) {
  auto filters = TRY_PLAIN(Filters::parse(request.query.text("filters"), {"label", "label!", "until"}));
  TimestampNs until = 0;
  for (const auto& text : filters.get("until")) until = TRY(parse_point_in_time(text, now_ns()), "invalid filter 'until'");
  auto pruned = TRY_PLAIN(request.engine.prune_networks(request.caller, [&](const network::Network& network) {
    const bool excluded = filters.has("label!") && filters.labels("label!", network.labels);
    return (until == 0 || network.created < until) && filters.labels("label", network.labels) && !excluded;
  }));
  return request.reply_json(200, json::object{{"NetworksDeleted", texts_or_null(pruned.deleted)}});
}

}  // namespace caisson::api
