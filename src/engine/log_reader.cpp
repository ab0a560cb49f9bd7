// json-file logs: one JSON object per line, rotated by renaming, the rotated ones perhaps compressed.
#include "engine/log_reader.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "engine/log_archive.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"

namespace caisson::engine {

namespace {
constexpr std::size_t block_bytes = 64 << 10;
constexpr std::size_t longest_line_bytes = 1 << 20;  // monitors write records of 16 KiB; anything longer is damage

struct OpenLog {
  UniqueFd fd;
  LogMark mark;
  bool is_packed = false;
  bool is_text = false;  ///< packed, and unpacked by now

  /// A plain file that is being written keeps its inode alone.
  [[nodiscard]] bool is_same(const OpenLog& other) const { return is_packed || other.is_packed ? mark == other.mark : mark.inode == other.mark.inode; }
};

/// `path`, or nothing; `path`.gz in its place.
Result<std::optional<OpenLog>> open_log(const std::string& path) {
  OpenLog file;
  for (const auto* suffix : {"", ".gz"}) {
    auto fd = linux::open(path + suffix, O_RDONLY);
    if (!fd.ok() && fd.error().kind() == ErrorKind::not_found) continue;
    file.fd = TRY_PLAIN(std::move(fd));
    file.is_packed = *suffix != '\0';
    file.mark = TRY_PLAIN(file.is_packed ? archive_mark_of(file.fd.get()) : log_mark_of(file.fd.get()));
    return std::optional(std::move(file));
  }
  return std::optional<OpenLog>();
}

/// Newest first. Nothing is renamed meanwhile, so each file is there once.
Result<std::vector<OpenLog>> open_logs(const std::string& path) {
  std::vector<OpenLog> files;
  auto lock = lock_rotation(path, LOCK_SH);
  // No newest one (its monitor was killed between two renames): nobody renames the others either.
  if (!lock.ok() && lock.error().kind() != ErrorKind::not_found) return std::move(lock).error();
  for (int i = 0; i < most_log_files; ++i) {
    auto file = TRY_PLAIN(open_log(i == 0 ? path : concat(path, ".", i)));
    if (file) files.push_back(std::move(*file));
    else if (i > 0) break;
  }
  return files;
}

/// Finds where the last `wanted` lines of the program begin, walking backwards. A line may be split over several records.
class TailFinder {
 public:
  explicit TailFinder(std::uint64_t wanted) : wanted_(wanted) {}

  /// The offset from which this file is wanted; is_found() tells that older files are not.
  Result<std::uint64_t> search(int fd) {
    std::uint64_t end = TRY_PLAIN(linux::lseek(fd, 0, SEEK_END));
    std::string text;  // bytes of the file from `position` to the end of the line being looked at
    std::uint64_t position = end;
    std::size_t line_end = 0;
    while (position > 0) {
      std::uint64_t size = std::min<std::uint64_t>(block_bytes, position);
      position -= size;
      std::string block(size, '\0');
      std::size_t got = TRY_PLAIN(linux::pread(fd, block, position));
      block.resize(got);
      text.resize(line_end);
      text.insert(0, block);
      line_end = text.size();
      for (;;) {
        auto newline = line_end == 0 ? std::string::npos : text.rfind('\n', line_end - 1);
        if (newline == std::string::npos) break;
        if (completes_line(std::string_view(text).substr(newline + 1, line_end - newline - 1)) && ++seen_ > wanted_) {
          found_ = true;
          return position + line_end + 1;
        }
        line_end = newline;
      }
      if (line_end > longest_line_bytes) line_end = 0;
    }
    if (completes_line(std::string_view(text).substr(0, line_end)) && ++seen_ > wanted_) {
      found_ = true;
      return line_end + 1;
    }
    return std::uint64_t{0};
  }
  [[nodiscard]] bool is_found() const { return found_; }

 private:
  static bool completes_line(std::string_view line) {
    auto record = line.empty() ? std::nullopt : parse_log_line(line);
    return record && record->text.ends_with('\n');
  }
  std::uint64_t wanted_;
  std::uint64_t seen_ = 0;
  bool found_ = false;
};

class Reader {
 public:
  Reader(std::string path, const LogOptions& options, LogSink& sink) : path_(std::move(path)), options_(options), sink_(sink) {}

  Status run(Cancel cancel, Cancel over) {
    UniqueFd changes;
    if (options_.follow && over.fd >= 0) {
      changes = TRY_PLAIN(linux::inotify_create());
      std::string folder(split_last(path_, '/').before);
      TRY_PLAIN(linux::inotify_add_watch(changes.get(), folder, IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF));
    }
    TRY_PLAIN(read_existing());
    while (changes && !past_until_) {
      bool ended = TRY_PLAIN(linux::wait_readable(over.fd, 0));  // asked before the last look, so that nothing is missed
      TRY_PLAIN(read_newer());
      if (ended || past_until_) break;
      TRY_PLAIN(sink_.flush());
      if (!TRY_PLAIN(wait(changes.get(), cancel, over))) break;
    }
    return sink_.flush();
  }

 private:
  Status read_existing() {
    auto files = TRY_PLAIN(open_logs(path_));
    std::size_t oldest = files.size();
    std::uint64_t offset = 0;
    if (options_.tail) {
      TailFinder finder(*options_.tail);
      for (oldest = 0; oldest < files.size() && !finder.is_found(); ++oldest) {
        TRY_PLAIN(unpack(files[oldest]));
        offset = TRY_PLAIN(finder.search(files[oldest].fd.get()));
      }
    }
    for (std::size_t i = oldest; i-- > 0 && !past_until_;) {
      TRY_PLAIN(unpack(files[i]));
      current_ = std::move(files[i]);
      start_at(i + 1 == oldest ? offset : 0);
      TRY_PLAIN(drain());
    }
    return {};
  }

  /// What was added to the file being read, then the files that came after it.
  Status read_newer() {
    if (current_.fd) TRY_PLAIN(drain());
    auto newest = linux::stat(path_);
    if (!newest.ok() || (!current_.is_packed && newest->st_ino == current_.mark.inode)) return {};
    auto files = TRY_PLAIN(open_logs(path_));
    if (current_.fd) TRY_PLAIN(drain());  // its last lines, written before it was renamed
    if (current_.fd && !current_.is_packed) current_.mark = TRY_PLAIN(log_mark_of(current_.fd.get()));
    auto last = std::find_if(files.begin(), files.end(), [&](const OpenLog& file) { return file.is_same(current_); });
    for (auto i = static_cast<std::size_t>(last - files.begin()); i-- > 0 && !past_until_;) {
      TRY_PLAIN(unpack(files[i]));
      current_ = std::move(files[i]);
      start_at(0);
      TRY_PLAIN(drain());
    }
    return {};
  }

  /// Its descriptor then leads to the text; what it was stays known by its mark.
  Status unpack(OpenLog& file) const {
    if (!file.is_packed || file.is_text) return {};
    file.fd = TRY_PLAIN(unpack_log(file.fd.get(), std::string(split_last(path_, '/').before)));
    file.is_text = true;
    return {};
  }

  void start_at(std::uint64_t offset) {
    offset_ = offset;
    rest_.clear();
  }

  Status drain() {
    std::string block(block_bytes, '\0');
    while (!past_until_) {
      std::size_t got = TRY_PLAIN(linux::pread(current_.fd.get(), block, offset_));
      if (got == 0) return {};
      offset_ += got;
      std::string_view text(block.data(), got);
      for (;;) {
        auto halves = split_once(text, '\n');
        if (!halves.found) break;
        rest_ += halves.before;
        TRY_PLAIN(take(rest_));
        rest_.clear();
        text = halves.after;
      }
      rest_ += text;
      if (rest_.size() > longest_line_bytes) rest_.clear();
    }
    return {};
  }

  Status take(std::string_view line) {
    auto record = parse_log_line(line);
    if (!record || past_until_) return {};
    if (options_.until != 0 && record->time > options_.until) {
      past_until_ = true;
      return {};
    }
    bool wanted = record->stream == LogStream::standard_output ? options_.standard_output : options_.standard_error;
    if (!wanted || record->time < options_.since) return {};
    return sink_.write(*record);
  }

  /// False when the client went away.
  static Result<bool> wait(int changes, Cancel cancel, Cancel over) {
    std::array<linux::PollEntry, 3> entries{};
    entries[0] = {changes, POLLIN, 0};
    entries[1] = {cancel.fd, POLLIN, 0};
    entries[2] = {over.fd, POLLIN, 0};
    TRY_PLAIN(linux::poll(entries, -1));
    if (entries[1].revents != 0) return false;
    TRY_PLAIN(linux::inotify_take(changes));
    return true;
  }

  std::string path_;
  const LogOptions& options_;
  LogSink& sink_;
  OpenLog current_;
  std::uint64_t offset_ = 0;
  std::string rest_;  ///< of a line whose end is not there yet
  bool past_until_ = false;
};
}  // namespace

std::optional<LogRecord> parse_log_line(std::string_view line) {
  auto document = parse_json(line, "log");
  if (!document.ok()) return std::nullopt;
  JsonView view(*document, "log");
  LogRecord record;
  std::string stream;
  std::string time;
  if (!view.read("log", record.text).ok() || !view.read("stream", stream).ok() || !view.read("time", time).ok()) return std::nullopt;
  auto parsed = parse_rfc3339(time);
  if (!parsed.ok()) return std::nullopt;
  record.time = *parsed;
  if (const auto* attributes = document->as_object().if_contains("attrs"); attributes != nullptr && attributes->is_object()) {
    for (const auto& member : attributes->get_object())
      if (member.value().is_string()) record.attributes += concat(record.attributes.empty() ? "" : ",", std::string_view(member.key()), "=", std::string_view(member.value().get_string()));
  }
  record.stream = stream == "stderr" ? LogStream::standard_error : LogStream::standard_output;
  return record;
}

Status read_log(const std::string& path, const LogOptions& options, LogSink& sink, Cancel cancel, Cancel over) {
  Reader reader(path, options, sink);
  return reader.run(cancel, over);
}

}  // namespace caisson::engine
