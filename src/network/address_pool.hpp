// Which addresses of a subnet are taken, and which subnets a network may have. Pure; the manager keeps it in step with the store.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "base/result.hpp"
#include "linux/ipv6.hpp"
#include "linux/rtnetlink.hpp"
#include "network/network.hpp"

namespace caisson::network {

/// The subnets tried in turn when none is configured: private ranges that docker does not use first itself; large ones first, then as many
/// small ones as somebody may want networks.
std::vector<linux::Ipv4Prefix> default_subnets();

/// Hands out numbers one after another, not the lowest free one: an address that was just returned may still be in
/// neighbour caches and connection tracking of others.
class OffsetPool {
 public:
  OffsetPool(std::uint64_t first, std::uint64_t last) : first_(first), last_(last), next_(first) {}
  void reserve(std::uint64_t offset) { reserved_.insert(offset); }
  [[nodiscard]] bool is_reserved(std::uint64_t offset) const { return reserved_.contains(offset); }
  /// None when all are taken.
  std::optional<std::uint64_t> take();
  /// False when it is taken already. May lie outside of first … last.
  bool take(std::uint64_t offset) { return taken_.insert(offset).second; }
  void give_back(std::uint64_t offset) { taken_.erase(offset); }
  [[nodiscard]] std::size_t taken() const { return taken_.size(); }

 private:
  std::uint64_t first_;
  std::uint64_t last_;
  std::uint64_t next_;
  std::set<std::uint64_t> reserved_;
  std::set<std::uint64_t> taken_;
};

class AddressPool {
 public:
  /// `gateway` and the first and last address of the subnet are never handed out.
  AddressPool(linux::Ipv4Prefix subnet, linux::Ipv4 gateway);
  /// Errors: invalid: texts of the subnet that are no addresses, or not of it.
  static Result<AddressPool> create(const Subnet& subnet);
  /// Errors: unavailable when all are taken.
  Result<linux::Ipv4> take();
  /// Errors: conflict (taken), invalid (not of this subnet, or reserved).
  Status take(linux::Ipv4 wanted);
  void give_back(linux::Ipv4 address);
  [[nodiscard]] const linux::Ipv4Prefix& subnet() const { return subnet_; }
  [[nodiscard]] std::size_t taken() const { return pool_.taken(); }

 private:
  AddressPool(linux::Ipv4Prefix subnet, linux::Ipv4Prefix range);
  linux::Ipv4Prefix subnet_;
  OffsetPool pool_;  ///< of offsets from the subnet's address
};

/// The same for IPv6. Out of a subnet that is larger than a /64 only its first /64 is handed out.
class AddressPool6 {
 public:
  /// Errors: invalid.
  static Result<AddressPool6> create(const Subnet& subnet);
  Result<linux::Ipv6> take();
  Status take(const linux::Ipv6& wanted);
  void give_back(const linux::Ipv6& address);
  [[nodiscard]] const linux::Ipv6Prefix& subnet() const { return subnet_; }

 private:
  AddressPool6(linux::Ipv6Prefix subnet, linux::Ipv6Prefix range);
  linux::Ipv6Prefix subnet_;
  std::uint64_t high_;  ///< the upper half of what is handed out
  OffsetPool pool_;     ///< of lower halves
};

}  // namespace caisson::network
