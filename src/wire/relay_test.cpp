// Tests of the relay: both directions, half-closed ones, departures and the stop, over socket pairs.
#include "wire/relay.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"

namespace caisson::wire {
namespace {

class Relay : public testing::Test {
 protected:
  linux::SocketPair left = *linux::socketpair(linux::UnixType::stream);
  linux::SocketPair right = *linux::socketpair(linux::UnixType::stream);
  UniqueFd stop = *linux::eventfd();
  Status outcome;
  std::thread thread{[this] {
    outcome = relay(left.second.get(), right.first.get(), Cancel{stop.get()});
    left.second.reset();
    right.first.reset();
  }};

  void TearDown() override {
    if (thread.joinable()) thread.join();
    EXPECT_TRUE(outcome.ok());
  }
  static void say(int fd, std::string_view text) { ASSERT_TRUE(linux::send_all(fd, text).ok()); }
  static std::string hear(int fd, std::size_t size) {
    std::string all;
    std::string buffer(64 << 10, '\0');
    while (all.size() < size) {
      auto count = linux::read(fd, buffer);
      if (!count.ok() || *count == 0) break;
      all += buffer.substr(0, *count);
    }
    return all;
  }
  /// Everything to the end; what a side that is gone had not read counts as an end.
  static std::string rest(int fd) { return hear(fd, std::string::npos); }
};

TEST_F(Relay, bytes_go_both_ways_and_one_direction_may_end_first) {
  say(left.first.get(), "question");
  EXPECT_EQ(hear(right.second.get(), 8), "question");
  ASSERT_TRUE(linux::shutdown(left.first.get(), SHUT_WR).ok());
  EXPECT_EQ(rest(right.second.get()), "");
  say(right.second.get(), "answer");
  right.second.reset();
  EXPECT_EQ(rest(left.first.get()), "answer");
}

TEST_F(Relay, more_than_the_sockets_hold_arrives_whole) {
  std::string much(4 << 20, 'x');
  std::thread writer([&] {
    say(right.second.get(), much);
    right.second.reset();
  });
  EXPECT_EQ(hear(left.first.get(), much.size()), much);
  writer.join();
  left.first.reset();
}

TEST_F(Relay, it_ends_when_a_side_is_gone_altogether) {
  say(left.first.get(), "last words");
  left.first.reset();
  EXPECT_EQ(rest(right.second.get()), "last words");
  right.second.reset();
}

TEST_F(Relay, it_ends_when_it_is_stopped) {
  say(left.first.get(), "x");
  EXPECT_EQ(hear(right.second.get(), 1), "x");
  ASSERT_TRUE(linux::eventfd_signal(stop.get()).ok());
  EXPECT_EQ(rest(left.first.get()), "");
}

}  // namespace
}  // namespace caisson::wire
