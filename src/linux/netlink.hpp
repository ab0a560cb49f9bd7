// Netlink: a builder of messages with nested attributes, and a socket that sends a batch and reads every answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::linux {

/// Several netlink messages in one buffer. Each message is begun, filled and followed by the next; pure, byte for byte.
class NetlinkBatch {
 public:
  enum class Ack : std::uint8_t { wanted, none };

  /// Starts a message; NLM_F_REQUEST is added, and NLM_F_ACK unless `ack` is none. `what` names the message in errors.
  void begin(std::uint16_t type, std::uint16_t flags, std::string what, Ack ack = Ack::wanted);
  /// The fixed header after nlmsghdr (ifinfomsg, nfgenmsg, …).
  template <typename Header>
  void header(const Header& value) {
    append(&value, sizeof value);
  }
  void attribute(std::uint16_t type, std::span<const std::uint8_t> value);
  void attribute(std::uint16_t type, std::string_view text);  ///< with a terminating NUL
  void attribute_u8(std::uint16_t type, std::uint8_t value);
  void attribute_u16_network(std::uint16_t type, std::uint16_t value);  ///< big-endian
  void attribute_u32(std::uint16_t type, std::uint32_t value);          ///< host order
  void attribute_u32_network(std::uint16_t type, std::uint32_t value);  ///< big-endian
  /// Everything until close_nest(position) lies inside. NLA_F_NESTED is set.
  [[nodiscard]] std::size_t open_nest(std::uint16_t type);
  void close_nest(std::size_t position);

  /// execute() goes on when the message begun last fails (a feature this kernel may not have).
  void allow_failure() { messages_.back().may_fail = true; }

  [[nodiscard]] std::size_t message_count() const { return messages_.size(); }
  [[nodiscard]] bool empty() const { return messages_.empty(); }
  [[nodiscard]] std::string_view bytes() const { return bytes_; }

 private:
  friend class NetlinkSocket;
  struct Message {
    std::size_t offset = 0;
    std::string what;
    bool wants_ack = true;
    bool may_fail = false;
  };
  void append(const void* data, std::size_t size);
  void patch_length();
  std::string bytes_;
  std::vector<Message> messages_;
};

/// The kernel's answer to one message.
struct NetlinkAnswer {
  int error_number = 0;   ///< 0: done
  std::string text;       ///< the kernel's own words (extended ack), often empty
  std::string what;       ///< of NetlinkBatch::begin
  bool answered = false;  ///< false only for messages without an ack
};
/// "WHAT: reason (the kernel's words)".
Error netlink_error(const NetlinkAnswer& answer);

/// One message of a dump, header included.
using NetlinkMessage = std::string;

/// Attributes of a message or nest: type (flags removed) and value, views into the message.
struct NetlinkAttribute {
  std::uint16_t type = 0;
  std::string_view value;
};
/// Attributes found from `bytes` on; a broken length ends the list.
std::vector<NetlinkAttribute> parse_netlink_attributes(std::string_view bytes);
/// The value of the first attribute of `type` as a 32-bit number in host order, or `fallback`.
std::uint32_t attribute_number(std::span<const NetlinkAttribute> attributes, std::uint16_t type, std::uint32_t fallback = 0);
/// The text of the first attribute of `type` up to its NUL, or empty.
std::string attribute_text(std::span<const NetlinkAttribute> attributes, std::uint16_t type);

/// A netlink socket. It stays bound to the network namespace it was opened in. Not thread-safe.
class NetlinkSocket {
 public:
  /// `protocol`: NETLINK_ROUTE, NETLINK_NETFILTER. In the calling thread's network namespace.
  static Result<NetlinkSocket> open(int protocol);

  /// Sends the batch in one sendmsg and collects the answer to every message, in their order. The kernel has handled all of
  /// it when this returns. rtnetlink goes on after a failed message; nfnetlink undoes the whole batch.
  /// Errors: io when the batch could not be sent or an answer is missing. Privilege: by message, mostly CAP_NET_ADMIN.
  Result<std::vector<NetlinkAnswer>> exchange(const NetlinkBatch& batch);
  /// exchange, and the first failure as an Error (kind by errno).
  Status execute(const NetlinkBatch& batch);
  /// Sends a batch of one message without ack and collects what comes back until NLMSG_DONE (or one message, for a get).
  Result<std::vector<NetlinkMessage>> request(const NetlinkBatch& batch);

 private:
  explicit NetlinkSocket(UniqueFd fd) : fd_(std::move(fd)) {}
  Status send(const NetlinkBatch& batch, std::uint32_t first_sequence);
  Result<std::string_view> receive(char* buffer);
  UniqueFd fd_;
  std::uint32_t next_sequence_ = 1;
};

}  // namespace caisson::linux
