// Tests of YAML: what generators write is read as they mean it, and what is not read is refused with its line.
#include "base/yaml.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace caisson {
namespace {

using testing::HasSubstr;

std::string read(std::string_view text) {
  auto value = parse_yaml(text, "file");
  return value.ok() ? json::serialize(*value) : value.error().text();
}

TEST(yaml, what_go_programs_write_is_read) {
  // As nvidia-ctk: sequences at their key's own indentation, mappings that begin behind a dash, quotes where a text would be a number.
  EXPECT_EQ(read("---\ncdiVersion: 0.5.0\ndevices:\n- containerEdits:\n    deviceNodes:\n    - path: /dev/nvidia0\n    - path: /dev/x\n      major: 195\n"
                 "  name: \"0\"\n- name: all\nargs:\n- --link\n- ../a.so.1::/usr/lib/b.so\nkind: nvidia.com/gpu\n"),
            R"({"cdiVersion":"0.5.0","devices":[{"containerEdits":{"deviceNodes":[{"path":"/dev/nvidia0"},{"path":"/dev/x","major":195}]},)"
            R"("name":"0"},{"name":"all"}],"args":["--link","../a.so.1::/usr/lib/b.so"],"kind":"nvidia.com/gpu"})");
}

TEST(yaml, what_people_write_is_read) {
  EXPECT_EQ(read("# a comment\n\na:   1   # one\r\nb:\n    - x\n    -\n      c: d\n    - - 1\n      - 2\n\"q: r\": 's # it''s'\n...\n"),
            R"({"a":1,"b":["x",{"c":"d"},[1,2]],"q: r":"s # it's"})");
  EXPECT_EQ(read("a: [ro, \"x, y\", {k: v, n: [1]}, ]\nb: {}\nc: []"), R"({"a":["ro","x, y",{"k":"v","n":[1]}],"b":{},"c":[]})");
  EXPECT_EQ(read("a: one\n  two\n  three # end\nb: x"), R"({"a":"one two three","b":"x"})");
  EXPECT_EQ(read("a: \"\\x41\\u00e9\\t\\\"\\U0001F600\""), "{\"a\":\"A\xc3\xa9\\t\\\"\xf0\x9f\x98\x80\"}");
  EXPECT_EQ(read(""), "null");
  EXPECT_EQ(read("- 1\n- two"), R"([1,"two"])");
}

TEST(yaml, plain_scalars_mean_what_the_core_schema_says) {
  EXPECT_EQ(read("[~, null, true, False, 12, -3, +4, 0x1F, 0o17, 1.5, -.5, 1e3, 1.2.3, yes, 12a, a#b, 'true', http://x, -x, .]"),
            R"([null,null,true,false,12,-3,4,31,15,1.5E0,-5E-1,1E3,"1.2.3","yes","12a","a#b","true","http://x","-x","."])");
}

TEST(yaml, what_is_not_read_is_refused_with_its_line) {
  const std::pair<const char*, const char*> cases[] = {
      {"a: 1\nb: &x 1", "line 2: anchors"},           {"a: *x", "line 1: anchors"},
      {"a: !!str 1", "line 1: tags"},                  {"a: |\n  text", "line 1: block scalars"},
      {"a: >-\n  text", "line 1: block scalars"},      {"%YAML 1.2\n---\na: 1", "line 1: directives"},
      {"a: 1\n---\nb: 2", "line 2: a second document"}, {"a: 1\na: 2", "line 2: the key \"a\" is given twice"},
      {"{a: 1, a: 2}", "line 1: the key"},             {"a:\n\tb: 1", "line 2: a tab"},
      {"a: b: c", "line 1: a mapping cannot begin here"}, {"a: x\n  b: c", "line 2: a mapping cannot begin here"},
      {"a: \"x", "line 1: a quoted text"},             {"a: [1", "line 1: a flow sequence"},
      {"a: [1,\n  2]", "line 1: a flow collection"},   {"a: 0644", "line 1: \"0644\" is octal"},
      {"a:\n    b: 1\n  c: 2", "line 3: "},            {"a: \"\\q\"", "line 1: the escape"},
      {"a: \"\\ud800\"", "is no character"},           {"a: 'x' y", "stands behind a value"},
      {"? a\n: b", "line 1: "},                        {"a: @x", "cannot begin with"},
      {"a\nb: 1", "line 2: "},                         {"a: 99999999999999999999", "too large"},
      {"a: \x01", "a control character"},
  };
  for (const auto& [text, why] : cases) {
    auto value = parse_yaml(text, "file");
    ASSERT_FALSE(value.ok()) << text << " was read as " << json::serialize(*value);
    EXPECT_THAT(value.error().text(), HasSubstr("file: line ")) << text;
    EXPECT_THAT(value.error().text(), HasSubstr(why)) << text;
    EXPECT_EQ(value.error().kind(), ErrorKind::invalid);
  }
}

TEST(yaml, depth_is_bounded) {
  std::string flow(100'000, '[');
  EXPECT_THAT(read(flow), HasSubstr("nested too deeply"));
  std::string dashes;
  for (int i = 0; i < 100'000; ++i) dashes += "- ";
  EXPECT_THAT(read(dashes + "x"), HasSubstr("nested too deeply"));
  std::string blocks;
  for (std::size_t i = 0; i < 1000; ++i) blocks += std::string(i, ' ') + "a:\n";
  EXPECT_THAT(read(blocks), HasSubstr("nested too deeply"));
}

}  // namespace
}  // namespace caisson
