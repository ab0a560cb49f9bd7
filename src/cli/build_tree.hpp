// A build as a tree of stages and steps on a terminal: what runs with its time and last words, what is done in a line.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "cli/output.hpp"

namespace caisson::cli {

/// Pure: what is told goes in, lines come out. Times are in ns of one clock, whichever.
class BuildTree {
 public:
  explicit BuildTree(std::int64_t began_ns) : began_ns_(began_ns) {}

  /// A document {"kind", "stage", "step", "steps", "text", …} of the daemon. Errors: corrupt, naming the member.
  Status take(const JsonView& event, std::int64_t now_ns);
  /// The build is over; after a failure what ran beside is given up.
  void end(bool has_failed, std::int64_t now_ns);
  /// At most `rows` lines of at most `columns` characters each; where there is no room, steps that are done are counted instead of shown.
  [[nodiscard]] std::vector<std::string> picture(std::size_t columns, std::size_t rows, std::int64_t now_ns) const;
  /// All that the steps said by which the build failed, each under its own head; "" when they said nothing.
  [[nodiscard]] std::string words_of_failed_steps() const;

 private:
  struct Step {
    std::uint32_t number = 0;        ///< in the Dockerfile's order, over all stages
    std::string text;
    std::int64_t began_ns = 0;
    std::int64_t ended_ns = 0;       ///< 0: it runs
    bool is_cached = false;
    bool has_failed = false;
    bool is_cancelled = false;
    std::string said;                ///< the last of it
  };
  struct Stage {
    std::string name;
    std::vector<Step> steps;
  };
  [[nodiscard]] std::string head_of(const Stage& stage, const Step& step) const;
  [[nodiscard]] std::vector<std::string> lines_of(const Stage& stage, const Step& step, std::size_t columns, std::int64_t now_ns) const;

  std::int64_t began_ns_;
  std::int64_t ended_ns_ = 0;
  bool has_failed_ = false;
  std::uint32_t step_count_ = 0;
  std::map<std::uint32_t, Stage> stages_;
};

/// Draws a tree on a terminal, again with every event and ten times a second.
class LiveTree {
 public:
  /// `out`: borrowed, a terminal that nobody else writes to before close().
  explicit LiveTree(Output& out);
  LiveTree(const LiveTree&) = delete;
  LiveTree& operator=(const LiveTree&) = delete;
  ~LiveTree();
  Status take(const JsonView& event);
  /// The last picture stays; after a failure with all that the failed steps said.
  void close(bool has_failed);

 private:
  void draw_locked();
  void tick();

  Output& out_;
  std::mutex mutex_;
  std::condition_variable closed_;
  bool is_closed_ = false;
  BuildTree tree_;
  std::size_t drawn_rows_ = 0;
  std::thread ticker_;
};

}  // namespace caisson::cli
