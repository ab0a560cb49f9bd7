// recover: what an earlier daemon left is found again, finished or cleared away, and said. Nothing is served before it has ended.
#include <algorithm>
#include <atomic>
#include <set>
#include <thread>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/capabilities.hpp"
#include "engine/liveness.hpp"
#include "engine/local_engine.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {

namespace {
constexpr int exit_code_unknown = 255;

bool was_meant_to_run(State state) { return is_alive(state) || state == State::restarting; }

std::string describe(const Record& record) { return concat("container ", record.info.id.substr(0, 12), " (", record.info.name, ")"); }

runtime::ExitStatus lost_exit() {
  runtime::ExitStatus status;
  status.code = exit_code_unknown;
  status.lost = true;
  status.finished_at = now_ns();
  return status;
}

/// A container that had ended before the host went down: docker starts it with its daemon when the policy says so, which here is once per boot.
bool starts_at_boot(const Record& record, const std::string& boot_id) {
  const auto& info = record.info;
  if (info.state != State::exited || info.started_at == 0 || record.boot_id == boot_id) return false;
  const auto& policy = info.spec.restart;
  switch (policy.condition) {
    case RestartCondition::no: return false;
    case RestartCondition::always: return true;
    case RestartCondition::unless_stopped: return !info.stopped_by_user;
    case RestartCondition::on_failure:
      return info.exit_code != 0 && !info.stopped_by_user && (policy.maximum_retry_count == 0 || info.restart_count < policy.maximum_retry_count);
  }
  return false;
}

/// What the runtime needs to know again of a container that runs already: namespaces and profile for execs, cgroup, terminal. The user and
/// the devices of its start are not asked for again, because the image may be damaged meanwhile.
runtime::Spec spec_for_recovery(const Record& record, linux::IdMap id_map) {
  const auto& spec = record.info.spec;
  SpecInput input{.info = record.info};
  input.id_map = std::move(id_map);
  input.cgroups_path = record.cgroups_path;
  auto capabilities = resolve_capabilities(spec.cap_add, spec.cap_drop, spec.privileged);
  if (capabilities.ok())
    if (auto profile = LocalEngine::seccomp_of(spec, *capabilities); profile.ok()) input.seccomp = std::move(*profile);
  if (auto built = build_spec(input); built.ok()) return std::move(*built);
  runtime::Spec least;
  least.cgroups_path = record.cgroups_path;
  least.process.terminal = spec.tty;
  least.process.args = record.info.args;
  least.id_map = input.id_map;
  return least;
}

std::set<std::string> names_in(const std::string& dir) {
  std::set<std::string> names;
  auto entries = linux::list_dir(dir);
  if (!entries.ok()) return names;
  for (auto& entry : *entries) names.insert(std::move(entry.name));
  return names;
}
}  // namespace

Status LocalEngine::load_records() {
  auto entries = TRY(store_->list("container/"), "read the container records");
  for (const auto& entry : entries) {
    std::string id = entry.key.substr(std::string_view("container/").size());
    auto record = parse_record(entry.value);
    if (record.ok() && record->info.id != id) record = Error(ErrorKind::corrupt, "container record: id: differs from its key");
    if (!record.ok()) {
      note_repair(concat("the record of container ", id.substr(0, 12), " cannot be read and was passed over: ", record.error().text()));
      unreadable_.insert(id);
      continue;
    }
    // The range of a container that has ended was given back in memory; only its next start names a new one.
    if (record->info.state == State::exited || record->info.state == State::dead) record->info.first_host_id = 0;
    ranges_.share(record->info.first_host_id);
    fill_derived(record->info);
    auto reserved = registry_.reserve_name(record->info.name, id);
    if (!reserved.ok()) {
      std::string old_name = record->info.name;
      record->info.name += "_" + id.substr(0, 12);
      note_repair(concat("two containers had the name ", old_name, ": one is now ", record->info.name));
      TRY_PLAIN(registry_.reserve_name(record->info.name, id));
    }
    if (!record->info.spec.links.empty()) has_links_ = true;
    std::string name = record->info.name;
    registry_.add(std::make_shared<Container>(std::move(*record), *store_), name);
  }
  return {};
}

void LocalEngine::recover_exit(const Pointer& container, const runtime::ExitStatus& status, const std::string& why) {
  auto before = container->snapshot();
  bool rebooted = before->boot_id != boot_id_;
  bool restart = should_restart(*container, *before, status) || (rebooted && before->info.spec.restart.condition == RestartCondition::always);
  auto edit = [&](Record& record) {
    record.info.state = restart ? State::restarting : State::exited;
    record.info.exit_code = status.code;
    record.info.exit_status_lost = status.lost;
    record.info.oom_killed = record.info.oom_killed || status.oom_killed;
    record.info.finished_at = status.finished_at;
    record.info.log_drops += status.log_drops;
    record.info.pid = 0;
    if (record.info.health) record.info.health->status = HealthStatus::unhealthy;
    if (!why.empty()) record.info.error = why;
  };
  container->teardown_pending = true;
  if (before->info.spec.auto_remove) {
    auto garbage = forget(container, edit);
    auto collected = garbage.ok() ? collect_garbage(*garbage) : Status(std::move(garbage).error());
    if (!collected.ok()) note_repair(concat(describe(*before), ": not all of it could be cleared away: ", collected.error().text()));
    return;
  }
  auto saved = container->change(edit);
  if (!saved.ok()) log_error("recover", describe(*before), saved.error());
  auto cleared = teardown_locked(*container);
  if (!cleared.ok()) note_repair(concat(describe(*before), ": not all of its last run could be cleared away: ", cleared.error().text()));
  if (restart) schedule_restart(container);
}

void LocalEngine::recover_running(const Pointer& container, const runtime::Recovered& found) {
  auto before = container->snapshot();
  auto start_time = linux::process_start_time(found.pid);
  State state = found.paused ? State::paused : State::running;
  if (before->info.state != state || before->info.pid != found.pid) {
    if (!is_alive(before->info.state)) note_repair(concat(describe(*before), " was running although its start had not been recorded"));
    auto saved = container->change([&](Record& record) {
      record.info.state = state;
      record.info.pid = found.pid;
      record.start_time = start_time.ok() ? *start_time : 0;
      record.boot_id = boot_id_;
      if (record.cgroups_path.empty()) record.cgroups_path = cgroups_path_of(record);
      if (record.info.started_at == 0 || !is_alive(before->info.state)) record.info.started_at = now_ns();
    });
    if (!saved.ok()) log_error("recover", describe(*before), saved.error());
  }
  if (linux::exists(commit_mark(container->id)).value_or(false)) {
    note_repair(concat(describe(*before), " had been paused for a commit that did not get to its end; it goes on"));
    end_commit_pause(container);
  }
  if (found.monitor_replaced) note_repair(concat(describe(*before), ": its monitor had died; a new one took over"));
  begin_probes(*container->snapshot());
  if (auto shipping = begin_shipping(*before, LogShippers::Start::in_background); !shipping.ok()) log_error("log driver", describe(*before), shipping.error());
  for (const auto& exec_id : found.running_execs) {
    ExecInfo exec;
    exec.id = exec_id;
    exec.container_id = container->id;
    exec.started = exec.running = true;
    execs_.add(std::move(exec));
  }
  for (const auto& [exec_id, status] : found.finished_execs) {
    ExecInfo exec;
    exec.id = exec_id;
    exec.container_id = container->id;
    exec.started = true;
    execs_.add(std::move(exec));
    execs_.finished(exec_id, status.code);
  }
}

void LocalEngine::restart_after_boot(const Pointer& container) {
  auto saved = container->change([](Record& record) { record.info.state = State::restarting; });
  if (!saved.ok()) log_error("recover", describe(*container->snapshot()), saved.error());
  schedule_restart(container);
}

void LocalEngine::recover_container(const Pointer& container) {
  auto record = container->snapshot();
  bool expected = was_meant_to_run(record->info.state);
  bool has_run_dir = linux::exists(run_dir(container->id)).value_or(false);
  bool rebooted = expected && record->boot_id != boot_id_;
  if (expected && (rebooted || !has_run_dir)) {
    std::string why = rebooted ? "host rebooted" : "its run folder is gone, and the exit status with it";
    note_repair(concat(describe(*record), ": ", why));
    recover_exit(container, lost_exit(), why);
    return;
  }
  if (!has_run_dir) {
    if (starts_at_boot(*record, boot_id_)) restart_after_boot(container);
    return;
  }

  runtime::RecoverRequest request;
  request.id = container->id;
  request.run_dir = run_dir(container->id);
  request.pid = record->info.pid;
  request.start_time = record->start_time;
  request.spec = spec_for_recovery(*record, ranges_.map_of(record->info.first_host_id));
  if (request.spec.cgroups_path.empty()) request.spec.cgroups_path = cgroups_path_of(*record);
  request.log = log_policy_of(*record);
  container->begin_start();  // an exit that comes now waits until the record says that it ran
  auto found = runtime_->recover(std::move(request));
  if (found.ok() && found->running) {
    recover_running(container, *found);
    if (auto exit = container->finish_start()) handle_exit(container, *exit);
    return;
  }
  container->finish_start();
  if (found.ok() && found->exit) {
    // It ended while no daemon looked: nothing to repair, the monitor kept the status.
    recover_exit(container, *found->exit, "");
  } else if (expected) {
    std::string why = found.ok() ? "exit status lost: nobody saw how the program ended" : found.error().text();
    note_repair(concat(describe(*record), ": ", why));
    recover_exit(container, lost_exit(), why);
  } else {
    note_repair(concat(describe(*record), ": a start that did not get to its end was cleared away"));
    container->teardown_pending = true;
    auto cleared = teardown_locked(*container);
    if (!cleared.ok()) note_repair(concat(describe(*record), ": not all of its last start could be cleared away: ", cleared.error().text()));
  }
}

void LocalEngine::recover_garbage() {
  auto entries = store_->list("garbage/");
  if (!entries.ok()) return note_repair(concat("the list of removed containers cannot be read: ", entries.error().text()));
  for (const auto& entry : *entries) {
    auto garbage = parse_garbage(entry.value);
    if (!garbage.ok()) {
      garbage = Garbage{};
      garbage->id = entry.key.substr(std::string_view("garbage/").size());
      garbage->cgroups_path = cgroup_below(options_.cgroup_parent, garbage->id);
    }
    ranges_.share(garbage->first_host_id);
    auto collected = end_stray(garbage->id, garbage->cgroups_path);
    if (collected.ok()) collected = collect_garbage(*garbage);
    if (collected.ok()) note_repair(concat("the rest of removed container ", garbage->id.substr(0, 12), " was cleared away"));
    else note_repair(concat("removed container ", garbage->id.substr(0, 12), " could not be cleared away: ", collected.error().text()));
  }
}

Status LocalEngine::end_stray(const std::string& id, const std::string& cgroups_path) {
  if (!TRY_PLAIN(linux::exists(run_dir(id)))) return {};
  runtime::RecoverRequest request;
  request.id = id;
  request.run_dir = run_dir(id);
  request.spec.cgroups_path = cgroups_path;
  auto found = runtime_->recover(std::move(request));
  if (found.ok() && found->running) return runtime_->kill_all(id);
  return {};
}

void LocalEngine::remove_stray_run(const std::string& id) {
  // Of a container whose record was damaged: it may still run, and nobody may end it but the user.
  const std::string mark = run_dir(id) + "/kept";
  if (!state_damage_.empty()) ignore(linux::write_file(mark, "its record was damaged\n", 0600));  // without it the next start ends the container
  if (!state_damage_.empty() || linux::exists(mark).value_or(false))
    return note_repair(concat("run folder ", id.substr(0, 12), " has no record any more and was left alone; what runs there must be ended by hand"));
  std::string cgroups_path = cgroup_below(options_.cgroup_parent, id);
  auto status = end_stray(id, cgroups_path);
  if (status.ok()) status = runtime_->remove(id, run_dir(id), cgroups_path);
  if (status.ok()) status = linux::remove_tree(run_dir(id));
  note_repair(status.ok() ? concat("run folder ", id.substr(0, 12), " belonged to no container and was removed")
                          : concat("run folder ", id.substr(0, 12), " belongs to no container: ", status.error().text()));
}

void LocalEngine::remove_stray_folder(const std::string& id) {
  if (state_damage_.empty()) {
    auto status = SizeLimits::remove_tree(container_dir(id), "upper");
    return note_repair(status.ok() ? concat("folder ", id.substr(0, 12), " of a container that was not created to its end was removed")
                                   : concat("folder ", id.substr(0, 12), " belongs to no container: ", status.error().text()));
  }
  // Its record was among the damaged ones: files that a user may want back are never thrown away.
  auto status = linux::make_dirs(options_.root + "/lost", 0700);
  if (status.ok()) status = linux::rename(container_dir(id), options_.root + "/lost/" + id);
  note_repair(status.ok() ? concat("the files of container ", id.substr(0, 12), ", whose record was damaged, are now in ", options_.root, "/lost/", id)
                          : concat("folder ", id.substr(0, 12), " belongs to no container: ", status.error().text()));
}

void LocalEngine::repair_volumes() {
  auto entries = store_->list("volume/");
  if (!entries.ok()) return note_repair(concat("the list of volumes cannot be read: ", entries.error().text()));
  std::set<std::string> known;
  for (const auto& entry : *entries) known.insert(entry.key.substr(std::string_view("volume/").size()));
  auto folders = names_in(options_.root + "/volumes");
  for (const auto& name : folders) {
    if (known.contains(name)) continue;
    if (state_damage_.empty()) {
      auto status = SizeLimits::remove_tree(volume_dir(name), "_data");
      note_repair(status.ok() ? concat("folder of volume ", name, " had no record and was removed")
                              : concat("folder of volume ", name, " has no record: ", status.error().text()));
      continue;
    }
    VolumeInfo volume;
    volume.name = name;
    volume.created = now_ns();
    state::Transaction transaction;
    transaction.require_absent("volume/" + name).put("volume/" + name, to_text(volume));
    auto adopted = store_->commit(transaction);
    note_repair(concat("the record of volume ", name, " was damaged; ", adopted.ok() ? "it has a new one, without labels" : adopted.error().text()));
  }
  for (const auto& name : known) {
    if (folders.contains(name)) continue;
    auto made = make_volume_dir(name, "_data");
    if (auto volume = load_volume(name); made.ok() && volume.ok()) made = limit_volume({.name = name, .driver = {}, .options = volume->options, .labels = {}});
    note_repair(concat("volume ", name, ": its folder was missing; ", made.ok() ? "an empty one was made" : made.error().text()));
  }
  auto users = volume_users();
  for (const auto& name : known) {
    auto volume = load_volume(name);
    if (!volume.ok() || !is_file_system(*volume)) continue;
    const bool is_used = std::any_of(users[name].begin(), users[name].end(), [&](const std::string& id) { return linux::exists(run_dir(id)).value_or(true); });
    if (is_used) continue;
    auto unmounted = unmount_volume(*volume);  // of containers that ended while no daemon looked
    if (!unmounted.ok()) note_repair(concat("volume ", name, ": ", unmounted.error().text()));
  }
}

void LocalEngine::remove_strays() {
  auto is_known = [&](const std::string& id) { return registry_.find_id(id) != nullptr || unreadable_.contains(id); };
  for (const auto& id : names_in(options_.exec_root + "/containers"))
    if (!is_known(id)) remove_stray_run(id);
  for (const auto& id : names_in(options_.root + "/containers"))
    if (!is_known(id)) remove_stray_folder(id);
  repair_volumes();
}

void LocalEngine::recover_networks() {
  std::vector<std::string> live;
  for (const auto& container : registry_.all())
    if (is_alive(container->snapshot()->info.state)) live.push_back(container->id);
  auto repairs = network_->recover(live);
  if (!repairs.ok()) return note_repair(concat("the networks could not be recovered: ", repairs.error().text()));
  for (auto& repair : *repairs) note_repair(std::move(repair));
  auto endpoints = network_->endpoints();
  if (!endpoints.ok()) return note_repair(concat("the endpoints cannot be read: ", endpoints.error().text()));
  for (const auto& [id, endpoint] : *endpoints)
    if (auto container = registry_.find_id(id))
      container->change_in_memory([&endpoint = endpoint](Record& record) { record.info.endpoints.push_back(endpoint); });
}

void LocalEngine::recover_containers() {
  // Most of the time goes into waiting for monitors to answer, so several are asked at once.
  constexpr std::size_t most_threads = 8;
  auto containers = registry_.all();
  std::atomic<std::size_t> next{0};
  auto work = [&] {
    for (std::size_t i = next++; i < containers.size(); i = next++) {
      std::lock_guard lock(containers[i]->operation);
      recover_container(containers[i]);
    }
  };
  std::vector<std::thread> threads;
  for (std::size_t i = 1; i < std::min(most_threads, containers.size()); ++i) threads.emplace_back(work);
  work();
  for (auto& thread : threads) thread.join();
}

Status LocalEngine::recover() {
  std::int64_t began = monotonic_ns();
  auto image_repairs = TRY(images_->recover(), "recover the images");
  for (auto& repair : image_repairs) note_repair(std::move(repair));
  TRY_PLAIN(load_records());
  recover_containers();
  recover_garbage();
  remove_strays();
  recover_networks();
  recover_names();
  auto containers = registry_.all();
  auto running = std::count_if(containers.begin(), containers.end(), [](const auto& container) { return is_alive(container->snapshot()->info.state); });
  log(LogLevel::info, "recover", "",
      concat(containers.size(), " containers, ", running, " running, in ", (monotonic_ns() - began) / 1'000'000, " ms"));
  return {};
}

}  // namespace caisson::engine
