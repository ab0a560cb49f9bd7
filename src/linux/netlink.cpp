// Netlink messages and the socket that carries them (netlink(7)).
#include "linux/netlink.hpp"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "base/strings.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {
namespace {

constexpr std::size_t align4(std::size_t size) { return (size + 3U) & ~std::size_t{3}; }
constexpr std::size_t receive_buffer_bytes = 64U << 10U;  // the kernel never makes a dump message larger than 32 KiB
// An unread answer is charged about 1 KiB of the default 208 KiB receive buffer.
constexpr std::size_t answers_in_default_buffer = 100;

template <typename T>
T read_struct(std::string_view bytes) {
  T value{};
  std::memcpy(&value, bytes.data(), std::min(sizeof value, bytes.size()));
  return value;
}

/// Calls visit(header, payload) for every whole message in `bytes` until it returns false.
template <typename Visit>
void for_each_message(std::string_view bytes, Visit visit) {
  while (bytes.size() >= sizeof(nlmsghdr)) {
    auto header = read_struct<nlmsghdr>(bytes);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > bytes.size()) return;
    if (!visit(header, bytes.substr(0, header.nlmsg_len))) return;
    bytes.remove_prefix(std::min(align4(header.nlmsg_len), bytes.size()));
  }
}

/// The kernel's words in an NLMSG_ERROR message; we asked for capped acks, so the attributes follow nlmsgerr at once.
std::string extended_ack(const nlmsghdr& header, std::string_view message) {
  constexpr std::size_t attributes_at = sizeof(nlmsghdr) + sizeof(nlmsgerr);
  if ((header.nlmsg_flags & NLM_F_ACK_TLVS) == 0 || message.size() < attributes_at) return {};
  return attribute_text(parse_netlink_attributes(message.substr(attributes_at)), NLMSGERR_ATTR_MSG);
}

}  // namespace

void NetlinkBatch::append(const void* data, std::size_t size) {
  bytes_.append(static_cast<const char*>(data), size);
  bytes_.append(align4(size) - size, '\0');
  patch_length();
}

void NetlinkBatch::patch_length() {
  std::size_t offset = messages_.back().offset;
  auto length = static_cast<std::uint32_t>(bytes_.size() - offset);
  std::memcpy(bytes_.data() + offset + offsetof(nlmsghdr, nlmsg_len), &length, sizeof length);
}

void NetlinkBatch::begin(std::uint16_t type, std::uint16_t flags, std::string what, Ack ack) {
  Message message;
  message.offset = bytes_.size();
  message.what = std::move(what);
  message.wants_ack = ack == Ack::wanted;
  messages_.push_back(std::move(message));
  nlmsghdr header{};
  header.nlmsg_type = type;
  header.nlmsg_flags = static_cast<std::uint16_t>(flags | NLM_F_REQUEST | (ack == Ack::wanted ? NLM_F_ACK : 0));
  append(&header, sizeof header);
}

void NetlinkBatch::attribute(std::uint16_t type, std::span<const std::uint8_t> value) {
  nlattr header{};
  header.nla_type = type;
  header.nla_len = static_cast<std::uint16_t>(sizeof header + value.size());
  bytes_.append(reinterpret_cast<const char*>(&header), sizeof header);
  append(value.data(), value.size());
}

void NetlinkBatch::attribute(std::uint16_t type, std::string_view text) {
  std::string with_nul(text);
  with_nul += '\0';
  attribute(type, std::span(reinterpret_cast<const std::uint8_t*>(with_nul.data()), with_nul.size()));
}

void NetlinkBatch::attribute_u8(std::uint16_t type, std::uint8_t value) { attribute(type, std::span(&value, 1)); }

void NetlinkBatch::attribute_u16_network(std::uint16_t type, std::uint16_t value) {
  const std::uint8_t octets[] = {static_cast<std::uint8_t>(value >> 8), static_cast<std::uint8_t>(value)};
  attribute(type, octets);
}

void NetlinkBatch::attribute_u32(std::uint16_t type, std::uint32_t value) {
  std::uint8_t octets[sizeof value];
  std::memcpy(octets, &value, sizeof value);
  attribute(type, octets);
}

void NetlinkBatch::attribute_u32_network(std::uint16_t type, std::uint32_t value) { attribute_u32(type, htonl(value)); }

std::size_t NetlinkBatch::open_nest(std::uint16_t type) {
  std::size_t position = bytes_.size();
  attribute(static_cast<std::uint16_t>(type | NLA_F_NESTED), std::span<const std::uint8_t>{});
  return position;
}

void NetlinkBatch::close_nest(std::size_t position) {
  auto length = static_cast<std::uint16_t>(bytes_.size() - position);
  std::memcpy(bytes_.data() + position + offsetof(nlattr, nla_len), &length, sizeof length);
}

Error netlink_error(const NetlinkAnswer& answer) {
  Error plain = Error::from_errno(answer.error_number, answer.what);
  if (answer.text.empty()) return plain;
  return Error(plain.kind(), concat(plain.text(), " (", answer.text, ")"), answer.error_number);
}

std::vector<NetlinkAttribute> parse_netlink_attributes(std::string_view bytes) {
  std::vector<NetlinkAttribute> attributes;
  while (bytes.size() >= sizeof(nlattr)) {
    auto header = read_struct<nlattr>(bytes);
    if (header.nla_len < sizeof header || header.nla_len > bytes.size()) break;
    NetlinkAttribute attribute;
    attribute.type = static_cast<std::uint16_t>(header.nla_type & 0x3fffU);  // NLA_TYPE_MASK
    attribute.value = bytes.substr(sizeof header, header.nla_len - sizeof header);
    attributes.push_back(attribute);
    bytes.remove_prefix(std::min(align4(header.nla_len), bytes.size()));
  }
  return attributes;
}

std::uint32_t attribute_number(std::span<const NetlinkAttribute> attributes, std::uint16_t type, std::uint32_t fallback) {
  for (const auto& attribute : attributes)
    if (attribute.type == type && attribute.value.size() >= sizeof(std::uint32_t)) return read_struct<std::uint32_t>(attribute.value);
  return fallback;
}

std::string attribute_text(std::span<const NetlinkAttribute> attributes, std::uint16_t type) {
  for (const auto& attribute : attributes)
    if (attribute.type == type) return std::string(attribute.value.substr(0, attribute.value.find('\0')));
  return {};
}

Result<NetlinkSocket> NetlinkSocket::open(int protocol) {
  UniqueFd fd = TRY_PLAIN(
      detail::descriptor("netlink_socket", [&] { return ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol); }));
  const int on = 1;
  for (int option : {NETLINK_EXT_ACK, NETLINK_CAP_ACK})
    TRY_PLAIN(detail::status("netlink_setsockopt", [&] { return ::setsockopt(fd.get(), SOL_NETLINK, option, &on, sizeof on); }));
  return NetlinkSocket(std::move(fd));
}

Status NetlinkSocket::send(const NetlinkBatch& batch, std::uint32_t first_sequence) {
  if (batch.message_count() > answers_in_default_buffer) {
    // Without room for all answers the kernel drops some and reports ENOBUFS.
    const int room = static_cast<int>(std::min<std::size_t>(batch.message_count() * 2048, 64U << 20U));
    TRY_PLAIN(detail::status("netlink_setsockopt", [&] { return ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room); }));
    TRY_PLAIN(detail::status("netlink_setsockopt", [&] { return ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room); }));
  }
  std::string bytes(batch.bytes());
  for (std::size_t i = 0; i < batch.messages_.size(); ++i) {
    std::uint32_t sequence = first_sequence + static_cast<std::uint32_t>(i);
    std::memcpy(bytes.data() + batch.messages_[i].offset + offsetof(nlmsghdr, nlmsg_seq), &sequence, sizeof sequence);
  }
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  return detail::status("netlink_send", [&] {
    return ::sendto(fd_.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel);
  });
}

Result<std::string_view> NetlinkSocket::receive(char* buffer) {
  sockaddr_nl sender{};
  socklen_t size = sizeof sender;
  // Everything has been handled inside sendto, so an answer is there or never comes.
  const auto length = TRY_PLAIN(detail::value<std::size_t>("netlink_receive", [&] {
    return ::recvfrom(fd_.get(), buffer, receive_buffer_bytes, MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&sender), &size);
  }));
  return std::string_view(buffer, length);
}

Result<std::vector<NetlinkAnswer>> NetlinkSocket::exchange(const NetlinkBatch& batch) {
  const std::uint32_t first = next_sequence_;
  next_sequence_ += static_cast<std::uint32_t>(batch.message_count());
  std::vector<NetlinkAnswer> answers(batch.message_count());
  std::size_t missing = 0;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    answers[i].what = batch.messages_[i].what;
    if (batch.messages_[i].wants_ack) ++missing;
  }
  TRY(send(batch, first), "netlink");
  // Not zeroed: an answer fills a few hundred bytes, and each page that is touched costs a fault.
  const std::unique_ptr<char[]> buffer(new char[receive_buffer_bytes]);
  while (missing > 0) {
    const std::string_view received = TRY(receive(buffer.get()), concat("netlink: waiting for ", missing, " answers"));
    bool batch_refused = false;
    for_each_message(received, [&](const nlmsghdr& header, std::string_view message) {
      if (header.nlmsg_type != NLMSG_ERROR || message.size() < sizeof(nlmsghdr) + sizeof(int)) return true;
      const std::uint32_t index = header.nlmsg_seq - first;
      if (index >= answers.size() || answers[index].answered) return true;  // left over from an exchange that was given up
      NetlinkAnswer& answer = answers[index];
      answer.answered = true;
      answer.error_number = -read_struct<int>(message.substr(sizeof(nlmsghdr)));
      answer.text = extended_ack(header, message);
      if (batch.messages_[index].wants_ack) --missing;
      else if (answer.error_number != 0) batch_refused = true;  // an nfnetlink batch refused as a whole: nothing else will come
      return true;
    });
    if (batch_refused) break;
  }
  return answers;
}

Status NetlinkSocket::execute(const NetlinkBatch& batch) {
  auto answers = TRY_PLAIN(exchange(batch));
  for (std::size_t i = 0; i < answers.size(); ++i)
    if (answers[i].error_number != 0 && !batch.messages_[i].may_fail) return netlink_error(answers[i]);
  return {};
}

Result<std::vector<NetlinkMessage>> NetlinkSocket::request(const NetlinkBatch& batch) {
  const std::uint32_t sequence = next_sequence_++;
  const std::string& what = batch.messages_.front().what;
  const bool is_dump = (read_struct<nlmsghdr>(batch.bytes()).nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
  TRY(send(batch, sequence), what);
  std::vector<NetlinkMessage> messages;
  const std::unique_ptr<char[]> buffer(new char[receive_buffer_bytes]);
  NetlinkAnswer failure;
  bool done = false;
  while (!done) {
    const std::string_view received = TRY(receive(buffer.get()), what);
    for_each_message(received, [&](const nlmsghdr& header, std::string_view message) {
      if (header.nlmsg_seq != sequence) return true;
      if (header.nlmsg_type == NLMSG_ERROR) {
        failure.error_number = -read_struct<int>(message.substr(sizeof(nlmsghdr)));
        failure.text = extended_ack(header, message);
        done = true;
      } else if (header.nlmsg_type == NLMSG_DONE) {
        done = true;
      } else {
        messages.emplace_back(message);
        done = !is_dump;
      }
      return !done;
    });
  }
  if (failure.error_number != 0) {
    failure.what = what;
    return netlink_error(failure);
  }
  return messages;
}

}  // namespace caisson::linux
