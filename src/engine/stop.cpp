// stop, kill, restart, pause, unpause, remove, wait: the verbs that end a container or wait for its end.
#include <algorithm>
#include <limits>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/liveness.hpp"
#include "engine/local_engine.hpp"
#include "engine/signals.hpp"
#include "linux/event.hpp"

namespace caisson::engine {

namespace {
constexpr std::int64_t default_stop_timeout_s = 10;
constexpr int kill_timeout_ms = 30'000;  // a process in uninterruptible sleep may outlive KILL for that long

std::string short_id(const Container& container) { return container.id.substr(0, 12); }

Error not_running(const Container& container) {
  return {ErrorKind::conflict, concat("container ", container.id, " is not running")};
}

/// For a verb that ends a container. Errors: timeout, unavailable (the engine is ending, and the container goes on).
Status wait_for_end(WaitState& exit, Cancel ending, int timeout_ms) {
  auto waited = exit.wait(ending, timeout_ms);
  if (waited.ok()) return {};
  if (waited.error().kind() == ErrorKind::timeout && linux::wait_readable(ending.fd, 0).value_or(false))
    return Error(ErrorKind::unavailable, "the engine is ending, and the container had not ended yet");
  return std::move(waited).error();
}

class RegisteredWait final : public Waiter {
 public:
  explicit RegisteredWait(std::shared_ptr<WaitState> state) : state_(std::move(state)) {}
  Result<WaitResult> wait(Cancel cancel) override { return state_->wait(cancel, -1); }

 private:
  std::shared_ptr<WaitState> state_;  // shared with the container that completes it
};
}  // namespace

Result<bool> LocalEngine::mark_stopped_by_user(Container& container) {
  // In memory: the exit that follows saves it, and plans no restart (handle_exit looks again under the record's lock).
  container.change_in_memory([](Record& record) { record.info.stopped_by_user = true; });
  // One that was planned before is called off here and now; one that is under way is waited for, and clears the mark.
  if (container.snapshot()->info.state != State::restarting) return false;
  std::lock_guard lock(container.operation);
  container.change_in_memory([](Record& record) { record.info.stopped_by_user = true; });
  if (container.snapshot()->info.state != State::restarting) return false;
  bool called_off = false;
  auto saved = container.change([&](Record& next) {
    called_off = next.info.state == State::restarting;
    if (called_off) next.info.state = State::exited;
  });
  if (called_off) container.complete_waiters({WaitCondition::not_running}, {container.snapshot()->info.exit_code, ""});
  TRY_PLAIN(std::move(saved));
  return called_off;
}

Status LocalEngine::signal_and_wait(const Pointer& container, int signal, int timeout_ms) {
  auto waiter = TRY_PLAIN(container->add_waiter(WaitCondition::not_running));  // before the signal, or the exit might be missed
  auto sent = runtime_->kill(container->id, signal);
  bool gone = !sent.ok() && (sent.error().kind() == ErrorKind::conflict || sent.error().kind() == ErrorKind::not_found);
  if (!sent.ok() && !gone) return sent;
  if (!gone) publish(*container->snapshot(), "kill", {{"signal", concat(signal)}});
  return wait_for_end(*waiter, options_.ending, timeout_ms);
}

Status LocalEngine::kill_and_wait(const Pointer& container) {
  auto waiter = TRY_PLAIN(container->add_waiter(WaitCondition::not_running));
  auto sent = runtime_->kill(container->id, signal_kill);
  if (!sent.ok() && sent.error().kind() != ErrorKind::conflict && sent.error().kind() != ErrorKind::not_found) return sent;
  if (sent.ok()) publish(*container->snapshot(), "kill", {{"signal", concat(signal_kill)}});
  if (container->snapshot()->info.state == State::paused) ignore(runtime_->resume(container->id));  // v1 and v2 freezers hold back even KILL
  auto ended = wait_for_end(*waiter, options_.ending, kill_timeout_ms);
  if (ended.ok() || ended.error().kind() != ErrorKind::timeout) return ended;
  return Error(ErrorKind::timeout, concat("container ", short_id(*container), " did not end within 30 s of SIGKILL"))
      .with_hint("one of its processes hangs in the kernel; see the state D in `caisson top`");
}

Status LocalEngine::stop_container(const Pointer& container, const StopOptions& options) {
  auto record = container->snapshot();
  const auto& spec = record->info.spec;
  std::string name = !options.signal.empty() ? options.signal : spec.stop_signal;
  int signal = name.empty() ? signal_term : TRY(parse_signal(name), "stop");
  std::int64_t timeout_s = options.timeout_s.value_or(spec.stop_timeout_s.value_or(default_stop_timeout_s));
  if (TRY_PLAIN(mark_stopped_by_user(*container))) return {};
  if (record->info.state == State::paused) {
    // It must run again to see the signal; docker leaves it frozen until the timeout and then kills it.
    auto resumed = runtime_->resume(container->id);
    if (!resumed.ok() && resumed.error().kind() != ErrorKind::conflict && resumed.error().kind() != ErrorKind::not_found) return resumed;
  }
  constexpr std::int64_t longest_s = std::numeric_limits<int>::max() / 1000;
  int timeout_ms = timeout_s < 0 || timeout_s > longest_s ? -1 : static_cast<int>(timeout_s * 1000);
  auto ended = signal_and_wait(container, signal, timeout_ms);
  if (ended.ok()) return {};
  if (ended.error().kind() != ErrorKind::timeout) return ended;
  return kill_and_wait(container);
}

Result<Engine::Changed> LocalEngine::stop(const Caller& caller, const std::string& name, const StopOptions& options) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_stop, name));
  auto state = container->snapshot()->info.state;
  if (!is_alive(state) && state != State::restarting) return Changed::already;
  TRY(stop_container(container, options), concat("stop container ", short_id(*container)));
  publish(*container->snapshot(), "stop");
  return Changed::yes;
}

Status LocalEngine::restart(const Caller& caller, const std::string& name, const StopOptions& options) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_restart, name));
  struct Flag {
    explicit Flag(std::atomic<bool>& its_flag) : flag(its_flag) { flag = true; }
    ~Flag() { flag = false; }
    std::atomic<bool>& flag;
  } restarting(container->restarting_by_user);
  auto state = container->snapshot()->info.state;
  if (is_alive(state) || state == State::restarting)
    TRY(stop_container(container, options), concat("restart container ", short_id(*container)));
  std::lock_guard lock(container->operation);
  if (container->removed) return Error(ErrorKind::not_found, concat("No such container: ", name));
  if (is_alive(container->snapshot()->info.state)) return {};  // somebody else has started it meanwhile
  container->forget_restarts();
  TRY(start_locked(container), concat("restart container ", short_id(*container)));
  publish(*container->snapshot(), "restart");
  return {};
}

Status LocalEngine::kill(const Caller& caller, const std::string& name, const std::string& signal) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_kill, name));
  int number = signal.empty() ? signal_kill : TRY_PLAIN(parse_signal(signal));
  auto record = container->snapshot();
  if (!is_alive(record->info.state)) return not_running(*container).in(concat("cannot kill container: ", name));
  const auto& stop_signal = record->info.spec.stop_signal;
  int own_stop_signal = stop_signal.empty() ? signal_term : parse_signal(stop_signal).value_or(signal_term);
  if (number == signal_kill || number == own_stop_signal) {
    if (TRY_PLAIN(mark_stopped_by_user(*container))) return {};  // it ended by itself a moment ago, and now stays so
  }
  if (number == signal_kill) {
    TRY(kill_and_wait(container), concat("kill container ", short_id(*container)));
  } else {
    auto sent = runtime_->kill(container->id, number);
    if (!sent.ok() && (sent.error().kind() == ErrorKind::conflict || sent.error().kind() == ErrorKind::not_found))
      return not_running(*container).in(concat("cannot kill container: ", name));
    if (!sent.ok()) return std::move(sent).error().in(concat("kill container ", short_id(*container)));
    publish(*record, "kill", {{"signal", concat(number)}});
  }
  return {};
}

Status LocalEngine::pause(const Caller& caller, const std::string& name) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_pause, name));
  std::lock_guard lock(container->operation);
  auto state = container->snapshot()->info.state;
  if (state == State::paused) return Error(ErrorKind::conflict, concat("container ", container->id, " is already paused"));
  if (state != State::running) return not_running(*container);
  TRY(runtime_->pause(container->id), concat("pause container ", short_id(*container)));
  TRY_PLAIN(container->change([](Record& record) {
    if (record.info.state == State::running) record.info.state = State::paused;  // unless it ended meanwhile
    if (record.info.health) record.info.health->status = HealthStatus::unhealthy;  // as docker has it, until the next probe
  }));
  health_checks_.forget(container->id);
  publish(*container->snapshot(), "pause");
  return {};
}

Status LocalEngine::unpause(const Caller& caller, const std::string& name) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_unpause, name));
  std::lock_guard lock(container->operation);
  if (container->snapshot()->info.state != State::paused)
    return Error(ErrorKind::conflict, concat("container ", container->id, " is not paused"));
  TRY(runtime_->resume(container->id), concat("unpause container ", short_id(*container)));
  TRY_PLAIN(container->change([](Record& record) {
    if (record.info.state == State::paused) record.info.state = State::running;
  }));
  begin_probes(*container->snapshot());
  publish(*container->snapshot(), "unpause");
  return {};
}

Status LocalEngine::remove(const Caller& caller, const std::string& name, const RemoveOptions& options) {
  if (options.link) {
    TRY_PLAIN(authorize(caller, Verb::container_unlink, name));
    return remove_link(name);
  }
  auto container = TRY_PLAIN(find_for(caller, Verb::container_remove, name));
  auto record = container->snapshot();
  if (is_alive(record->info.state) || record->info.state == State::restarting) {
    if (!options.force)
      return Error(ErrorKind::conflict, concat("cannot remove container \"/", record->info.name, "\": container is ", to_string(record->info.state),
                                               ": stop the container before removing or force remove"));
    const bool called_off = TRY_PLAIN(mark_stopped_by_user(*container));
    if (!called_off && is_alive(container->snapshot()->info.state)) TRY(kill_and_wait(container), concat("remove container ", short_id(*container)));
  }
  std::unique_lock lock(container->operation);
  if (container->removed) return {};  // --rm was quicker
  if (is_alive(container->snapshot()->info.state)) {
    if (!options.force) return Error(ErrorKind::conflict, concat("cannot remove container \"/", record->info.name, "\": it was started meanwhile"));
    TRY(kill_and_wait(container), concat("remove container ", short_id(*container)));
    if (container->removed) return {};
  }
  auto garbage = TRY_PLAIN(forget(container, [](Record&) {}, options.volumes));
  return collect_garbage(garbage);
}

Result<std::unique_ptr<Waiter>> LocalEngine::begin_wait(const Caller& caller, const std::string& name, WaitCondition condition) {
  auto container = find_for(caller, Verb::container_wait, name);
  if (!container.ok() && container.error().kind() == ErrorKind::not_found) {
    auto last = gone(name);
    if (!last) return std::move(container).error();
    TRY_PLAIN(permit_container(caller, Verb::container_wait, *last));
    auto state = TRY_PLAIN(WaitState::create(condition));
    state->complete({last->info.exit_code, ""});
    return std::unique_ptr<Waiter>(std::make_unique<RegisteredWait>(std::move(state)));
  }
  auto state = TRY_PLAIN(TRY_PLAIN(std::move(container))->add_waiter(condition));
  return std::unique_ptr<Waiter>(std::make_unique<RegisteredWait>(std::move(state)));
}

void LocalEngine::remember_gone(std::shared_ptr<const Record> last) {
  constexpr std::size_t most = 256;
  std::lock_guard lock(gone_mutex_);
  gone_.push_back(std::move(last));
  if (gone_.size() > most) gone_.pop_front();
}

std::shared_ptr<const Record> LocalEngine::gone(std::string_view id) {
  std::lock_guard lock(gone_mutex_);
  auto found = std::find_if(gone_.begin(), gone_.end(), [&](const auto& last) { return last->info.id == id; });
  return found == gone_.end() ? nullptr : *found;
}

}  // namespace caisson::engine
