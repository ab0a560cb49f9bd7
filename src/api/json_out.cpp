// Shared pieces of Docker-shaped JSON.
#include "api/json_out.hpp"

#include "base/strings.hpp"

namespace caisson::api {

json::value texts_or_null(const std::vector<std::string>& items) {
  if (items.empty()) return nullptr;
  return texts(items);
}

json::object text_map(const std::map<std::string, std::string>& items) {
  json::object out;
  for (const auto& [key, value] : items) out[key] = value;
  return out;
}

json::value text_map_or_null(const std::map<std::string, std::string>& items) {
  if (items.empty()) return nullptr;
  return text_map(items);
}

json::object text_set(const std::vector<std::string>& items) {
  json::object out;
  for (const auto& item : items) out[item] = json::object();
  return out;
}

std::int64_t unix_seconds(TimestampNs time) { return time / 1'000'000'000; }

std::string slashed(std::string_view name) { return concat("/", name); }

std::string_view protocol_name(network::Protocol protocol) { return network::to_string(protocol); }

std::string port_key(const network::PortBinding& binding) {
  return concat(binding.container_port, "/", protocol_name(binding.protocol));
}

json::object mount_point_json(const engine::MountPoint& mount) {
  json::object out;
  switch (mount.type) {
    case engine::MountType::bind: out["Type"] = "bind"; break;
    case engine::MountType::volume: out["Type"] = "volume"; break;
    case engine::MountType::tmpfs: out["Type"] = "tmpfs"; break;
  }
  if (!mount.name.empty()) out["Name"] = mount.name;
  out["Source"] = mount.source;
  out["Destination"] = mount.destination;
  if (!mount.driver.empty()) out["Driver"] = mount.driver;
  out["Mode"] = mount.mode;
  out["RW"] = mount.read_write;
  out["Propagation"] = mount.propagation;
  return out;
}

namespace {
json::value ipam_config_json(const engine::EndpointSpec& spec) {
  json::object ipam;
  if (!spec.ipv4.empty()) ipam["IPv4Address"] = spec.ipv4;
  if (!spec.ipv6.empty()) ipam["IPv6Address"] = spec.ipv6;
  if (!spec.link_local.empty()) ipam["LinkLocalIPs"] = texts(spec.link_local);
  if (ipam.empty()) return nullptr;
  return ipam;
}

/// What the network calls it: names of the user's, then the short id (docker adds it on user-defined networks).
json::value aliases_json(const engine::EndpointSpec& spec, const std::string& container_id) {
  if (network::is_predefined(spec.network)) return texts_or_null(spec.aliases);
  json::array aliases = texts(spec.aliases);
  if (!container_id.empty()) aliases.emplace_back(container_id.substr(0, 12));
  return aliases;
}
}  // namespace

json::object endpoint_json(const engine::EndpointSpec& spec, const network::Endpoint* endpoint, const std::string& container_id) {
  const bool up = endpoint != nullptr;
  return json::object{{"IPAMConfig", ipam_config_json(spec)},
                      {"Links", texts_or_null(spec.links)},
                      {"Aliases", aliases_json(spec, container_id)},
                      {"MacAddress", up ? endpoint->mac : spec.mac},
                      {"DriverOpts", text_map_or_null(spec.driver_options)},
                      {"GwPriority", spec.gateway_priority},
                      {"NetworkID", up ? endpoint->network_id : spec.network_id},
                      {"EndpointID", up ? endpoint->endpoint_id : ""},
                      {"Gateway", up ? endpoint->gateway : ""},
                      {"IPAddress", up ? endpoint->ipv4 : ""},
                      {"IPPrefixLen", up ? endpoint->prefix_length : 0},
                      {"IPv6Gateway", up ? endpoint->ipv6_gateway : ""},
                      {"GlobalIPv6Address", up ? endpoint->ipv6 : ""},
                      {"GlobalIPv6PrefixLen", up ? endpoint->ipv6_prefix_length : 0},
                      {"DNSNames", nullptr}};
}

json::value healthcheck_json(const std::optional<image::Healthcheck>& healthcheck) {
  if (!healthcheck) return nullptr;
  json::object out{{"Test", texts(healthcheck->test)}};
  if (healthcheck->interval_ns != 0) out["Interval"] = healthcheck->interval_ns;
  if (healthcheck->timeout_ns != 0) out["Timeout"] = healthcheck->timeout_ns;
  if (healthcheck->start_period_ns != 0) out["StartPeriod"] = healthcheck->start_period_ns;
  if (healthcheck->start_interval_ns != 0) out["StartInterval"] = healthcheck->start_interval_ns;
  if (healthcheck->retries != 0) out["Retries"] = healthcheck->retries;
  return out;
}

}  // namespace caisson::api
