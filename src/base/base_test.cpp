// Tests of floor 0.
#include <gtest/gtest.h>

#include "base/codec.hpp"
#include "base/digest.hpp"
#include "base/ids.hpp"
#include "base/json.hpp"
#include "base/json_text.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"

namespace caisson {
namespace {

TEST(result, an_error_reads_outermost_step_first_and_ends_with_the_kernels_reason) {
  auto inner = []() -> Status { return Error::from_errno(ENOENT, "open /x"); };
  auto outer = [&]() -> Status {
    TRY(inner(), "start web");
    return {};
  };
  auto result = outer();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().text(), "start web: open /x: No such file or directory");
  EXPECT_EQ(result.error().kind(), ErrorKind::not_found);
}

TEST(strings, numbers_are_whole_texts_only) {
  EXPECT_EQ(*parse_integer<int>("42"), 42);
  for (auto bad : {"", " 1", "1 ", "0x1", "+1", "99999999999"}) EXPECT_FALSE(parse_integer<std::int32_t>(bad).ok()) << bad;
  EXPECT_FALSE(parse_integer<std::uint32_t>("-1").ok());
}

TEST(strings, sizes_are_read_as_docker_reads_them) {
  EXPECT_EQ(*parse_size_bytes("64m"), 64 << 20);
  EXPECT_EQ(*parse_size_bytes("1.5g"), 1610612736);
  EXPECT_EQ(*parse_size_bytes("512"), 512);
  EXPECT_EQ(*parse_size_bytes("2GiB"), 2147483648);
  for (auto bad : {"", "m", "1x", "-1", "1mm", "1e400"}) EXPECT_FALSE(parse_size_bytes(bad).ok()) << bad;
}

TEST(strings, base64_round_trips) {
  for (std::string text : {"", "f", "fo", "foo", "foob", "fooba", "foobar"}) EXPECT_EQ(*base64_decode(base64_encode(text)), text);
  EXPECT_FALSE(base64_decode("a").ok());
  EXPECT_FALSE(base64_decode("a*b=").ok());
}

TEST(time, rfc3339_round_trips) {
  TimestampNs time = 1795188452054385335;
  EXPECT_EQ(*parse_rfc3339(to_rfc3339(time)), time);
  EXPECT_EQ(*parse_rfc3339("2026-11-20T17:27:32+02:00"), *parse_rfc3339("2026-11-20T15:27:32Z"));
  EXPECT_EQ(to_rfc3339(0), "0001-01-01T00:00:00Z");
  for (auto bad : {"", "2026", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00+1", "2026-01-01T00:00:00.Z"})
    EXPECT_FALSE(parse_rfc3339(bad).ok()) << bad;
}

TEST(time, durations_are_gos) {
  EXPECT_EQ(*parse_duration_ns("1h30m"), 5400LL * 1000000000);
  EXPECT_EQ(*parse_duration_ns("250ms"), 250000000);
  EXPECT_FALSE(parse_duration_ns("5").ok());
  EXPECT_FALSE(parse_duration_ns("").ok());
}

TEST(json, errors_name_the_field_by_its_path) {
  auto document = parse_json(R"({"process":{"user":{"uid":"root"}}})", "config.json");
  ASSERT_TRUE(document.ok());
  JsonView view(*document);
  auto user = view.at("process")->at("user");
  std::uint32_t uid = 0;
  auto status = user->read("uid", uid);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().text(), "process.user.uid: want an integer");
}

TEST(json, paths_are_right_for_what_is_there_and_for_what_is_not) {
  auto document = parse_json(R"({"list":[{"a":1},{"a":{"b":[1,"x"]}}],"none":null})", "x");
  ASSERT_TRUE(document.ok());
  JsonView view(*document, "file");
  std::vector<std::string> paths;
  auto list = view.at("list");
  ASSERT_TRUE(list->for_each_element([&](const JsonView& element) -> Status {
    paths.push_back(element.at("a")->path());
    paths.push_back(element.at("gone")->at("deeper")->path());
    return {};
  }));
  paths.push_back(view.at("none")->at("below")->path());
  EXPECT_EQ(paths, (std::vector<std::string>{"file.list[0].a", "file.list[0].gone.deeper", "file.list[1].a",
                                             "file.list[1].gone.deeper", "file.none.below"}));
  std::vector<std::uint32_t> numbers;
  auto b = JsonView(*document).at("list");
  Status last;
  ignore(b->for_each_element([&](const JsonView& element) -> Status {
    if (element.at("a")->raw().is_object()) last = element.at("a")->read("b", numbers);
    return {};
  }));
  ASSERT_FALSE(last.ok());
  EXPECT_EQ(last.error().text(), "list[1].a.b[1]: want an integer");
}

std::string member_text(std::string_view document) {
  constexpr std::string_view path[] = {"linux", "seccomp"};
  return std::string(find_member_text(document, path).value_or("nothing"));
}

TEST(json_text, a_members_text_is_found_as_it_is_written) {
  EXPECT_EQ(member_text(R"({"linux":{"seccomp":{"a":[1,"}\""]}}})"), R"({"a":[1,"}\""]})");
  EXPECT_EQ(member_text(R"( { "x" : "linux" , "linux" : { "a":[{"seccomp":1}] , "seccomp" : { } } , "y":2 } trailing)"), "{ }");
  EXPECT_EQ(member_text(R"({"linux":{"seccomp":null}})"), "null");
  EXPECT_EQ(member_text(R"({"seccomp":{},"linux":{}})"), "nothing");
  EXPECT_EQ(member_text(R"({"x":{"linux":{"seccomp":1}}})"), "nothing");
  EXPECT_EQ(member_text(R"({})"), "nothing");
}

TEST(json_text, what_only_a_parser_can_tell_is_not_found) {
  EXPECT_EQ(member_text(R"({"linux":{"seccomp":1,"seccomp":2}})"), "nothing");
  EXPECT_EQ(member_text(R"({"linux":{"seccomp":1},"linux":{}})"), "nothing");
  EXPECT_EQ(member_text(R"({"linux":{"seccomp":1},"li\u006eux":{}})"), "nothing");
  EXPECT_EQ(member_text(R"({"linux":[{"seccomp":1}]})"), "nothing");
  const std::string whole = R"({"a":[1,{"b":"c\"d"}],"linux":{"seccomp":{"x":[]}, "z": true}})";
  ASSERT_EQ(member_text(whole), R"({"x":[]})");
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_EQ(member_text(whole.substr(0, size)), "nothing") << size;
}

TEST(json, broken_documents_are_refused_with_line_and_column) {
  auto result = parse_json("{\n \"a\": tru }", "config.json");
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().text().find("line 2"), std::string::npos) << result.error().text();
  EXPECT_FALSE(parse_json("{} x", "x").ok());
  EXPECT_FALSE(parse_json("", "x").ok());
  EXPECT_FALSE(parse_json(std::string(100000, '['), "x").ok());
}

struct Sample {
  std::string name;
  std::vector<std::uint32_t> numbers;
  std::optional<std::string> maybe;
  std::map<std::string, std::string> pairs;
};
template <class C>
void visit(C& c, Sample& s) {
  c(s.name);
  c(s.numbers);
  c(s.maybe);
  c(s.pairs);
}

TEST(codec, every_cut_of_a_message_is_refused) {
  Sample sample{"web", {1, 2, 3}, "x", {{"a", "b"}}};
  std::string bytes = encode(sample);
  auto whole = decode<Sample>(bytes, "sample");
  ASSERT_TRUE(whole.ok());
  EXPECT_EQ(whole->numbers, sample.numbers);
  EXPECT_EQ(whole->pairs, sample.pairs);
  for (std::size_t length = 0; length < bytes.size(); ++length)
    EXPECT_FALSE(decode<Sample>(std::string_view(bytes).substr(0, length), "sample").ok()) << length;
  EXPECT_FALSE(decode<Sample>(bytes + "x", "sample").ok());
}

TEST(digest, grammar_is_strict) {
  EXPECT_EQ(sha256_of("").text(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_TRUE(Digest::parse(sha256_of("x").text()).ok());
  for (auto bad : {"", "sha256:", "md5:00", "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"})
    EXPECT_FALSE(Digest::parse(bad).ok()) << bad;
}

TEST(ids, are_64_hex_digits) {
  EXPECT_EQ(random_id().size(), 64U);
  EXPECT_TRUE(check_name("container", "web-1").ok());
  for (auto bad : {"", "a", "-a", "a/b", "a b"}) EXPECT_FALSE(check_name("container", bad).ok()) << bad;
}

}  // namespace
}  // namespace caisson
