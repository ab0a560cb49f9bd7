// info, disk usage and the pruning of containers.
#include <algorithm>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/local_engine.hpp"
#include "engine/proc_reader.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/sysinfo.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {

namespace {
/// KEY of os-release(5), unquoted.
std::string os_release_value(std::string_view text, std::string_view key) {
  for (auto line : split(text, '\n')) {
    auto halves = split_once(line, '=');
    if (halves.before != key) continue;
    auto value = halves.after;
    if (value.size() >= 2 && (value[0] == '"' || value[0] == '\'') && value.back() == value[0]) value = value.substr(1, value.size() - 2);
    return std::string(value);
  }
  return "";
}
}  // namespace

Result<SystemInfo> LocalEngine::info(const Caller& caller) {
  TRY_PLAIN(authorize(caller, Verb::system_info, ""));
  SystemInfo info;
  info.id = engine_id_;
  auto name = TRY_PLAIN(linux::uname());
  info.name = name.nodename;
  info.kernel_version = name.release;
  info.architecture = name.machine;
  info.version = CAISSON_VERSION;
  info.root_dir = options_.root;
  info.exec_root = options_.exec_root;
  info.rootless = options_.rootless;
  for (const auto& container : registry_.all()) {
    auto state = container->snapshot()->info.state;
    ++info.containers;
    if (state == State::running || state == State::restarting) ++info.containers_running;
    else if (state == State::paused) ++info.containers_paused;
    else ++info.containers_stopped;
  }
  info.policy_path = settings()->policy->path();
  info.lost_audit_lines = audit_.lost();
  info.images = TRY_PLAIN(images_->list()).size();
  auto release = linux::read_file("/etc/os-release");
  if (release.ok()) {
    info.operating_system = os_release_value(*release, "PRETTY_NAME");
    info.os_version = os_release_value(*release, "VERSION_ID");
  }
  if (info.operating_system.empty()) info.operating_system = "Linux";
  info.cpus = host_.cpus;
  info.memory_bytes = host_.memory_bytes;
  info.cgroup_version = is_cgroup_v2() ? "2" : "1";
  info.cgroup_driver = options_.systemd ? "systemd" : "cgroupfs";
  info.snapshot_form = images_->snapshot_form() == image::SnapshotForm::erofs ? "erofs" : "directory";
  const auto room = images_->room();
  info.store_used_bytes = room.used_bytes;
  info.store_quota_bytes = room.quota_bytes;
  info.security_options = {"name=seccomp,profile=builtin", "name=userns"};
  if (options_.rootless) info.security_options.emplace_back("name=rootless");
  info.events_listeners = events_->listeners();
  auto self = read_own_usage();
  info.open_fds = self.open_fds;
  info.threads = self.threads;
  info.started_at = started_at_;
  const auto current = settings();
  info.log_driver = current->log_driver;
  info.log_drivers = log_driver_names();
  info.labels = current->labels;
  info.debug = current->debug;
  info.cdi_spec_dirs = options_.cdi_spec_dirs;
  std::lock_guard lock(repairs_mutex_);
  info.repairs = repairs_;
  return info;
}

Status LocalEngine::reload(const Caller& caller, Settings next) {
  TRY_PLAIN(authorize(caller, Verb::system_reload, ""));
  TRY(check_log_driver(next.log_driver, next.log_options), "reload");
  auto shared = std::make_shared<const Settings>(std::move(next));
  {
    std::lock_guard lock(settings_mutex_);
    settings_ = shared;
  }
  publish_object("daemon", "reload", engine_id_, {{"name", TRY_PLAIN(linux::uname()).nodename}, {"debug", shared->debug ? "true" : "false"},
                                                  {"log-driver", shared->log_driver}, {"labels", concat("[", join(shared->labels, ","), "]")}});
  return {};
}

Result<DiskUsage> LocalEngine::disk_usage(const Caller& caller) {
  TRY_PLAIN(authorize(caller, Verb::system_df, ""));
  DiskUsage usage;
  usage.images = TRY_PLAIN(list_images(caller));
  usage.containers = TRY_PLAIN(list(caller, {.all = true, .size = true}));
  usage.volumes = TRY_PLAIN(list_volumes(caller, true));
  auto store = TRY_PLAIN(images_->usage());
  usage.blobs_bytes = store.blobs_bytes;
  usage.layers_bytes = store.layers_bytes;
  usage.store_bytes = store.disk_bytes;
  usage.layers = std::move(store.layers);
  std::vector<Digest> needed;
  for (const auto& image : usage.images)
    if (!image.used_by.empty()) needed.push_back(image.image.id);
  const auto needed_bytes = TRY_PLAIN(images_->disk_bytes(needed));
  usage.unused_bytes = usage.store_bytes - std::min(usage.store_bytes, needed_bytes);
  return usage;
}

Result<PruneResult> LocalEngine::prune_containers(const Caller& caller, const ContainerFilter& filter) {
  TRY_PLAIN(authorize(caller, Verb::container_prune, ""));
  PruneResult result;
  for (const auto& container : registry_.all()) {
    auto record = container->snapshot();
    if (!sees(caller, *record)) continue;
    auto state = record->info.state;
    bool ended = state == State::created || state == State::exited || state == State::dead;
    if (!ended) continue;
    auto summary = summarize(*record);
    if (filter && !filter(summary)) continue;
    measure(*record, summary.size_rw_bytes, summary.size_root_fs_bytes);
    auto removed = remove(caller, container->id, {});
    if (!removed.ok() && (removed.error().kind() == ErrorKind::conflict || removed.error().kind() == ErrorKind::not_found)) continue;  // started or gone meanwhile
    if (!removed.ok()) return std::move(removed).error();
    result.deleted.push_back(container->id);
    result.reclaimed_bytes += static_cast<std::uint64_t>(summary.size_rw_bytes.value_or(0));
  }
  return result;
}

}  // namespace caisson::engine
