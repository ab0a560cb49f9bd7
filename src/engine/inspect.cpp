// inspect, list, stats, update, networks: what a container is now.
#include <algorithm>

#include "base/strings.hpp"
#include "engine/liveness.hpp"
#include "engine/local_engine.hpp"
#include "engine/proc_reader.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {

namespace {

/// docker's words, which people's scripts match.
std::string status_text(const ContainerInfo& info, TimestampNs now) {
  auto since = [&](TimestampNs time) { return human_duration(std::max<std::int64_t>(0, now - time)); };
  switch (info.state) {
    case State::running: {
      if (!info.health) return "Up " + since(info.started_at);
      const bool starts = info.health->status == HealthStatus::starting;
      return concat("Up ", since(info.started_at), starts ? " (health: " : " (", to_string(info.health->status), ")");
    }
    case State::paused: return "Up " + since(info.started_at) + " (Paused)";
    case State::restarting: return concat("Restarting (", info.exit_code, ") ", since(info.finished_at), " ago");
    case State::exited: return concat("Exited (", info.exit_code, ") ", since(info.finished_at), " ago");
    case State::removing: return "Removal In Progress";
    case State::dead: return "Dead";
    case State::creating:
    case State::created: return "Created";
  }
  return "Dead";
}
}  // namespace

ContainerSummary LocalEngine::summarize(const Record& record) const {
  const auto& info = record.info;
  ContainerSummary summary;
  summary.id = info.id;
  summary.name = info.name;
  summary.image = info.spec.image;
  summary.image_id = info.image_id;
  summary.args = info.args;
  summary.created = info.created;
  summary.state = info.state;
  summary.exit_code = info.exit_code;
  summary.started_at = info.started_at;
  summary.finished_at = info.finished_at;
  summary.status = status_text(info, now_ns());
  summary.health = info.health ? info.health->status : HealthStatus::none;
  summary.labels = info.spec.labels;
  summary.network_mode = info.spec.network.mode;
  summary.networks = info.spec.network.endpoints;
  summary.endpoints = info.endpoints;
  summary.ports = published_ports(info.endpoints);
  summary.exposed_ports = info.spec.exposed_ports;
  summary.mounts = info.mounts;
  return summary;
}

void LocalEngine::measure(const Record& record, std::optional<std::int64_t>& rw, std::optional<std::int64_t>& root_fs) {
  auto own = linux::tree_usage(container_dir(record.info.id) + "/upper");
  if (own.ok()) rw = static_cast<std::int64_t>(own->size_bytes);
  auto image = images_->find(record.info.image_id);
  if (own.ok() && image.ok()) root_fs = *rw + static_cast<std::int64_t>(image->size_bytes);
}

Result<ContainerInfo> LocalEngine::inspect(const Caller& caller, const std::string& name, bool with_size) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_inspect, name));
  auto record = container->snapshot();
  ContainerInfo info = record->info;
  fill_derived(info);
  const auto& driver = info.spec.log_driver;
  if (driver.empty() || driver == "json-file") info.log_path = log_path_of(*record);
  info.has_logs = has_readable_log(info.spec);
  info.unsent_logs = shippers_.lost(info.id);
  info.exec_ids = execs_.of_container(info.id);
  info.links = shown_links(info);
  info.ports = info.endpoints.empty() ? info.spec.ports : published_ports(info.endpoints);
  if (auto id = Digest::parse(info.image_id); id.ok())
    if (auto layers = images_->lowerdirs(*id); layers.ok()) info.lower_dirs = join(*layers, ":");
  if (with_size) measure(*record, info.size_rw_bytes, info.size_root_fs_bytes);
  return info;
}

Result<std::vector<ContainerSummary>> LocalEngine::list(const Caller& caller, const ListOptions& options) {
  TRY_PLAIN(authorize(caller, Verb::container_list, ""));
  std::vector<ContainerSummary> summaries;
  const auto link_names = this->link_names();
  for (const auto& container : registry_.all()) {
    auto record = container->snapshot();
    if (!sees(caller, *record)) continue;
    bool shown = options.all || is_alive(record->info.state) || record->info.state == State::restarting;
    if (!shown) continue;
    summaries.push_back(summarize(*record));
    for (auto [name, end] = link_names.equal_range(container->id); name != end; ++name) summaries.back().link_names.push_back(name->second);
    if (options.size) measure(*record, summaries.back().size_rw_bytes, summaries.back().size_root_fs_bytes);
  }
  std::sort(summaries.begin(), summaries.end(), [](const auto& a, const auto& b) { return a.created > b.created; });
  return summaries;
}

Result<std::vector<std::string>> LocalEngine::update(const Caller& caller, const std::string& name, const UpdateSpec& changes) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_update, name));
  std::lock_guard lock(container->operation);
  auto record = container->snapshot();
  ResourceSpec next = record->info.spec.resources;
  const auto& wanted = changes.resources;
  auto take = [](auto& into, const auto& from) {
    if (from != std::decay_t<decltype(from)>{}) into = from;
  };
  take(next.memory_bytes, wanted.memory_bytes);
  take(next.memory_swap_bytes, wanted.memory_swap_bytes);
  take(next.memory_reservation_bytes, wanted.memory_reservation_bytes);
  take(next.memory_swappiness, wanted.memory_swappiness);
  take(next.oom_kill_disable, wanted.oom_kill_disable);
  take(next.nano_cpus, wanted.nano_cpus);
  take(next.cpu_quota_us, wanted.cpu_quota_us);
  take(next.cpu_period_us, wanted.cpu_period_us);
  take(next.cpu_shares, wanted.cpu_shares);
  take(next.cpu_realtime_period_us, wanted.cpu_realtime_period_us);
  take(next.cpu_realtime_runtime_us, wanted.cpu_realtime_runtime_us);
  take(next.cpuset_cpus, wanted.cpuset_cpus);
  take(next.cpuset_mems, wanted.cpuset_mems);
  take(next.pids_limit, wanted.pids_limit);
  take(next.blkio_weight, wanted.blkio_weight);
  if (auto judged = bound_resources(role_of(caller), next); !judged.ok()) return refuse(caller, Verb::container_update, name, container->id, judged.error().text()).error();
  TRY_PLAIN(check_resources(next, host_));
  if (changes.restart) TRY_PLAIN(check_restart_policy(*changes.restart, record->info.spec.auto_remove));
  // The kernel first: a limit that it refuses must not stand in the record.
  if (is_alive(record->info.state))
    TRY(runtime_->update(container->id, build_resources(next)), concat("update container ", container->id.substr(0, 12)));
  TRY_PLAIN(container->change([&](Record& changed) {
    changed.info.spec.resources = next;
    if (changes.restart) changed.info.spec.restart = *changes.restart;
  }));
  publish(*container->snapshot(), "update");
  return std::vector<std::string>{};
}

Result<ContainerStats> LocalEngine::stats(const Caller& caller, const std::string& name) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_stats, name));
  auto record = container->snapshot();
  ContainerStats stats;
  stats.id = container->id;
  stats.name = record->info.name;
  stats.online_cpus = host_.cpus;
  if (!is_alive(record->info.state)) return stats;
  auto reading = runtime_->stats(container->id);
  if (!reading.ok() && (reading.error().kind() == ErrorKind::not_found || reading.error().kind() == ErrorKind::conflict)) return stats;
  if (!reading.ok()) return std::move(reading).error().in(concat("stats of container ", container->id.substr(0, 12)));
  stats.cgroup = std::move(*reading);
  stats.running = true;
  stats.cgroup_v2 = is_cgroup_v2();
  stats.system_cpu_ns = TRY_PLAIN(read_system_cpu_ns());
  if (record->info.spec.network.mode != "host") {
    auto interfaces = read_interface_stats(record->info.pid);
    if (interfaces.ok()) stats.networks = std::move(*interfaces);  // gone with the process when it ends at this moment
  }
  return stats;
}

Result<TopResult> LocalEngine::top(const Caller& caller, const std::string& name, const std::string& ps_arguments) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_top, name));
  auto columns = TRY_PLAIN(parse_ps_arguments(ps_arguments));
  auto record = container->snapshot();
  if (!is_alive(record->info.state)) return Error(ErrorKind::conflict, concat("container ", container->id, " is not running"));
  auto pids = TRY(runtime_->processes(container->id), concat("top of container ", container->id.substr(0, 12)));
  publish(*record, "top");
  return read_processes(pids, columns);
}

}  // namespace caisson::engine
