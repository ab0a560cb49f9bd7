// Tests of the SQLite store: transactions against a model, damage, crashes, watchers and leases.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <random>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/file.hpp"
#include "state/store.hpp"

namespace caisson::state {
namespace {

using testing::HasSubstr;

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/caisson-test-state-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] std::string file() const { return path_ + "/state.db"; }

 private:
  std::string path_;
};

OpenedStore open_or_fail(const std::string& path) {
  auto opened = open_sqlite_store({path});
  if (!opened.ok()) {
    ADD_FAILURE() << opened.error().text();
    return {};
  }
  return std::move(*opened);
}

void run_sql(const std::string& path, const std::string& sql) {
  sqlite3* handle = nullptr;
  ASSERT_EQ(sqlite3_open(path.c_str(), &handle), SQLITE_OK);
  char* message = nullptr;
  EXPECT_EQ(sqlite3_exec(handle, sql.c_str(), nullptr, nullptr, &message), SQLITE_OK) << message;
  sqlite3_close(handle);
}

TEST(store, what_is_written_is_read_back_after_reopening) {
  Folder folder;
  Revision revision = 0;
  {
    auto opened = open_or_fail(folder.file());
    Transaction transaction;
    transaction.put("container/a", R"({"x":1})").put("container/b", "2").put("image/c", "3");
    transaction.durable = true;
    auto result = opened.store->commit(transaction);
    ASSERT_TRUE(result.ok()) << result.error().text();
    revision = *result;
  }
  auto opened = open_or_fail(folder.file());
  EXPECT_TRUE(opened.repairs.empty());
  auto entry = opened.store->get("container/a");
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ(entry->value, R"({"x":1})");
  EXPECT_EQ(entry->revision, revision);
  auto listed = opened.store->list("container/");
  ASSERT_TRUE(listed.ok());
  ASSERT_EQ(listed->size(), 2U);
  EXPECT_EQ((*listed)[0].key, "container/a");
  EXPECT_EQ((*listed)[1].key, "container/b");
  EXPECT_EQ(opened.store->list("")->size(), 3U);
  EXPECT_EQ(opened.store->get("nothing").error().kind(), ErrorKind::not_found);
}

TEST(store, revisions_never_go_back_even_after_everything_was_deleted) {
  Folder folder;
  Revision last = 0;
  {
    auto opened = open_or_fail(folder.file());
    ASSERT_TRUE(opened.store->commit(Transaction().put("a", "1")).ok());
    last = *opened.store->commit(Transaction().erase("a"));
  }
  auto opened = open_or_fail(folder.file());
  EXPECT_GT(*opened.store->commit(Transaction().put("a", "1")), last);
}

TEST(store, a_condition_that_does_not_hold_writes_nothing) {
  Folder folder;
  auto opened = open_or_fail(folder.file());
  auto& store = *opened.store;
  auto first = *store.commit(Transaction().require_absent("name/web").put("name/web", "1"));
  auto again = store.commit(Transaction().require_absent("name/web").put("other", "1").put("name/web", "2"));
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().kind(), ErrorKind::conflict);
  EXPECT_THAT(again.error().text(), HasSubstr("name/web"));
  EXPECT_FALSE(store.get("other").ok());
  ASSERT_TRUE(store.commit(Transaction().require("name/web", first).put("name/web", "3")).ok());
  EXPECT_EQ(store.commit(Transaction().require("name/web", first).put("name/web", "4")).error().kind(), ErrorKind::conflict);
  EXPECT_EQ(store.get("name/web")->value, "3");
}

TEST(store, a_value_that_is_no_json_is_refused_and_nothing_of_its_transaction_is_written) {
  Folder folder;
  auto opened = open_or_fail(folder.file());
  auto result = opened.store->commit(Transaction().put("a", "1").put("b", "{broken"));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().kind(), ErrorKind::invalid);
  EXPECT_THAT(result.error().text(), HasSubstr("\"b\""));
  EXPECT_FALSE(opened.store->get("a").ok());
}

TEST(store, a_second_opener_is_refused_and_told_by_whom) {
  Folder folder;
  auto opened = open_or_fail(folder.file());
  auto second = open_sqlite_store({folder.file()});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind(), ErrorKind::unavailable);
  EXPECT_THAT(second.error().text(), HasSubstr(concat("in use by process ", ::getpid())));
  opened.store.reset();
  EXPECT_TRUE(open_sqlite_store({folder.file()}).ok());
}

TEST(store, random_transactions_agree_with_a_map) {
  Folder folder;
  auto seed = std::random_device{}();
  SCOPED_TRACE(concat("seed ", seed));
  std::mt19937 random(seed);
  std::map<std::string, std::pair<std::string, Revision>> model;
  auto opened = open_or_fail(folder.file());
  for (int round = 0; round < 600; ++round) {
    Transaction transaction;
    transaction.durable = random() % 50 == 0;
    bool holds = true;
    for (std::size_t n = random() % 3; n > 0; --n) {
      std::string key = concat("k/", random() % 20);
      auto found = model.find(key);
      Revision actual = found == model.end() ? 0 : found->second.second;
      Revision wanted = random() % 4 == 0 ? actual + 1 : actual;
      holds = holds && wanted == actual;
      transaction.require(key, wanted);
    }
    auto after = model;
    std::vector<std::string> touched;
    for (std::size_t n = random() % 4; n > 0; --n) {
      std::string key = concat("k/", random() % 20);
      if (random() % 3 == 0) {
        transaction.erase(key);
        after.erase(key);
      } else {
        std::string value = concat("{\"n\":", random(), "}");
        transaction.put(key, value);
        after[key] = {value, 0};
        touched.push_back(key);
      }
    }
    auto result = opened.store->commit(transaction);
    ASSERT_EQ(result.ok(), holds) << round;
    if (holds) {
      for (const auto& key : touched)
        if (after.count(key) != 0) after[key].second = *result;
      model = after;
    }
    if (random() % 40 == 0) {
      opened.store.reset();
      opened = open_or_fail(folder.file());
      EXPECT_TRUE(opened.repairs.empty());
    }
    auto listed = opened.store->list("k/");
    ASSERT_TRUE(listed.ok());
    ASSERT_EQ(listed->size(), model.size()) << round;
    auto expected = model.begin();
    for (const auto& entry : *listed) {
      EXPECT_EQ(entry.key, expected->first);
      EXPECT_EQ(entry.value, expected->second.first);
      EXPECT_EQ(entry.revision, expected->second.second);
      ++expected;
    }
  }
}

TEST(store, what_was_committed_survives_kill_9_in_the_middle_of_a_flood) {
  Folder folder;
  int told[2];
  ASSERT_EQ(::pipe(told), 0);
  pid_t child = ::fork();
  if (child == 0) {
    auto opened = open_sqlite_store({folder.file()});
    for (int n = 1; opened.ok(); ++n) {
      auto text = concat(n);
      if (!opened->store->commit(Transaction().put("a", text).put("b", text)).ok()) break;
      if (::write(told[1], &n, sizeof n) < 0) break;
    }
    ::_exit(1);
  }
  ::close(told[1]);
  int last = 0;
  while (last < 200) ASSERT_EQ(::read(told[0], &last, sizeof last), static_cast<ssize_t>(sizeof last));
  ::kill(child, SIGKILL);
  int number = 0;
  while (::read(told[0], &number, sizeof number) == static_cast<ssize_t>(sizeof number)) last = number;
  ::waitpid(child, nullptr, 0);
  ::close(told[0]);
  auto opened = open_or_fail(folder.file());
  EXPECT_TRUE(opened.repairs.empty());
  auto a = opened.store->get("a");
  auto b = opened.store->get("b");
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(a->value, b->value);
  EXPECT_GE(*parse_integer<int>(a->value), last);
}

TEST(store, a_row_that_is_no_json_is_put_aside_and_the_rest_works) {
  Folder folder;
  {
    auto opened = open_or_fail(folder.file());
    ASSERT_TRUE(opened.store->commit(Transaction().put("good", "1").put("bad", "2").put("blob", "3")).ok());
  }
  run_sql(folder.file(), "UPDATE entries SET value = '{\"cut' WHERE key = 'bad'; UPDATE entries SET value = x'00ff' WHERE key = 'blob'");
  {
    auto opened = open_or_fail(folder.file());
    ASSERT_EQ(opened.repairs.size(), 2U);
    EXPECT_THAT(opened.repairs[0], HasSubstr("\"bad\""));
    EXPECT_EQ(opened.store->get("good")->value, "1");
    EXPECT_FALSE(opened.store->get("bad").ok());
  }
  auto opened = open_or_fail(folder.file());
  EXPECT_TRUE(opened.repairs.empty());
  opened.store.reset();
  run_sql(folder.file(), "UPDATE damaged SET key = key WHERE 1 / (SELECT count(*) = 2 FROM damaged)");
}

TEST(store, a_file_that_is_no_database_is_put_aside_whole) {
  Folder folder;
  std::ofstream(folder.file()) << std::string(8192, 'x');
  auto opened = open_or_fail(folder.file());
  ASSERT_EQ(opened.repairs.size(), 1U);
  EXPECT_THAT(opened.repairs[0], HasSubstr("was damaged"));
  EXPECT_TRUE(opened.store->commit(Transaction().put("a", "1")).ok());
}

TEST(store, a_truncated_file_is_put_aside_and_its_readable_rows_are_saved) {
  Folder folder;
  constexpr int rows = 400;
  {
    auto opened = open_or_fail(folder.file());
    for (int i = 0; i < rows; ++i)
      ASSERT_TRUE(opened.store->commit(Transaction().put(concat("k/", 1000 + i), concat("\"", std::string(300, 'v'), "\""))).ok());
  }
  auto size = std::filesystem::file_size(folder.file());
  std::filesystem::resize_file(folder.file(), size / 2 / 4096 * 4096);
  auto opened = open_or_fail(folder.file());
  ASSERT_EQ(opened.repairs.size(), 1U);
  EXPECT_THAT(opened.repairs[0], HasSubstr("put aside as"));
  auto saved = opened.store->list("k/");
  ASSERT_TRUE(saved.ok());
  EXPECT_GT(saved->size(), 0U);
  EXPECT_LT(saved->size(), static_cast<std::size_t>(rows));
  EXPECT_TRUE(opened.store->commit(Transaction().put("a", "1")).ok());
}

TEST(store, files_of_every_released_format_are_opened_with_all_their_entries) {
  std::string here = __FILE__;
  const std::filesystem::path data = concat(here.substr(0, here.rfind("/src/state/")), "/tests/data/state");
  std::size_t formats = 0;
  for (const auto& file : std::filesystem::directory_iterator(data)) {
    auto text = linux::read_file(file.path().string());
    ASSERT_TRUE(text.ok()) << text.error().text();
    Folder folder;
    run_sql(folder.file(), *text);
    auto opened = open_or_fail(folder.file());
    EXPECT_TRUE(opened.repairs.empty()) << file.path();
    std::size_t written = 0;
    for (auto at = text->find("INSERT INTO \"entries\""); at != std::string::npos; at = text->find("INSERT INTO \"entries\"", at + 1)) ++written;
    auto kept = opened.store->list("");
    ASSERT_TRUE(kept.ok());
    EXPECT_EQ(kept->size(), written) << file.path();
    EXPECT_TRUE(opened.store->commit(Transaction().put("a", "1")).ok());
    ++formats;
  }
  EXPECT_GE(formats, 1U);
}

TEST(store, a_file_of_a_newer_version_is_refused_and_left_alone) {
  Folder folder;
  open_or_fail(folder.file()).store.reset();
  run_sql(folder.file(), "PRAGMA user_version=99");
  auto opened = open_sqlite_store({folder.file()});
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().kind(), ErrorKind::unsupported);
  EXPECT_THAT(opened.error().text(), HasSubstr("newer version"));
}

/// Collects events and lets the test wait for a count of them.
class Recorder {
 public:
  void operator()(const WatchEvent& event) {
    std::lock_guard lock(mutex_);
    seen_.push_back(concat(event.deleted ? "-" : "+", event.entry.key, event.deleted ? "" : "=", event.entry.value));
    changed_.notify_all();
  }
  std::vector<std::string> wait_for(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(20), [&] { return seen_.size() >= count; });
    return seen_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> seen_;
};

TEST(store, a_watcher_sees_later_changes_below_its_prefix_in_order) {
  Folder folder;
  auto opened = open_or_fail(folder.file());
  ASSERT_TRUE(opened.store->commit(Transaction().put("c/old", "0")).ok());
  Recorder recorder;
  auto watch = opened.store->watch("c/", std::ref(recorder));
  ASSERT_TRUE(watch.ok());
  ASSERT_TRUE(opened.store->commit(Transaction().put("c/1", "1").put("d/1", "1").put("c/2", "2")).ok());
  ASSERT_TRUE(opened.store->commit(Transaction().erase("c/1").erase("c/never")).ok());
  ASSERT_FALSE(opened.store->commit(Transaction().require_absent("c/2").put("c/3", "3")).ok());
  ASSERT_TRUE(opened.store->commit(Transaction().put("c/2", "4")).ok());
  EXPECT_THAT(recorder.wait_for(4), testing::ElementsAre("+c/1=1", "+c/2=2", "-c/1", "+c/2=4"));
  watch->reset();
  ASSERT_TRUE(opened.store->commit(Transaction().put("c/5", "5")).ok());
  Recorder second;
  auto other = opened.store->watch("c/", std::ref(second));
  ASSERT_TRUE(opened.store->commit(Transaction().put("c/6", "6")).ok());
  EXPECT_THAT(second.wait_for(1), testing::ElementsAre("+c/6=6"));
  EXPECT_EQ(recorder.wait_for(0).size(), 4U);
}

TEST(store, a_lease_takes_its_keys_along_when_it_ends) {
  Folder folder;
  auto opened = open_or_fail(folder.file());
  Recorder recorder;
  auto watch = opened.store->watch("n/", std::ref(recorder));
  auto lease = opened.store->grant_lease(50);
  ASSERT_TRUE(lease.ok());
  auto kept = opened.store->grant_lease(600'000);
  ASSERT_TRUE(kept.ok());
  Transaction transaction;
  transaction.writes.push_back({"n/short", "1", *lease});
  transaction.writes.push_back({"n/long", "1", *kept});
  ASSERT_TRUE(opened.store->commit(transaction).ok());
  EXPECT_THAT(recorder.wait_for(3), testing::ElementsAre("+n/short=1", "+n/long=1", "-n/short"));
  EXPECT_EQ(opened.store->renew_lease(*lease).error().kind(), ErrorKind::not_found);
  EXPECT_TRUE(opened.store->renew_lease(*kept).ok());
  Transaction late;
  late.writes.push_back({"n/late", "1", *lease});
  EXPECT_EQ(opened.store->commit(late).error().kind(), ErrorKind::not_found);
  EXPECT_TRUE(opened.store->revoke_lease(*kept).ok());
  EXPECT_FALSE(opened.store->get("n/long").ok());
  EXPECT_FALSE(opened.store->grant_lease(0).ok());
}

TEST(store, leases_survive_a_restart) {
  Folder folder;
  std::int64_t lease = 0;
  {
    auto opened = open_or_fail(folder.file());
    lease = *opened.store->grant_lease(600'000);
    Transaction transaction;
    transaction.writes.push_back({"n/a", "1", lease});
    ASSERT_TRUE(opened.store->commit(transaction).ok());
  }
  auto opened = open_or_fail(folder.file());
  EXPECT_TRUE(opened.store->renew_lease(lease).ok());
  EXPECT_NE(*opened.store->grant_lease(1000), lease);
  EXPECT_TRUE(opened.store->revoke_lease(lease).ok());
  EXPECT_FALSE(opened.store->get("n/a").ok());
}

TEST(store, a_missing_folder_is_named) {
  auto opened = open_sqlite_store({"/tmp/caisson-test-no-such-folder/state.db"});
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().kind(), ErrorKind::not_found);
  EXPECT_THAT(opened.error().text(), HasSubstr("caisson-test-no-such-folder"));
}

}  // namespace
}  // namespace caisson::state
