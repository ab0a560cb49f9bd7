// Docker's rules for health checks (moby, daemon/health.go, read for its behaviour and compared with dockerd 20.10 in tests/e2e/test_health.py).
#include "engine/health.hpp"

#include <algorithm>

#include "base/strings.hpp"

namespace caisson::engine {

namespace {
constexpr std::int64_t second_ns = 1'000'000'000;
constexpr std::int64_t default_interval_ns = 30 * second_ns;
constexpr std::int64_t default_timeout_ns = 30 * second_ns;
constexpr std::int64_t default_start_interval_ns = 5 * second_ns;
constexpr std::int64_t default_retries = 3;
constexpr std::size_t log_limit = 5;

/// As Go writes durations: "1m30s", "1.5s", "250ms"; what people's scripts see in docker's text.
std::string duration_text(std::int64_t ns) {
  auto with_fraction = [](std::int64_t value, std::int64_t unit, int digits) {
    std::string fraction = concat(value % unit);
    fraction.insert(0, static_cast<std::size_t>(digits) - fraction.size(), '0');
    while (!fraction.empty() && fraction.back() == '0') fraction.pop_back();
    return fraction.empty() ? concat(value / unit) : concat(value / unit, ".", fraction);
  };
  if (ns < 1'000'000) return with_fraction(ns, 1000, 3) + "µs";
  if (ns < second_ns) return with_fraction(ns, 1'000'000, 6) + "ms";
  const std::int64_t minutes = ns / second_ns / 60;
  std::string text = with_fraction(ns - minutes * 60 * second_ns, second_ns, 9) + "s";
  if (minutes > 0) text = concat(minutes % 60, "m", text);
  return minutes >= 60 ? concat(minutes / 60, "h", text) : text;
}

std::int64_t or_default(std::int64_t value, std::int64_t fallback) { return value == 0 ? fallback : value; }
}  // namespace

std::string_view to_string(HealthStatus status) {
  switch (status) {
    case HealthStatus::none: return "none";
    case HealthStatus::starting: return "starting";
    case HealthStatus::healthy: return "healthy";
    case HealthStatus::unhealthy: return "unhealthy";
  }
  return "none";
}

std::optional<image::Healthcheck> merge_healthcheck(const std::optional<image::Healthcheck>& asked, const std::optional<image::Healthcheck>& from_image) {
  if (!asked) return from_image;
  if (!from_image) return asked;
  auto merged = *asked;
  if (merged.test.empty()) merged.test = from_image->test;
  merged.interval_ns = or_default(merged.interval_ns, from_image->interval_ns);
  merged.timeout_ns = or_default(merged.timeout_ns, from_image->timeout_ns);
  merged.start_period_ns = or_default(merged.start_period_ns, from_image->start_period_ns);
  merged.start_interval_ns = or_default(merged.start_interval_ns, from_image->start_interval_ns);
  merged.retries = or_default(merged.retries, from_image->retries);
  return merged;
}

std::vector<std::string> probe_command(const ContainerSpec& spec) {
  if (!spec.healthcheck || spec.healthcheck->test.empty()) return {};
  const auto& test = spec.healthcheck->test;
  if (test.front() != "CMD" && test.front() != "CMD-SHELL") return {};
  std::vector<std::string> command;
  if (test.front() == "CMD-SHELL") command = spec.shell.empty() ? std::vector<std::string>{"/bin/sh", "-c"} : spec.shell;
  command.insert(command.end(), test.begin() + 1, test.end());
  return command;
}

std::int64_t probe_timeout_ns(const image::Healthcheck& check) { return or_default(check.timeout_ns, default_timeout_ns); }

std::int64_t probe_pause_ns(const image::Healthcheck& check, HealthStatus status, std::int64_t since_start_ns) {
  if (status == HealthStatus::starting && since_start_ns < check.start_period_ns) return or_default(check.start_interval_ns, default_start_interval_ns);
  return or_default(check.interval_ns, default_interval_ns);
}

bool apply_probe(Health& health, const image::Healthcheck& check, ProbeResult result, TimestampNs started_at) {
  const HealthStatus before = health.status;
  if (result.exit_code == 0) {
    health.failing_streak = 0;
    health.status = HealthStatus::healthy;
  } else if (before != HealthStatus::starting || result.start - started_at >= check.start_period_ns) {
    ++health.failing_streak;
    if (health.failing_streak >= (check.retries <= 0 ? default_retries : check.retries)) health.status = HealthStatus::unhealthy;
  }
  health.log.push_back(std::move(result));
  if (health.log.size() > log_limit) health.log.erase(health.log.begin(), health.log.end() - log_limit);
  return health.status != before;
}

void ProbeOutput::append(std::string_view bytes) {
  const auto taken = bytes.substr(0, limit_bytes - text_.size());
  text_ += taken;
  if (taken.size() < bytes.size()) is_cut_ = true;
}

std::string timeout_text(std::int64_t timeout_ns, const std::string& output) {
  return concat("Health check exceeded timeout (", duration_text(timeout_ns), ")", output.empty() ? "" : ": ", output);
}

}  // namespace caisson::engine
