// The launcher's loop: requests of the daemon, and the dead.
#include "runtime/launcher.hpp"

#include <array>
#include <set>

#include "linux/child.hpp"
#include "linux/child_clone.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/process.hpp"
#include "runtime/launch.hpp"
#include "runtime/monitor.hpp"

namespace caisson::runtime {

namespace {

namespace raw = linux::raw;

constexpr int daemon_fd = 3;

/// A network namespace owned by a user namespace must be made from inside it; one made before refuses low ports, ICMP
/// sockets and sysfs to the container.
struct NetworkJob {
  int userns = -1;
  int result = -1;
};
int make_network(void* argument) {
  auto& job = *static_cast<NetworkJob*>(argument);
  int done = job.userns < 0 ? 0 : raw::setns(job.userns, CLONE_NEWUSER);
  if (done == 0) done = raw::unshare(CLONE_NEWNET);
  job.result = done < 0 ? done : raw::openat(AT_FDCWD, "/proc/thread-self/ns/net", O_RDONLY, 0);
  return 0;
}

Result<UniqueFd> network_namespace(int userns) {
  NetworkJob job;
  job.userns = userns;
  const int pid = raw::run_stage(make_network, &job, 0);
  if (pid < 0) return Error::from_errno(-pid, "clone of the stage");
  (void)raw::reap(pid);
  if (job.result < 0) return Error::from_errno(-job.result, "network namespace");
  return UniqueFd(job.result);
}

class Launcher {
 public:
  Status run() {
    TRY_PLAIN(linux::set_child_subreaper(true));
    // Nobody may look into us or what we fork: until exec they carry host descriptors (CVE-2016-9962).
    TRY_PLAIN(linux::set_dumpable(false));
    ignore(linux::set_thread_name("caisson-launch"));
    signals_ = TRY_PLAIN(hear_children());
    init_fd_ = TRY_PLAIN(linux::open("/proc/self/exe", O_RDONLY));
    layout_ = std::make_shared<const linux::CgroupLayout>(TRY_PLAIN(linux::detect_cgroup_layout()));
    (void)overlay_way();  // asked once here; every monitor inherits the answer
    while (true) {
      std::array<linux::PollEntry, 2> entries{};
      entries[0].fd = daemon_fd;
      entries[0].events = POLLIN;
      entries[1].fd = signals_.get();
      entries[1].events = POLLIN;
      (void)TRY_PLAIN(linux::poll(entries, -1));
      if (entries[1].revents != 0) reap();
      if (entries[0].revents == 0) continue;
      auto message = receive_body(daemon_fd);
      if (!message || message->closed) return {};
      TRY_PLAIN(handle(std::move(message).value()));
    }
  }

 private:
  void reap() {
    while (true) {
      auto taken = linux::signalfd_take(signals_.get());
      if (!taken || !*taken) break;
    }
    while (true) {
      auto ended = linux::try_wait_any();
      if (!ended || !*ended) return;
      if (monitors_.erase((*ended)->pid) > 0) continue;
      // A container's first process whose monitor died before it: we are its parent now, and only we know how it ended.
      ReapedBody body;
      body.pid = (*ended)->pid;
      body.code = (*ended)->exit_code();
      ignore(send_body(daemon_fd, MessageKind::reaped, 0, body));  // without it the code is lost, which a successor of the monitor says
    }
  }

  /// Fails when the answer cannot be sent: who waits for it hears of our end instead.
  Status handle(ReceivedMessage message) {
    AnswerBody answer;
    std::vector<UniqueFd> fds;
    auto outcome = dispatch(message, answer, fds);
    if (!outcome) answer.error = to_wire(outcome.error());
    // Of a start that went well the monitor tells; an answer of ours would only wake the daemon once more.
    if (outcome && message.head.kind == MessageKind::start) return {};
    std::vector<int> numbers;
    for (const auto& fd : fds) numbers.push_back(fd.get());
    return send_body(daemon_fd, MessageKind::answer, message.head.request, answer, numbers);
  }

  Status dispatch(ReceivedMessage& message, AnswerBody& answer, std::vector<UniqueFd>& fds) {
    switch (message.head.kind) {
      case MessageKind::hello: {
        auto body = TRY_PLAIN(read_body<HelloBody>(message.body, "hello"));
        if (body.build != build_id())
          return Error(ErrorKind::unsupported, concat("the launcher is of build ", build_id(), ", the daemon of ", body.build));
        return {};
      }
      case MessageKind::make_namespaces: {
        auto body = TRY_PLAIN(read_body<MakeNamespacesBody>(message.body, "make_namespaces"));
        int owner = -1;  // without a map the network namespace belongs to our own user namespace (--userns=host)
        if (body.with_owner) {
          if (message.fds.size() != 1) return Error(ErrorKind::invalid, "make_namespaces: the owner is missing");
          owner = message.fds.front().get();
        } else if (!body.id_map.empty()) {
          fds.push_back(TRY(linux::create_user_namespace(body.id_map), "user namespace"));
          owner = fds.front().get();
        }
        if (body.with_network) fds.push_back(TRY_PLAIN(network_namespace(owner)));
        return {};
      }
      case MessageKind::start: return start(message, answer);
      case MessageKind::adopt: return adopt(message, answer);
      default: return Error(ErrorKind::unsupported, "the launcher does not know the request");
    }
  }

  static UniqueFd take(std::vector<UniqueFd>& fds, std::size_t& next) {
    if (next >= fds.size()) return UniqueFd();
    return std::move(fds[next++]);
  }

  Status start(ReceivedMessage& message, AnswerBody& answer) {
    auto body = TRY_PLAIN(read_body<StartBody>(message.body, "start"));
    MonitorStart start;
    std::size_t next = 0;
    start.control = take(message.fds, next);
    if (!start.control) return Error(ErrorKind::invalid, "start: the control socket is missing");
    if (body.has_user_namespace) start.user_namespace = take(message.fds, next);
    if (body.has_network_namespace) start.network_namespace = take(message.fds, next);
    if (body.plan_in_memfd) {
      auto memfd = take(message.fds, next);
      body.plan = TRY(linux::read_all(memfd.get()), "plan");
    }
    while (next < message.fds.size()) start.clients.push_back(take(message.fds, next));
    start.plan = TRY_PLAIN(decode<LaunchPlan>(body.plan, "plan"));
    body.plan.clear();
    start.body = std::move(body.monitor);
    return fork_monitor(std::move(start), run_monitor, answer);
  }

  Status adopt(ReceivedMessage& message, AnswerBody& answer) {
    MonitorStart start;
    start.body = TRY_PLAIN(read_body<MonitorBody>(message.body, "adopt"));
    std::size_t next = 0;
    start.control = take(message.fds, next);
    start.pidfd = take(message.fds, next);
    if (!start.control || !start.pidfd) return Error(ErrorKind::invalid, "adopt: a descriptor is missing");
    if (start.body.has_stdin) start.input = take(message.fds, next);
    if (start.body.has_stdout) start.output = take(message.fds, next);
    if (start.body.has_stderr) start.error = take(message.fds, next);
    return fork_monitor(std::move(start), run_adopting_monitor, answer);
  }

  Status fork_monitor(MonitorStart start, int (*run)(MonitorStart), AnswerBody& answer) {
    start.init_fd = init_fd_.get();
    start.layout = layout_;
    linux::CloneArgs args{};
    args.exit_signal = SIGCHLD;
    const int pid = TRY(linux::clone3(args), "monitor");
    if (pid == 0) {
      // A single-threaded copy: everything is allowed here, unlike in a container's child.
      (void)raw::close(daemon_fd);
      signals_.reset();
      (void)raw::setsid();
      ignore(linux::set_thread_name("caisson-monitor"));
      ignore(linux::set_child_subreaper(false));
      raw::exit(run(std::move(start)));
    }
    monitors_.insert(pid);
    answer.pid = pid;
    return {};
  }

  UniqueFd signals_;
  UniqueFd init_fd_;
  std::shared_ptr<const linux::CgroupLayout> layout_;
  std::set<int> monitors_;
};

}  // namespace

Result<UniqueFd> hear_children() {
  // Blocked, never ignored: ignored signals would be inherited by every program that is started.
  linux::SignalSet blocked{SIGCHLD, SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2};
  (void)TRY_PLAIN(linux::signal_mask(SIG_BLOCK, blocked));
  return linux::signalfd(linux::SignalSet{SIGCHLD});
}

int run_launcher() { return Launcher().run() ? 0 : 1; }

}  // namespace caisson::runtime
