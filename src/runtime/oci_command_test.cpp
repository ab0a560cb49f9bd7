// Tests of what the OCI command line works out without a kernel: signal names, records, CRIU's wire form.
#include <gtest/gtest.h>
#include <signal.h>

#include "runtime/criu.hpp"
#include "runtime/oci_commands.hpp"
#include "runtime/protobuf.hpp"

namespace caisson::runtime {
namespace {

TEST(OciSignals, names_numbers_and_aliases_are_understood) {
  const std::pair<const char*, int> cases[] = {
      {"TERM", SIGTERM}, {"SIGTERM", SIGTERM}, {"sigterm", SIGTERM},         {"15", 15},          {"0", 0},
      {"IOT", SIGABRT},  {"RTMIN", SIGRTMIN},  {"SIGRTMIN+2", SIGRTMIN + 2}, {"RTMAX", SIGRTMAX}, {"RTMAX-3", SIGRTMAX - 3},
      {"64", 64}};
  for (const auto& [text, number] : cases) {
    auto parsed = parse_signal(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(*parsed, number) << text;
  }
}

TEST(OciSignals, what_is_no_signal_is_refused) {
  for (const char* text : {"", "SIG", "65", "-1", "TERM ", " TERM", "RTMIN-1", "RTMAX+1", "RTMIN+", "RTMIN+31", "RTMIN+x", "1x"})
    EXPECT_FALSE(parse_signal(text)) << text;
}

TEST(OciRecord, survives_being_written_and_read) {
  OciState state;
  state.id = "web-1";
  state.pid = 4711;
  state.start_time = 99;
  state.cgroup_path = "/web-1";
  state.creator = OciProcess{12, 34};
  state.annotations["key"] = "value";
  auto again = read_oci_state(write_oci_state(state));
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(write_oci_state(*again), write_oci_state(state));
  EXPECT_EQ(again->creator->start_time, 34U);
}

TEST(OciRecord, broken_records_are_refused) {
  for (const char* text : {"", "[]", "{}", R"({"id":"../x"})", R"({"id":7})", R"({"id":"a","pid":"x"})", R"({"id":"a","creator":7})"})
    EXPECT_FALSE(read_oci_state(text)) << text;
}

TEST(OciLogDestination, prefixes_choose_the_kind) {
  const std::tuple<const char*, OciLogKind, const char*> cases[] = {{"", OciLogKind::none, ""},
                                                                    {"/a/b", OciLogKind::file, "/a/b"},
                                                                    {"file:/a", OciLogKind::file, "/a"},
                                                                    {"journald:me", OciLogKind::journald, "me"},
                                                                    {"syslog:me", OciLogKind::syslog, "me"}};
  for (const auto& [text, kind, target] : cases) {
    OciLog log;
    set_destination(log, text);
    EXPECT_EQ(log.kind, kind) << text;
    EXPECT_EQ(log.target, target) << text;
  }
}

TEST(Protobuf, writes_the_examples_of_its_own_documentation) {
  ProtobufWriter writer;
  writer.number(1, 150);
  writer.bytes(2, "testing");
  EXPECT_EQ(writer.text(), std::string("\x08\x96\x01\x12\x07testing"));
  ProtobufWriter negative;
  negative.number(1, -1);
  EXPECT_EQ(negative.text().size(), 11U);
  auto fields = read_protobuf(writer.text());
  ASSERT_TRUE(fields);
  ASSERT_EQ(fields->size(), 2U);
  EXPECT_EQ((*fields)[0].value, 150U);
  EXPECT_EQ((*fields)[1].bytes, "testing");
}

TEST(Protobuf, texts_that_are_cut_off_are_refused) {
  using namespace std::string_view_literals;
  for (std::string_view text : {"\x08"sv, "\x08\x80"sv,
                                "\x12\x05"
                                "abc"sv,
                                "\x0b"sv, "\x00\x00"sv, "\x0d\x01\x02"sv, "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"sv})
    EXPECT_FALSE(read_protobuf(text)) << text.size();
}

TEST(Criu, requests_carry_what_was_asked_for_and_no_more) {
  CriuOptions options;
  options.images_fd = 5;
  const std::string plain = encode_criu_request(CriuRequest::dump, &options);
  options.leave_running = true;
  options.external_mounts = {{"/data", "/volume"}};
  options.cgroups_mode = 3;
  const std::string more = encode_criu_request(CriuRequest::dump, &options);
  auto request = read_protobuf(more);
  ASSERT_TRUE(request);
  ASSERT_EQ(request->size(), 2U);
  EXPECT_EQ((*request)[0].value, 1U);
  auto fields = read_protobuf((*request)[1].bytes);
  ASSERT_TRUE(fields);
  bool running = false;
  bool mount = false;
  for (const auto& field : *fields) {
    running = running || (field.number == 3 && field.value == 1);
    mount = mount || (field.number == 23 && field.bytes == std::string("\x0a\x05/data\x12\x07/volume"));
  }
  EXPECT_TRUE(running);
  EXPECT_TRUE(mount);
  EXPECT_EQ(plain.find("/data"), std::string::npos);
}

TEST(Criu, answers_and_notifications_are_told_apart) {
  using namespace std::string_view_literals;
  auto restored = decode_criu_message("\x08\x02\x10\x01\x22\x02\x08\x64"sv);
  ASSERT_TRUE(restored);
  EXPECT_FALSE(restored->is_notification);
  EXPECT_TRUE(restored->answer.success);
  EXPECT_EQ(restored->answer.pid, 100);
  auto notice = decode_criu_message("\x08\x06\x10\x01\x2a\x10\x0a\x0cpost-restore\x10\x07"sv);
  ASSERT_TRUE(notice);
  EXPECT_TRUE(notice->is_notification);
  EXPECT_EQ(notice->script, "post-restore");
  EXPECT_EQ(notice->pid, 7);
}

TEST(Criu, the_reason_is_the_last_errors_of_its_log) {
  EXPECT_EQ(criu_log_reason("(0.1) fine\n(0.2) Error (a): first\n(0.3) Error (b): second\n(0.4) bye\n"),
            "(0.2) Error (a): first; (0.3) Error (b): second");
  EXPECT_EQ(criu_log_reason("one\ntwo\n"), "one; two");
  EXPECT_EQ(criu_log_reason(""), "");
}

}  // namespace
}  // namespace caisson::runtime
