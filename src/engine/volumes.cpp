// Named volumes: a folder and a record each.
#include <algorithm>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/local_engine.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {

namespace {
std::string volume_key(const std::string& name) { return "volume/" + name; }
}  // namespace

Status LocalEngine::check_volume_spec(const VolumeSpec& spec) {
  if (!spec.name.empty()) TRY_PLAIN(check_name("volume", spec.name));
  if (!spec.driver.empty() && spec.driver != "local")
    return Error(ErrorKind::not_found, concat("error looking up volume plugin ", spec.driver, ": plugin \"", spec.driver, "\" not found"));
  return check_volume_options(spec.options);
}

LoadVolume LocalEngine::volume_loader() {
  return [this](const std::string& name) { return load_volume(name); };
}

std::vector<std::string> LocalEngine::volume_names(const ContainerInfo& info) {
  std::vector<std::string> names;
  for (const auto& point : info.mounts)
    if (point.type == MountType::volume) names.push_back(point.name);
  return names;
}

void LocalEngine::release_volumes(const std::string& container_id, const std::vector<std::string>& names) {
  if (names.empty()) return;
  std::lock_guard turn(volume_creation_mutex_);  // a start that mounts one has its run folder already
  auto users = volume_users();
  auto is_used_elsewhere = [&](const std::string& name) {
    return std::any_of(users[name].begin(), users[name].end(), [&](const std::string& id) { return id != container_id && linux::exists(run_dir(id)).value_or(true); });
  };
  for (const auto& name : names) {
    auto volume = load_volume(name);
    if (!volume.ok() || !is_file_system(*volume) || is_used_elsewhere(name)) continue;
    auto unmounted = unmount_volume(*volume);
    if (!unmounted.ok()) log_error("clear away", concat("container ", container_id.substr(0, 12)), unmounted.error());
  }
}

Result<VolumeInfo> LocalEngine::load_volume(const std::string& name) {
  auto entry = store_->get(volume_key(name));
  if (!entry.ok() && entry.error().kind() == ErrorKind::not_found)
    return Error(ErrorKind::not_found, concat("get ", name, ": no such volume"));
  if (!entry.ok()) return std::move(entry).error();
  auto volume = TRY(parse_volume(entry->value), concat("volume ", name));
  volume.mountpoint = volume_dir(name) + "/_data";
  return volume;
}

std::map<std::string, std::vector<std::string>> LocalEngine::volume_users() {
  std::map<std::string, std::vector<std::string>> users;
  for (const auto& container : registry_.all())
    for (const auto& point : container->snapshot()->info.mounts)
      if (point.type == MountType::volume) users[point.name].push_back(container->id);
  return users;
}

Status LocalEngine::make_volume_dir(const std::string& name, const std::string& subdirectory) const {
  const std::string dir = volume_dir(name);
  TRY(linux::make_dirs(dir, 0700), concat("create volume ", name));  // 0700: a setuid file of a container must stay out of reach
  TRY(linux::make_dirs(dir + "/" + subdirectory, 0755), concat("create volume ", name));
  return {};
}

Status LocalEngine::limit_volume(const VolumeSpec& spec) {
  auto size = spec.options.find("size");
  if (size == spec.options.end()) return {};
  return size_limits_.limit({volume_dir(spec.name) + "/_data"}, TRY_PLAIN(parse_size_limit(size->second)));
}

Result<VolumeInfo> LocalEngine::create_volume(const Caller& caller, const VolumeSpec& spec) {
  TRY_PLAIN(permit_verb(caller, Verb::volume_create, spec.name));
  VolumeInfo volume;
  volume.anonymous = spec.name.empty();
  volume.name = volume.anonymous ? random_id() : spec.name;
  volume.labels = spec.labels;
  TRY_PLAIN(put_in_scope_of(caller, Verb::volume_create, volume.name, volume.labels));
  if (auto judged = check_volume(role_of(caller), spec.options); !judged.ok()) return refuse(caller, Verb::volume_create, volume.name, "", judged.error().text()).error();
  TRY(check_volume_spec(spec), concat("create ", volume.name));
  std::unique_lock uses(uses_mutex_);
  auto existing = load_volume(volume.name);
  if (existing.ok()) {
    TRY_PLAIN(permit_volume(caller, Verb::volume_inspect, *existing));
    return existing;
  }
  if (existing.error().kind() != ErrorKind::not_found) return existing;
  note(caller, Verb::volume_create, volume.name, "");
  volume.created = now_ns();
  volume.options = spec.options;
  if (volume.anonymous) volume.labels.emplace("com.docker.volume.anonymous", "");
  TRY_PLAIN(make_volume_dir(volume.name, "_data"));
  VolumeSpec limited = spec;
  limited.name = volume.name;
  if (Status status = limit_volume(limited); !status.ok()) {
    ignore(linux::remove_tree(volume_dir(volume.name)));  // the same
    return std::move(status).error().in(concat("create ", volume.name));
  }
  state::Transaction transaction;
  transaction.require_absent(volume_key(volume.name)).put(volume_key(volume.name), to_text(volume));
  auto committed = store_->commit(transaction);
  if (!committed.ok()) {
    ignore(SizeLimits::remove_tree(volume_dir(volume.name), "_data"));  // the next start removes it too
    return std::move(committed).error().in(concat("create volume ", volume.name));
  }
  volume.mountpoint = volume_dir(volume.name) + "/_data";
  publish_object("volume", "create", volume.name, {{"driver", "local"}}, volume.labels);
  return volume;
}

Result<std::vector<VolumeInfo>> LocalEngine::list_volumes(const Caller& caller, bool with_size) {
  TRY_PLAIN(authorize(caller, Verb::volume_list, ""));
  auto entries = TRY(store_->list(volume_key("")), "list volumes");
  auto users = volume_users();
  std::vector<VolumeInfo> volumes;
  for (const auto& entry : entries) {
    auto parsed = parse_volume(entry.value);
    if (!parsed.ok()) continue;  // recover() has reported it
    if (!sees(caller, *parsed)) continue;
    parsed->mountpoint = volume_dir(parsed->name) + "/_data";
    parsed->used_by = users[parsed->name];
    if (with_size) {
      auto usage = linux::tree_usage(parsed->mountpoint);
      if (usage.ok()) parsed->size_bytes = static_cast<std::int64_t>(usage->size_bytes);
    }
    volumes.push_back(std::move(*parsed));
  }
  return volumes;
}

Result<VolumeInfo> LocalEngine::inspect_volume(const Caller& caller, const std::string& name) {
  TRY_PLAIN(permit_verb(caller, Verb::volume_inspect, name));
  auto volume = TRY_PLAIN(load_volume(name));
  TRY_PLAIN(permit_volume(caller, Verb::volume_inspect, volume));
  volume.used_by = volume_users()[name];
  return volume;
}

Status LocalEngine::remove_volume_locked(const std::string& name) {
  auto volume = load_volume(name);
  // The record goes first: a folder without a record is removed at the next start, a record without a folder would be a lie.
  state::Transaction transaction;
  transaction.erase(volume_key(name));
  transaction.frees = true;
  TRY(store_->commit(transaction), concat("remove volume ", name));
  crash_point("volume:erased");
  // No container uses it; what a crash left mounted must go first, or the removal would meet it.
  if (volume.ok()) TRY(unmount_volume(*volume), concat("remove volume ", name));
  TRY(SizeLimits::remove_tree(volume_dir(name), "_data"), concat("remove volume ", name));
  publish_object("volume", "destroy", name, {{"driver", "local"}}, volume.ok() ? volume->labels : policy::Labels());
  return {};
}

Status LocalEngine::remove_volume(const Caller& caller, const std::string& name, bool force) {
  TRY_PLAIN(permit_verb(caller, Verb::volume_remove, name));
  std::unique_lock uses(uses_mutex_);
  auto volume = load_volume(name);
  if (!volume.ok() && volume.error().kind() == ErrorKind::not_found && force) return {};
  if (!volume.ok()) return std::move(volume).error();
  TRY_PLAIN(permit_volume(caller, Verb::volume_remove, *volume));
  auto users = volume_users()[name];
  if (!users.empty()) return Error(ErrorKind::conflict, concat("remove ", name, ": volume is in use - [", join(users, ", "), "]"));
  return remove_volume_locked(name);
}

Result<PruneResult> LocalEngine::prune_volumes(const Caller& caller, const VolumeFilter& filter) {
  TRY_PLAIN(authorize(caller, Verb::volume_prune, ""));
  auto candidates = TRY_PLAIN(list_volumes(caller, true));
  PruneResult result;
  for (const auto& volume : candidates) {
    if (!volume.used_by.empty() || (filter && !filter(volume))) continue;
    std::unique_lock uses(uses_mutex_);
    if (!volume_users()[volume.name].empty()) continue;
    TRY_PLAIN(remove_volume_locked(volume.name));
    result.deleted.push_back(volume.name);
    result.reclaimed_bytes += static_cast<std::uint64_t>(volume.size_bytes.value_or(0));
  }
  return result;
}

}  // namespace caisson::engine
