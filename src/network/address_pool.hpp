// AddressPool: which addresses of a subnet are taken. Pure; the manager keeps it in step with the store.
#pragma once

#include <cstdint>
#include <set>

#include "base/result.hpp"
#include "linux/rtnetlink.hpp"

namespace caisson::network {

/// The subnets tried in turn when none is configured: private /16 ranges that docker does not use first itself.
std::vector<linux::Ipv4Prefix> default_subnets();

/// Hands out addresses one after another, not the lowest free one: an address that was just returned may still be in
/// neighbour caches and connection tracking of others.
class AddressPool {
 public:
  /// `gateway` and the first and last address of the subnet are never handed out.
  AddressPool(linux::Ipv4Prefix subnet, linux::Ipv4 gateway);
  /// Errors: unavailable when all are taken.
  Result<linux::Ipv4> take();
  /// Errors: conflict (taken), invalid (not of this subnet, or reserved).
  Status take(linux::Ipv4 wanted);
  void give_back(linux::Ipv4 address);
  [[nodiscard]] std::size_t taken() const { return taken_.size(); }

 private:
  [[nodiscard]] bool is_reserved(linux::Ipv4 address) const;
  linux::Ipv4Prefix subnet_;
  linux::Ipv4 gateway_;
  std::uint32_t last_;  ///< handed out last, as an offset from the subnet's address
  std::set<std::uint32_t> taken_;
};

}  // namespace caisson::network
