// --network and the flags that belong to it.
#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "cli/create_body.hpp"

namespace caisson::cli {

namespace {

Error bad(std::string text) { return {ErrorKind::invalid, std::move(text)}; }

// One --network value: a bare name, or "name=…,alias=…,ip=…".
struct NetworkFlag {
  std::string target;
  std::vector<std::string> aliases;
  std::vector<std::string> links;
  std::vector<std::string> link_local;
  json::object driver_options;
  std::string ipv4;
  std::string ipv6;
  std::string mac;
  std::int64_t priority = 0;
};

bool is_user_defined(std::string_view name) {
  constexpr std::array<std::string_view, 4> built_in = {"default", "bridge", "host", "none"};
  return std::find(built_in.begin(), built_in.end(), name) == built_in.end() && !name.starts_with("container:");
}

bool is_mac_address(std::string_view text) {
  char separator = text.find('-') != std::string_view::npos ? '-' : ':';
  auto parts = split(text, separator);
  auto is_byte = [](std::string_view part) { return part.size() == 2 && parse_integer<std::uint8_t>(part, 16).ok(); };
  return parts.size() == 6 && std::all_of(parts.begin(), parts.end(), is_byte);
}

Result<NetworkFlag> parse_network(const std::string& value) {
  NetworkFlag out;
  if (value.find('=') == std::string::npos) {
    out.target = value;
    if (value.find(',') != std::string::npos) return bad_value("network", value, concat("invalid field ", split_once(value, ',').before));
    return out;
  }
  for (const auto& field : TRY_PLAIN(parse_csv(value))) {
    auto halves = split_once(field, '=');
    std::string key = lower(trim(halves.before));
    std::string_view text = trim(halves.after);
    if (!halves.found) return bad_value("network", value, concat("invalid field ", field));
    if (key == "name") out.target = text;
    else if (key == "alias") out.aliases.emplace_back(text);
    else if (key == "driver-opt") out.driver_options[lower(split_once(text, '=').before)] = split_once(text, '=').after;
    else if (key == "ip") out.ipv4 = text;
    else if (key == "ip6") out.ipv6 = text;
    else if (key == "mac-address") out.mac = text;
    else if (key == "link-local-ip") out.link_local.emplace_back(text);
    else if (key == "gw-priority") {
      auto parsed = parse_integer<std::int64_t>(text);
      if (!parsed.ok()) return bad_value("network", value, concat("invalid gw-priority (", text, ")"));
      out.priority = *parsed;
    } else {
      return bad_value("network", value, concat("invalid field key ", key));
    }
  }
  if (out.target.empty()) return bad_value("network", value, "network name/id is not specified");
  return out;
}

// The flags that stand for themselves (--ip, --network-alias, …) belong to the first network.
Status apply_loose_flags(NetworkFlag& first, const Invocation& invocation) {
  auto take = [&](std::string_view flag, std::vector<std::string>& into, std::string_view what) -> Status {
    auto values = invocation.list(flag);
    if (values.empty()) return {};
    if (!into.empty()) return bad(concat("conflicting options: cannot specify both --", flag, " and per-network ", what));
    into = std::move(values);
    return {};
  };
  auto take_one = [&](std::string_view flag, std::string& into, std::string_view what) -> Status {
    if (!invocation.has(flag)) return {};
    if (!into.empty()) return bad(concat("conflicting options: cannot specify both --", flag, " and per-network ", what));
    into = invocation.text(flag);
    return {};
  };
  TRY_PLAIN(take("network-alias", first.aliases, "alias"));
  if (is_user_defined(first.target)) TRY_PLAIN(take("link", first.links, "links"));
  TRY_PLAIN(take("link-local-ip", first.link_local, "link-local IP addresses"));
  TRY_PLAIN(take_one("ip", first.ipv4, "IPv4 address"));
  TRY_PLAIN(take_one("ip6", first.ipv6, "IPv6 address"));
  TRY_PLAIN(take_one("mac-address", first.mac, "MAC address"));
  return {};
}

json::object to_endpoint(const NetworkFlag& network) {
  json::object ipam;
  if (!network.ipv4.empty()) ipam["IPv4Address"] = network.ipv4;
  if (!network.ipv6.empty()) ipam["IPv6Address"] = network.ipv6;
  if (!network.link_local.empty()) ipam["LinkLocalIPs"] = list_or_null(network.link_local);
  return json::object{
      {"IPAMConfig", ipam.empty() ? json::value() : json::value(ipam)},
      {"Links", list_or_null(network.links)},
      {"Aliases", list_or_null(network.aliases)},
      {"MacAddress", network.mac},
      {"DriverOpts", network.driver_options.empty() ? json::value() : json::value(network.driver_options)},
      {"GwPriority", network.priority},
      {"NetworkID", ""},
      {"EndpointID", ""},
      {"Gateway", ""},
      {"IPAddress", ""},
      {"IPPrefixLen", 0},
      {"IPv6Gateway", ""},
      {"GlobalIPv6Address", ""},
      {"GlobalIPv6PrefixLen", 0},
      {"DNSNames", nullptr},
  };
}

bool has_settings(const NetworkFlag& network) {
  return !network.aliases.empty() || !network.link_local.empty() || !network.ipv4.empty() || !network.ipv6.empty() || !network.mac.empty() ||
         !network.driver_options.empty() || network.priority != 0;
}

}  // namespace

Result<json::object> parse_networks(const Invocation& invocation, std::string& mode) {
  auto values = invocation.list("network");
  if (values.empty()) values.emplace_back("default");
  std::vector<NetworkFlag> networks;
  for (const auto& value : values) networks.push_back(TRY_PLAIN(parse_network(value)));
  mode = networks[0].target;
  TRY_PLAIN(apply_loose_flags(networks[0], invocation));
  bool any_user_defined = std::any_of(networks.begin(), networks.end(), [](const auto& network) { return is_user_defined(network.target); });
  json::object out;
  for (const auto& network : networks) {
    bool user_defined = is_user_defined(network.target);
    if (networks.size() > 1 && any_user_defined && !user_defined)
      return bad("conflicting options: cannot attach both user-defined and non-user-defined network-modes");
    if (!user_defined && !network.aliases.empty()) return bad("network-scoped aliases are only supported for user-defined networks");
    if (!network.mac.empty() && !is_mac_address(network.mac)) return bad(concat(network.mac, " is not a valid mac address"));
    if (out.contains(network.target)) return bad(concat("network \"", network.target, "\" is specified multiple times"));
    // "none", "host" and "container:X" have no endpoint, unless something was asked of one: then the daemon explains why not.
    bool has_no_endpoint = network.target == "none" || network.target == "host" || network.target.starts_with("container:");
    if (has_no_endpoint && !has_settings(network)) continue;
    out[network.target] = to_endpoint(network);
  }
  return out;
}

}  // namespace caisson::cli
