// The daemon's whereabouts and its start.
#include "cli/daemon.hpp"

#include "base/environment.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "cli/context.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "linux/spawn.hpp"

namespace caisson::cli {

namespace {

constexpr const char* system_socket = "/run/caisson.sock";
constexpr std::int64_t start_timeout_ns = 20'000'000'000;  // a first start creates folders and probes the kernel
constexpr int look_again_ms = 3;
constexpr std::size_t log_tail_bytes = 2000;

std::string runtime_folder() {
  std::string folder = environment_text("XDG_RUNTIME_DIR");
  return folder.empty() ? concat("/run/user/", linux::geteuid()) : folder;  // pam_systemd(8)
}

std::string socket_path(const Endpoint& endpoint) {
  return endpoint.address.starts_with("unix://") ? endpoint.address.substr(7) : "";
}

std::string exec_root(const Endpoint& endpoint, const Invocation& global) {
  if (global.has("exec-root")) return std::string(global.text("exec-root"));
  return endpoint.is_rootless ? concat(runtime_folder(), "/caisson") : "/run/caisson";
}

bool answers(const Endpoint& endpoint) { return linux::unix_connect(socket_path(endpoint), linux::UnixType::stream).ok(); }

bool file_exists(const std::string& path) { return std::move(linux::exists(path)).value_or(false); }

// Which systemd unit would start our daemon; "" when there is none.
std::string systemd_unit(const Endpoint& endpoint) {
  if (!file_exists("/run/systemd/system")) return "";  // sd_booted(3)
  std::vector<std::string> folders = {"/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"};
  // Without a systemd of the user (su, a container) the command line starts the daemon itself.
  if (endpoint.is_rootless && !file_exists(concat(runtime_folder(), "/systemd/private"))) return "";
  if (endpoint.is_rootless)
    folders = {concat(environment_text("HOME"), "/.config/systemd/user"), "/etc/systemd/user", "/usr/lib/systemd/user"};
  for (std::string_view unit : {"caissond.socket", "caissond.service"})
    for (const auto& folder : folders)
      if (file_exists(concat(folder, "/", unit))) return std::string(unit);
  return "";
}

Status start_by_systemd(const Endpoint& endpoint, const std::string& unit) {
  // Whole lists: growing one makes g++ 14 warn of an array's bounds that nothing leaves.
  const auto command = endpoint.is_rootless ? std::vector<std::string>{"systemctl", "--user", "start", unit} : std::vector<std::string>{"systemctl", "start", unit};
  linux::RunOptions options;
  options.timeout_ms = 60'000;
  options.env = whole_environment();  // systemctl --user needs the session's bus
  auto output = TRY(linux::run_program(command, options), concat("start ", unit));
  if (output.status.exit_code() == 0) return {};
  return Error(ErrorKind::unavailable, concat("start ", unit, ": ", trim(output.standard_error)))
      .with_hint(concat("see: systemctl ", endpoint.is_rootless ? "--user " : "", "status ", unit));
}

std::string log_tail(const std::string& path) {
  std::string text = std::move(linux::read_file(path)).value_or("");
  if (text.size() > log_tail_bytes) {
    text.erase(0, text.size() - log_tail_bytes);
    text.erase(0, text.find('\n') + 1);
  }
  return text;
}

Status make_folders(const std::string& path) {
  for (std::size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1)) {
    auto made = linux::mkdir(path.substr(0, at), 0711);
    if (!made.ok() && !file_exists(path.substr(0, at))) return std::move(made).error();
  }
  auto made = linux::mkdir(path, 0711);
  if (!made.ok() && !file_exists(path)) return std::move(made).error();
  return {};
}

// Until the socket answers, or the daemon has ended. The child's pidfd is what is waited on; the socket is asked in between.
Status wait_until_ready(const Endpoint& endpoint, int pidfd, const std::string& log_path) {
  std::int64_t deadline = monotonic_ns() + start_timeout_ns;
  for (;;) {
    if (answers(endpoint)) return {};
    if (auto ended = linux::try_wait_pidfd(pidfd); ended.ok() && ended->has_value()) {
      if (answers(endpoint)) return {};  // another caller's daemon was quicker, ours gave way
      return Error(ErrorKind::unavailable, concat("the daemon ended with code ", (*ended)->exit_code(), " while it started:\n", trim(log_tail(log_path))))
          .with_hint(concat("its log is ", log_path));
    }
    if (monotonic_ns() > deadline)
      return Error(ErrorKind::timeout, concat("the daemon did not answer at ", endpoint.address, " in time:\n", trim(log_tail(log_path))))
          .with_hint(concat("its log is ", log_path));
    linux::PollEntry entry{pidfd, POLLIN, 0};
    ignore(linux::poll(std::span(&entry, 1), look_again_ms));  // running out of time is the ordinary case: look again
  }
}

}  // namespace

Result<std::string> chosen_context(const Invocation& global) {
  if (!global.text("host").empty()) return std::string();
  if (global.has("context") || !environment_text("DOCKER_CONTEXT").empty()) return context_name(global);
  const bool is_placed = !environment_text("CAISSON_HOST").empty() || global.has("root") || global.has("exec-root");
  return is_placed ? std::string() : current_context(global);
}

Result<Endpoint> choose_endpoint(const Invocation& global) {
  Endpoint endpoint;
  bool is_root = linux::geteuid() == 0;
  bool has_own_folders = global.has("root") || global.has("exec-root");
  endpoint.is_rootless = !is_root;
  if (global.has("host") && global.has("context")) return Error(ErrorKind::invalid, "conflicting options: cannot specify both --host and --context");
  std::string host(global.text("host"));
  endpoint.tls = tls_files(global);
  const std::string context = TRY_PLAIN(chosen_context(global));
  if (!context.empty()) {
    auto found = TRY_PLAIN(read_context(global, context));
    host = found.host;
    if (found.tls) endpoint.tls = std::move(found.tls);
  }
  if (host.empty()) host = environment_text("CAISSON_HOST");
  if (!host.empty()) {
    endpoint.address = host.starts_with("/") ? "unix://" + host : host;
    endpoint.may_start = has_own_folders && endpoint.address.starts_with("unix://");
    return endpoint;
  }
  endpoint.may_start = true;
  if (has_own_folders && global.has("exec-root")) {
    endpoint.address = concat("unix://", global.text("exec-root"), "/caisson.sock");
    return endpoint;
  }
  // A member of the group that owns the root daemon's socket uses that daemon; connect(2) wants write permission.
  constexpr int may_write = 2;
  bool uses_system = is_root || linux::faccessat(AT_FDCWD, system_socket, may_write).ok();
  if (uses_system && !is_root) endpoint.is_rootless = false;
  endpoint.may_start = is_root || !uses_system;
  endpoint.address = uses_system ? concat("unix://", system_socket) : concat("unix://", runtime_folder(), "/caisson.sock");
  return endpoint;
}

Error cannot_connect(const Endpoint& endpoint, const Error& reason) {
  Error error(reason.kind(), concat("Cannot connect to the Caisson daemon at ", endpoint.address, ". Is the daemon running? (", reason.text(), ")"),
              reason.error_number());
  if (reason.kind() == ErrorKind::denied) return std::move(error).with_hint("run the command as root (sudo), or join the group that owns the socket");
  return std::move(error).with_hint("start it with 'caisson daemon', or leave -H and CAISSON_HOST away to let it start by itself");
}

Result<std::string> find_own_binary(std::string_view name) {
  std::vector<std::string> candidates;
  if (auto self = linux::readlinkat(AT_FDCWD, "/proc/self/exe"); self.ok()) candidates.push_back(concat(split_last(*self, '/').before, "/", name));
  for (std::string_view folder : {"/usr/local/bin", "/usr/bin", "/usr/sbin", "/usr/libexec/caisson"}) candidates.push_back(concat(folder, "/", name));
  constexpr int may_execute = 1;
  for (const auto& path : candidates)
    if (linux::faccessat(AT_FDCWD, path, may_execute).ok()) return path;
  return Error(ErrorKind::not_found, concat("the program ", name, " was not found (looked for ", join(candidates, ", "), ")"))
      .with_hint(concat("install the caisson package, or keep ", name, " beside caisson"));
}

std::vector<std::string> daemon_arguments(const std::string& binary, const Endpoint& endpoint, const Invocation& global) {
  std::vector<std::string> arguments = {binary, "-H", endpoint.address};
  for (std::string_view name : {"root", "exec-root"})
    if (global.has(name)) {
      arguments.push_back(concat("--", name));
      arguments.emplace_back(global.text(name));
    }
  return arguments;
}

Status start_daemon(const Endpoint& endpoint, const Invocation& global, Output& err) {
  bool has_own_folders = global.has("root") || global.has("exec-root");
  std::string unit = has_own_folders ? "" : systemd_unit(endpoint);
  if (!unit.empty()) return start_by_systemd(endpoint, unit);

  std::string binary = TRY_PLAIN(find_own_binary("caissond"));
  std::string folder = exec_root(endpoint, global);
  TRY(make_folders(folder), concat("make the daemon's folder ", folder));
  // Several callers at once start one daemon: the others wait here and find it answering.
  UniqueFd lock = TRY(linux::open(concat(folder, "/caissond.start.lock"), O_RDWR | O_CREAT, 0600), "open the daemon's start lock");
  TRY(linux::flock(lock.get(), LOCK_EX), "wait for another start of the daemon");
  if (answers(endpoint)) return {};
  std::string log_path = concat(folder, "/caissond.log");
  UniqueFd log = TRY(linux::open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0640), "open the daemon's log");

  linux::ProcessRequest request;
  request.path = binary;
  request.argv = daemon_arguments(binary, endpoint, global);
  request.env = whole_environment();
  request.cwd = "/";  // a daemon must not keep the folder it was started in busy
  request.fds = {{log.get(), 1}, {log.get(), 2}};
  request.new_session = true;
  if (global.flag("debug")) err.line(concat("caisson: starting ", join(request.argv, " ")));
  auto child = TRY(linux::spawn_process(request), "start the daemon");
  return wait_until_ready(endpoint, child.pidfd.get(), log_path);
}

}  // namespace caisson::cli
