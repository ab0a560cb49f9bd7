// What daemon, launcher and monitors say to each other: SEQPACKET messages of a head and a body in base/codec's form.
// The launcher is of the daemon's build, checked by build_id(). A monitor may be older than the daemon, and after a downgrade newer: messages
// are numbered, bodies only grow at their end, and its `state` tells the versions it speaks.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/codec.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "runtime/plan.hpp"
#include "runtime/runtime.hpp"

namespace caisson::runtime {

/// 1: the first. 2: `state` tells the oldest version that the monitor speaks too, and a connection that never says hello does not keep a
/// monitor whose container has ended: whoever does not understand it waits for its end that way.
inline constexpr std::uint32_t monitor_protocol_version = 2;
/// Of a monitor that an earlier build left behind.
inline constexpr std::uint32_t oldest_monitor_protocol_version = 1;
/// Two processes may exchange plans when this is equal.
std::string build_id();

enum class MessageKind : std::uint32_t {
  // launcher: requests and their answer
  hello = 1,
  make_namespaces,
  start,
  adopt,
  answer,
  launch,  ///< to the launcher's starter, with the launcher's socket
  reaped,  ///< event: a process that is no monitor (an orphaned container init) ended
  // monitor: requests
  attach = 100,
  exec,
  resize,
  exit_known,     ///< the status of an adopted container, learned elsewhere
  exit_recorded,  ///< the daemon has stored the container's exit
  exec_recorded,  ///< … and this exec's
  // monitor: events
  started = 200,
  state,  ///< answer to hello: everything a daemon must know
  exited,
  exec_exited,
  oom,
  client_detached,
  stdin_closed,  ///< whoever keeps a duplicate of the container's stdin must close it, or the program never sees the end
};

/// A field that bodies have got since the first version; an older peer's end before it, and it keeps its default.
template <class C, class T>
void visit_later(C& c, T& field) {
  if constexpr (requires { c.complete(); }) {
    if (c.complete()) return;
  }
  c(field);
}

struct MessageHead {
  MessageKind kind = MessageKind::hello;
  std::uint64_t request = 0;  ///< of the request that this is or answers; 0 for events
};
template <class C>
void visit(C& c, MessageHead& h) {
  c(h.kind);
  c(h.request);
}

/// An Error on its way between processes.
struct WireError {
  ErrorKind kind = ErrorKind::internal;
  std::int32_t error_number = 0;
  std::string text;
  std::string hint;
};
template <class C>
void visit(C& c, WireError& e) {
  c(e.kind);
  c(e.error_number);
  c(e.text);
  c(e.hint);
}
WireError to_wire(const Error& error);
Error from_wire(const WireError& error);

struct HelloBody {
  std::uint32_t version = monitor_protocol_version;
  std::string build;
};
template <class C>
void visit(C& c, HelloBody& b) {
  c(b.version);
  c(b.build);
}

struct MakeNamespacesBody {
  linux::IdMap id_map;
  bool with_network = false;
  bool with_owner = false;  ///< a user namespace travels beside it
};
template <class C>
void visit(C& c, MakeNamespacesBody& b) {
  c(b.id_map);
  c(b.with_network);
  c(b.with_owner);
}

/// A client without its socket, which travels beside it.
struct ClientBody {
  std::string pending_input;
  bool with_stdin = false;
  bool with_stdout = false;
  bool with_stderr = false;
  bool framed = true;
  std::string detach_keys;
};
template <class C>
void visit(C& c, ClientBody& b) {
  c(b.pending_input);
  c(b.with_stdin);
  c(b.with_stdout);
  c(b.with_stderr);
  c(b.framed);
  c(b.detach_keys);
}

struct MonitorBody {
  std::string id;
  std::string run_dir;
  std::string log_path;
  std::int64_t log_max_size_bytes = 0;
  std::uint32_t log_max_files = 1;
  bool terminal = false;
  bool open_stdin = false;
  bool stdin_once = false;
  std::string cgroup_path;  ///< absolute below the mount points; adopt only, start learns it
  std::uint64_t exec_namespaces = 0;
  bool in_user_namespace = false;
  bool own_pid_namespace = true;
  linux::IdMap id_map;
  std::vector<ClientBody> clients;
  // adopt
  std::int32_t pid = 0;
  std::uint64_t start_time = 0;
  bool has_stdin = false;  ///< which descriptors follow the pidfd
  bool has_stdout = false;
  bool has_stderr = false;
  std::string log_attributes;  ///< JSON, see LogPolicy
};
template <class C>
void visit(C& c, MonitorBody& b) {
  c(b.id);
  c(b.run_dir);
  c(b.log_path);
  c(b.log_max_size_bytes);
  c(b.log_max_files);
  c(b.terminal);
  c(b.open_stdin);
  c(b.stdin_once);
  c(b.cgroup_path);
  c(b.exec_namespaces);
  c(b.in_user_namespace);
  c(b.own_pid_namespace);
  c(b.id_map);
  c(b.clients);
  c(b.pid);
  c(b.start_time);
  c(b.has_stdin);
  c(b.has_stdout);
  c(b.has_stderr);
  c(b.log_attributes);
}

/// start: descriptors are control, [user namespace], [network namespace], [plan memfd], clients…
struct StartBody {
  MonitorBody monitor;
  bool has_user_namespace = false;
  bool has_network_namespace = false;
  bool plan_in_memfd = false;
  std::string plan;
};
template <class C>
void visit(C& c, StartBody& b) {
  c(b.monitor);
  c(b.has_user_namespace);
  c(b.has_network_namespace);
  c(b.plan_in_memfd);
  c(b.plan);
}

struct AnswerBody {
  std::optional<WireError> error;
  std::int32_t pid = 0;
};
template <class C>
void visit(C& c, AnswerBody& b) {
  c(b.error);
  c(b.pid);
}

struct ReapedBody {
  std::int32_t pid = 0;
  std::int32_t code = 0;  ///< exit code, 128 + signal
};
template <class C>
void visit(C& c, ReapedBody& b) {
  c(b.pid);
  c(b.code);
}

struct AttachBody {
  std::string exec_id;  ///< empty: the container
  ClientBody client;
};
template <class C>
void visit(C& c, AttachBody& b) {
  c(b.exec_id);
  c(b.client);
}

struct ExecBody {
  std::string exec_id;
  ProcessPlan process;
  bool with_stdin = false;
  bool has_client = false;
  ClientBody client;
  std::int64_t timeout_ms = 0;  ///< 0: it may run for ever
};
template <class C>
void visit(C& c, ExecBody& b) {
  c(b.exec_id);
  c(b.process);
  c(b.with_stdin);
  c(b.has_client);
  c(b.client);
  c(b.process.policy);
  c(b.timeout_ms);
}

struct ResizeBody {
  std::string exec_id;
  std::uint16_t rows = 0;
  std::uint16_t columns = 0;
};
template <class C>
void visit(C& c, ResizeBody& b) {
  c(b.exec_id);
  c(b.rows);
  c(b.columns);
}

struct ExitBody {
  std::string exec_id;  ///< empty: the container
  std::int32_t code = 0;
  bool lost = false;
  bool oom_killed = false;
  TimestampNs finished_at = 0;
  std::uint64_t log_drops = 0;
};
template <class C>
void visit(C& c, ExitBody& b) {
  c(b.exec_id);
  c(b.code);
  c(b.lost);
  c(b.oom_killed);
  c(b.finished_at);
  c(b.log_drops);
}
ExitStatus to_exit_status(const ExitBody& body);
ExitBody to_exit_body(const ExitStatus& status, std::string exec_id);

/// state, and started: descriptors are pidfd (while it runs), then stdin, stdout, stderr ends or the terminal's master.
struct StateBody {
  std::uint32_t version = monitor_protocol_version;
  std::optional<WireError> error;  ///< started only
  bool running = false;
  std::int32_t pid = 0;
  std::uint64_t start_time = 0;
  std::optional<ExitBody> exit;
  std::vector<ExitBody> finished_execs;
  std::vector<std::string> running_execs;
  bool terminal = false;
  bool has_pidfd = false;
  bool has_stdin = false;
  bool has_stdout = false;
  bool has_stderr = false;
  std::string cgroup_path;
  std::uint32_t oldest_version = 1;  ///< since 2: what a daemon may speak to it is this up to `version`
};
template <class C>
void visit(C& c, StateBody& b) {
  c(b.version);
  c(b.error);
  c(b.running);
  c(b.pid);
  c(b.start_time);
  c(b.exit);
  c(b.finished_execs);
  c(b.running_execs);
  c(b.terminal);
  c(b.has_pidfd);
  c(b.has_stdin);
  c(b.has_stdout);
  c(b.has_stderr);
  c(b.cgroup_path);
  visit_later(c, b.oldest_version);
}
/// A state, if there is a version that its sender and this build both speak. Errors: unsupported, naming both; corrupt.
Result<StateBody> read_state(const std::string& bytes);

/// Head and body as one message. `fds` stay the caller's.
template <typename Body>
Status send_body(int socket, MessageKind kind, std::uint64_t request, const Body& body, std::span<const int> fds = {});

struct ReceivedMessage {
  MessageHead head;
  std::string body;
  std::vector<UniqueFd> fds;
  bool closed = false;  ///< the peer is gone
};
/// One message. Errors: corrupt, io.
Result<ReceivedMessage> receive_body(int socket);
Status send_bytes(int socket, MessageKind kind, std::uint64_t request, const std::string& body, std::span<const int> fds);

template <typename Body>
Status send_body(int socket, MessageKind kind, std::uint64_t request, const Body& body, std::span<const int> fds) {
  return send_bytes(socket, kind, request, encode(body), fds);
}

/// Reads a body that may be longer than we know: what a newer peer added at its end is passed over. What an older one does not send is for
/// visit_later() in the body's list.
template <typename Body>
Result<Body> read_body(const std::string& bytes, std::string_view what) {
  Body body{};
  Decoder decoder(bytes);
  decoder(body);
  if (!decoder.ok()) return Error(ErrorKind::corrupt, concat(what, ": malformed message"));
  return body;
}

/// The file in run_dir that keeps a container's exit status when nobody listens.
inline constexpr std::string_view exit_file_name = "exit";
inline constexpr std::string_view monitor_socket_name = "monitor.sock";
Status write_exit_file(const std::string& run_dir, const ExitBody& body);
/// Errors: not_found, corrupt.
Result<ExitBody> read_exit_file(const std::string& run_dir);

}  // namespace caisson::runtime
