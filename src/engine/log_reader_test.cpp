// Logs read back from every point, across rotations and while they grow.
#include "engine/log_reader.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "base/strings.hpp"
#include "engine/fake_parts.hpp"
#include "engine/log_testing.hpp"

namespace caisson::engine {
namespace {

using fake::append;
using fake::CollectedLog;

std::string line(int number, const char* stream = "stdout", bool complete = true) {
  return concat("{\"log\":\"", number, complete ? "\\n" : "", "\",\"stream\":\"", stream, "\",\"time\":\"2026-11-20T10:00:", number < 10 ? "0" : "", number, ".000000000Z\"}\n");
}

class Logs : public testing::Test {
 protected:
  std::string read(LogOptions options = {}) {
    CollectedLog sink;
    auto status = read_log(path, options, sink, {}, {});
    EXPECT_TRUE(status.ok()) << status.error().text();
    return sink.text;
  }
  fake::TempFolder folder;
  std::string path = folder.path() + "/x.log";
};

TEST_F(Logs, a_log_that_does_not_exist_is_empty) { EXPECT_EQ(read(), ""); }

TEST_F(Logs, rotated_files_come_first) {
  append(path + ".2", line(1));
  append(path + ".1", line(2) + line(3));
  append(path, line(4));
  EXPECT_EQ(read(), "1\n2\n3\n4\n");
}

TEST_F(Logs, tail_counts_lines_from_the_end_across_files_and_pieces) {
  append(path + ".1", line(1) + line(2));
  append(path, line(3) + line(4, "stdout", false) + line(5));
  LogOptions options;
  for (const auto& [count, wanted] : std::vector<std::pair<std::uint64_t, std::string>>{
           {0, ""}, {1, "45\n"}, {2, "3\n45\n"}, {3, "2\n3\n45\n"}, {4, "1\n2\n3\n45\n"}, {99, "1\n2\n3\n45\n"}}) {
    options.tail = count;
    EXPECT_EQ(read(options), wanted) << count;
  }
}

TEST_F(Logs, tail_of_a_long_log_is_right_at_every_block_boundary) {
  std::string text;
  for (int i = 0; i < 3000; ++i) text += concat("{\"log\":\"", i, "\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-20T10:00:00Z\"}\n");
  append(path, text);
  LogOptions options;
  for (std::uint64_t count : {1U, 999U, 1000U, 1001U, 2999U, 3000U}) {
    options.tail = count;
    auto out = read(options);
    EXPECT_EQ(static_cast<std::uint64_t>(std::count(out.begin(), out.end(), '\n')), count);
    EXPECT_TRUE(out.starts_with(concat(3000 - count, "\n")));
  }
}

TEST_F(Logs, streams_and_times_select) {
  append(path, line(1) + line(2, "stderr") + line(3));
  LogOptions only_errors;
  only_errors.standard_output = false;
  EXPECT_EQ(read(only_errors), "2\n");
  LogOptions between;
  between.since = *parse_rfc3339("2026-11-20T10:00:02Z");
  between.until = between.since;
  EXPECT_EQ(read(between), "2\n");
}

TEST_F(Logs, damaged_lines_are_passed_over) {
  append(path, line(1) + "not json\n{\"log\":5}\n\n" + line(2) + "{\"log\":\"cut off");
  EXPECT_EQ(read(), "1\n2\n");
}

TEST_F(Logs, following_sees_what_is_added_and_what_was_rotated_and_ends_with_the_container) {
  append(path, line(1));
  auto over = linux::eventfd();
  ASSERT_TRUE(over.ok());
  CollectedLog sink;
  LogOptions options;
  options.follow = true;
  std::thread reader([&] { EXPECT_TRUE(read_log(path, options, sink, {}, Cancel{over->get()}).ok()); });
  EXPECT_TRUE(sink.wait_for("1\n"));
  append(path, line(2));
  EXPECT_TRUE(sink.wait_for("1\n2\n"));
  append(path, line(3));
  ASSERT_TRUE(linux::rename(path, path + ".1").ok());
  append(path, line(4));
  EXPECT_TRUE(sink.wait_for("1\n2\n3\n4\n"));
  append(path, line(5));
  ASSERT_TRUE(linux::eventfd_signal(over->get()).ok());
  reader.join();
  EXPECT_EQ(sink.text, "1\n2\n3\n4\n5\n");
}

TEST_F(Logs, following_ends_when_the_client_goes) {
  append(path, line(1));
  auto over = linux::eventfd();
  auto cancel = linux::eventfd();
  CollectedLog sink;
  LogOptions options;
  options.follow = true;
  std::thread reader([&] { EXPECT_TRUE(read_log(path, options, sink, Cancel{cancel->get()}, Cancel{over->get()}).ok()); });
  EXPECT_TRUE(sink.wait_for("1\n"));
  ASSERT_TRUE(linux::eventfd_signal(cancel->get()).ok());
  reader.join();
}

}  // namespace
}  // namespace caisson::engine
