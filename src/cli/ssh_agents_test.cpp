// Tests of --ssh: the flag's forms, what passes to an agent and what does not, keys in an agent of our own, and agents lent to a daemon.
#include "cli/ssh_agents.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "cli/fake_daemon.hpp"
#include "linux/socket.hpp"
#include "linux/spawn.hpp"

namespace caisson::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// A message of the agents' protocol.
std::string message(std::uint8_t type, std::string_view rest = {}) {
  const auto size = static_cast<std::uint32_t>(rest.size() + 1);
  std::string out;
  for (int shift : {24, 16, 8, 0}) out += static_cast<char>(size >> shift & 0xFF);
  return concat(out, std::string(1, static_cast<char>(type)), rest);
}
const std::string failure = message(5);

TEST(ssh_flags, an_id_goes_alone_with_a_socket_or_with_keys) {
  auto flags = *parse_ssh_flags({"default", "a=/run/agent", "b=/k1,/k2", "c="});
  ASSERT_EQ(flags.size(), 4U);
  EXPECT_EQ(flags[0].id, "default");
  EXPECT_THAT(flags[0].paths, IsEmpty());
  EXPECT_THAT(flags[1].paths, ElementsAre("/run/agent"));
  EXPECT_THAT(flags[2].paths, ElementsAre("/k1", "/k2"));
  EXPECT_THAT(flags[3].paths, IsEmpty());
  EXPECT_EQ((*parse_ssh_flags({"=/k"}))[0].id, "default");
  EXPECT_THAT(parse_ssh_flags({"a", "a=/k"}).error().text(), HasSubstr("--ssh a=/k: the id a is given twice"));
}

class ServedAgent : public testing::Test {
 protected:
  linux::SocketPair step = *linux::socketpair(linux::UnixType::stream);
  linux::SocketPair agent = *linux::socketpair(linux::UnixType::stream);
  UniqueFd stop = *linux::eventfd();
  Status outcome;
  std::thread thread;

  void serve(std::string early = "") {
    thread = std::thread([this, early = std::move(early)] {
      outcome = serve_agent(step.second.get(), early, agent.first.get(), Cancel{stop.get()});
      step.second.reset();
      agent.first.reset();
    });
  }
  void TearDown() override {
    if (thread.joinable()) thread.join();
  }
  static std::string hear(int fd, std::size_t size) {
    std::string out(size, '\0');
    std::size_t have = 0;
    while (have < size) {
      auto count = linux::recv(fd, std::span(out).subspan(have));
      if (!count.ok() || *count == 0) break;
      have += *count;
    }
    return out.substr(0, have);
  }
};

TEST_F(ServedAgent, listing_and_signing_go_through_whole) {
  serve();
  for (const auto& request : {message(11), message(13, std::string(100'000, 'x'))}) {
    ASSERT_TRUE(linux::send_all(step.first.get(), request).ok());
    EXPECT_EQ(hear(agent.second.get(), request.size()), request);
    ASSERT_TRUE(linux::send_all(agent.second.get(), message(12, "answer")).ok());
    EXPECT_EQ(hear(step.first.get(), 11), message(12, "answer"));
  }
  step.first.reset();
  thread.join();
  EXPECT_TRUE(outcome.ok());
}

TEST_F(ServedAgent, what_would_change_the_agent_is_refused_and_never_reaches_it) {
  serve();
  const std::string bind = message(27, concat(std::string{0, 0, 0, 24}, "session-bind@openssh.com", "key"));
  for (auto type : std::initializer_list<std::uint8_t>{17, 18, 19, 20, 22, 23, 25, 27, 200}) {
    ASSERT_TRUE(linux::send_all(step.first.get(), message(type, concat(std::string{0, 0, 0, 5}, "query"))).ok());
    EXPECT_EQ(hear(step.first.get(), failure.size()), failure) << static_cast<int>(type);
  }
  ASSERT_TRUE(linux::send_all(step.first.get(), bind).ok());
  EXPECT_EQ(hear(agent.second.get(), bind.size()), bind) << "nothing came before it";
  step.first.reset();
  agent.second.reset();
}

TEST_F(ServedAgent, what_came_with_the_answers_head_counts) {
  serve(message(11).substr(0, 3));
  ASSERT_TRUE(linux::send_all(step.first.get(), message(11).substr(3)).ok());
  EXPECT_EQ(hear(agent.second.get(), 5), message(11));
  agent.second.reset();
  EXPECT_EQ(hear(step.first.get(), 1), "") << "the agent is gone";
}

TEST_F(ServedAgent, no_message_is_longer_than_an_agents) {
  serve();
  ASSERT_TRUE(linux::send_all(step.first.get(), std::string("\x7f\xff\xff\xff\x0b", 5)).ok());
  thread.join();
  EXPECT_EQ(outcome.error().kind(), ErrorKind::corrupt);
}

TEST_F(ServedAgent, it_ends_when_it_is_stopped) {
  serve();
  ASSERT_TRUE(linux::eventfd_signal(stop.get()).ok());
  thread.join();
  EXPECT_TRUE(outcome.ok());
}

class Keys : public testing::Test {
 protected:
  FakeDaemon daemon;

  std::string key(const std::string& name, const std::string& passphrase) {
    auto path = concat(daemon.folder(), "/", name);
    auto made = linux::run_program({"ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", name, "-f", path});
    EXPECT_TRUE(made.ok() && made->status.exit_code() == 0);
    return path;
  }
  static std::string listed(const std::string& socket) {
    linux::RunOptions options;
    options.env.push_back(concat("SSH_AUTH_SOCK=", socket));
    auto list = linux::run_program({"ssh-add", "-l"}, options);
    return list.ok() ? list->standard_output : list.error().text();
  }
  std::string built(const std::vector<std::string>& flags) {
    std::vector<std::string> words{"build"};
    for (const auto& flag : flags) words.push_back(concat("--ssh=", flag));
    words.push_back(daemon.folder());
    EXPECT_TRUE(linux::write_file(daemon.folder() + "/Dockerfile", "FROM scratch\n", 0644).ok());
    auto outcome = daemon.run(words);
    return concat(outcome.code, " ", outcome.err);
  }
};

TEST_F(Keys, are_in_an_agent_of_our_own_that_goes_with_its_folder) {
  std::string socket;
  {
    auto agent = KeyAgent::start("default", {key("one", ""), key("two", "")});
    ASSERT_TRUE(agent.ok()) << agent.error().text();
    socket = agent->socket();
    EXPECT_THAT(listed(socket), testing::AllOf(HasSubstr("one (ED25519)"), HasSubstr("two (ED25519)")));
    EXPECT_EQ(linux::stat(socket.substr(0, socket.rfind('/')))->st_mode & 0777, 0700U);
  }
  EXPECT_FALSE(*linux::exists(socket.substr(0, socket.rfind('/'))));
}

TEST_F(Keys, that_cannot_be_added_are_named) {
  auto open = key("open", "");
  ASSERT_TRUE(linux::fchmodat(AT_FDCWD, open, 0644).ok());
  EXPECT_THAT(KeyAgent::start("x", {open}).error().text(), testing::AllOf(HasSubstr("--ssh x: key"), HasSubstr("too open")));
  ASSERT_TRUE(linux::write_file(daemon.folder() + "/none", "no key", 0600).ok());
  EXPECT_THAT(KeyAgent::start("x", {daemon.folder() + "/none"}).error().text(), HasSubstr(concat("--ssh x: key ", daemon.folder(), "/none: ")));
}

TEST_F(Keys, agents_that_are_not_there_end_the_build_before_it_begins) {
  EXPECT_THAT(built({"default=/no/such"}), HasSubstr("--ssh default: /no/such"));
  EXPECT_THAT(built({concat("x=", daemon.folder(), "/s,", key("k", ""))}), HasSubstr("--ssh x: one agent's socket, or keys"));
  EXPECT_THAT(built({"a", "a"}), HasSubstr("the id a is given twice"));
  for (const auto& request : daemon.take_requests()) EXPECT_NE(request.path, "/build");
}

TEST_F(Keys, are_lent_to_the_build_as_often_as_they_are_used) {
  std::mutex mutex;
  std::set<std::string> sessions;
  int uses = 0;
  int answers = 0;
  UniqueFd used_twice = *linux::eventfd();
  daemon.on("POST /caisson/v1/builds/agents", [&](wire::Exchange& exchange, const RecordedRequest& request) {
    auto body = *parse_json(request.body, "body");
    std::string session;
    ASSERT_TRUE(JsonView(body).read("session", session).ok());
    {
      std::lock_guard lock(mutex);
      sessions.insert(session);
      if (++uses > 2) {
        ignore(exchange.respond(503, {}, ""));
        return;
      }
    }
    auto taken = exchange.hijack("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
    ASSERT_TRUE(taken.ok());
    ASSERT_TRUE(linux::send_all(taken->socket.get(), message(11)).ok());
    auto answer = linux::receive_message(taken->socket.get(), 4096);
    ASSERT_TRUE(answer.ok());
    EXPECT_THAT(answer->bytes, HasSubstr("comment-of-the-key"));
    std::lock_guard lock(mutex);
    if (++answers == 2) ignore(linux::eventfd_signal(used_twice.get()));  // a third request may be there before that, or never come
  });
  std::string extension;
  daemon.on("POST /build", [&](wire::Exchange& exchange, const RecordedRequest&) {
    extension = *base64_decode(exchange.header("X-Caisson-Build"));
    EXPECT_TRUE(*linux::wait_readable(used_twice.get(), 20'000));
    ignore(exchange.respond(200, {}, R"({"stream":"done\n"})"));
  });
  EXPECT_EQ(built({concat("mine=", key("comment-of-the-key", ""))}), "0 ");
  daemon.stop();
  ASSERT_EQ(sessions.size(), 1U);
  EXPECT_EQ(extension, concat(R"({"ssh":{"session":")", *sessions.begin(), R"(","ids":["mine"]}})"));
}

}  // namespace
}  // namespace caisson::cli
