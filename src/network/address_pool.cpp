// Address management of one subnet.
#include "network/address_pool.hpp"

#include "base/strings.hpp"

namespace caisson::network {

std::vector<linux::Ipv4Prefix> default_subnets() {
  std::vector<linux::Ipv4Prefix> subnets;
  // docker takes 172.17 upwards, podman 10.88; we come from above and end with ranges of 10/8.
  for (std::uint32_t second = 30; second >= 18; --second) subnets.push_back({linux::Ipv4{172U << 24 | second << 16}, 16});
  for (std::uint32_t second = 88; second < 104; ++second) subnets.push_back({linux::Ipv4{10U << 24 | second << 16}, 16});
  return subnets;
}

AddressPool::AddressPool(linux::Ipv4Prefix subnet, linux::Ipv4 gateway) : subnet_(subnet), gateway_(gateway), last_(0) {}

bool AddressPool::is_reserved(linux::Ipv4 address) const {
  std::uint32_t offset = address.value - subnet_.address.value;
  return address == gateway_ || offset == 0 || offset == ~subnet_.mask();
}

Result<linux::Ipv4> AddressPool::take() {
  const std::uint32_t highest = ~subnet_.mask();
  for (std::uint64_t tried = 0; tried <= highest; ++tried) {
    last_ = last_ >= highest ? 0 : last_ + 1;
    linux::Ipv4 candidate{subnet_.address.value + last_};
    if (!is_reserved(candidate) && taken_.insert(candidate.value).second) return candidate;
  }
  return Error(ErrorKind::unavailable, concat("no address left in subnet ", linux::to_string(subnet_)));
}

Status AddressPool::take(linux::Ipv4 wanted) {
  if (!subnet_.contains(wanted)) return Error(ErrorKind::invalid, concat("address ", linux::to_string(wanted), " is not in subnet ", linux::to_string(subnet_)));
  if (is_reserved(wanted)) return Error(ErrorKind::invalid, concat("address ", linux::to_string(wanted), " is reserved in subnet ", linux::to_string(subnet_)));
  if (!taken_.insert(wanted.value).second) return Error(ErrorKind::conflict, concat("Address already in use: ", linux::to_string(wanted)));
  return {};
}

void AddressPool::give_back(linux::Ipv4 address) { taken_.erase(address.value); }

}  // namespace caisson::network
