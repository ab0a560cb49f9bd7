// explain, learn: the box a container is in, what it ran into, and what it needs.
#include <algorithm>
#include <array>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/capabilities.hpp"
#include "engine/file_changes.hpp"
#include "engine/liveness.hpp"
#include "engine/local_engine.hpp"
#include "linux/capabilities.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "runtime/default_seccomp.hpp"

namespace caisson::engine {

namespace {

constexpr std::size_t most_watched = 8;  // each has buffers of the kernel's
constexpr std::size_t id_shown = 12;

/// Docker's default capabilities that ours lack are named, so that nobody has to compare two lists.
constexpr std::array<std::string_view, 14> docker_capabilities = {"CAP_CHOWN",  "CAP_DAC_OVERRIDE", "CAP_FSETID",           "CAP_FOWNER",  "CAP_MKNOD",      "CAP_NET_RAW", "CAP_SETGID",
                                                                  "CAP_SETUID", "CAP_SETFCAP",      "CAP_SETPCAP",          "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",    "CAP_AUDIT_WRITE"};

constexpr std::array<std::pair<const char*, const char*>, 7> namespace_kinds = {std::pair("user", "user"), {"pid", "pid"}, {"mount", "mnt"}, {"network", "net"}, {"ipc", "ipc"}, {"uts", "uts"}, {"cgroup", "cgroup"}};

/// "CapBnd:\t00000000a80425fb" of /proc/PID/status.
std::optional<std::uint64_t> status_number(std::string_view text, std::string_view key, int base) {
  for (auto line : split(text, '\n')) {
    if (!line.starts_with(key) || line.size() <= key.size() || line[key.size()] != ':') continue;
    const auto digits = trim(line.substr(key.size() + 1));
    std::uint64_t number = 0;
    for (const char c : digits) {
      const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : base;
      if (digit >= base) return std::nullopt;
      number = number * static_cast<std::uint64_t>(base) + static_cast<std::uint64_t>(digit);
    }
    return number;
  }
  return std::nullopt;
}

std::string how_of(const std::string& mode) {
  if (mode == "host") return "host";
  if (auto other = container_of_mode(mode); !other.empty()) return concat("container:", other.substr(0, id_shown));
  return "own";
}

/// What the record says; a running container's are read from the kernel.
std::map<std::string, std::string> planned_namespaces(const ContainerSpec& spec) {
  return {{"user", how_of(spec.userns_mode)}, {"pid", how_of(spec.pid_mode)}, {"mount", "own"}, {"network", how_of(spec.network.mode)}, {"ipc", how_of(spec.ipc_mode)}, {"uts", how_of(spec.uts_mode)}, {"cgroup", how_of(spec.cgroupns_mode)}};
}

void read_namespaces(SecurityReport& report) {
  for (const auto& [name, file] : namespace_kinds) {
    auto theirs = linux::readlinkat(AT_FDCWD, concat("/proc/", report.pid, "/ns/", file));
    auto ours = linux::readlinkat(AT_FDCWD, concat("/proc/self/ns/", file));
    if (!theirs.ok() || !ours.ok()) continue;
    if (*theirs == *ours) report.namespaces[name] = "host";
    else if (report.namespaces[name] == "host") report.namespaces[name] = "own";
  }
}

/// Of a running container the kernel's word counts. Returns false when it has ended meanwhile.
bool read_live(SecurityReport& report) {
  auto status = linux::read_kernel_file(concat("/proc/", report.pid, "/status"));
  if (!status.ok()) return false;
  if (auto bounding = status_number(*status, "CapBnd", 16)) report.capabilities = linux::capability_names(linux::CapabilitySet(*bounding));
  if (auto barred = status_number(*status, "NoNewPrivs", 10)) report.no_new_privileges = *barred != 0;
  if (auto mode = status_number(*status, "Seccomp", 10); mode && *mode == 0 && report.seccomp != "unconfined") {
    report.gaps.push_back("its first process has no system call filter, although one is configured");
  }
  auto label = linux::read_kernel_file(concat("/proc/", report.pid, "/attr/current"));
  if (label.ok()) {
    std::string_view text = *label;
    while (!text.empty() && (text.back() == '\0' || text.back() == '\n')) text.remove_suffix(1);
    report.label = text;
  }
  read_namespaces(report);
  return true;
}

std::vector<std::string> device_texts(const ContainerSpec& spec) {
  std::vector<std::string> out;
  if (spec.privileged) out.emplace_back("every device of the host");
  for (const auto& device : spec.devices) out.push_back(concat(device.path_in_container.empty() ? device.path_on_host : device.path_in_container, " ", device.permissions));
  for (const auto& request : spec.device_requests)
    for (const auto& id : request.device_ids) out.push_back(id);
  for (const auto& rule : spec.device_cgroup_rules) out.push_back(concat("nodes ", rule));
  return out;
}

SecurityReport::Mount shown_mount(const MountPoint& point, const ContainerSpec& spec) {
  SecurityReport::Mount mount{point.destination, point.type == MountType::volume && !point.name.empty() ? concat("volume ", point.name.substr(0, id_shown)) : point.source, point.read_write, false};
  if (point.type == MountType::tmpfs) mount.source = "tmpfs";
  if (point.type != MountType::bind) return mount;
  mount.keeps_owners = true;
  for (const auto& asked : spec.mounts)
    if (asked.target == point.destination && asked.without_owners) mount.keeps_owners = false;
  return mount;
}

}  // namespace

Result<std::optional<runtime::SeccompProfile>> LocalEngine::seccomp_of(const ContainerSpec& spec, const std::vector<std::string>& capabilities) {
  std::optional<runtime::SeccompProfile> profile;
  if (spec.privileged) return profile;
  if (spec.seccomp.empty()) profile = runtime::default_seccomp(capabilities, spec.nesting ? runtime::Nesting::yes : runtime::Nesting::no);
  else if (spec.seccomp != "unconfined") profile = TRY_PLAIN(seccomp_from_text(spec.seccomp, capabilities));
  if (spec.log_refusals && profile) profile->flags.emplace_back("SECCOMP_FILTER_FLAG_LOG");
  return profile;
}

Result<SecurityReport> LocalEngine::explain(const Caller& caller, const std::string& name) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_inspect, name));
  const auto record = container->snapshot();
  const auto& info = record->info;
  const auto& spec = info.spec;
  SecurityReport report;
  report.id = info.id;
  report.name = info.name;
  report.state = info.state;
  report.is_privileged = spec.privileged;
  report.capabilities = TRY_PLAIN(resolve_capabilities(spec.cap_add, spec.cap_drop, spec.privileged));
  report.no_new_privileges = spec.no_new_privileges;
  report.seccomp = spec.privileged ? "unconfined" : spec.seccomp.empty() ? "default" : spec.seccomp == "unconfined" ? "unconfined" : "own profile";
  report.logs_refusals = spec.log_refusals;
  const auto profile = TRY_PLAIN(seccomp_of(spec, report.capabilities));
  report.calls = CallRules(profile ? &*profile : nullptr).count();
  report.namespaces = planned_namespaces(spec);
  report.first_host_id = info.first_host_id;
  report.host_ids = info.first_host_id == 0 ? 0 : IdRanges::size;
  if (options_.rootless) {
    // Root inside is our own user, as the host knows him, whatever the namespaces.
    const auto ids = TRY_PLAIN(linux::parse_id_map(TRY_PLAIN(linux::read_kernel_file("/proc/self/uid_map"))));
    report.first_host_id = linux::map_to_outside(ids, 0).value_or(0);
    report.host_ids = 1;
  }
  report.is_root_read_only = spec.read_only_rootfs;
  report.masked_paths = masked_paths_of(spec);
  report.readonly_paths = readonly_paths_of(spec);
  for (const auto& point : info.mounts) report.mounts.push_back(shown_mount(point, spec));
  report.devices = device_texts(spec);
  report.sysctls = spec.sysctls;
  report.memory_limit_bytes = spec.resources.memory_bytes;
  report.pids_limit = spec.resources.pids_limit.value_or(settings()->default_pids_limit.value_or(0));
  if (report.pids_limit < 0) report.pids_limit = 0;
  if (auto last = linux::last_capability(); last.ok()) report.all_capabilities = static_cast<std::uint32_t>(*last) + 1;

  report.refusals = refusals_.of(info.id);
  if (is_alive(info.state)) {
    report.pid = info.pid;
    if (!read_live(report)) report.pid = 0;
    auto stats = runtime_->stats(info.id);
    if (stats.ok() && stats->oom_kills != 0) report.refusals.push_back({"memory", "memory beyond the limit", "", stats->oom_kills, 0, 0, true});
    if (!stats.ok() && report.pid != 0) report.gaps.push_back(concat("what its limits refused: ", stats.error().text()));
  } else if (info.oom_killed) {
    report.refusals.push_back({"memory", "memory beyond the limit", "", 1, 0, info.finished_at, true});
  }
  for (const auto name_of : docker_capabilities)
    if (std::find(report.capabilities.begin(), report.capabilities.end(), name_of) == report.capabilities.end()) report.lost_capabilities.emplace_back(name_of);
  if (auto gap = refusals_.gap(); !gap.empty()) report.gaps.push_back(concat("what the kernel refused: ", gap));
  else if (!spec.log_refusals && report.seccomp != "unconfined") report.gaps.push_back("system calls that the filter answered with an error: the kernel notes those down only with --security-opt log-refusals; `caisson security learn` sees them too");
  return report;
}

Learning::Subject LocalEngine::look_at(const std::string& id) {
  Learning::Subject subject;
  auto container = registry_.find_id(id);
  if (!container) {
    subject.has_ended = true;
    return subject;
  }
  const auto& info = container->snapshot()->info;
  if (is_alive(info.state)) {
    subject.pid = info.pid;
    if (auto stats = runtime_->stats(id); stats.ok()) {
      subject.processes = stats->pids;
      subject.memory_bytes = stats->memory_max_usage_bytes;
    }
  } else {
    subject.has_ended = info.state == State::exited || info.state == State::dead;
  }
  return subject;
}

void LocalEngine::tell_learning(const std::string& id, pid_t first) {
  std::lock_guard lock(learning_mutex_);
  if (auto found = learning_.find(id); found != learning_.end()) found->second->note_first(first);
}

Status LocalEngine::begin_learning(const Caller& caller, const std::string& name) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_learn, name));
  if (options_.rootless) return Error(ErrorKind::unsupported, "learn: only root of the host may read the kernel's trace");
  const auto record = container->snapshot();
  const auto& info = record->info;
  const auto capabilities = TRY_PLAIN(resolve_capabilities(info.spec.cap_add, info.spec.cap_drop, info.spec.privileged));
  const auto profile = TRY_PLAIN(seccomp_of(info.spec, capabilities));

  std::lock_guard lock(learning_mutex_);
  if (auto known = learning_.find(info.id); known != learning_.end()) {
    if (known->second->learned().is_watching) return Error(ErrorKind::conflict, concat("container ", info.name, " is being watched already"));
    learning_.erase(known);
  }
  if (learning_.size() >= most_watched) return Error(ErrorKind::conflict, concat("so many containers are watched at once: ", most_watched)).with_hint("end one with `caisson security learn --stop CONTAINER`");
  std::vector<pid_t> running, makers;
  if (const pid_t spawner = runtime_->spawner(); spawner > 0) makers.push_back(spawner);
  if (is_alive(info.state)) {
    for (const auto pid : TRY(runtime_->processes(info.id), "learn")) {
      const auto threads = threads_of(pid);
      running.insert(running.end(), threads.begin(), threads.end());
    }
    if (const pid_t monitor = parent_of(info.pid); monitor > 1) makers.push_back(monitor);
  }
  const bool has_run = info.started_at != 0;
  auto look = [this, id = info.id, first = info.started_at, is_running = is_alive(info.state), has_run] {
    auto subject = look_at(id);
    // One that ended before the watch began has not ended by it.
    if (subject.has_ended && !is_running && has_run) {
      auto now = registry_.find_id(id);
      if (now && now->snapshot()->info.started_at == first) subject.has_ended = false;
    }
    return subject;
  };
  auto begun = TRY(Learning::begin(concat("caisson-", engine_id_.substr(0, id_shown), "-", info.id.substr(0, id_shown)), CallRules(profile ? &*profile : nullptr), makers, running, std::move(look)), "learn");
  learning_.emplace(info.id, std::shared_ptr<Learning>(std::move(begun)));
  return {};
}

Result<Learned> LocalEngine::conclude(const Pointer& container, const Learning& learning) {
  auto learned = learning.learned();
  ContainerInfo info = container->snapshot()->info;
  fill_derived(info);
  auto layers = TRY(lower_layers(info), "learn");
  for (const auto& change : TRY(find_changes(info.upper_dir, layers), "learn")) {
    // A folder whose contents changed is told with them.
    if (!learned.written.empty() && change.path.starts_with(learned.written.back() + "/")) learned.written.pop_back();
    learned.written.push_back(change.path);
  }
  const auto capabilities = TRY_PLAIN(resolve_capabilities(info.spec.cap_add, info.spec.cap_drop, info.spec.privileged));
  const auto profile = TRY_PLAIN(seccomp_of(info.spec, capabilities));
  propose(learned, profile ? &*profile : nullptr);
  return learned;
}

Result<std::shared_ptr<Learning>> LocalEngine::learning_of(const Container& container, bool takes_away) {
  std::lock_guard lock(learning_mutex_);
  auto found = learning_.find(container.id);
  if (found == learning_.end()) return Error(ErrorKind::not_found, concat("container ", container.snapshot()->info.name, " is not being watched"));
  auto learning = found->second;
  if (takes_away) learning_.erase(found);
  return learning;
}

Result<Learned> LocalEngine::learned(const Caller& caller, const std::string& name) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_learn, name));
  return TRY_PLAIN(learning_of(*container, false))->learned();
}

Result<Learned> LocalEngine::end_learning(const Caller& caller, const std::string& name) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_learn, name));
  auto learning = TRY_PLAIN(learning_of(*container, true));
  learning->finish();
  return conclude(container, *learning);
}

}  // namespace caisson::engine
