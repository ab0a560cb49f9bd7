// Workers that wait for their job: they do what others do, once, and leave nobody behind.
#include "image/ready_workers.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "base/strings.hpp"
#include "image/test_support.hpp"
#include "image/worker.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"

namespace caisson::image {
namespace {

constexpr int long_enough_ms = 20'000;

class ReadyWorkersTest : public testing::Test {
 protected:
  void SetUp() override {
    if (auto reason = testing_support::why_not(); !reason.empty()) GTEST_SKIP() << reason;
    open(long_enough_ms);
  }
  void open(int idle_ms) {
    workers.reset();
    auto created = ReadyWorkers::create({testing_support::worker_path(), testing_support::first_worker_id}, idle_ms);
    ASSERT_TRUE(created.ok()) << created.error().text();
    workers = std::move(*created);
  }
  /// Unpacks a tar with the file "f" of the owner 5 into a new folder, and returns its path.
  std::string unpack(const std::string& text) {
    testing_support::TarMaker tar;
    auto entry = testing_support::TarMaker::make(TarType::file, "f", 0644);
    entry.uid = 5;
    entry.gid = 6;
    auto input = testing_support::fd_with(tar.add(entry, text).done());
    const auto place = concat(folder.path(), "/", ++count);
    EXPECT_TRUE(linux::mkdir(place, 0755).ok());
    auto target = linux::open(place, O_RDONLY | O_DIRECTORY);
    EXPECT_TRUE(target.ok());
    WorkerJob job;
    job.input_fd = input.get();
    job.target_fd = target->get();
    auto done = run_worker({testing_support::worker_path(), testing_support::first_worker_id}, job, workers.get());
    EXPECT_TRUE(done.ok()) << done.error().text();
    return place + "/f";
  }
  /// Our children that wait for a job.
  static std::vector<int> waiting() {
    std::vector<int> out;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      auto pid = parse_integer<int>(entry.path().filename().string());
      if (!pid.ok()) continue;
      auto words = linux::read_file(concat("/proc/", *pid, "/cmdline"));
      auto stat = linux::read_file(concat("/proc/", *pid, "/stat"));
      if (!words.ok() || !stat.ok() || words->find(ready_argument) == std::string::npos) continue;
      auto fields = split(std::string_view(*stat).substr(stat->rfind(')') + 2), ' ');
      if (fields.size() > 1 && fields[1] == concat(linux::getpid())) out.push_back(*pid);
    }
    return out;
  }

  testing_support::Folder folder;
  std::unique_ptr<ReadyWorkers> workers;
  int count = 0;
};

TEST_F(ReadyWorkersTest, one_waits_behind_every_job_and_does_what_others_do) {
  EXPECT_TRUE(waiting().empty()) << "nobody has asked yet";
  for (const auto* text : {"started for it", "waited for it", "waited too"}) {
    const auto path = unpack(text);
    EXPECT_EQ(linux::read_file(path).value_or(""), text);
    struct stat status {};
    ASSERT_EQ(::lstat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_uid, 5U);
    EXPECT_EQ(status.st_gid, 6U);
    ASSERT_TRUE(workers->await(true, long_enough_ms));
    EXPECT_EQ(waiting().size(), 1U);
  }
}

TEST_F(ReadyWorkersTest, none_does_two_jobs) {
  unpack("1");
  ASSERT_TRUE(workers->await(true, long_enough_ms));
  const auto first = waiting();
  unpack("2");
  ASSERT_TRUE(workers->await(true, long_enough_ms));
  EXPECT_NE(waiting(), first);
}

TEST_F(ReadyWorkersTest, a_job_goes_on_when_the_one_that_waited_has_died) {
  unpack("1");
  ASSERT_TRUE(workers->await(true, long_enough_ms));
  auto ready = waiting();
  ASSERT_EQ(ready.size(), 1U);
  auto process = linux::pidfd_open(ready.front());
  ASSERT_TRUE(process.ok());
  ASSERT_TRUE(linux::kill(ready.front(), SIGKILL).ok());
  ASSERT_TRUE(linux::wait_readable(process->get(), long_enough_ms).value_or(false));
  EXPECT_EQ(linux::read_file(unpack("2")).value_or(""), "2");
}

TEST_F(ReadyWorkersTest, one_that_nobody_needs_ends) {
  open(1);
  unpack("1");
  EXPECT_TRUE(workers->await(false, long_enough_ms));
  workers.reset();
  EXPECT_TRUE(waiting().empty());
}

}  // namespace
}  // namespace caisson::image
