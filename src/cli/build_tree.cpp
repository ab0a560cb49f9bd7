// The picture is made anew each time and laid over the one before.
#include "cli/build_tree.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "cli/listing.hpp"
#include "linux/terminal.hpp"

namespace caisson::cli {

namespace {

constexpr std::size_t most_kept_bytes = 1U << 20U;  // of what one step said: a failure shows it
constexpr std::size_t shown_lines = 5;              // of what a running step said last
constexpr std::size_t least_columns = 20;
constexpr std::size_t usual_rows = 24;
constexpr auto tick_length = std::chrono::milliseconds(100);

std::string seconds_text(std::int64_t ns) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1fs", static_cast<double>(std::max<std::int64_t>(ns, 0)) / 1e9);
  return text.data();
}

/// Without what moves a terminal's cursor or colours it: a step's words stay in their line.
std::string plain_line(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == 0x1b) {
      // ECMA-48: a control sequence ends with a byte from '@' to '~'.
      if (i + 1 < text.size() && text[i + 1] == '[')
        for (i += 2; i < text.size() && (text[i] < '@' || text[i] > '~'); ++i) continue;
      continue;
    }
    if (byte == '\t') out += ' ';
    else if (byte >= 0x20 && byte != 0x7f) out += text[i];
  }
  return out;
}

/// What a line looks like after carriage returns: the last part that is not empty.
std::string_view behind_returns(std::string_view line) {
  while (line.ends_with('\r')) line.remove_suffix(1);
  const auto last = line.rfind('\r');
  return last == std::string_view::npos ? line : line.substr(last + 1);
}

/// Cut at `columns` characters; UTF-8 stays whole.
std::string cut(std::string_view text, std::size_t columns) {
  if (text_width(text) <= columns) return std::string(text);
  std::string out;
  std::size_t width = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool begins = (static_cast<unsigned char>(text[i]) & 0xc0U) != 0x80U;
    if (begins && ++width >= columns) break;
    out += text[i];
  }
  return out + "…";
}

/// "FROM a AS b": the stage's own name.
std::string name_in_from(std::string_view text) {
  const auto words = split(text, ' ');
  for (std::size_t i = 1; i + 1 < words.size(); ++i)
    if (lower(words[i]) == "as") return std::string(words[i + 1]);
  return {};
}

}  // namespace

Status BuildTree::take(const JsonView& event, std::int64_t now_ns) {
  std::string kind;
  std::string text;
  std::uint32_t stage_number = 0;
  std::uint32_t step_number = 0;
  TRY_PLAIN(event.read("kind", kind));
  TRY_PLAIN(event.read("text", text));
  TRY_PLAIN(event.read("stage", stage_number));
  TRY_PLAIN(event.read("step", step_number));
  TRY_PLAIN(event.read("steps", step_count_));
  auto& stage = stages_[stage_number];
  if (kind == "step") {
    if (stage.name.empty() && lower(text).starts_with("from ")) stage.name = name_in_from(text);
    if (!stage.steps.empty() && stage.steps.back().ended_ns == 0) stage.steps.back().ended_ns = now_ns;  // an ARG before the first FROM
    Step step;
    step.number = step_number;
    step.text = std::move(text);
    step.began_ns = now_ns;
    stage.steps.push_back(std::move(step));
    return {};
  }
  if (stage.steps.empty()) return {};
  auto& step = stage.steps.back();
  if (kind == "cached") step.is_cached = true;
  if (kind == "made" || kind == "failed") step.ended_ns = now_ns;
  if (kind == "failed") step.has_failed = true;
  if (kind == "output" || kind == "warning") {
    step.said += text;
    if (kind == "warning") step.said += '\n';
    if (step.said.size() > most_kept_bytes) step.said.erase(0, step.said.size() - most_kept_bytes / 2);
  }
  return {};
}

void BuildTree::end(bool has_failed, std::int64_t now_ns) {
  ended_ns_ = now_ns;
  has_failed_ = has_failed;
  for (auto& [number, stage] : stages_)
    for (auto& step : stage.steps) {
      if (step.ended_ns != 0) continue;
      step.ended_ns = now_ns;
      step.is_cancelled = has_failed;
    }
}

std::string BuildTree::head_of(const Stage& stage, const Step& step) const {
  const auto number = concat(step.number, "/", step_count_);
  return concat(" => ", step.has_failed ? "ERROR " : step.is_cancelled ? "CANCELED " : step.is_cached ? "CACHED " : "", "[", stage.name, stage.name.empty() ? "" : " ", number, "] ", plain_line(step.text));
}

std::vector<std::string> BuildTree::lines_of(const Stage& stage, const Step& step, std::size_t columns, std::int64_t now_ns) const {
  const auto time = seconds_text((step.ended_ns != 0 ? step.ended_ns : now_ns) - step.began_ns);
  auto head = cut(head_of(stage, step), columns - std::min(columns, time.size() + 1));
  head.append(columns - std::min(columns, text_width(head) + time.size()), ' ');
  std::vector<std::string> out{head + time};
  if (step.ended_ns != 0) return out;
  std::vector<std::string> said;
  for (auto line : split(step.said, '\n'))
    if (auto plain = plain_line(behind_returns(line)); !trim(plain).empty()) said.push_back(std::move(plain));
  for (std::size_t i = said.size() - std::min(said.size(), shown_lines); i < said.size(); ++i) out.push_back(cut(concat(" => => # ", said[i]), columns));
  return out;
}

std::vector<std::string> BuildTree::picture(std::size_t columns, std::size_t rows, std::int64_t now_ns) const {
  columns = std::max(columns, least_columns);
  std::size_t done = 0;
  std::vector<std::string> finished;
  std::vector<std::string> running;
  for (const auto& [number, stage] : stages_)
    for (const auto& step : stage.steps) {
      const bool is_done = step.ended_ns != 0 && !step.has_failed && !step.is_cancelled;
      if (is_done) ++done;
      for (auto& line : lines_of(stage, step, columns, now_ns)) (is_done ? finished : running).push_back(std::move(line));
    }
  const auto time = seconds_text((ended_ns_ != 0 ? ended_ns_ : now_ns) - began_ns_);
  const auto word = ended_ns_ == 0 ? "Building" : has_failed_ ? "Failed after" : "Built in";
  std::vector<std::string> out{cut(concat("[+] ", word, " ", time, " (", done, "/", step_count_, ")"), columns)};
  const std::size_t room = rows - std::min(rows, out.size());
  if (running.size() > room) running.erase(running.begin() + static_cast<std::ptrdiff_t>(room), running.end());
  // The newest of what is done, above what runs.
  const auto left = room - running.size();
  if (finished.size() > left) finished.erase(finished.begin(), finished.end() - static_cast<std::ptrdiff_t>(left));
  out.insert(out.end(), finished.begin(), finished.end());
  out.insert(out.end(), running.begin(), running.end());
  return out;
}

std::string BuildTree::words_of_failed_steps() const {
  std::string out;
  for (const auto& [number, stage] : stages_)
    for (const auto& step : stage.steps) {
      if (!step.has_failed || trim(step.said).empty()) continue;
      out += concat("------\n", head_of(stage, step).substr(1), ":\n", step.said, step.said.ends_with('\n') ? "" : "\n");
    }
  return out.empty() ? out : out + "------\n";
}

LiveTree::LiveTree(Output& out) : out_(out), tree_(monotonic_ns()), ticker_([this] { tick(); }) {}

LiveTree::~LiveTree() { close(true); }

void LiveTree::tick() {
  std::unique_lock lock(mutex_);
  while (!closed_.wait_for(lock, tick_length, [&] { return is_closed_; })) draw_locked();
}

Status LiveTree::take(const JsonView& event) {
  std::lock_guard lock(mutex_);
  TRY_PLAIN(tree_.take(event, monotonic_ns()));
  draw_locked();
  return {};
}

void LiveTree::close(bool has_failed) {
  {
    std::lock_guard lock(mutex_);
    if (is_closed_) return;
    is_closed_ = true;
    closed_.notify_all();
  }
  ticker_.join();
  tree_.end(has_failed, monotonic_ns());
  draw_locked();  // nobody else draws any more
  out_.write(tree_.words_of_failed_steps());
  ignore(out_.flush());  // the first failure is kept, and ends the command where it ends
}

void LiveTree::draw_locked() {
  const auto size = linux::window_size(out_.fd());
  const std::size_t columns = size.ok() && size->columns > 0 ? size->columns : out_.width();
  const std::size_t rows = size.ok() && size->rows > 0 ? size->rows : usual_rows;
  // A line less than the window has: the cursor stands below the picture.
  const auto lines = tree_.picture(columns - 1, rows > 2 ? rows - 1 : 1, monotonic_ns());
  std::string text;
  // Above the window's top nothing can be drawn again: a window that became smaller begins anew.
  const auto back = std::min(drawn_rows_, rows - 1);
  if (back > 0) text += concat("\x1b[", back, "A");
  text += "\r\x1b[J";
  for (const auto& line : lines) text += line + "\n";
  drawn_rows_ = lines.size();
  out_.write(text);
  ignore(out_.flush());  // the same
}

}  // namespace caisson::cli
