// The pool alone: what it holds, when it gives back, and that nothing is lost on the way.
#include "engine/namespace_pool.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "linux/event.hpp"

namespace caisson::engine {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Kind = NamespacePool::Kind;

/// Counts ranges and addresses that are out.
class Pool : public testing::Test {
 protected:
  NamespacePool::Source source() {
    NamespacePool::Source source;
    source.make = [this](Kind kind) -> Result<ReadyPair> {
      if (left == 0) return Error(ErrorKind::unavailable, "none left");
      --left;
      ReadyPair pair;
      pair.first_host_id = ++last;
      pair.user = TRY_PLAIN(linux::eventfd());
      pair.network = TRY_PLAIN(linux::eventfd());
      if (kind == Kind::bridged) pair.link = network::ReadyLink{std::to_string(last), "veth", 1};
      ranges.insert(last);
      return pair;
    };
    source.give_back = [this](ReadyPair pair) { ranges.erase(pair.first_host_id); };
    source.unmake = [this](ReadyPair pair) { unmade.insert(pair.first_host_id); };
    return source;
  }
  std::uint32_t last = 0;
  int left = 1000;
  std::set<std::uint32_t> ranges;
  std::set<std::uint32_t> unmade;
  NamespacePool pool{2, source()};
};

TEST_F(Pool, nothing_is_made_before_a_kind_was_asked_for) {
  EXPECT_FALSE(pool.wants_refill());
  ASSERT_TRUE(pool.refill().ok());
  EXPECT_EQ(last, 0U);
  EXPECT_FALSE(pool.assign("a", Kind::isolated).has_value());
  EXPECT_TRUE(pool.wants_refill());
  ASSERT_TRUE(pool.refill().ok());
  EXPECT_EQ(last, 2U);
  EXPECT_FALSE(pool.wants_refill());
  EXPECT_FALSE(pool.assign("b", Kind::bridged).has_value()) << "a pair without a link served a container that wants one";
}

TEST_F(Pool, a_container_gets_the_range_at_create_and_the_namespaces_at_start) {
  EXPECT_FALSE(pool.assign("first", Kind::bridged).has_value());
  ASSERT_TRUE(pool.refill().ok());
  auto range = pool.assign("a", Kind::bridged);
  ASSERT_TRUE(range.has_value());
  EXPECT_FALSE(pool.take("other").has_value());
  auto pair = pool.take("a");
  ASSERT_TRUE(pair.has_value());
  EXPECT_EQ(pair->first_host_id, *range);
  EXPECT_TRUE(pair->user && pair->network && pair->link);
  EXPECT_FALSE(pool.take("a").has_value());
}

TEST_F(Pool, containers_that_are_never_started_do_not_keep_more_than_the_pool_may_hold) {
  EXPECT_FALSE(pool.assign("first", Kind::isolated).has_value());
  for (const auto* name : {"a", "b", "c"}) {
    ASSERT_TRUE(pool.refill().ok());
    ASSERT_TRUE(pool.assign(name, Kind::isolated).has_value());
  }
  EXPECT_THAT(unmade, ElementsAre(1U));
  EXPECT_FALSE(pool.take("a").has_value());
  EXPECT_TRUE(ranges.contains(1U)) << "the range belongs to the container's record and must not be given away";
  EXPECT_TRUE(pool.take("b").has_value());
}

TEST_F(Pool, a_container_that_goes_unstarted_takes_its_namespaces_along) {
  EXPECT_FALSE(pool.assign("first", Kind::isolated).has_value());
  ASSERT_TRUE(pool.refill().ok());
  auto range = pool.assign("a", Kind::isolated);
  ASSERT_TRUE(range.has_value());
  pool.forget("a");
  pool.forget("a");
  EXPECT_THAT(unmade, ElementsAre(*range));
  EXPECT_FALSE(pool.take("a").has_value());
}

TEST_F(Pool, drain_gives_everything_back_and_the_next_refill_begins_anew) {
  EXPECT_FALSE(pool.assign("first", Kind::isolated).has_value());
  ASSERT_TRUE(pool.refill().ok());
  auto range = pool.assign("a", Kind::isolated);
  pool.drain();
  EXPECT_THAT(ranges, ElementsAre(*range)) << "only the range that a container owns is still out";
  EXPECT_THAT(unmade, ElementsAre(*range));
  EXPECT_FALSE(pool.take("a").has_value());
  ASSERT_TRUE(pool.refill().ok());
  EXPECT_TRUE(pool.assign("b", Kind::isolated).has_value());
}

TEST_F(Pool, a_refill_that_fails_says_so_and_keeps_what_it_made) {
  EXPECT_FALSE(pool.assign("first", Kind::isolated).has_value());
  left = 1;
  auto refilled = pool.refill();
  ASSERT_FALSE(refilled.ok());
  EXPECT_EQ(refilled.error().kind(), ErrorKind::unavailable);
  EXPECT_TRUE(pool.assign("a", Kind::isolated).has_value());
  EXPECT_FALSE(pool.assign("b", Kind::isolated).has_value());
}

TEST(NoPool, a_pool_of_size_zero_never_makes_anything) {
  NamespacePool::Source source;
  source.make = [](Kind) -> Result<ReadyPair> { return Error(ErrorKind::internal, "asked to make something"); };
  NamespacePool pool(0, source);
  EXPECT_FALSE(pool.assign("a", Kind::isolated).has_value());
  EXPECT_FALSE(pool.wants_refill());
  EXPECT_TRUE(pool.refill().ok());
}

}  // namespace
}  // namespace caisson::engine
