// What monitors of earlier builds wrote is read, what is written to them begins as they know it, and versions nobody can speak are named.
#include "runtime/protocol.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.hpp"
#include "linux/file.hpp"

namespace caisson::runtime {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// The recorded bytes of a kind of body.
std::string recorded(std::string_view kind) {
  const std::string here = __FILE__;
  auto text = linux::read_file(concat(here.substr(0, here.rfind("/src/runtime/")), "/tests/data/runtime/monitor-protocol-1.txt"));
  if (!text.ok()) {
    ADD_FAILURE() << text.error().text();
    return {};
  }
  for (auto line : split(*text, '\n')) {
    auto halves = split_once(line, ' ');
    if (halves.before != kind) continue;
    auto bytes = from_hex(halves.after);
    if (bytes.ok()) return {bytes->begin(), bytes->end()};
  }
  ADD_FAILURE() << "nothing recorded of " << kind;
  return {};
}

ExitBody sample_exit() {
  ExitBody exit;
  exit.exec_id = "check";
  exit.code = 137;
  exit.oom_killed = true;
  exit.finished_at = 1700000000123456789;
  exit.log_drops = 2;
  return exit;
}

ClientBody sample_client() {
  ClientBody client;
  client.pending_input = "early";
  client.with_stdout = client.with_stderr = true;
  client.detach_keys = "ctrl-p,ctrl-q";
  return client;
}

ExecBody sample_exec() {
  ExecBody exec;
  exec.exec_id = "shell";
  exec.process.args = {"sh", "-c", "true"};
  exec.process.env = {"PATH=/bin"};
  exec.process.cwd = "/srv";
  exec.process.terminal = true;
  exec.process.rows = 24;
  exec.process.columns = 80;
  exec.process.uid = 1000;
  exec.process.gid = 100;
  exec.process.groups = {10, 20};
  exec.process.no_new_privileges = true;
  exec.process.oom_score_adj = 7;
  exec.process.capabilities.bounding = 0x20;
  exec.process.rlimits = {{7, 1024, 4096}};
  exec.with_stdin = exec.has_client = true;
  exec.client = sample_client();
  exec.timeout_ms = 30000;
  return exec;
}

TEST(MonitorProtocol, a_state_of_version_1_is_read) {
  auto state = read_state(recorded("state"));
  ASSERT_TRUE(state.ok()) << state.error().text();
  EXPECT_EQ(state->version, 1U);
  EXPECT_EQ(state->oldest_version, 1U);
  EXPECT_TRUE(state->running && state->has_pidfd && state->has_stdout && !state->has_stdin);
  EXPECT_EQ(state->pid, 4321);
  EXPECT_EQ(state->cgroup_path, "/caisson/web");
  EXPECT_THAT(state->running_execs, ElementsAre("shell"));
  ASSERT_EQ(state->finished_execs.size(), 1U);
  EXPECT_EQ(state->finished_execs[0].code, 137);
}

TEST(MonitorProtocol, exits_and_answers_of_version_1_are_read) {
  auto exit = read_body<ExitBody>(recorded("exit"), "exit");
  ASSERT_TRUE(exit.ok()) << exit.error().text();
  EXPECT_EQ(exit->exec_id, "check");
  EXPECT_EQ(exit->finished_at, 1700000000123456789);
  EXPECT_EQ(exit->log_drops, 2U);
  auto answer = read_body<AnswerBody>(recorded("answer"), "answer");
  ASSERT_TRUE(answer.ok()) << answer.error().text();
  EXPECT_EQ(answer->pid, 99);
  EXPECT_EQ(answer->error->hint, "hint");
}

TEST(MonitorProtocol, what_is_asked_begins_as_version_1_knows_it) {
  // A monitor of version 1 reads what it knows and passes over the rest: a field between others would shift all that follow.
  AttachBody attach;
  attach.client = sample_client();
  ResizeBody resize;
  resize.exec_id = "shell";
  resize.rows = 24;
  resize.columns = 80;
  EXPECT_TRUE(encode(attach).starts_with(recorded("attach")));
  EXPECT_TRUE(encode(resize).starts_with(recorded("resize")));
  EXPECT_TRUE(encode(sample_exec()).starts_with(recorded("exec")));
  EXPECT_TRUE(encode(sample_exit()).starts_with(recorded("exit"))) << "exit_known, exit_recorded, exec_recorded";
}

TEST(MonitorProtocol, numbers_of_messages_never_change_their_meaning) {
  EXPECT_THAT((std::vector{MessageKind::hello, MessageKind::attach, MessageKind::exec, MessageKind::resize, MessageKind::exit_known, MessageKind::exit_recorded, MessageKind::exec_recorded,
                           MessageKind::started, MessageKind::state, MessageKind::exited, MessageKind::exec_exited, MessageKind::oom, MessageKind::client_detached, MessageKind::stdin_closed}),
              ElementsAre(MessageKind{1}, MessageKind{100}, MessageKind{101}, MessageKind{102}, MessageKind{103}, MessageKind{104}, MessageKind{105}, MessageKind{200}, MessageKind{201},
                          MessageKind{202}, MessageKind{203}, MessageKind{204}, MessageKind{205}, MessageKind{206}));
  EXPECT_EQ(static_cast<int>(MessageKind::answer), 5);
}

TEST(MonitorProtocol, a_newer_monitor_that_speaks_our_version_too_is_understood) {
  StateBody state;
  state.version = monitor_protocol_version + 3;
  state.oldest_version = monitor_protocol_version;
  state.pid = 77;
  auto read = read_state(encode(state) + "what a later version adds");
  ASSERT_TRUE(read.ok()) << read.error().text();
  EXPECT_EQ(read->pid, 77);
}

TEST(MonitorProtocol, a_version_that_is_unknown_is_refused_with_both_named) {
  StateBody state;
  state.version = state.oldest_version = monitor_protocol_version + 1;
  auto newer = read_state(encode(state));
  ASSERT_FALSE(newer.ok());
  EXPECT_EQ(newer.error().kind(), ErrorKind::unsupported);
  EXPECT_EQ(newer.error().text(), concat("its monitor speaks version ", monitor_protocol_version + 1, " of the protocol, this engine 1 to ", monitor_protocol_version));
  EXPECT_THAT(newer.error().hint(), HasSubstr("newer Caisson"));
  // What follows the version may be anything then.
  EXPECT_EQ(read_state(encode(state).substr(0, 9)).error().kind(), ErrorKind::unsupported);
  state.version = 0;
  EXPECT_THAT(read_state(encode(state)).error().hint(), HasSubstr("restart the container"));
}

TEST(MonitorProtocol, a_state_that_is_cut_off_is_corrupt) {
  const auto whole = recorded("state");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    auto read = read_state(whole.substr(0, size));
    ASSERT_FALSE(read.ok()) << size;
    EXPECT_EQ(read.error().kind(), ErrorKind::corrupt) << size;
  }
}

}  // namespace
}  // namespace caisson::runtime
