// OciRuntime's parts: what the daemon knows of its launcher and of every monitor. Its verbs are in oci_runtime_*.cpp.
#pragma once

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "linux/cgroup.hpp"
#include "linux/event.hpp"
#include "linux/spawn.hpp"
#include "runtime/oci_runtime.hpp"
#include "runtime/plan.hpp"
#include "runtime/protocol.hpp"

namespace caisson::runtime::detail {

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
  UniqueFd control;       ///< to the monitor; empty when there is none
  std::uint64_t tag = 0;  ///< of the control connection in epoll
  pid_t pid = 0;
  std::uint64_t start_time = 0;
  std::string cgroup_path;
  SharedSettings shared;  ///< for its execs
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
  unsigned adoptions = 0;      ///< monitors that were to take over since the last one spoke
  bool is_recovering = false;  ///< recover() waits for what its monitor says
  // start() and recover() wait for the monitor's first message
  bool state_arrived = false;
  StateBody state;
  std::optional<Error> failure;
  std::optional<Error> refusal;  ///< why nothing is said to its monitor, which this build does not understand; the container runs on
};

class OciRuntime final : public Runtime {
 public:
  OciRuntime(OciOptions options, RuntimeObserver& observer) : options_(std::move(options)), observer_(observer) {}

  ~OciRuntime() override;

  Status setup();

  Result<NamespacePair> make_namespaces(const linux::IdMap& id_map, bool with_network, int owner) override;
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
  [[nodiscard]] pid_t spawner() const override {
    std::lock_guard lock(mutex_);
    return launcher_socket_ ? launcher_.pid : 0;
  }
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
  /// Sends to the launcher, and to a new one when it has died meanwhile: what could not be sent was not begun.
  template <typename Body>
  Status tell_launcher(MessageKind kind, std::uint64_t request, const Body& body, std::span<const int> fds);
  /// Everything that waits for an answer of the launcher is told that it died.
  void launcher_died();
  Status watch(const std::shared_ptr<Container>& container, UniqueFd control);
  void forget_connection(Container& container);
  Result<std::shared_ptr<Container>> find(const std::string& id);
  void begin_adoption(const std::shared_ptr<Container>& container);
  Status watch_the_end(const std::shared_ptr<Container>& container, const RecoverRequest& request);
  void take_state(Container& container, const StateBody& body, std::vector<UniqueFd> fds);
  void take_first(Container& container, ReceivedMessage message);

  // Without it.
  template <typename Body>
  Reply ask_launcher(MessageKind kind, const Body& body, std::span<const int> fds);
  template <typename Body>
  Reply ask_monitor(const std::string& id, MessageKind kind, const Body& body, std::span<const int> fds);
  Reply wait_for(std::unique_lock<std::mutex>& lock, std::uint64_t request);
  Status wait_for_state(std::unique_lock<std::mutex>& lock, Container& container);
  Result<linux::Cgroup> cgroup_of(const std::string& id);
  /// Of an engine without root that was delegated none.
  bool has_no_cgroup(const std::string& id);
  Result<std::vector<pid_t>> processes_without_cgroup(const std::string& id);

  void event_loop();
  void handle_launcher();
  void handle_monitor(std::uint64_t tag);
  void handle_event(const std::shared_ptr<Container>& container, ReceivedMessage message);
  void monitor_gone(const std::shared_ptr<Container>& container);
  void container_over(const std::shared_ptr<Container>& container, const ExitBody& body);
  void orphan_reaped(const ReapedBody& body);

  OciOptions options_;
  RuntimeObserver& observer_;
  std::shared_ptr<const linux::CgroupLayout> layout_;
  std::uint64_t memory_total_ = 0;
  UniqueFd epoll_;
  UniqueFd wake_;
  std::thread thread_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  UniqueFd launcher_socket_;
  linux::ChildProcess launcher_;
  std::uint64_t next_request_ = 1;
  std::uint64_t next_tag_ = first_tag;
  std::map<std::uint64_t, Pending> pending_;              ///< by request
  std::map<std::uint64_t, std::uint64_t> pending_owner_;  ///< request → tag of the connection that must answer
  std::map<std::string, std::shared_ptr<Container>> containers_;
  std::map<std::uint64_t, std::weak_ptr<Container>> by_tag_;
  std::map<std::uint64_t, std::string> starting_;  ///< launcher request → container that waits for it
  std::map<pid_t, int> reaped_;                    ///< orphans' exit codes that nobody has claimed yet
};

ClientBody to_body(const AttachRequest& request);
/// Opens the container's pipes anew through its process, which holds their other ends.
void reopen_streams(Container& container);
/// What exec and a new monitor will need of the plan.
void remember(Container& container, const LaunchPlan& plan, const Spec& spec);

// --- requests ------------------------------------------------------------------------------------------------------

template <typename Body>
Status OciRuntime::tell_launcher(MessageKind kind, std::uint64_t request, const Body& body, std::span<const int> fds) {
  for (bool is_last : {false, true}) {
    if (!launcher_socket_) TRY(start_launcher(), "the launcher died and cannot be started again");
    auto sent = send_body(launcher_socket_.get(), kind, request, body, fds);
    const bool has_died = !sent && (sent.error().error_number() == EPIPE || sent.error().error_number() == ECONNRESET);
    if (has_died) launcher_died();
    if (sent || !has_died || is_last)
      return sent ? Status() : Status(std::move(sent).error().in("launcher").with_kind(ErrorKind::unavailable));
  }
  return {};
}

template <typename Body>
OciRuntime::Reply OciRuntime::ask_launcher(MessageKind kind, const Body& body, std::span<const int> fds) {
  std::unique_lock lock(mutex_);
  const std::uint64_t request = next_request_++;
  auto sent = tell_launcher(kind, request, body, fds);
  if (!sent) return {std::move(sent).error(), {}, {}};
  pending_[request];  // its answer waits for the lock
  pending_owner_[request] = tag_launcher;
  return wait_for(lock, request);
}

template <typename Body>
OciRuntime::Reply OciRuntime::ask_monitor(const std::string& id, MessageKind kind, const Body& body, std::span<const int> fds) {
  std::unique_lock lock(mutex_);
  auto found = find(id);
  if (!found) return {std::move(found).error(), {}, {}};
  auto container = std::move(found).value();
  while (true) {
    if (!container->running) return {not_running(id), {}, {}};
    if (container->refusal) return {Error(*container->refusal).in(concat("container ", id)), {}, {}};
    if (!container->control) {
      // Its monitor is just being replaced; that takes a millisecond.
      changed_.wait_for(lock, answer_limit, [&] { return container->control || !container->being_adopted; });
      if (!container->control) return {Error(ErrorKind::unavailable, concat("container ", id, " has no monitor")), {}, {}};
    }
    const std::uint64_t request = next_request_++;
    const std::uint64_t tag = container->tag;
    pending_[request];
    pending_owner_[request] = tag;
    auto sent = send_body(container->control.get(), kind, request, body, fds);
    if (sent) return wait_for(lock, request);
    pending_.erase(request);
    pending_owner_.erase(request);
    // It died, and the event thread has not seen it yet: what could not be sent was not begun, and is for its successor.
    const bool has_died = sent.error().error_number() == EPIPE || sent.error().error_number() == ECONNRESET;
    const bool is_succeeded = has_died && changed_.wait_for(lock, answer_limit, [&] { return container->tag != tag || !container->control || !container->running; });
    if (!is_succeeded) return {std::move(sent).error().in(concat("monitor of ", id)).with_kind(ErrorKind::unavailable), {}, {}};
  }
}

}  // namespace caisson::runtime::detail
