// Learning: watches what one container does, by the kernel's trace, and what box would have done for it.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>

#include "base/unique_fd.hpp"
#include "engine/observation.hpp"
#include "engine/security.hpp"
#include "linux/trace_events.hpp"

namespace caisson::engine {

/// How a filter stands to the system calls of this architecture.
class CallRules {
 public:
  /// None: no filter, nothing is refused.
  explicit CallRules(const runtime::SeccompProfile* profile);
  /// Some arguments of it are refused, or all; calls that are said not to exist (ENOSYS, so that a program falls back) are not meant.
  [[nodiscard]] bool may_refuse(std::int64_t number) const;
  /// Its arguments decide.
  [[nodiscard]] const std::set<std::int64_t>& conditional() const { return conditional_; }
  [[nodiscard]] CallCounts count() const;

 private:
  bool has_filter_ = false;
  bool refuses_by_default_ = false;
  std::set<std::int64_t> allowed_, conditional_, hidden_, refused_;
};

/// "openat" of this architecture; "451" for a number without a name.
std::string call_name(std::int64_t number);

/// The profile that allows what was seen and what the engine itself does in a young process, and of the rules of `base` those that speak of it.
/// `base` null: the container had none. Pure.
runtime::SeccompProfile tighten(const runtime::SeccompProfile* base, const std::vector<std::string>& calls);
/// Fills in what follows from what was seen. Pure.
void propose(Learned& learned, const runtime::SeccompProfile* base);
/// In docker's format, for --security-opt seccomp=FILE.
std::string profile_text(const runtime::SeccompProfile& profile);

/// One thread and one set of trace buffers. Ends by itself when the container has run and has ended.
class Learning {
 public:
  /// What the engine knows of the container now. Called on our thread.
  struct Subject {
    pid_t pid = 0;            ///< of its first process; 0: it does not run
    bool has_ended = false;   ///< and will not run again by itself
    std::uint64_t processes = 0;
    std::uint64_t memory_bytes = 0;  ///< at most, so far
  };
  using Look = std::function<Subject()>;

  /// `makers`: the process whose children are the monitors of containers that start from now on, and the monitor of one that runs already.
  /// `running`: the threads of such a one. Errors: unsupported (no tracefs), denied, conflict.
  static Result<std::unique_ptr<Learning>> begin(const std::string& instance, CallRules rules, std::span<const pid_t> makers, std::span<const pid_t> running, Look look);
  ~Learning() { finish(); }
  Learning(const Learning&) = delete;
  Learning& operator=(const Learning&) = delete;

  /// The container has started, with this process. It may have ended before anybody could look.
  void note_first(pid_t first) { first_ = first; }
  /// Calls, capabilities and readings so far.
  [[nodiscard]] Learned learned() const;
  /// Takes what waits, and ends. Safe to repeat.
  void finish();

 private:
  Learning(linux::TraceInstance trace, CallRules rules, Look look);
  Status prepare(std::span<const pid_t> makers, std::span<const pid_t> running);
  void run();
  Status take_events();
  Status narrow();

  linux::TraceInstance trace_;
  CallRules rules_;
  Look look_;
  std::map<std::uint16_t, std::pair<Observed::Kind, linux::TraceFormat>> formats_;
  bool knows_capabilities_ = false;
  bool saw_the_start_ = false;
  UniqueFd wake_;

  mutable std::mutex mutex_;  ///< of the next four
  Observation observation_;
  Subject most_;
  bool is_watching_ = true;
  std::string trouble_;
  std::set<std::int64_t> told_calls_, told_had_, told_lacking_;  ///< that the kernel need not tell again; the thread's own
  std::vector<pid_t> makers_;
  std::atomic<pid_t> first_ = 0;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

/// The parent of a process (/proc/PID/stat); 0 when it is gone.
pid_t parent_of(pid_t pid);
/// Its threads, by /proc/PID/task; empty when it is gone.
std::vector<pid_t> threads_of(pid_t pid);

}  // namespace caisson::engine
