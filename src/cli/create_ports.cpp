// -p and --expose: docker's nat specification.
#include <algorithm>

#include "base/strings.hpp"
#include "cli/create_body.hpp"

namespace caisson::cli {

namespace {

struct Range {
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  [[nodiscard]] int size() const { return last - first + 1; }
};

Error bad(std::string text) { return {ErrorKind::invalid, std::move(text)}; }

Result<Range> parse_range(std::string_view text) {
  auto halves = split_once(text, '-');
  Range range;
  range.first = TRY_PLAIN(parse_integer<std::uint16_t>(halves.before));
  range.last = halves.found ? TRY_PLAIN(parse_integer<std::uint16_t>(halves.after)) : range.first;
  if (range.last < range.first) return bad(concat("invalid range specified for port: ", text));
  return range;
}

bool is_protocol(std::string_view text) { return text == "tcp" || text == "udp" || text == "sctp"; }

bool looks_like_address(std::string_view text) {
  if (text.find(':') != std::string_view::npos) return text.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos && text.find("::") != std::string_view::npos;
  auto parts = split(text, '.');
  return parts.size() == 4 && std::all_of(parts.begin(), parts.end(), [](auto part) { return parse_integer<std::uint8_t>(part).ok(); });
}

// "[address:][host:]container" without the protocol; an IPv6 address stands in brackets.
struct Parts {
  std::string address;
  std::string_view host;
  std::string_view container;
};
Result<Parts> cut(std::string_view spec) {
  Parts parts;
  auto last = split_last(spec, ':');
  if (!last.found) {
    parts.container = spec;
    return parts;
  }
  parts.container = last.after;
  auto middle = split_last(last.before, ':');
  bool closes_bracket = last.before.ends_with("]");
  if (!middle.found || closes_bracket) {
    if (closes_bracket) return bad(concat("invalid IP address: ", last.before));
    parts.host = last.before;
    return parts;
  }
  parts.host = middle.after;
  std::string_view address = middle.before;
  if (address.starts_with("[") && address.ends_with("]")) {
    address = address.substr(1, address.size() - 2);
    bool is_v6 = address.find(':') != std::string_view::npos && address.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos;
    if (!is_v6) return bad(concat("invalid IP address: ", address));
  } else if (!address.empty() && !looks_like_address(address)) {
    return bad(concat("invalid IP address: ", address));
  }
  parts.address = address;
  return parts;
}

Status add_published(const std::string& spec, PortMaps& out) {
  auto slash = split_once(spec, '/');
  std::string protocol = slash.found ? lower(slash.after) : "tcp";
  if (slash.found && slash.after.empty()) protocol = "tcp";
  if (!is_protocol(protocol)) return bad(concat("invalid proto: ", slash.after));
  Parts parts = TRY_PLAIN(cut(slash.before));
  if (parts.container.empty()) return bad(concat("no port specified: ", slash.before, "<empty>"));
  auto container = parse_range(parts.container);
  if (!container.ok()) return bad(concat("invalid containerPort: ", parts.container));
  Range host;
  if (!parts.host.empty()) {
    auto parsed = parse_range(parts.host);
    if (!parsed.ok()) return bad(concat("invalid hostPort: ", parts.host));
    host = *parsed;
    // One container port may be given a whole range of host ports to choose from; otherwise they must pair up.
    if (host.size() != container->size() && container->size() != 1)
      return bad(concat("invalid ranges specified for container and host Ports: ", parts.container, " and ", parts.host));
  }
  for (int i = 0; i < container->size(); ++i) {
    std::string port = concat(container->first + i, "/", protocol);
    std::string host_port;
    if (!parts.host.empty())
      host_port = container->size() == 1 ? std::string(host.size() == 1 ? concat(host.first) : concat(host.first, "-", host.last)) : concat(host.first + i);
    out.exposed[port] = json::object();
    json::value& bindings = out.bindings[port];
    if (!bindings.is_array()) bindings = json::array();
    bindings.get_array().emplace_back(json::object{{"HostIp", parts.address}, {"HostPort", host_port}});
  }
  return {};
}

}  // namespace

Result<PortMaps> parse_ports(const std::vector<std::string>& publish, const std::vector<std::string>& expose) {
  PortMaps out;
  for (const auto& spec : publish) TRY_PLAIN(add_published(spec, out));
  for (const auto& spec : expose) {
    if (spec.find(':') != std::string::npos) return bad(concat("invalid port format for --expose: ", spec));
    auto slash = split_once(spec, '/');
    std::string protocol = slash.found ? lower(slash.after) : "tcp";
    auto range = parse_range(slash.before);
    if (!range.ok()) return bad(concat("invalid range format for --expose: ", spec, ", error: ", range.error().text()));
    if (!is_protocol(protocol)) return bad(concat("invalid proto: ", slash.after));
    for (int port = range->first; port <= range->last; ++port) out.exposed.emplace(concat(port, "/", protocol), json::object());
  }
  return out;
}

}  // namespace caisson::cli
