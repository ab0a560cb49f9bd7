// What is learned from a trace, and what follows from it.
#include "engine/learning.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include "base/json.hpp"
#include "engine/refusals.hpp"
#include "engine/spec_builder.hpp"
#include "runtime/default_seccomp.hpp"

namespace caisson::engine {
namespace {

using Kind = Observed::Kind;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

const std::vector<std::string> some_capabilities = {"CAP_CHOWN"};

Observation watched(std::function<bool(std::int64_t)> may_refuse = [](std::int64_t) { return false; }) { return Observation(std::move(may_refuse)); }

TEST(Observation, what_the_engine_does_before_the_program_does_not_count) {
  auto observation = watched();
  observation.take({Kind::forked, 10, 11, 0});  // the launcher makes a monitor
  observation.take({Kind::entered, 11, SYS_open, 0});
  observation.take({Kind::forked, 11, 12, 0});
  observation.take({Kind::entered, 12, SYS_mount, 0});
  observation.take({Kind::entered, 12, SYS_execve, 0});
  observation.take({Kind::executed, 12, 0, 0});
  observation.take({Kind::entered, 12, SYS_brk, 0});
  EXPECT_THAT(observation.calls(), IsEmpty()) << "nobody has said yet which monitor it is";
  observation.set_monitor(11);
  EXPECT_THAT(observation.calls(), ElementsAre(SYS_brk));
}

TEST(Observation, the_monitor_is_found_by_the_first_process_even_when_all_have_ended) {
  auto observation = watched();
  const std::vector<pid_t> makers = {10};
  EXPECT_FALSE(observation.set_first(13, makers)) << "nothing was seen yet";
  observation.take({Kind::forked, 10, 11, 0});  // the monitor
  observation.take({Kind::forked, 11, 12, 0});  // the stage, which makes the first process and ends
  observation.take({Kind::forked, 12, 13, 0});
  observation.take({Kind::executed, 13, 0, 0});
  observation.take({Kind::entered, 13, SYS_brk, 0});
  EXPECT_FALSE(observation.set_first(99, makers));
  EXPECT_TRUE(observation.set_first(13, makers));
  EXPECT_THAT(observation.calls(), ElementsAre(SYS_brk));
  auto circle = watched();
  circle.take({Kind::forked, 1, 2, 0});
  circle.take({Kind::forked, 2, 1, 0});
  EXPECT_FALSE(circle.set_first(1, makers));
}

TEST(Observation, children_and_threads_count_and_neighbours_do_not) {
  auto observation = watched();
  observation.set_monitor(11);
  observation.take({Kind::forked, 11, 12, 0});
  observation.take({Kind::executed, 12, 0, 0});
  observation.take({Kind::forked, 12, 13, 0});
  observation.take({Kind::entered, 13, SYS_read, 0});
  observation.take({Kind::asked, 13, 0, 0});
  observation.take({Kind::asked, 13, 21, -1});
  observation.take({Kind::entered, 99, SYS_reboot, 0});
  observation.take({Kind::forked, 98, 13, 0});  // the number is a stranger's by now
  observation.take({Kind::entered, 13, SYS_swapon, 0});
  EXPECT_THAT(observation.calls(), ElementsAre(SYS_read));
  EXPECT_THAT(observation.capabilities(), ElementsAre(0));
  EXPECT_THAT(observation.lacking(), ElementsAre(21));
}

TEST(Observation, an_end_without_a_begin_was_refused) {
  auto observation = watched([](std::int64_t number) { return number == SYS_mount || number == SYS_clone; });
  observation.set_monitor(1);
  observation.add_thread(5);
  observation.take({Kind::returned, 5, SYS_mount, -1});
  observation.take({Kind::returned, 5, SYS_openat, -13});  // its begin was not asked for
  observation.take({Kind::entered, 5, SYS_clone, 0});
  observation.take({Kind::returned, 5, SYS_clone, 77});
  EXPECT_THAT(observation.refused(), ElementsAre(SYS_mount));
  observation.take({Kind::returned, 5, SYS_clone, -1});
  EXPECT_THAT(observation.refused(), ElementsAre(SYS_clone, SYS_mount));
}

TEST(Observation, after_a_loss_an_end_alone_says_nothing) {
  auto observation = watched([](std::int64_t) { return true; });
  observation.set_monitor(1);
  observation.add_thread(5);
  observation.note_loss();
  observation.take({Kind::returned, 5, SYS_mount, -1});
  EXPECT_THAT(observation.refused(), IsEmpty());
  observation.take({Kind::returned, 5, SYS_mount, -1});
  EXPECT_THAT(observation.refused(), ElementsAre(SYS_mount));
  EXPECT_EQ(observation.losses(), 1U);
}

TEST(CallRules, say_what_the_filter_may_refuse) {
  const auto profile = runtime::default_seccomp(some_capabilities);
  const CallRules rules(&profile);
  EXPECT_TRUE(rules.may_refuse(SYS_mount));
  EXPECT_FALSE(rules.may_refuse(SYS_read));
  EXPECT_FALSE(rules.may_refuse(SYS_clone3)) << "it is said not to exist, so that libc falls back";
  EXPECT_TRUE(rules.may_refuse(SYS_clone)) << "by its flags";
  EXPECT_THAT(rules.conditional(), Contains(SYS_clone));
  const auto count = rules.count();
  EXPECT_GT(count.allowed, 250U);
  EXPECT_GT(count.conditional, 0U);
  EXPECT_GT(count.refused, 30U);
  EXPECT_FALSE(CallRules(nullptr).may_refuse(SYS_mount));
}

bool allows(const runtime::SeccompProfile& profile, std::string_view name) { return !CallRules(&profile).may_refuse(static_cast<std::int64_t>(*linux::syscall_number(linux::native_architecture(), name))); }

TEST(Tighten, keeps_what_was_used_with_its_conditions) {
  const auto base = runtime::default_seccomp(some_capabilities);
  const auto tight = tighten(&base, {"read", "openat", "clone"});
  EXPECT_TRUE(allows(tight, "read"));
  EXPECT_TRUE(allows(tight, "execve")) << "the engine itself makes it";
  EXPECT_FALSE(allows(tight, "ptrace"));
  EXPECT_FALSE(allows(tight, "socket"));
  EXPECT_THAT(CallRules(&tight).conditional(), Contains(SYS_clone));
  EXPECT_FALSE(CallRules(&tight).may_refuse(SYS_clone3)) << "libc must still fall back";
  // It goes the way of a user's file, and comes back the same.
  auto read = seccomp_from_text(profile_text(tight), some_capabilities);
  ASSERT_TRUE(read.ok()) << read.error().text();
  EXPECT_EQ(profile_text(*read), profile_text(tight));
  EXPECT_TRUE(runtime::to_filter_spec(*read).ok());
}

TEST(Tighten, of_no_filter_allows_what_was_used_alone) {
  const auto tight = tighten(nullptr, {"mount", "9999"});
  EXPECT_TRUE(allows(tight, "mount"));
  EXPECT_FALSE(allows(tight, "reboot"));
  EXPECT_THAT(tight.syscalls.back().names, Not(Contains("9999")));
}

TEST(Tighten, of_a_deny_list_stays_one_for_what_it_denied) {
  runtime::SeccompProfile base;
  base.default_action = "SCMP_ACT_ALLOW";
  runtime::SeccompRule rule;
  rule.names = {"ptrace", "mount"};
  rule.action = "SCMP_ACT_ERRNO";
  base.syscalls.push_back(rule);
  const auto tight = tighten(&base, {"read", "ptrace"});
  EXPECT_TRUE(allows(tight, "read"));
  EXPECT_FALSE(allows(tight, "ptrace"));
  EXPECT_FALSE(allows(tight, "mount"));
}

TEST(Propose, scratch_becomes_tmpfs_and_other_writing_keeps_the_root_writable) {
  Learned learned;
  learned.written = {"/run/nginx.pid", "/var/cache/nginx/a", "/tmp/x"};
  learned.most_processes = 3;
  learned.most_memory_bytes = 20U << 20U;
  learned.capabilities = {"CAP_SETUID"};
  propose(learned, nullptr);
  EXPECT_TRUE(learned.read_only);
  EXPECT_THAT(learned.tmpfs, ElementsAre("/run", "/tmp", "/var/cache/nginx"));
  EXPECT_THAT(learned.cap_add, ElementsAre("CAP_SETUID"));
  EXPECT_EQ(learned.pids_limit, 32);
  EXPECT_EQ(learned.memory_bytes, 48 << 20);
  learned.written.emplace_back("/etc/motd");
  propose(learned, nullptr);
  EXPECT_FALSE(learned.read_only);
}

TEST(Refusals, are_counted_by_kind_and_bounded) {
  Refusals refusals([](const linux::AuditRecord& record) { return record.pid == 7 ? std::string("web") : std::string(); });
  refusals.take({linux::RefusedBy::seccomp, 7, std::nullopt, "sh", "mount", false}, 100);
  refusals.take({linux::RefusedBy::seccomp, 7, std::nullopt, "sh", "mount", false}, 200);
  refusals.take({linux::RefusedBy::seccomp, 8, std::nullopt, "sh", "mount", false}, 200);
  auto list = refusals.of("web");
  ASSERT_EQ(list.size(), 1U);
  EXPECT_EQ(list[0].count, 2U);
  EXPECT_EQ(list[0].first, 100);
  EXPECT_EQ(list[0].last, 200);
  for (int i = 0; i < 1000; ++i) refusals.take({linux::RefusedBy::seccomp, 7, std::nullopt, std::to_string(i), "mount", false}, 300);
  EXPECT_LE(refusals.of("web").size(), 64U);
  refusals.forget("web");
  EXPECT_THAT(refusals.of("web"), IsEmpty());
}

}  // namespace
}  // namespace caisson::engine
