// Attached streams and exit codes.
#include "cli/attached.hpp"

#include "base/strings.hpp"
#include "base/time.hpp"
#include "cli/request.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"

namespace caisson::cli {

namespace {
constexpr int reconnect_timeout_ms = 1000;  // of a unix socket somebody listens on: it answers at once
constexpr int look_again_ms = 50;
constexpr std::int64_t successor_timeout_ns = 30'000'000'000;  // a service manager restarts within seconds

bool is_lost(const Error& error) { return error.kind() == ErrorKind::io || error.kind() == ErrorKind::unavailable; }
}  // namespace

Result<ExitWatch> ExitWatch::open(Session& session, std::string_view container, std::string_view condition) {
  auto watch = TRY_PLAIN(begin(session, container, condition));
  TRY_PLAIN(watch.confirm(session));
  return watch;
}

Result<ExitWatch> ExitWatch::begin(Session& session, std::string_view container, std::string_view condition) {
  auto client = TRY_PLAIN(session.connect());
  TRY_PLAIN(send(session, *client, container, condition));
  return ExitWatch(session, std::string(container), std::string(condition), std::move(client));
}

Status ExitWatch::send(Session& session, wire::Client& client, std::string_view container, std::string_view condition) {
  Query query;
  query.add_if(!condition.empty(), "condition", condition);
  TRY_PLAIN(session.begin_stream(client, "POST", object_path("containers", container, "wait") + query.text()));
  return {};
}

Status ExitWatch::ask(Session& session, wire::Client& client, std::string_view container, std::string_view condition) {
  TRY_PLAIN(send(session, client, container, condition));
  TRY_PLAIN(session.finish_stream(client));
  return {};
}

bool ExitWatch::tend() {
  if (client_) {
    char byte = 0;
    auto there = linux::recv(client_->fd(), std::span(&byte, 1), MSG_PEEK | MSG_DONTWAIT);
    if (there.ok() && *there > 0) return false;
    if (!there.ok() && linux::would_block(there.error())) return true;
    client_.reset();
    if (condition_ == "next-exit") condition_.clear();  // that exit may have been while nobody looked
  }
  auto client = session_->connect_quickly(reconnect_timeout_ms);
  if (!client.ok()) return true;
  auto asked = ask(*session_, **client, container_, condition_);
  if (asked.ok()) client_ = std::move(*client);
  // A refusal is for wait() to hear again, and to tell. What closed without an answer was still the daemon that dies, or one that stops:
  // its listener takes connections until the kernel has closed that as well.
  return asked.ok() || is_lost(asked.error());
}

/// Asks the daemon's successor, which may have yet to come: by its unit, by hand, or by us where that is ours to do.
Status ExitWatch::reopen() {
  if (condition_ == "next-exit") condition_.clear();
  std::int64_t deadline = monotonic_ns() + successor_timeout_ns;
  for (;;) {
    auto client = session_->connect();
    Status asked = client.ok() ? ask(*session_, **client, container_, condition_) : Status(client.error());
    if (asked.ok()) {
      client_ = std::move(*client);
      return {};
    }
    if (client.ok() && asked.error().kind() == ErrorKind::not_found)
      return Error(ErrorKind::not_found, "the container was removed while the daemon was away; its exit code is lost");
    if (monotonic_ns() > deadline) return std::move(asked).error().in("ask how the container ended");
    ignore(linux::poll({}, look_again_ms));  // there is no event for a socket that somebody may make
  }
}

Status ExitWatch::confirm(Session& session) {
  TRY_PLAIN(session.finish_stream(*client_));
  return {};
}

Result<int> ExitWatch::wait() {
  for (;;) {
    std::string body;
    if (client_) body = std::move(client_->read_all()).value_or("");
    if (!trim(body).empty()) return read_code(body);
    client_.reset();
    TRY_PLAIN(reopen());
  }
}

Result<int> ExitWatch::read_code(std::string_view body) {
  auto answer = TRY_PLAIN(parse_json(body, "the daemon's answer to wait"));
  JsonView view(answer);
  std::int64_t code = 0;
  TRY_PLAIN(view.read("StatusCode", code));
  JsonView error = TRY_PLAIN(view.at("Error"));
  std::string message;
  if (error.is_set()) TRY_PLAIN(error.read("Message", message));
  if (!message.empty()) return Error(ErrorKind::internal, concat("Error response from daemon: ", message));
  return static_cast<int>(code);
}

Result<int> ExitWatch::wait_for(int timeout_ms) {
  if (!client_) return Error(ErrorKind::unavailable, "lost the connection to the daemon");
  linux::PollEntry entry{client_->fd(), POLLIN, 0};
  int ready = TRY_PLAIN(linux::poll(std::span(&entry, 1), timeout_ms));
  if (ready == 0) return Error(ErrorKind::timeout, "the container's end was not reported in time");
  // Its successor is not asked: of a container that was not started it would never answer.
  const auto body = std::move(client_->read_all()).value_or("");
  if (trim(body).empty()) return Error(ErrorKind::unavailable, "lost the connection to the daemon");
  return read_code(body);
}

Result<Watched> watch_container(Session& session, std::string_view id, const std::string& attach_target, std::string_view condition) {
  auto client = TRY_PLAIN(session.connect());
  TRY_PLAIN(session.begin_hijack(*client, attach_target));
  auto exit = TRY_PLAIN(ExitWatch::begin(session, id, condition));
  auto stream = TRY_PLAIN(session.finish_hijack(std::move(client)));
  TRY_PLAIN(exit.confirm(session));
  return Watched{std::move(stream), std::move(exit)};
}

std::string attach_target(std::string_view id, bool in, bool out, bool err, std::string_view detach_keys) {
  Query query;
  query.add_if(!detach_keys.empty(), "detachKeys", detach_keys).add_if(err, "stderr").add_if(in, "stdin").add_if(out, "stdout").add("stream", "1");
  return object_path("containers", id, "attach") + query.text();
}

Status require_terminal_input() {
  if (linux::is_terminal(0)) return {};
  return Error(ErrorKind::invalid, "the input device is not a TTY").with_hint("leave -t away, or -i, when standard input is a pipe or a file");
}

Result<Attached> Attached::create(Session& session, AttachSettings settings) {
  auto keys = TRY_PLAIN(DetachKeys::parse(settings.detach_keys));
  auto signals = TRY_PLAIN(SignalGuard::create());
  Attached attached(session, std::move(settings), std::move(signals), std::move(keys));
  if (attached.settings_.tty && attached.settings_.takes_input && linux::is_terminal(0)) {
    auto raw = TRY(linux::RawMode::create(0), "put the terminal in raw mode");
    attached.raw_.emplace(std::move(raw));
  }
  return attached;
}

void Attached::send_size() {
  if (!settings_.tty) return;
  auto size = linux::window_size(1);
  if (!size.ok()) size = linux::window_size(0);
  if (!size.ok() || size->rows == 0) return;
  Query query;
  query.add("h", concat(size->rows)).add("w", concat(size->columns));
  ignore(session_->call("POST", settings_.resize_path + query.text()));  // a program that has ended needs no size
}

Result<PumpResult> Attached::run(const Session::Stream& stream, ExitWatch* watch) {
  PumpOptions options;
  options.is_multiplexed = !settings_.tty;
  options.takes_input = settings_.takes_input;
  options.is_tty = settings_.tty;
  options.passes_signals = settings_.passes_signals && !settings_.kill_path.empty();
  options.detach_keys = keys_;
  options.on_resize = [this] { send_size(); };
  if (watch != nullptr) {
    options.watch_fd = [watch] { return watch->fd(); };
    options.tend_watch = [watch] { return watch->tend(); };
  }
  options.on_signal = [this](int signal) {
    Query query;
    query.add("signal", signal_name(signal));
    auto sent = session_->call("POST", settings_.kill_path + query.text());
    // The kept connection may have ended with an earlier daemon. A container that has ended needs no signal.
    if (!sent.ok() && sent.error().kind() == ErrorKind::io) ignore(session_->call("POST", settings_.kill_path + query.text()));
  };
  return pump(stream.connection, options, signals_);
}

int exit_code_of_start_error(std::string_view text) {
  auto has = [&](std::string_view words) { return text.find(words) != std::string_view::npos; };
  if (has("executable file not found") || has("no such file or directory") || has("system cannot find the file specified")) return 127;
  std::string small = lower(text);  // strerror begins with a capital: "No such file or directory"
  if (small.find("no such file or directory") != std::string::npos) return 127;
  if (small.find("permission denied") != std::string::npos || small.find("is a directory") != std::string::npos) return 126;
  return 125;
}

}  // namespace caisson::cli
