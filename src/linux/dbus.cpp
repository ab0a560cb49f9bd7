// The D-Bus client: authentication, framing, calls and signals on one non-blocking socket with one deadline.
#include "linux/dbus.hpp"

#include <array>
#include <cerrno>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/stream_socket.hpp"

namespace caisson::linux {

namespace {

/// More signals than this are not kept while a reply is awaited: the peer must not fill our memory.
constexpr std::size_t signals_limit = 256;
constexpr std::size_t line_limit_bytes = 4096;

Error hung_up() { return {ErrorKind::unavailable, "D-Bus: the peer has closed the connection", ECONNRESET}; }

ErrorKind kind_of(std::string_view name) {
  if (name.ends_with(".NoSuchUnit") || name.ends_with(".UnknownObject") || name.ends_with(".UnknownMethod"))
    return ErrorKind::not_found;
  if (name.ends_with(".AccessDenied") || name.ends_with(".InteractiveAuthorizationRequired") || name.ends_with(".AuthFailed"))
    return ErrorKind::denied;
  if (name.ends_with(".UnitExists")) return ErrorKind::conflict;
  if (name.ends_with(".InvalidArgs") || name.ends_with(".PropertyReadOnly")) return ErrorKind::invalid;
  if (name.ends_with(".NoReply") || name.ends_with(".Timeout")) return ErrorKind::timeout;
  if (name.ends_with(".ServiceUnknown") || name.ends_with(".Disconnected")) return ErrorKind::unavailable;
  return ErrorKind::io;
}

Error error_of(const DbusMessage& message) {
  const std::string text =
      message.body.empty() || message.body[0].signature != "s" ? std::string("no reason given") : message.body[0].text;
  return {kind_of(message.error_name), concat(message.error_name, ": ", text), 0};
}

}  // namespace

Result<DbusConnection> DbusConnection::connect(const std::string& socket_path, Peer peer, int timeout_ms) {
  UniqueFd socket = TRY(connect_unix_socket(socket_path, timeout_ms), "D-Bus");
  return adopt(std::move(socket), peer, timeout_ms);
}

Result<DbusConnection> DbusConnection::adopt(UniqueFd socket, Peer peer, int timeout_ms) {
  TRY(set_nonblocking(socket.get(), true), "D-Bus");
  DbusConnection out(std::move(socket), peer, monotonic_ns() + std::int64_t{timeout_ms} * 1'000'000);
  TRY(out.authenticate(), "D-Bus authentication");
  if (peer == Peer::direct) return out;
  DbusMessage hello;
  hello.destination = "org.freedesktop.DBus";
  hello.path = "/org/freedesktop/DBus";
  hello.interface = "org.freedesktop.DBus";
  hello.member = "Hello";
  (void)TRY(out.call(std::move(hello)), "D-Bus Hello");
  return out;
}

Status DbusConnection::authenticate() {
  // Without a name of ours the server takes the socket's credentials, which also holds where our uid reads differently on its
  // side of a user namespace (D-Bus specification, "EXTERNAL": an empty authorization identity). Its two answers are awaited.
  TRY_PLAIN(send(std::string_view("\0AUTH EXTERNAL\r\nDATA\r\n", 22)));
  const std::string challenge = TRY_PLAIN(receive_line());
  if (challenge.starts_with("REJECTED")) return Error(ErrorKind::denied, "the server refused our ids", EACCES);
  if (!challenge.starts_with("DATA")) return Error(ErrorKind::corrupt, concat("unexpected answer \"", challenge, "\""), EPROTO);
  const std::string verdict = TRY_PLAIN(receive_line());
  if (verdict.starts_with("REJECTED")) return Error(ErrorKind::denied, "the server refused our ids", EACCES);
  if (!verdict.starts_with("OK")) return Error(ErrorKind::corrupt, concat("unexpected answer \"", verdict, "\""), EPROTO);
  return send("BEGIN\r\n");
}

Status DbusConnection::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::array<std::string_view, 1> pieces{bytes};
    const auto sent = TRY_PLAIN(send_now(socket_.get(), pieces));
    if (sent) {
      bytes.remove_prefix(*sent);
      continue;
    }
    PollEntry entry{socket_.get(), POLLOUT, 0};
    const auto left_ms = (deadline_ns_ - monotonic_ns()) / 1'000'000;
    if (left_ms <= 0 || TRY_PLAIN(poll(std::span(&entry, 1), static_cast<int>(left_ms))) == 0)
      return Error(ErrorKind::timeout, "D-Bus: the peer does not take our message", ETIMEDOUT);
  }
  return {};
}

Status DbusConnection::receive_more() {
  while (true) {
    std::array<char, 4096> piece;
    const auto got = TRY_PLAIN(receive_now(socket_.get(), piece));
    if (got && *got == 0) return hung_up();
    if (got) {
      buffer_.append(piece.data(), *got);
      return {};
    }
    PollEntry entry{socket_.get(), POLLIN, 0};
    const auto left_ms = (deadline_ns_ - monotonic_ns()) / 1'000'000;
    if (left_ms <= 0 || TRY_PLAIN(poll(std::span(&entry, 1), static_cast<int>(left_ms))) == 0)
      return Error(ErrorKind::timeout, "D-Bus: no answer in time", ETIMEDOUT);
  }
}

Result<std::string> DbusConnection::receive_line() {
  while (true) {
    if (const auto end = buffer_.find("\r\n"); end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 2);
      return line;
    }
    if (buffer_.size() > line_limit_bytes) return Error(ErrorKind::corrupt, "a line without an end", EPROTO);
    TRY_PLAIN(receive_more());
  }
}

Result<DbusMessage> DbusConnection::receive() {
  while (buffer_.size() < dbus_head_bytes) TRY_PLAIN(receive_more());
  const std::size_t size = TRY_PLAIN(dbus_message_size(buffer_));
  while (buffer_.size() < size) TRY_PLAIN(receive_more());
  DbusMessage out = TRY_PLAIN(decode_dbus_message(std::string_view(buffer_).substr(0, size)));
  buffer_.erase(0, size);
  return out;
}

Result<DbusMessage> DbusConnection::call(DbusMessage message) {
  message.type = DbusMessageType::call;
  message.serial = ++serial_;
  const std::string bytes = TRY_PLAIN(encode_dbus_message(message));
  TRY_PLAIN(send(bytes));
  while (true) {
    DbusMessage received = TRY_PLAIN(receive());
    if (received.type == DbusMessageType::signal) {
      if (signals_.size() == signals_limit) signals_.pop_front();
      signals_.push_back(std::move(received));
      continue;
    }
    if (received.reply_serial != message.serial) continue;  // a call to us, or the answer to nothing of ours
    if (received.type == DbusMessageType::error) return error_of(received);
    if (received.type == DbusMessageType::reply) return received;
  }
}

Status DbusConnection::add_match(const std::string& rule) {
  if (peer_ == Peer::direct) return {};
  DbusMessage message;
  message.destination = "org.freedesktop.DBus";
  message.path = "/org/freedesktop/DBus";
  message.interface = "org.freedesktop.DBus";
  message.member = "AddMatch";
  message.body.push_back(DbusValue::string(rule));
  (void)TRY(call(std::move(message)), "D-Bus AddMatch");
  return {};
}

Result<DbusMessage> DbusConnection::wait_signal(const std::function<bool(const DbusMessage&)>& wanted) {
  while (!signals_.empty()) {
    DbusMessage kept = std::move(signals_.front());
    signals_.pop_front();
    if (wanted(kept)) return kept;
  }
  while (true) {
    DbusMessage received = TRY_PLAIN(receive());
    if (received.type == DbusMessageType::signal && wanted(received)) return received;
  }
}

}  // namespace caisson::linux
