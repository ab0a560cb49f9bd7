#include "cli/template.hpp"

#include <gtest/gtest.h>

namespace caisson::cli {
namespace {

std::string render(std::string_view text, std::string_view document, bool is_header = false) {
  auto parsed = Template::parse(text);
  if (!parsed.ok()) return "PARSE " + parsed.error().text();
  auto root = parse_json(document, "test");
  EXPECT_TRUE(root.ok());
  static const json::object labels{{"a", "1"}};
  auto out = parsed->render(TemplateData{&*root, &labels, is_header});
  return out.ok() ? *out : "ERROR " + out.error().text();
}

constexpr std::string_view document = R"({"ID":"abc","N":3,"F":1.5,"Big":9007199254740993,"Nil":null,"Yes":true,"List":["x","y"],"Empty":[],
  "State":{"Status":"running","Pid":7},"Labels":{"b":"2","a":"1"},"Mounts":[{"Source":"/s","RW":false},{"Source":"/t","RW":true}]})";

// What Go's text/template prints for the same templates and values.
TEST(templates, values_print_as_go_prints_them) {
  const std::vector<std::pair<std::string_view, std::string_view>> cases = {
      {"{{.ID}}", "abc"}, {"{{.N}}/{{.F}}/{{.Big}}", "3/1.5/9007199254740993"}, {"{{.Nil}}", "<nil>"}, {"{{.Yes}}", "true"}, {"{{.List}}", "[x y]"},
      {"{{.State}}", "{running 7}"}, {"{{.Labels}}", "map[a:1 b:2]"}, {"{{.Labels.a}}{{.Labels.zz}}", "1<no value>"}, {"{{index .Labels \"zz\"}}.", "."},
      {"{{.State.Status}}", "running"}, {"{{json .State}}", R"({"Status":"running","Pid":7})"}, {"{{json \"<a>\"}}", "\"<a>\""}, {"{{.Mounts}}", "[{/s false} {/t true}]"},
      {"a{{/* nothing */}}b", "ab"}, {"{{\"x\\ty\\u00e9\\\"\"}}", "x\ty\xC3\xA9\""}, {"{{`raw\\n`}}", "raw\\n"}, {"{{'a'}}", "97"}, {"{{0x10}} {{-5}} {{1.5e3}}", "16 -5 1500"},
      {"{{true}}{{nil}}", "true<nil>"},
  };
  for (const auto& [text, want] : cases) EXPECT_EQ(render(text, document), want) << text;
}

TEST(templates, control_flow) {
  const std::vector<std::pair<std::string_view, std::string_view>> cases = {
      {"{{if .Yes}}a{{else}}b{{end}}", "a"}, {"{{if .Empty}}a{{else if .ID}}b{{else}}c{{end}}", "b"}, {"{{with .State}}{{.Pid}}{{end}}", "7"},
      {"{{with .Nil}}x{{else}}none{{end}}", "none"}, {"{{range .List}}<{{.}}>{{end}}", "<x><y>"}, {"{{range .Empty}}x{{else}}empty{{end}}", "empty"},
      {"{{range $i, $e := .List}}{{$i}}={{$e}},{{end}}", "0=x,1=y,"}, {"{{range $k, $v := .Labels}}{{$k}}{{$v}} {{end}}", "a1 b2 "},
      {"{{range .Mounts}}{{if not .RW}}{{continue}}{{end}}{{.Source}}{{end}}", "/t"}, {"{{range .List}}{{.}}{{break}}{{end}}", "x"},
      {"{{$x := .ID}}{{if .Yes}}{{$x = \"new\"}}{{end}}{{$x}}", "new"}, {"{{range .List}}{{$.ID}}{{end}}", "abcabc"}, {" {{- .ID -}} \n x", "abcx"},
      {"{{if and .Yes .ID}}1{{end}}{{if or .Nil .Empty}}2{{else}}3{{end}}", "13"}, {"{{and .Nil .Boom.Deep}}", "<nil>"},
  };
  for (const auto& [text, want] : cases) EXPECT_EQ(render(text, document), want) << text;
}

TEST(templates, functions) {
  const std::vector<std::pair<std::string_view, std::string_view>> cases = {
      {"{{split .ID \"b\"}}", "[a c]"}, {"{{join .List \"+\"}}", "x+y"}, {"{{upper .ID}}{{lower \"X\"}}{{title \"a bc\"}}", "ABCxA Bc"}, {"[{{pad .ID 1 2}}{{pad \"\" 3 3}}]", "[ abc  ]"},
      {"{{truncate .ID 2}}{{truncate .ID 9}}", "ababc"}, {"{{len .List}}{{len .ID}}{{len .Labels}}", "232"}, {"{{index .List 1}}{{(index .Mounts 0).Source}}", "y/s"},
      {"{{slice .ID 1}}{{slice .ID 0 1}}{{slice .List 1 2}}", "bca[y]"}, {"{{printf \"%s-%d-%5s|%-4s|%q|%v|%05d|%.2f|%x|%t|%%\" .ID .N \"r\" \"l\" \"q\" .List 42 .F 255 true}}", "abc-3-    r|l   |\"q\"|[x y]|00042|1.50|ff|true|%"},
      {"{{print 1 2 \"x\" 3}}", "1 2x3"}, {"{{println \"a\" 1}}", "a 1\n"}, {"{{eq .N 1 2 3}}{{ne .ID \"x\"}}{{lt 1 2}}{{le 2 2}}{{gt 1 2}}{{ge \"b\" \"a\"}}", "truetruetruetruefalsetrue"},
      {"{{html \"<a&'>\"}}{{urlquery \"a b/c\"}}{{js \"it's\"}}", "&lt;a&amp;&#39;&gt;a+b%2Fcit\\'s"}, {"{{.ID | upper | printf \"%s%s\" \"x\"}}", "xABC"}, {"{{.Label \"a\"}}{{.Label \"q\"}}", "1"},
      {"{{not .Nil}}", "true"}, {"{{.ID | .Label}}", ""},
  };
  for (const auto& [text, want] : cases) EXPECT_EQ(render(text, document), want) << text;
}

TEST(templates, mistakes_are_told_with_their_place) {
  const std::vector<std::pair<std::string_view, std::string_view>> cases = {
      {"{{.Id}}", "ERROR template: 1:3: there is no field .Id; the nearest is .ID"},
      {"{{.State.Statsu}}", "ERROR template: 1:3: there is no field .Statsu; the nearest is .Status"},
      {"{{.Nil.X}}", "ERROR template: 1:3: nil pointer evaluating .X"},
      {"{{.ID.X}}", "ERROR template: 1:3: can't evaluate field X in abc"},
      {"x\n{{foo .ID}}", "PARSE template: 2:3: function \"foo\" not defined"},
      {"{{uper .ID}}", "PARSE template: 1:3: function \"uper\" not defined; the nearest is upper"},
      {"{{if .ID}}x", "PARSE template: 1:12: unexpected end: {{end}} is missing"},
      {"{{end}}", "PARSE template: 1:8: unexpected {{end}}"},
      {"{{.ID", "PARSE template: 1:6: unclosed action"},
      {"{{", "PARSE template: 1:3: unclosed action"},
      {"{{}}", "PARSE template: 1:3: missing value for command"},
      {"{{\"x}}", "PARSE template: 1:7: unterminated quoted string"},
      {"{{(.ID}}", "PARSE template: 1:7: unclosed left paren"},
      {"{{break}}", "PARSE template: 1:3: {{break}} outside {{range}}"},
      {"{{define \"x\"}}{{end}}", "PARSE template: 1:3: {{define}} is not supported"},
      {"{{$x}}", "ERROR template: 1:3: undefined variable \"$x\""},
      {"{{split .ID}}", "ERROR template: 1:3: wrong number of args for split: want 2 got 1"},
      {"{{index .List 5}}", "ERROR template: 1:3: error calling index: index out of range: 5"},
      {"{{range .ID}}{{end}}", "ERROR template: 1:9: range can't iterate over abc"},
      {"{{.ID .N}}", "ERROR template: 1:3: can't give argument to non-function"},
  };
  for (const auto& [text, want] : cases) EXPECT_EQ(render(text, document), want) << text;
}

TEST(templates, deep_nesting_is_refused_instead_of_exhausting_the_stack) {
  std::string parens = "{{" + std::string(100000, '(');
  EXPECT_FALSE(Template::parse(parens).ok());
  std::string ifs;
  for (int i = 0; i < 100000; ++i) ifs += "{{if .X}}";
  EXPECT_FALSE(Template::parse(ifs).ok());
}

TEST(templates, every_cut_of_a_template_is_parsed_or_refused) {
  std::string whole = "{{range $i, $e := .List}}{{- printf \"%s\\u00e9\" $e | upper -}}{{else if eq (index .L 0) 'x'}}{{/* c */}}{{end}}";
  for (std::size_t size = 0; size <= whole.size(); ++size) (void)Template::parse(std::string_view(whole).substr(0, size)).ok();
  EXPECT_FALSE(Template::parse(whole).ok()) << "range has no else if";
}

TEST(templates, a_head_line_shows_titles_and_ignores_text_functions) {
  constexpr std::string_view titles = R"({"ID":"CONTAINER ID","Names":"NAMES","Labels":"LABELS"})";
  EXPECT_EQ(render("{{lower .Names}}|{{json .ID}}|{{truncate .ID 2}}|{{pad .ID 1 1}}", titles, true), "NAMES|CONTAINER ID|CONTAINER ID| CONTAINER ID ");
  EXPECT_EQ(render("{{.Label \"com.docker.my-key\"}}", titles, true), "my key");
}

TEST(templates, fields_at_the_top_are_found_wherever_they_stand) {
  auto parsed = Template::parse("{{if .A}}{{range .B}}{{printf \"%s\" (lower .C)}}{{end}}{{else}}{{.D}}{{end}}");
  ASSERT_TRUE(parsed.ok());
  for (std::string_view field : {"A", "B", "C", "D"}) EXPECT_TRUE(parsed->uses_field(field)) << field;
  EXPECT_FALSE(parsed->uses_field("E"));
}

}  // namespace
}  // namespace caisson::cli
