// docker's --publish syntax: [[IP:]HOST_PORT[-LAST]:]CONTAINER_PORT[-LAST][/PROTOCOL].
#include <algorithm>
#include <optional>

#include "base/strings.hpp"
#include "linux/rtnetlink.hpp"
#include "network/network.hpp"

namespace caisson::network {
namespace {

struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  [[nodiscard]] std::size_t count() const { return static_cast<std::size_t>(last - first) + 1; }
};

Result<std::uint16_t> parse_port(std::string_view text, std::string_view role) {
  auto port = parse_integer<std::uint16_t>(text);
  if (!port || *port == 0) return Error(ErrorKind::invalid, concat("invalid ", role, ": ", text, " (a port is 1 to 65535)"));
  return *port;
}

Result<PortRange> parse_range(std::string_view text, std::string_view role) {
  Halves ends = split_once(text, '-');
  PortRange range;
  range.first = TRY_PLAIN(parse_port(ends.before, role));
  range.last = range.first;
  if (ends.found) range.last = TRY_PLAIN(parse_port(ends.after, role));
  if (range.last < range.first) return Error(ErrorKind::invalid, concat("invalid ", role, ": ", text, " (the range ends before it begins)"));
  return range;
}

bool looks_like_ipv6(std::string_view text) {
  return text.find(':') != std::string_view::npos &&
         std::all_of(text.begin(), text.end(), [](char c) { return c == ':' || c == '.' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); });
}

struct Parts {
  std::string host_ip;
  std::string_view host_ports;
  std::string_view container_ports;
};

/// Cuts off "[v6]:" or "v4:" and splits the rest.
Result<Parts> split_parts(std::string_view text) {
  Parts parts;
  std::string_view rest = text;
  bool has_ip = false;
  if (!rest.empty() && rest.front() == '[') {
    std::size_t end = rest.find("]:");
    if (end == std::string_view::npos) return Error(ErrorKind::invalid, "invalid IP address: a \"[\" without \"]:\"");
    parts.host_ip = rest.substr(1, end - 1);
    if (!looks_like_ipv6(parts.host_ip)) return Error(ErrorKind::invalid, concat("invalid IP address: ", parts.host_ip));
    rest.remove_prefix(end + 2);
    has_ip = true;
  }
  auto pieces = split(rest, ':');
  if (!has_ip && pieces.size() == 3) {
    auto address = linux::parse_ipv4(pieces[0]);
    if (!address) return Error(ErrorKind::invalid, concat("invalid IP address: ", pieces[0]));
    parts.host_ip = linux::to_string(*address);
    pieces.erase(pieces.begin());
    has_ip = true;
  }
  if (pieces.size() > 2) return Error(ErrorKind::invalid, "too many colons (an IPv6 address stands in brackets)");
  if (has_ip && pieces.size() != 2) return Error(ErrorKind::invalid, "an address needs a host port and a container port (ADDRESS:[PORT]:PORT)");
  parts.container_ports = pieces.back();
  if (pieces.size() == 2) parts.host_ports = pieces.front();
  return parts;
}

Result<std::vector<PortBinding>> parse(std::string_view text) {
  Halves halves = split_last(text, '/');
  Protocol protocol = Protocol::tcp;
  if (halves.found) protocol = TRY_PLAIN(parse_protocol(halves.after));
  Parts parts = TRY_PLAIN(split_parts(halves.found ? halves.before : text));
  if (parts.container_ports.empty()) return Error(ErrorKind::invalid, "no container port specified");
  PortRange container = TRY_PLAIN(parse_range(parts.container_ports, "container port"));
  std::optional<PortRange> host;
  if (!parts.host_ports.empty()) host = TRY_PLAIN(parse_range(parts.host_ports, "host port"));

  PortBinding binding;
  binding.protocol = protocol;
  binding.host_ip = parts.host_ip;
  // One container port and a host range: any free port of the range, as docker does it.
  if (host && container.count() == 1 && host->count() > 1) {
    binding.container_port = container.first;
    binding.host_port = host->first;
    binding.host_port_last = host->last;
    return std::vector<PortBinding>{binding};
  }
  if (host && host->count() != container.count())
    return Error(ErrorKind::invalid, concat("invalid ranges: ", host->count(), " host ports for ", container.count(), " container ports"));
  std::vector<PortBinding> bindings;
  for (std::size_t i = 0; i < container.count(); ++i) {
    binding.container_port = static_cast<std::uint16_t>(container.first + i);
    binding.host_port = host ? static_cast<std::uint16_t>(host->first + i) : std::uint16_t{0};
    bindings.push_back(binding);
  }
  return bindings;
}

}  // namespace

std::string_view to_string(Protocol protocol) {
  switch (protocol) {
    case Protocol::tcp: return "tcp";
    case Protocol::udp: return "udp";
    case Protocol::sctp: return "sctp";
  }
  return "tcp";
}

Result<Protocol> parse_protocol(std::string_view name) {
  const std::string wanted = lower(name);
  for (Protocol protocol : {Protocol::tcp, Protocol::udp, Protocol::sctp})
    if (wanted == to_string(protocol)) return protocol;
  return Error(ErrorKind::invalid, concat("invalid protocol: ", name, " (tcp, udp or sctp)"));
}

Result<std::vector<PortBinding>> parse_publish(std::string_view text) {
  return TRY(parse(text), concat("publish \"", text, "\""));
}

}  // namespace caisson::network
