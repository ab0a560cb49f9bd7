// Whichever system call of a connect or a disconnect fails: nothing is left, and the next one works.
#include <gmock/gmock.h>

#include <algorithm>
#include <optional>

#include "linux/fault.hpp"
#include "network/test_support.hpp"

namespace caisson::network {
namespace {

using testing::HasSubstr;
using namespace testing_support;

/// Fails system calls `first`, `first + step`, … of connect() one at a time.
class NetworkFaultWalk : public NetworkManagerTest {
 protected:
  enum class Bridge : std::uint8_t { ready, made_anew };
  Result<Endpoint> attempt() {
    namespaces_.push_back(new_netns());
    return connect("c", namespaces_.back().get(), {"8080:80", "127.0.0.1:53:53/udp"});
  }
  void begin(Bridge bridge) {
    ASSERT_TRUE(manager_->disconnect("c").ok());
    if (bridge == Bridge::made_anew) {
      ASSERT_TRUE(manager_->shut_down().ok());
    }
  }
  static std::size_t link_count() {
    auto socket = linux::open_rtnetlink();
    auto links = linux::list_links(*socket);
    return static_cast<std::size_t>(std::count_if(links->begin(), links->end(), [](const linux::LinkInfo& link) { return link.name.rfind("veth", 0) == 0; }));
  }
  void walk(Bridge bridge, std::uint32_t first, std::uint32_t step) {
    ASSERT_TRUE(attempt().ok());
    begin(bridge);
    std::uint32_t calls = 0;
    {
      linux::ScopedCallCount count;
      ASSERT_TRUE(attempt().ok());
      calls = count.value();
    }
    int refusals = 0;
    for (std::uint32_t nth = first; nth <= calls; nth += step) {
      begin(bridge);
      const std::size_t links = link_count();
      std::optional<Error> refusal;
      std::string name;
      {
        linux::ScopedFault fault("*", EIO, nth);
        auto endpoint = attempt();
        if (!endpoint) refusal = endpoint.error();
        name = concat("call ", nth, " of ", calls, ": ", fault.fired_name());
      }
      if (!refusal) continue;  // a call that may fail
      ++refusals;
      SCOPED_TRACE(concat(name, ": ", refusal->text()));
      EXPECT_THAT(refusal->text(), HasSubstr("connecting container c"));
      EXPECT_EQ(link_count(), links);
      EXPECT_EQ(count_records(), 0U);
      EXPECT_TRUE(manager_->endpoints()->empty());
      EXPECT_THAT(published_elements(), testing::Not(HasSubstr("elements")));
      auto again = attempt();
      EXPECT_TRUE(again.ok()) << again.error().text();
    }
    EXPECT_GT(refusals, 5);
  }
  /// Fails each call of a disconnect; what the first could not take away the second must.
  void walk_disconnect(int error_number) {
    ASSERT_TRUE(attempt().ok());
    std::uint32_t calls = 0;
    {
      linux::ScopedCallCount count;
      ASSERT_TRUE(manager_->disconnect("c").ok());
      calls = count.value();
    }
    int refusals = 0;
    for (std::uint32_t nth = 1; nth <= calls; ++nth) {
      auto connected = attempt();
      ASSERT_TRUE(connected.ok()) << "before call " << nth << " of " << calls << ": " << connected.error().text();
      Status outcome;
      std::string name;
      {
        linux::ScopedFault fault("*", error_number, nth);
        outcome = manager_->disconnect("c");
        name = concat("call ", nth, " of ", calls, ": ", fault.fired_name());
      }
      SCOPED_TRACE(concat(name, ": ", outcome.ok() ? "done" : outcome.error().text()));
      if (!outcome.ok()) {
        ++refusals;
        EXPECT_THAT(outcome.error().text(), HasSubstr("container c"));
        auto again = manager_->disconnect("c");
        EXPECT_TRUE(again.ok()) << again.error().text();
      }
      EXPECT_EQ(count_records(), 0U);
      EXPECT_TRUE(manager_->endpoints()->empty());
      EXPECT_THAT(published_elements(), testing::Not(HasSubstr("elements")));
    }
    EXPECT_GT(refusals, 0);
  }
  std::vector<UniqueFd> namespaces_;  // kept, so that no veth vanishes while links are counted
};

TEST_F(NetworkFaultWalk, whichever_call_of_a_connect_fails_nothing_is_left_and_the_next_one_works) { walk(Bridge::ready, 1, 1); }

TEST_F(NetworkFaultWalk, whichever_call_of_a_disconnect_fails_the_next_takes_away_what_is_left) {
  walk_disconnect(EIO);
  walk_disconnect(EMFILE);
}

TEST_F(NetworkFaultWalk, whichever_call_fails_while_bridge_and_table_are_made_nothing_is_left) {
  // Starting programs is most of it; a stride keeps the walk short, its offset moves with every run.
  constexpr std::uint32_t stride = 7;
  auto first = static_cast<std::uint32_t>(1 + ::getpid() % static_cast<int>(stride));
  SCOPED_TRACE(concat("first call ", first));
  walk(Bridge::made_anew, first, stride);
}

}  // namespace
}  // namespace caisson::network
