// Shared pieces of Docker-shaped JSON.
#include "api/json_out.hpp"

#include "base/strings.hpp"

namespace caisson::api {

json::array texts(const std::vector<std::string>& items) {
  json::array out;
  for (const auto& item : items) out.emplace_back(item);
  return out;
}

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

std::string_view protocol_name(network::Protocol protocol) { return protocol == network::Protocol::udp ? "udp" : "tcp"; }

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

json::object endpoint_json(const std::optional<network::Endpoint>& endpoint, const std::vector<std::string>& aliases) {
  json::object out{{"IPAMConfig", nullptr}, {"Links", nullptr}, {"Aliases", texts_or_null(aliases)}};
  const bool up = endpoint.has_value();
  out["MacAddress"] = up ? endpoint->mac : "";
  out["DriverOpts"] = nullptr;
  out["NetworkID"] = up ? endpoint->network_id : "";
  out["EndpointID"] = up ? endpoint->endpoint_id : "";
  out["Gateway"] = up ? endpoint->gateway : "";
  out["IPAddress"] = up ? endpoint->ipv4 : "";
  out["IPPrefixLen"] = up ? endpoint->prefix_length : 0;
  out["IPv6Gateway"] = "";
  out["GlobalIPv6Address"] = "";
  out["GlobalIPv6PrefixLen"] = 0;
  out["DNSNames"] = nullptr;
  return out;
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
