// IPv4 addresses: text to numbers and back. Apart from rtnetlink.cpp, so that the command line gets no more of it than this.
#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/strings.hpp"
#include "linux/rtnetlink.hpp"

namespace caisson::linux {

Result<Ipv4> parse_ipv4(std::string_view text) {
  in_addr parsed{};
  // inet_pton wants exactly four decimal numbers without leading zeros' octal meaning (inet_pton(3)).
  if (::inet_pton(AF_INET, std::string(text).c_str(), &parsed) != 1 || text.find('\0') != std::string_view::npos)
    return Error(ErrorKind::invalid, concat("\"", text, "\" is not an IPv4 address"));
  return Ipv4{ntohl(parsed.s_addr)};
}

std::string to_string(Ipv4 address) {
  return concat(address.value >> 24, '.', (address.value >> 16) & 0xff, '.', (address.value >> 8) & 0xff, '.', address.value & 0xff);
}

bool Ipv4Prefix::overlaps(const Ipv4Prefix& other) const { return contains(other.address) || other.contains(address); }

Result<Ipv4Prefix> parse_ipv4_prefix(std::string_view text) {
  Halves halves = split_once(text, '/');
  if (!halves.found) return Error(ErrorKind::invalid, concat("\"", text, "\" is not a subnet (as in 172.30.0.0/16)"));
  Ipv4Prefix prefix;
  prefix.address = TRY(parse_ipv4(halves.before), concat("subnet \"", text, "\""));
  prefix.length = TRY(parse_integer<std::uint8_t>(halves.after), concat("subnet \"", text, "\": prefix length"));
  if (prefix.length > 32) return Error(ErrorKind::invalid, concat("subnet \"", text, "\": the prefix length is above 32"));
  if ((prefix.address.value & ~prefix.mask()) != 0)
    return Error(ErrorKind::invalid, concat("subnet \"", text, "\": the address has bits beyond the prefix"));
  return prefix;
}

std::string to_string(const Ipv4Prefix& prefix) { return concat(to_string(prefix.address), '/', prefix.length); }

}  // namespace caisson::linux
