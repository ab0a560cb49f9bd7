// Tests of lent agents: who meets whom, what waits for how long, and what ends with the build, over real sockets.
#include "build/ssh_agents.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <condition_variable>
#include <optional>

#include "base/ids.hpp"
#include "base/strings.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"
#include "linux/tree.hpp"

namespace caisson::build {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

engine::Caller caller_of(uid_t uid, std::string source = "unix:/run/x.sock") {
  engine::Caller caller;
  caller.uid = uid;
  caller.source = std::move(source);
  caller.role = policy::built_in("admin");
  return caller;
}

/// A client's request in a thread of its own.
class Request {
 public:
  Request(AgentSessions& sessions, engine::Caller caller, std::string name, std::string id)
      : thread_([this, &sessions, caller = std::move(caller), name = std::move(name), id = std::move(id)] { use_ = sessions.wait_for_use(caller, name, id, Cancel{client_.get()}); }) {}
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  ~Request() {
    if (!thread_.joinable()) return;
    EXPECT_FALSE(leave().ok());
  }
  Result<AgentUse> take() {
    thread_.join();
    return std::move(*use_);
  }
  Result<AgentUse> leave() {
    EXPECT_TRUE(linux::eventfd_signal(client_.get()).ok());
    return take();
  }

 private:
  UniqueFd client_ = *linux::eventfd();
  std::optional<Result<AgentUse>> use_;
  std::thread thread_;
};

class Agents : public testing::Test {
 protected:
  std::string name = random_id();
  AgentSessions sessions{AgentLimits{4, 3, 60'000}};
  engine::Caller me = caller_of(7);

  /// A connection by which a text comes.
  static UniqueFd saying(std::string_view text) {
    auto ends = *linux::socketpair(linux::UnixType::stream);
    EXPECT_TRUE(linux::send_all(ends.second.get(), text).ok());
    return std::move(ends.first);
  }
  static std::string heard(int fd) {
    std::string buffer(64, '\0');
    auto count = linux::read(fd, buffer);
    return count.ok() ? buffer.substr(0, *count) : count.error().text();
  }
};

TEST_F(Agents, a_connection_reaches_the_request_of_its_session_and_id) {
  auto build = *sessions.begin(me, name);
  Request other(sessions, me, name, "other");
  Request request(sessions, me, name, "default");
  ASSERT_TRUE(build->call("default", saying("a"), this).ok());
  auto use = request.take();
  ASSERT_TRUE(use.ok()) << use.error().text();
  EXPECT_EQ(heard(use->connection.get()), "a");
  EXPECT_FALSE(*linux::wait_readable(use->over.fd, 0));
  EXPECT_THAT(other.leave().error().text(), HasSubstr("the client left"));
}

TEST_F(Agents, requests_may_come_before_the_build_and_connections_before_requests) {
  Request early(sessions, me, name, "a");
  auto build = *sessions.begin(me, name);
  ASSERT_TRUE(build->call("a", saying("1"), this).ok());
  ASSERT_TRUE(build->call("a", saying("2"), this).ok());
  ASSERT_TRUE(build->call("b", saying("3"), this).ok());
  auto first = early.take();
  auto second = sessions.wait_for_use(me, name, "b", {});
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_THAT(heard(first->connection.get()), testing::AnyOf("1", "2"));
  EXPECT_EQ(heard(second->connection.get()), "3");
}

TEST_F(Agents, everything_ends_with_the_build) {
  auto build = *sessions.begin(me, name);
  ASSERT_TRUE(build->call("a", saying("1"), this).ok());
  auto use = sessions.wait_for_use(me, name, "a", {});
  ASSERT_TRUE(use.ok());
  Request waiting(sessions, me, name, "a");
  auto ends = *linux::socketpair(linux::UnixType::stream);
  ASSERT_TRUE(build->call("nobody asks", std::move(ends.first), this).ok());
  build.reset();
  auto ended = waiting.leave();
  ASSERT_FALSE(ended.ok());
  // A request that comes after the build belongs to one that has yet to come.
  EXPECT_THAT(ended.error().text(), testing::AnyOf(HasSubstr("the build has ended"), HasSubstr("the client left")));
  EXPECT_TRUE(*linux::wait_readable(use->over.fd, 0));
  EXPECT_EQ(heard(ends.second.get()), "") << "the connection is closed";
}

TEST_F(Agents, a_session_is_its_users_and_one_builds) {
  auto build = *sessions.begin(me, name);
  EXPECT_EQ(sessions.wait_for_use(caller_of(8), name, "a", {}).error().kind(), ErrorKind::denied);
  EXPECT_EQ(sessions.wait_for_use(caller_of(7, "tcp:1.2.3.4:5"), name, "a", {}).error().kind(), ErrorKind::denied);
  EXPECT_EQ(sessions.begin(caller_of(8), name).error().kind(), ErrorKind::denied);
  EXPECT_EQ(sessions.begin(me, name).error().kind(), ErrorKind::conflict);
  auto far = caller_of(0, "tcp:1.2.3.4:5");
  auto far_name = random_id();
  auto far_build = *sessions.begin(far, far_name);
  ASSERT_TRUE(far_build->call("a", saying("x"), this).ok());
  EXPECT_TRUE(sessions.wait_for_use(caller_of(0, "tcp:1.2.3.4:6"), far_name, "a", {}).ok()) << "the port is another one with each connection";
}

TEST_F(Agents, names_that_could_be_guessed_are_refused) {
  for (const auto* bad : {"", "1234", "0123456789abcdef0123456789abcdeG", "../../../../../../../../../../etc"}) EXPECT_EQ(sessions.begin(me, bad).error().kind(), ErrorKind::invalid) << bad;
  EXPECT_EQ(sessions.wait_for_use(me, name, "", {}).error().kind(), ErrorKind::invalid);
  EXPECT_EQ(sessions.wait_for_use(me, name, std::string(257, 'a'), {}).error().kind(), ErrorKind::invalid);
}

TEST_F(Agents, sessions_connections_and_requests_are_bounded) {
  auto build = *sessions.begin(me, name);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(build->call("a", saying("x"), this).ok());
  EXPECT_EQ(build->call("a", saying("x"), this).error().kind(), ErrorKind::conflict);
  std::vector<AgentUse> uses;
  for (int i = 0; i < 3; ++i) uses.push_back(*sessions.wait_for_use(me, name, "a", {}));
  EXPECT_EQ(sessions.wait_for_use(me, name, "a", {}).error().kind(), ErrorKind::conflict);
  uses.pop_back();
  ASSERT_TRUE(build->call("a", saying("x"), this).ok());
  EXPECT_TRUE(sessions.wait_for_use(me, name, "a", {}).ok()) << "a use that has ended makes room";
  std::vector<std::unique_ptr<BuildAgents>> others;
  for (int i = 0; i < 3; ++i) others.push_back(*sessions.begin(me, random_id()));
  EXPECT_EQ(sessions.begin(me, random_id()).error().kind(), ErrorKind::conflict);
  others.clear();
  EXPECT_TRUE(sessions.begin(me, random_id()).ok());
}

TEST_F(Agents, a_request_whose_client_left_leaves_nothing) {
  for (int i = 0; i < 8; ++i) {
    Request request(sessions, me, random_id(), "a");
    EXPECT_EQ(request.leave().error().kind(), ErrorKind::unavailable);
  }
}

class Sockets : public Agents {
 protected:
  std::string folder = concat("/tmp/caisson-agents-test-", random_id().substr(0, 12));
  std::mutex mutex;
  std::condition_variable warned;
  std::vector<std::string> warnings;

  void SetUp() override { ASSERT_TRUE(linux::make_dirs(folder, 0700).ok()); }
  void TearDown() override { EXPECT_TRUE(linux::remove_tree(folder).ok()); }
  std::unique_ptr<AgentSocket> opened(BuildAgents& build, const std::string& id, std::uint32_t mode = 0600) {
    auto socket = AgentSocket::open({concat(folder, "/", id), mode, geteuid(), getegid()}, id, build, [this](std::string text) {
      std::lock_guard lock(mutex);
      warnings.push_back(std::move(text));
      warned.notify_all();
    });
    EXPECT_TRUE(socket.ok());
    return socket.ok() ? std::move(*socket) : nullptr;
  }
  UniqueFd connected(const std::string& id) { return *linux::unix_connect(concat(folder, "/", id), linux::UnixType::stream); }
};

TEST_F(Sockets, what_connects_is_handed_to_the_client) {
  auto build = *sessions.begin(me, name);
  auto socket = opened(*build, "a", 0620);
  EXPECT_EQ(linux::lstat(folder + "/a")->st_mode, static_cast<mode_t>(S_IFSOCK | 0620));
  auto step = connected("a");
  auto use = sessions.wait_for_use(me, name, "a", {});
  ASSERT_TRUE(use.ok());
  ASSERT_TRUE(linux::send_all(use->connection.get(), "hello").ok());
  EXPECT_EQ(heard(step.get()), "hello");
}

TEST_F(Sockets, a_connection_that_no_client_takes_is_closed_in_time_and_told) {
  AgentSessions hasty(AgentLimits{4, 3, 1});
  auto build = *hasty.begin(me, name);
  auto socket = opened(*build, "a");
  auto step = connected("a");
  EXPECT_EQ(heard(step.get()), "");
  std::unique_lock lock(mutex);
  warned.wait(lock, [&] { return !warnings.empty(); });
  EXPECT_THAT(warnings, ElementsAre("ssh agent a: the client that lends it did not take a connection in time"));
}

TEST_F(Sockets, connections_that_wait_end_with_the_step) {
  auto build = *sessions.begin(me, name);
  auto socket = opened(*build, "a");
  auto step = connected("a");
  socket.reset();
  auto said = heard(step.get());
  EXPECT_TRUE(said.empty() || said.find("reset") != std::string::npos) << said;
}

}  // namespace
}  // namespace caisson::build
