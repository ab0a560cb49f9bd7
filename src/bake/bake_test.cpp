// Tests of the language and of what build files become.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bake/bake.hpp"
#include "bake/evaluate.hpp"
#include "base/strings.hpp"

namespace caisson::bake {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// The value of an expression with some variables, as JSON; or what is wrong with it.
std::string value_of(const std::string& expression) {
  auto body = parse_hcl(concat("x = ", expression, "\n"), "test");
  if (!body.ok()) return body.error().text();
  Scope scope;
  scope.variable = [](const std::string& name) -> Result<json::value> {
    if (name == "name") return json::value("web");
    if (name == "list") return json::value(json::array{1, 2, 3});
    if (name == "map") return json::value(json::object{{"a", "1"}, {"b", json::object{{"c", true}}}});
    if (name == "people") return json::value(json::array{json::object{{"n", "ann"}}, json::object{{"n", "bob"}}});
    return Error(ErrorKind::invalid, concat("there is no variable ", name));
  };
  auto value = evaluate(*body->attributes.at(0).value, scope);
  return value.ok() ? to_text(*value) : value.error().text();
}

TEST(language, values_operators_and_conditionals) {
  for (const auto& [expression, wanted] : std::vector<std::pair<std::string, std::string>>{
           {"1", "1"}, {"\"${1.5}!\"", "\"1.5!\""}, {"1e3", "1000"}, {"-2", "-2"}, {"true", "true"}, {"null", "null"}, {"\"a\\n\\u00e9\"", "\"a\\né\""}, {"1 + 2 * 3", "7"}, {"(1 + 2) * 3", "9"}, {"7 / 2 == 3.5", "true"},
           {"7 % 4", "3"}, {"1 < 2 && !false", "true"}, {"1 == 1.0", "true"}, {"\"a\" != \"b\"", "true"}, {"false || 2 >= 3", "false"}, {"name == \"web\" ? \"yes\" : \"no\"", "\"yes\""},
           {"[1, \"b\", [true],]", "[1,\"b\",[true]]"}, {"{ a = 1, \"b c\" : 2, (name) = 3 }", "{\"a\":1,\"b c\":2,\"web\":3}"}, {"{\n a = 1\n b = 2\n}", "{\"a\":1,\"b\":2}"}, {"list[1]", "2"}, {"list.0", "1"},
           {"map.b.c", "true"}, {"map[\"a\"]", "\"1\""}, {"people[*].n", "[\"ann\",\"bob\"]"}, {"people.*.n", "[\"ann\",\"bob\"]"}, {"1 +\n 2", "3"}})
    EXPECT_EQ(value_of(expression), wanted) << expression;
}

TEST(language, templates_for_and_heredocs) {
  for (const auto& [expression, wanted] : std::vector<std::pair<std::string, std::string>>{
           {"\"${name}:${1 + 1}-$${x}%%{y}\"", "\"web:2-${x}%{y}\""}, {"\"${list}\"", "[1,2,3]"}, {"\"a ${~ name ~} b\"", "\"awebb\""}, {"\"%{ if name == \"web\" }w%{ else }o%{ endif }!\"", "\"w!\""},
           {"\"%{ for i in list }${i},%{ endfor }\"", "\"1,2,3,\""}, {"[for v in list : v * 2 if v > 1]", "[4,6]"}, {"[for i, v in [\"a\", \"b\"] : \"${i}${v}\"]", "[\"0a\",\"1b\"]"},
           {"{for k, v in map : upper(k) => 1}", "{\"A\":1,\"B\":1}"}, {"{for p in people : \"x\" => p.n...}", "{\"x\":[\"ann\",\"bob\"]}"}, {"<<EOT\nFROM ${name}\n  RUN x\nEOT", "\"FROM web\\n  RUN x\\n\""},
           {"<<-EOT\n    a\n      b\n    EOT", "\"a\\n  b\\n\""}})
    EXPECT_EQ(value_of(expression), wanted) << expression;
}

TEST(language, functions_do_what_their_names_say) {
  for (const auto& [expression, wanted] : std::vector<std::pair<std::string, std::string>>{
           {"upper(\"ab\")", "\"AB\""}, {"join(\"-\", [\"a\", \"b\"])", "\"a-b\""}, {"split(\",\", \"a,b,\")", "[\"a\",\"b\",\"\"]"}, {"replace(\"aXbX\", \"X\", \"-\")", "\"a-b-\""},
           {"substr(\"héllo\", 1, 3)", "\"éll\""}, {"strlen(\"é\")", "1"}, {"trim(\"  x \", \" \")", "\"x\""}, {"trimprefix(\"v1.2\", \"v\")", "\"1.2\""}, {"format(\"%s-%03d-%q\", \"a\", 7, \"b\")", "\"a-007-\\\"b\\\"\""},
           {"formatlist(\"%s:%d\", [\"a\", \"b\"], [1, 2])", "[\"a:1\",\"b:2\"]"}, {"regex(\"v([0-9]+)\\\\.([0-9]+)\", \"v12.3\")", "[\"12\",\"3\"]"}, {"regex_replace(\"a1b2\", \"[0-9]\", \"#\")", "\"a#b#\""},
           {"concat([1], [2, 3])", "[1,2,3]"}, {"flatten([1, [2, [3]]])", "[1,2,3]"}, {"distinct([1, 1, 2])", "[1,2]"}, {"compact([\"a\", \"\", null])", "[\"a\"]"}, {"contains(list, 2)", "true"},
           {"slice(list, 1, 3)", "[2,3]"}, {"element(list, 4)", "2"}, {"range(3)", "[0,1,2]"}, {"range(3, 0)", "[3,2,1]"}, {"chunklist(list, 2)", "[[1,2],[3]]"}, {"keys(map)", "[\"a\",\"b\"]"}, {"lookup(map, \"z\", 5)", "5"},
           {"merge({a = 1}, {a = 2, b = 3})", "{\"a\":2,\"b\":3}"}, {"zipmap([\"a\"], [1])", "{\"a\":1}"}, {"coalesce(null, 2)", "2"}, {"max(1, 5, 3)", "5"}, {"ceil(1.2)", "2"}, {"int(1.9)", "1"}, {"parseint(\"ff\", 16)", "255"},
           {"sanitize(\"a/b.c\")", "\"a_b_c\""}, {"base64decode(base64encode(\"x\"))", "\"x\""}, {"jsondecode(\"[1]\")", "[1]"}, {"urlencode(\"a b/c\")", "\"a+b%2Fc\""}, {"basename(\"/a/b\")", "\"b\""}, {"dirname(\"/a/b\")", "\"/a\""},
           {"max([1, 7]...)", "7"}, {"notequal(1, 2)", "true"}, {"indent(2, \"a\\nb\")", "\"a\\n  b\""}, {"sha256(\"\")", "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\""}})
    EXPECT_EQ(value_of(expression), wanted) << expression;
}

TEST(language, mistakes_are_told_with_their_line) {
  for (const auto& [expression, words] : std::vector<std::pair<std::string, std::string>>{
           {"unknown", "line 1: there is no variable unknown"}, {"nothing(1)", "there is no function nothing"}, {"upper()", "too few"}, {"1 / 0", "division by zero"}, {"list[9]", "the list has 3 elements"},
           {"map.z", "there is no attribute z"}, {"\"a", "test:1: a text does not end"}, {"[1", "test:2: want"}, {"{a 1}", "want '=' or ':'"}, {"\"${list} x\"", "a list is no text"}, {"\"\\q\"", "unknown escape \\q"},
           {"<<EOT\nx", "the here-document EOT does not end"}, {"99999999999999999999", "is too large"}, {"regex(\"(\", \"x\")", "the pattern"}, {"{for p in people : \"x\" => 1}", "comes twice"}, {"1 2", "want the end of the line"},
           {"/* x", "a comment does not end"}, {"range(9999)", "at most"}, {"format(\"%d\")", "fewer values"}})
    EXPECT_THAT(value_of(expression), HasSubstr(words)) << expression;
}

TEST(language, endless_work_ends) {
  EXPECT_THAT(value_of(std::string(200, '(') + "1" + std::string(200, ')')), HasSubstr("too many levels"));
  std::string nested = "[for a in range(1000) : [for b in range(1000) : [for c in range(1000) : c]]]";
  EXPECT_THAT(value_of(nested), HasSubstr("too much work"));
}

Result<Plan> planned(const std::string& text, std::vector<std::string> wanted = {}, std::vector<std::string> overrides = {}, std::map<std::string, std::string> environment = {},
                     const std::string& name = "docker-bake.hcl") {
  Request request;
  request.files.push_back({name, text});
  request.wanted = std::move(wanted);
  request.overrides = std::move(overrides);
  request.environment = [environment](const std::string& variable) {
    auto found = environment.find(variable);
    return found == environment.end() ? std::nullopt : std::optional(found->second);
  };
  return plan(request);
}

std::string refusal(Result<Plan> result) { return result.ok() ? "taken" : result.error().text(); }

std::vector<std::string> names(const Plan& plan) {
  std::vector<std::string> out;
  for (const auto& target : plan.targets) out.push_back(target.name);
  return out;
}

constexpr const char* project = R"(# a project
variable "TAG" { default = "latest" }
variable "COUNT" { default = 2 }
function "ref" {
  params = [name]
  result = "registry.example/${name}:${TAG}"
}
group "default" { targets = ["web", "tools"] }
target "_common" {
  args = { A = "1", B = "2" }
  labels = { "org.example.v" = TAG }
}
target "web" {
  inherits = ["_common"]
  context = "web"
  dockerfile = "Dockerfile.web"
  args = { B = "3", N = COUNT }
  tags = [ref("web"), "web:dev"]
  contexts = { base = "target:base" }
}
target "base" { context = "base" }
target "tools" {
  name = "tools-${v}"
  matrix = { v = ["a", "b"] }
  args = { V = v }
  dockerfile-inline = <<EOT
FROM ${v}
EOT
}
)";

TEST(bake, targets_inherit_and_come_behind_what_they_need) {
  auto plan = planned(project);
  ASSERT_TRUE(plan.ok()) << plan.error().text();
  EXPECT_THAT(names(*plan), ElementsAre("base", "web", "tools-a", "tools-b"));
  EXPECT_THAT(plan->groups.at("default"), ElementsAre("web", "tools-a", "tools-b"));
  const auto& web = plan->targets[1];
  EXPECT_EQ(web.context, "web");
  EXPECT_EQ(web.dockerfile, "Dockerfile.web");
  EXPECT_EQ(web.arguments, (std::map<std::string, std::string>{{"A", "1"}, {"B", "3"}, {"N", "2"}}));
  EXPECT_EQ(web.labels.at("org.example.v"), "latest");
  EXPECT_THAT(web.tags, ElementsAre("registry.example/web:latest", "web:dev"));
  EXPECT_EQ(plan->targets[2].dockerfile_inline, "FROM a\n");
}

TEST(bake, the_environment_and_overrides_win) {
  auto plan = planned(project, {"web"}, {"web.args.B=x", "*.no-cache=true", "w?b.tags=one", "web.tags=two", "web.tags+=three", "web.platform=linux/arm64"}, {{"TAG", "v1"}, {"COUNT", "5"}});
  ASSERT_TRUE(plan.ok()) << plan.error().text();
  const auto& web = plan->targets[1];
  EXPECT_EQ(web.arguments.at("B"), "x");
  EXPECT_EQ(web.arguments.at("N"), "5");
  EXPECT_EQ(web.labels.at("org.example.v"), "v1");
  EXPECT_THAT(web.tags, ElementsAre("one", "two", "three"));
  EXPECT_THAT(web.platforms, ElementsAre("linux/arm64"));
  EXPECT_TRUE(web.no_cache);
  EXPECT_TRUE(plan->targets[0].no_cache);
  EXPECT_THAT(refusal(planned(project, {}, {}, {{"COUNT", "x"}})), HasSubstr("must be a number"));
  for (const auto& [override, words] : std::map<std::string, std::string>{{"web", "want TARGET.ATTRIBUTE=VALUE"}, {"web.x=1", "unknown attribute x"}, {"web.args=1", "ATTRIBUTE.KEY"}, {"web.context+=1", "only lists"}})
    EXPECT_THAT(refusal(planned(project, {}, {override})), HasSubstr(words)) << override;
}

TEST(bake, json_and_compose_files_are_the_same_thing) {
  auto json = planned(R"({"variable":{"T":{"default":"1"}},"target":{"default":{"context":"c","args":{"X":"${T}"},"tags":["a:${T}"]}}})", {}, {}, {}, "docker-bake.json");
  ASSERT_TRUE(json.ok()) << json.error().text();
  EXPECT_EQ(json->targets[0].arguments.at("X"), "1");
  EXPECT_THAT(json->targets[0].tags, ElementsAre("a:1"));
  auto compose = planned("services:\n  db:\n    image: postgres\n  web:\n    image: web:1\n    build:\n      context: ./web\n      args:\n        - A=1\n      target: prod\n  api:\n    build: ./api\n", {}, {}, {}, "compose.yaml");
  ASSERT_TRUE(compose.ok()) << compose.error().text();
  EXPECT_THAT(names(*compose), ElementsAre("web", "api"));
  EXPECT_EQ(compose->targets[0].arguments.at("A"), "1");
  EXPECT_EQ(compose->targets[0].target, "prod");
  EXPECT_THAT(compose->targets[0].tags, ElementsAre("web:1"));
  EXPECT_EQ(compose->targets[1].context, "./api");
}

TEST(bake, later_files_add_to_earlier_ones) {
  Request request;
  request.files = {{"a.hcl", "target \"default\" {\n args = { A = \"1\" }\n tags = [\"a\"]\n}\n"}, {"b.hcl", "target \"default\" {\n args = { B = \"2\" }\n tags = [\"b\"]\n}\n"}};
  auto made = plan(request);
  ASSERT_TRUE(made.ok()) << made.error().text();
  EXPECT_EQ(made->targets[0].arguments.size(), 2U);
  EXPECT_THAT(made->targets[0].tags, ElementsAre("b"));
  EXPECT_THAT(to_text(plan_json(*made)), HasSubstr(R"("target":{"default":{"context":".","dockerfile":"Dockerfile","args":{"A":"1","B":"2"},"tags":["b"]}})"));
}

TEST(bake, attestations_are_texts_or_objects) {
  auto plan = planned("target \"default\" {\n attest = [\"type=sbom\", { type = \"provenance\", mode = \"max\" }]\n}");
  ASSERT_TRUE(plan.ok()) << plan.error().text();
  ASSERT_EQ(plan->targets[0].attestations.size(), 2U);
  EXPECT_EQ(plan->targets[0].attestations[0], "type=sbom");
  EXPECT_THAT(plan->targets[0].attestations[1], testing::AllOf(HasSubstr("type=provenance"), HasSubstr("mode=max")));
}

TEST(bake, annotations_calls_and_stages_to_do_again_are_those_of_build) {
  auto plan = planned("target \"default\" {\n annotations = [\"index:a=b\", \"c=d\"]\n no-cache-filter = [\"tools\"]\n call = \"outline\"\n}");
  ASSERT_TRUE(plan.ok()) << plan.error().text();
  EXPECT_THAT(plan->targets[0].annotations, ElementsAre("index:a=b", "c=d"));
  EXPECT_THAT(plan->targets[0].no_cache_stages, ElementsAre("tools"));
  EXPECT_EQ(plan->targets[0].call, "outline");
  EXPECT_THAT(to_text(plan_json(*plan)), testing::AllOf(HasSubstr(R"("call":"outline")"), HasSubstr(R"("annotations":["index:a=b","c=d"])"), HasSubstr(R"("no-cache-filter":["tools"])")));
}

TEST(bake, what_files_hold_is_listed_with_descriptions) {
  Request request;
  request.files = {{"docker-bake.hcl", R"(
variable "TAG" {
 default = "v1"
 description = "of all images"
}
variable "NONE" {}
group "all" {
 targets = ["web", "tool"]
}
group "told" {
 targets = ["web"]
 description = "the site"
}
target "base" {
 description = "for ${TAG}"
}
target "web" {
 inherits = ["base"]
}
target "tool" {
 name = "tool-${n}"
 matrix = { n = ["a", "b"] }
}
)"}};
  request.environment = [](const std::string& name) { return name == "TAG" ? std::optional<std::string>("v2") : std::nullopt; };
  auto held = contents(request);
  ASSERT_TRUE(held.ok()) << held.error().text();
  std::vector<std::string> lines;
  for (const auto& target : held->targets) lines.push_back(concat(target.name, "|", target.description, target.is_group ? "|group" : ""));
  EXPECT_THAT(lines, ElementsAre("all|web, tool|group", "base|for v2", "told|the site|group", "tool|tool-a, tool-b|group", "tool-a|", "tool-b|", "web|for v2"));
  ASSERT_EQ(held->variables.size(), 2U);
  EXPECT_EQ(held->variables[0].name, "NONE");
  EXPECT_TRUE(held->variables[0].value.is_null());
  EXPECT_EQ(to_text(held->variables[1].value), "\"v2\"");
  EXPECT_EQ(held->variables[1].description, "of all images");
  request.files = {{"docker-bake.hcl", "target \"a\" {\n inherits = [\"b\"]\n}"}};
  EXPECT_FALSE(contents(request).ok());
}

TEST(bake, agents_are_texts_objects_or_paths_by_id) {
  auto hcl = planned("target \"default\" {\n ssh = [\"default\", \"key=/a,/b\", { id = \"o\", paths = [\"/c\", \"/d\"] }, { id = \"p\" }]\n}");
  ASSERT_TRUE(hcl.ok()) << hcl.error().text();
  EXPECT_THAT(hcl->targets[0].ssh, ElementsAre("default", "key=/a,/b", "o=/c,/d", "p"));
  EXPECT_THAT(to_text(plan_json(*hcl)), HasSubstr(R"("ssh":["default","key=/a,/b","o=/c,/d","p"])"));
  auto list = planned("services:\n  web:\n    build:\n      context: .\n      ssh:\n        - default\n        - k=~/.ssh/k\n", {}, {}, {}, "compose.yaml");
  ASSERT_TRUE(list.ok()) << list.error().text();
  EXPECT_THAT(list->targets[0].ssh, ElementsAre("default", "k=~/.ssh/k"));
  auto map = planned("services:\n  web:\n    build:\n      context: .\n      ssh:\n        default:\n        k: /k\n", {}, {}, {}, "compose.yaml");
  ASSERT_TRUE(map.ok()) << map.error().text();
  EXPECT_THAT(map->targets[0].ssh, ElementsAre("default", "k=/k"));
}

TEST(bake, mistakes_name_the_file_and_the_line) {
  for (const auto& [text, words] : std::vector<std::pair<std::string, std::string>>{
           {"target \"a\" {\n contxt = \".\"\n}", "docker-bake.hcl:2: target a: unknown attribute contxt"}, {"target \"a\" {\n policy = \"check\"\n}", "policy is not supported"}, {"targt \"a\" {}", "docker-bake.hcl:1: unknown block targt"},
           {"target \"default\" {\n inherits = [\"x\"]\n}", "there is no target x, from which default inherits"}, {"target \"default\" {\n inherits = [\"default\"]\n}", "inherits from itself"}, {"", "there is no target default"},
           {"target \"default\" {\n contexts = { a = \"target:default\" }\n}", "needs itself"}, {"A = B\nB = A\ntarget \"default\" {\n tags = [A]\n}", "needs itself"}, {"target \"default\" {\n tags = [X]\n}", "docker-bake.hcl:2: there is no variable X"},
           {"target \"x\" {\n matrix = { a = [1] }\n}", "needs a name"}, {"variable \"V\" {\n default = 1\n validation {\n condition = V > 1\n error_message = \"too small\"\n }\n}", "docker-bake.hcl:3: variable V: too small"},
           {"target \"default\" {\n pull = \"maybe\"\n}", "want true or false"}, {"group \"g\" {}", "has no targets"}, {"target \"a\" {", "a block does not end"}})
    EXPECT_THAT(refusal(planned(text)), HasSubstr(words)) << text;
}

}  // namespace
}  // namespace caisson::bake
