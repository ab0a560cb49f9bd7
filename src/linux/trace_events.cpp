// Trace instances: a tracefs that nobody else sees, a folder in it, and the pipes of its CPUs.
#include "linux/trace_events.hpp"

#include <algorithm>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/mount_api.hpp"
#include "linux/tree.hpp"

namespace caisson::linux {

namespace {

constexpr std::size_t largest_page_bytes = 65536;  // a page of the ring buffer is one of memory unless somebody enlarged it (buffer_subbuf_size_kb)

/// The folder of all instances, in a mount of its own.
Result<UniqueFd> open_instances() {
  auto mounted = mount_detached("tracefs", {}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  if (!mounted.ok()) {
    if (mounted.error().error_number() == ENODEV) return Error(ErrorKind::unsupported, "this kernel has no tracefs (CONFIG_FTRACE)");
    return std::move(mounted).error().in("tracefs");
  }
  return openat(mounted->get(), "instances", O_RDONLY | O_DIRECTORY);
}

std::string own_path(const UniqueFd& folder, std::string_view name = "") { return concat("/proc/self/fd/", folder.get(), name.empty() ? "" : "/", name); }

}  // namespace

Result<TraceInstance> TraceInstance::create(const std::string& name, std::size_t buffer_bytes) {
  auto instances = TRY_PLAIN(open_instances());
  TRY(mkdirat(instances.get(), name, 0700), "tracefs");
  auto folder = openat(instances.get(), name, O_RDONLY | O_DIRECTORY);
  if (!folder.ok()) {
    ignore(unlinkat(instances.get(), name, AT_REMOVEDIR));
    return std::move(folder).error();
  }
  TraceInstance made(std::move(instances), std::move(*folder), name);
  TRY_PLAIN(made.record(false));
  TRY_PLAIN(write_kernel_file_at(made.folder_.get(), "buffer_size_kb", concat((buffer_bytes + 1023) / 1024)));
  TRY_PLAIN(write_kernel_file_at(made.folder_.get(), "options/event-fork", "1"));
  // Nobody at all until somebody is named: an empty list would mean everybody. No thread has this number (PID_MAX_LIMIT is 4194304).
  TRY_PLAIN(write_kernel_file_at(made.folder_.get(), "set_event_pid", "4194303"));
  for (const auto& cpu : TRY_PLAIN(list_dir(own_path(made.folder_, "per_cpu")))) {
    auto pipe = openat(made.folder_.get(), concat("per_cpu/", cpu.name, "/trace_pipe_raw"), O_RDONLY | O_NONBLOCK);
    if (!pipe.ok() && pipe.error().error_number() == ENODEV) continue;  // a CPU that is not there
    if (!pipe.ok()) return std::move(pipe).error();
    made.pipes_.push_back(std::move(*pipe));
  }
  return made;
}

TraceInstance::~TraceInstance() {
  if (!folder_) return;
  pipes_.clear();  // an open one keeps the instance
  auto stopped = write_kernel_file_at(folder_.get(), "events/enable", "0");
  folder_.reset();
  auto removed = unlinkat(instances_.get(), name_, AT_REMOVEDIR);
  if (!removed.ok()) log_error("trace", name_, removed.error());
  else if (!stopped.ok()) log_error("trace", name_, stopped.error());
}

Result<TraceFormat> TraceInstance::enable(const std::string& event) {
  auto text = read_file_at(folder_.get(), concat("events/", event, "/format"));
  if (!text.ok()) {
    if (text.error().kind() == ErrorKind::not_found) return Error(ErrorKind::unsupported, concat("this kernel has no trace event ", event));
    return std::move(text).error();
  }
  auto format = TRY(parse_trace_format(*text), event);
  TRY_PLAIN(write_kernel_file_at(folder_.get(), concat("events/", event, "/enable"), "1"));
  return format;
}

Status TraceInstance::set_filter(const std::string& event, const std::string& filter) { return write_kernel_file_at(folder_.get(), concat("events/", event, "/filter"), filter); }

Status TraceInstance::follow(std::span<const pid_t> threads) {
  if (threads.empty()) return {};
  auto file = TRY_PLAIN(openat(folder_.get(), "set_event_pid", O_WRONLY | O_APPEND));
  std::string text;
  for (const auto thread : threads) text += concat(thread, " ");
  return write_all(file.get(), text);
}

Status TraceInstance::record(bool on) { return write_kernel_file_at(folder_.get(), "tracing_on", on ? "1" : "0"); }

Result<TracePage> TraceInstance::take() {
  TracePage all;
  std::string buffer(largest_page_bytes, '\0');
  for (const auto& pipe : pipes_) {
    for (;;) {
      auto size = read(pipe.get(), buffer);
      if (!size.ok() && size.error().error_number() == EAGAIN) break;
      if (!size.ok()) return std::move(size).error().in("trace buffer");
      if (*size == 0) break;
      auto page = TRY_PLAIN(parse_trace_page(std::string_view(buffer).substr(0, *size)));
      all.has_lost = all.has_lost || page.has_lost;
      all.records.insert(all.records.end(), std::make_move_iterator(page.records.begin()), std::make_move_iterator(page.records.end()));
    }
  }
  std::stable_sort(all.records.begin(), all.records.end(), [](const auto& a, const auto& b) { return a.time_ns < b.time_ns; });
  return all;
}

Result<std::size_t> remove_trace_instances(std::string_view prefix) {
  auto instances = TRY_PLAIN(open_instances());
  std::size_t count = 0;
  for (const auto& entry : TRY_PLAIN(list_dir(own_path(instances)))) {
    if (!entry.name.starts_with(prefix)) continue;
    TRY_PLAIN(unlinkat(instances.get(), entry.name, AT_REMOVEDIR));
    ++count;
  }
  return count;
}

}  // namespace caisson::linux
