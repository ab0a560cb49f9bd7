// Rotated logs that are compressed: they read the same, from every point, while somebody rotates, compresses or is killed.
#include "engine/log_archive.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "engine/fake_parts.hpp"
#include "engine/log_compressor.hpp"
#include "engine/log_reader.hpp"
#include "engine/log_testing.hpp"
#include "linux/spawn.hpp"

namespace caisson::engine {
namespace {

using fake::append;
using fake::CollectedLog;

std::string line(int number) { return concat("{\"log\":\"", number, "\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-20T10:00:00.", 100000000 + number, "Z\"}\n"); }

class Archives : public testing::Test {
 protected:
  std::string read(std::optional<std::uint64_t> tail = std::nullopt) {
    CollectedLog sink;
    LogOptions options;
    options.tail = tail;
    auto status = read_log(path, options, sink, {}, {});
    EXPECT_TRUE(status.ok()) << status.error().text();
    return sink.text;
  }
  void compress() {
    auto status = compress_rotated(path);
    EXPECT_TRUE(status.ok()) << status.error().text();
  }
  /// As the monitor does it (runtime/log_writer.cpp), `max_files` 4. False: somebody holds the lock.
  bool rotate() {
    auto newest = linux::open(path, O_RDONLY);
    if (!newest.ok() || !linux::flock(newest->get(), LOCK_EX | LOCK_NB).ok()) return false;
    ignore(linux::unlink(path + ".3"));
    ignore(linux::unlink(path + ".3.gz"));
    for (int number = 3; number > 1; --number) {
      ignore(linux::rename(concat(path, ".", number - 1), concat(path, ".", number)));
      ignore(linux::rename(concat(path, ".", number - 1, ".gz"), concat(path, ".", number, ".gz")));
    }
    EXPECT_TRUE(linux::rename(path, path + ".1").ok());
    newest->reset();
    append(path, "");
    return true;
  }
  [[nodiscard]] std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : linux::list_dir(folder.path()).value_or({})) names.push_back(entry.name);
    std::sort(names.begin(), names.end());
    return names;
  }
  fake::TempFolder folder;
  std::string path = folder.path() + "/x.log";
};

TEST_F(Archives, compressed_files_read_like_plain_ones_from_every_point) {
  append(path + ".2", line(1) + line(2));
  append(path + ".1", line(3));
  append(path, line(4));
  compress();
  EXPECT_THAT(files(), testing::ElementsAre("x.log", "x.log.1.gz", "x.log.2.gz"));
  EXPECT_EQ(read(), "1\n2\n3\n4\n");
  for (std::uint64_t tail = 0; tail < 6; ++tail) {
    std::string wanted;
    for (std::uint64_t number = tail >= 4 ? 1 : 5 - tail; number <= 4; ++number) wanted += concat(number, "\n");
    EXPECT_EQ(read(tail), wanted) << tail;
  }
}

TEST_F(Archives, gunzip_reads_them) {
  append(path, "");
  append(path + ".1", line(7));
  compress();
  auto out = linux::run_program({"gzip", "-dc", path + ".1.gz"});
  ASSERT_TRUE(out.ok());
  EXPECT_EQ(out->standard_output, line(7));
}

TEST_F(Archives, one_that_somebody_else_has_written_is_read) {
  append(path + ".1", line(7));
  append(path, line(8));
  ASSERT_TRUE(linux::run_program({"gzip", path + ".1"}).ok());
  EXPECT_EQ(read(), "7\n8\n");
}

TEST_F(Archives, what_only_looks_like_one_is_passed_over) {
  append(path + ".1.gz", "no archive");
  append(path + ".2", line(1));
  append(path, line(2));
  compress();
  EXPECT_TRUE(linux::exists(path + ".2.gz").value_or(false));
  CollectedLog sink;
  EXPECT_TRUE(read_log(path, {}, sink, {}, {}).ok());  // read as it is, and lines that are no records are passed over
  EXPECT_EQ(sink.text, "1\n2\n");
}

TEST_F(Archives, one_left_in_both_forms_by_a_killed_daemon_is_read_once_and_put_right) {
  append(path + ".1", line(1));
  append(path, line(2));
  compress();
  append(path + ".1", line(1));  // as if the daemon had been killed before it removed the plain one
  append(path + ".gz.tmp", "half");
  EXPECT_EQ(read(), "1\n2\n");
  compress();
  EXPECT_THAT(files(), testing::ElementsAre("x.log", "x.log.1.gz"));
  EXPECT_EQ(read(), "1\n2\n");
}

TEST_F(Archives, nobody_rotates_while_the_names_are_looked_at) {
  append(path, line(1));
  auto lock = lock_rotation(path, LOCK_SH);
  ASSERT_TRUE(lock.ok());
  EXPECT_FALSE(rotate());
  lock->reset();
  EXPECT_TRUE(rotate());
  EXPECT_EQ(lock_rotation(folder.path() + "/none", LOCK_SH).error().kind(), ErrorKind::not_found);
}

TEST_F(Archives, a_follower_reads_each_line_once_while_files_are_rotated_and_compressed) {
  append(path, line(0));
  LogCompressor compressor;
  ASSERT_TRUE(compressor.watch(path).ok());
  CollectedLog sink;
  auto over = linux::eventfd();
  ASSERT_TRUE(over.ok());
  LogOptions options;
  options.follow = true;
  std::thread reader([&] { EXPECT_TRUE(read_log(path, options, sink, {}, Cancel{over->get()}).ok()); });
  std::string wanted = "0\n";
  constexpr int line_count = 400;
  for (int number = 1; number <= line_count; ++number) {
    append(path, line(number));
    wanted += concat(number, "\n");
    // Not faster than the follower: rotation deletes, and what it deleted nobody can read.
    if (number % 10 == 0) {
      EXPECT_TRUE(sink.wait_for_end(concat("\n", number, "\n")));
      while (!rotate()) std::this_thread::yield();
    }
  }
  EXPECT_TRUE(sink.wait_for_end(concat("\n", line_count, "\n")));
  EXPECT_TRUE(linux::eventfd_signal(over->get()).ok());
  reader.join();
  EXPECT_EQ(sink.text, wanted);
  const std::int64_t deadline = monotonic_ns() + 20'000'000'000;
  while (linux::exists(path + ".1").value_or(true) && monotonic_ns() < deadline) std::this_thread::yield();
  compressor.finish();
  EXPECT_THAT(files(), testing::ElementsAre("x.log", "x.log.1.gz", "x.log.2.gz", "x.log.3.gz"));
  EXPECT_TRUE(wanted.ends_with(read()));
}

TEST_F(Archives, a_compression_that_is_killed_at_any_moment_loses_and_doubles_nothing) {
  append(path + ".2", line(1));
  std::string wanted = "1\n";
  for (int number = 2; number < 3000; ++number) {
    append(path + ".1", line(number));
    wanted += concat(number, "\n");
  }
  append(path, line(3000));
  wanted += "3000\n";
  for (int pause_us = 0; pause_us < 4000; pause_us += 200) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ignore(compress_rotated(path));
      ::_exit(0);
    }
    const std::int64_t until = monotonic_ns() + std::int64_t{pause_us} * 1000;
    while (monotonic_ns() < until) std::this_thread::yield();
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    ASSERT_EQ(read(), wanted) << "killed after " << pause_us << " us";
  }
  compress();
  EXPECT_EQ(read(), wanted);
  EXPECT_THAT(files(), testing::ElementsAre("x.log", "x.log.1.gz", "x.log.2.gz"));
}

}  // namespace
}  // namespace caisson::engine
