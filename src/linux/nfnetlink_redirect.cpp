// The table of a port redirect as nftables messages: what `nft --debug=netlink` shows for
//   output, priority raw:  ip daddr ADDRESS udp dport PORT udp dport set UDP_PORT   (tcp alike)
//   postrouting:           ip saddr ADDRESS udp sport UDP_PORT udp sport set PORT   (tcp alike)
#include "linux/nfnetlink_redirect.hpp"

#include <arpa/inet.h>
#include <linux/netfilter.h>

#include <cerrno>
#include <string_view>

#include "base/strings.hpp"
#include "linux/nfnetlink_parts.hpp"

namespace caisson::linux {

using detail::generic_header;
using detail::nft_type;

namespace {

constexpr int priority_raw = -300;  // NF_IP_PRI_RAW: before connection tracking
constexpr int priority_filter = 0;
constexpr std::uint32_t source_address_at = 12;  // in the IPv4 header
constexpr std::uint32_t destination_address_at = 16;
constexpr std::uint32_t source_port_at = 0;  // in the headers of UDP and TCP
constexpr std::uint32_t destination_port_at = 2;
constexpr std::uint32_t udp_checksum_at = 6;
constexpr std::uint32_t tcp_checksum_at = 16;

using Bytes = std::vector<std::uint8_t>;
Bytes port_bytes(std::uint16_t port) { return {static_cast<std::uint8_t>(port >> 8), static_cast<std::uint8_t>(port)}; }
Bytes address_bytes(Ipv4 address) {
  Bytes bytes;
  for (int shift : {24, 16, 8, 0}) bytes.push_back(static_cast<std::uint8_t>(address.value >> shift));
  return bytes;
}

/// The expressions of one rule; register 1 carries every value.
class Rule {
 public:
  Rule(NetlinkBatch& batch, std::string_view table, std::string_view chain) : batch_(batch) {
    batch.begin(nft_type(NFT_MSG_NEWRULE), NLM_F_CREATE | NLM_F_APPEND, concat("adding a rule to chain ", chain));
    batch.header(generic_header(NFPROTO_IPV4, 0));
    batch.attribute(NFTA_RULE_TABLE, table);
    batch.attribute(NFTA_RULE_CHAIN, chain);
    list_ = batch.open_nest(NFTA_RULE_EXPRESSIONS);
  }
  Rule(const Rule&) = delete;
  Rule& operator=(const Rule&) = delete;
  ~Rule() { batch_.close_nest(list_); }

  void match_protocol(std::uint8_t protocol) {
    expression("meta", [&] {
      batch_.attribute_u32_network(NFTA_META_KEY, NFT_META_L4PROTO);
      batch_.attribute_u32_network(NFTA_META_DREG, NFT_REG_1);
    });
    compare({protocol});
  }
  void match(std::uint32_t header, std::uint32_t offset, const Bytes& value) {
    expression("payload", [&] {
      batch_.attribute_u32_network(NFTA_PAYLOAD_DREG, NFT_REG_1);
      place(header, offset, value.size());
    });
    compare(value);
  }
  /// Writes into the transport header and corrects its checksum.
  void set(std::uint32_t offset, const Bytes& value, std::uint32_t checksum_at) {
    expression("immediate", [&] {
      batch_.attribute_u32_network(NFTA_IMMEDIATE_DREG, NFT_REG_1);
      data(NFTA_IMMEDIATE_DATA, value);
    });
    expression("payload", [&] {
      batch_.attribute_u32_network(NFTA_PAYLOAD_SREG, NFT_REG_1);
      place(NFT_PAYLOAD_TRANSPORT_HEADER, offset, value.size());
      batch_.attribute_u32_network(NFTA_PAYLOAD_CSUM_TYPE, NFT_PAYLOAD_CSUM_INET);
      batch_.attribute_u32_network(NFTA_PAYLOAD_CSUM_OFFSET, checksum_at);
    });
  }

 private:
  template <typename Fill>
  void expression(std::string_view name, Fill fill) {
    const std::size_t item = batch_.open_nest(NFTA_LIST_ELEM);
    batch_.attribute(NFTA_EXPR_NAME, name);
    const std::size_t inner = batch_.open_nest(NFTA_EXPR_DATA);
    fill();
    batch_.close_nest(inner);
    batch_.close_nest(item);
  }
  void place(std::uint32_t header, std::uint32_t offset, std::size_t size) {
    batch_.attribute_u32_network(NFTA_PAYLOAD_BASE, header);
    batch_.attribute_u32_network(NFTA_PAYLOAD_OFFSET, offset);
    batch_.attribute_u32_network(NFTA_PAYLOAD_LEN, static_cast<std::uint32_t>(size));
  }
  void data(std::uint16_t type, const Bytes& value) {
    const std::size_t nest = batch_.open_nest(type);
    batch_.attribute(NFTA_DATA_VALUE, std::span<const std::uint8_t>(value));
    batch_.close_nest(nest);
  }
  void compare(const Bytes& value) {
    expression("cmp", [&] {
      batch_.attribute_u32_network(NFTA_CMP_SREG, NFT_REG_1);
      batch_.attribute_u32_network(NFTA_CMP_OP, NFT_CMP_EQ);
      data(NFTA_CMP_DATA, value);
    });
  }

  NetlinkBatch& batch_;
  std::size_t list_ = 0;
};

/// The table's comment, as nft writes one (a type, a length, a text): what the rules lead to can be told without reading them.
std::string comment_of(const PortRedirect& redirect) {
  constexpr char comment_type = 0;  // NFTNL_UDATA_TABLE_COMMENT
  const std::string text = concat("port ", redirect.port, " of ", to_string(redirect.address), ": udp ", redirect.udp_port, ", tcp ", redirect.tcp_port);
  return concat(comment_type, static_cast<char>(text.size() + 1), text, '\0');
}

void delete_table(NetlinkBatch& batch, std::string_view table) {
  batch.begin(nft_type(NFT_MSG_DELTABLE), 0, concat("replacing table ", table));
  batch.header(generic_header(NFPROTO_IPV4, 0));
  batch.attribute(NFTA_TABLE_NAME, table);
}

void add_table(NetlinkBatch& batch, const PortRedirect& redirect) {
  batch.begin(nft_type(NFT_MSG_NEWTABLE), NLM_F_CREATE | NLM_F_EXCL, concat("adding table ", redirect.table));
  batch.header(generic_header(NFPROTO_IPV4, 0));
  batch.attribute(NFTA_TABLE_NAME, std::string_view(redirect.table));
  const std::string comment = comment_of(redirect);
  batch.attribute(NFTA_TABLE_USERDATA, std::span(reinterpret_cast<const std::uint8_t*>(comment.data()), comment.size()));
}

/// Whether the table that is there is this one, by its comment.
Result<bool> is_in_place(NetlinkSocket& socket, const PortRedirect& redirect) {
  NetlinkBatch batch;
  batch.begin(nft_type(NFT_MSG_GETTABLE), 0, concat("reading table ", redirect.table), NetlinkBatch::Ack::none);
  batch.header(generic_header(NFPROTO_IPV4, 0));
  batch.attribute(NFTA_TABLE_NAME, std::string_view(redirect.table));
  constexpr std::size_t attributes_at = sizeof(nlmsghdr) + sizeof(nfgenmsg);
  for (const auto& message : TRY_PLAIN(socket.request(batch))) {
    if (message.size() < attributes_at) continue;
    for (const auto& attribute : parse_netlink_attributes(std::string_view(message).substr(attributes_at)))
      if (attribute.type == NFTA_TABLE_USERDATA) return attribute.value == comment_of(redirect);
  }
  return false;
}

void add_chain(NetlinkBatch& batch, std::string_view table, std::string_view chain, std::uint32_t hook, int priority) {
  batch.begin(nft_type(NFT_MSG_NEWCHAIN), NLM_F_CREATE, concat("adding chain ", chain));
  batch.header(generic_header(NFPROTO_IPV4, 0));
  batch.attribute(NFTA_CHAIN_TABLE, table);
  batch.attribute(NFTA_CHAIN_NAME, chain);
  const std::size_t nest = batch.open_nest(NFTA_CHAIN_HOOK);
  batch.attribute_u32_network(NFTA_HOOK_HOOKNUM, hook);
  batch.attribute_u32_network(NFTA_HOOK_PRIORITY, static_cast<std::uint32_t>(priority));
  batch.close_nest(nest);
  batch.attribute_u32_network(NFTA_CHAIN_POLICY, NF_ACCEPT);
  batch.attribute(NFTA_CHAIN_TYPE, std::string_view("filter"));
}

void add_rules(NetlinkBatch& batch, const PortRedirect& redirect, std::uint8_t protocol, std::uint16_t port, std::uint32_t checksum_at) {
  {
    Rule request(batch, redirect.table, "output");
    request.match(NFT_PAYLOAD_NETWORK_HEADER, destination_address_at, address_bytes(redirect.address));
    request.match_protocol(protocol);
    request.match(NFT_PAYLOAD_TRANSPORT_HEADER, destination_port_at, port_bytes(redirect.port));
    request.set(destination_port_at, port_bytes(port), checksum_at);
  }
  Rule answer(batch, redirect.table, "postrouting");
  answer.match(NFT_PAYLOAD_NETWORK_HEADER, source_address_at, address_bytes(redirect.address));
  answer.match_protocol(protocol);
  answer.match(NFT_PAYLOAD_TRANSPORT_HEADER, source_port_at, port_bytes(port));
  answer.set(source_port_at, port_bytes(redirect.port), checksum_at);
}

}  // namespace

NetlinkBatch port_redirect_batch(const PortRedirect& redirect, RedirectTable table) {
  NetlinkBatch batch;
  detail::begin_transaction(batch);
  if (table == RedirectTable::replaced) delete_table(batch, redirect.table);
  add_table(batch, redirect);
  add_chain(batch, redirect.table, "output", NF_INET_LOCAL_OUT, priority_raw);
  add_chain(batch, redirect.table, "postrouting", NF_INET_POST_ROUTING, priority_filter);
  add_rules(batch, redirect, IPPROTO_UDP, redirect.udp_port, udp_checksum_at);
  add_rules(batch, redirect, IPPROTO_TCP, redirect.tcp_port, tcp_checksum_at);
  detail::end_transaction(batch);
  return batch;
}

Status install_port_redirect(const PortRedirect& redirect) {
  auto socket = NetlinkSocket::open(NETLINK_NETFILTER);
  if (!socket) {
    if (socket.error().error_number() == EPROTONOSUPPORT) return std::move(socket).error().in("nftables").with_kind(ErrorKind::unsupported);
    return std::move(socket).error().in("nftables");
  }
  Status installed = socket->execute(port_redirect_batch(redirect, RedirectTable::fresh));
  if (!installed && installed.error().error_number() == EEXIST) {
    if (TRY(is_in_place(*socket, redirect), concat("nftables table ", redirect.table))) return {};
    installed = socket->execute(port_redirect_batch(redirect, RedirectTable::replaced));
  }
  if (!installed) return std::move(installed).error().in(concat("nftables table ", redirect.table));
  return {};
}

}  // namespace caisson::linux
