// TraceInstance: the kernel's own record of what threads do, by a set of trace buffers of our own (Documentation/trace/ftrace.rst, "Instances").
#pragma once

#include <sys/types.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/trace_page.hpp"

namespace caisson::linux {

/// Its destructor takes the buffers away. tracefs is mounted for us alone: nothing shows among the host's mounts. One that a killed process
/// left behind stays until remove_trace_instances().
/// Privilege: root of the host (CAP_SYS_ADMIN in the initial user namespace).
class TraceInstance {
 public:
  /// Buffers of `buffer_bytes` for each CPU, without an event, not recording. Errors: unsupported (no tracefs in this kernel), denied, conflict (that name is taken).
  static Result<TraceInstance> create(const std::string& name, std::size_t buffer_bytes);
  TraceInstance(TraceInstance&&) noexcept = default;
  TraceInstance& operator=(TraceInstance&&) noexcept = delete;
  TraceInstance(const TraceInstance&) = delete;
  TraceInstance& operator=(const TraceInstance&) = delete;
  ~TraceInstance();

  /// Records this event ("raw_syscalls/sys_enter"). Errors: unsupported, when this kernel has none of that name.
  Result<TraceFormat> enable(const std::string& event);
  /// Only those for which it holds: "id != 0 && id != 1"; "0": all again. Errors: invalid, in the kernel's words.
  Status set_filter(const std::string& event, const std::string& filter);
  /// Only these threads, those they make from now on, and the ones of earlier calls.
  Status follow(std::span<const pid_t> threads);
  Status record(bool on);
  /// What was recorded since the last call, in order of time. `has_lost`: the buffers were too small for it.
  Result<TracePage> take();

 private:
  TraceInstance(UniqueFd instances, UniqueFd folder, std::string name) : instances_(std::move(instances)), folder_(std::move(folder)), name_(std::move(name)) {}
  UniqueFd instances_;
  UniqueFd folder_;
  std::string name_;
  std::vector<UniqueFd> pipes_;  ///< one per CPU
};

/// Takes away what is left of instances whose names begin so. Returns how many there were. Errors: as create().
Result<std::size_t> remove_trace_instances(std::string_view prefix);

}  // namespace caisson::linux
