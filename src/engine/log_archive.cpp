// gzip of rotated logs.
#include "engine/log_archive.hpp"

#include <chrono>
#include <thread>

#include "base/strings.hpp"
#include "image/byte_source.hpp"
#include "image/deflate.hpp"
#include "image/inflate.hpp"
#include "linux/file.hpp"

namespace caisson::engine {
namespace {

constexpr std::size_t block_bytes = 64 << 10;
// A log is compressed once and hardly ever read: the level that costs the least for its gain (measured: docs/adr/0011-log-drivers.md).
constexpr int level = 3;
constexpr std::size_t mark_bytes = 24;

void append_number(std::string& to, std::uint64_t number) {
  for (int i = 0; i < 8; ++i) to.push_back(static_cast<char>(number >> (8 * i)));
}
std::uint64_t get_number(const char* from) {
  std::uint64_t number = 0;
  for (int i = 7; i >= 0; --i) number = number << 8 | static_cast<std::uint8_t>(from[i]);
  return number;
}

/// Two letters, length, data.
std::string extra_field(const LogMark& mark) {
  std::string field("Ci\x18\0", 4);
  append_number(field, mark.inode);
  append_number(field, mark.size_bytes);
  append_number(field, static_cast<std::uint64_t>(mark.changed_ns));
  return field;
}

class FileSource final : public image::ByteSource {
 public:
  explicit FileSource(int fd) : fd_(fd) {}
  Result<std::string_view> next() override {
    const std::size_t got = TRY_PLAIN(linux::pread(fd_, block_, offset_));
    offset_ += got;
    return std::string_view(block_.data(), got);
  }

 private:
  int fd_;
  std::uint64_t offset_ = 0;
  std::string block_ = std::string(block_bytes, '\0');
};

Status pack(int fd, const LogMark& mark, int out_fd) {
  auto deflater = TRY_PLAIN(image::open_gzip_deflater(level, extra_field(mark)));
  FileSource source(fd);
  for (;;) {
    const auto piece = TRY_PLAIN(source.next());
    if (piece.empty()) break;
    TRY_PLAIN(deflater->write(piece, out_fd));
  }
  TRY_PLAIN(deflater->finish(out_fd));
  return linux::fsync(out_fd);  // the plain one goes next
}

/// Where a rotated file is by now. Precondition: the lock is held.
std::string name_of(const std::string& path, const LogMark& mark) {
  for (int number = 1; number < most_log_files; ++number) {
    std::string name = concat(path, ".", number);
    auto status = linux::stat(name);
    if (status.ok() && status->st_ino == mark.inode) return name;
  }
  return "";
}

Status compress_one(const std::string& path, int fd) {
  const LogMark mark = TRY_PLAIN(log_mark_of(fd));
  const std::string temporary = path + ".gz.tmp";  // of a compression that was killed: written over
  auto packed = TRY_PLAIN(linux::open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  Status outcome = pack(fd, mark, packed.get());
  if (outcome.ok()) {
    auto lock = TRY_PLAIN(lock_rotation(path, LOCK_EX));
    const std::string name = name_of(path, mark);
    if (!name.empty()) {
      TRY_PLAIN(linux::rename(temporary, name + ".gz"));
      return linux::unlink(name);
    }
  }
  ignore(linux::unlink(temporary));  // rotated away meanwhile, or a full disk: the next one writes it anew
  return outcome;
}

}  // namespace

Result<LogMark> log_mark_of(int fd) {
  auto status = TRY_PLAIN(linux::fstat(fd));
  LogMark mark;
  mark.inode = status.st_ino;
  mark.size_bytes = static_cast<std::uint64_t>(status.st_size);
  mark.changed_ns = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
  return mark;
}

Result<LogMark> archive_mark_of(int fd) {
  constexpr std::size_t fixed_bytes = 10;
  constexpr std::size_t subfield = fixed_bytes + 2;
  constexpr char has_extra = 4;
  std::string header(subfield + 4 + mark_bytes, '\0');
  header.resize(TRY_PLAIN(linux::pread(fd, header, 0)));
  const bool is_ours = header.size() == subfield + 4 + mark_bytes && header.starts_with("\x1f\x8b") && (header[3] & has_extra) != 0 &&
                       std::string_view(header).substr(subfield, 4) == std::string_view("Ci\x18\0", 4);
  if (!is_ours) return log_mark_of(fd);
  LogMark mark;
  mark.inode = get_number(&header[subfield + 4]);
  mark.size_bytes = get_number(&header[subfield + 12]);
  mark.changed_ns = static_cast<std::int64_t>(get_number(&header[subfield + 20]));
  return mark;
}

Result<UniqueFd> lock_rotation(const std::string& path, int operation) {
  constexpr int most_attempts = 100;
  for (int attempt = 0;; ++attempt) {
    auto newest = linux::open(path, O_RDONLY);
    if (!newest.ok() && (newest.error().kind() != ErrorKind::not_found || attempt == most_attempts)) return std::move(newest).error();
    if (newest.ok()) {
      TRY(linux::flock(newest->get(), operation), path);
      // Renamed before we had the lock: then another file is the newest.
      auto named = linux::stat(path);
      if (named.ok() && named->st_ino == TRY_PLAIN(linux::fstat(newest->get())).st_ino) return std::move(*newest);
      if (attempt == most_attempts) return Error(ErrorKind::unavailable, concat(path, ": it is rotated all the time"));
    } else if (!linux::exists(path + ".1").value_or(false)) {
      return std::move(newest).error();  // no log yet
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // a rotation takes microseconds
  }
}

Status compress_rotated(const std::string& path) {
  Status first;
  for (int number = 1; number < most_log_files; ++number) {
    auto plain = linux::open(concat(path, ".", number), O_RDONLY);
    if (plain.ok()) {
      Status packed = compress_one(path, plain->get());
      if (!packed.ok() && first.ok()) first = std::move(packed).error().in(concat("compress ", path, ".", number));
    } else if (!linux::exists(concat(path, ".", number, ".gz")).value_or(false)) {
      return first;
    }
  }
  return first;
}

Result<UniqueFd> unpack_log(int archive_fd, const std::string& folder) {
  auto out = TRY(linux::open(folder, O_TMPFILE | O_RDWR, 0600), "unpack a log");
  FileSource source(archive_fd);
  auto inflater = TRY(image::open_inflater(source), "unpack a log");
  for (;;) {
    const auto piece = TRY(inflater->next(), "unpack a log");
    if (piece.empty()) return out;
    TRY(linux::write_all(out.get(), piece), "unpack a log");
  }
}

}  // namespace caisson::engine
