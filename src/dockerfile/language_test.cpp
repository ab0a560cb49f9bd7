// Tests of the language: lines, instructions, mounts, and errors with their places.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.hpp"
#include "dockerfile/mount.hpp"
#include "dockerfile/outline.hpp"
#include "dockerfile/parser.hpp"

namespace caisson::dockerfile {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

File parsed(const std::string& text) {
  auto file = parse({"Dockerfile", text});
  EXPECT_TRUE(file.ok()) << text << "\n" << (file.ok() ? "" : file.error().text());
  return file.ok() ? *file : File{};
}
/// The first instruction behind "FROM x".
Instruction instruction_of(const std::string& text, const std::string& above = "") {
  auto file = parsed(above + "FROM x\n" + text);
  EXPECT_TRUE(!file.stages.empty() && !file.stages[0].instructions.empty()) << text;
  return file.stages.empty() || file.stages[0].instructions.empty() ? Instruction{} : file.stages[0].instructions[0];
}
std::string error_of(const std::string& text) {
  auto file = parse({"Dockerfile", text});
  return file.ok() ? "accepted" : file.error().text();
}

TEST(lines, continuations_comments_and_blank_lines_vanish) {
  struct Case {
    const char* text;
    const char* joined;
  };
  for (const auto& c : {Case{"RUN a \\\n  b", "a   b"}, Case{"RUN a \\  \nb", "a b"}, Case{"RUN a \\\n# comment\n  # another\nb", "a b"}, Case{"RUN a \\\n\nb", "a b"},
                        Case{"RUN a\\\nb", "ab"}, Case{"RUN a \\\\\nRUN b", "a \\\\"}, Case{"RUN a # no comment", "a # no comment"}, Case{"  RUN a", "a"},
                        Case{"RUN a \\\r\n b\r\n", "a  b"}, Case{"RUN a \\", "a"}, Case{"run a", "a"}, Case{"RUN\ta", "a"}})
    EXPECT_EQ(instruction_of(c.text).text, c.joined) << c.text;
  EXPECT_THAT(parsed("\xef\xbb\xbf# syntax=docker/dockerfile:1\nFROM x\nRUN a \\\n\n\n b").empty_continuations, ElementsAre(4U, 5U));
}

TEST(lines, directives_stand_at_the_top_only) {
  auto file = parsed("# syntax = docker/dockerfile:1.7 \n#Escape=`\n# check=skip=all;error=true\nFROM x\nRUN a `\nb");
  EXPECT_EQ(file.directives.syntax, "docker/dockerfile:1.7");
  EXPECT_EQ(file.directives.escape, '`');
  EXPECT_EQ(file.directives.check, "skip=all;error=true");
  EXPECT_EQ(file.stages[0].instructions[0].text, "a b");
  EXPECT_EQ(parsed("# about\n# escape=`\nFROM x").directives.escape, '\\');
  EXPECT_EQ(parsed("FROM x\n# escape=`").directives.escape, '\\');
  EXPECT_EQ(parsed("# unknown=1\n# escape=`\nFROM x").directives.escape, '\\');
  EXPECT_EQ(parsed("\n# escape=`\nFROM x").directives.escape, '\\');
  EXPECT_THAT(error_of("# escape=`\n# escape=`\nFROM x"), HasSubstr("only one escape parser directive can be used"));
  EXPECT_THAT(error_of("# escape=x\nFROM x"), HasSubstr("invalid escape token 'x'"));
}

TEST(lines, heredocs_hold_everything_up_to_their_mark) {
  auto run = instruction_of("RUN <<EOF\necho a\n  # no comment\n\nEOF\nRUN b");
  ASSERT_THAT(run.heredocs, SizeIs(1));
  EXPECT_EQ(run.heredocs[0].content, "echo a\n  # no comment\n\n");
  EXPECT_TRUE(run.heredocs[0].expand);
  EXPECT_EQ(run.lines.last, 6U);
  auto copy = instruction_of("COPY <<-\"ONE\" <<'TWO' 3<<THREE /d/\n\tx\n\tONE\ny\nTWO\nTHREE");
  ASSERT_THAT(copy.heredocs, SizeIs(3));
  EXPECT_EQ(copy.heredocs[0].content, "x\n");
  EXPECT_FALSE(copy.heredocs[0].expand);
  EXPECT_EQ(copy.heredocs[1].content, "y\n");
  EXPECT_EQ(copy.heredocs[2].descriptor, 3U);
  EXPECT_THAT(instruction_of("RUN echo \"<<X\"").heredocs, IsEmpty());
  EXPECT_THAT(instruction_of("RUN [\"a\", \"<<X\"]").heredocs, IsEmpty());
  EXPECT_THAT(instruction_of("ENV a=<<X").heredocs, IsEmpty());
  EXPECT_THAT(instruction_of("RUN a <<<X").heredocs, IsEmpty());
  EXPECT_THAT(instruction_of("ONBUILD RUN <<X\nq\nX").statement, "ONBUILD RUN <<X\nq\nX\n");
  EXPECT_EQ(instruction_of("ONBUILD RUN <<X\nq\nX").trigger[0].heredocs[0].content, "q\n");
  EXPECT_THAT(error_of("FROM x\nRUN <<EOF\na"), HasSubstr("unterminated heredoc \"EOF\""));
  EXPECT_THAT(error_of("FROM x\nCOPY a <<X\nX"), HasSubstr("heredoc as a destination"));
}

TEST(instructions, forms_are_told_apart) {
  EXPECT_THAT(instruction_of("CMD [\"a\", \"b c\"]").words, ElementsAre("a", "b c"));
  EXPECT_TRUE(instruction_of("CMD [\"a\"]").json);
  EXPECT_THAT(instruction_of("CMD [ -f x ] && y").words, ElementsAre("[ -f x ] && y"));
  EXPECT_THAT(instruction_of("CMD ['a']").words, ElementsAre("['a']"));
  EXPECT_TRUE(instruction_of("CMD []").json);
  EXPECT_THAT(instruction_of("VOLUME [\"/a b\"]").words, ElementsAre("/a b"));
  EXPECT_THAT(instruction_of("VOLUME /a  /b").words, ElementsAre("/a", "/b"));
  auto env = instruction_of("ENV a=1 b=\"2 3\" c='4'\\ 5");
  ASSERT_THAT(env.pairs, SizeIs(3));
  EXPECT_EQ(env.pairs[1].value, "\"2 3\"");
  EXPECT_EQ(env.pairs[2].value, "'4'\\ 5");
  auto legacy = instruction_of("ENV a  the rest = of it");
  EXPECT_TRUE(legacy.legacy_pair);
  EXPECT_EQ(legacy.pairs[0].value, "the rest = of it");
  auto arg = instruction_of("ARG a b=1 c=");
  EXPECT_FALSE(arg.pairs[0].has_value);
  EXPECT_TRUE(arg.pairs[2].has_value);
  auto copy = instruction_of("COPY --from=build --chown=1:2 --link --exclude=*.a --exclude=b a b /c/");
  EXPECT_EQ(copy.flag_value("from"), "build");
  EXPECT_TRUE(copy.is_set("link"));
  EXPECT_FALSE(copy.is_set("parents"));
  EXPECT_THAT(copy.flags, SizeIs(5));
  EXPECT_THAT(copy.words, ElementsAre("a", "b", "/c/"));
  EXPECT_THAT(instruction_of("COPY -- --odd /d").words, ElementsAre("--odd", "/d"));
  EXPECT_EQ(instruction_of("COPY --chown=\"a b\" x y").flag_value("chown"), "a b");
  auto health = instruction_of("HEALTHCHECK --interval=5s --retries=2 CMD curl -f http://localhost");
  EXPECT_EQ(health.check_type, "CMD");
  EXPECT_THAT(health.words, ElementsAre("curl -f http://localhost"));
  EXPECT_THAT(instruction_of("ONBUILD ADD a b").trigger[0].words, ElementsAre("a", "b"));
  EXPECT_EQ(instruction_of("ONBUILD ADD a b").trigger[0].statement, "ADD a b");
  auto file = parsed("ARG V=1\nFROM --platform=linux/arm64 x:$V AS Build\nFROM build\n");
  EXPECT_EQ(file.stages[0].name, "build");
  EXPECT_EQ(file.stages[0].platform, "linux/arm64");
  EXPECT_EQ(file.stages[1].base, "build");
  EXPECT_THAT(file.arguments, SizeIs(1));
}

TEST(instructions, what_is_wrong_is_named_in_dockers_words) {
  struct Case {
    const char* text;
    const char* words;
  };
  for (const auto& c : {
           Case{"", "file with no instructions"}, Case{"# only a comment", "file with no instructions"}, Case{"ARG a", "no stages to build"},
           Case{"RUN a", "dockerfile parse error on line 1: no build stage in current context"}, Case{"FROM", "FROM requires either one or three arguments"},
           Case{"FROM a b", "FROM requires either one or three arguments"}, Case{"FROM a IN b", "FROM requires either one or three arguments"},
           Case{"FROM a AS 1b", "invalid name for build stage: \"1b\", name can't start with a number or contain symbols"},
           Case{"FROM x\nFRO y", "dockerfile parse error on line 2: unknown instruction: FRO (did you mean FROM?)"},
           Case{"FROM x\nxyzzy y", "unknown instruction: XYZZY"}, Case{"FROM x\nCOPY a", "COPY requires at least two arguments, but only one was provided"},
           Case{"FROM x\nCOPY", "COPY requires at least one argument"}, Case{"FROM x\nCOPY --form=y a b", "unknown flag: --form (did you mean from?)"},
           Case{"FROM x\nCOPY --from=a --from=b c d", "duplicate flag specified: from"}, Case{"FROM x\nCOPY --from a b", "missing a value on flag: from"},
           Case{"FROM x\nCOPY --link=maybe a b", "expecting boolean value for flag link, not: maybe"}, Case{"FROM x\nADD --parents a b", "unknown flag: --parents"},
           Case{"FROM x\nENV", "ENV requires at least one argument"}, Case{"FROM x\nENV a", "ENV must have two arguments"}, Case{"FROM x\nENV =b", "ENV names can not be blank"},
           Case{"FROM x\nENV a=1 b", "Syntax error - can't find = in \"b\". Must be of the form: name=value"}, Case{"FROM x\nARG", "ARG requires at least one argument"},
           Case{"FROM x\nCMD", "CMD requires at least one argument"}, Case{"FROM x\nCMD [1]", "arrays must be comprised of strings only"},
           Case{"FROM x\nSHELL /bin/sh -c", "SHELL requires the arguments to be in JSON form"}, Case{"FROM x\nUSER", "USER requires exactly one argument"},
           Case{"FROM x\nVOLUME [\"\"]", "VOLUME specified can not be an empty string"}, Case{"FROM x\nONBUILD", "ONBUILD requires at least one argument"},
           Case{"FROM x\nONBUILD ONBUILD RUN a", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"}, Case{"FROM x\nONBUILD FROM y", "FROM isn't allowed as an ONBUILD trigger"},
           Case{"FROM x\nHEALTHCHECK", "HEALTHCHECK requires at least one argument"}, Case{"FROM x\nHEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"},
           Case{"FROM x\nHEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"}, Case{"FROM x\nHEALTHCHECK RUN x", "Unknown type \"RUN\" in HEALTHCHECK (try CMD)"},
           Case{"FROM x\nHEALTHCHECK --interval=1us CMD x", "Interval \"interval\" cannot be less than 1ms"},
           Case{"FROM x\nHEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"}, Case{"FROM x\nRUN --network=some a", "invalid network mode: \"some\""},
           Case{"FROM x\nRUN --mount=type=cahce,target=/x a", "unsupported mount type \"cahce\" (did you mean cache?)"}, Case{"FROM x\nRUN", "RUN requires at least one argument"},
           Case{"FROM x\nRUN []", "RUN requires at least one argument"}, Case{"FROM x\nEXPOSE", "EXPOSE requires at least one argument"}})
    EXPECT_THAT(error_of(c.text), HasSubstr(c.words)) << c.text;
  EXPECT_THAT(error_of("FROM x\nRUN " + std::string(70'000, 'a')), HasSubstr("dockerfile line greater than max allowed size of 65535"));
}

TEST(instructions, an_error_shows_its_line_and_carets) {
  EXPECT_EQ(error_of("FROM x\nRUN a\nCOPY --form=a \\\n  b c"),
            "dockerfile parse error on line 3: unknown flag: --form (did you mean from?)\nDockerfile:3\n   3 | COPY --form=a \\\n     |      ^^^^^^");
  EXPECT_THAT(error_of("FROM x\nENV a=1 \\\n  bb"), HasSubstr("\nDockerfile:3\n   3 |   bb\n     |   ^^"));
  EXPECT_THAT(error_of("FROM x\n  fool\tx"), HasSubstr("   2 |   fool x\n     |   ^^^^"));
}

TEST(instructions, one_by_itself_is_parsed_for_changes_and_triggers) {
  EXPECT_EQ(parse_instruction("ENV a=1")->pairs[0].key, "a");
  EXPECT_EQ(parse_instruction("RUN <<X\nb\nX")->heredocs[0].content, "b\n");
  EXPECT_FALSE(parse_instruction("").ok());
  EXPECT_FALSE(parse_instruction("ENV a=1\nENV b=2").ok());
  EXPECT_EQ(parse_instruction("WHAT a").error().text(), "unknown instruction: WHAT");
}

TEST(mounts, keys_and_defaults_are_those_of_the_reference) {
  auto bind = *parse_mount("target=/x");
  EXPECT_EQ(bind.kind, MountKind::bind);
  EXPECT_TRUE(bind.read_only);
  EXPECT_EQ(bind.source, "/");
  EXPECT_FALSE(parse_mount("type=bind,target=/x,rw")->read_only);
  auto cache = *parse_mount("type=cache,dst=/root/.cache,sharing=locked,uid=5,mode=0700,from=base,source=/s");
  EXPECT_EQ(cache.id, "/root/.cache");
  EXPECT_EQ(cache.sharing, CacheSharing::locked);
  EXPECT_EQ(cache.mode, 0700U);
  EXPECT_EQ(cache.uid, 5U);
  EXPECT_FALSE(cache.read_only);
  EXPECT_TRUE(parse_mount("type=cache,target=/x,ro")->read_only);
  auto secret = *parse_mount("type=secret,id=a/b");
  EXPECT_EQ(secret.target, "/run/secrets/b");
  EXPECT_EQ(secret.mode, 0400U);
  EXPECT_EQ(parse_mount("type=secret,id=k,env=KEY")->target, "");
  EXPECT_TRUE(parse_mount("type=secret,id=k,required")->required);
  EXPECT_EQ(parse_mount("type=ssh")->id, "default");
  EXPECT_EQ(parse_mount("type=tmpfs,target=/t,size=64m")->size_bytes, 64 << 20);
  EXPECT_EQ(parse_mount("type=bind,\"target=/a,b\"")->target, "/a,b");
  for (auto bad : {"type=what,target=/x", "type=bind", "type=cache", "type=tmpfs,target=/x,source=/y", "type=secret", "type=bind,target=/x,size=1", "target=/x,tagret=/y",
                   "type=cache,target=/x,sharing=some", "type=cache,target=/x,mode=9", "type=bind,target=/x,ro=maybe", "type=bind,target", "\"target=/x", "type=cache,target=/x,uid=-1"})
    EXPECT_FALSE(parse_mount(bad).ok()) << bad;
}

TEST(outlines, tell_what_a_target_takes) {
  const auto file = parsed("# BASE is where it begins\nARG BASE=alpine\nARG UNUSED=1\n# not its name\nARG OTHER=o\nFROM $BASE AS tools\nARG OTHER\nENV V=3\nARG MADE=v$V\n"
                           "RUN --mount=type=secret,id=key --mount=type=cache,target=/c --mount=type=ssh true\nFROM busybox\nRUN --mount=type=secret,id=unseen true\n"
                           "# App is what runs\nFROM tools AS app\nRUN --mount=type=secret,id=key,required --mount=type=cache,target=/c,id=mine true\nARG MADE\n");
  GlobalScope globals({}, {{"OTHER", "given"}});
  for (const auto& argument : file.arguments) ASSERT_TRUE(globals.declare(argument, '\\').ok());
  const auto outline = outline_of(file, {0, 2}, 2, globals);
  ASSERT_TRUE(outline.ok()) << outline.error().text();
  EXPECT_EQ(outline->name, "app");
  EXPECT_EQ(outline->description, "is what runs");
  std::vector<std::string> arguments;
  for (const auto& argument : outline->arguments) arguments.push_back(concat(argument.name, "=", argument.value.value_or("?"), " ", argument.description));
  EXPECT_THAT(arguments, ElementsAre("BASE=alpine is where it begins", "OTHER=given ", "MADE=v3 "));
  ASSERT_THAT(outline->secrets, SizeIs(1));
  EXPECT_EQ(outline->secrets[0].name, "key");
  EXPECT_TRUE(outline->secrets[0].is_required);
  ASSERT_THAT(outline->agents, SizeIs(1));
  EXPECT_FALSE(outline->agents[0].is_required);
  EXPECT_THAT(outline->caches, ElementsAre("/c", "mine"));
  const auto broken = parsed("FROM a\nARG X=${Y:?missing}\n");
  EXPECT_THAT(outline_of(broken, {0}, 0, GlobalScope({}, {})).error().text(), HasSubstr("line 2"));
}

TEST(outlines, targets_are_the_stages) {
  const auto targets = targets_of(parsed("FROM --platform=linux/arm64 a AS One\n# two does more\nFROM b AS two\nFROM c\n"));
  ASSERT_THAT(targets, SizeIs(3));
  EXPECT_EQ(targets[0].name, "one");
  EXPECT_EQ(targets[0].platform, "linux/arm64");
  EXPECT_EQ(targets[1].description, "does more");
  EXPECT_EQ(targets[2].name, "");
  EXPECT_EQ(targets[2].base, "c");
  EXPECT_TRUE(targets[2].is_default);
  EXPECT_FALSE(targets[1].is_default);
}

}  // namespace
}  // namespace caisson::dockerfile
