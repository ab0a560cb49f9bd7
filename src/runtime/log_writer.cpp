// Composing, writing, rotating.
#include "runtime/log_writer.hpp"

#include <array>
#include <algorithm>
#include <cstring>

#include "base/strings.hpp"
#include "base/utf8.hpp"
#include "linux/child.hpp"
#include "linux/file.hpp"
#include "runtime/runtime.hpp"

namespace caisson::runtime {

namespace {

// One process has one log. Static, so that an idle monitor's heap stays at a page or two; pages are touched on use only.
constexpr std::size_t buffer_size = std::size_t{104} * 1024;  // holds the longest record: 16 KiB of text, every byte as \u00XX
std::array<char, buffer_size> buffer;
std::size_t used = 0;

constexpr std::size_t record_limit = std::size_t{16} * 1024;
constexpr std::size_t escaped_piece_limit = 6;

void put(std::string_view text) {
  std::memcpy(buffer.data() + used, text.data(), text.size());
  used += text.size();
}

void put_unicode(unsigned char byte) {
  constexpr std::string_view digits = "0123456789abcdef";
  put("\\u00");
  buffer[used++] = digits[byte >> 4U];
  buffer[used++] = digits[byte & 15U];
}

void put_escaped(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte >= 0x80) {
      const std::size_t size = utf8_sequence_size(text.substr(i));
      if (size == 0) put("\\ufffd");
      else put(text.substr(i, size));
      i += size == 0 ? 1 : size;
      continue;
    }
    switch (byte) {
      case '"': put("\\\""); break;
      case '\\': put("\\\\"); break;
      case '\n': put("\\n"); break;
      case '\r': put("\\r"); break;
      case '\t': put("\\t"); break;
      default:
        if (byte < 0x20 || byte == 0x7f) put_unicode(byte);
        else buffer[used++] = static_cast<char>(byte);
    }
    ++i;
  }
}

}  // namespace

Result<LogWriter> LogWriter::open(std::string path, std::int64_t max_size_bytes, std::uint32_t max_files, const std::string& attributes) {
  LogWriter writer;
  if (attributes.size() > LogPolicy::longest_attributes)
    return Error(ErrorKind::invalid, concat("log ", path, ": its attributes are longer than ", LogPolicy::longest_attributes, " bytes"));
  if (!attributes.empty()) writer.attributes_ = concat("\"attrs\":", attributes, ",");
  writer.path_ = std::move(path);
  writer.max_size_ = max_size_bytes;
  writer.max_files_ = max_files == 0 ? 1 : max_files;
  if (writer.is_on()) TRY(writer.reopen(), concat("log ", writer.path_));
  return writer;
}

Status LogWriter::reopen() {
  file_ = TRY_PLAIN(linux::open(path_, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW, 0640));
  const auto status = TRY_PLAIN(linux::fstat(file_.get()));
  size_ = static_cast<std::uint64_t>(status.st_size);
  // A writer that was killed in the middle of a write leaves half a line; its bytes are still in the pipe.
  std::uint64_t whole = size_;
  std::array<char, 4096> tail{};
  while (whole > 0) {
    const std::uint64_t from = whole > tail.size() ? whole - tail.size() : 0;
    const auto got = TRY_PLAIN(linux::pread(file_.get(), std::span(tail).first(static_cast<std::size_t>(whole - from)), from));
    const auto newline = std::string_view(tail.data(), got).rfind('\n');
    if (newline != std::string_view::npos) {
      whole = from + newline + 1;
      break;
    }
    whole = from;
  }
  if (whole != size_) {
    TRY_PLAIN(linux::ftruncate(file_.get(), whole));
    size_ = whole;
  }
  return {};
}

void LogWriter::append(std::string_view text, int stream, TimestampNs time) {
  if (!is_on()) return;
  constexpr std::size_t frame_size = 96;
  const std::size_t frame = frame_size + attributes_.size();
  if (used + frame + std::min(text.size(), record_limit) * escaped_piece_limit > buffer.size()) flush();
  // A record whose escaped form exceeds the buffer (16 KiB of control bytes) is written in two pieces of text.
  const std::size_t safe_text = (buffer_size - frame) / escaped_piece_limit;
  while (!text.empty()) {
    const auto piece = text.substr(0, safe_text);
    if (used + frame + piece.size() * escaped_piece_limit > buffer.size()) flush();
    put("{\"log\":\"");
    put_escaped(piece);
    put(stream == 2 ? "\",\"stream\":\"stderr\"," : "\",\"stream\":\"stdout\",");
    put(attributes_);
    put("\"time\":\"");
    put(to_rfc3339(time));
    put("\"}\n");
    ++pending_records_;
    text.remove_prefix(piece.size());
    if (max_size_ > 0 && size_ + used >= static_cast<std::uint64_t>(max_size_)) flush();  // a file exceeds its size by one record at most
  }
}

void LogWriter::drop_to(std::uint64_t size) {
  drops_ += pending_records_;
  // Half a line would break every reader of the file; cutting it off needs no space.
  if (file_) ignore(linux::ftruncate(file_.get(), size));
  size_ = size;
}

void LogWriter::flush() {
  if (used == 0) return;
  std::size_t done = 0;
  if (!file_) ignore(reopen());  // after a rotation that failed half-way; tried again with every flush
  while (file_ && done < used) {
    const long written = linux::raw::write(file_.get(), buffer.data() + done, used - done);
    if (written <= 0) break;
    done += static_cast<std::size_t>(written);
  }
  if (done == used) {
    size_ += used;
  } else {
    drop_to(size_);
  }
  used = 0;
  pending_records_ = 0;
  if (max_size_ > 0 && size_ >= static_cast<std::uint64_t>(max_size_)) rotate();
}

void LogWriter::rotate() {
  if (max_files_ == 1) {
    ignore(linux::ftruncate(file_.get(), 0));  // fails on no file system we can append to
    size_ = 0;
    return;
  }
  // Whoever reads the files, or compresses one of them, holds this lock while the names must stay: then the next flush tries again.
  if (!linux::flock(file_.get(), LOCK_EX | LOCK_NB)) return;
  // From the oldest on, so that no name is overwritten before its content has moved. A missing file is the rule: there is a plain one, or the
  // daemon has compressed it. The oldest goes first, because it may have the other form than what takes its place.
  const std::string oldest = concat(path_, ".", max_files_ - 1);
  ignore(linux::unlink(oldest));
  ignore(linux::unlink(oldest + ".gz"));
  for (std::uint32_t number = max_files_ - 1; number > 1; --number) {
    ignore(linux::rename(concat(path_, ".", number - 1), concat(path_, ".", number)));
    ignore(linux::rename(concat(path_, ".", number - 1, ".gz"), concat(path_, ".", number, ".gz")));
  }
  if (!linux::rename(path_, concat(path_, ".1"))) {  // go on with the old file; the next flush tries again
    ignore(linux::flock(file_.get(), LOCK_UN));
    return;
  }
  file_.reset();
  size_ = 0;
  ignore(reopen());
}

}  // namespace caisson::runtime
