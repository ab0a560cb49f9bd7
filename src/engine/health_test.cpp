// Health checks: docker's rules (pure), and probes of an engine over fakes.
#include "engine/health.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "base/time.hpp"
#include "base/strings.hpp"
#include "engine/fake_parts.hpp"
#include "engine/health_checks.hpp"

namespace caisson::engine {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::int64_t second = 1'000'000'000;
constexpr std::int64_t millisecond = 1'000'000;

image::Healthcheck check_of(std::vector<std::string> test) {
  image::Healthcheck check;
  check.test = std::move(test);
  return check;
}

ProbeResult result_of(int exit_code, TimestampNs start) { return {start, start + 1, exit_code, "output"}; }

TEST(HealthRules, retries_in_a_row_make_it_unhealthy_and_one_success_heals) {
  auto check = check_of({"CMD", "x"});
  check.retries = 2;
  Health health;
  EXPECT_FALSE(apply_probe(health, check, result_of(1, 10), 0));
  EXPECT_EQ(health.status, HealthStatus::starting);
  EXPECT_TRUE(apply_probe(health, check, result_of(1, 20), 0));
  EXPECT_EQ(health.status, HealthStatus::unhealthy);
  EXPECT_EQ(health.failing_streak, 2);
  EXPECT_FALSE(apply_probe(health, check, result_of(1, 30), 0));
  EXPECT_TRUE(apply_probe(health, check, result_of(0, 40), 0));
  EXPECT_EQ(health.status, HealthStatus::healthy);
  EXPECT_EQ(health.failing_streak, 0);
}

TEST(HealthRules, three_retries_are_the_default) {
  Health health;
  auto check = check_of({"CMD", "x"});
  apply_probe(health, check, result_of(-1, 10), 0);
  apply_probe(health, check, result_of(2, 20), 0);
  EXPECT_EQ(health.status, HealthStatus::starting);
  apply_probe(health, check, result_of(1, 30), 0);
  EXPECT_EQ(health.status, HealthStatus::unhealthy);
}

TEST(HealthRules, failures_within_the_start_period_do_not_count_until_the_first_success) {
  auto check = check_of({"CMD", "x"});
  check.retries = 1;
  check.start_period_ns = 10 * second;
  Health health;
  apply_probe(health, check, result_of(1, 5 * second), 0);
  EXPECT_EQ(health.failing_streak, 0);
  EXPECT_EQ(health.status, HealthStatus::starting);
  apply_probe(health, check, result_of(0, 6 * second), 0);
  apply_probe(health, check, result_of(1, 7 * second), 0);
  EXPECT_EQ(health.status, HealthStatus::unhealthy);
}

TEST(HealthRules, the_last_five_results_are_kept) {
  Health health;
  for (int i = 0; i < 8; ++i) apply_probe(health, check_of({"CMD", "x"}), result_of(0, i), 0);
  ASSERT_EQ(health.log.size(), 5U);
  EXPECT_EQ(health.log.front().start, 3);
  EXPECT_EQ(health.log.back().start, 7);
}

TEST(HealthRules, the_start_interval_holds_only_while_it_starts_within_its_start_period) {
  auto check = check_of({"CMD", "x"});
  EXPECT_EQ(probe_pause_ns(check, HealthStatus::starting, 0), 30 * second);
  check.start_period_ns = 20 * second;
  EXPECT_EQ(probe_pause_ns(check, HealthStatus::starting, 0), 5 * second);
  check.start_interval_ns = second;
  check.interval_ns = 7 * second;
  EXPECT_EQ(probe_pause_ns(check, HealthStatus::starting, 19 * second), second);
  EXPECT_EQ(probe_pause_ns(check, HealthStatus::starting, 20 * second), 7 * second);
  EXPECT_EQ(probe_pause_ns(check, HealthStatus::healthy, second), 7 * second);
}

TEST(HealthRules, what_a_request_leaves_out_is_the_images) {
  auto of_image = check_of({"CMD", "image"});
  of_image.interval_ns = 5 * second;
  of_image.retries = 9;
  image::Healthcheck asked;
  asked.retries = 2;
  auto merged = merge_healthcheck(asked, of_image);
  ASSERT_TRUE(merged.has_value());
  EXPECT_THAT(merged->test, ElementsAre("CMD", "image"));
  EXPECT_EQ(merged->interval_ns, 5 * second);
  EXPECT_EQ(merged->retries, 2);
  EXPECT_FALSE(merge_healthcheck(std::nullopt, std::nullopt).has_value());
}

TEST(HealthRules, a_probe_runs_directly_or_in_a_shell_or_not_at_all) {
  ContainerSpec spec;
  EXPECT_THAT(probe_command(spec), IsEmpty());
  spec.healthcheck = check_of({"NONE"});
  EXPECT_THAT(probe_command(spec), IsEmpty());
  spec.healthcheck = check_of({"BOGUS", "x"});
  EXPECT_THAT(probe_command(spec), IsEmpty());
  spec.healthcheck = check_of({"CMD", "curl", "-f"});
  EXPECT_THAT(probe_command(spec), ElementsAre("curl", "-f"));
  spec.healthcheck = check_of({"CMD-SHELL", "a && b"});
  EXPECT_THAT(probe_command(spec), ElementsAre("/bin/sh", "-c", "a && b"));
  spec.shell = {"/bin/bash", "-ec"};
  EXPECT_THAT(probe_command(spec), ElementsAre("/bin/bash", "-ec", "a && b"));
}

TEST(HealthRules, output_is_cut_at_4096_bytes_and_says_so) {
  ProbeOutput output;
  output.append(std::string(4096, 'x'));
  EXPECT_EQ(output.text().size(), 4096U);
  output.append("y");
  EXPECT_EQ(output.text(), std::string(4096, 'x') + "...");
}

TEST(HealthRules, a_timeout_is_told_in_gos_words_for_durations) {
  EXPECT_EQ(timeout_text(30 * second, ""), "Health check exceeded timeout (30s)");
  EXPECT_EQ(timeout_text(90 * second, "half\n"), "Health check exceeded timeout (1m30s): half\n");
  EXPECT_EQ(timeout_text(1500 * millisecond, ""), "Health check exceeded timeout (1.5s)");
  EXPECT_EQ(timeout_text(250 * millisecond, ""), "Health check exceeded timeout (250ms)");
  EXPECT_EQ(timeout_text(3600 * second, ""), "Health check exceeded timeout (1h0m0s)");
}

/// An owner whose starts of "stuck" do not return until they may.
class StuckMonitor : public testing::Test {
 protected:
  Result<std::int64_t> begin(const std::string& container_id) {
    std::unique_lock lock(mutex);
    ++begun[container_id];
    changed.notify_all();
    if (container_id.starts_with("stuck")) changed.wait(lock, [&] { return released; });
    return Error(ErrorKind::timeout, "no answer");
  }
  bool wait_until_begun(const std::string& container_id, int count) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(10), [&] { return begun[container_id] >= count; });
  }
  void release() {
    std::lock_guard lock(mutex);
    released = true;
    changed.notify_all();
  }
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, int> begun;
  bool released = false;
  HealthChecks checks{{[this](const std::string& id, const std::string&, UniqueFd) { return begin(id); },
                       [](const std::string&, ProbeResult) { return std::optional<std::int64_t>(millisecond); }}};
};

TEST_F(StuckMonitor, the_probes_of_others_go_on) {
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(checks.watch(concat("stuck", i), 0).ok());
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(wait_until_begun(concat("stuck", i), 1)) << i;
  ASSERT_TRUE(checks.watch("well", 0).ok());
  EXPECT_TRUE(wait_until_begun("well", 20)) << "held up by a monitor that does not answer";
  {
    std::lock_guard lock(mutex);
    for (int i = 0; i < 10; ++i) EXPECT_EQ(begun[concat("stuck", i)], 1) << "a second start of one that is being started";
  }
  release();
  EXPECT_TRUE(wait_until_begun("stuck0", 2)) << "once its monitor answers, its probes go on";
  checks.finish();
}

TEST_F(StuckMonitor, one_that_is_watched_anew_is_not_started_twice_at_a_time) {
  ASSERT_TRUE(checks.watch("stuck", 0).ok());
  ASSERT_TRUE(wait_until_begun("stuck", 1));
  ASSERT_TRUE(checks.watch("stuck", 0).ok());
  checks.forget("stuck");
  ASSERT_TRUE(checks.watch("stuck", 0).ok());
  ASSERT_TRUE(checks.watch("well", 0).ok());
  EXPECT_TRUE(wait_until_begun("well", 5));
  {
    std::lock_guard lock(mutex);
    EXPECT_EQ(begun["stuck"], 1);
  }
  release();
  EXPECT_TRUE(wait_until_begun("stuck", 2));
  checks.finish();
}

class Probes : public testing::Test {
 protected:
  ContainerSpec spec(std::vector<std::string> test, std::int64_t interval_ns = 20 * millisecond) {
    auto spec = fake::Harness::spec({"sleep"}, "box");
    spec.healthcheck = check_of(std::move(test));
    spec.healthcheck->interval_ns = interval_ns;
    return spec;
  }
  Health health(const std::string& name = "box") {
    auto info = h.engine->inspect(h.admin, name, false);
    EXPECT_TRUE(info.ok());
    return info.ok() && info->health ? *info->health : Health{HealthStatus::none, 0, {}};
  }
  template <typename Condition>
  bool wait_for(Condition condition) {
    const auto deadline = monotonic_ns() + 10 * second;
    while (!condition()) {
      if (monotonic_ns() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }
  fake::Harness h;
};

TEST_F(Probes, a_successful_probe_makes_the_container_healthy_and_tells_it_once) {
  auto events = h.engine->events(h.admin, {});
  ASSERT_TRUE(events.ok());
  h.run(spec({"CMD", "say", "0", "fine"}));
  EXPECT_EQ(health().status, HealthStatus::starting);
  ASSERT_TRUE(wait_for([&] { return health().log.size() >= 3; }));
  EXPECT_EQ(health().status, HealthStatus::healthy);
  EXPECT_EQ(health().log.back().output, "fine");
  EXPECT_EQ(health().log.back().exit_code, 0);
  auto listed = h.engine->list(h.admin, {});
  ASSERT_TRUE(listed.ok());
  EXPECT_EQ(listed->at(0).health, HealthStatus::healthy);
  EXPECT_TRUE(listed->at(0).status.ends_with(" (healthy)")) << listed->at(0).status;
  ASSERT_TRUE(h.engine->kill(h.admin, "box", "").ok());
  std::vector<std::string> actions;
  for (;;) {
    auto event = (*events)->next({});
    ASSERT_TRUE(event.ok() && *event);
    if ((*event)->action == "die") break;
    actions.push_back((*event)->action);
  }
  EXPECT_EQ(std::count(actions.begin(), actions.end(), "health_status: healthy"), 1);
  EXPECT_GE(std::count(actions.begin(), actions.end(), "exec_create: say 0 fine"), 3);
  EXPECT_GE(std::count(actions.begin(), actions.end(), "exec_start: say 0 fine"), 3);
  EXPECT_GE(std::count(actions.begin(), actions.end(), "exec_die"), 3);
  EXPECT_EQ(health().status, HealthStatus::unhealthy);  // docker's word for a stopped one
}

TEST_F(Probes, a_program_that_is_missing_is_a_failure_with_its_reason) {
  auto wanted = spec({"CMD", "missing"});
  wanted.healthcheck->retries = 2;
  h.run(wanted);
  ASSERT_TRUE(wait_for([&] { return health().status == HealthStatus::unhealthy; }));
  EXPECT_EQ(health().log.back().exit_code, -1);
  EXPECT_THAT(health().log.back().output, testing::HasSubstr("executable file not found"));
}

TEST_F(Probes, the_status_survives_a_restart_of_the_daemon_and_probes_go_on) {
  h.run(spec({"CMD", "say", "0", "fine"}));
  ASSERT_TRUE(wait_for([&] { return health().status == HealthStatus::healthy; }));
  h.close();
  h.open();
  EXPECT_EQ(health().status, HealthStatus::healthy);
  const auto last = health().log.back().start;
  ASSERT_TRUE(wait_for([&] { return health().log.back().start > last; }));
}

TEST_F(Probes, a_paused_container_is_not_probed) {
  h.run(spec({"CMD", "say", "0", "fine"}));
  ASSERT_TRUE(wait_for([&] { return health().status == HealthStatus::healthy; }));
  ASSERT_TRUE(h.engine->pause(h.admin, "box").ok());
  EXPECT_EQ(health().status, HealthStatus::unhealthy);
  ASSERT_TRUE(h.engine->unpause(h.admin, "box").ok());
  ASSERT_TRUE(wait_for([&] { return health().status == HealthStatus::healthy; }));
}

TEST_F(Probes, the_monitor_is_told_how_long_a_probe_may_take) {
  auto wanted = spec({"CMD", "hang"});
  wanted.healthcheck->timeout_ns = 1500 * millisecond;
  h.run(wanted);
  ASSERT_TRUE(wait_for([&] { return h.runtime->last_exec_timeout_ms() == 1500; }));
  ASSERT_TRUE(h.engine->remove(h.admin, "box", {.force = true}).ok());  // one that hangs holds up nothing
}

TEST_F(Probes, an_override_of_none_switches_the_images_check_off) {
  h.images->image().config.healthcheck = check_of({"CMD", "say", "0", "x"});
  h.images->image().config.healthcheck->interval_ns = millisecond;
  h.run(fake::Harness::spec({"sleep"}, "box"));
  EXPECT_NE(health().status, HealthStatus::none);
  auto without = fake::Harness::spec({"sleep"}, "other");
  without.healthcheck = check_of({"NONE"});
  h.run(without);
  EXPECT_EQ(health("other").status, HealthStatus::none);
}

}  // namespace
}  // namespace caisson::engine
