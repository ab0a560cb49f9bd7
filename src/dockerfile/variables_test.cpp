// Tests of variables and patterns: expansion forms, scopes, globs, .dockerignore, build checks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.hpp"
#include "dockerfile/ignore.hpp"
#include "dockerfile/lint.hpp"
#include "dockerfile/scope.hpp"

namespace caisson::dockerfile {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::optional<std::string> sample(std::string_view name) {
  if (name == "a") return "one";
  if (name == "path") return "/usr/local/lib.tar.gz";
  if (name == "empty") return "";
  if (name == "blanks") return "x  y";
  if (name == "é") return "accent";
  return std::nullopt;
}
std::string expanded(std::string_view text) {
  auto result = Expander(sample).word(text);
  return result.ok() ? *result : "ERROR " + result.error().text();
}

TEST(expansion, every_form_gives_what_the_reference_says) {
  struct Case {
    const char* text;
    const char* result;
  };
  for (const auto& c : {
           Case{"$a", "one"}, Case{"${a}x", "onex"}, Case{"$ax", ""}, Case{"$", "$"}, Case{"a$", "a$"}, Case{"$ a", "$ a"}, Case{"$1b", "b"}, Case{"$@x", "x"}, Case{"$é", "accent"},
           Case{"${x:-def}", "def"}, Case{"${empty:-def}", "def"}, Case{"${empty-def}", ""}, Case{"${x-def}", "def"}, Case{"${a:-def}", "one"},
           Case{"${a:+alt}", "alt"}, Case{"${empty:+alt}", ""}, Case{"${empty+alt}", "alt"}, Case{"${x+alt}", ""},
           Case{"${a:?no}", "one"}, Case{"${x:?not here}", "ERROR x: not here"}, Case{"${x:?}", "ERROR x: is not allowed to be unset or empty"},
           Case{"${empty?no}", ""}, Case{"${empty:?no}", "ERROR empty: no"}, Case{"${x:-${a}}", "one"}, Case{"${x:-${y:-$a$a}}", "oneone"},
           Case{"${path#*/}", "usr/local/lib.tar.gz"}, Case{"${path##*/}", "lib.tar.gz"}, Case{"${path%.*}", "/usr/local/lib.tar"}, Case{"${path%%.*}", "/usr/local/lib"},
           Case{"${path#nothing}", "/usr/local/lib.tar.gz"}, Case{"${path%gz}", "/usr/local/lib.tar."}, Case{"${path#?usr}", "/local/lib.tar.gz"},
           Case{"${path/l/L}", "/usr/Local/lib.tar.gz"}, Case{"${path//l/L}", "/usr/LocaL/Lib.tar.gz"}, Case{"${path//\\//:}", ":usr:local:lib.tar.gz"}, Case{"${path/l*l/}", "/usr/ib.tar.gz"},
           Case{"${path/zz/y}", "/usr/local/lib.tar.gz"}, Case{"${path//[u]/y}", "/usr/local/lib.tar.gz"}, Case{"${x/a/b}", ""},
           Case{"'$a'", "$a"}, Case{"\"$a\"", "one"}, Case{"\\$a", "$a"}, Case{"\"\\$a\"", "$a"}, Case{"\"\\n\"", "\\n"}, Case{"\\n", "n"}, Case{"'\\'", "\\"}, Case{"a' b 'c", "a b c"},
           Case{"\"a'b\"", "a'b"}, Case{"${x:-'a}b'}", "a}b"}, Case{"${x:-a\\}b}", "a}b"}, Case{"pre${a}post", "preonepost"}, Case{"${blanks}", "x  y"}})
    EXPECT_EQ(expanded(c.text), c.result) << c.text;
}

TEST(expansion, what_cannot_be_read_is_an_error) {
  for (auto text : {"'open", "\"open", "${a", "${a:-b", "${}", "${:}", "${{a}}", "${a:x}", "${a!}", "${a:", "${ a}", "${a/b}"}) EXPECT_THAT(expanded(text), HasSubstr("ERROR")) << text;
  std::string deep;
  for (int i = 0; i < 10'000; ++i) deep += "${x:-";
  EXPECT_THAT(expanded(deep), HasSubstr("ERROR"));
  auto big = [](std::string_view) { return std::optional(std::string(600'000, 'a')); };
  EXPECT_FALSE(Expander(big).word("$x$x").ok());
  EXPECT_FALSE(Expander(big).word("${x/a*b/c}").ok());
}

TEST(expansion, lists_are_split_at_blanks_that_no_quote_protects) {
  Expander expander(sample);
  EXPECT_THAT(*expander.words("$blanks \"$blanks\" z"), ElementsAre("x", "y", "x  y", "z"));
  EXPECT_THAT(*expander.words("a$blanks"), ElementsAre("ax", "y"));
  EXPECT_THAT(*expander.words("'' a\\ b"), ElementsAre("", "a b"));
  EXPECT_THAT(*expander.words("$x"), IsEmpty());
}

TEST(expansion, a_body_keeps_its_quotes) {
  Expander expander(sample);
  EXPECT_EQ(*expander.body("it's \"$a\" \\$a ${x:-'d'} \\n"), "it's \"one\" $a d \\n");
}

TEST(expansion, missing_names_are_remembered_unless_a_word_stands_in) {
  Expander expander(sample);
  ASSERT_TRUE(expander.word("$u ${v:-$w} ${a:-$q} ${r#x} ${s:+t}").ok());
  EXPECT_THAT(expander.missing(), ElementsAre("r", "u", "w"));
}

TEST(expansion, the_escape_may_be_a_backtick) {
  EXPECT_EQ(*Expander(sample, '`').word("`$a \\$a"), "$a \\one");
}

TEST(globs, match_as_docker_does) {
  struct Case {
    const char* pattern;
    const char* path;
    bool matches;
  };
  for (const auto& c : {Case{"*.go", "a.go", true}, Case{"*.go", "d/a.go", false}, Case{"d/*", "d/x", true}, Case{"?", "é", true}, Case{"[a-c]x", "bx", true}, Case{"[^a-c]x", "bx", false},
                        Case{"\\*", "*", true}, Case{"\\*", "a", false}, Case{"[]a]", "]", false}, Case{"a**b", "axb", true}})
    EXPECT_EQ(Glob::for_paths(c.pattern).ok() && Glob::for_paths(c.pattern)->matches(c.path), c.matches) << c.pattern << " " << c.path;
  for (auto bad : {"[", "[a", "[]", "[a-]", "a\\", "[-a]"}) EXPECT_FALSE(Glob::for_paths(bad).ok()) << bad;
  std::string hard;
  for (int i = 0; i < 50; ++i) hard += "*a";
  EXPECT_FALSE(Glob::for_paths(hard + "b")->matches(std::string(5'000, 'a')));
}

TEST(ignore, patterns_match_by_dockers_rules) {
  struct Case {
    const char* patterns;
    const char* path;
    bool excluded;
  };
  for (const auto& c : {
           Case{"a", "a", true}, Case{"a", "a/b", true}, Case{"a", "ab", false}, Case{"/a", "a", true}, Case{"a/", "a", true}, Case{"./a", "a", true}, Case{"a/../b", "b", true},
           Case{"*", "x", true}, Case{"*", "x/y", true}, Case{"*.md", "d/x.md", false}, Case{"**/*.md", "d/e/x.md", true}, Case{"**/*.md", "x.md", true},
           Case{"*/temp*", "a/temporary/x", true}, Case{"*/temp*", "temp", false}, Case{"*/*/temp*", "a/b/tempx", true}, Case{"temp?", "tempa", true}, Case{"temp?", "temp", false},
           Case{"a/**", "a/b/c", true}, Case{"a/**", "a", false}, Case{"**", "x/y", true}, Case{"a/**/b", "a/b", true}, Case{"a/**/b", "a/x/y/b", true}, Case{"**foo", "x/barfoo", true},
           Case{"**foo", "foo", true}, Case{"**/foo", "xfoo", false}, Case{"**foo*", "x/foobar", true}, Case{"**foo*", "xfoo", false}, Case{"a**", "a/b", true},
           Case{"*\n!README", "README", false}, Case{"*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true}, Case{"*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false},
           Case{"a\n!a/b", "a/b", false}, Case{"a\n!a/b", "a/c", true}, Case{"#c\n  # d", "# d", true}, Case{"#c", "#c", false}, Case{" a ", "a", true}, Case{"! a\na", "a", true},
           Case{"[a-b].txt", "b.txt", true}, Case{"\\*", "*", true}, Case{"a.c", "abc", false}, Case{"a+b", "a+b", true}, Case{"", "a", false}, Case{".", "a", false}, Case{"\xef\xbb\xbf" "a", "a", true}})
    EXPECT_EQ(IgnoreList::parse(c.patterns)->excludes(c.path), c.excluded) << c.patterns << " | " << c.path;
  EXPECT_THAT(IgnoreList::parse("a\n!").error().text(), HasSubstr("line 2: illegal exclusion pattern: \"!\""));
  EXPECT_THAT(IgnoreList::parse("[").error().text(), HasSubstr("syntax error in pattern"));
}

TEST(ignore, a_folder_is_left_out_whole_only_when_no_exception_can_lie_in_it) {
  EXPECT_TRUE(IgnoreList::parse("a")->excludes_all_below("a"));
  EXPECT_TRUE(IgnoreList::parse("a\n!b")->excludes_all_below("a"));
  EXPECT_FALSE(IgnoreList::parse("a\n!a/b/c")->excludes_all_below("a"));
  EXPECT_FALSE(IgnoreList::parse("*\n!a/b/c")->excludes_all_below("a"));
  EXPECT_FALSE(IgnoreList::parse("*\n!a/b")->excludes_all_below("a/b"));
  EXPECT_FALSE(IgnoreList::parse("a\n!**/x")->excludes_all_below("a"));
  EXPECT_FALSE(IgnoreList::parse("b")->excludes_all_below("a"));
}

Instruction one(std::string_view text) {
  auto instruction = parse_instruction(text);
  EXPECT_TRUE(instruction.ok()) << text;
  return instruction.ok() ? *instruction : Instruction{};
}

TEST(scopes, arguments_are_global_inherited_given_or_hidden_by_env) {
  GlobalScope globals(platform_arguments("linux/arm/v7", "linux/amd64", ""), {{"G", "given"}, {"S", "$notexpanded"}});
  ASSERT_TRUE(globals.declare(one("ARG G=default H=h$G I"), '\\').ok());
  EXPECT_EQ(globals.value("G"), "given");
  EXPECT_EQ(globals.value("H"), "hgiven");
  EXPECT_EQ(globals.value("I"), std::nullopt);
  EXPECT_EQ(globals.value("TARGETARCH"), "arm");
  EXPECT_EQ(globals.value("TARGETVARIANT"), "v7");
  StageScope stage(globals);
  EXPECT_EQ(stage.value("H"), std::nullopt) << "not visible in a stage before it is declared there";
  ASSERT_TRUE(stage.declare(one("ARG H TARGETARCH N S=1 D=d$H")).ok());
  EXPECT_EQ(stage.value("H"), "hgiven");
  EXPECT_EQ(stage.value("TARGETARCH"), "arm");
  EXPECT_EQ(stage.value("N"), std::nullopt);
  EXPECT_EQ(stage.value("S"), "$notexpanded");
  EXPECT_EQ(stage.value("D"), "dhgiven");
  EXPECT_THAT(stage.visible_arguments(), ElementsAre("D=dhgiven", "H=hgiven", "S=$notexpanded", "TARGETARCH=arm"));
  auto pairs = *stage.expand_pairs(one("ENV H=env E=$H"));
  EXPECT_EQ(pairs[1].value, "hgiven") << "an instruction sees the environment from before it";
  for (const auto& pair : pairs) stage.set(pair.key, pair.value);
  EXPECT_EQ(stage.value("H"), "env");
  EXPECT_THAT(stage.visible_arguments(), Not(Contains("H=hgiven")));
  EXPECT_TRUE(is_proxy_argument("HTTP_PROXY") && is_proxy_argument("no_proxy"));
  EXPECT_FALSE(is_proxy_argument("Http_Proxy") || is_proxy_argument("PROXY"));
}

std::vector<std::string> rules_of(const std::string& text, const LintInput& input = {}) {
  Source source{"Dockerfile", text};
  auto file = parse(source);
  EXPECT_TRUE(file.ok()) << text << (file.ok() ? "" : file.error().text());
  if (!file.ok()) return {};
  auto checked = lint(source, *file, input);
  EXPECT_TRUE(checked.ok()) << text << (checked.ok() ? "" : checked.error().text());
  std::vector<std::string> out;
  if (checked.ok())
    for (const auto& warning : checked->warnings) out.push_back(concat(warning.rule, " ", warning.lines.first, ": ", warning.message));
  return out;
}

TEST(checks, each_rule_fires_where_it_should) {
  struct Case {
    const char* text;
    const char* warning;
  };
  for (const auto& c : {
           Case{"FROM x AS Bad", "StageNameCasing 1: Stage name 'Bad' should be lowercase"}, Case{"FROM x as b", "FromAsCasing 1: 'as' and 'FROM' keywords' casing do not match"},
           Case{"FROM x\nRun y", "ConsistentInstructionCasing 2: Command 'Run' should match the case of the command majority (uppercase)"},
           Case{"from x\nrun y\nRUN z", "ConsistentInstructionCasing 3: Command 'RUN' should match the case of the command majority (lowercase)"},
           Case{"FROM x\nRUN a \\\n\n b", "NoEmptyContinuation 3: Empty continuation line"},
           Case{"FROM x AS b\nFROM y AS b", "DuplicateStageName 2: Duplicate stage name \"b\", stage names should be unique"},
           Case{"FROM x AS context", "ReservedStageName 1: Stage name should not use the same name as reserved stage \"context\""},
           Case{"FROM x\nCMD a", "JSONArgsRecommended 2: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals"},
           Case{"FROM x\nMAINTAINER me", "MaintainerDeprecated 2: Maintainer instruction is deprecated in favor of using label"},
           Case{"FROM x\nENV a b", "LegacyKeyValueFormat 2: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format"},
           Case{"ARG VERSION=1\nFROM x:$VERSOIN", "UndefinedArgInFrom 2: FROM argument 'VERSOIN' is not declared (did you mean VERSION?)"},
           Case{"FROM scratch\nENV PATHS=1\nCOPY a $PATSH", "UndefinedVar 3: Usage of undefined variable '$PATSH' (did you mean $PATHS?)"},
           Case{"ARG TAG\nFROM x:${TAG}", "InvalidDefaultArgInFrom 2: Default value for ARG x:${TAG} results in empty or invalid base image name"},
           Case{"FROM x\nWORKDIR a", "WorkdirRelativePath 2: Relative workdir \"a\" can have unexpected results if the base image changes"},
           Case{"FROM x\nCMD [\"a\"]\nCMD [\"b\"]", "MultipleInstructionsDisallowed 2: Multiple CMD instructions should not be used in the same stage because only the last one will be used"},
           Case{"FROM --platform=$TARGETPLATFORM x", "RedundantTargetPlatform 1: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior"},
           Case{"FROM --platform=linux/amd64 x", "FromPlatformFlagConstDisallowed 1: FROM --platform flag should not use constant value \"linux/amd64\""},
           Case{"FROM x\nENV API_TOKEN=1", "SecretsUsedInArgOrEnv 2: Do not use ARG or ENV instructions for sensitive data (ENV \"API_TOKEN\")"},
           Case{"FROM x\nEXPOSE 80/TCP", "ExposeProtoCasing 2: Defined protocol '80/TCP' in EXPOSE instruction should be lowercase"},
           Case{"FROM x\nEXPOSE 1.2.3.4:80:80", "ExposeInvalidFormat 2: EXPOSE instruction should not define an IP address or host-port mapping, found '1.2.3.4:80:80'"},
           Case{"# check=experimental=all\n# what it is\nARG a=1\nFROM x", "InvalidDefinitionDescription 3: Comment for ARG should follow the format: `# a <description>`"}})
    EXPECT_THAT(rules_of(c.text), Contains(c.warning)) << c.text;
  auto ignore = *IgnoreList::parse("*.log");
  LintInput input;
  input.ignore = &ignore;
  EXPECT_THAT(rules_of("FROM x\nCOPY a.log /", input), Contains("CopyIgnoredFile 2: Attempting to Copy file \"a.log\" that is excluded by .dockerignore"));
}

TEST(checks, good_files_and_switched_off_rules_are_quiet) {
  for (auto text : {"FROM x AS b\nWORKDIR /a\nWORKDIR b\nCMD [\"a\"]\nEXPOSE 80/tcp\n", "from x as b\nrun y", "FROM x\nSHELL [\"/bin/bash\", \"-c\"]\nCMD a", "FROM x\nENV PUBLIC_KEY=1 TOKEN_FILE=/x",
                    "# check=skip=all\nFROM x AS Bad\nMAINTAINER q", "# check=skip=StageNameCasing,MaintainerDeprecated\nFROM x AS Bad\nMAINTAINER q",
                    "FROM x\n# check=skip=MaintainerDeprecated\nMAINTAINER q", "FROM unknown\nCOPY a $PATSH", "FROM --platform=linux/amd64 x AS b-amd64", "ARG V=1\nFROM x:$V", "FROM --platform=$BUILDPLATFORM x"}) {
    LintInput input;
    input.platform = platform_arguments("linux/amd64", "linux/amd64", "");
    EXPECT_THAT(rules_of(text, input), IsEmpty()) << text;
  }
  Source source{"Dockerfile", "# check=error=true\nFROM x AS Bad"};
  EXPECT_TRUE(lint(source, *parse(source), {})->warnings_are_errors);
  Source wrong{"Dockerfile", "# check=ship=all\nFROM x"};
  EXPECT_THAT(lint(wrong, *parse(wrong), {}).error().text(), HasSubstr("invalid option \"ship\""));
}

}  // namespace
}  // namespace caisson::dockerfile
