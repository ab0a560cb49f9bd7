// Pages of the ring buffer, made by hand and by this kernel.
#include "linux/trace_page.hpp"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "base/strings.hpp"
#include "linux/trace_events.hpp"

namespace caisson::linux {
namespace {

template <typename T>
std::string raw(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

/// An event of `id` whose payload is `words` 32-bit words, the first of which begins with the id.
std::string event(std::uint32_t delta, std::uint16_t id, std::uint32_t words) {
  return raw<std::uint32_t>(words | delta << 5U) + raw<std::uint16_t>(id) + std::string(words * 4 - 2, '\x07');
}

std::string page(std::uint64_t time, const std::string& data, std::uint64_t flags = 0) { return raw<std::uint64_t>(time) + raw<std::uint64_t>(data.size() | flags) + data; }

constexpr std::string_view fork_format =
    "name: sched_process_fork\nID: 315\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"
    "\tfield:__data_loc char[] parent_comm;\toffset:8;\tsize:4;\tsigned:0;\n\tfield:pid_t parent_pid;\toffset:12;\tsize:4;\tsigned:1;\n\tfield:struct cred * cred;\toffset:16;\tsize:8;\tsigned:0;\n"
    "\tfield:unsigned long args[6];\toffset:24;\tsize:48;\tsigned:0;\n\nprint fmt: \"x\"\n";

TEST(TraceFormat, numbers_are_found_by_name) {
  auto format = parse_trace_format(fork_format);
  ASSERT_TRUE(format.ok()) << format.error().text();
  EXPECT_EQ(format->id, 315);
  EXPECT_EQ(format->fields.at("common_pid").offset, 4);
  EXPECT_TRUE(format->fields.at("parent_pid").is_signed);
  EXPECT_EQ(format->fields.at("cred").size, 8);
  EXPECT_FALSE(format->fields.contains("args[6]"));
}

TEST(TraceFormat, one_without_number_or_thread_is_refused) {
  for (const char* broken : {"", "ID: x\n", "ID: 70000\n", "ID: 3\nfield:int a; offset:0; size:4; signed:1;", "field:int common_pid; offset:4; size:4; signed:1;"}) EXPECT_FALSE(parse_trace_format(broken).ok()) << broken;
}

TEST(TracePage, events_have_the_time_of_all_before_them) {
  auto read = parse_trace_page(page(1000, event(5, 11, 2) + event(7, 12, 3)));
  ASSERT_TRUE(read.ok()) << read.error().text();
  ASSERT_EQ(read->records.size(), 2U);
  EXPECT_EQ(read->records[0].time_ns, 1005U);
  EXPECT_EQ(read->records[0].event_id, 11);
  EXPECT_EQ(read->records[1].time_ns, 1012U);
  EXPECT_EQ(read->records[1].bytes.size(), 12U);
  EXPECT_FALSE(read->has_lost);
}

TEST(TracePage, long_pauses_long_events_and_what_was_discarded) {
  const auto extended = raw<std::uint32_t>(30U | 3U << 5U) + raw<std::uint32_t>(2);               // 2 * 2^27 + 3
  const auto discarded = raw<std::uint32_t>(29U | 1U << 5U) + raw<std::uint32_t>(12) + std::string(8, '\0');  // its length counts itself
  const auto large = raw<std::uint32_t>(0U | 1U << 5U) + raw<std::uint32_t>(4 + 128) + raw<std::uint16_t>(9) + std::string(126, 'x');
  auto read = parse_trace_page(page(0, extended + discarded + large, 1U << 31U));
  ASSERT_TRUE(read.ok()) << read.error().text();
  ASSERT_EQ(read->records.size(), 1U);
  EXPECT_EQ(read->records[0].time_ns, (std::uint64_t{2} << 27U) + 3 + 1 + 1);
  EXPECT_EQ(read->records[0].event_id, 9);
  EXPECT_EQ(read->records[0].bytes.size(), 128U);
  EXPECT_TRUE(read->has_lost);
}

TEST(TracePage, a_length_that_leads_out_is_refused) {
  EXPECT_FALSE(parse_trace_page("").ok());
  EXPECT_FALSE(parse_trace_page(page(1, event(1, 2, 3)).substr(0, 24)).ok());
  EXPECT_FALSE(parse_trace_page(raw<std::uint64_t>(1) + raw<std::uint64_t>(4000) + "xxxx").ok());
  EXPECT_FALSE(parse_trace_page(page(1, raw<std::uint32_t>(0) + raw<std::uint32_t>(2))).ok());
  EXPECT_FALSE(parse_trace_page(page(1, raw<std::uint32_t>(28))).ok());
  EXPECT_FALSE(parse_trace_page(page(1, raw<std::uint32_t>(30))).ok());
}

TEST(TraceRecord, a_field_beyond_the_record_is_said) {
  const TraceRecord record{1, 2, raw<std::uint32_t>(0xffffffff)};
  EXPECT_EQ(trace_number(record, {0, 4, true}).value_or(0), -1);
  EXPECT_EQ(trace_number(record, {0, 4, false}).value_or(0), 0xffffffff);
  EXPECT_FALSE(trace_number(record, {2, 4, true}).ok());
  EXPECT_FALSE(trace_number(record, {0, 8, true}).ok());
}

/// The real thing.
TEST(TraceInstance, tells_of_the_calls_of_whom_it_follows_and_leaves_nothing) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: the kernel's trace is its own";
  const auto name = concat("caisson-unit-test-", ::getpid());
  {
    auto made = TraceInstance::create(name, 1U << 20U);
    if (!made.ok() && (made.error().kind() == ErrorKind::unsupported || made.error().kind() == ErrorKind::denied)) GTEST_SKIP() << made.error().text();
    ASSERT_TRUE(made.ok()) << made.error().text();
    EXPECT_EQ(TraceInstance::create(name, 1U << 20U).error().kind(), ErrorKind::conflict);
    auto format = made->enable("raw_syscalls/sys_enter");
    ASSERT_TRUE(format.ok()) << format.error().text();
    EXPECT_EQ(made->enable("raw_syscalls/nonsense").error().kind(), ErrorKind::unsupported);
    EXPECT_FALSE(made->set_filter("raw_syscalls/sys_enter", "no_such_field == 1").ok());
    ASSERT_TRUE(made->set_filter("raw_syscalls/sys_enter", concat("id == ", SYS_getppid)).ok());
    ASSERT_TRUE(made->record(true).ok());
    (void)::syscall(SYS_getppid);  // nobody is followed yet
    const auto self = static_cast<pid_t>(::syscall(SYS_gettid));
    ASSERT_TRUE(made->follow(std::span(&self, 1)).ok());
    for (int i = 0; i < 3; ++i) (void)::syscall(SYS_getppid);
    ASSERT_TRUE(made->record(false).ok());
    auto taken = made->take();
    ASSERT_TRUE(taken.ok()) << taken.error().text();
    ASSERT_EQ(taken->records.size(), 3U);
    for (const auto& record : taken->records) {
      EXPECT_EQ(trace_number(record, format->fields.at("common_pid")).value_or(0), self);
      EXPECT_EQ(trace_number(record, format->fields.at("id")).value_or(0), SYS_getppid);
    }
  }
  EXPECT_EQ(remove_trace_instances(name).value_or(99), 0U);
}

}  // namespace
}  // namespace caisson::linux
