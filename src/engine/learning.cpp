// The thread that reads the trace, and what follows from what it has read.
#include "engine/learning.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/json.hpp"
#include "base/log.hpp"
#include "base/strings.hpp"
#include "linux/capabilities.hpp"
#include "linux/event.hpp"
#include "linux/process.hpp"
#include "linux/seccomp.hpp"
#include "linux/syscall_table.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {

namespace {

constexpr std::size_t buffer_bytes = 4U << 20U;  // for each CPU: a start without narrowing makes some 100 KB
constexpr int pause_ms = 50;
constexpr std::size_t longest_filter = 3800;  // the kernel takes less than a page
constexpr std::string_view enter_event = "raw_syscalls/sys_enter";
constexpr std::string_view exit_event = "raw_syscalls/sys_exit";
constexpr std::string_view ask_event = "capability/cap_capable";
constexpr std::string_view nobody_refused = "ret == -1 || ret == -13 || ret == -38";

/// What the engine's own code does between the loading of the filter and the program (runtime/child_exec.cpp), in a start and in an exec.
constexpr std::array own_calls = {"capget", "capset", "close", "close_range", "dup3", "execve", "execveat", "exit", "exit_group", "fchdir", "fchown", "fcntl", "fstatfs", "getcwd", "getpid", "ioctl",
                                  "newfstatat", "openat", "openat2", "prctl", "prlimit64", "read", "rt_sigprocmask", "rt_sigreturn", "sendmsg", "setgroups", "setresgid", "setresuid", "umask", "write"};

bool lets_through(std::string_view action) { return action == "SCMP_ACT_ALLOW" || action == "SCMP_ACT_LOG"; }

std::int64_t field_of(const linux::TraceFormat& format, const linux::TraceRecord& record, const std::string& name) {
  auto field = format.fields.find(name);
  if (field == format.fields.end()) return 0;
  return linux::trace_number(record, field->second).value_or(0);
}

std::vector<std::string> names_of(const std::set<std::int64_t>& numbers) {
  std::vector<std::string> names;
  for (const auto number : numbers) names.push_back(call_name(number));
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> capability_names_of(const std::set<std::int64_t>& numbers) {
  std::vector<std::string> names;
  for (const auto number : numbers)
    if (number >= 0 && number < 64) names.push_back(linux::capability_name(static_cast<int>(number)));
  return names;
}

/// Terms joined by " && ", as many as a filter may hold.
std::string joined_terms(const std::vector<std::string>& terms) {
  std::string filter;
  for (const auto& term : terms) {
    if (filter.size() + term.size() + 4 > longest_filter) break;
    if (!filter.empty()) filter += " && ";
    filter += term;
  }
  return filter.empty() ? "0" : filter;
}

/// Folders whose contents need not outlive a container.
bool is_scratch(std::string_view path) {
  for (const std::string_view folder : {"/tmp", "/run", "/var/run", "/var/tmp", "/var/cache", "/var/lock"})
    if (path == folder || (path.starts_with(folder) && path[folder.size()] == '/')) return true;
  return false;
}
std::string scratch_folder_of(std::string_view path) {
  // "/var/cache/nginx/x" → "/var/cache/nginx"; "/run/x" → "/run".
  const std::size_t parts = path.starts_with("/var/cache/") ? 3 : path.starts_with("/var/") ? 2 : 1;
  std::size_t end = 0;
  for (std::size_t i = 0; i < parts && end != std::string_view::npos; ++i) end = path.find('/', end + 1);
  return std::string(path.substr(0, end));
}

}  // namespace

std::string call_name(std::int64_t number) {
  const auto name = number < 0 ? std::string_view() : linux::syscall_name(linux::native_architecture(), static_cast<std::uint32_t>(number));
  return name.empty() ? concat(number) : std::string(name);
}

// ---- what a filter says -------------------------------------------------------------------------------------------

CallRules::CallRules(const runtime::SeccompProfile* profile) {
  if (profile == nullptr) return;
  has_filter_ = true;
  refuses_by_default_ = !lets_through(profile->default_action);
  for (const auto& rule : profile->syscalls) {
    for (const auto& name : rule.names) {
      const auto number = linux::syscall_number(linux::native_architecture(), name);
      if (!number) continue;
      if (lets_through(rule.action)) (rule.args.empty() ? allowed_ : conditional_).insert(*number);
      else if (rule.errno_ret == ENOSYS && rule.args.empty()) hidden_.insert(*number);
      else (rule.args.empty() ? refused_ : conditional_).insert(*number);
    }
  }
  for (const auto number : allowed_) conditional_.erase(number);  // an unconditional rule wins (linux/seccomp.hpp)
  for (const auto number : refused_) conditional_.erase(number);
}

bool CallRules::may_refuse(std::int64_t number) const {
  if (!has_filter_ || hidden_.contains(number)) return false;
  if (conditional_.contains(number) || refused_.contains(number)) return true;
  return refuses_by_default_ && !allowed_.contains(number);
}

CallCounts CallRules::count() const {
  CallCounts counts;
  if (!has_filter_) return counts;
  constexpr std::uint32_t beyond_all = 1024;
  for (std::uint32_t number = 0; number < beyond_all; ++number) {
    if (linux::syscall_name(linux::native_architecture(), number).empty()) continue;
    if (conditional_.contains(number)) ++counts.conditional;
    else if (may_refuse(number) || hidden_.contains(number)) ++counts.refused;
    else ++counts.allowed;
  }
  return counts;
}

// ---- what follows -------------------------------------------------------------------------------------------------

runtime::SeccompProfile tighten(const runtime::SeccompProfile* base, const std::vector<std::string>& calls) {
  std::set<std::string> wanted(calls.begin(), calls.end());
  for (const auto* name : own_calls) wanted.insert(name);
  runtime::SeccompProfile tight;
  tight.default_action = "SCMP_ACT_ERRNO";
  tight.default_errno_ret = EPERM;
  std::set<std::string> ruled, allowed;  // names that any rule speaks of, and those allowed whatever their arguments are
  if (base != nullptr) {
    tight.architectures = base->architectures;
    for (const auto& rule : base->syscalls) {
      ruled.insert(rule.names.begin(), rule.names.end());
      if (rule.action == "SCMP_ACT_ALLOW" && rule.args.empty()) {
        allowed.insert(rule.names.begin(), rule.names.end());
        continue;
      }
      auto kept = rule;
      std::erase_if(kept.names, [&](const auto& name) { return !wanted.contains(name) && rule.errno_ret != ENOSYS; });
      if (!kept.names.empty()) tight.syscalls.push_back(std::move(kept));
    }
  }
  const bool allows_by_default = base == nullptr || lets_through(base->default_action);
  runtime::SeccompRule plain;
  plain.action = "SCMP_ACT_ALLOW";
  for (const auto& name : wanted) {
    const bool has_name = name.find_first_not_of("0123456789") != std::string::npos;
    if (has_name && (allowed.contains(name) || (allows_by_default && !ruled.contains(name)))) plain.names.push_back(name);
  }
  tight.syscalls.push_back(std::move(plain));
  return tight;
}

void propose(Learned& learned, const runtime::SeccompProfile* base) {
  learned.profile = tighten(base, learned.calls);
  learned.cap_add = learned.capabilities;
  std::set<std::string> tmpfs;
  learned.read_only = true;
  for (const auto& path : learned.written) {
    if (is_scratch(path)) tmpfs.insert(scratch_folder_of(path));
    else learned.read_only = false;
  }
  learned.tmpfs.assign(tmpfs.begin(), tmpfs.end());
  constexpr std::int64_t least_processes = 32;
  constexpr std::int64_t memory_step = 16 << 20;
  if (learned.most_processes != 0) learned.pids_limit = std::max(least_processes, static_cast<std::int64_t>(learned.most_processes) * 2);
  if (learned.most_memory_bytes != 0) learned.memory_bytes = (static_cast<std::int64_t>(learned.most_memory_bytes) * 2 / memory_step + 1) * memory_step;
}

std::string profile_text(const runtime::SeccompProfile& profile) {
  json::object out;
  out["defaultAction"] = profile.default_action;
  if (profile.default_errno_ret) out["defaultErrnoRet"] = *profile.default_errno_ret;
  json::array architectures;
  for (const auto& name : profile.architectures) architectures.emplace_back(name);
  if (!architectures.empty()) out["architectures"] = std::move(architectures);
  json::array rules;
  for (const auto& rule : profile.syscalls) {
    json::object entry;
    json::array names;
    for (const auto& name : rule.names) names.emplace_back(name);
    entry["names"] = std::move(names);
    entry["action"] = rule.action;
    if (rule.errno_ret) entry["errnoRet"] = *rule.errno_ret;
    json::array arguments;
    for (const auto& argument : rule.args) arguments.push_back(json::object{{"index", argument.index}, {"value", argument.value}, {"valueTwo", argument.value_two}, {"op", argument.op}});
    if (!arguments.empty()) entry["args"] = std::move(arguments);
    rules.push_back(std::move(entry));
  }
  out["syscalls"] = std::move(rules);
  return to_text(json::value(std::move(out)));
}

// ---- the watch ----------------------------------------------------------------------------------------------------

Learning::Learning(linux::TraceInstance trace, CallRules rules, Look look)
    : trace_(std::move(trace)), rules_(std::move(rules)), look_(std::move(look)), observation_([this](std::int64_t number) { return rules_.may_refuse(number); }) {}

Result<std::unique_ptr<Learning>> Learning::begin(const std::string& instance, CallRules rules, std::span<const pid_t> makers, std::span<const pid_t> running, Look look) {
  auto trace = TRY_PLAIN(linux::TraceInstance::create(instance, buffer_bytes));
  std::unique_ptr<Learning> made(new Learning(std::move(trace), std::move(rules), std::move(look)));
  TRY_PLAIN(made->prepare(makers, running));
  made->thread_ = std::thread([raw = made.get()] { raw->run(); });
  return made;
}

Status Learning::prepare(std::span<const pid_t> makers, std::span<const pid_t> running) {
  wake_ = TRY_PLAIN(linux::eventfd());
  auto enable = [&](std::string_view event, Observed::Kind kind) -> Status {
    auto format = TRY_PLAIN(trace_.enable(std::string(event)));
    const auto id = format.id;
    formats_.insert_or_assign(id, std::pair(kind, std::move(format)));
    return {};
  };
  TRY_PLAIN(enable("sched/sched_process_fork", Observed::Kind::forked));
  TRY_PLAIN(enable("sched/sched_process_exec", Observed::Kind::executed));
  TRY_PLAIN(enable(enter_event, Observed::Kind::entered));
  TRY_PLAIN(enable(exit_event, Observed::Kind::returned));
  std::string refused(nobody_refused);
  for (const auto number : rules_.conditional()) refused += concat(" || id == ", number);
  TRY_PLAIN(trace_.set_filter(std::string(exit_event), refused));
  auto asked = enable(ask_event, Observed::Kind::asked);
  if (!asked.ok() && asked.error().kind() != ErrorKind::unsupported) return asked;
  knows_capabilities_ = asked.ok();
  std::vector<pid_t> followed(running.begin(), running.end());
  followed.insert(followed.end(), makers.begin(), makers.end());
  makers_.assign(makers.begin(), makers.end());
  TRY_PLAIN(trace_.follow(followed));
  saw_the_start_ = running.empty();
  for (const auto thread : running) observation_.add_thread(thread);
  return trace_.record(true);
}

Status Learning::take_events() {
  auto page = TRY_PLAIN(trace_.take());
  std::lock_guard lock(mutex_);
  if (page.has_lost) observation_.note_loss();
  for (const auto& record : page.records) {
    auto found = formats_.find(record.event_id);
    if (found == formats_.end()) continue;
    const auto& [kind, format] = found->second;
    Observed event;
    event.kind = kind;
    event.thread = static_cast<pid_t>(field_of(format, record, "common_pid"));
    switch (kind) {
      case Observed::Kind::forked: event.number = field_of(format, record, "child_pid"); break;
      case Observed::Kind::executed: break;
      case Observed::Kind::entered: event.number = field_of(format, record, "id"); break;
      case Observed::Kind::returned:
        event.number = field_of(format, record, "id");
        event.result = field_of(format, record, "ret");
        break;
      case Observed::Kind::asked:
        event.number = field_of(format, record, "cap");
        event.result = field_of(format, record, "ret");
        break;
    }
    observation_.take(event);
  }
  if (const pid_t first = first_; first != 0 && observation_.set_first(first, makers_)) first_ = 0;
  return {};
}

/// What is known needs not be told again: a busy container would fill the buffers with it.
Status Learning::narrow() {
  std::vector<std::string> calls, capabilities;
  {
    std::lock_guard lock(mutex_);
    const bool same = told_calls_ == observation_.calls() && told_had_ == observation_.capabilities() && told_lacking_ == observation_.lacking();
    if (same) return {};
    told_calls_ = observation_.calls();
    told_had_ = observation_.capabilities();
    told_lacking_ = observation_.lacking();
  }
  for (const auto number : told_calls_)
    if (!rules_.conditional().contains(number)) calls.push_back(concat("id != ", number));
  for (const auto number : told_had_) capabilities.push_back(concat("(cap != ", number, " || ret != 0)"));
  for (const auto number : told_lacking_) capabilities.push_back(concat("(cap != ", number, " || ret == 0)"));
  TRY_PLAIN(trace_.set_filter(std::string(enter_event), joined_terms(calls)));
  return knows_capabilities_ ? trace_.set_filter(std::string(ask_event), joined_terms(capabilities)) : Status();
}

void Learning::run() {
  bool has_run = !saw_the_start_;
  while (!stopping_) {
    const auto subject = look_();
    {
      std::lock_guard lock(mutex_);
      most_.processes = std::max(most_.processes, subject.processes);
      most_.memory_bytes = std::max(most_.memory_bytes, subject.memory_bytes);
      if (!saw_the_start_ && subject.pid != 0) observation_.set_monitor(parent_of(subject.pid));
    }
    has_run = has_run || subject.pid != 0;
    auto outcome = take_events();
    if (outcome.ok() && has_run) outcome = narrow();
    if (!outcome.ok()) {
      log_error("learn", "trace", outcome.error());
      std::lock_guard lock(mutex_);
      trouble_ = outcome.error().text();
      break;
    }
    if (subject.has_ended) break;  // looked at before the events: none comes after
    ignore(linux::wait_readable(wake_.get(), pause_ms));
  }
  ignore(trace_.record(false));
  if (auto last = take_events(); !last.ok()) log_error("learn", "trace", last.error());
  std::lock_guard lock(mutex_);
  is_watching_ = false;
}

void Learning::finish() {
  stopping_ = true;
  if (wake_) ignore(linux::eventfd_signal(wake_.get()));
  if (thread_.joinable()) thread_.join();
}

Learned Learning::learned() const {
  std::lock_guard lock(mutex_);
  Learned out;
  out.is_watching = is_watching_;
  out.saw_the_start = saw_the_start_;
  out.calls = names_of(observation_.calls());
  out.refused = names_of(observation_.refused());
  out.knows_capabilities = knows_capabilities_;
  out.capabilities = capability_names_of(observation_.capabilities());
  out.lacking_capabilities = capability_names_of(observation_.lacking());
  out.most_processes = most_.processes;
  out.most_memory_bytes = most_.memory_bytes;
  out.lost = observation_.losses() + (trouble_.empty() ? 0 : 1);
  return out;
}

pid_t parent_of(pid_t pid) {
  constexpr std::size_t parent = 4 - 3;  // field 4 of proc(5); the third comes first here
  auto fields = linux::process_stat_fields(pid);
  return fields.ok() && fields->size() > parent ? parse_integer<pid_t>((*fields)[parent]).value_or(0) : 0;
}

std::vector<pid_t> threads_of(pid_t pid) {
  std::vector<pid_t> threads;
  auto entries = linux::list_dir(concat("/proc/", pid, "/task"));
  if (!entries.ok()) return threads;
  for (const auto& entry : *entries)
    if (auto number = parse_integer<pid_t>(entry.name)) threads.push_back(*number);
  return threads;
}

}  // namespace caisson::engine
