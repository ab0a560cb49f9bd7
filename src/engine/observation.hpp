// Observation: which system calls and capabilities a container's processes used, out of the trace of everything below its monitor. Pure.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace caisson::engine {

/// One event of the trace.
struct Observed {
  enum class Kind : std::uint8_t { forked, executed, entered, returned, asked };
  Kind kind = Kind::entered;
  pid_t thread = 0;
  std::int64_t number = 0;  ///< forked: the new thread; entered, returned: the call; asked: the capability
  std::int64_t result = 0;  ///< returned: what the call gave; asked: 0 when it was had
};

/// A thread's calls count from its program's first instruction on: what the engine itself does in the young process, before it becomes the
/// program, does not. Events that come before the container's monitor is known are kept.
class Observation {
 public:
  /// Whether the filter may refuse this call: such a call that returns without having been entered was refused (the kernel asks the filter
  /// before it tells of a call's begin, and tells of its end in any case).
  explicit Observation(std::function<bool(std::int64_t)> may_refuse) : may_refuse_(std::move(may_refuse)) {}

  void take(const Observed& event);
  /// Whoever descends from this process is the container's, once it has executed its program.
  void set_monitor(pid_t monitor);
  /// The same for the monitor that this process, the container's first, descends from: the one that a process of `makers` has made. It may have ended
  /// by now. False: its making was not seen yet.
  bool set_first(pid_t first, std::span<const pid_t> makers);
  /// A thread that is the container's already.
  void add_thread(pid_t thread) { threads_[thread] = Standing::inside; }
  /// Events are missing here: an end without a begin says nothing until that thread was seen again.
  void note_loss();

  [[nodiscard]] const std::set<std::int64_t>& calls() const { return calls_; }
  [[nodiscard]] const std::set<std::int64_t>& refused() const { return refused_; }
  [[nodiscard]] const std::set<std::int64_t>& capabilities() const { return capabilities_; }
  [[nodiscard]] const std::set<std::int64_t>& lacking() const { return lacking_; }
  [[nodiscard]] std::uint64_t losses() const { return losses_; }

 private:
  enum class Standing : std::uint8_t { prepared, inside };  ///< not yet its program; the container's
  void apply(const Observed& event);

  std::function<bool(std::int64_t)> may_refuse_;
  pid_t monitor_ = 0;
  std::vector<Observed> early_;
  std::map<pid_t, Standing> threads_;
  std::map<pid_t, std::int64_t> entered_;  ///< the call that a thread is in
  std::set<pid_t> seen_;                   ///< since the last loss
  std::set<std::int64_t> calls_, refused_, capabilities_, lacking_;
  std::uint64_t losses_ = 0;
};

}  // namespace caisson::engine
