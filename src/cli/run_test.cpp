// run, exec, start and friends against a daemon that plays its part.
#include <atomic>
#include <map>
#include <optional>

#include "cli/attached.hpp"
#include "cli/fake_daemon.hpp"
#include "linux/process.hpp"

namespace caisson::cli {
namespace {

const std::string id(64, 'c');

// Plays one container: attach writes when started, wait answers when the play is over.
class Play {
 public:
  explicit Play(FakeDaemon& daemon) : daemon_(daemon) {
    daemon.on("POST /containers/create", [](wire::Exchange& exchange, const RecordedRequest&) {
      ignore(exchange.respond(201, {{"Content-Type", "application/json"}}, concat(R"({"Id":")", id, R"(","Warnings":["careful"]})")));
    });
    daemon.on(concat("POST /containers/", id, "/attach"), [this](wire::Exchange& exchange, const RecordedRequest&) { attach(exchange); });
    daemon.on(concat("POST /containers/", id, "/start"), [this](wire::Exchange& exchange, const RecordedRequest&) {
      if (dies_at_start) {
        set(ended_);
        ignore(exchange.hijack(""));  // nothing but the connection's end
      } else if (start_error.empty()) {
        ignore(exchange.respond(204, {}, ""));
        set(started_);
      } else {
        set(ended_);
        ignore(exchange.respond(400, {{"Content-Type", "application/json"}}, to_text(json::object{{"message", start_error}})));
      }
    });
    daemon.on(concat("POST /containers/", id, "/wait"), [this](wire::Exchange& exchange, const RecordedRequest&) {
      ignore(exchange.begin(200, {{"Content-Type", "application/json"}}));
      ++waits;
      if (waits > 1) return;  // a successor, which would never answer
      wait_for(ended_);
      if (!dies_at_start) ignore(exchange.write(concat(R"({"StatusCode":)", exit_code, "}\n")));
      ignore(exchange.end());
    });
    daemon.on(concat("POST /containers/", id, "/kill"), [this](wire::Exchange& exchange, const RecordedRequest& request) {
      {
        std::lock_guard lock(mutex_);
        killed_by = request.query.at("signal").at(0);
      }
      ignore(exchange.respond(204, {}, ""));
      set(killed_);
    });
  }

  ~Play() { daemon_.stop(); }  // an answer may still be on its way out of a member
  Play(const Play&) = delete;
  Play& operator=(const Play&) = delete;

  std::string output = frame(1, "out\n") + frame(2, "err\n");
  std::string start_error;
  int exit_code = 0;
  bool echoes = false;       ///< sends back what it is sent, until its end
  bool waits_for_kill = false;
  bool dies_at_start = false;
  std::atomic<int> waits = 0;
  std::string killed_by;

 private:
  void attach(wire::Exchange& exchange) {
    auto connection = exchange.hijack("HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
    ASSERT_TRUE(connection.ok());
    if (!start_error.empty() || dies_at_start) return;
    wait_for(started_);
    if (waits_for_kill) {
      EXPECT_TRUE(linux::kill(linux::getpid(), SIGTERM).ok());
      wait_for(killed_);
    }
    std::string text = output;
    if (echoes) {
      auto all = linux::read_all(connection->socket.get());
      text = frame(1, concat(connection->pending, all.ok() ? *all : ""));
    }
    ignore(linux::write_all(connection->socket.get(), text));
    connection->socket.reset();
    set(ended_);
  }
  void set(bool& flag) {
    std::lock_guard lock(mutex_);
    flag = true;
    changed_.notify_all();
  }
  void wait_for(bool& flag) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(20), [&] { return flag; });
  }

  FakeDaemon& daemon_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool started_ = false;
  bool ended_ = false;
  bool killed_ = false;
};

// Puts a pipe in the place of standard input.
class StandardInput {
 public:
  explicit StandardInput(std::string_view text) {
    auto saved = linux::dup(0);
    if (saved.ok()) saved_ = std::move(*saved);
    auto pipe = linux::pipe2();
    EXPECT_TRUE(pipe.ok());
    EXPECT_TRUE(linux::write_all(pipe->write_end.get(), text).ok());
    EXPECT_TRUE(linux::dup3(pipe->read_end.get(), 0, 0).ok());
  }
  ~StandardInput() {
    if (saved_) {
      EXPECT_TRUE(linux::dup3(saved_.get(), 0, 0).ok());
    }
  }

 private:
  UniqueFd saved_;
};

class run_flow : public testing::Test {
 protected:
  FakeDaemon daemon_;
};

std::vector<std::string> paths(const std::vector<RecordedRequest>& requests) {
  std::vector<std::string> out;
  for (const auto& request : requests) out.push_back(request.path.substr(request.path.rfind('/') + 1));
  return out;
}

/// What run has asked for between create and start: attach and wait go out together on two connections, so either may arrive first.
std::map<std::string, RecordedRequest> asked_before_start(const std::vector<RecordedRequest>& requests) {
  std::map<std::string, RecordedRequest> out;
  for (std::size_t i = 1; i + 1 < requests.size(); ++i) out[paths(requests)[i]] = requests[i];
  return out;
}

TEST_F(run_flow, output_goes_to_both_streams_and_the_code_is_the_containers) {
  Play play(daemon_);
  play.exit_code = 7;
  auto outcome = daemon_.run({"run", "img", "sh"});
  EXPECT_EQ(outcome.code, 7);
  EXPECT_EQ(outcome.out, "out\n");
  EXPECT_EQ(outcome.err, "WARNING: careful\nerr\n");
  auto requests = daemon_.take_requests();
  ASSERT_EQ(requests.size(), 4U);
  EXPECT_EQ(paths(requests).front(), "create");
  EXPECT_EQ(paths(requests).back(), "start") << "attach and wait are open before the start";
  auto asked = asked_before_start(requests);
  EXPECT_TRUE(asked.contains("attach"));
  ASSERT_TRUE(asked.contains("wait"));
  EXPECT_EQ(asked["wait"].query.at("condition").at(0), "next-exit");
}

TEST_F(run_flow, rm_waits_for_the_removal) {
  Play play(daemon_);
  EXPECT_EQ(daemon_.run({"run", "--rm", "img"}).code, 0);
  auto requests = daemon_.take_requests();
  auto asked = asked_before_start(requests);
  ASSERT_TRUE(asked.contains("wait"));
  EXPECT_EQ(asked["wait"].query.at("condition").at(0), "removed");
}

TEST_F(run_flow, standard_input_reaches_the_container_and_its_end_too) {
  Play play(daemon_);
  play.echoes = true;
  std::string text(60000, 'x');
  StandardInput input(text);
  auto outcome = daemon_.run({"run", "-i", "img", "cat"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, text);
}

TEST_F(run_flow, signals_are_passed_on) {
  Play play(daemon_);
  play.waits_for_kill = true;
  play.exit_code = 143;
  auto outcome = daemon_.run({"run", "img"});
  EXPECT_EQ(play.killed_by, "TERM");
  EXPECT_EQ(outcome.code, 143);
}

TEST_F(run_flow, a_start_error_gives_the_shells_codes) {
  const std::vector<std::pair<std::string, int>> cases = {{"start: exec /nope: No such file or directory", 127}, {"start: exec /etc: Permission denied", 126}, {"no free address", 125}};
  for (const auto& [text, code] : cases)
    for (bool detach : {false, true}) {
      FakeDaemon daemon;
      Play play(daemon);
      play.start_error = text;
      auto outcome = detach ? daemon.run({"run", "-d", "img", "x"}) : daemon.run({"run", "img", "x"});
      EXPECT_EQ(outcome.code, code) << text;
      EXPECT_NE(outcome.err.find("caisson: Error response from daemon: " + text), std::string::npos) << outcome.err;
      EXPECT_EQ(outcome.out, "");
    }
}

TEST_F(run_flow, a_daemon_that_ends_at_the_start_ends_run_too) {
  Play play(daemon_);
  play.dies_at_start = true;
  auto outcome = daemon_.run({"run", "--rm", "img"});
  EXPECT_EQ(outcome.code, 125);
  EXPECT_NE(outcome.err.find("closed the connection"), std::string::npos) << outcome.err;
  EXPECT_EQ(play.waits, 1);
}

/// A daemon that watches a container and dies; `successor` answers whoever asks again, by how often it was asked before.
class watch_flow : public run_flow {
 protected:
  void start(std::function<void(wire::Exchange& exchange, int asked)> successor) {
    daemon_.on(concat("POST /containers/", id, "/wait"), [this, successor = std::move(successor)](wire::Exchange& exchange, const RecordedRequest&) {
      if (const int before = asked_++; before > 0) return successor(exchange, before);
      ignore(exchange.hijack("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"));  // and the connection's end
    });
    std::optional<UsageError> error;
    parsed_ = parse_command_line(std::vector<std::string>{"-H", daemon_.endpoint(), "version"}, error);
    ASSERT_FALSE(error);
    session_.emplace(parsed_.global);
    auto watch = ExitWatch::open(*session_, id, "removed");
    ASSERT_TRUE(watch.ok()) << watch.error().text();
    watch_.emplace(std::move(*watch));
  }
  /// As the pump does, until there is nothing to tend any more or it was asked that often. (What came with an answer's head is not seen by poll.)
  void tend(int most) {
    do {
      linux::PollEntry entry{watch_->fd(), POLLIN, 0};
      ASSERT_TRUE(linux::poll(std::span(&entry, 1), watch_->fd() < 0 ? 0 : -1).ok());
    } while (watch_->tend() && asked_ < most);
  }

  std::atomic<int> asked_ = 0;
  Parsed parsed_;
  std::optional<Session> session_;
  std::optional<ExitWatch> watch_;
};

TEST_F(watch_flow, asks_again_where_a_dying_daemon_still_took_the_question) {
  start([](wire::Exchange& exchange, int asked) {
    if (asked < 3)
      ignore(exchange.hijack(""));  // nothing but the connection's end
    else
      ignore(exchange.respond(200, {{"Content-Type", "application/json"}}, R"({"StatusCode":7})"));
  });
  tend(4);
  EXPECT_EQ(asked_, 4);
  auto code = watch_->wait();
  ASSERT_TRUE(code.ok()) << code.error().text();
  EXPECT_EQ(*code, 7);
  daemon_.stop();
}

TEST_F(watch_flow, a_refusal_is_told_at_the_end) {
  start([](wire::Exchange& exchange, int) { ignore(exchange.respond(404, {{"Content-Type", "application/json"}}, R"({"message":"No such container: c"})")); });
  tend(3);
  EXPECT_EQ(asked_, 2) << "it is not asked without a pause";
  auto code = watch_->wait();
  ASSERT_FALSE(code.ok());
  EXPECT_EQ(code.error().kind(), ErrorKind::not_found);
  daemon_.stop();
}

TEST_F(run_flow, a_missing_image_is_125_with_a_hint) {
  daemon_.on_json("POST /containers/create", 404, R"({"message":"No such image: nope:latest"})");
  daemon_.on_json("POST /images/create", 404, R"({"message":"pull access denied for nope"})");
  auto outcome = daemon_.run({"run", "nope"});
  EXPECT_EQ(outcome.code, 125);
  EXPECT_NE(outcome.err.find("Unable to find image 'nope:latest' locally"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("caisson: Error response from daemon: pull access denied for nope"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("\nhint: "), std::string::npos) << outcome.err;
}

TEST_F(run_flow, detached_prints_the_id_only) {
  Play play(daemon_);
  auto outcome = daemon_.run({"run", "-d", "img"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, id + "\n");
}

TEST_F(run_flow, a_cidfile_is_never_overwritten_and_never_left_empty) {
  Play play(daemon_);
  std::string path = daemon_.folder() + "/cid";
  EXPECT_EQ(daemon_.run({"create", "--cidfile", path, "img"}).code, 0);
  EXPECT_EQ(*linux::read_file(path), id);
  auto again = daemon_.run({"create", "--cidfile", path, "img"});
  EXPECT_EQ(again.code, 1);
  EXPECT_NE(again.err.find("container ID file found"), std::string::npos);
  FakeDaemon failing;
  failing.on_json("POST /containers/create", 409, R"({"message":"name taken"})");
  std::string other = failing.folder() + "/cid";
  EXPECT_EQ(failing.run({"create", "--cidfile", other, "img"}).code, 1);
  EXPECT_FALSE(*linux::exists(other));
}

TEST_F(run_flow, bad_values_are_125_and_nothing_is_sent) {
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"run", "-p", "x", "img"}, {"run", "-p", "80-82:80-81", "img"}, {"run", "-p", "1.2.3:80:80", "img"}, {"run", "-p", "80/foo", "img"}, {"run", "-p", "", "img"},
           {"run", "--expose", "90-80", "img"}, {"run", "-v", "", "img"}, {"run", "-v", "/a:", "img"}, {"run", "--mount", "source=a", "img"}, {"run", "--mount", "target=/x,bogus=1", "img"},
           {"run", "--mount", "type=volume,tmpfs-size=3,target=/x", "img"}, {"run", "--ulimit", "foo=1", "img"}, {"run", "--ulimit", "nofile=2:1", "img"}, {"run", "--gpus", "x", "img"},
           {"run", "--device", "a", "img"}, {"run", "--device", "/a:/b:q", "img"}, {"run", "--security-opt", "foo", "img"}, {"run", "--security-opt", "seccomp=/nonexistent", "img"},
           {"run", "--env-file", "/nonexistent", "img"}, {"run", "-e", "=x", "img"}, {"run", "--label", "=x", "img"}, {"run", "-a", "foo", "img"}, {"run", "-d", "-a", "stdout", "img"},
           {"run", "--pid", "foo", "img"}, {"run", "--uts", "foo", "img"}, {"run", "--userns", "foo", "img"}, {"run", "--cgroupns", "foo", "img"}, {"run", "--network-alias", "x", "img"},
           {"run", "--network", "n1", "--network", "n1", "img"}, {"run", "--network", "host", "--network", "n1", "img"}, {"run", "--mac-address", "foo", "img"}, {"run", "--dns", "foo", "img"},
           {"run", "--add-host", "a", "img"}, {"run", "--link", "a:b:c", "img"}, {"run", "--rm", "--restart", "always", "img"}, {"run", "--restart", "on-failure:x", "img"},
           {"run", "--memory-swappiness", "101", "img"}, {"run", "--no-healthcheck", "--health-cmd", "x", "img"}, {"run", "--health-interval", "-1s", "img"}, {"run", "--pull", "foo", "img"},
           {"run", "--log-driver", "none", "--log-opt", "a=b", "img"}, {"run", "--storage-opt", "a", "img"}, {"run", "--sysctl", "foo", "img"}, {"run", "--device-read-bps", "/dev/sda", "img"}}) {
    auto outcome = daemon_.run(words);
    EXPECT_EQ(outcome.code, 125) << join(words, " ");
    EXPECT_FALSE(outcome.err.empty());
    EXPECT_TRUE(daemon_.take_requests().empty()) << join(words, " ");
  }
}

TEST_F(run_flow, exec_returns_the_commands_code) {
  daemon_.on_json("POST /containers/web/exec", 201, R"({"Id":"e1"})");
  daemon_.on("POST /exec/e1/start", [](wire::Exchange& exchange, const RecordedRequest&) {
    auto connection = exchange.hijack("HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
    ASSERT_TRUE(connection.ok());
    ignore(linux::write_all(connection->socket.get(), frame(2, "no such thing\n")));
  });
  daemon_.on_json("GET /exec/e1/json", 200, R"({"Running":false,"ExitCode":127})");
  auto outcome = daemon_.run({"exec", "web", "nope"});
  EXPECT_EQ(outcome.code, 127);
  EXPECT_EQ(outcome.err, "no such thing\n");
}

TEST_F(run_flow, errors_keep_dockers_words_and_hints_have_their_line) {
  daemon_.on_json("POST /containers/x/stop", 404, R"({"message":"No such container: x","hint":"see 'caisson ps -a'"})");
  auto outcome = daemon_.run({"stop", "x"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err, "Error response from daemon: No such container: x\nhint: see 'caisson ps -a'\n");
}

TEST_F(run_flow, rm_with_force_accepts_what_is_gone) {
  daemon_.on_json("DELETE /containers/x", 404, R"({"message":"No such container: x"})");
  EXPECT_EQ(daemon_.run({"rm", "-f", "x"}).code, 0);
  EXPECT_EQ(daemon_.run({"rm", "x"}).code, 1);
}

TEST_F(run_flow, inspect_of_something_missing_prints_an_empty_list) {
  auto outcome = daemon_.run({"inspect", "x"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.out, "[]\n");
  EXPECT_EQ(outcome.err, "Error: No such object: x\n");
}

TEST_F(run_flow, logs_are_demultiplexed) {
  daemon_.on_json("GET /containers/web/json", 200, R"({"Id":"web1","Config":{"Tty":false}})");
  daemon_.on("GET /containers/web1/logs", [](wire::Exchange& exchange, const RecordedRequest&) { ignore(exchange.respond(200, {}, frame(1, "a\n") + frame(2, "b\n"))); });
  auto outcome = daemon_.run({"logs", "web"});
  EXPECT_EQ(outcome.out, "a\n");
  EXPECT_EQ(outcome.err, "b\n");
}

TEST_F(run_flow, load_shows_progress_on_standard_error_and_results_on_standard_output) {
  daemon_.on("POST /images/load", [](wire::Exchange& exchange, const RecordedRequest&) {
    ignore(exchange.respond(200, {}, "{\"status\":\"Loading layer\",\"id\":\"abc\",\"progressDetail\":{\"current\":1,\"total\":2}}\n{\"stream\":\"Loaded image: x:1\\n\"}\n"));
  });
  std::string archive = daemon_.folder() + "/a.tar";
  ASSERT_TRUE(linux::write_file(archive, std::string(200000, 't')).ok());
  auto outcome = daemon_.run({"load", "-i", archive});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, "Loaded image: x:1\n");
  EXPECT_EQ(outcome.err, "abc: Loading layer\n");
  auto requests = daemon_.take_requests();
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].body.size(), 200000U);
}

TEST_F(run_flow, an_error_inside_a_progress_stream_is_an_error) {
  daemon_.on("POST /images/load", [](wire::Exchange& exchange, const RecordedRequest&) { ignore(exchange.respond(200, {}, "{\"error\":\"archive is cut off\"}\n")); });
  StandardInput input("x");
  auto outcome = daemon_.run({"load"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_EQ(outcome.err, "Error response from daemon: archive is cut off\n");
}

TEST_F(run_flow, bootstrap_prints_the_new_images_id_only) {
  daemon_.on("POST /caisson/v1/images/bootstrap", [](wire::Exchange& exchange, const RecordedRequest&) {
    ignore(exchange.respond(200, {}, "{\"status\":\"Fetching\"}\r\n{\"status\":\"Done\",\"aux\":{\"ID\":\"sha256:1\"},\"stream\":\"web:latest\\n\"}\r\n"));
  });
  auto outcome = daemon_.run({"image", "bootstrap", "debian:bookworm", "--include", "nginx-light,curl", "--include", "jq", "--tag", "web"});
  EXPECT_EQ(outcome.code, 0);
  EXPECT_EQ(outcome.out, "sha256:1\n");
  EXPECT_EQ(outcome.err, "Fetching\nDone\n");
  auto requests = daemon_.take_requests();
  ASSERT_EQ(requests.size(), 1U);
  EXPECT_EQ(requests[0].body, R"({"suite":"debian:bookworm","include":["nginx-light","curl","jq"],"reference":"web","mirror":"","snapshot":""})");
}

TEST_F(run_flow, save_leaves_nothing_behind_when_it_fails) {
  daemon_.on_json("GET /images/get", 404, R"({"message":"No such image: x"})");
  std::string target = daemon_.folder() + "/out.tar";
  EXPECT_EQ(daemon_.run({"save", "-o", target, "x"}).code, 1);
  EXPECT_FALSE(*linux::exists(target));
}

TEST_F(run_flow, completion_answers_with_live_names_and_is_silent_without_a_daemon) {
  daemon_.on_json("GET /containers/json", 200, R"([{"Names":["/web"],"Image":"nginx"},{"Names":["/db"],"Image":"pg"}])");
  EXPECT_EQ(daemon_.run({"__complete", "stop", "w"}).out, "web\tnginx\n:4\n");
  EXPECT_EQ(daemon_.run({"__complete", "-H", daemon_.endpoint(), "stop", "d"}).out, "db\tpg\n:4\n");
  auto silent = daemon_.run({"__complete", "-H", "unix:///nonexistent/s", "stop", ""});
  EXPECT_EQ(silent.out, ":4\n");
  EXPECT_EQ(silent.err, "");
}

TEST_F(run_flow, completion_knows_commands_flags_and_where_files_belong) {
  EXPECT_EQ(daemon_.run({"__complete", "volume", "c"}).out, "create\tMake a volume\n:4\n");
  EXPECT_EQ(daemon_.run({"__complete", "run", "--env-f"}).out, "--env-file\tRead environment variables from a file\n:4\n");
  EXPECT_EQ(daemon_.run({"__complete", "run", "--env-file", ""}).out, ":0\n");
  EXPECT_EQ(daemon_.run({"__complete", "run", "img", ""}).out, ":0\n");
}

}  // namespace
}  // namespace caisson::cli
