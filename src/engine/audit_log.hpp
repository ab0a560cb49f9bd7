// AuditLog: a line of JSON for every change that somebody asked for, whether it was allowed or denied.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "base/json.hpp"
#include "base/unique_fd.hpp"
#include "engine/types.hpp"

namespace caisson::engine {

struct AuditLine {
  const Caller& caller;
  policy::Verb verb;
  std::string_view object;   ///< as it was called in the request
  std::string_view id;       ///< of what it is; "" when there is none (yet)
  bool is_allowed = true;
  std::string_view why;      ///< of a denial: the rule
  json::object asks;         ///< what a container asks for beyond the default box
};

/// Thread-safe. The file is 0600, append-only for us, and put aside as PATH.1 … PATH.8 when it has grown. A line that cannot be written is
/// counted, and said in the daemon's log once per failure's cause: a full disk must not keep anybody from removing what fills it.
class AuditLog {
 public:
  static constexpr std::uint64_t largest_bytes = 16 << 20;
  static constexpr int kept_files = 8;

  /// "": nothing is written.
  explicit AuditLog(std::string path, std::uint64_t largest = largest_bytes) : path_(std::move(path)), largest_(largest) {}
  void write(const AuditLine& line);
  [[nodiscard]] std::uint64_t lost() const { return lost_; }

 private:
  Status open_locked();
  Status append_locked(const std::string& text);
  void rotate_locked();

  const std::string path_;
  const std::uint64_t largest_;
  std::mutex mutex_;
  UniqueFd file_;
  std::uint64_t size_ = 0;
  std::string last_failure_;
  std::atomic<std::uint64_t> lost_ = 0;
};

/// The line without its end. Pure; `when` is its time.
std::string audit_text(const AuditLine& line, TimestampNs when);

}  // namespace caisson::engine
