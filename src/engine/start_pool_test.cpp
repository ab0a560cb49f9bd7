// Starts served from what was kept ready, and the plain way whenever that does not fit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/time.hpp"
#include "engine/fake_parts.hpp"

namespace caisson::engine {
namespace {

using fake::Harness;

class StartPool : public testing::Test {
 protected:
  /// The background threads have filled the pool of the bridge.
  std::set<std::string> wait_for_ready_links(std::size_t count) {
    auto deadline = monotonic_ns() + 5'000'000'000;
    while (h.network->ready_links().size() != count && monotonic_ns() < deadline) std::this_thread::yield();
    EXPECT_EQ(h.network->ready_links().size(), count);
    return h.network->ready_links();
  }
  std::string address_of(const std::string& name) {
    auto info = h.engine->inspect(h.admin, name, false);
    EXPECT_TRUE(info.ok());
    return info.ok() && !info->endpoints.empty() ? info->endpoints.front().ipv4 : "";
  }
  Harness h{std::size_t{2}};
};

TEST_F(StartPool, the_second_container_gets_a_link_that_was_kept_ready) {
  h.run(Harness::spec({"run"}, "one"));
  auto ready = wait_for_ready_links(2);
  h.run(Harness::spec({"run"}, "two"));
  EXPECT_TRUE(ready.contains(address_of("two"))) << address_of("two");
  wait_for_ready_links(2);
}

TEST_F(StartPool, a_container_that_asks_for_an_address_of_its_own_is_started_the_plain_way) {
  h.run(Harness::spec({"run"}, "one"));
  auto ready = wait_for_ready_links(2);
  auto spec = Harness::spec({"run"}, "two");
  spec.network.endpoints = {{.network = "bridge", .ipv4 = "10.0.0.200"}};
  h.run(spec);
  EXPECT_FALSE(ready.contains(address_of("two")));
  EXPECT_EQ(h.network->ready_links(), ready);
}

TEST_F(StartPool, a_link_that_has_gone_costs_the_start_nothing_but_time) {
  h.run(Harness::spec({"run"}, "one"));
  auto ready = wait_for_ready_links(2);
  h.network->ready_links_are_gone = true;
  h.run(Harness::spec({"run"}, "two"));
  EXPECT_FALSE(ready.contains(address_of("two")));
  EXPECT_EQ(h.state_of("two"), State::running);
}

TEST_F(StartPool, a_pool_that_cannot_be_filled_hinders_nobody) {
  h.network->refuse_ready_links = true;
  h.run(Harness::spec({"run"}, "one"));
  h.run(Harness::spec({"run"}, "two"));
  EXPECT_EQ(h.state_of("two"), State::running);
}

TEST_F(StartPool, a_container_that_is_removed_unstarted_gives_its_link_back) {
  h.run(Harness::spec({"run"}, "one"));
  wait_for_ready_links(2);
  auto id = h.create(Harness::spec({"run"}, "two"));
  ASSERT_TRUE(h.engine->remove(h.admin, id, {}).ok());
  EXPECT_EQ(h.network->ready_links().size(), 1U);
}

TEST_F(StartPool, a_container_made_by_an_earlier_daemon_starts_the_plain_way) {
  h.run(Harness::spec({"run"}, "one"));
  wait_for_ready_links(2);
  h.create(Harness::spec({"run"}, "two"));
  h.close();
  h.open();
  ASSERT_TRUE(h.engine->start(h.admin, "two").ok());
  EXPECT_EQ(h.state_of("two"), State::running);
}

}  // namespace
}  // namespace caisson::engine
