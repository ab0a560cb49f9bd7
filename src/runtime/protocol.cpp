// Encoding, errors and the exit file.
#include "runtime/protocol.hpp"

#include <array>

#include "linux/file.hpp"
#include "linux/socket.hpp"

namespace caisson::runtime {

namespace {
/// A plan with a seccomp program of the largest size the kernel takes is below this; larger ones travel in a memfd.
constexpr std::size_t message_limit_bytes = 192U * 1024U;
}  // namespace

std::string build_id() {
  // The number is raised with every change of a struct that travels to the launcher.
  return concat(CAISSON_VERSION, "/4");
}

WireError to_wire(const Error& error) {
  WireError out;
  out.kind = error.kind();
  out.error_number = error.error_number();
  out.text = error.text();
  out.hint = error.hint();
  return out;
}

Error from_wire(const WireError& error) {
  Error out(error.kind, error.text, error.error_number);
  if (error.hint.empty()) return out;
  return std::move(out).with_hint(error.hint);
}

ExitStatus to_exit_status(const ExitBody& body) {
  ExitStatus out;
  out.code = body.code;
  out.lost = body.lost;
  out.oom_killed = body.oom_killed;
  out.finished_at = body.finished_at;
  out.log_drops = body.log_drops;
  return out;
}

ExitBody to_exit_body(const ExitStatus& status, std::string exec_id) {
  ExitBody out;
  out.exec_id = std::move(exec_id);
  out.code = status.code;
  out.lost = status.lost;
  out.oom_killed = status.oom_killed;
  out.finished_at = status.finished_at;
  out.log_drops = status.log_drops;
  return out;
}

Result<StateBody> read_state(const std::string& bytes) {
  // Its version first, which every one begins with: the rest of an unknown version's need not make sense.
  std::uint32_t version = 0;
  Decoder begin(bytes);
  begin(version);
  auto body = read_body<StateBody>(bytes, "state");
  const bool is_too_old = version < oldest_monitor_protocol_version;
  const bool is_too_new = version > monitor_protocol_version && (!body.ok() || body->oldest_version > monitor_protocol_version);
  if (bytes.size() < sizeof version || (!is_too_old && !is_too_new)) return body;
  return Error(ErrorKind::unsupported, concat("its monitor speaks version ", version, " of the protocol, this engine ",
                                              oldest_monitor_protocol_version, " to ", monitor_protocol_version))
      .with_hint(is_too_new ? "a newer Caisson has started it: install that one again, or restart the container"
                            : "an old Caisson has started it: restart the container");
}

Status send_bytes(int socket, MessageKind kind, std::uint64_t request, const std::string& body, std::span<const int> fds) {
  Encoder encoder;
  MessageHead head{kind, request};
  encoder(head);
  std::string bytes = encoder.take();
  bytes += body;
  if (bytes.size() > message_limit_bytes) return Error(ErrorKind::invalid, concat("message of ", bytes.size(), " bytes is too long"));
  return linux::send_message(socket, bytes, fds);
}

Result<ReceivedMessage> receive_body(int socket) {
  // Its length first: a buffer for the longest message would cost an idle monitor 48 pages each time.
  std::array<char, 1> first{};
  const auto size = TRY_PLAIN(linux::recv(socket, first, MSG_PEEK | MSG_TRUNC));
  ReceivedMessage out;
  if (size == 0) {
    out.closed = true;
    return out;
  }
  if (size > message_limit_bytes) return Error(ErrorKind::corrupt, concat("message of ", size, " bytes is too long"));
  auto message = TRY_PLAIN(linux::receive_message(socket, size, 64));
  if (message.bytes.empty()) {
    out.closed = true;
    return out;
  }
  constexpr std::size_t head_size = sizeof(std::uint32_t) + sizeof(std::uint64_t);
  if (message.bytes.size() < head_size) return Error(ErrorKind::corrupt, "message is shorter than its head");
  out.head = TRY_PLAIN(decode<MessageHead>(std::string_view(message.bytes).substr(0, head_size), "message head"));
  out.body = message.bytes.substr(head_size);
  out.fds = std::move(message.fds);
  return out;
}

Status write_exit_file(const std::string& run_dir, const ExitBody& body) {
  return linux::write_file_atomic(concat(run_dir, "/", exit_file_name), encode(body), 0600, linux::Durability::none);
}

Result<ExitBody> read_exit_file(const std::string& run_dir) {
  auto bytes = TRY_PLAIN(linux::read_file(concat(run_dir, "/", exit_file_name), 4096));
  return read_body<ExitBody>(bytes, "exit file");
}

}  // namespace caisson::runtime
