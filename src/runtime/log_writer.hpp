// The container's log in docker's json-file format: one JSON object per line, rotated by size, whole lines only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/time.hpp"
#include "base/unique_fd.hpp"

namespace caisson::runtime {

/// Appends records. On a full disk a record is dropped whole and counted; the file never ends in half a line, also not after
/// a crash of an earlier writer (open() cuts it off).
class LogWriter {
 public:
  LogWriter() = default;
  /// Empty path: a writer that keeps nothing. `attributes`: a JSON object for every record's "attrs"; empty: none. Errors: denied,
  /// not_found, io, invalid (attributes beyond LogPolicy's limit).
  static Result<LogWriter> open(std::string path, std::int64_t max_size_bytes, std::uint32_t max_files, const std::string& attributes = "");

  [[nodiscard]] bool is_on() const { return !path_.empty(); }
  /// One record; `text` ends with the newline where the program wrote one. stream 1: stdout, 2: stderr. `text` at most 16 KiB.
  void append(std::string_view text, int stream, TimestampNs time);
  /// Hands buffered records to the kernel. Called before the bytes they came from are taken out of the pipe.
  void flush();
  [[nodiscard]] std::uint64_t drops() const { return drops_; }

 private:
  Status reopen();
  void rotate();
  void drop_to(std::uint64_t size);

  std::string path_;
  std::string attributes_;  ///< `"attrs":{…},`, or empty
  std::int64_t max_size_ = 0;
  std::uint32_t max_files_ = 1;
  UniqueFd file_;
  std::uint64_t size_ = 0;
  std::uint64_t drops_ = 0;
  std::uint64_t pending_records_ = 0;
};

}  // namespace caisson::runtime
