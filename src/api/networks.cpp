// /networks: reading; making networks comes with a later issue.
#include "api/handlers.hpp"
#include "api/json_out.hpp"
#include "base/strings.hpp"

namespace caisson::api {

json::object network_json(const engine::NetworkInfo& info, bool with_containers) {
  const auto& network = info.network;
  json::array configs;
  for (const auto& subnet : network.subnets) {
    json::object entry{{"Subnet", subnet.cidr}};
    if (!subnet.gateway.empty()) entry["Gateway"] = subnet.gateway;
    configs.push_back(std::move(entry));
  }
  auto options = network.options;
  if (network.driver == "bridge" && !network.bridge_interface.empty()) {
    options.emplace("com.docker.network.bridge.name", network.bridge_interface);
    options.emplace("com.docker.network.driver.mtu", concat(network.mtu));
  }
  json::object containers;
  if (with_containers) {
    for (const auto& [id, endpoint] : info.endpoints) {
      auto name = info.container_names.find(id);
      containers[id] = json::object{{"Name", name == info.container_names.end() ? "" : name->second},
                                    {"EndpointID", endpoint.endpoint_id},
                                    {"MacAddress", endpoint.mac},
                                    {"IPv4Address", concat(endpoint.ipv4, "/", endpoint.prefix_length)},
                                    {"IPv6Address", ""}};
    }
  }
  return json::object{{"Name", network.name},
                      {"Id", network.id},
                      {"Created", to_rfc3339(network.created)},
                      {"Scope", "local"},
                      {"Driver", network.driver},
                      {"EnableIPv6", false},
                      {"IPAM", json::object{{"Driver", "default"}, {"Options", nullptr}, {"Config", std::move(configs)}}},
                      {"Internal", false},
                      {"Attachable", false},
                      {"Ingress", false},
                      {"ConfigFrom", json::object{{"Network", ""}}},
                      {"ConfigOnly", false},
                      {"Containers", std::move(containers)},
                      {"Options", text_map(options)},
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
    const bool builtin = network.name == "bridge" || network.name == "host" || network.name == "none";
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

/// Nothing but the built-in networks exists, and those are never pruned.
Status prune_networks(Request& request) {
  TRY_PLAIN(Filters::parse(request.query.text("filters"), {"label", "label!", "until"}));
  return request.reply_json(200, json::object{{"NetworksDeleted", nullptr}});
}

}  // namespace caisson::api
