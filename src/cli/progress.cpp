// Progress bars.
#include "cli/progress.hpp"

#include <algorithm>

#include "base/strings.hpp"
#include "cli/build_tree.hpp"
#include "cli/listing.hpp"

namespace caisson::cli {

std::string progress_bar(std::uint64_t current, std::uint64_t total, std::size_t width) {
  std::string numbers = total > 0 ? concat(human_size(current), "/", human_size(total)) : human_size(current);
  if (total == 0 || width < numbers.size() + 8) return numbers;
  std::size_t room = std::min<std::size_t>(width - numbers.size() - 3, 50);
  auto filled = static_cast<std::size_t>(static_cast<double>(room) * static_cast<double>(std::min(current, total)) / static_cast<double>(total));
  std::string bar(filled, '=');
  if (filled < room) bar += '>';
  bar.resize(room, ' ');
  return concat("[", bar, "] ", numbers);
}

Result<ProgressPrinter> follow_progress(Session& session, wire::Client& client, ProgressStyle style) {
  ProgressPrinter printer(session.out(), session.err(), style);
  for (;;) {
    std::string piece = TRY(client.read_some(), "read the daemon's progress");
    if (piece.empty()) break;
    TRY_PLAIN(printer.feed(piece));
  }
  TRY_PLAIN(printer.finish());
  return printer;
}

Status ProgressPrinter::feed(std::string_view bytes) {
  buffer_ += bytes;
  for (std::size_t end = buffer_.find('\n'); end != std::string::npos; end = buffer_.find('\n')) {
    std::string line = buffer_.substr(0, end);
    buffer_.erase(0, end + 1);
    if (trim(line).empty()) continue;
    auto document = TRY_PLAIN(parse_json(line, "the daemon's progress"));
    TRY_PLAIN(take(document));
  }
  return {};
}

Status ProgressPrinter::finish() {
  if (trim(buffer_).empty()) return {};
  auto document = TRY_PLAIN(parse_json(buffer_, "the daemon's progress"));
  buffer_.clear();
  return take(document);
}

Status ProgressPrinter::take(const json::value& document) {
  JsonView view(document);
  std::string error;
  std::string stream;
  Line line;
  TRY_PLAIN(view.read("error", error));
  if (!error.empty()) return Error(ErrorKind::internal, concat("Error response from daemon: ", error));
  TRY_PLAIN(view.read("stream", stream));
  JsonView aux = TRY_PLAIN(view.at("aux"));
  if (aux.is_set() && aux.raw().is_object()) {
    TRY_PLAIN(aux.read("ID", result_id_));
    if (const auto cache = TRY_PLAIN(aux.at("CacheID")); cache.is_set()) TRY_PLAIN(cache.read(cache_ids_.emplace_back()));
    TRY_PLAIN(aux.read("Provenance", provenance_));
    for (const auto* member : {"Outline", "Targets"})
      if (const auto answer = TRY_PLAIN(aux.at(member)); answer.is_set()) answer_ = answer.raw();
    TRY_PLAIN(aux.read("Digest", pushed_digest_));
    if (const auto shell = TRY_PLAIN(aux.at("DebugShell")); shell.is_set() && style_.on_debug_shell) TRY_PLAIN(style_.on_debug_shell(shell));
  }
  if (!stream.empty()) last_result_ = stream;
  if (style_.tree != nullptr) {
    kept_text_ += stream;
    if (const auto event = TRY_PLAIN(view.at("event")); event.is_set()) return style_.tree->take(event);
    return {};
  }
  if (!stream.empty() && style_.prints_results) {
    out_->write(stream);
    return out_->flush();
  }
  TRY_PLAIN(view.read("id", line.id));
  TRY_PLAIN(view.read("status", line.status));
  JsonView detail = TRY_PLAIN(view.at("progressDetail"));
  TRY_PLAIN(detail.read("current", line.current));
  TRY_PLAIN(detail.read("total", line.total));
  if (line.status.empty()) return {};
  if (line.id.empty()) last_status_ = line.status;
  if (!style_.is_quiet) show(line);
  return err_->flush();
}

void ProgressPrinter::show(const Line& line) {
  if (err_->has_colour()) return draw(line);
  // Not a terminal: only what changed in words, not every number.
  auto known = std::find_if(lines_.begin(), lines_.end(), [&](const Line& other) { return other.id == line.id; });
  if (known != lines_.end() && known->status == line.status && line.total > 0) return;
  if (known == lines_.end()) lines_.push_back(line);
  else *known = line;
  err_->line(line.id.empty() ? line.status : concat(line.id, ": ", line.status));
}

// One line per id, redrawn in place by moving the cursor up to it and down again.
void ProgressPrinter::draw(const Line& line) {
  if (line.id.empty()) {
    err_->line(line.status);
    lines_.clear();  // what was drawn above has scrolled away
    return;
  }
  auto known = std::find_if(lines_.begin(), lines_.end(), [&](const Line& other) { return other.id == line.id; });
  bool is_new = known == lines_.end();
  std::size_t up = is_new ? 0 : static_cast<std::size_t>(lines_.end() - known);
  std::string text = concat(line.id, ": ", line.status);
  if (line.current > 0) text += concat(" ", progress_bar(line.current, line.total, err_->width() > text_width(text) + 2 ? err_->width() - text_width(text) - 2 : 0));
  if (is_new) {
    lines_.push_back(line);
    err_->line(text);
    return;
  }
  *known = line;
  err_->write(concat("\x1b[", up, "A\r\x1b[K", text, "\x1b[", up, "B\r"));
}

}  // namespace caisson::cli
