// Log drivers: options in docker's words, messages byte by byte, and a shipper with a server that comes and goes.
#include "engine/log_drivers.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/strings.hpp"
#include "engine/fake_parts.hpp"
#include "engine/log_shipper.hpp"
#include "linux/socket.hpp"

namespace caisson::engine {
namespace {

using testing::HasSubstr;

std::string refusal(const std::string& driver, const std::map<std::string, std::string>& options) {
  auto status = check_log_driver(driver, options);
  return status.ok() ? "" : status.error().text();
}

ContainerInfo web() {
  ContainerInfo info;
  info.id = std::string(64, 'a');
  info.name = "web";
  info.image_id = "sha256:" + std::string(64, 'b');
  info.spec.image = "nginx:1";
  info.spec.labels = {{"tier", "front"}, {"com.x/rack", "7"}};
  info.spec.env = {"SHARD=3", "PASSWORD=no"};
  info.args = {"nginx", "-g", "daemon off;"};
  return info;
}

constexpr TimestampNs noon = 1'700'000'000'123'456'789;  // 2023-11-14T22:13:20.123456789Z

TEST(LogOptions, each_driver_has_its_own_and_says_so) {
  EXPECT_EQ(refusal("", {{"max-size", "10m"}, {"max-file", "2"}, {"compress", "true"}, {"mode", "non-blocking"}, {"max-buffer-size", "4m"}}), "");
  EXPECT_EQ(refusal("bogus", {}), "logger: no log driver named 'bogus' is registered");
  EXPECT_EQ(refusal("json-file", {{"syslog-address", "x"}}), "unknown log opt 'syslog-address' for json-file log driver");
  EXPECT_EQ(refusal("journald", {{"max-size", "1m"}}), "unknown log opt 'max-size' for journald log driver");
  EXPECT_EQ(refusal("syslog", {{"cache-max-size", "1m"}, {"cache-disabled", "true"}, {"syslog-address", "udp://10.0.0.1"}}), "");
  EXPECT_EQ(refusal("none", {{"tag", "x"}}), "unknown log opt 'tag' for none log driver");
  EXPECT_THAT(refusal("", {{"compress", "perhaps"}}), HasSubstr("compress"));
  EXPECT_THAT(refusal("", {{"max-size", "0"}}), HasSubstr("max-size"));
  for (const auto& options : {std::map<std::string, std::string>{{"compress", "true"}, {"max-file", "1"}}, {{"compress", "true"}, {"max-size", "-1"}}})
    EXPECT_EQ(refusal("json-file", options), "compress cannot be true when max-file is less than 2 or max-size is not set");
}

TEST(LogOptions, only_files_that_nobody_sends_are_compressed_and_locals_by_default) {
  ContainerSpec spec;
  EXPECT_FALSE(compresses_log(spec));
  spec.log_options = {{"compress", "true"}};
  EXPECT_TRUE(compresses_log(spec));
  spec.log_driver = "local";
  EXPECT_TRUE(compresses_log(spec));
  spec.log_options.clear();
  EXPECT_TRUE(compresses_log(spec));
  for (const auto& [key, value] : {std::pair{"compress", "false"}, {"max-file", "1"}, {"max-size", "-1"}}) {
    spec.log_options = {{key, value}};
    EXPECT_FALSE(compresses_log(spec)) << key;
  }
  spec.log_driver = "syslog";
  spec.log_options = {{"cache-compress", "true"}};
  EXPECT_FALSE(compresses_log(spec));
}

TEST(LogOptions, expressions_that_would_exhaust_the_compiler_are_refused) {
  EXPECT_EQ(refusal("", {{"labels-regex", "^(com|org)\\.example\\.[a-z]{2,8}$"}}), "");
  for (const auto& text : {std::string(100'000, '('), std::string(513, 'a'), std::string(17, '(') + std::string(17, ')'), std::string("((a{1,99}){1,99}){1,99}"), std::string("a{32767}")})
    for (const auto* key : {"labels-regex", "env-regex"}) EXPECT_THAT(refusal("", {{key, text}}), HasSubstr("the regular expression")) << key;
}

TEST(LogOptions, defaults_fill_what_a_container_leaves_out_when_the_driver_is_the_same) {
  Settings settings;
  settings.log_driver = "local";
  settings.log_options = {{"max-size", "1m"}, {"max-file", "9"}};
  ContainerSpec spec;
  spec.log_options = {{"max-file", "2"}};
  fill_log_defaults(spec, settings);
  EXPECT_EQ(spec.log_driver, "local");
  EXPECT_EQ(spec.log_options, (std::map<std::string, std::string>{{"max-file", "2"}, {"max-size", "1m"}}));
  ContainerSpec other;
  other.log_driver = "json-file";
  fill_log_defaults(other, settings);
  EXPECT_TRUE(other.log_options.empty());
}

TEST(LogOptions, attributes_come_from_labels_and_environment_by_name_and_by_pattern) {
  auto info = web();
  info.spec.log_options = {{"labels", "tier,absent"}, {"labels-regex", "^com[.]"}, {"env", "SHARD"}, {"tag", "{{.Name}}/{{.ID}}"}};
  auto json = attributes_json(info);
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(*json, R"({"SHARD":"3","com.x/rack":"7","tag":"web/aaaaaaaaaaaa","tier":"front"})");
  EXPECT_EQ(attributes_json(web()).value_or("?"), "");
}

TEST(LogTag, fields_are_filled_in_and_unknown_ones_refused) {
  auto info = web();
  EXPECT_EQ(log_tag(info, "{{.ID}}").value_or("?"), "aaaaaaaaaaaa");
  info.spec.log_options = {{"tag", "{{ .ImageName }}|{{.ImageID}}|{{.DaemonName}}|{{.Command}}"}};
  EXPECT_EQ(log_tag(info, "").value_or("?"), "nginx:1|bbbbbbbbbbbb|docker|nginx -g daemon off;");
  info.spec.log_options = {{"tag", "{{.Bogus}}"}};
  EXPECT_FALSE(log_tag(info, "").ok());
  info.spec.log_options = {{"tag", "{{.Name"}};
  EXPECT_FALSE(log_tag(info, "").ok());
}

SyslogTarget target_of(const std::map<std::string, std::string>& options) {
  auto target = parse_syslog_target(options);
  EXPECT_TRUE(target.ok()) << target.error().text();
  return target.ok() ? *target : SyslogTarget{};
}

TEST(Syslog, addresses_name_transport_host_and_port) {
  EXPECT_EQ(target_of({}).path, "/dev/log");
  auto tls = target_of({{"syslog-address", "tcp+tls://[::1]:6514"}});
  EXPECT_EQ(tls.transport, SyslogTarget::Transport::tls);
  EXPECT_EQ(tls.host, "::1");
  EXPECT_EQ(tls.port, "6514");
  EXPECT_EQ(target_of({{"syslog-address", "udp://10.0.0.1"}}).port, "514");
  EXPECT_EQ(target_of({{"syslog-address", "unixgram:///run/x"}}).path, "/run/x");
  for (const char* address : {"ftp://x", "10.0.0.1:514", "tcp://", "tcp://x:99999", "unix://relative"})
    EXPECT_FALSE(parse_syslog_target({{"syslog-address", address}}).ok()) << address;
  EXPECT_EQ(target_of({{"syslog-facility", "local7"}}).facility, 23);
  EXPECT_EQ(target_of({{"syslog-facility", "5"}}).facility, 5);
  EXPECT_FALSE(parse_syslog_target({{"syslog-facility", "24"}}).ok());
}

TEST(Syslog, messages_have_the_forms_of_their_rfcs) {
  const LogIdentity identity{"host", "tag", 42};
  const LogRecord out{LogStream::standard_output, noon, "hello\n", ""};
  const LogRecord error{LogStream::standard_error, noon, "bad\n", ""};
  auto message = [&](const char* format, const LogRecord& record, const char* address = "udp://h") {
    return syslog_message(target_of({{"syslog-format", format}, {"syslog-address", address}}), identity, record);
  };
  EXPECT_EQ(message("rfc5424", out), "<30>1 2023-11-14T22:13:20Z host tag 42 tag - hello\n");
  EXPECT_EQ(message("rfc5424micro", error), "<27>1 2023-11-14T22:13:20.123456Z host tag 42 tag - bad\n");
  EXPECT_EQ(message("rfc5424", out, "tcp+tls://h"), "51 <30>1 2023-11-14T22:13:20Z host tag 42 tag - hello\n");
  EXPECT_THAT(message("rfc3164", out), testing::MatchesRegex("<30>Nov 1[45] ..:13:20 host tag\\[42\\]: hello\n"));
  EXPECT_THAT(message("", out), testing::MatchesRegex("<30>Nov 1[45] ..:13:20 tag\\[42\\]: hello\n"));
}

TEST(Journal, values_with_line_breaks_travel_with_their_length) {
  EXPECT_THAT(journal_message("CONTAINER_NAME=web\n", {LogStream::standard_error, noon, "one line\n", ""}),
              testing::AllOf(HasSubstr("MESSAGE=one line\n"), HasSubstr("PRIORITY=3\n"), testing::EndsWith("CONTAINER_NAME=web\n"), testing::Not(HasSubstr("PARTIAL"))));
  EXPECT_THAT(journal_message("", {LogStream::standard_output, noon, "a\nb", ""}),
              testing::AllOf(testing::StartsWith(std::string("MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n", 20)), HasSubstr("PRIORITY=6\n"), HasSubstr("CONTAINER_PARTIAL_MESSAGE=true\n")));
  EXPECT_THAT(journal_fields(web(), "t", {{"com.x/rack", "7"}, {"_9", "dropped"}}),
              testing::AllOf(HasSubstr("CONTAINER_ID=aaaaaaaaaaaa\n"), HasSubstr("SYSLOG_IDENTIFIER=t\n"), HasSubstr("COM_X_RACK=7\n"), testing::Not(HasSubstr("dropped"))));
}

class Shipping : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(linux::make_dirs(folder.path() + "/c", 0700).ok());
    info.spec.log_driver = "journald";
  }
  void listen() {
    ignore(linux::unlink(socket_path()));
    auto bound = linux::unix_bind_datagram(socket_path(), 0600);
    ASSERT_TRUE(bound.ok());
    journal = std::move(*bound);
  }
  void write(const std::string& text) {
    auto file = linux::open(log_path(), O_WRONLY | O_APPEND | O_CREAT, 0600);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(linux::write_all(file->get(), concat("{\"log\":\"", text, "\\n\",\"stream\":\"stdout\",\"time\":\"2026-11-20T10:00:00.000000001Z\"}\n")).ok());
  }
  /// The next message that arrives.
  std::string next() {
    EXPECT_TRUE(linux::wait_readable(journal.get(), 10'000).value_or(false));
    std::string bytes(4096, '\0');
    auto got = linux::recv(journal.get(), bytes);
    if (!got.ok()) return "";
    bytes.resize(*got);
    return bytes.substr(0, bytes.find('\n'));
  }
  [[nodiscard]] std::string socket_path() const { return folder.path() + "/journal"; }
  [[nodiscard]] std::string log_path() const { return folder.path() + "/c/x-json.log"; }

  fake::TempFolder folder;
  ContainerInfo info = web();
  UniqueFd journal;
};

TEST_F(Shipping, records_follow_the_file_through_rotation_and_an_absent_server) {
  listen();
  LogShippers shippers(socket_path());
  ASSERT_TRUE(shippers.begin(info, log_path(), LogShippers::Start::checked).ok());
  write("one");
  EXPECT_EQ(next(), "MESSAGE=one");
  ASSERT_TRUE(linux::rename(log_path(), log_path() + ".1").ok());
  write("two");
  EXPECT_EQ(next(), "MESSAGE=two");
  journal.reset();
  write("three");
  write("four");
  listen();
  EXPECT_EQ(next(), "MESSAGE=three");
  EXPECT_EQ(next(), "MESSAGE=four");
  EXPECT_EQ(shippers.lost(info.id), 0U);
}

TEST_F(Shipping, a_new_shipper_goes_on_where_the_last_one_stopped) {
  listen();
  {
    LogShippers shippers(socket_path());
    ASSERT_TRUE(shippers.begin(info, log_path(), LogShippers::Start::checked).ok());
    write("one");
    EXPECT_EQ(next(), "MESSAGE=one");
    shippers.end(info.id);
    shippers.forget(info.id, 10'000);
  }
  write("two");
  LogShippers shippers(socket_path());
  ASSERT_TRUE(shippers.begin(info, log_path(), LogShippers::Start::in_background).ok());
  EXPECT_EQ(next(), "MESSAGE=two");
}

TEST_F(Shipping, what_rotation_is_about_to_take_is_counted) {
  info.spec.log_options = {{"cache-max-file", "2"}};
  LogShippers shippers(socket_path());
  ASSERT_TRUE(shippers.begin(info, log_path(), LogShippers::Start::in_background).ok());
  write("lost");
  write("lost too");
  ASSERT_TRUE(linux::rename(log_path(), log_path() + ".1").ok());
  write("kept");
  const auto deadline = monotonic_ns() + 20'000'000'000;
  while (shippers.lost(info.id) < 2 && monotonic_ns() < deadline) std::this_thread::yield();
  EXPECT_EQ(shippers.lost(info.id), 2U);
  listen();
  EXPECT_EQ(next(), "MESSAGE=kept");
}

TEST_F(Shipping, a_host_without_a_journal_refuses_the_start_in_dockers_words) {
  LogShippers shippers(socket_path());
  auto begun = shippers.begin(info, log_path(), LogShippers::Start::checked);
  ASSERT_FALSE(begun.ok());
  EXPECT_EQ(begun.error().text(), "failed to initialize logging driver: journald is not enabled on this host");
}

}  // namespace
}  // namespace caisson::engine
