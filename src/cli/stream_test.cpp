#include "cli/stream.hpp"

#include <gtest/gtest.h>

#include "cli/attached.hpp"
#include "cli/fake_daemon.hpp"

namespace caisson::cli {
namespace {

struct Collected {
  std::string out;
  std::string err;
  Demultiplexer::Sink sink() {
    return [this](int stream, std::string_view payload) -> Status {
      (stream == 1 ? out : err) += payload;
      return {};
    };
  }
};

TEST(demultiplexer, a_stream_may_be_cut_anywhere) {
  std::string stream = frame(1, "hello ") + frame(2, "oops") + frame(1, "") + frame(1, "world\n");
  for (std::size_t first = 0; first <= stream.size(); ++first)
    for (std::size_t second = first; second <= stream.size(); ++second) {
      Demultiplexer frames;
      Collected got;
      std::string_view all = stream;
      ASSERT_TRUE(frames.feed(all.substr(0, first), got.sink()).ok());
      ASSERT_TRUE(frames.feed(all.substr(first, second - first), got.sink()).ok());
      ASSERT_TRUE(frames.feed(all.substr(second), got.sink()).ok());
      ASSERT_EQ(got.out, "hello world\n") << first << " " << second;
      ASSERT_EQ(got.err, "oops");
      ASSERT_TRUE(frames.at_boundary());
    }
}

TEST(demultiplexer, something_that_is_no_frame_is_refused) {
  Demultiplexer frames;
  Collected got;
  auto status = frames.feed("plain text, no frames", got.sink());
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().kind(), ErrorKind::corrupt);
}

TEST(demultiplexer, an_end_inside_a_frame_is_noticed) {
  Demultiplexer frames;
  Collected got;
  ASSERT_TRUE(frames.feed(frame(1, "abc").substr(0, 9), got.sink()).ok());
  EXPECT_FALSE(frames.at_boundary());
}

TEST(detach_keys, the_default_is_ctrl_p_ctrl_q) {
  DetachKeys keys;
  EXPECT_FALSE(keys.passes("abc\x10"));
  EXPECT_TRUE(keys.passes("\x11"));
  EXPECT_FALSE(keys.passes("\x10x\x11"));
  EXPECT_TRUE(keys.passes("\x10\x10\x11"));
}

TEST(detach_keys, other_keys_can_be_chosen_and_nonsense_is_refused) {
  auto keys = DetachKeys::parse("ctrl-x,y");
  ASSERT_TRUE(keys.ok());
  EXPECT_EQ(keys->keys(), (std::vector<char>{'\x18', 'y'}));
  EXPECT_TRUE(keys->passes("\x18y"));
  for (std::string_view bad : {"ctrl-1", "ab", "ctrl-", ",", "ctrl-p,,q"}) EXPECT_FALSE(DetachKeys::parse(bad).ok()) << bad;
}

TEST(exit_codes, the_words_of_a_start_error_decide) {
  EXPECT_EQ(exit_code_of_start_error("exec: \"x\": executable file not found in $PATH"), 127);
  EXPECT_EQ(exit_code_of_start_error("start /x: No such file or directory"), 127);
  EXPECT_EQ(exit_code_of_start_error("start /x: Permission denied"), 126);
  EXPECT_EQ(exit_code_of_start_error("start /: Is a directory"), 126);
  EXPECT_EQ(exit_code_of_start_error("port is already allocated"), 125);
}

}  // namespace
}  // namespace caisson::cli
