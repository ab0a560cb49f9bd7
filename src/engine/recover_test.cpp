// What an engine finds again, repairs and clears away when it opens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

#include "engine/fake_parts.hpp"

namespace caisson::engine {
namespace {

using fake::Harness;
using testing::HasSubstr;
using testing::IsEmpty;

std::string repairs_of(Harness& h) {
  auto info = h.engine->info(h.admin);
  return info.ok() ? join(info->repairs, "\n") : "";
}

TEST(Recover, running_and_paused_containers_are_found_again) {
  Harness h;
  auto running = h.run(Harness::spec({"sleep"}, "running"));
  auto paused = h.run(Harness::spec({"sleep"}, "paused"));
  ASSERT_TRUE(h.engine->pause(h.admin, paused).ok());
  auto ids = h.engine->inspect(h.admin, running, false)->first_host_id;
  h.close();
  h.open();
  EXPECT_EQ(h.state_of("running"), State::running);
  EXPECT_EQ(h.state_of("paused"), State::paused);
  EXPECT_EQ(h.network->live().size(), 2U);
  EXPECT_EQ(h.engine->inspect(h.admin, running, false)->first_host_id, ids);
  auto fresh = h.run(Harness::spec({"sleep"}));
  EXPECT_NE(h.engine->inspect(h.admin, fresh, false)->first_host_id, ids);
  EXPECT_EQ(repairs_of(h), "");
  h.runtime->end(running, 9);
  EXPECT_EQ(h.wait(running), 9);
}

TEST(Recover, an_exit_while_no_daemon_looked_is_taken_over) {
  Harness h;
  auto id = h.run(Harness::spec({"sleep"}));
  auto once = Harness::spec({"sleep"}, "once");
  once.auto_remove = true;
  auto removed = h.run(once);
  h.close();
  ASSERT_TRUE(linux::write_file(h.folder() + "/world/" + id, "exited 42").ok());
  ASSERT_TRUE(linux::write_file(h.folder() + "/world/" + removed, "exited 0").ok());
  h.open();
  EXPECT_EQ(h.state_of(id), State::exited);
  EXPECT_EQ(h.engine->inspect(h.admin, id, false)->exit_code, 42);
  EXPECT_FALSE(h.engine->inspect(h.admin, "once", false).ok());
  EXPECT_THAT(h.names_in("run/containers"), IsEmpty());
  EXPECT_THAT(h.names_in("world"), IsEmpty());
}

TEST(Recover, a_container_without_any_trace_is_exited_with_255_and_a_reason) {
  Harness h;
  auto id = h.run(Harness::spec({"sleep"}));
  h.close();
  ASSERT_TRUE(linux::unlink(h.folder() + "/world/" + id).ok());
  h.open();
  auto info = h.engine->inspect(h.admin, id, false);
  EXPECT_EQ(info->state, State::exited);
  EXPECT_EQ(info->exit_code, 255);
  EXPECT_TRUE(info->exit_status_lost);
  EXPECT_THAT(repairs_of(h), HasSubstr(id.substr(0, 12)));
}

/// Everything was started before the last boot, and the boot took what lasted until it.
void reboot(Harness& h) {
  auto entries = h.store().list("container/");
  ASSERT_TRUE(entries.ok());
  for (const auto& entry : *entries) {
    std::string text = entry.value;
    auto at = text.find("\"boot_id\":\"");
    ASSERT_NE(at, std::string::npos);
    text.replace(at + 11, 4, "old-");
    state::Transaction transaction;
    transaction.put(entry.key, text);
    ASSERT_TRUE(h.store().commit(transaction).ok());
  }
  h.close();
  ASSERT_TRUE(linux::remove_tree(h.folder() + "/run").ok());
  ASSERT_TRUE(linux::remove_tree(h.folder() + "/world").ok());
  h.open();
}

void wait_for_start(Harness& h) {
  EventOptions options;
  options.since = 1;
  auto events = h.engine->events(h.admin, options);
  while ((*(*events)->next({}))->action != "start") continue;
}

TEST(Recover, after_a_reboot_everything_is_exited_and_policies_start_again) {
  Harness h;
  auto plain = h.run(Harness::spec({"sleep"}, "plain"));
  auto spec = Harness::spec({"sleep"}, "always");
  spec.restart.condition = RestartCondition::always;
  h.run(spec);
  reboot(h);
  auto info = h.engine->inspect(h.admin, plain, false);
  EXPECT_EQ(info->state, State::exited);
  EXPECT_EQ(info->exit_code, 255);
  EXPECT_THAT(info->error, HasSubstr("host rebooted"));
  wait_for_start(h);
  EXPECT_EQ(h.state_of("always"), State::running);
}

TEST(Recover, a_boot_starts_what_was_stopped_only_when_its_policy_is_always) {
  Harness h;
  for (auto [name, condition] : {std::pair{"always", RestartCondition::always}, {"unless", RestartCondition::unless_stopped}, {"failure", RestartCondition::on_failure}}) {
    auto spec = Harness::spec({"sleep"}, name);
    spec.restart.condition = condition;
    h.run(spec);
    ASSERT_TRUE(h.engine->stop(h.admin, name, {}).ok());
  }
  reboot(h);
  wait_for_start(h);
  EXPECT_EQ(h.state_of("always"), State::running);
  EXPECT_EQ(h.state_of("unless"), State::exited);
  EXPECT_EQ(h.state_of("failure"), State::exited);
  // The same boot again: what the user stops now stays so.
  ASSERT_TRUE(h.engine->stop(h.admin, "always", {}).ok());
  h.close();
  h.open();
  EXPECT_EQ(h.state_of("always"), State::exited);
}

TEST(Recover, strays_and_unreadable_records_are_said_and_the_rest_works) {
  Harness h;
  auto kept = h.create(Harness::spec({"x"}, "kept"));
  std::string broken(64, 'f');
  state::Transaction transaction;
  transaction.put("container/" + broken, "{\"id\":5}");
  ASSERT_TRUE(h.store().commit(transaction).ok());
  h.close();
  for (const auto& dir : {"/root/containers/" + broken, "/root/containers/" + std::string(64, 'e'), "/run/containers/" + std::string(64, 'd'), std::string("/root/volumes/stray")})
    ASSERT_TRUE(linux::make_dirs(h.folder() + dir, 0700).ok());
  h.open();
  EXPECT_EQ(h.state_of(kept), State::created);
  EXPECT_EQ(h.names_in("root/containers"), (std::set<std::string>{kept, broken}));  // an unreadable record's data is not thrown away
  EXPECT_THAT(h.names_in("run/containers"), IsEmpty());
  EXPECT_THAT(h.names_in("root/volumes"), IsEmpty());
  auto repairs = repairs_of(h);
  for (const char* words : {"ffffffffffff", "eeeeeeeeeeee", "dddddddddddd", "stray"}) EXPECT_THAT(repairs, HasSubstr(words));
}

TEST(Recover, a_damaged_state_file_costs_no_data) {
  Harness h;
  auto spec = Harness::spec({"sleep"});
  spec.mounts = {{.type = MountType::volume, .source = "precious", .target = "/data"}};
  auto id = h.run(spec);
  ASSERT_TRUE(linux::write_file(h.root() + "/volumes/precious/_data/file", "data").ok());
  h.close();
  for (const char* suffix : {"-wal", "-shm"}) ignore(linux::unlink(h.root() + "/state.db" + suffix));
  ASSERT_TRUE(linux::write_file(h.root() + "/state.db", std::string(8192, 'x')).ok());
  for (int turn = 0; turn < 2; ++turn) {
    h.open();
    EXPECT_TRUE(h.engine->inspect_volume(h.admin, "precious").ok());
    EXPECT_EQ(linux::read_file(h.root() + "/volumes/precious/_data/file").value_or(""), "data");
    EXPECT_TRUE(h.names_in("root/lost").contains(id));
    EXPECT_EQ(linux::read_file(h.folder() + "/world/" + id).value_or(""), "running");
    h.close();
  }
  EXPECT_THAT(h.names_in("run/containers"), testing::Contains(id));
}

/// Runs `work` in a process of its own that dies at the named point as by kill -9. True when it got there.
bool crash_at(const std::string& point, const std::function<void()>& work) {
  auto child = linux::fork_with_pidfd(0);
  EXPECT_TRUE(child.ok());
  if (child->pid == 0) {
    ::setenv("CAISSON_CRASH_AT", point.c_str(), 1);
    work();
    std::_Exit(0);
  }
  auto ended = linux::wait_pidfd(child->pidfd.get());
  EXPECT_TRUE(ended.ok());
  return ended.ok() && ended->signaled && ended->code == 9;
}

class CrashPoint : public testing::TestWithParam<const char*> {};

TEST_P(CrashPoint, leaves_what_the_next_start_repairs) {
#ifdef NDEBUG
  GTEST_SKIP() << "crash points exist in builds with assertions only";
#endif
  fake::TempFolder folder;
  std::string point = GetParam();
  bool reached = crash_at(point, [&] {
    Harness h(folder.path());
    auto spec = Harness::spec({"sleep"}, "victim");
    spec.auto_remove = point.starts_with("remove:") || point == "exit:reported";
    spec.mounts = {{.type = MountType::volume, .target = "/data"}};
    auto id = h.run(spec);
    auto waiter = h.engine->begin_wait(h.admin, id, WaitCondition::not_running);
    h.runtime->end(id, 3);
    ASSERT_TRUE((*waiter)->wait({}).ok());
    auto deadline = monotonic_ns() + 5'000'000'000;
    // The waiter hears of the end before the teardown is queued: what is torn down last tells that all points were passed.
    const char* last_to_go = spec.auto_remove ? "root/containers" : "run/containers";
    while (!h.names_in(last_to_go).empty() && monotonic_ns() < deadline) std::this_thread::yield();
    h.close();  // runs what is left for the background
  });
  ASSERT_TRUE(reached) << point;
  Harness h(folder.path());
  auto listed = h.engine->list(h.admin, {.all = true});
  ASSERT_TRUE(listed.ok());
  ASSERT_LE(listed->size(), 1U);
  // Whatever is left is consistent: the name is either held by a container that can be used or free.
  if (!listed->empty()) {
    auto state = listed->front().state;
    EXPECT_TRUE(state == State::created || state == State::running || state == State::exited) << to_string(state);
    RemoveOptions options{.force = true, .volumes = true};
    EXPECT_TRUE(h.engine->remove(h.admin, "victim", options).ok());
  }
  auto again = h.run(Harness::spec({"true"}, "victim"));
  EXPECT_EQ(h.wait(again), 0);
  ASSERT_TRUE(h.engine->remove(h.admin, again, {}).ok());
  EXPECT_EQ(h.network->endpoint_count(), 0U);
  h.close();
  for (const char* below : {"root/containers", "root/volumes", "run/containers", "world"}) EXPECT_THAT(h.names_in(below), IsEmpty()) << below;
}

INSTANTIATE_TEST_SUITE_P(All, CrashPoint,
                         testing::Values("create:folders", "create:committed", "start:run_dir", "start:connected", "start:launched", "start:recorded",
                                         "exit:reported", "exit:recorded", "teardown:run_dir_gone", "remove:erased", "remove:collected"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name)
                             if (c == ':') c = '_';
                           return name;
                         });

}  // namespace
}  // namespace caisson::engine
