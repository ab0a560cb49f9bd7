// The image store's side of a worker: start, feed, listen, and end it.
#include <sys/types.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "base/strings.hpp"
#include "image/examine.hpp"
#include "image/frames.hpp"
#include "image/ready_workers.hpp"
#include "image/worker.hpp"
#include "image/worker_process.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/mount_api.hpp"
#include "linux/process.hpp"
#include "linux/spawn.hpp"

namespace caisson::image {

namespace {

constexpr std::uint32_t id_count = 65536;
constexpr int refill_delay_ms = 100;  // starting one takes some milliseconds of processor time and locks memory maps: not while somebody waits for the rest of a build

/// Numbers of capability.h (uapi): CHOWN and FOWNER for owners and modes of files, DAC_OVERRIDE for directories without
/// permissions, FSETID for setgid files of other groups, SETFCAP for security.capability. All inside its own user namespace.
linux::CapabilitySet worker_capabilities() {
  constexpr int chown = 0;
  constexpr int dac_override = 1;
  constexpr int fowner = 3;
  constexpr int fsetid = 4;
  constexpr int setfcap = 31;
  return linux::CapabilitySet{chown, dac_override, fowner, fsetid, setfcap};
}

struct Placement {
  linux::IdMap id_map;
  UniqueFd idmapped_target;    // empty: use the target as it is
  UniqueFd idmapped_graft;     // the same
  bool has_usual_ids = false;  // as a worker that waits has them
};

/// The folder as the user namespace's ids see it. Empty: no right to mount (rootless), or a file system without id maps.
Result<UniqueFd> map_folder(int folder_fd, int userns_fd) {
  auto clone = linux::clone_tree(folder_fd, false);
  if (!clone.ok() || !linux::idmap_mount(clone->get(), userns_fd).ok()) return UniqueFd();
  // The mount's root by a descriptor that can be read and given attributes; the mount's own is O_PATH.
  return TRY(linux::openat(clone->get(), ".", O_RDONLY | O_DIRECTORY), "open the mapped folder");
}

/// The ids a worker runs with, and its folders as it sees them.
Result<Placement> place_worker(const WorkerOptions& options, const WorkerJob& job, const ReadyWorkers* ready) {
  Placement placement;
  const int target_fd = job.target_fd;
  if (job.first_view_id) {
    placement.id_map = one_range(*job.first_view_id);
    return placement;
  }
  if (options.first_host_id != 0 && target_fd < 0) {
    placement.id_map = one_range(options.first_host_id);
    placement.has_usual_ids = true;
    return placement;
  }
  if (options.first_host_id != 0) {
    auto map = one_range(options.first_host_id);
    UniqueFd userns;
    if (ready == nullptr) userns = TRY(linux::create_user_namespace(map), "ids of the worker");
    const int userns_fd = userns ? userns.get() : ready->ids();
    placement.idmapped_target = TRY_PLAIN(map_folder(target_fd, userns_fd));
    if (placement.idmapped_target && job.graft_fd >= 0) placement.idmapped_graft = TRY_PLAIN(map_folder(job.graft_fd, userns_fd));
    if (placement.idmapped_target && (placement.idmapped_graft || job.graft_fd < 0)) {
      placement.id_map = std::move(map);
      placement.has_usual_ids = true;
      return placement;
    }
    placement.idmapped_target.reset();
  }
  // No own ids, no right to mount (rootless), or a file system without id maps.
  placement.id_map = own_ids();
  return placement;
}

class WorkerGuard {
 public:
  explicit WorkerGuard(linux::ChildProcess child) : child_(std::move(child)) {}
  WorkerGuard(const WorkerGuard&) = delete;
  WorkerGuard& operator=(const WorkerGuard&) = delete;
  ~WorkerGuard() {
    if (child_.pidfd) linux::kill_and_reap(child_.pidfd.get());
  }
  [[nodiscard]] int pidfd() const { return child_.pidfd.get(); }
  Result<linux::ExitStatus> wait() {
    auto status = linux::wait_pidfd(child_.pidfd.get());
    child_.pidfd.reset();
    return status;
  }

 private:
  linux::ChildProcess child_;
};

/// Takes frames apart as they come in.
class FrameReader {
 public:
  FrameReader(int pidfd, const WorkerListeners& listeners) : pidfd_(pidfd), listeners_(listeners) {}

  Status take(std::string_view bytes) {
    return frames_.add(bytes, [&](std::uint8_t type, std::string_view payload) { return dispatch(static_cast<WorkerFrame>(type), payload); });
  }
  std::optional<std::string>& result() { return result_; }

 private:
  Status dispatch(WorkerFrame type, std::string_view payload) {
    if (type == WorkerFrame::progress) {
      auto bytes = TRY_PLAIN(decode<std::uint64_t>(payload, "worker progress"));
      if (listeners_.on_progress) listeners_.on_progress(bytes);
      return {};
    }
    if (type == WorkerFrame::written) {
      return take_written(TRY_PLAIN(decode<std::uint64_t>(payload, "worker progress")));
    }
    if (type != WorkerFrame::result) return Error(ErrorKind::corrupt, "worker sent an unknown message");
    result_ = std::string(payload);
    return {};
  }
  /// From outside of its pid namespace SIGSTOP reaches also its first process, which the worker is (pid_namespaces(7)).
  Status take_written(std::uint64_t bytes) {
    if (!listeners_.on_written) return {};
    Status paused;
    bool was_asked = false;
    TRY_PLAIN(listeners_.on_written(bytes, [&] {
      was_asked = true;
      paused = linux::pidfd_send_signal(pidfd_, SIGSTOP);
    }));
    TRY(std::move(paused), "pause the worker");
    if (was_asked) TRY(linux::pidfd_send_signal(pidfd_, SIGCONT), "wake the worker");
    return {};
  }
  int pidfd_;
  const WorkerListeners& listeners_;
  FrameSplitter frames_{"worker", most_worker_frame_bytes};
  std::optional<std::string> result_;
};

/// Until the worker has closed its end. False: cancelled.
Result<bool> listen(int result_fd, const Cancel& cancel, FrameReader& frames) {
  std::array<char, 65536> buffer;
  for (;;) {
    std::array<linux::PollEntry, 2> entries{};
    entries[0].fd = result_fd;
    entries[0].events = POLLIN;
    entries[1].fd = cancel.fd;  // -1 is ignored by poll
    entries[1].events = POLLIN | POLLRDHUP;
    TRY_PLAIN(linux::poll(entries, -1));
    if (entries[1].revents != 0) return false;
    if (entries[0].revents == 0) continue;
    auto got = TRY_PLAIN(linux::read(result_fd, buffer));
    if (got == 0) return true;
    TRY_PLAIN(frames.take(std::string_view(buffer.data(), got)));
  }
}

}  // namespace

namespace {
/// A user namespace may have fewer than a container's usual ids; what cannot be read is left to the kernel to judge.
std::uint32_t ids_here(const char* file) {
  const auto text = linux::read_kernel_file(file);
  const auto map = text.ok() ? linux::parse_id_map(*text) : Result<std::vector<linux::IdMapping>>(text.error());
  return map.ok() ? std::min(id_count, linux::ids_from_zero(*map)) : id_count;
}
}  // namespace

linux::IdMap one_range(std::uint32_t first) {
  linux::IdMap map;
  map.uids.push_back({0, first, first == 0 ? ids_here("/proc/self/uid_map") : id_count});
  map.gids.push_back({0, first, first == 0 ? ids_here("/proc/self/gid_map") : id_count});
  return map;
}

linux::IdMap own_ids() {
  const auto uid = linux::geteuid();
  if (uid == 0) return one_range(0);
  linux::IdMap map;
  map.uids.push_back({0, uid, 1});
  map.gids.push_back({0, linux::getegid(), 1});
  return map;
}

Result<linux::ChildProcess> start_worker(const std::string& path, std::vector<std::string> argv, const linux::IdMap& ids, std::vector<linux::FdMapping> fds) {
  // By descriptor: it may lie in a folder that its own ids cannot enter, as a checkout below /root does.
  const UniqueFd program = TRY_PLAIN(linux::open(path, O_PATH));
  linux::SpawnRequest spawn;
  spawn.process.path = path;
  spawn.process.exe_fd = program.get();
  spawn.process.argv = std::move(argv);
  spawn.process.fds = std::move(fds);
  spawn.process.new_session = true;
  spawn.process.parent_death_signal = SIGKILL;
  spawn.id_map = ids;
  spawn.capabilities = worker_capabilities();
  constexpr std::uint64_t most_open_files = 4096;  // packing holds a descriptor per folder it is in, and names allow 2,048 of them
  spawn.limits = {{RLIMIT_CORE, 0}, {RLIMIT_NOFILE, most_open_files}};
  return TRY(linux::spawn_sandboxed(spawn), concat("start ", path));
}

Result<std::string> await_result(linux::ChildProcess child, int result_fd, const WorkerListeners& listeners, const Cancel& cancel) {
  WorkerGuard worker(std::move(child));
  FrameReader frames(worker.pidfd(), listeners);
  bool finished = TRY_PLAIN(listen(result_fd, cancel, frames));
  if (!finished) return Error(ErrorKind::unavailable, "cancelled", ECANCELED);
  auto status = TRY_PLAIN(worker.wait());
  if (!frames.result())
    return Error(ErrorKind::io, concat("the worker ended ", status.signaled ? "by signal " : "with code ", status.code, " before it was done"));
  return std::move(*frames.result());
}

Result<WorkerResult> run_worker(const WorkerOptions& options, const WorkerJob& job) { return run_worker(options, job, nullptr); }

Result<WorkerResult> run_worker(const WorkerOptions& options, const WorkerJob& job, ReadyWorkers* ready) {
  auto placement = TRY_PLAIN(place_worker(options, job, ready));
  auto request = TRY_PLAIN(linux::sealed_memfd("caisson-worker-request", encode(job.request)));
  auto pipe = TRY_PLAIN(linux::pipe2());
  std::vector<linux::FdMapping> fds = {{request.get(), worker_fd::request}, {pipe.write_end.get(), worker_fd::result}};
  if (job.target_fd >= 0) fds.push_back({placement.idmapped_target ? placement.idmapped_target.get() : job.target_fd, worker_fd::target});
  if (job.graft_fd >= 0) fds.push_back({placement.idmapped_graft ? placement.idmapped_graft.get() : job.graft_fd, worker_fd::graft});
  if (job.tar_fd >= 0) fds.push_back({job.tar_fd, worker_fd::tar});
  if (job.index_fd >= 0) fds.push_back({job.index_fd, worker_fd::index});
  if (job.table_fd >= 0) fds.push_back({job.table_fd, worker_fd::table});
  if (job.input_fd >= 0) fds.push_back({job.input_fd, worker_fd::input});
  if (job.copy_fd >= 0) fds.push_back({job.copy_fd, worker_fd::copy});
  const bool may_wait = ready != nullptr && placement.has_usual_ids;
  auto child = may_wait ? ready->hand_over(fds) : std::nullopt;
  if (!child) child = TRY_PLAIN(start_worker(options.path, {"caisson-worker"}, placement.id_map, std::move(fds)));
  pipe.write_end.reset();
  auto text = await_result(std::move(*child), pipe.read_end.get(), {job.on_progress, job.on_written}, job.cancel);
  if (may_wait) ready->refill(refill_delay_ms);
  auto result = TRY_PLAIN(decode<WorkerResult>(TRY_PLAIN(std::move(text)), "worker result"));
  if (!result.ok) return Error(result.kind, result.text, result.error_number).with_hint(result.hint);
  return result;
}

Result<std::string> examine_in_worker(const WorkerOptions& options, int input_fd, const std::string& question, const Cancel& cancel) {
  auto request = TRY_PLAIN(linux::sealed_memfd("caisson-worker-question", question));
  auto pipe = TRY_PLAIN(linux::pipe2());
  std::vector<linux::FdMapping> fds = {{request.get(), worker_fd::request}, {pipe.write_end.get(), worker_fd::result}, {input_fd, worker_fd::input}};
  auto child = TRY_PLAIN(start_worker(options.path, {"caisson-worker", examine_argument}, own_ids(), std::move(fds)));
  pipe.write_end.reset();
  auto text = TRY_PLAIN(await_result(std::move(child), pipe.read_end.get(), {}, cancel));
  auto result = TRY_PLAIN(decode<Examination>(text, "the worker's answer"));
  if (!result.ok) return Error(result.kind, result.text).with_hint(result.hint);
  return std::move(result.answer);
}

}  // namespace caisson::image
