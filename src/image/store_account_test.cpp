// The store's account: what fits, what is promised, what is collected first, and data that has several names.
#include "image/store_account.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <thread>

namespace caisson::image {
namespace {

using testing::HasSubstr;

StoreAccount::Item item(ino_t inode, std::uint64_t bytes) { return {inode, bytes}; }

TEST(StoreAccount, what_fits_is_granted_and_comes_back) {
  StoreAccount account;
  account.begin(100, {});
  {
    auto first = account.reserve(60);
    ASSERT_TRUE(first.ok());
    EXPECT_EQ(account.read().reserved_bytes, 60U);
    EXPECT_TRUE(first->resize(100).ok());
    EXPECT_TRUE(first->resize(10).ok());
    EXPECT_EQ(account.read().reserved_bytes, 10U);
  }
  EXPECT_EQ(account.read().reserved_bytes, 0U);
}

TEST(StoreAccount, what_does_not_fit_is_refused_with_the_numbers_and_the_next_step) {
  StoreAccount account;
  account.begin(100 << 20, {});
  account.set("blob", {item(1, 60 << 20)});
  auto promised = account.reserve(30 << 20);
  ASSERT_TRUE(promised.ok());
  auto refused = account.reserve(11 << 20);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::io);
  EXPECT_EQ(refused.error().error_number(), EDQUOT);
  for (const char* part : {"11MiB more are needed", "60MiB are used", "30MiB are promised", "quota (store-quota) is 100MiB", "caisson system df", "caisson image prune"})
    EXPECT_THAT(refused.error().text(), HasSubstr(part));
  EXPECT_EQ(account.read().reserved_bytes, 30U << 20U) << "what was refused holds nothing";
}

TEST(StoreAccount, a_reservation_that_cannot_grow_is_given_up_at_once) {
  StoreAccount account;
  account.begin(100, {});
  auto room = account.reserve(50);
  ASSERT_TRUE(room.ok());
  auto refused = room->resize(101);
  EXPECT_THAT(refused.error().text(), HasSubstr("101B more are needed, 0B are used, and")) << "its own part is not somebody else's";
  EXPECT_EQ(account.read().reserved_bytes, 0U);
  EXPECT_TRUE(account.reserve(100).ok()) << "whoever waited has the room of the one that was refused";
}

TEST(StoreAccount, data_with_several_names_counts_once_and_as_long_as_one_is_left) {
  StoreAccount account;
  account.begin(0, {});
  account.set("blob", {item(7, 4096)});
  account.set("layer", {item(8, 512), item(7, 4096)});
  EXPECT_EQ(account.read().used_bytes, 4608U);
  const std::vector<std::string> both{"blob", "layer"};
  EXPECT_EQ(account.bytes_of(both), 4608U);
  account.set("blob", {});
  EXPECT_EQ(account.read().used_bytes, 4608U);
  account.set("layer", {});
  EXPECT_EQ(account.read().used_bytes, 0U);
}

TEST(StoreAccount, what_changes_is_counted_anew) {
  StoreAccount account;
  account.begin(0, {});
  account.set("partial", {item(7, 4096)});
  account.set("partial", {item(7, 8192)});
  EXPECT_EQ(account.read().used_bytes, 8192U);
  account.set("blob", {item(7, 8192)});  // renamed
  account.set("partial", {});
  EXPECT_EQ(account.read().used_bytes, 8192U);
  account.set("blob", {item(9, 100)});  // replaced
  EXPECT_EQ(account.read().used_bytes, 100U);
  account.set("blob", {});
  account.set("never there", {});
  EXPECT_EQ(account.read().used_bytes, 0U);
}

TEST(StoreAccount, room_becomes_use_without_being_counted_twice) {
  StoreAccount account;
  account.begin(100, {});
  auto room = account.reserve(100).value();
  account.set("blob", {item(1, 70)}, {&room});
  EXPECT_EQ(account.read().used_bytes, 70U);
  EXPECT_EQ(account.read().reserved_bytes, 30U);
  account.set("blob", {item(1, 70)}, {&room});
  EXPECT_EQ(account.read().reserved_bytes, 30U) << "nothing has grown";
  auto part = room.split(20);
  account.set("layer", {item(2, 25)}, {&room, nullptr, &part});
  EXPECT_EQ(account.read().used_bytes, 95U);
  EXPECT_EQ(account.read().reserved_bytes, 5U) << "first the one, then the other";
}

TEST(StoreAccount, what_nobody_needs_is_collected_before_anything_is_refused) {
  StoreAccount account;
  int calls = 0;
  account.begin(100, [&](const std::function<bool()>& is_enough) -> Status {
    ++calls;
    for (const char* name : {"a", "b", "c"}) {
      if (is_enough()) break;
      account.set(name, {});
    }
    return {};
  });
  account.set("a", {item(1, 30)});
  account.set("b", {item(2, 30)});
  account.set("c", {item(3, 30)});
  EXPECT_TRUE(account.reserve(10).ok());
  EXPECT_EQ(calls, 0);
  EXPECT_TRUE(account.reserve(50).ok());
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(account.read().used_bytes, 30U) << "no more than it takes";
  EXPECT_FALSE(account.reserve(101).ok());
  EXPECT_EQ(calls, 1) << "what could never fit takes nothing away";
  EXPECT_EQ(account.read().used_bytes, 30U);
}

TEST(StoreAccount, a_collector_that_fails_is_the_reason_only_where_there_is_no_room) {
  StoreAccount account;
  bool frees = true;
  account.begin(100, [&](const std::function<bool()>&) -> Status {
    if (frees) account.set("old", {});
    return Error(ErrorKind::io, "the disk is broken");
  });
  account.set("old", {item(1, 90)});
  EXPECT_TRUE(account.reserve(50).ok());
  frees = false;
  account.set("old", {item(1, 90)});
  EXPECT_THAT(account.reserve(50).error().text(), HasSubstr("make room in the image store: the disk is broken"));
}

TEST(StoreAccount, without_a_quota_everything_fits_and_is_counted) {
  StoreAccount account;
  account.begin(0, [](const std::function<bool()>&) -> Status { return Error(ErrorKind::internal, "nobody asked"); });
  auto room = account.reserve(std::uint64_t{1} << 60U);
  EXPECT_TRUE(room.ok());
  EXPECT_EQ(account.read().reserved_bytes, std::uint64_t{1} << 60U);
}

TEST(StoreAccount, one_that_was_never_begun_counts_nothing) {
  StoreAccount account;
  auto room = account.reserve(1000);
  ASSERT_TRUE(room.ok());
  EXPECT_TRUE(room->resize(5000).ok());
  account.set("blob", {item(1, 1000)});
  EXPECT_EQ(account.read().used_bytes, 0U);
  EXPECT_EQ(account.read().reserved_bytes, 0U);
}

TEST(StoreAccount, a_store_above_its_quota_takes_nothing_but_goes_on) {
  StoreAccount account;
  account.begin(100, {});
  account.set("blob", {item(1, 500)});  // the quota was lowered
  EXPECT_TRUE(account.reserve(0).ok());
  EXPECT_FALSE(account.reserve(1).ok());
  account.set("blob", {});
  EXPECT_TRUE(account.reserve(100).ok());
}

TEST(StoreAccount, many_at_once_never_get_more_than_there_is) {
  StoreAccount account;
  constexpr std::uint64_t quota = 1000;
  std::atomic<bool> was_exceeded = false;
  account.begin(quota, {});
  std::vector<std::thread> threads;
  for (unsigned number = 0; number < 8; ++number) {
    threads.emplace_back([&, number] {
      const std::string owner = std::to_string(number);
      for (unsigned turn = 0; turn < 2000; ++turn) {
        auto room = account.reserve(100 + turn % 200);
        if (!room.ok()) continue;
        account.set(owner, {item(number + 1, 90)}, {&*room});
        if (const auto now = account.read(); now.used_bytes + now.reserved_bytes > quota) was_exceeded = true;
        account.set(owner, {});
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_FALSE(was_exceeded);
  EXPECT_EQ(account.read().used_bytes, 0U);
  EXPECT_EQ(account.read().reserved_bytes, 0U);
}

}  // namespace
}  // namespace caisson::image
