// Pictures of builds, as a terminal of a given size would show them.
#include "cli/build_tree.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.hpp"

namespace caisson::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::int64_t second = 1'000'000'000;

class Tree : public testing::Test {
 protected:
  BuildTree tree{0};

  void tell(std::string_view kind, int stage, int step, std::string_view text, std::int64_t now_ns) {
    const json::value event = json::object{{"kind", kind}, {"stage", stage}, {"step", step}, {"steps", 5}, {"text", text}};
    ASSERT_TRUE(tree.take(JsonView(event), now_ns).ok());
  }
  /// Two stages side by side: one step of each is done, one runs.
  void begin() {
    tell("step", 0, 1, "FROM busybox AS tools", 0);
    tell("step", 1, 3, "FROM busybox", 0);
    tell("cached", 1, 3, "", 0);
    tell("made", 0, 1, "", second / 2);
    tell("made", 1, 3, "", second / 2);
    tell("step", 0, 2, "RUN make", second);
    tell("step", 1, 4, "COPY . /app", second);
    tell("output", 0, 2, "one\ntwo\nthree\n", second);
    tell("output", 0, 2, "four\nfive\nsix 10%\rsix 90%", second);
  }
};

TEST_F(Tree, running_steps_have_their_time_and_last_words_and_done_ones_a_line) {
  begin();
  EXPECT_THAT(tree.picture(40, 24, 3 * second), ElementsAre("[+] Building 3.0s (2/5)",                   //
                                                            " => [tools 1/5] FROM busybox AS to… 0.5s",  //
                                                            " => CACHED [3/5] FROM busybox       0.5s",  //
                                                            " => [tools 2/5] RUN make            2.0s",  //
                                                            " => => # two",                               //
                                                            " => => # three",                             //
                                                            " => => # four",                              //
                                                            " => => # five",                              //
                                                            " => => # six 90%",                           //
                                                            " => [4/5] COPY . /app               2.0s"));
}

TEST_F(Tree, a_small_window_shows_what_runs) {
  begin();
  EXPECT_THAT(tree.picture(40, 8, 3 * second), ElementsAre("[+] Building 3.0s (2/5)", HasSubstr("RUN make"), " => => # two", " => => # three", " => => # four", " => => # five", " => => # six 90%", HasSubstr("COPY")));
  EXPECT_THAT(tree.picture(40, 2, 3 * second), ElementsAre("[+] Building 3.0s (2/5)", HasSubstr("RUN make")));
  EXPECT_EQ(tree.picture(1, 0, 0).size(), 1U);
  for (std::size_t columns = 1; columns < 60; ++columns)
    for (const auto& line : tree.picture(columns, 24, second)) EXPECT_LE(line.size(), std::max<std::size_t>(columns, 20) + 2) << "the sign of a cut has three bytes";
}

TEST_F(Tree, a_failure_shows_all_that_the_step_said) {
  begin();
  tell("failed", 0, 2, "", 2 * second);
  tree.end(true, 3 * second);
  const auto picture = tree.picture(60, 24, 9 * second);
  EXPECT_EQ(picture[0], "[+] Failed after 3.0s (2/5)");
  EXPECT_THAT(picture, testing::Contains(HasSubstr(" => ERROR [tools 2/5] RUN make")));
  EXPECT_THAT(picture, testing::Contains(HasSubstr(" => CANCELED [4/5] COPY . /app")));
  EXPECT_EQ(tree.words_of_failed_steps(), "------\n=> ERROR [tools 2/5] RUN make:\none\ntwo\nthree\nfour\nfive\nsix 10%\rsix 90%\n------\n");
}

TEST_F(Tree, a_build_that_succeeds_ends_with_every_step) {
  begin();
  tell("made", 0, 2, "", 2 * second);
  tell("made", 1, 4, "", 2 * second);
  tree.end(false, 4 * second);
  EXPECT_THAT(tree.picture(40, 24, 99 * second), ElementsAre("[+] Built in 4.0s (4/5)", HasSubstr("FROM"), HasSubstr("RUN make"), HasSubstr("FROM"), HasSubstr("COPY")));
  EXPECT_EQ(tree.words_of_failed_steps(), "");
}

TEST_F(Tree, what_steps_say_moves_no_cursor) {
  tell("step", 0, 1, "RUN printf '\x1b[2J'", 0);
  tell("output", 0, 1, "\x1b[31mred\x1b[0m\tand\x07 plain\x1b[5A\n", 0);
  EXPECT_THAT(tree.picture(60, 24, 0), ElementsAre("[+] Building 0.0s (0/5)", HasSubstr("RUN printf ''"), " => => # red and plain"));
}

TEST_F(Tree, arguments_ahead_of_the_first_stage_are_steps_that_are_done_at_once) {
  tell("step", 0, 1, "ARG A=1", 0);
  tell("step", 0, 2, "FROM $A AS base", second);
  EXPECT_THAT(tree.picture(40, 24, 2 * second), ElementsAre("[+] Building 2.0s (1/5)", HasSubstr("[base 1/5] ARG A=1"), HasSubstr("[base 2/5] FROM $A")));
}

TEST_F(Tree, what_is_no_event_is_refused) {
  for (const auto* text : {R"({"kind":7})", R"({"stage":"x"})", R"({"step":-1})"}) {
    const auto document = parse_json(text, "event");
    EXPECT_FALSE(tree.take(JsonView(*document), 0).ok()) << text;
  }
}

}  // namespace
}  // namespace caisson::cli
