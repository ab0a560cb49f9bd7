// Address management of one subnet.
#include "network/address_pool.hpp"

#include <algorithm>

#include "base/strings.hpp"

namespace caisson::network {
namespace {

Error not_of(std::string_view what, const std::string& address, const std::string& subnet) {
  return {ErrorKind::invalid, concat(what, " ", address, " is not in subnet ", subnet)};
}
Error all_taken(const std::string& subnet) { return {ErrorKind::unavailable, concat("no address left in subnet ", subnet)}; }

}  // namespace

std::vector<linux::Ipv4Prefix> default_subnets() {
  std::vector<linux::Ipv4Prefix> subnets;
  // docker takes 172.17 upwards, podman 10.88; we come from above and end with ranges of 10/8.
  for (std::uint32_t second = 30; second >= 18; --second) subnets.push_back({linux::Ipv4{172U << 24 | second << 16}, 16});
  for (std::uint32_t second = 88; second < 104; ++second) subnets.push_back({linux::Ipv4{10U << 24 | second << 16}, 16});
  for (std::uint32_t third = 0; third < 256; ++third) subnets.push_back({linux::Ipv4{10U << 24 | 104U << 16 | third << 8}, 24});
  return subnets;
}

std::optional<std::uint64_t> OffsetPool::take() {
  if (first_ > last_) return std::nullopt;
  // Once round and no further. Whatever is taken or reserved was one insert each, so the walk is no longer than these.
  std::uint64_t candidate = next_;
  const std::uint64_t count = last_ - first_;
  for (std::uint64_t tried = 0; tried <= count; ++tried) {
    const std::uint64_t following = candidate >= last_ ? first_ : candidate + 1;
    if (!is_reserved(candidate) && taken_.insert(candidate).second) {
      next_ = following;
      return candidate;
    }
    if (tried == count) break;
    candidate = following;
  }
  return std::nullopt;
}

AddressPool::AddressPool(linux::Ipv4Prefix subnet, linux::Ipv4Prefix range)
    : subnet_(subnet), pool_(range.address.value - subnet.address.value, std::uint64_t{range.address.value} - subnet.address.value + ~range.mask()) {
  if (subnet.length < 31) {
    pool_.reserve(0);
    pool_.reserve(~subnet.mask());
  }
}

AddressPool::AddressPool(linux::Ipv4Prefix subnet, linux::Ipv4 gateway) : AddressPool(subnet, subnet) {
  pool_.reserve(gateway.value - subnet.address.value);
}

Result<AddressPool> AddressPool::create(const Subnet& subnet) {
  auto whole = TRY_PLAIN(linux::parse_ipv4_prefix(subnet.cidr));
  auto range = whole;
  if (!subnet.range.empty()) {
    range = TRY(linux::parse_ipv4_prefix(subnet.range), "ip-range");
    if (!whole.contains(range.address) || range.length < whole.length) return not_of("ip-range", subnet.range, subnet.cidr);
  }
  AddressPool pool(whole, range);
  auto reserve = [&](std::string_view what, const std::string& text) -> Status {
    auto address = TRY(linux::parse_ipv4(text), what);
    if (!whole.contains(address)) return not_of(what, text, subnet.cidr);
    pool.pool_.reserve(address.value - whole.address.value);
    return {};
  };
  if (!subnet.gateway.empty()) TRY_PLAIN(reserve("gateway", subnet.gateway));
  for (const auto& [name, address] : subnet.reserved) TRY_PLAIN(reserve("auxiliary address", address));
  return pool;
}

Result<linux::Ipv4> AddressPool::take() {
  auto offset = pool_.take();
  if (!offset) return all_taken(linux::to_string(subnet_));
  return linux::Ipv4{static_cast<std::uint32_t>(subnet_.address.value + *offset)};
}

Status AddressPool::take(linux::Ipv4 wanted) {
  if (!subnet_.contains(wanted)) return not_of("address", linux::to_string(wanted), linux::to_string(subnet_));
  const std::uint32_t offset = wanted.value - subnet_.address.value;
  if (pool_.is_reserved(offset)) return Error(ErrorKind::invalid, concat("address ", linux::to_string(wanted), " is reserved in subnet ", linux::to_string(subnet_)));
  if (!pool_.take(offset)) return Error(ErrorKind::conflict, concat("Address already in use: ", linux::to_string(wanted)));
  return {};
}

void AddressPool::give_back(linux::Ipv4 address) { pool_.give_back(address.value - subnet_.address.value); }

namespace {
/// The highest lower half of an address that is in `prefix` and in the prefix's first /64.
std::uint64_t last_low(const linux::Ipv6Prefix& prefix) { return prefix.address.low | ~prefix.mask().low; }
}  // namespace

AddressPool6::AddressPool6(linux::Ipv6Prefix subnet, linux::Ipv6Prefix range) : subnet_(subnet), high_(range.address.high), pool_(range.address.low, last_low(range)) {
  if (high_ == subnet.address.high) pool_.reserve(subnet.address.low);  // the routers' anycast address (RFC 4291, 2.6.1)
}

Result<AddressPool6> AddressPool6::create(const Subnet& subnet) {
  auto whole = TRY_PLAIN(linux::parse_ipv6_prefix(subnet.cidr));
  auto range = whole;
  if (!subnet.range.empty()) {
    range = TRY(linux::parse_ipv6_prefix(subnet.range), "ip-range");
    if (!whole.contains(range.address) || range.length < whole.length) return not_of("ip-range", subnet.range, subnet.cidr);
  }
  AddressPool6 pool(whole, range);
  auto reserve = [&](std::string_view what, const std::string& text) -> Status {
    auto address = TRY(linux::parse_ipv6(text), what);
    if (!whole.contains(address)) return not_of(what, text, subnet.cidr);
    if (address.high == pool.high_) pool.pool_.reserve(address.low);
    return {};
  };
  if (!subnet.gateway.empty()) TRY_PLAIN(reserve("gateway", subnet.gateway));
  for (const auto& [name, address] : subnet.reserved) TRY_PLAIN(reserve("auxiliary address", address));
  return pool;
}

Result<linux::Ipv6> AddressPool6::take() {
  auto low = pool_.take();
  if (!low) return all_taken(linux::to_string(subnet_));
  return linux::Ipv6{high_, *low};
}

Status AddressPool6::take(const linux::Ipv6& wanted) {
  if (!subnet_.contains(wanted)) return not_of("address", linux::to_string(wanted), linux::to_string(subnet_));
  if (wanted.high != high_) return {};  // beyond the part that is handed out; its lease in the store tells whether it is taken
  if (pool_.is_reserved(wanted.low)) return Error(ErrorKind::invalid, concat("address ", linux::to_string(wanted), " is reserved in subnet ", linux::to_string(subnet_)));
  if (!pool_.take(wanted.low)) return Error(ErrorKind::conflict, concat("Address already in use: ", linux::to_string(wanted)));
  return {};
}

void AddressPool6::give_back(const linux::Ipv6& address) {
  if (address.high == high_) pool_.give_back(address.low);
}

}  // namespace caisson::network
