// The supervisor of an engine without root: namespaces, uplink, the engine inside, and the little that the engine asks of the host.
#include <algorithm>
#include <cstdio>

#include "app/rootless.hpp"
#include "app/rootless_host.hpp"
#include "app/rootless_space.hpp"
#include "app/rootless_uplink.hpp"
#include "base/codec.hpp"
#include "base/environment.hpp"
#include "base/log.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "engine/network_files.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/file_lock.hpp"
#include "linux/idmap.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "linux/subordinate_ids.hpp"
#include "linux/tree.hpp"

namespace caisson::app {

namespace {
constexpr std::size_t longest_request_bytes = 4096;
constexpr int lock_wait_ms = 10'000;
constexpr std::int64_t first_pause_ns = 1'000'000'000;
constexpr std::int64_t longest_pause_ns = 60'000'000'000;

/// "" for a user who stands nowhere: then the number must do, as newuidmap allows it.
std::string own_name() {
  auto known = linux::user_name(linux::read_file("/etc/passwd").value_or(""), linux::geteuid());
  return known.empty() ? environment_text("USER") : known;
}

class Supervisor {
 public:
  Supervisor(const DaemonOptions& options, const std::vector<std::string>& arguments) : options_(options), arguments_(arguments) {}

  Result<int> run() {
    linux::SignalSet wanted{SIGTERM, SIGINT, SIGHUP};
    first_mask_ = TRY(linux::signal_mask(SIG_BLOCK, wanted), "signals");
    signals_ = TRY(linux::signalfd(wanted), "signals");
    TRY(linux::ignore_signal(SIGPIPE), "signals");
    TRY(linux::make_dirs(options_.root, 0700), concat("folder ", options_.root));
    TRY(linux::make_dirs(options_.exec_root, 0711), concat("folder ", options_.exec_root));
    auto lock = TRY(linux::FileLock::acquire(concat(options_.exec_root, "/rootless.lock"), lock_wait_ms), "another daemon of this user");
    TRY_PLAIN(open_space());
    open_uplink();
    services_.emplace(fetch_options());
    auto code = start_engine();
    if (code.ok()) code = serve();
    close_space();
    return code;
  }

 private:
  std::string record_path() const { return concat(options_.exec_root, "/rootless.state"); }
  std::string resolver_path() const { return concat(options_.exec_root, "/resolv.conf"); }

  // ---- namespaces ----

  Status open_space() {
    auto program = find_uplink(options_.rootless_network);
    if (!program.ok()) return std::move(program).error();
    program_ = *program;
    if (auto text = linux::read_file(record_path()); text.ok()) {
      auto record = decode<SpaceRecord>(*text, record_path());
      if (record.ok()) {
        TRY_PLAIN(wait_for_end(record->engine));
        space_ = find_space(*record);
      }
    }
    if (space_) {
      log(LogLevel::info, "rootless", "", "containers of an earlier daemon live on: their namespaces are used again");
      return {};
    }
    const auto uid = linux::geteuid();
    const auto map = TRY_PLAIN(rootless_id_map(linux::read_file("/etc/subuid").value_or(""), linux::read_file("/etc/subgid").value_or(""), own_name(), uid, linux::getegid()));
    space_ = TRY_PLAIN(make_space(map, TRY_PLAIN(write_resolver())));
    auto saved = save();
    if (!saved.ok()) end_process(space_->holder.get());  // nobody would find it again
    return saved;
  }

  /// The engine of a supervisor that was killed is killed with it, and may not be gone yet: it holds the state. Its first thread may be a zombie already while
  /// others still hold its files; the pidfd tells of the last one's end.
  static Status wait_for_end(const KnownProcess& engine) {
    if (engine.pid <= 0) return {};
    auto pidfd = linux::pidfd_open(engine.pid);
    auto started = linux::process_start_time(engine.pid);
    if (!pidfd.ok() || !started.ok() || *started != engine.start_time) return {};  // it is gone, and its number another's perhaps
    if (TRY_PLAIN(linux::wait_readable(pidfd->get(), lock_wait_ms))) return {};
    return Error(ErrorKind::unavailable, concat("the engine of an earlier daemon does not end: process ", engine.pid));
  }

  /// A resolver on the host's loopback is out of reach of every other network namespace; the uplink asks it for us. "": the host's own file will do.
  Result<std::string> write_resolver() {
    const std::string host = linux::read_file("/etc/resolv.conf").value_or("");
    const std::string server = uplink_resolver(program_.kind);
    if (server.empty() || !engine::has_only_loopback_nameservers(host)) return std::string();
    if (!has_ipv4_nameserver(host)) {
      log(LogLevel::warning, "rootless", "network", "/etc/resolv.conf: a resolver on ::1 is not reached by containers, and they ask public ones; let it listen on 127.0.0.1 as well");
      return std::string();
    }
    std::string text = concat("nameserver ", server, "\n");
    for (auto line : split(host, '\n'))
      if (line.starts_with("search") || line.starts_with("domain")) text += concat(line, "\n");
    TRY_PLAIN(linux::write_file(resolver_path(), text, 0644));
    return resolver_path();
  }

  Status save() {
    TRY(linux::write_file_atomic(record_path(), encode(space_->record), 0600, linux::Durability::none), record_path());
    return {};
  }

  /// With the last container. What still runs keeps namespaces and uplink, for the daemon that comes next.
  void close_space() {
    auto running = linux::list_dir(concat(options_.exec_root, "/containers"));
    if (running.ok() && !running->empty()) {
      log(LogLevel::info, "rootless", "", "containers go on running in their namespaces");
      return;
    }
    if (uplink_) end_process(uplink_->get());
    end_process(space_->holder.get());
    ignore(linux::unlink(record_path()));    // a stale one names a process that is gone, and says so
    ignore(linux::unlink(resolver_path()));  // likewise; most hosts have none
  }

  /// A child of ours is reaped; one of an earlier supervisor is waited for.
  static void end_process(int pidfd) {
    ignore(linux::pidfd_send_signal(pidfd, SIGKILL));
    constexpr int patience_ms = 5000;
    ignore(linux::wait_readable(pidfd, patience_ms));
    ignore(linux::wait_pidfd(pidfd));
  }

  // ---- uplink ----

  void open_uplink() {
    uplink_ = open_known(space_->record.uplink);
    if (uplink_) return;
    if (program_.kind == RootlessNetwork::none) {
      log(LogLevel::warning, "rootless", "network", options_.rootless_network == RootlessNetwork::none
          ? "containers reach each other and published ports only, as --rootless-network none says"
          : "neither pasta nor slirp4netns is installed: containers do not reach the world (apt-get install passt)");
      return;
    }
    // Where the namespaces were made with a resolver of the uplink's, it must answer for as long as they live.
    const bool resolves = linux::exists(resolver_path()).value_or(false);
    auto started = start_uplink(program_, space_->record.holder.pid, resolves, concat(options_.exec_root, "/uplink.log"));
    if (!started.ok()) {
      log_error("rootless", "network", started.error());
      pause_ns_ = pause_ns_ == 0 ? first_pause_ns : std::min(pause_ns_ * 2, longest_pause_ns);
      retry_at_ns_ = monotonic_ns() + pause_ns_;
      return;
    }
    uplink_ = std::move(started->pidfd);
    retry_at_ns_ = 0;
    space_->record.uplink_program = program_.path;
    space_->record.uplink = started->process;
    if (auto saved = save(); !saved.ok()) log_error("rootless", "network", saved.error());
  }

  void on_uplink_ended() {
    ignore(linux::wait_pidfd(uplink_->get()));  // an earlier supervisor's is not ours to reap
    uplink_.reset();
    log(LogLevel::warning, "rootless", "network", concat(program_.path, " has ended; it is started again"));
    pause_ns_ = pause_ns_ == 0 ? first_pause_ns : std::min(pause_ns_ * 2, longest_pause_ns);
    retry_at_ns_ = monotonic_ns() + pause_ns_;
  }

  /// Of namespaces of an earlier daemon, too, these are the ids that they have. Without any, fetching is refused and the rest works.
  [[nodiscard]] image::FetchOptions fetch_options() const {
    constexpr std::uint32_t nobody = 65534;
    image::FetchOptions options;
    options.path = options_.registry.fetch_path;
    options.host_id = nobody;
    options.ends_with_parent = true;
    auto map = [&]() -> Result<linux::IdMap> {
      linux::IdMap engine;
      const auto folder = concat("/proc/", space_->record.holder.pid);
      engine.uids = TRY_PLAIN(linux::parse_id_map(TRY_PLAIN(linux::read_kernel_file(folder + "/uid_map"))));
      engine.gids = TRY_PLAIN(linux::parse_id_map(TRY_PLAIN(linux::read_kernel_file(folder + "/gid_map"))));
      return fetch_id_map(engine);
    }();
    if (map.ok()) options.id_map = std::move(*map);
    else log_error("rootless", "registries", map.error());
    return options;
  }

  // ---- the engine ----

  Result<int> start_engine() {
    auto pair = TRY(linux::socketpair(linux::UnixType::seqpacket), "channel of the engine");
    const int supervisor = linux::getpid();
    auto child = TRY(linux::fork_with_pidfd(0), "start the engine");
    if (child.pid == 0) {
      const Error error = become_engine(supervisor, std::move(pair.second));
      log_error("rootless", "engine", error);
      linux::exit_now(1);
    }
    channel_ = std::move(pair.first);
    engine_ = std::move(child.pidfd);
    space_->record.engine = {child.pid, linux::process_start_time(child.pid).value_or(0)};  // 0: it has ended already
    TRY(save(), "start the engine");
    return 0;
  }

  /// In a copy of this program, with its one thread. Returns only on failure.
  Error become_engine(int supervisor, UniqueFd channel) {
    auto prepare = [&]() -> Status {
      TRY_PLAIN(join_space(*space_));
      // Its supervisor forwards ports and holds the lock: without it the engine ends as in a crash, which loses nothing.
      TRY(linux::set_parent_death_signal(SIGKILL), "engine");
      if (linux::getppid() != supervisor) return Error(ErrorKind::unavailable, "the supervisor has ended");
      TRY(linux::set_close_on_exec(channel.get(), false), "engine");
      (void)TRY(linux::signal_mask(SIG_SETMASK, *first_mask_), "engine");
      return {};
    };
    if (auto prepared = prepare(); !prepared.ok()) return std::move(prepared).error();
    std::vector<std::string> argv{"caissond"};
    argv.insert(argv.end(), arguments_.begin(), arguments_.end());
    std::vector<std::string> env;
    for (auto& text : whole_environment()) {
      // Sockets of the service manager are the engine's now (sd_listen_fds(3)).
      if (text == concat("LISTEN_PID=", supervisor)) text = concat("LISTEN_PID=", linux::getpid());
      env.push_back(std::move(text));
    }
    env.push_back(HostSide::variable(channel.get()));
    return linux::execve("/proc/self/exe", argv, env);
  }

  Result<int> serve() {
    for (;;) {
      std::vector<linux::PollEntry> entries{{engine_.get(), POLLIN, 0}, {signals_->get(), POLLIN, 0}, {channel_ ? channel_.get() : -1, POLLIN, 0}, {uplink_ ? uplink_->get() : -1, POLLIN, 0}};
      const auto own_entries = entries.size();
      for (const int pidfd : services_->fetch_pidfds()) entries.push_back({pidfd, POLLIN, 0});
      (void)TRY_PLAIN(linux::poll(entries, time_left_ms()));
      if (entries[1].revents != 0) pass_on_signals();
      if (entries[2].revents != 0) answer();
      if (entries[3].revents != 0) on_uplink_ended();
      if (std::any_of(entries.begin() + static_cast<std::ptrdiff_t>(own_entries), entries.end(), [](const auto& entry) { return entry.revents != 0; })) services_->reap_fetches();
      if (retry_at_ns_ != 0 && monotonic_ns() >= retry_at_ns_) open_uplink();
      if (entries[0].revents == 0) continue;
      const auto status = TRY(linux::wait_pidfd(engine_.get()), "engine");
      return status.exit_code();
    }
  }

  [[nodiscard]] int time_left_ms() const {
    if (retry_at_ns_ == 0) return -1;
    constexpr std::int64_t ns_per_ms = 1'000'000;
    return static_cast<int>(std::max<std::int64_t>(retry_at_ns_ - monotonic_ns(), 0) / ns_per_ms + 1);
  }

  void pass_on_signals() {
    for (;;) {
      auto event = linux::signalfd_take(signals_->get());
      if (!event.ok() || !*event) return;
      ignore(linux::pidfd_send_signal(engine_.get(), (*event)->signal));  // an engine that has ended is seen next
    }
  }

  void answer() {
    auto message = linux::receive_message(channel_.get(), longest_request_bytes);
    auto reply = message.ok() && !message->bytes.empty() ? services_->answer(message->bytes) : Result<HostServices::Reply>(Error(ErrorKind::io, "ended"));
    if (!reply.ok()) return channel_.reset();  // the engine sees it at its next request
    std::vector<int> fds;
    for (const auto& fd : reply->fds) fds.push_back(fd.get());
    ignore(linux::send_message(channel_.get(), encode(reply->answer), fds));
  }

  const DaemonOptions& options_;
  const std::vector<std::string>& arguments_;
  std::optional<linux::SignalSet> first_mask_;
  std::optional<UniqueFd> signals_;
  UplinkProgram program_;
  std::optional<Space> space_;
  std::optional<UniqueFd> uplink_;
  std::int64_t pause_ns_ = 0;
  std::int64_t retry_at_ns_ = 0;
  std::optional<HostServices> services_;
  UniqueFd channel_;
  UniqueFd engine_;  ///< pidfd
};
}  // namespace

int supervise(const DaemonOptions& options, const std::vector<std::string>& arguments) {
  auto code = Supervisor(options, arguments).run();
  if (code.ok()) return *code;
  std::string text = concat("caissond: ", code.error().text(), "\n");
  if (!code.error().hint().empty()) text += concat("hint: ", code.error().hint(), "\n");
  std::fputs(text.c_str(), stderr);
  return 1;
}

}  // namespace caisson::app
