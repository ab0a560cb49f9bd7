// Attached streams and exit codes.
#include "cli/attached.hpp"

#include "base/strings.hpp"
#include "cli/request.hpp"
#include "linux/event.hpp"

namespace caisson::cli {

Result<ExitWatch> ExitWatch::open(Session& session, std::string_view container, std::string_view condition) {
  auto watch = TRY_PLAIN(begin(session, container, condition));
  TRY_PLAIN(watch.confirm(session));
  return watch;
}

Result<ExitWatch> ExitWatch::begin(Session& session, std::string_view container, std::string_view condition) {
  auto client = TRY_PLAIN(session.connect());
  Query query;
  query.add_if(!condition.empty(), "condition", condition);
  TRY_PLAIN(session.begin_stream(*client, "POST", object_path("containers", container, "wait") + query.text()));
  return ExitWatch(std::move(client));
}

Status ExitWatch::confirm(Session& session) {
  TRY_PLAIN(session.finish_stream(*client_));
  return {};
}

Result<int> ExitWatch::wait() {
  auto body = client_->read_all();
  if (!body.ok()) return Error(ErrorKind::io, concat("lost the connection to the daemon: ", body.error().text()));
  if (trim(*body).empty()) return Error(ErrorKind::io, "lost the connection to the daemon");
  auto answer = TRY_PLAIN(parse_json(*body, "the daemon's answer to wait"));
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
  linux::PollEntry entry{client_->fd(), POLLIN, 0};
  int ready = TRY_PLAIN(linux::poll(std::span(&entry, 1), timeout_ms));
  if (ready == 0) return Error(ErrorKind::timeout, "the container's end was not reported in time");
  return wait();
}

Result<Watched> watch_container(Session& session, std::string_view id, const std::string& attach_target, std::string_view condition) {
  auto client = TRY_PLAIN(session.connect());
  TRY_PLAIN(session.begin_hijack(*client, attach_target));
  auto exit = TRY_PLAIN(ExitWatch::begin(session, id, condition));
  auto stream = TRY_PLAIN(session.finish_hijack(std::move(client)));
  TRY_PLAIN(exit.confirm(session));
  return Watched{std::move(stream), std::move(exit)};
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

Result<PumpResult> Attached::run(const Session::Stream& stream) {
  PumpOptions options;
  options.is_multiplexed = !settings_.tty;
  options.takes_input = settings_.takes_input;
  options.is_tty = settings_.tty;
  options.passes_signals = settings_.passes_signals && !settings_.kill_path.empty();
  options.detach_keys = keys_;
  options.on_resize = [this] { send_size(); };
  options.on_signal = [this](int signal) {
    Query query;
    query.add("signal", signal_name(signal));
    ignore(session_->call("POST", settings_.kill_path + query.text()));  // a container that has ended needs no signal
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
