// IPv6 addresses: text to numbers and back.
#include "linux/ipv6.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>

#include "base/strings.hpp"

namespace caisson::linux {

std::array<std::uint8_t, 16> Ipv6::bytes() const {
  std::array<std::uint8_t, 16> out{};
  for (std::size_t i = 0; i < 8; ++i) {
    out[i] = static_cast<std::uint8_t>(high >> (56 - 8 * i));
    out[i + 8] = static_cast<std::uint8_t>(low >> (56 - 8 * i));
  }
  return out;
}

Ipv6 Ipv6::from_bytes(const std::array<std::uint8_t, 16>& bytes) {
  Ipv6 address;
  for (std::size_t i = 0; i < 8; ++i) {
    address.high = address.high << 8 | bytes[i];
    address.low = address.low << 8 | bytes[i + 8];
  }
  return address;
}

Result<Ipv6> parse_ipv6(std::string_view text) {
  in6_addr parsed{};
  if (text.find('\0') != std::string_view::npos || ::inet_pton(AF_INET6, std::string(text).c_str(), &parsed) != 1)
    return Error(ErrorKind::invalid, concat("\"", text, "\" is not an IPv6 address"));
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), &parsed, bytes.size());
  return Ipv6::from_bytes(bytes);
}

std::string to_string(const Ipv6& address) {
  char text[INET6_ADDRSTRLEN] = {};
  const auto bytes = address.bytes();
  ::inet_ntop(AF_INET6, bytes.data(), text, sizeof text);  // cannot fail: the buffer is as large as the longest address
  return text;
}

Ipv6 Ipv6Prefix::mask() const {
  auto ones = [](unsigned bits) { return bits == 0 ? std::uint64_t{0} : ~std::uint64_t{0} << (64 - bits); };
  return {ones(length < 64 ? length : 64), ones(length > 64 ? length - 64U : 0U)};
}

bool Ipv6Prefix::contains(const Ipv6& other) const {
  const Ipv6 bits = mask();
  return (other.high & bits.high) == address.high && (other.low & bits.low) == address.low;
}

Result<Ipv6Prefix> parse_ipv6_prefix(std::string_view text) {
  Halves halves = split_once(text, '/');
  if (!halves.found) return Error(ErrorKind::invalid, concat("\"", text, "\" is not a subnet (as in fd00::/64)"));
  Ipv6Prefix prefix;
  prefix.address = TRY(parse_ipv6(halves.before), concat("subnet \"", text, "\""));
  prefix.length = TRY(parse_integer<std::uint8_t>(halves.after), concat("subnet \"", text, "\": prefix length"));
  if (prefix.length > 128) return Error(ErrorKind::invalid, concat("subnet \"", text, "\": the prefix length is above 128"));
  if (!prefix.contains(prefix.address)) return Error(ErrorKind::invalid, concat("subnet \"", text, "\": the address has bits beyond the prefix"));
  return prefix;
}

std::string to_string(const Ipv6Prefix& prefix) { return concat(to_string(prefix.address), '/', prefix.length); }

}  // namespace caisson::linux
