// nfnetlink messages for elements of nftables maps.
#include "linux/nfnetlink.hpp"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include <cerrno>

#include "base/strings.hpp"
#include "linux/nfnetlink_parts.hpp"

namespace caisson::linux {

using detail::begin_transaction;
using detail::end_transaction;
using detail::generic_header;
using detail::nft_type;

namespace {

enum class Change : std::uint8_t { add, remove };

void add_data(NetlinkBatch& batch, std::uint16_t type, const NftValue& value) {
  std::size_t nest = batch.open_nest(type);
  batch.attribute(NFTA_DATA_VALUE, std::span<const std::uint8_t>(value.bytes()));
  batch.close_nest(nest);
}

/// One message per element: then the kernel's answers name the element that failed.
void add_message(NetlinkBatch& batch, std::string_view table, const NftElement& element, Change change) {
  // Without NLM_F_EXCL: the same element once more is fine, another value under the key is EBUSY.
  if (change == Change::add) batch.begin(nft_type(NFT_MSG_NEWSETELEM), NLM_F_CREATE, element.what);
  else batch.begin(nft_type(NFT_MSG_DELSETELEM), 0, element.what);
  batch.header(generic_header(NFPROTO_INET, 0));
  batch.attribute(NFTA_SET_ELEM_LIST_TABLE, table);
  batch.attribute(NFTA_SET_ELEM_LIST_SET, element.map);
  std::size_t list = batch.open_nest(NFTA_SET_ELEM_LIST_ELEMENTS);
  std::size_t item = batch.open_nest(NFTA_LIST_ELEM);
  add_data(batch, NFTA_SET_ELEM_KEY, element.key);
  if (change == Change::add) add_data(batch, NFTA_SET_ELEM_DATA, element.value);
  batch.close_nest(item);
  batch.close_nest(list);
}

NetlinkBatch transaction(std::string_view table, const std::vector<NftElement>& elements, Change change) {
  NetlinkBatch batch;
  begin_transaction(batch);
  for (const auto& element : elements) add_message(batch, table, element, change);
  end_transaction(batch);
  return batch;
}

}  // namespace

NftValue& NftValue::ipv4(std::uint32_t host_order) {
  for (int shift : {24, 16, 8, 0}) bytes_.push_back(static_cast<std::uint8_t>(host_order >> shift));
  return *this;
}

NftValue& NftValue::ipv6(const Ipv6& address) {
  const auto bytes = address.bytes();
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  return *this;
}

NftValue& NftValue::protocol(std::uint8_t number) {
  bytes_.insert(bytes_.end(), {number, 0, 0, 0});
  return *this;
}

NftValue& NftValue::port(std::uint16_t number) {
  bytes_.insert(bytes_.end(), {static_cast<std::uint8_t>(number >> 8), static_cast<std::uint8_t>(number), 0, 0});
  return *this;
}

NetlinkBatch add_elements_batch(std::string_view table, const std::vector<NftElement>& elements) {
  return transaction(table, elements, Change::add);
}

NetlinkBatch delete_elements_batch(std::string_view table, const std::vector<NftElement>& elements) {
  return transaction(table, elements, Change::remove);
}

Status add_nft_elements(std::string_view table, const std::vector<NftElement>& elements) {
  if (elements.empty()) return {};
  NetlinkSocket socket = TRY(NetlinkSocket::open(NETLINK_NETFILTER), "nftables");
  TRY(socket.execute(add_elements_batch(table, elements)), concat("nftables table ", table));
  return {};
}

Status delete_nft_elements(std::string_view table, const std::vector<NftElement>& elements) {
  std::vector<NftElement> left = elements;
  NetlinkSocket socket = TRY(NetlinkSocket::open(NETLINK_NETFILTER), "nftables");
  // A transaction fails as a whole when one element is missing: drop those and try the rest. Each round removes at least
  // one element, so it ends.
  while (!left.empty()) {
    auto answers = TRY(socket.exchange(delete_elements_batch(table, left)), concat("nftables table ", table));
    std::vector<NftElement> remaining;
    for (std::size_t i = 0; i < left.size(); ++i) {
      const NetlinkAnswer& answer = answers[i + 1];  // [0] is the begin message
      if (answer.error_number == 0) remaining.push_back(left[i]);
      else if (answer.error_number != ENOENT) return netlink_error(answer).in(concat("nftables table ", table));
    }
    if (remaining.size() == left.size()) {
      for (const auto& answer : answers)
        if (answer.error_number != 0) return netlink_error(answer).in(concat("nftables table ", table));
      return {};
    }
    left = std::move(remaining);
  }
  return {};
}

}  // namespace caisson::linux
