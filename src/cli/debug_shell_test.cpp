// What is said before a debug shell, and which flags it goes with.
#include "cli/debug_shell.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.hpp"
#include "cli/help.hpp"

namespace caisson::cli {
namespace {

using testing::HasSubstr;

OfferedShell offered(std::string_view text) {
  auto document = parse_json(text, "shell");
  EXPECT_TRUE(document.ok());
  auto shell = read_offered_shell(JsonView(*document));
  EXPECT_TRUE(shell.ok());
  return shell.ok() ? *shell : OfferedShell{};
}

TEST(debug_shell, the_banner_tells_step_line_command_and_exit_code) {
  const auto shell = offered(
      R"({"ID":"c1","Program":"/bin/bash","Step":"RUN make check","Line":4,"ExitCode":2,"Failure":"returned 2","BeforeStep":false})");
  EXPECT_EQ(debug_shell_banner(shell),
            "Debug shell (/bin/bash) in line 4: RUN make check\n"
            "  The step ended with exit code 2. The files are as it left them.\n"
            "  Leave with \"exit\" or ctrl-d; the build then ends with this failure.\n");
}

TEST(debug_shell, a_step_that_did_not_run_is_told_with_its_reason) {
  const auto banner = debug_shell_banner(
      offered(R"({"ID":"c1","Program":"/bin/sh","Step":"COPY a b","Line":3,"Failure":"a: no such file","BeforeStep":true})"));
  EXPECT_THAT(banner, HasSubstr("The step failed: a: no such file. The files are as they were before it."));
}

TEST(debug_shell, a_long_step_is_cut_in_the_banner) {
  OfferedShell shell;
  shell.step = "RUN " + std::string(5000, 'x');
  EXPECT_LT(debug_shell_banner(shell).size(), 600U);
  EXPECT_THAT(debug_shell_banner(shell), HasSubstr("xxx…\n"));
}

TEST(debug_shell, what_is_no_offer_is_refused) {
  for (const auto* text : {R"({"ID":7})", R"({"Line":"four"})", R"({"ExitCode":"2"})", R"({"BeforeStep":1})"}) {
    auto document = parse_json(text, "shell");
    ASSERT_TRUE(document.ok());
    EXPECT_FALSE(read_offered_shell(JsonView(*document)).ok()) << text;
  }
}

Parsed parsed(std::vector<std::string> words) {
  std::optional<UsageError> error;
  auto out = parse_command_line(words, error);
  EXPECT_FALSE(error.has_value());
  return out;
}

TEST(debug_shell, its_program_may_be_left_out_and_stands_behind_a_sign_else) {
  auto bare = parsed({"build", "--debug-shell", "folder"});
  EXPECT_EQ(bare.invocation.word(0), "folder") << "the next word is not its value";
  auto wish = debug_shell_wish(bare.invocation);
  ASSERT_TRUE(wish.ok());
  EXPECT_FALSE(wish->contains("program"));
  auto named = debug_shell_wish(parsed({"build", "--debug-shell=/bin/bash", "folder"}).invocation);
  ASSERT_TRUE(named.ok());
  EXPECT_EQ(named->at("program").as_string(), "/bin/bash");
  EXPECT_THAT(help_for(*find_command("build"), 200), HasSubstr("--debug-shell[=program] "));
}

TEST(debug_shell, standard_input_and_output_have_one_user) {
  for (const auto& words : {std::vector<std::string>{"-"}, {"-f", "-", "."}, {"--progress=json", "."}, {"--progress=rawjson", "."}}) {
    std::vector<std::string> all{"build", "--debug-shell"};
    all.insert(all.end(), words.begin(), words.end());
    auto wish = debug_shell_wish(parsed(all).invocation);
    ASSERT_FALSE(wish.ok()) << words.front();
    EXPECT_THAT(wish.error().text(), HasSubstr("standard"));
  }
  EXPECT_FALSE(debug_shell_wish(parsed({"build", "--debug-shell=", "."}).invocation).ok());
}

}  // namespace
}  // namespace caisson::cli
