// IPv6 addresses and prefixes as numbers, so that arithmetic on them is plain.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson::linux {

/// An IPv6 address as two halves in host byte order.
struct Ipv6 {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  auto operator<=>(const Ipv6&) const = default;
  /// In network byte order.
  [[nodiscard]] std::array<std::uint8_t, 16> bytes() const;
  static Ipv6 from_bytes(const std::array<std::uint8_t, 16>& bytes);
};
/// "fd00::2", without a zone. Errors: invalid.
Result<Ipv6> parse_ipv6(std::string_view text);
/// The short form of RFC 5952.
std::string to_string(const Ipv6& address);

struct Ipv6Prefix {
  Ipv6 address;  ///< bits beyond `length` are 0
  std::uint8_t length = 0;
  [[nodiscard]] Ipv6 mask() const;
  [[nodiscard]] bool contains(const Ipv6& other) const;
  /// True when one contains the other.
  [[nodiscard]] bool overlaps(const Ipv6Prefix& other) const { return contains(other.address) || other.contains(address); }
  bool operator==(const Ipv6Prefix&) const = default;
};
/// "fd00::/64"; host bits must be 0. Errors: invalid.
Result<Ipv6Prefix> parse_ipv6_prefix(std::string_view text);
std::string to_string(const Ipv6Prefix& prefix);

}  // namespace caisson::linux
