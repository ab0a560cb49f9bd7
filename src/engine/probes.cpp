// The engine's side of health checks: a probe is an exec of the container's own user, and its result changes the container's record.
#include <algorithm>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/local_engine.hpp"

namespace caisson::engine {

void LocalEngine::begin_probes(const Record& record) {
  const auto& info = record.info;
  if (!info.health || info.state != State::running || probe_command(info.spec).empty()) return;
  const TimestampNs now = now_ns();
  std::int64_t pause = probe_pause_ns(*info.spec.healthcheck, info.health->status, now - info.started_at);
  // After a restart of the daemon the rhythm goes on where it was.
  if (!info.health->log.empty() && info.health->log.back().start >= info.started_at) pause = std::clamp<std::int64_t>(info.health->log.back().end + pause - now, 0, pause);
  auto watched = health_checks_.watch(info.id, pause);
  if (!watched.ok()) log_error("health check", concat("container ", info.id), watched.error());
}

Result<std::int64_t> LocalEngine::begin_probe(const std::string& container_id, const std::string& exec_id, UniqueFd client) {
  auto container = registry_.find_id(container_id);
  if (!container) return Error(ErrorKind::not_found, concat("No such container: ", container_id));
  auto record = container->snapshot();
  ExecInfo exec;
  exec.id = exec_id;
  exec.container_id = container_id;
  exec.started = exec.running = true;
  exec.spec.cmd = probe_command(record->info.spec);
  exec.spec.attach_stdout = exec.spec.attach_stderr = true;
  const std::string words = join(exec.spec.cmd, " ");
  execs_.add(exec);
  publish(*record, concat("exec_create: ", words), {{"execID", exec_id}});
  publish(*record, concat("exec_start: ", words), {{"execID", exec_id}});
  const std::int64_t timeout_ns = probe_timeout_ns(*record->info.spec.healthcheck);
  auto launch = [&]() -> Result<pid_t> {
    auto request = TRY_PLAIN(plan_exec(*record, exec));
    request.timeout_ms = std::max<std::int64_t>(1, timeout_ns / 1'000'000);
    auto& attached = request.attached.emplace();
    attached.client = std::move(client);
    attached.with_stdout = attached.with_stderr = true;
    attached.framed = false;
    return runtime_->exec(container_id, std::move(request));
  };
  auto pid = launch();
  if (!pid.ok()) {
    constexpr int exit_not_executable = 126;
    execs_.finished(exec_id, exit_not_executable);
    return std::move(pid).error();
  }
  execs_.started(exec_id, *pid);
  return timeout_ns;
}

std::optional<std::int64_t> LocalEngine::end_probe(const std::string& container_id, ProbeResult result) {
  auto container = registry_.find_id(container_id);
  if (!container) return std::nullopt;
  auto before = container->snapshot();
  const auto& info = before->info;
  if (info.state != State::running || !info.health || !info.spec.healthcheck || result.start < info.started_at) return std::nullopt;  // of an earlier run
  Health next = *info.health;
  const bool changed = apply_probe(next, *info.spec.healthcheck, std::move(result), info.started_at);
  const bool is_news = changed || next.failing_streak != info.health->failing_streak;
  auto edit = [&](Record& record) {
    if (record.info.state == State::running && record.info.started_at == info.started_at) record.info.health = next;
  };
  // One more success is not worth a commit; the next change takes it along.
  if (!is_news) {
    container->change_in_memory(edit);
  } else if (auto saved = container->change(edit); !saved.ok() && saved.error().kind() != ErrorKind::not_found) {
    log_error("health check", concat("container ", container_id), saved.error());
  }
  if (changed) publish(*container->snapshot(), concat("health_status: ", to_string(next.status)));
  return probe_pause_ns(*info.spec.healthcheck, next.status, now_ns() - info.started_at);
}

}  // namespace caisson::engine
