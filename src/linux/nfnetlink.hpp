// nfnetlink: elements of existing nftables maps added and removed without starting nft (2.5 ms per start saved).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "linux/ipv6.hpp"
#include "linux/netlink.hpp"

namespace caisson::linux {

/// A key or value of concatenated fields, as the kernel stores it: each field in network byte order, padded to 4 bytes.
class NftValue {
 public:
  NftValue& ipv4(std::uint32_t host_order);
  NftValue& ipv6(const Ipv6& address);
  NftValue& protocol(std::uint8_t number);  ///< inet_proto
  NftValue& port(std::uint16_t number);     ///< inet_service
  [[nodiscard]] const std::vector<std::uint8_t>& bytes() const { return bytes_; }
  bool operator==(const NftValue&) const = default;

 private:
  std::vector<std::uint8_t> bytes_;
};

/// An element of a map of a table of family inet, "KEY : VALUE".
struct NftElement {
  std::string map;
  NftValue key;
  NftValue value;
  std::string what;  ///< names the element in errors ("port 0.0.0.0:8080/tcp")
};

/// The bytes of one transaction (NFNL_MSG_BATCH_BEGIN … END). Pure.
NetlinkBatch add_elements_batch(std::string_view table, const std::vector<NftElement>& elements);
NetlinkBatch delete_elements_batch(std::string_view table, const std::vector<NftElement>& elements);

/// Adds all elements or none; one that is there already is no error. Errors: not_found (the table or a map is not there), conflict (another value stands under a
/// key), denied. Each error names its element. Privilege: CAP_NET_ADMIN.
Status add_nft_elements(std::string_view table, const std::vector<NftElement>& elements);
/// Removes the elements that are there; one that is already gone, or a whole table, is no error.
Status delete_nft_elements(std::string_view table, const std::vector<NftElement>& elements);

}  // namespace caisson::linux
