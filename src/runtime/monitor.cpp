// The monitor's event loop: streams, connections of daemons, execs, and the end.
#include "runtime/monitor.hpp"

#include <algorithm>
#include <array>

#include "linux/child_clone.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "runtime/launch.hpp"

namespace caisson::runtime {

namespace {

enum : std::uint64_t { tag_listener = 1, tag_container = 2, tag_stdio = 3, tag_oom = 4, tag_connections = 100, tag_execs = 1000 };

constexpr std::int64_t second_ns = 1'000'000'000;
/// Strangers (a process moved to another pid namespace, a descriptor passed over a socket) may hold the container's pipes
/// for ever; the exit status must not wait for them longer than this.
constexpr std::int64_t drain_limit_ns = 2 * second_ns;
constexpr int tidy_after_ms = 500;
constexpr std::int64_t adopted_status_limit_ns = 2 * second_ns;
/// Finished execs that no daemon has asked for yet; beyond this the oldest are forgotten.
constexpr std::size_t finished_exec_limit = 256;

struct Connection {
  UniqueFd fd;
  bool greeted = false;
};

struct Exec {
  std::string id;
  std::uint64_t number = 0;
  pid_t pid = 0;
  UniqueFd pidfd;
  std::unique_ptr<Stdio> stdio;
  std::optional<ExitBody> exit;
  std::int64_t drain_until_ns = 0;
  std::int64_t kill_at_ns = 0;  ///< 0: it may run for ever
};

int exit_code(const linux::ExitStatus& status) { return status.exit_code(); }

/// A child that is not waited for stays a zombie, and a PID namespace does not end before its zombies. The event comes again; only who is
/// somebody else's child by now is waited for in vain.
bool is_to_be_asked_again(const Error& error) { return error.error_number() != ECHILD; }

class Monitor {
 public:
  explicit Monitor(MonitorStart start)
      : body_(std::move(start.body)), layout_(std::move(start.layout)), init_fd_(start.init_fd), stdio_(body_.terminal, body_.stdin_once) {
    if (start.control) connections_.push_back({std::move(start.control), true});
  }

  Status setup() {
    epoll_ = TRY_PLAIN(linux::epoll_create());
    log_ = TRY_PLAIN(LogWriter::open(body_.log_path, body_.log_max_size_bytes, body_.log_max_files, body_.log_attributes));
    return {};
  }

  Status start_container(MonitorStart& start) {
    TRY_PLAIN(setup());
    LaunchInputs inputs;
    inputs.user_namespace = start.user_namespace.get();
    inputs.network_namespace = start.network_namespace.get();
    inputs.init_fd = init_fd_;
    inputs.layout = layout_;
    std::vector<UniqueFd> child_ends;
    if (!body_.terminal) TRY_PLAIN(make_pipes(stdio_, inputs, child_ends, body_.open_stdin, true, outside_user(start.plan, start.plan.process.uid, start.plan.process.gid)));
    auto launching = TRY_PLAIN(begin_launch(start.plan, inputs));
    child_ends.clear();
    // While the child sets itself up on another CPU.
    if (launching.cgroup) listen_for_oom(*launching.cgroup);
    auto prepared = prepare_to_serve(start, launching.pidfd.get());
    TRY_PLAIN(finish_launch(launching, start.plan, inputs));
    auto ready = [&]() -> Status {
      TRY_PLAIN(std::move(prepared));
      // Without its start time a daemon that comes back would not know the process again.
      body_.start_time = TRY_PLAIN(linux::process_start_time(launching.pid));
      if (body_.terminal) TRY_PLAIN(stdio_.set_terminal(std::move(launching.terminal)));
      return stdio_.watch(epoll_.get(), tag_stdio);
    }();
    if (!ready) {
      abandon(launching);
      return ready;
    }
    pid_ = launching.pid;
    pidfd_ = std::move(launching.pidfd);
    if (launching.cgroup) body_.cgroup_path = launching.cgroup->path();
    cgroup_ = std::move(launching.cgroup);
    body_.exec_namespaces = exec_namespaces(start.plan);
    body_.in_user_namespace = start.plan.in_user_namespace;
    body_.own_pid_namespace = (start.plan.clone_flags & CLONE_NEWPID) != 0;
    body_.id_map = start.plan.id_map;
    running_ = true;
    return {};
  }

  Status adopt_container(MonitorStart& start) {
    TRY_PLAIN(setup());
    pid_ = body_.pid;
    pidfd_ = std::move(start.pidfd);
    adopted_ = true;
    running_ = true;
    if (body_.terminal && start.output) {
      TRY_PLAIN(stdio_.set_terminal(std::move(start.output)));
    } else {
      if (start.input) TRY_PLAIN(stdio_.set_input(std::move(start.input)));
      if (start.output) TRY_PLAIN(stdio_.add_output(std::move(start.output), Stream::out));
      if (start.error) TRY_PLAIN(stdio_.add_output(std::move(start.error), Stream::error));
    }
    if (!body_.cgroup_path.empty() && layout_)
      if (auto opened = linux::Cgroup::open(layout_, body_.cgroup_path)) cgroup_ = std::move(opened).value();
    if (cgroup_) listen_for_oom(*cgroup_);
    oom_seen_ = oom_count_ != 0;  // in the life before us
    TRY_PLAIN(prepare_to_serve(start, pidfd_.get()));
    return stdio_.watch(epoll_.get(), tag_stdio);
  }

  void send_started(const Status& outcome) {
    StateBody body = state();
    if (!outcome) body.error = to_wire(outcome.error());
    send_state(MessageKind::started, 0, body);
  }

  int serve() {
    std::array<linux::EpollEvent, 16> events;
    // What was there before we watched has no edge of its own.
    serve_stdio();
    while (!is_done()) {
      auto count = linux::epoll_wait(epoll_.get(), events, wait_ms());
      if (!count) return 1;
      for (std::size_t i = 0; i < *count; ++i) handle(events[i]);
      check_deadlines();
      tidied_ = *count == 0;
      if (tidied_) linux::release_program_text();  // nothing has happened for a while: most monitors sleep most of the time
    }
    ignore(linux::unlinkat(AT_FDCWD, concat(body_.run_dir, "/", monitor_socket_name), 0));
    return 0;
  }

 private:
  // --- setting up ---------------------------------------------------------------------------------------------------

  /// Pipes of a process without terminal; the ends for the child are named in `inputs` and owned by `child_ends`.
  static Status make_pipes(Stdio& stdio, LaunchInputs& inputs, std::vector<UniqueFd>& child_ends, bool with_stdin, bool with_output,
                           RootIds owner) {
    auto null = TRY_PLAIN(linux::open("/dev/null", O_RDWR));
    if (with_stdin) {
      auto pipe = TRY_PLAIN(linux::pipe2());
      TRY_PLAIN(own(pipe.read_end, owner));
      inputs.standard_fds[0] = pipe.read_end.get();
      child_ends.push_back(std::move(pipe.read_end));
      TRY_PLAIN(stdio.set_input(std::move(pipe.write_end)));
    } else {
      inputs.standard_fds[0] = null.get();
    }
    for (int i = 1; i <= 2; ++i) {
      if (!with_output) {
        inputs.standard_fds[i] = null.get();
        continue;
      }
      auto pipe = TRY_PLAIN(linux::pipe2());
      TRY_PLAIN(own(pipe.write_end, owner));
      inputs.standard_fds[i] = pipe.write_end.get();
      child_ends.push_back(std::move(pipe.write_end));
      TRY_PLAIN(stdio.add_output(std::move(pipe.read_end), i == 1 ? Stream::out : Stream::error));
    }
    child_ends.push_back(std::move(null));
    return {};
  }

  /// A program that opens /dev/stdout anew needs rights over the pipe's inode.
  static Status own(const UniqueFd& fd, RootIds owner) {
    if (owner.uid == 0 && owner.gid == 0) return {};
    return linux::fchown(fd.get(), owner.uid, owner.gid);
  }

  Status open_socket() {
    const std::string path = concat(body_.run_dir, "/", monitor_socket_name);
    ignore(linux::unlinkat(AT_FDCWD, path, 0));  // of a monitor that died
    listener_ = TRY(linux::unix_listen(path, linux::UnixType::seqpacket, 0600, 8), "monitor socket");
    return linux::set_nonblocking(listener_.get(), true);
  }

  /// Everything but the streams, which a terminal has only once the program runs.
  Status prepare_to_serve(MonitorStart& start, int pidfd) {
    TRY_PLAIN(open_socket());
    for (std::size_t i = 0; i < start.clients.size() && i < body_.clients.size(); ++i) TRY_PLAIN(stdio_.attach(std::move(start.clients[i]), std::move(body_.clients[i])));
    body_.clients.clear();
    TRY_PLAIN(linux::epoll_add(epoll_.get(), listener_.get(), EPOLLIN, tag_listener));
    TRY_PLAIN(linux::epoll_add(epoll_.get(), pidfd, EPOLLIN, tag_container));
    for (std::size_t i = 0; i < connections_.size(); ++i) TRY_PLAIN(watch(connections_[i], i));
    // Files of cgroup v2 announce changes as exceptional conditions, eventfds as input. Without news the count is looked at when the container ends.
    if (oom_) ignore(linux::epoll_add(epoll_.get(), oom_->fd(), EPOLLIN | EPOLLPRI | EPOLLET, tag_oom));
    return {};
  }

  void listen_for_oom(const linux::Cgroup& cgroup) {
    auto events = cgroup.oom_events();
    if (!events) return;
    oom_ = std::move(events).value();
    // In a new one the program may have been killed already.
    if (cgroup.is_new()) return;
    if (auto count = oom_->count()) oom_count_ = *count;
  }

  Status watch(const Connection& connection, std::size_t index) { return linux::epoll_add(epoll_.get(), connection.fd.get(), EPOLLIN, tag_connections + index); }

  // --- events -------------------------------------------------------------------------------------------------------

  void handle(const linux::EpollEvent& event) {
    if (event.tag == tag_listener) return accept_connection();
    if (event.tag == tag_container) return container_ended();
    if (event.tag == tag_stdio) return serve_stdio();
    if (event.tag == tag_oom) return check_oom();
    if (event.tag >= tag_execs) return handle_exec(event.tag - tag_execs);
    if (event.tag >= tag_connections) return handle_connection(event.tag - tag_connections);
  }

  void serve_stdio() {
    const bool had_input = stdio_.input_fd() >= 0;
    count_detached(stdio_.serve(&log_));
    if (had_input && stdio_.input_fd() < 0) broadcast(MessageKind::stdin_closed, AnswerBody{});
  }

  void count_detached(int count) {
    for (int i = 0; i < count; ++i) broadcast(MessageKind::client_detached, AnswerBody{});
  }

  void check_oom() {
    if (!oom_) return;
    auto count = oom_->count();
    if (!count || *count <= oom_count_) return;
    oom_count_ = *count;
    oom_seen_ = true;
    broadcast(MessageKind::oom, AnswerBody{});
  }

  void accept_connection() {
    auto accepted = linux::accept4(listener_.get(), 0);
    if (!accepted) return;
    auto peer = linux::peer_credentials(accepted->get());
    // The file's mode says the same; a folder with wrong rights must not be enough.
    if (!peer || (peer->uid != 0 && peer->uid != linux::geteuid())) return;
    std::size_t index = 0;
    while (index < connections_.size() && connections_[index].fd) ++index;
    if (index == connections_.size()) {
      if (index >= 8) return;
      connections_.emplace_back();
    }
    connections_[index] = {std::move(accepted).value(), false};
    if (!watch(connections_[index], index)) connections_[index].fd.reset();  // who is not heard must not wait for an answer
  }

  void handle_connection(std::size_t index) {
    if (index >= connections_.size() || !connections_[index].fd) return;
    auto received = receive_body(connections_[index].fd.get());
    if (!received || received->closed) {
      connections_[index].fd.reset();
      return;
    }
    const auto& message = *received;
    if (message.head.kind == MessageKind::hello) {
      connections_[index].greeted = true;
      send_state_to(connections_[index], MessageKind::state, message.head.request, state());
      return;
    }
    if (!connections_[index].greeted) {
      connections_[index].fd.reset();
      return;
    }
    AnswerBody answer;
    auto outcome = handle_request(std::move(received).value(), answer);
    if (!outcome) answer.error = to_wire(outcome.error());
    send_to(connections_[index], MessageKind::answer, message_request_, answer);
  }

  Status handle_request(ReceivedMessage message, AnswerBody& answer) {
    message_request_ = message.head.request;
    switch (message.head.kind) {
      case MessageKind::attach: return attach(message);
      case MessageKind::exec: return exec(message, answer);
      case MessageKind::resize: return resize(message);
      case MessageKind::exit_known: {
        auto body = TRY_PLAIN(read_body<ExitBody>(message.body, "exit_known"));
        if (!exit_ && status_wanted_) finish_container(body.code, body.lost);
        return {};
      }
      case MessageKind::exit_recorded: recorded_ = true; return {};
      case MessageKind::exec_recorded: {
        auto body = TRY_PLAIN(read_body<ExitBody>(message.body, "exec_recorded"));
        std::erase_if(finished_, [&](const ExitBody& item) { return item.exec_id == body.exec_id; });
        return {};
      }
      default: return Error(ErrorKind::unsupported, "this monitor does not know the request");
    }
  }

  Status attach(ReceivedMessage& message) {
    auto body = TRY_PLAIN(read_body<AttachBody>(message.body, "attach"));
    if (message.fds.empty()) return Error(ErrorKind::invalid, "attach: the client's socket is missing");
    if (!body.exec_id.empty()) {
      Exec* exec = find_exec(body.exec_id);
      if (exec == nullptr) return Error(ErrorKind::not_found, "no such exec");
      TRY_PLAIN(exec->stdio->attach(std::move(message.fds.front()), std::move(body.client)));
      count_detached(exec->stdio->serve(nullptr));
      return {};
    }
    if (exit_) return Error(ErrorKind::conflict, "the container is not running");
    TRY_PLAIN(stdio_.attach(std::move(message.fds.front()), std::move(body.client)));
    serve_stdio();
    return {};
  }

  Status resize(ReceivedMessage& message) {
    auto body = TRY_PLAIN(read_body<ResizeBody>(message.body, "resize"));
    if (body.exec_id.empty()) return stdio_.resize(body.rows, body.columns);
    Exec* exec = find_exec(body.exec_id);
    if (exec == nullptr) return Error(ErrorKind::not_found, "no such exec");
    return exec->stdio->resize(body.rows, body.columns);
  }

  // --- execs --------------------------------------------------------------------------------------------------------

  Exec* find_exec(std::string_view id) {
    for (auto& exec : execs_)
      if (exec->id == id) return exec.get();
    return nullptr;
  }

  Status exec(ReceivedMessage& message, AnswerBody& answer) {
    auto body = TRY_PLAIN(read_body<ExecBody>(message.body, "exec"));
    if (!running_ || exit_) return Error(ErrorKind::conflict, "the container is not running");
    if (body.has_client && message.fds.empty()) return Error(ErrorKind::invalid, "exec: the client's socket is missing");
    auto entry = std::make_unique<Exec>();
    entry->id = body.exec_id;
    entry->number = next_exec_++;
    entry->stdio = std::make_unique<Stdio>(body.process.terminal, true);
    LaunchInputs inputs;
    std::vector<UniqueFd> child_ends;
    LaunchPlan ids;  // only its map is looked at
    ids.in_user_namespace = body_.in_user_namespace;
    ids.id_map = body_.id_map;
    if (!body.process.terminal)
      TRY_PLAIN(make_pipes(*entry->stdio, inputs, child_ends, body.has_client && body.with_stdin, body.has_client,
                           outside_user(ids, body.process.uid, body.process.gid)));
    if (body.has_client && !body.process.terminal) TRY_PLAIN(entry->stdio->attach(std::move(message.fds.front()), std::move(body.client)));
    ExecTarget target;
    target.pidfd = pidfd_.get();
    target.namespaces = body_.exec_namespaces;
    target.in_user_namespace = body_.in_user_namespace;
    target.cgroup = cgroup_ ? &*cgroup_ : nullptr;
    auto launching = TRY_PLAIN(begin_exec(body.process, target, inputs));
    child_ends.clear();
    TRY_PLAIN(finish_exec(launching, body.process, inputs));
    auto watched = [&]() -> Status {
      if (body.process.terminal) {
        TRY_PLAIN(entry->stdio->set_terminal(std::move(launching.terminal)));
        if (body.has_client) TRY_PLAIN(entry->stdio->attach(std::move(message.fds.front()), std::move(body.client)));
      }
      TRY_PLAIN(entry->stdio->watch(epoll_.get(), tag_execs + 2 * entry->number));
      return linux::epoll_add(epoll_.get(), launching.pidfd.get(), EPOLLIN, tag_execs + 2 * entry->number + 1);
    }();
    if (!watched) {
      ignore(linux::kill(-launching.pid, SIGKILL));  // its group's other members; it may just have ended
      abandon(launching);
      return std::move(watched).error().in("watch the process");
    }
    entry->pid = launching.pid;
    entry->pidfd = std::move(launching.pidfd);
    if (body.timeout_ms > 0) entry->kill_at_ns = monotonic_ns() + body.timeout_ms * 1'000'000;
    answer.pid = entry->pid;
    execs_.push_back(std::move(entry));
    count_detached(execs_.back()->stdio->serve(nullptr));
    return {};
  }

  void handle_exec(std::uint64_t tag) {
    auto found = std::find_if(execs_.begin(), execs_.end(), [&](const auto& exec) { return exec->number == tag / 2; });
    if (found == execs_.end()) return;
    Exec& exec = **found;
    if (tag % 2 == 1 && !exec.exit) {
      auto status = linux::try_wait_pidfd(exec.pidfd.get());
      if (status ? !*status : is_to_be_asked_again(status.error())) return;
      ExitBody body;
      body.exec_id = exec.id;
      body.finished_at = now_ns();
      body.code = status ? exit_code(**status) : 255;
      body.lost = !status;
      exec.exit = std::move(body);
      exec.drain_until_ns = monotonic_ns() + drain_limit_ns;
      ignore(linux::epoll_remove(epoll_.get(), exec.pidfd.get()));
    }
    count_detached(exec.stdio->serve(nullptr));
  }

  /// The process is our child and not yet reaped, so its number, which is its group's too (it made a session), is nobody else's.
  void kill_late_execs() {
    for (auto& exec : execs_) {
      if (exec->kill_at_ns == 0 || exec->exit || monotonic_ns() < exec->kill_at_ns) continue;
      exec->kill_at_ns = 0;
      if (!linux::kill(-exec->pid, SIGKILL)) ignore(linux::pidfd_send_signal(exec->pidfd.get(), SIGKILL));  // it may just have ended
    }
  }

  /// Announces execs whose output has been delivered, or whose time is up.
  void finish_execs() {
    for (auto it = execs_.begin(); it != execs_.end();) {
      Exec& exec = **it;
      if (!exec.exit || (!exec.stdio->is_drained() && monotonic_ns() < exec.drain_until_ns)) {
        ++it;
        continue;
      }
      ExitBody body = std::move(*exec.exit);
      // Its clients' streams end with it, and whoever sees that asks for the exit code: the daemon must be told first.
      const std::unique_ptr<Exec> ending = std::move(*it);
      it = execs_.erase(it);
      finished_.push_back(body);
      if (finished_.size() > finished_exec_limit) finished_.erase(finished_.begin());
      broadcast(MessageKind::exec_exited, body);
    }
  }

  // --- the end ------------------------------------------------------------------------------------------------------

  void container_ended() {
    if (exit_ || status_wanted_) return;
    if (!adopted_) {
      auto status = linux::try_wait_pidfd(pidfd_.get());
      if (!status && is_to_be_asked_again(status.error())) return;
      ignore(linux::epoll_remove(epoll_.get(), pidfd_.get()));
      finish_container(status && *status ? exit_code(**status) : 255, !status || !*status);
      return;
    }
    // Not our child: its status becomes readable once whoever is its parent now has reaped it.
    status_wanted_ = true;
    status_until_ns_ = monotonic_ns() + adopted_status_limit_ns;
    look_for_status();
  }

  void look_for_status() {
    auto status = linux::pidfd_exit_status(pidfd_.get());
    if (status && *status) return finish_container(exit_code(**status), false);
    if (monotonic_ns() >= status_until_ns_) finish_container(255, true);
  }

  void finish_container(int code, bool lost) {
    status_wanted_ = false;
    running_ = false;
    // Without a pid namespace of its own, what the program left behind would go on and hold the streams.
    if (!body_.own_pid_namespace && cgroup_) ignore(cgroup_->kill_all());
    check_oom();
    ExitBody body;
    body.code = code;
    body.lost = lost;
    body.finished_at = now_ns();
    exit_ = body;
    drain_until_ns_ = monotonic_ns() + drain_limit_ns;
    stdio_.close_input();
    count_detached(stdio_.serve(&log_));
  }

  void announce_exit() {
    announced_ = true;
    if (!stdio_.has_clients()) stdio_.close_outputs();
    exit_->oom_killed = oom_seen_;
    exit_->log_drops = log_.drops();
    // Kept first: a daemon that dies between the two finds it.
    kept_ = write_exit_file(body_.run_dir, *exit_).ok();
    broadcast(MessageKind::exited, *exit_);
  }

  void check_deadlines() {
    if (status_wanted_) look_for_status();
    end_old_parts();
    if (exit_ && !announced_ && (stdio_.is_drained() || monotonic_ns() >= drain_until_ns_)) announce_exit();
    if (exit_ && stdio_.is_drained()) stdio_.close_clients();
    kill_late_execs();
    finish_execs();
  }

  /// A part of a line may wait this long for its rest before it is logged as it is.
  void end_old_parts() {
    constexpr std::int64_t part_wait_ns = 20'000'000;
    if (!stdio_.holds_part()) {
      part_until_ns_ = 0;
    } else if (part_until_ns_ == 0) {
      part_until_ns_ = monotonic_ns() + part_wait_ns;
    } else if (monotonic_ns() >= part_until_ns_) {
      stdio_.end_parts(&log_);
      part_until_ns_ = 0;
    }
  }

  [[nodiscard]] int wait_ms() const {
    if (status_wanted_) return 10;
    std::int64_t until = exit_ && !announced_ ? drain_until_ns_ : 0;
    if (part_until_ns_ != 0 && (until == 0 || part_until_ns_ < until)) until = part_until_ns_;
    for (const auto& exec : execs_)
      if (const std::int64_t own = exec->exit ? exec->drain_until_ns : exec->kill_at_ns; own != 0 && (until == 0 || own < until)) until = own;
    if (until == 0) return tidied_ ? -1 : tidy_after_ms;
    const std::int64_t left = until - monotonic_ns();
    return left <= 0 ? 0 : static_cast<int>(left / 1'000'000) + 1;
  }

  [[nodiscard]] bool is_done() const {
    if (!announced_ || !execs_.empty()) return false;
    if (stdio_.has_clients() && !stdio_.is_drained()) return false;
    if (recorded_) return true;
    // Nobody is there to hear it; the file tells whoever comes. Who has not said hello waits for our end, and then reads the file.
    const bool alone = std::none_of(connections_.begin(), connections_.end(), [](const Connection& c) { return c.fd && c.greeted; });
    return alone && kept_;
  }

  // --- messages -----------------------------------------------------------------------------------------------------

  [[nodiscard]] StateBody state() const {
    StateBody out;
    out.oldest_version = oldest_monitor_protocol_version;
    out.running = running_;
    out.pid = pid_;
    out.start_time = body_.start_time;
    if (exit_ && announced_) out.exit = exit_;
    out.finished_execs = finished_;
    for (const auto& exec : execs_) out.running_execs.push_back(exec->id);
    out.terminal = body_.terminal;
    out.cgroup_path = body_.cgroup_path;
    return out;
  }

  void send_state_to(Connection& connection, MessageKind kind, std::uint64_t request, StateBody body) {
    std::vector<int> fds;
    auto add = [&](int fd) {
      if (fd < 0) return false;
      fds.push_back(fd);
      return true;
    };
    if (running_) {
      body.has_pidfd = add(pidfd_.get());
      if (body_.terminal) {
        body.has_stdout = add(stdio_.master_fd());
      } else {
        body.has_stdin = add(stdio_.input_fd());
        body.has_stdout = add(stdio_.output_fd(Stream::out));
        body.has_stderr = add(stdio_.output_fd(Stream::error));
      }
    }
    if (!send_body(connection.fd.get(), kind, request, body, fds)) connection.fd.reset();
  }

  void send_state(MessageKind kind, std::uint64_t request, const StateBody& body) {
    for (auto& connection : connections_)
      if (connection.fd && connection.greeted) send_state_to(connection, kind, request, body);
  }

  template <typename Body>
  void send_to(Connection& connection, MessageKind kind, std::uint64_t request, const Body& body) {
    // A daemon that does not read is as good as gone; it gets the whole state when it comes back.
    if (connection.fd && !send_body(connection.fd.get(), kind, request, body)) connection.fd.reset();
  }

  template <typename Body>
  void broadcast(MessageKind kind, const Body& body) {
    for (auto& connection : connections_)
      if (connection.greeted) send_to(connection, kind, 0, body);
  }

  MonitorBody body_;
  std::shared_ptr<const linux::CgroupLayout> layout_;
  int init_fd_ = -1;
  UniqueFd epoll_;
  UniqueFd listener_;
  std::vector<Connection> connections_;
  std::uint64_t message_request_ = 0;
  LogWriter log_;
  Stdio stdio_;
  pid_t pid_ = 0;
  UniqueFd pidfd_;
  bool adopted_ = false;
  bool running_ = false;
  std::optional<linux::Cgroup> cgroup_;
  std::unique_ptr<linux::OomEvents> oom_;
  std::uint64_t oom_count_ = 0;
  bool oom_seen_ = false;
  std::vector<std::unique_ptr<Exec>> execs_;
  std::vector<ExitBody> finished_;
  std::uint64_t next_exec_ = 0;
  std::optional<ExitBody> exit_;
  bool status_wanted_ = false;
  std::int64_t status_until_ns_ = 0;
  std::int64_t drain_until_ns_ = 0;
  std::int64_t part_until_ns_ = 0;   ///< when a part of a line has waited long enough
  bool tidied_ = false;
  bool announced_ = false;
  bool kept_ = false;
  bool recorded_ = false;
};

}  // namespace

int run_monitor(MonitorStart start) {
  Monitor monitor(MonitorStart{start.body, std::move(start.control), {}, {}, {}, {}, {}, {}, {}, {}, start.init_fd, start.layout});
  auto outcome = monitor.start_container(start);
  monitor.send_started(outcome);
  if (!outcome) return 1;
  // The plan is of no more use; an idle monitor should be small.
  start = MonitorStart{};
  linux::release_free_memory();
  return monitor.serve();
}

int run_adopting_monitor(MonitorStart start) {
  Monitor monitor(MonitorStart{start.body, std::move(start.control), {}, {}, {}, {}, {}, {}, {}, {}, start.init_fd, start.layout});
  auto outcome = monitor.adopt_container(start);
  monitor.send_started(outcome);
  if (!outcome) return 1;
  return monitor.serve();
}

}  // namespace caisson::runtime
