// What messages to nftables are made of. Only for files of this module.
#pragma once

#include <arpa/inet.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include <cstdint>

#include "linux/netlink.hpp"

namespace caisson::linux::detail {

constexpr std::uint16_t nft_type(std::uint16_t message) { return static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8 | message); }

inline nfgenmsg generic_header(std::uint8_t family, std::uint16_t resource) {
  nfgenmsg header{};
  header.nfgen_family = family;
  header.version = NFNETLINK_V0;
  header.res_id = htons(resource);
  return header;
}

inline void begin_transaction(NetlinkBatch& batch) {
  batch.begin(NFNL_MSG_BATCH_BEGIN, 0, "starting an nftables transaction", NetlinkBatch::Ack::none);
  batch.header(generic_header(AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
}
inline void end_transaction(NetlinkBatch& batch) {
  batch.begin(NFNL_MSG_BATCH_END, 0, "ending an nftables transaction", NetlinkBatch::Ack::none);
  batch.header(generic_header(AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
}

}  // namespace caisson::linux::detail
