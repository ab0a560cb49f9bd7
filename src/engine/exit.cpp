// The end of a container: told to everybody first, cleared away afterwards, in the background.
#include <algorithm>
#include <chrono>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/local_engine.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {

namespace {
constexpr std::int64_t first_delay_ms = 100;       // docker's back-off: doubled at each restart,
constexpr std::int64_t longest_delay_ms = 60'000;  // up to a minute,
constexpr std::int64_t calm_run_ns = 10'000'000'000;  // and reset by a run of ten seconds

std::string object_of(const std::string& id) { return concat("container ", id); }

void record_exit(Record& record, const runtime::ExitStatus& status) {
  auto& info = record.info;
  info.state = State::exited;
  info.exit_code = status.code;
  info.exit_status_lost = status.lost;
  info.oom_killed = info.oom_killed || status.oom_killed;
  info.finished_at = status.finished_at != 0 ? status.finished_at : now_ns();
  info.log_drops += status.log_drops;
  info.pid = 0;
  info.endpoints.clear();
  if (info.health) info.health->status = HealthStatus::unhealthy;  // docker's word for one that is not looked at any more
  if (status.lost && info.error.empty()) info.error = "exit status lost: nobody saw how the program ended";
}
}  // namespace

void LocalEngine::container_exited(const std::string& id, const runtime::ExitStatus& status) {
  auto container = registry_.find_id(id);
  if (!container || container->keep_exit(status)) return;
  handle_exit(container, status);
}

void LocalEngine::container_oom(const std::string& id) {
  auto container = registry_.find_id(id);
  if (!container) return;
  container->change_in_memory([](Record& record) { record.info.oom_killed = true; });  // saved with the exit; a survivor shows it until then
  publish(*container->snapshot(), "oom");
}

void LocalEngine::monitor_replaced(const std::string& id, const Status& outcome) {
  if (outcome.ok()) log(LogLevel::warning, "monitor", object_of(id), "its monitor had died; a new one took over");
  else log_error("monitor", object_of(id), outcome.error());
}

void LocalEngine::client_detached(const std::string& id) {
  if (auto container = registry_.find_id(id)) publish(*container->snapshot(), "detach");
}

bool LocalEngine::should_restart(const Container& container, const Record& record, const runtime::ExitStatus& status) {
  if (record.info.stopped_by_user || container.restarting_by_user) return false;
  const auto& policy = record.info.spec.restart;
  switch (policy.condition) {
    case RestartCondition::no: return false;
    case RestartCondition::always:
    case RestartCondition::unless_stopped: return true;
    case RestartCondition::on_failure:
      return status.code != 0 && (policy.maximum_retry_count == 0 || record.info.restart_count < policy.maximum_retry_count);
  }
  return false;
}

void LocalEngine::handle_exit(const Pointer& container, const runtime::ExitStatus& status) {
  auto before = container->snapshot();
  if (before->info.state != State::running && before->info.state != State::paused) return;  // told twice, by recovery and by event
  health_checks_.forget(container->id);
  shippers_.end(container->id);
  bool restart = should_restart(*container, *before, status);
  bool remove = before->info.spec.auto_remove && !container->restarting_by_user;
  std::int64_t finished = status.finished_at != 0 ? status.finished_at : now_ns();
  std::int64_t run_ns = std::max<std::int64_t>(0, finished - before->info.started_at);
  if (run_ns >= calm_run_ns) container->restart_delay_ms = 0;
  if (!before->info.endpoints.empty()) {
    std::lock_guard lock(releases_mutex_);
    pending_releases_.insert(container->id);
  }
  auto edit = [&](Record& record) {
    record_exit(record, status);
    restart = restart && !record.info.stopped_by_user;  // a stop may have come since we looked
    if (restart) {
      record.info.state = State::restarting;
      ++record.info.restart_count;
    }
  };
  WaitResult result{status.code, ""};
  std::map<std::string, std::string> attributes = {{"exitCode", concat(status.code)}, {"execDuration", concat(run_ns / 1'000'000'000)}};
  crash_point("exit:reported");
  auto tell = [&](const Record& record) {
    publish(record, "die", attributes);
    publish_endpoints("disconnect", before->info.endpoints, container->id);
  };
  if (remove) {
    tell(*before);
    auto garbage = forget(container, edit);
    if (garbage.ok()) collect_later(std::move(*garbage));
    else log_error("remove", object_of(container->id), garbage.error());
    return;
  }
  container->teardown_pending = true;
  auto saved = container->change(edit, tell);  // whoever sees it stopped may remove it at once: its death is told before that
  if (!saved.ok()) log_error("exit", object_of(container->id), saved.error());
  crash_point("exit:recorded");
  if (restart) container->complete_waiters({WaitCondition::next_exit}, result);
  else container->complete_waiters({WaitCondition::next_exit, WaitCondition::not_running}, result);
  schedule_teardown(container);
  if (restart) schedule_restart(container);
}

namespace {
/// What a daemon that ends could not do any more is in the records; its successor does it.
void say_left_over(bool accepted, std::string_view step, const std::string& container_id) {
  if (!accepted) log(LogLevel::info, step, object_of(container_id), "the daemon is ending: left to its next start");
}
}  // namespace

void LocalEngine::schedule_teardown(const Pointer& container) {
  bool accepted = worker_.post([this, container] {
    std::lock_guard lock(container->operation);
    if (!container->teardown_pending || container->removed) return;
    auto status = teardown_locked(*container);
    if (!status.ok()) log_error("clear away", object_of(container->id), status.error());
  });
  say_left_over(accepted, "clear away", container->id);
}

void LocalEngine::schedule_restart(const Pointer& container) {
  std::int64_t delay = container->restart_delay_ms;
  delay = delay == 0 ? first_delay_ms : std::min(delay * 2, longest_delay_ms);
  container->restart_delay_ms = delay;
  say_left_over(worker_.post_after(delay, [this, container] { restart_by_policy(container, 0); }), "restart", container->id);
}

void LocalEngine::restart_by_policy(const Pointer& container, int looks) {
  // After a reboot what is linked to may come later; dockerd waits for it as long.
  constexpr int most_looks = 50;
  constexpr std::int64_t look_delay_ms = 100;
  const auto links = links_of(container->snapshot()->info.spec);
  const bool must_wait = std::any_of(links.begin(), links.end(), [](const auto& live) { return live.target->info.state == State::restarting; });
  if (must_wait && looks < most_looks) {
    say_left_over(worker_.post_after(look_delay_ms, [this, container, looks] { restart_by_policy(container, looks + 1); }), "restart", container->id);
    return;
  }
  std::lock_guard lock(container->operation);
  if (container->removed || container->snapshot()->info.state != State::restarting) return;  // stopped or removed meanwhile
  auto status = start_locked(container);
  if (status.ok()) return;
  log_error("restart", object_of(container->id), status.error());
  container->complete_waiters({WaitCondition::not_running}, {container->snapshot()->info.exit_code, status.error().text()});
}

Status LocalEngine::release_network(const std::string& id) {
  forget_names(id);  // its sockets would keep the namespace and its interfaces alive
  auto status = network_->disconnect(id);
  std::lock_guard lock(releases_mutex_);
  pending_releases_.erase(id);
  releases_changed_.notify_all();
  return status;
}

bool LocalEngine::wait_for_released_ports() {
  constexpr std::chrono::seconds longest(5);
  std::unique_lock lock(releases_mutex_);
  if (pending_releases_.empty()) return false;
  return releases_changed_.wait_for(lock, longest, [&] { return pending_releases_.empty(); });
}

Status LocalEngine::teardown_locked(Container& container) {
  auto record = container.snapshot();
  // The exit status also lies in the run folder: the record must hold it before the folder goes.
  TRY(container.flush(), "clear away");
  TRY(release_network(container.id), "clear away the network");
  TRY(runtime_->remove(container.id, run_dir(container.id), record->cgroups_path), "clear away");
  TRY(linux::remove_tree(run_dir(container.id)), "clear away the run folder");
  crash_point("teardown:run_dir_gone");
  release_volumes(container.id, volume_names(record->info));
  // The stored record still names the range; that only keeps it from being given away until the next change is saved.
  std::uint32_t held = record->info.first_host_id;
  if (held != 0) container.change_in_memory([](Record& next) { next.info.first_host_id = 0; });
  ranges_.release(held);
  container.teardown_pending = false;
  return {};
}

Result<Garbage> LocalEngine::forget(const Pointer& container, const std::function<void(Record&)>& last_edit, bool with_volumes) {
  Garbage garbage;
  garbage.id = container->id;
  auto before = container->snapshot();
  bool has_anonymous = std::any_of(before->info.mounts.begin(), before->info.mounts.end(), [](const MountPoint& point) { return point.anonymous; });
  auto users = has_anonymous ? volume_users() : std::map<std::string, std::vector<std::string>>{};
  auto erased = container->erase(last_edit, [&](const Record& record, state::Transaction& transaction) {
    garbage.cgroups_path = record.cgroups_path;
    garbage.first_host_id = record.info.first_host_id;
    // Records of its anonymous volumes go in the same moment; their folders are garbage then.
    garbage.volumes = volume_names(record.info);
    for (const auto& point : record.info.mounts) {
      if (!with_volumes || !point.anonymous || users[point.name].size() > 1) continue;
      garbage.anonymous_volumes.push_back(point.name);
      transaction.erase("volume/" + point.name);
    }
    transaction.put(garbage_key(container->id), to_text(garbage));
  });
  if (!erased.ok() && erased.error().kind() == ErrorKind::not_found) return std::move(erased).error();
  if (!erased.ok()) log_error("remove", object_of(container->id), erased.error());  // the next start of the daemon finds it half gone
  auto last = container->snapshot();
  if (last->info.spec.auto_remove) remember_gone(last);  // ahead of its end in the registry: whoever asks finds the one or the other
  registry_.remove(container->id, last->info.name);
  execs_.forget_container(container->id);
  pool_.forget(container->id);
  refusals_.forget(container->id);
  container->take_clients();
  crash_point("remove:erased");
  // That it went well is what they are told; why it did not start, whoever asked for the start has heard (docker's client prints both else).
  container->complete_waiters({WaitCondition::next_exit, WaitCondition::not_running, WaitCondition::removed}, {last->info.exit_code, ""});
  publish(*last, "destroy");
  for (const auto& name : garbage.anonymous_volumes) publish_object("volume", "destroy", name, {{"driver", "local"}});
  return garbage;
}

Status LocalEngine::collect_garbage(const Garbage& garbage) {
  TRY(release_network(garbage.id), "clear away the network");
  TRY(runtime_->remove(garbage.id, run_dir(garbage.id), garbage.cgroups_path), "clear away");
  TRY(linux::remove_tree(run_dir(garbage.id)), "clear away the run folder");
  release_volumes(garbage.id, garbage.volumes);
  constexpr int last_records_ms = 2000;
  shippers_.forget(garbage.id, last_records_ms);
  compressor_.forget(log_file_of(garbage.id));
  TRY(SizeLimits::remove_tree(container_dir(garbage.id), "upper"), "clear away the container's folder");
  ranges_.release(garbage.first_host_id);
  for (const auto& name : garbage.anonymous_volumes) TRY(SizeLimits::remove_tree(volume_dir(name), "_data"), concat("remove volume ", name));
  crash_point("remove:collected");
  state::Transaction transaction;
  transaction.erase(garbage_key(garbage.id));
  transaction.frees = true;
  TRY(store_->commit(transaction), "clear away");
  return {};
}

void LocalEngine::collect_later(Garbage garbage) {
  std::string id = garbage.id;
  bool accepted = worker_.post([this, garbage = std::move(garbage)] {
    auto status = collect_garbage(garbage);
    if (!status.ok()) log_error("clear away", object_of(garbage.id), status.error());
  });
  say_left_over(accepted, "clear away", id);
}

}  // namespace caisson::engine
