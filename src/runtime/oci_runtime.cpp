// The daemon's side: one event thread over all monitors, requests matched to answers, and what to do when a helper dies.
#include "runtime/oci_runtime.hpp"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "linux/spawn.hpp"
#include "linux/sysinfo.hpp"
#include "linux/tree.hpp"
#include "runtime/launch.hpp"
#include "runtime/plan.hpp"
#include "runtime/protocol.hpp"

namespace caisson::runtime {

namespace {

constexpr auto answer_limit = std::chrono::seconds(60);

/// One request on its way. Answered by the event thread.
struct Pending {
  bool done = false;
  std::optional<Error> error;
  AnswerBody answer;
  std::vector<UniqueFd> fds;
};

/// A container as the daemon knows it. Guarded by OciRuntime::mutex_.
struct Container {
  std::string id;
  std::string run_dir;
  LogPolicy log;
  UniqueFd control;              ///< to the monitor; empty when there is none
  std::uint64_t tag = 0;         ///< of the control connection in epoll
  pid_t pid = 0;
  std::uint64_t start_time = 0;
  std::string cgroup_path;
  std::optional<SeccompProfile> seccomp;
  bool terminal = false;
  bool stdin_once = false;
  std::uint64_t exec_namespaces = 0;
  bool in_user_namespace = false;
  bool own_pid_namespace = true;
  linux::IdMap id_map;
  // duplicates, for a monitor that has to be replaced
  UniqueFd pidfd;
  UniqueFd input;
  UniqueFd output;
  UniqueFd error;
  std::map<std::string, pid_t> execs;
  std::optional<ExitStatus> exit;
  bool running = false;
  bool being_adopted = false;
  // start() and recover() wait for the monitor's first message
  bool state_arrived = false;
  StateBody state;
  std::optional<Error> failure;
};

class OciRuntime final : public Runtime {
 public:
  OciRuntime(OciOptions options, RuntimeObserver& observer) : options_(std::move(options)), observer_(observer) {}

  ~OciRuntime() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      launcher_socket_.reset();  // the launcher ends with it; monitors go on
    }
    if (wake_) ignore(linux::eventfd_signal(wake_.get()));
    if (thread_.joinable()) thread_.join();
  }

  Status setup() {
    layout_ = std::make_shared<const linux::CgroupLayout>(TRY_PLAIN(linux::detect_cgroup_layout()));
    facts_ = TRY_PLAIN(read_host_facts(*layout_));
    memory_total_ = TRY_PLAIN(linux::total_memory_bytes());
    auto bytes = TRY(linux::read_file(options_.launcher_path, std::size_t{256} << 20U), "launcher");
    // CVE-2019-5736: a container must never reach a writable file that the host runs.
    auto memfd = TRY(linux::sealed_memfd("caisson-runtime", bytes), "launcher");
    // Above every number that the launcher's own descriptors take: it is executed by its number.
    constexpr int beyond_mapped = 64;
    binary_ = TRY(linux::dup_at_least(memfd.get(), beyond_mapped), "launcher");
    epoll_ = TRY_PLAIN(linux::epoll_create());
    wake_ = TRY_PLAIN(linux::eventfd());
    TRY_PLAIN(linux::epoll_add(epoll_.get(), wake_.get(), EPOLLIN, tag_wake));
    {
      std::unique_lock lock(mutex_);
      TRY_PLAIN(start_launcher());
    }
    thread_ = std::thread([this] { event_loop(); });
    HelloBody hello;
    hello.build = build_id();
    return ask_launcher(MessageKind::hello, hello, {}).status;
  }

  Result<NamespacePair> make_namespaces(const linux::IdMap& id_map, bool with_network, int owner) override {
    MakeNamespacesBody body;
    body.id_map = id_map;
    body.with_network = with_network;
    body.with_owner = owner >= 0;
    auto reply = ask_launcher(MessageKind::make_namespaces, body, body.with_owner ? std::span<const int>(&owner, 1) : std::span<const int>());
    TRY_PLAIN(std::move(reply.status));
    const bool with_user = !id_map.empty() && !body.with_owner;
    const std::size_t wanted = (with_user ? 1U : 0U) + (with_network ? 1U : 0U);
    if (reply.fds.size() != wanted) return Error(ErrorKind::internal, "the launcher sent the wrong number of namespaces");
    NamespacePair pair;
    if (with_network) pair.network = std::move(reply.fds.back());
    if (with_user) pair.user = std::move(reply.fds.front());
    return pair;
  }

  Result<Started> start(StartRequest request) override;
  Result<Recovered> recover(RecoverRequest request) override;
  Status attach(const std::string& id, AttachRequest request) override;
  Status kill(const std::string& id, int signal) override;
  Status kill_all(const std::string& id) override;
  Result<pid_t> exec(const std::string& id, ExecRequest request) override;
  Status resize(const std::string& id, const std::string& exec_id, ConsoleSize size) override;
  Status pause(const std::string& id) override;
  Status resume(const std::string& id) override;
  Status update(const std::string& id, const Resources& resources) override;
  Result<std::vector<pid_t>> processes(const std::string& id) override;
  Result<Stats> stats(const std::string& id) override;
  Status remove(const std::string& id, const std::string& run_dir, const std::string& cgroups_path) override;

 private:
  enum : std::uint64_t { tag_wake = 1, tag_launcher = 2, first_tag = 16 };

  struct Reply {
    Status status;
    AnswerBody answer;
    std::vector<UniqueFd> fds;
  };

  static Error no_container(const std::string& id) { return {ErrorKind::not_found, concat("container ", id, " does not exist")}; }
  static Error not_running(const std::string& id) { return {ErrorKind::conflict, concat("container ", id, " is not running")}; }

  // All of these with mutex_ held.
  Status start_launcher();
  Status watch(const std::shared_ptr<Container>& container, UniqueFd control);
  void forget_connection(Container& container);
  Result<std::shared_ptr<Container>> find(const std::string& id);
  void begin_adoption(const std::shared_ptr<Container>& container);
  void take_state(Container& container, const StateBody& body, std::vector<UniqueFd> fds);

  // Without it.
  template <typename Body>
  Reply ask_launcher(MessageKind kind, const Body& body, std::span<const int> fds);
  template <typename Body>
  Reply ask_monitor(const std::string& id, MessageKind kind, const Body& body, std::span<const int> fds);
  Reply wait_for(std::unique_lock<std::mutex>& lock, std::uint64_t request);
  Status wait_for_state(std::unique_lock<std::mutex>& lock, Container& container);
  Result<linux::Cgroup> cgroup_of(const std::string& id);

  void event_loop();
  void handle_launcher();
  void handle_monitor(std::uint64_t tag);
  void handle_event(const std::shared_ptr<Container>& container, ReceivedMessage message);
  void monitor_gone(const std::shared_ptr<Container>& container);
  void container_over(const std::shared_ptr<Container>& container, const ExitBody& body);
  void orphan_reaped(const ReapedBody& body);

  OciOptions options_;
  RuntimeObserver& observer_;
  HostFacts facts_;
  std::shared_ptr<const linux::CgroupLayout> layout_;
  std::uint64_t memory_total_ = 0;
  UniqueFd binary_;
  UniqueFd epoll_;
  UniqueFd wake_;
  std::thread thread_;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  UniqueFd launcher_socket_;
  linux::ChildProcess launcher_;
  std::uint64_t next_request_ = 1;
  std::uint64_t next_tag_ = first_tag;
  std::map<std::uint64_t, Pending> pending_;                     ///< by request
  std::map<std::uint64_t, std::uint64_t> pending_owner_;         ///< request → tag of the connection that must answer
  std::map<std::string, std::shared_ptr<Container>> containers_;
  std::map<std::uint64_t, std::weak_ptr<Container>> by_tag_;
  std::map<std::uint64_t, std::string> starting_;                ///< launcher request → container that waits for it
  std::map<pid_t, int> reaped_;                                  ///< orphans' exit codes that nobody has claimed yet
};

// --- launcher ------------------------------------------------------------------------------------------------------

Status OciRuntime::start_launcher() {
  auto pair = TRY(linux::socketpair(linux::UnixType::seqpacket), "launcher");
  linux::ProcessRequest request;
  request.path = concat("/proc/self/fd/", binary_.get());
  request.argv = {"caisson-runtime", "launcher"};
  // Tests choose how overlays are made; nothing else of our environment is the launcher's business.
  if (const char* way = std::getenv("CAISSON_OVERLAY")) request.env.push_back(concat("CAISSON_OVERLAY=", way));
  request.fds = {{pair.second.get(), 3}};
  request.new_session = true;
  launcher_ = TRY(linux::spawn_process(request), "launcher");
  TRY_PLAIN(linux::epoll_add(epoll_.get(), pair.first.get(), EPOLLIN, tag_launcher));
  launcher_socket_ = std::move(pair.first);
  return {};
}

template <typename Body>
OciRuntime::Reply OciRuntime::ask_launcher(MessageKind kind, const Body& body, std::span<const int> fds) {
  std::unique_lock lock(mutex_);
  if (!launcher_socket_) {
    auto started = start_launcher();
    if (!started) return {std::move(started).error().in("the launcher died and cannot be started again"), {}, {}};
  }
  const std::uint64_t request = next_request_++;
  pending_[request];
  pending_owner_[request] = tag_launcher;
  auto sent = send_body(launcher_socket_.get(), kind, request, body, fds);
  if (!sent) {
    pending_.erase(request);
    pending_owner_.erase(request);
    return {std::move(sent).error().in("launcher").with_kind(ErrorKind::unavailable), {}, {}};
  }
  return wait_for(lock, request);
}

OciRuntime::Reply OciRuntime::wait_for(std::unique_lock<std::mutex>& lock, std::uint64_t request) {
  const bool answered = changed_.wait_for(lock, answer_limit, [&] { return pending_[request].done; });
  Pending pending = std::move(pending_[request]);
  pending_.erase(request);
  pending_owner_.erase(request);
  Reply reply;
  reply.answer = std::move(pending.answer);
  reply.fds = std::move(pending.fds);
  if (!answered) reply.status = Error(ErrorKind::timeout, "no answer within 60 s");
  else if (pending.error) reply.status = std::move(*pending.error);
  else if (reply.answer.error) reply.status = from_wire(*reply.answer.error);
  return reply;
}

template <typename Body>
OciRuntime::Reply OciRuntime::ask_monitor(const std::string& id, MessageKind kind, const Body& body, std::span<const int> fds) {
  std::unique_lock lock(mutex_);
  auto found = find(id);
  if (!found) return {std::move(found).error(), {}, {}};
  auto container = std::move(found).value();
  if (!container->running) return {not_running(id), {}, {}};
  if (!container->control) {
    // Its monitor is just being replaced; that takes a millisecond.
    changed_.wait_for(lock, answer_limit, [&] { return container->control || !container->being_adopted; });
    if (!container->control) return {Error(ErrorKind::unavailable, concat("container ", id, " has no monitor")), {}, {}};
  }
  const std::uint64_t request = next_request_++;
  pending_[request];
  pending_owner_[request] = container->tag;
  auto sent = send_body(container->control.get(), kind, request, body, fds);
  if (!sent) {
    pending_.erase(request);
    pending_owner_.erase(request);
    return {std::move(sent).error().in(concat("monitor of ", id)).with_kind(ErrorKind::unavailable), {}, {}};
  }
  return wait_for(lock, request);
}

// --- connections ---------------------------------------------------------------------------------------------------

Status OciRuntime::watch(const std::shared_ptr<Container>& container, UniqueFd control) {
  container->tag = next_tag_++;
  by_tag_[container->tag] = container;
  container->control = std::move(control);
  return linux::epoll_add(epoll_.get(), container->control.get(), EPOLLIN, container->tag);
}

void OciRuntime::forget_connection(Container& container) {
  by_tag_.erase(container.tag);
  for (auto& [request, owner] : pending_owner_) {
    if (owner != container.tag) continue;
    auto& pending = pending_[request];
    pending.done = true;
    pending.error = Error(ErrorKind::unavailable, concat("the monitor of ", container.id, " died"));
  }
  container.control.reset();
  changed_.notify_all();
}

Result<std::shared_ptr<Container>> OciRuntime::find(const std::string& id) {
  auto found = containers_.find(id);
  if (found == containers_.end()) return no_container(id);
  return found->second;
}

void OciRuntime::take_state(Container& container, const StateBody& body, std::vector<UniqueFd> fds) {
  std::size_t next = 0;
  auto take = [&](bool present, UniqueFd& into) {
    if (present && next < fds.size()) into = std::move(fds[next++]);
  };
  take(body.has_pidfd, container.pidfd);
  take(body.has_stdin, container.input);
  take(body.has_stdout, container.output);
  take(body.has_stderr, container.error);
  container.pid = body.pid;
  container.start_time = body.start_time;
  container.terminal = body.terminal;
  container.running = body.running;
  if (!body.cgroup_path.empty()) container.cgroup_path = body.cgroup_path;
}

Status OciRuntime::wait_for_state(std::unique_lock<std::mutex>& lock, Container& container) {
  const bool arrived = changed_.wait_for(lock, answer_limit, [&] { return container.state_arrived || container.failure; });
  if (container.failure) return *container.failure;
  if (!arrived) return Error(ErrorKind::timeout, "the monitor did not answer within 60 s");
  if (container.state.error) return from_wire(*container.state.error);
  return {};
}

// --- start ---------------------------------------------------------------------------------------------------------

ClientBody to_body(const AttachRequest& request) {
  ClientBody body;
  body.pending_input = request.pending_input;
  body.with_stdin = request.with_stdin;
  body.with_stdout = request.with_stdout;
  body.with_stderr = request.with_stderr;
  body.framed = request.framed;
  body.detach_keys = request.detach_keys;
  return body;
}

void remember(Container& container, const LaunchPlan& plan, const Spec& spec) {
  container.seccomp = spec.seccomp;
  container.exec_namespaces = exec_namespaces(plan);
  container.in_user_namespace = plan.in_user_namespace;
  container.own_pid_namespace = (plan.clone_flags & CLONE_NEWPID) != 0;
  container.id_map = plan.id_map;
  container.terminal = plan.process.terminal;
  container.cgroup_path = plan.cgroups_path;
}

Result<Started> OciRuntime::start(StartRequest request) {
  const std::string where = concat("container ", request.id);
  PlanOptions options;
  options.clamp_rlimits = true;
  options.use_init = request.use_init;
  options.rootfs = request.rootfs;
  options.has_user_namespace = static_cast<bool>(request.user_namespace);
  options.has_network_namespace = static_cast<bool>(request.network_namespace);
  const auto plan = TRY_PLAIN(compute_plan(request.spec, facts_, options));

  StartBody body;
  body.monitor.id = request.id;
  body.monitor.run_dir = request.run_dir;
  body.monitor.log_path = request.log.path;
  body.monitor.log_max_size_bytes = request.log.max_size_bytes;
  body.monitor.log_max_files = request.log.max_files;
  body.monitor.terminal = plan.process.terminal;
  body.monitor.open_stdin = request.open_stdin;
  body.monitor.stdin_once = request.stdin_once;
  auto pair = TRY(linux::socketpair(linux::UnixType::seqpacket), where);
  std::vector<int> fds{pair.second.get()};
  if (request.user_namespace) fds.push_back(request.user_namespace.get());
  if (request.network_namespace) fds.push_back(request.network_namespace.get());
  body.has_user_namespace = static_cast<bool>(request.user_namespace);
  body.has_network_namespace = static_cast<bool>(request.network_namespace);
  body.plan = encode(plan);
  UniqueFd memfd;
  constexpr std::size_t inline_limit = std::size_t{96} * 1024;
  if (body.plan.size() > inline_limit) {
    memfd = TRY(linux::sealed_memfd("plan", body.plan), where);
    fds.push_back(memfd.get());
    body.plan.clear();
    body.plan_in_memfd = true;
  }
  for (const auto& client : request.attached) {
    body.monitor.clients.push_back(to_body(client));
    fds.push_back(client.client.get());
  }

  auto container = std::make_shared<Container>();
  container->id = request.id;
  container->run_dir = request.run_dir;
  container->log = request.log;
  container->stdin_once = request.stdin_once;
  remember(*container, plan, request.spec);

  std::unique_lock lock(mutex_);
  auto known = containers_.find(request.id);
  if (known != containers_.end() && (known->second->running || !known->second->exit))
    return Error(ErrorKind::conflict, concat(where, " is already running"));
  if (!launcher_socket_) TRY(start_launcher(), "the launcher died and cannot be started again");
  containers_[request.id] = container;
  auto undo = [&](Error error) -> Error {
    forget_connection(*container);
    containers_.erase(request.id);
    return error;
  };
  auto watched = watch(container, std::move(pair.first));
  if (!watched) return undo(std::move(watched).error());
  const std::uint64_t number = next_request_++;
  starting_[number] = request.id;
  auto sent = send_body(launcher_socket_.get(), MessageKind::start, number, body, fds);
  pair.second.reset();
  if (!sent) {
    starting_.erase(number);
    return undo(std::move(sent).error().in("launcher").with_kind(ErrorKind::unavailable));
  }
  auto outcome = wait_for_state(lock, *container);
  starting_.erase(number);
  if (!outcome) return undo(std::move(outcome).error());
  Started started;
  started.pid = container->pid;
  started.start_time = container->start_time;
  started.warnings = plan.warnings;
  return started;
}

// --- recover -------------------------------------------------------------------------------------------------------

Result<Recovered> OciRuntime::recover(RecoverRequest request) {
  const std::string where = concat("container ", request.id);
  PlanOptions options;
  options.clamp_rlimits = true;
  options.has_user_namespace = request.spec.find_namespace(NamespaceType::user) != nullptr;
  options.has_network_namespace = request.spec.find_namespace(NamespaceType::network) != nullptr;
  auto container = std::make_shared<Container>();
  container->id = request.id;
  container->run_dir = request.run_dir;
  container->log = request.log;
  container->pid = request.pid;
  container->start_time = request.start_time;
  // Only what exec and a new monitor need; a spec that this build would refuse must not lose a running container.
  if (auto plan = compute_plan(request.spec, facts_, options)) remember(*container, *plan, request.spec);

  Recovered out;
  auto connected = linux::unix_connect(concat(request.run_dir, "/", monitor_socket_name), linux::UnixType::seqpacket);
  std::unique_lock lock(mutex_);
  containers_[request.id] = container;
  bool adopting = false;
  if (connected) {
    HelloBody hello;
    hello.build = build_id();
    auto sent = send_body(connected->get(), MessageKind::hello, next_request_++, hello);
    if (sent) TRY_PLAIN(watch(container, std::move(connected).value()));
    else connected = std::move(sent).error();
  }
  if (!connected) {
    // No monitor. Either the container has ended and left a note, or it runs on without one.
    if (auto note = read_exit_file(request.run_dir)) {
      container->exit = to_exit_status(*note);
      out.exit = container->exit;
      return out;
    }
    auto started = linux::process_start_time(request.pid);
    auto pidfd = linux::pidfd_open(request.pid);
    if (!started || !pidfd || *started != request.start_time || linux::pidfd_has_ended(pidfd->get()).value_or(true)) {
      containers_.erase(request.id);
      return Error(ErrorKind::not_found, concat(where, " is gone and left no exit status"));
    }
    container->pidfd = std::move(pidfd).value();
    // Its pipes' other ends died with the monitor, but a pipe can be opened anew through a process that holds it.
    auto reopen = [&](int number, int flags, UniqueFd& into) {
      auto held = linux::open(concat("/proc/", request.pid, "/fd/", number), O_PATH);
      if (!held) return;
      auto status = linux::fstat(held->get());
      if (!status || (status->st_mode & S_IFMT) != S_IFIFO) return;  // whatever else the program put there is not ours
      if (auto opened = linux::reopen(held->get(), flags | O_NONBLOCK)) into = std::move(opened).value();
    };
    if (!container->terminal) {
      reopen(1, O_RDONLY, container->output);
      reopen(2, O_RDONLY, container->error);
    }
    container->running = true;
    adopting = true;
    begin_adoption(container);
  }
  auto outcome = wait_for_state(lock, *container);
  if (!outcome) {
    containers_.erase(request.id);
    return std::move(outcome).error().in(where);
  }
  const StateBody state = container->state;
  if (!adopting && !state.running && !state.exit) {
    // It has ended but still drains its output: the exit event will come on this connection.
    out.running = true;
  } else {
    out.running = container->running;
  }
  out.pid = container->pid;
  out.monitor_replaced = adopting;
  if (state.exit) {
    container->exit = to_exit_status(*state.exit);
    out.exit = container->exit;
    if (container->control) ignore(send_body(container->control.get(), MessageKind::exit_recorded, 0, *state.exit));
  }
  for (const auto& exec : state.finished_execs) {
    out.finished_execs.emplace_back(exec.exec_id, to_exit_status(exec));
    if (container->control) ignore(send_body(container->control.get(), MessageKind::exec_recorded, 0, exec));
  }
  out.running_execs = state.running_execs;
  const std::string cgroup_path = container->cgroup_path;
  lock.unlock();
  if (out.running && !cgroup_path.empty())
    if (auto cgroup = linux::Cgroup::open(layout_, cgroup_path))
      if (auto frozen = cgroup->freeze_state()) out.paused = *frozen != linux::FreezeState::thawed;
  return out;
}

void OciRuntime::begin_adoption(const std::shared_ptr<Container>& container) {
  container->being_adopted = true;
  container->state_arrived = false;
  container->failure.reset();
  auto give_up = [&](Error error) {
    container->being_adopted = false;
    container->failure = std::move(error);
    changed_.notify_all();
  };
  if (!launcher_socket_) {
    auto started = start_launcher();
    if (!started) return give_up(std::move(started).error());
  }
  auto pair = linux::socketpair(linux::UnixType::seqpacket);
  if (!pair) return give_up(std::move(pair).error());
  MonitorBody body;
  body.id = container->id;
  body.run_dir = container->run_dir;
  body.log_path = container->log.path;
  body.log_max_size_bytes = container->log.max_size_bytes;
  body.log_max_files = container->log.max_files;
  body.terminal = container->terminal;
  body.stdin_once = container->stdin_once;
  body.cgroup_path = container->cgroup_path;
  body.exec_namespaces = container->exec_namespaces;
  body.in_user_namespace = container->in_user_namespace;
  body.own_pid_namespace = container->own_pid_namespace;
  body.id_map = container->id_map;
  body.pid = container->pid;
  body.start_time = container->start_time;
  body.has_stdin = static_cast<bool>(container->input);
  body.has_stdout = static_cast<bool>(container->output);
  body.has_stderr = static_cast<bool>(container->error);
  std::vector<int> fds{pair->second.get(), container->pidfd.get()};
  for (const UniqueFd* fd : {&container->input, &container->output, &container->error})
    if (*fd) fds.push_back(fd->get());
  const std::uint64_t number = next_request_++;
  starting_[number] = container->id;
  auto watched = watch(container, std::move(pair->first));
  if (!watched) return give_up(std::move(watched).error());
  auto sent = send_body(launcher_socket_.get(), MessageKind::adopt, number, body, fds);
  if (!sent) {
    forget_connection(*container);
    give_up(std::move(sent).error());
  }
}

// --- requests ------------------------------------------------------------------------------------------------------

Status OciRuntime::attach(const std::string& id, AttachRequest request) {
  AttachBody body;
  body.client = to_body(request);
  const std::array fds{request.client.get()};
  return ask_monitor(id, MessageKind::attach, body, fds).status;
}

Status OciRuntime::kill(const std::string& id, int signal) {
  std::lock_guard lock(mutex_);
  auto container = TRY_PLAIN(find(id));
  if (!container->running || !container->pidfd) return not_running(id);
  auto sent = linux::pidfd_send_signal(container->pidfd.get(), signal);
  if (!sent && sent.error().kind() == ErrorKind::not_found) return not_running(id);
  if (!sent) return std::move(sent).error().in(concat("container ", id));
  return {};
}

Result<linux::Cgroup> OciRuntime::cgroup_of(const std::string& id) {
  std::string path;
  {
    std::lock_guard lock(mutex_);
    auto container = TRY_PLAIN(find(id));
    if (!container->running) return not_running(id);
    path = container->cgroup_path;
  }
  if (path.empty()) return Error(ErrorKind::unsupported, concat("container ", id, " has no cgroup of its own"));
  return TRY(linux::Cgroup::open(layout_, path), concat("container ", id));
}

Status OciRuntime::kill_all(const std::string& id) {
  auto cgroup = TRY_PLAIN(cgroup_of(id));
  TRY(cgroup.kill_all(), concat("container ", id));
  return {};
}

Status OciRuntime::pause(const std::string& id) {
  auto cgroup = TRY_PLAIN(cgroup_of(id));
  TRY(cgroup.freeze(), concat("container ", id));
  return {};
}

Status OciRuntime::resume(const std::string& id) {
  auto cgroup = TRY_PLAIN(cgroup_of(id));
  TRY(cgroup.thaw(), concat("container ", id));
  return {};
}

Status OciRuntime::update(const std::string& id, const Resources& resources) {
  auto cgroup = TRY_PLAIN(cgroup_of(id));
  auto limits = TRY_PLAIN(plan_limits(resources));
  TRY(cgroup.apply(limits), concat("container ", id));
  return {};
}

Result<std::vector<pid_t>> OciRuntime::processes(const std::string& id) {
  auto cgroup = TRY_PLAIN(cgroup_of(id));
  return TRY(cgroup.pids(), concat("container ", id));
}

Result<pid_t> OciRuntime::exec(const std::string& id, ExecRequest request) {
  const std::string where = concat("container ", id);
  std::optional<SeccompProfile> seccomp;
  {
    std::lock_guard lock(mutex_);
    auto container = TRY_PLAIN(find(id));
    if (!container->running) return not_running(id);
    if (container->execs.contains(request.exec_id)) return Error(ErrorKind::conflict, concat("exec ", request.exec_id, " is already running"));
    if (!request.privileged) seccomp = container->seccomp;
  }
  PlanOptions options;
  options.clamp_rlimits = true;
  std::vector<std::string> warnings;
  ExecBody body;
  body.exec_id = request.exec_id;
  body.process = TRY_PLAIN(compute_process_plan(request.process, seccomp, facts_, options, warnings));
  if (request.privileged) {
    const std::uint64_t all = facts_.our_bounding_set & ((2ULL << facts_.last_capability) - 1);
    body.process.capabilities.bounding = all;
    body.process.capabilities.permitted = all;
    body.process.capabilities.effective = request.process.user.uid == 0 ? all : 0;
  }
  body.with_stdin = request.with_stdin;
  std::vector<int> fds;
  if (request.attached) {
    body.has_client = true;
    body.client = to_body(*request.attached);
    fds.push_back(request.attached->client.get());
  }
  auto reply = ask_monitor(id, MessageKind::exec, body, fds);
  if (!reply.status) return std::move(reply.status).error();
  std::lock_guard lock(mutex_);
  auto found = containers_.find(id);
  if (found != containers_.end()) found->second->execs[request.exec_id] = reply.answer.pid;
  return pid_t{reply.answer.pid};
}

Status OciRuntime::resize(const std::string& id, const std::string& exec_id, ConsoleSize size) {
  ResizeBody body;
  body.exec_id = exec_id;
  body.rows = size.height;
  body.columns = size.width;
  return ask_monitor(id, MessageKind::resize, body, {}).status;
}

Result<Stats> OciRuntime::stats(const std::string& id) {
  auto cgroup = TRY_PLAIN(cgroup_of(id));
  auto raw = TRY(cgroup.stats(), concat("container ", id));
  Stats out;
  out.read_at = now_ns();
  out.cpu_total_ns = raw.cpu_usage_ns;
  out.cpu_user_ns = raw.cpu_user_ns;
  out.cpu_system_ns = raw.cpu_system_ns;
  out.per_cpu_ns = std::move(raw.cpu_per_cpu_ns);
  out.periods = raw.cpu_periods;
  out.throttled_periods = raw.cpu_throttled_periods;
  out.throttled_ns = raw.cpu_throttled_ns;
  out.memory_usage_bytes = raw.memory_usage_bytes;
  out.memory_max_usage_bytes = raw.memory_peak_bytes;
  out.memory_limit_bytes = std::min(raw.memory_limit_bytes, memory_total_);
  out.memory_stat = std::move(raw.memory_stat);
  out.pids = raw.pids_current;
  out.pids_limit = raw.pids_limit == UINT64_MAX ? 0 : raw.pids_limit;
  for (const auto& device : raw.io) {
    out.block_read_bytes += device.read_bytes;
    out.block_write_bytes += device.write_bytes;
  }
  out.oom_kills = raw.oom_kills;
  return out;
}

Status OciRuntime::remove(const std::string& id, const std::string& run_dir, const std::string& cgroups_path) {
  {
    std::unique_lock lock(mutex_);
    auto found = containers_.find(id);
    if (found != containers_.end()) {
      if (found->second->running) return Error(ErrorKind::conflict, concat("container ", id, " is still running"));
      auto container = found->second;
      if (container->control) {
        ExitBody nothing;
        ignore(send_body(container->control.get(), MessageKind::exit_recorded, 0, nothing));
        forget_connection(*container);
      }
      containers_.erase(id);
    }
  }
  if (!cgroups_path.empty()) {
    auto cgroup = TRY(linux::Cgroup::open(layout_, cgroups_path), concat("container ", id));
    TRY(cgroup.remove(), concat("container ", id));
  }
  auto folder = linux::open(run_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!folder) {
    if (folder.error().kind() == ErrorKind::not_found) return {};
    return std::move(folder).error().in(concat("container ", id));
  }
  TRY(linux::remove_children(folder->get()), concat("container ", id));
  return {};
}

// --- events --------------------------------------------------------------------------------------------------------

void OciRuntime::event_loop() {
  std::array<linux::EpollEvent, 32> events;
  while (true) {
    auto count = linux::epoll_wait(epoll_.get(), events, -1);
    {
      std::lock_guard lock(mutex_);
      if (stopping_ || !count) return;
    }
    for (std::size_t i = 0; i < *count; ++i) {
      if (events[i].tag == tag_launcher) handle_launcher();
      else if (events[i].tag >= first_tag) handle_monitor(events[i].tag);
    }
  }
}

void OciRuntime::handle_launcher() {
  std::unique_lock lock(mutex_);
  if (!launcher_socket_) return;
  auto received = receive_body(launcher_socket_.get());
  if (!received || received->closed) {
    // It died. Its monitors live on; everything that waited for it is told, and the next request starts another.
    launcher_socket_.reset();
    for (auto& [request, owner] : pending_owner_) {
      if (owner != tag_launcher) continue;
      pending_[request].done = true;
      pending_[request].error = Error(ErrorKind::unavailable, "the launcher died");
    }
    for (auto& [request, id] : starting_) {
      auto found = containers_.find(id);
      if (found != containers_.end() && !found->second->state_arrived)
        found->second->failure = Error(ErrorKind::unavailable, "the launcher died");
    }
    if (launcher_.pidfd) {
      ignore(linux::try_wait_pidfd(launcher_.pidfd.get()));  // our child: take its zombie away when it is one already
      launcher_.pidfd.reset();
    }
    changed_.notify_all();
    return;
  }
  if (received->head.kind == MessageKind::reaped) {
    auto body = read_body<ReapedBody>(received->body, "reaped");
    lock.unlock();
    if (body) orphan_reaped(*body);
    return;
  }
  if (received->head.kind != MessageKind::answer) return;
  auto answer = read_body<AnswerBody>(received->body, "answer");
  if (!answer) return;
  auto starting = starting_.find(received->head.request);
  if (starting != starting_.end()) {
    auto found = containers_.find(starting->second);
    if (answer->error && found != containers_.end()) found->second->failure = from_wire(*answer->error);
    if (answer->error && found != containers_.end()) found->second->being_adopted = false;
    starting_.erase(starting);
    changed_.notify_all();
    return;
  }
  auto pending = pending_.find(received->head.request);
  if (pending == pending_.end()) return;
  pending->second.done = true;
  pending->second.answer = std::move(answer).value();
  pending->second.fds = std::move(received->fds);
  changed_.notify_all();
}

void OciRuntime::handle_monitor(std::uint64_t tag) {
  std::shared_ptr<Container> container;
  Result<ReceivedMessage> received = ReceivedMessage{};
  {
    std::lock_guard lock(mutex_);
    auto found = by_tag_.find(tag);
    if (found == by_tag_.end()) return;
    container = found->second.lock();
    if (!container || !container->control) return;
    received = receive_body(container->control.get());
  }
  if (!received || received->closed) return monitor_gone(container);
  handle_event(container, std::move(received).value());
}

void OciRuntime::handle_event(const std::shared_ptr<Container>& container, ReceivedMessage message) {
  switch (message.head.kind) {
    case MessageKind::started:
    case MessageKind::state: {
      auto body = read_body<StateBody>(message.body, "state");
      if (!body) return;
      bool replaced = false;
      Status outcome;
      {
        std::lock_guard lock(mutex_);
        if (body->error) {
          if (container->being_adopted) outcome = from_wire(*body->error);
        } else {
          take_state(*container, *body, std::move(message.fds));
        }
        replaced = container->being_adopted;
        container->being_adopted = false;
        container->state = *body;
        container->state_arrived = true;
        // A container that ended without a monitor: its parent, the launcher, may have told how before the new one asked.
        auto known = reaped_.find(container->pid);
        if (replaced && known != reaped_.end() && container->control) {
          ExitBody exit;
          exit.code = known->second;
          ignore(send_body(container->control.get(), MessageKind::exit_known, 0, exit));
          reaped_.erase(known);
        }
        changed_.notify_all();
      }
      if (replaced) observer_.monitor_replaced(container->id, outcome);
      return;
    }
    case MessageKind::answer: {
      auto answer = read_body<AnswerBody>(message.body, "answer");
      std::lock_guard lock(mutex_);
      auto pending = pending_.find(message.head.request);
      if (pending == pending_.end() || !answer) return;
      pending->second.done = true;
      pending->second.answer = std::move(answer).value();
      pending->second.fds = std::move(message.fds);
      changed_.notify_all();
      return;
    }
    case MessageKind::exited: {
      auto body = read_body<ExitBody>(message.body, "exited");
      if (body) container_over(container, *body);
      return;
    }
    case MessageKind::exec_exited: {
      auto body = read_body<ExitBody>(message.body, "exec_exited");
      if (!body) return;
      {
        std::lock_guard lock(mutex_);
        container->execs.erase(body->exec_id);
      }
      observer_.exec_exited(container->id, body->exec_id, to_exit_status(*body));
      std::lock_guard lock(mutex_);
      if (container->control) ignore(send_body(container->control.get(), MessageKind::exec_recorded, 0, *body));
      return;
    }
    case MessageKind::oom: return observer_.container_oom(container->id);
    case MessageKind::stdin_closed: {
      std::lock_guard lock(mutex_);
      container->input.reset();
      return;
    }
    case MessageKind::client_detached: return observer_.client_detached(container->id);
    default: return;  // of a newer monitor; what we do not know we did not ask for
  }
}

void OciRuntime::container_over(const std::shared_ptr<Container>& container, const ExitBody& body) {
  const ExitStatus status = to_exit_status(body);
  {
    std::lock_guard lock(mutex_);
    container->exit = status;
    container->running = false;
    container->pidfd.reset();
    container->input.reset();
    container->output.reset();
    container->error.reset();
    changed_.notify_all();
  }
  observer_.container_exited(container->id, status);
  std::lock_guard lock(mutex_);
  if (container->control) ignore(send_body(container->control.get(), MessageKind::exit_recorded, 0, body));
}

void OciRuntime::monitor_gone(const std::shared_ptr<Container>& container) {
  std::optional<ExitBody> note;
  {
    std::lock_guard lock(mutex_);
    const bool was_up = container->state_arrived && !container->state.error;
    const bool was_adopting = container->being_adopted;
    forget_connection(*container);
    if (!was_up) {
      container->being_adopted = false;
      if (!container->state_arrived && !container->failure)
        container->failure = Error(ErrorKind::unavailable, "the monitor died while the container was being started");
      changed_.notify_all();
      if (!was_adopting) {
        // What it had made so far must not go on without anybody to know of it.
        if (!container->cgroup_path.empty())
          if (auto cgroup = linux::Cgroup::open(layout_, container->cgroup_path)) {
            ignore(cgroup->kill_all());
            ignore(cgroup->remove());
          }
        return;
      }
    }
    if (container->exit || !container->running) return;  // it has said everything and ended
    if (auto kept = read_exit_file(container->run_dir)) {
      note = std::move(kept).value();
    } else if (!was_adopting) {
      begin_adoption(container);
      if (container->being_adopted) return;
    }
  }
  if (note) return container_over(container, *note);
  observer_.monitor_replaced(container->id, Error(ErrorKind::unavailable, "the monitor died and cannot be replaced"));
}

void OciRuntime::orphan_reaped(const ReapedBody& body) {
  std::string id;
  std::string exec_id;
  {
    std::lock_guard lock(mutex_);
    for (auto& [name, container] : containers_) {
      if (container->pid == body.pid && container->running) {
        ExitBody exit;
        exit.code = body.code;
        if (container->control && !container->being_adopted)
          ignore(send_body(container->control.get(), MessageKind::exit_known, 0, exit));
        else reaped_[body.pid] = body.code;
        return;
      }
      for (auto it = container->execs.begin(); it != container->execs.end(); ++it) {
        if (it->second != body.pid) continue;
        id = name;
        exec_id = it->first;
        container->execs.erase(it);
        break;
      }
      if (!exec_id.empty()) break;
    }
    if (exec_id.empty()) return;
  }
  ExitStatus status;
  status.code = body.code;
  status.finished_at = now_ns();
  observer_.exec_exited(id, exec_id, status);
}

}  // namespace

Result<std::unique_ptr<Runtime>> create_oci_runtime(const OciOptions& options, RuntimeObserver& observer) {
  auto made = std::make_unique<OciRuntime>(options, observer);
  TRY(made->setup(), "runtime");
  return std::unique_ptr<Runtime>(std::move(made));
}

}  // namespace caisson::runtime
