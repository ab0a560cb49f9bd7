#include "cli/parse.hpp"

#include <gtest/gtest.h>

#include <set>

#include "base/strings.hpp"
#include "cli/commands.hpp"
#include "cli/help.hpp"

namespace caisson::cli {
namespace {

struct Outcome {
  Parsed parsed;
  std::optional<UsageError> error;
};
Outcome parse(std::vector<std::string> words) {
  Outcome out;
  out.parsed = parse_command_line(words, out.error);
  return out;
}
std::string error_of(std::vector<std::string> words) {
  auto out = parse(std::move(words));
  return out.error ? out.error->text : "";
}

TEST(parse, joined_and_separate_values_are_the_same) {
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"run", "-p80:80", "img"}, {"run", "-p", "80:80", "img"}, {"run", "-p=80:80", "img"}, {"run", "--publish=80:80", "img"}, {"run", "--publish", "80:80", "img"},
           {"run", "-itp80:80", "img"}, {"container", "run", "-dp", "80:80", "img"}}) {
    auto out = parse(words);
    ASSERT_FALSE(out.error) << out.error->text;
    EXPECT_EQ(out.parsed.invocation.list("publish"), std::vector<std::string>{"80:80"});
    EXPECT_EQ(out.parsed.invocation.words(), std::vector<std::string>{"img"});
    EXPECT_EQ(out.parsed.command->path, "run");
  }
}

TEST(parse, flags_end_at_the_image_of_run_and_at_the_container_of_exec) {
  auto run = parse({"run", "--rm", "img", "-it", "--rm=no", "--", "x"});
  ASSERT_FALSE(run.error);
  EXPECT_EQ(run.parsed.invocation.words(), (std::vector<std::string>{"img", "-it", "--rm=no", "--", "x"}));
  EXPECT_FALSE(run.parsed.invocation.flag("tty"));
  auto exec = parse({"exec", "-i", "web", "ls", "-l"});
  ASSERT_FALSE(exec.error);
  EXPECT_EQ(exec.parsed.invocation.words(), (std::vector<std::string>{"web", "ls", "-l"}));
  auto top = parse({"top", "web", "-o", "pid"});
  ASSERT_FALSE(top.error);
  EXPECT_EQ(top.parsed.invocation.words().size(), 3U);
}

TEST(parse, flags_may_stand_behind_words_of_other_commands) {
  auto out = parse({"rm", "web", "-f", "db", "-v"});
  ASSERT_FALSE(out.error);
  EXPECT_TRUE(out.parsed.invocation.flag("force"));
  EXPECT_TRUE(out.parsed.invocation.flag("volumes"));
  EXPECT_EQ(out.parsed.invocation.words(), (std::vector<std::string>{"web", "db"}));
}

TEST(parse, a_double_dash_ends_the_flags) {
  auto out = parse({"rm", "-f", "--", "-v"});
  ASSERT_FALSE(out.error);
  EXPECT_EQ(out.parsed.invocation.words(), std::vector<std::string>{"-v"});
  EXPECT_FALSE(out.parsed.invocation.flag("volumes"));
}

TEST(parse, switches_take_an_explicit_value_and_the_last_one_wins) {
  auto out = parse({"run", "--init=false", "--sig-proxy=0", "-t=true", "--rm", "--rm=F", "--name", "a", "--name=b", "img"});
  ASSERT_FALSE(out.error);
  EXPECT_TRUE(out.parsed.invocation.has("init"));
  EXPECT_FALSE(out.parsed.invocation.flag("init"));
  EXPECT_FALSE(out.parsed.invocation.flag("sig-proxy"));
  EXPECT_TRUE(out.parsed.invocation.flag("tty"));
  EXPECT_FALSE(out.parsed.invocation.flag("rm"));
  EXPECT_EQ(out.parsed.invocation.text("name"), "b");
}

TEST(parse, defaults_come_from_the_table) {
  auto out = parse({"run", "img"});
  ASSERT_FALSE(out.error);
  EXPECT_TRUE(out.parsed.invocation.flag("sig-proxy"));
  EXPECT_EQ(out.parsed.invocation.text("pull"), "missing");
  EXPECT_EQ(out.parsed.invocation.integer("memory-swappiness"), -1);
  EXPECT_FALSE(out.parsed.invocation.has("pull"));
}

TEST(parse, second_spellings_are_the_same_flag) {
  auto out = parse({"run", "--net", "host", "--dns-opt", "x", "img"});
  ASSERT_FALSE(out.error);
  EXPECT_EQ(out.parsed.invocation.text("network"), "host");
  EXPECT_EQ(out.parsed.invocation.list("dns-option").size(), 1U);
  auto stop = parse({"stop", "--time", "3", "a"});
  EXPECT_EQ(stop.parsed.invocation.integer("timeout"), 3);
}

TEST(parse, global_flags_stand_before_the_command) {
  auto out = parse({"-H", "unix:///x", "--root=/r", "ps", "-a"});
  ASSERT_FALSE(out.error);
  EXPECT_EQ(out.parsed.global.text("host"), "unix:///x");
  EXPECT_EQ(out.parsed.global.text("root"), "/r");
  EXPECT_EQ(out.parsed.command->path, "ps");
  EXPECT_TRUE(out.parsed.invocation.flag("all"));
}

TEST(parse, every_spelling_of_a_command_is_found) {
  for (const auto& [words, path] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"container", "ls"}, "ps"}, {{"container", "list"}, "ps"}, {{"image", "ls"}, "images"}, {{"image", "rm", "x"}, "rmi"}, {{"volume", "list"}, "volume ls"},
           {{"system", "info"}, "info"}, {{"image", "save", "x"}, "save"}, {{"container", "remove", "x"}, "rm"}}) {
    auto out = parse(words);
    ASSERT_FALSE(out.error) << join(words, " ");
    EXPECT_EQ(out.parsed.command->path, path);
  }
}

// Texts recorded from the docker client 28.2.
TEST(parse, wrong_flags_are_refused_in_dockers_words) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"run", "--xyz", "a"}, "unknown flag: --xyz"},
      {{"run", "-Z", "a"}, "unknown shorthand flag: 'Z' in -Z"},
      {{"run", "-itZ", "a"}, "unknown shorthand flag: 'Z' in -itZ"},
      {{"run", "--memory"}, "flag needs an argument: --memory"},
      {{"run", "-m"}, "flag needs an argument: 'm' in -m"},
      {{"run", "-itm"}, "flag needs an argument: 'm' in -itm"},
      {{"run", "--=x"}, "bad flag syntax: --=x"},
      {{"run", "--memory", "abc", "a"}, "invalid argument \"abc\" for \"-m, --memory\" flag: invalid size: 'abc'"},
      {{"run", "--detach=maybe", "a"}, "invalid argument \"maybe\" for \"-d, --detach\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax"},
      {{"run", "-it=3", "a"}, "invalid argument \"3\" for \"-t, --tty\" flag: strconv.ParseBool: parsing \"3\": invalid syntax"},
      {{"run", "--cpus", "x", "a"}, "invalid argument \"x\" for \"--cpus\" flag: failed to parse x as a rational number"},
      {{"run", "--cpus", "0.0000000001", "a"}, "invalid argument \"0.0000000001\" for \"--cpus\" flag: value is too precise"},
      {{"run", "--health-interval", "5", "a"}, "invalid argument \"5\" for \"--health-interval\" flag: time: missing unit in duration \"5\""},
      {{"run", "--stop-timeout", "x", "a"}, "invalid argument \"x\" for \"--stop-timeout\" flag: strconv.ParseInt: parsing \"x\": invalid syntax"},
      {{"run", "--shm-size", "--", "-1", "img"}, "invalid argument \"--\" for \"--shm-size\" flag: invalid size: '--'"},
      {{"stop", "--time"}, "flag needs an argument: --time"},
      {{"logs", "--format", "x"}, "unknown flag: --format"},
      {{"--xyz"}, "unknown flag: --xyz"},
      {{"foo"}, "unknown command: caisson foo"},
      {{"container", "foo"}, "unknown command: caisson container foo"},
      {{"run"}, "'caisson run' requires at least 1 argument"},
      {{"run", "--name", "a"}, "'caisson run' requires at least 1 argument"},
      {{"exec"}, "'caisson exec' requires at least 2 arguments"},
      {{"rename", "a"}, "'caisson rename' requires 2 arguments"},
      {{"ps", "x"}, "'caisson ps' accepts no arguments"},
      {{"port", "a", "b", "c"}, "'caisson port' requires at most 2 arguments"},
  };
  for (const auto& [words, text] : cases) EXPECT_EQ(error_of(words), text) << join(words, " ");
}

TEST(parse, wrong_flags_end_with_125_and_wrong_counts_with_1) {
  EXPECT_EQ(parse({"ps", "--xyz"}).error->exit_code, 125);
  EXPECT_EQ(parse({"ps", "x"}).error->exit_code, 1);
  EXPECT_EQ(parse({"nonsense"}).error->exit_code, 1);
}

TEST(parse, typing_errors_get_a_suggestion) {
  EXPECT_EQ(parse({"rnu", "x"}).error->hint, "did you mean 'caisson run'?");
  EXPECT_EQ(parse({"volume", "lst"}).error->hint, "did you mean 'caisson volume ls'?");
  EXPECT_EQ(parse({"run", "--memroy", "1m", "x"}).error->hint, "did you mean '--memory'?");
  EXPECT_EQ(parse({"run", "--publsh", "1", "x"}).error->hint, "did you mean '--publish'?");
  EXPECT_EQ(parse({"zzzzzzzz"}).error->hint, "");
}

TEST(parse, help_is_asked_for_anywhere_among_the_flags) {
  EXPECT_TRUE(parse({"run", "--help"}).parsed.wants_help);
  EXPECT_TRUE(parse({"ps", "-h"}).parsed.wants_help);
  EXPECT_TRUE(parse({"volume"}).parsed.wants_help);
  EXPECT_FALSE(parse({"run", "-h", "name", "img"}).parsed.wants_help) << "-h is run's --hostname";
  EXPECT_FALSE(parse({"run", "img", "--help"}).parsed.wants_help);
}

TEST(parse, processors_are_counted_in_billionths) {
  EXPECT_EQ(*parse_nano_cpus("1.5"), 1'500'000'000);
  EXPECT_EQ(*parse_nano_cpus(".25"), 250'000'000);
  EXPECT_EQ(*parse_nano_cpus("2"), 2'000'000'000);
  EXPECT_EQ(*parse_nano_cpus("0.10000000000"), 100'000'000);
  for (std::string_view bad : {"", ".", "-1", "1.5x", "1e3", "99999999999"}) EXPECT_FALSE(parse_nano_cpus(bad).ok()) << bad;
}

TEST(table, names_and_letters_are_unique_and_second_spellings_lead_somewhere) {
  std::set<std::string> paths;
  for (const auto& command : all_commands()) {
    EXPECT_TRUE(paths.insert(std::string(command.path)).second) << command.path;
    if (!command.aliases.empty())
      for (auto alias : split(command.aliases, ',')) {
        EXPECT_TRUE(paths.insert(std::string(trim(alias))).second) << alias;
      }
    EXPECT_TRUE(command.is_group || command.run != nullptr || !command.refusal.empty()) << command.path;
    EXPECT_NE(command.summary.empty(), command.refusal.empty()) << command.path;
    std::set<std::string_view> names;
    std::set<char> letters;
    for (const auto& flag : command.flags) {
      EXPECT_TRUE(names.insert(flag.name).second) << command.path << " --" << flag.name;
      if (flag.letter != 0) {
        EXPECT_TRUE(letters.insert(flag.letter).second) << command.path << " -" << flag.letter;
      }
      EXPECT_TRUE(flag.same_as.empty() || find_flag(command.flags, flag.same_as) != nullptr) << flag.name;
      EXPECT_TRUE(flag.hidden || !flag.help.empty()) << flag.name;
      EXPECT_EQ(flag.type == FlagType::boolean, flag.value_name.empty() && flag.same_as.empty()) << flag.name;
    }
    EXPECT_NE(help_for(command, 80).find(command.is_group ? "COMMAND" : std::string(command.path)), std::string::npos);
  }
}

TEST(table, help_fits_the_width) {
  std::string help = help_for(*find_command("run"), 80);
  for (auto line : split(help, '\n')) EXPECT_LE(line.size(), 84U) << line;  // a few characters are several bytes
}

}  // namespace
}  // namespace caisson::cli
