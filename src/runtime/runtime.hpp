// Runtime: what the engine asks of whatever runs a container. Implementations: OciRuntime (namespaces, in this module);
// microVM, split kernel and unikernel come as neighbours on floor 4.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/time.hpp"
#include "base/unique_fd.hpp"
#include "linux/mount.hpp"
#include "runtime/spec.hpp"

namespace caisson::runtime {

/// How a process ended.
struct ExitStatus {
  int code = 0;               ///< 0–255; 128+N when signal N ended it
  bool lost = false;          ///< nobody saw the status: said, never invented (code is 255 then)
  bool oom_killed = false;    ///< the container's cgroup reported an OOM kill during its life
  TimestampNs finished_at = 0;
  std::uint64_t log_drops = 0;  ///< log records that could not be written (full disk), counted by the monitor
};

/// Where and how the monitor writes the container's output: docker's json-file format
/// ({"log":"…\n","stream":"stdout","time":"…"} per line), rotated as path, path.1, path.2, … (or path.1.gz, …) under flock(path)
struct LogPolicy {
  std::string path;                        ///< empty: no log
  std::int64_t max_size_bytes = 10 << 20;  ///< of one file; ≤ 0: never rotate
  std::uint32_t max_files = 3;             ///< including the current one; at least 1
  static constexpr std::size_t longest_attributes = 4096;
  std::string attributes;                  ///< at most so long: a JSON object that every record carries as "attrs"; empty: none
};

/// One client stream that is connected to a container's or exec's stdio. The monitor speaks to `client` directly, so
/// the stream survives a restart of the daemon: raw bytes towards stdin; output raw (`framed` false: TTY) or as docker's
/// 8-byte-header frames. Half-close by the client ends stdin when stdin was asked for.
struct AttachRequest {
  UniqueFd client;             ///< a connected stream socket (TCP or unix)
  std::string pending_input;   ///< bytes the client had sent before the hand-over
  bool with_stdin = false;
  bool with_stdout = false;
  bool with_stderr = false;
  bool framed = true;
  std::string detach_keys;     ///< raw bytes; empty: docker's default ctrl-p ctrl-q; used on terminals only
};

struct StartRequest {
  std::string id;                        ///< 64 hex digits
  Spec spec;                             ///< root.path is ignored when `rootfs` is set
  std::optional<linux::Overlay> rootfs;
  std::string run_dir;                   ///< <exec-root>/containers/<id>, exists, 0700: monitor.sock, exit status
  LogPolicy log;
  bool open_stdin = false;               ///< keep a pipe to stdin; otherwise /dev/null
  bool stdin_once = false;               ///< close stdin after the first attached client's EOF
  bool use_init = false;                 ///< our init is pid 1 and reaps; the program is its child (docker's --init)
  UniqueFd user_namespace;               ///< from make_namespaces(); none: the host's (--userns=host)
  UniqueFd network_namespace;            ///< none: as spec.namespaces says
  std::vector<AttachRequest> attached;   ///< clients that attached before the start; they miss no byte
};

struct Started {
  pid_t pid = 0;                  ///< of the container's init, in the daemon's pid namespace
  std::uint64_t start_time = 0;   ///< field 22 of /proc/PID/stat, against pid reuse
  std::vector<std::string> warnings;  ///< "RLIMIT_NOFILE clamped to 20000", …
};

/// Where a container stands after the daemon was away.
struct Recovered {
  bool running = false;
  pid_t pid = 0;
  bool paused = false;
  bool monitor_replaced = false;       ///< the old monitor was gone; a new one adopted the container
  std::optional<ExitStatus> exit;      ///< set when not running and the status was kept
  std::vector<std::pair<std::string, ExitStatus>> finished_execs;
  std::vector<std::string> running_execs;
};
struct RecoverRequest {
  std::string id;
  std::string run_dir;
  pid_t pid = 0;
  std::uint64_t start_time = 0;
  Spec spec;
  LogPolicy log;
};

struct ExecRequest {
  std::string exec_id;
  Process process;
  bool with_stdin = false;
  bool privileged = false;
  std::optional<AttachRequest> attached;  ///< none: detached
  std::int64_t timeout_ms = 0;  ///< then its process group is killed, also when no daemon is there; 0: never
};

/// One reading of a container's cgroup.
struct Stats {
  TimestampNs read_at = 0;
  std::uint64_t cpu_total_ns = 0;
  std::uint64_t cpu_user_ns = 0;
  std::uint64_t cpu_system_ns = 0;
  std::vector<std::uint64_t> per_cpu_ns;
  std::uint64_t throttled_periods = 0;
  std::uint64_t periods = 0;
  std::uint64_t throttled_ns = 0;
  std::uint64_t memory_usage_bytes = 0;
  std::uint64_t memory_max_usage_bytes = 0;
  std::uint64_t memory_limit_bytes = 0;  ///< the host's memory when unlimited
  std::map<std::string, std::uint64_t> memory_stat;
  std::uint64_t pids = 0;
  std::uint64_t pids_limit = 0;
  std::uint64_t block_read_bytes = 0;
  std::uint64_t block_write_bytes = 0;
  std::uint64_t oom_kills = 0;
};

/// Called from the runtime's own event thread, one call at a time; must return quickly and may not call the Runtime back.
class RuntimeObserver {
 public:
  virtual ~RuntimeObserver() = default;
  virtual void container_exited(const std::string& id, const ExitStatus& status) = 0;
  virtual void container_oom(const std::string& id) = 0;
  virtual void exec_exited(const std::string& id, const std::string& exec_id, const ExitStatus& status) = 0;
  /// A monitor died and another one took over (or could not: `error` says why).
  virtual void monitor_replaced(const std::string& id, const Status& outcome) = 0;
  virtual void client_detached(const std::string& id) = 0;
};

/// All calls block until done, are thread-safe, and name the container in their errors.
/// Errors common to all: not_found (no such container here), unavailable (the launcher or monitor is gone), io.
class Runtime {
 public:
  virtual ~Runtime() = default;

  /// A user namespace with these maps, and (if asked) a network namespace owned by it. `owner` ≥ 0: an existing user namespace to own
  /// it, and no new one. Privilege: CAP_SETUID, CAP_SETGID.
  struct NamespacePair {
    UniqueFd user;     ///< empty with an owner, and when the map is: the network namespace then belongs to the host's user namespace
    UniqueFd network;  ///< empty unless asked for
  };
  virtual Result<NamespacePair> make_namespaces(const linux::IdMap& id_map, bool with_network, int owner) = 0;

  /// Returns when the program was exec'ed. Errors leave nothing behind. The words of a failed exec are docker's:
  /// `exec: "x": executable file not found in $PATH` (not_found), `permission denied` (denied), `no such file or directory`.
  virtual Result<Started> start(StartRequest request) = 0;
  /// Reconnects after a restart of the daemon; starts a new monitor when the old one died. Errors: not_found when the
  /// container is gone and left no exit status.
  virtual Result<Recovered> recover(RecoverRequest request) = 0;

  virtual Status attach(const std::string& id, AttachRequest request) = 0;
  /// Sends `signal` to the container's init. Errors: conflict when it is not running.
  virtual Status kill(const std::string& id, int signal) = 0;
  /// Kills every process of the container's cgroup.
  virtual Status kill_all(const std::string& id) = 0;
  /// Returns the pid once the program was exec'ed; errors as start(), and conflict when the container does not run, also when there is none any more: not_found is the program's.
  virtual Result<pid_t> exec(const std::string& id, ExecRequest request) = 0;
  /// `exec_id` empty: the container's own terminal.
  virtual Status resize(const std::string& id, const std::string& exec_id, ConsoleSize size) = 0;
  virtual Status pause(const std::string& id) = 0;
  virtual Status resume(const std::string& id) = 0;
  virtual Status update(const std::string& id, const Resources& resources) = 0;
  virtual Result<std::vector<pid_t>> processes(const std::string& id) = 0;
  virtual Result<Stats> stats(const std::string& id) = 0;
  /// The process that the monitors of containers started from now on are children of; 0: there is none now.
  [[nodiscard]] virtual pid_t spawner() const = 0;
  /// Forgets a stopped container: cgroups, sockets, run_dir's content. Safe to repeat.
  virtual Status remove(const std::string& id, const std::string& run_dir, const std::string& cgroups_path) = 0;
};

}  // namespace caisson::runtime
