// Lines of the audit log, and the file that takes them.
#include "engine/audit_log.hpp"

#include "base/log.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/file.hpp"

namespace caisson::engine {

std::string audit_text(const AuditLine& line, TimestampNs when) {
  const auto& caller = line.caller;
  json::object out{{"time", to_rfc3339(when)},
                   {"who", caller.who},
                   {"role", caller.role ? caller.role->name : "none"},
                   {"from", caller.source},
                   {"verb", policy::describe(line.verb).name},
                   {"object", line.object}};
  if (caller.pid != 0) out["pid"] = caller.pid;
  if (!line.id.empty()) out["id"] = line.id;
  out["decision"] = line.is_allowed ? "allowed" : "denied";
  if (!line.why.empty()) out["why"] = line.why;
  if (!line.asks.empty()) out["asks"] = line.asks;
  return caisson::to_text(json::value(std::move(out)));
}

Status AuditLog::open_locked() {
  if (file_) return {};
  file_ = TRY_PLAIN(linux::open(path_, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600));
  size_ = static_cast<std::uint64_t>(TRY_PLAIN(linux::fstat(file_.get())).st_size);
  return {};
}

void AuditLog::rotate_locked() {
  file_.reset();
  auto name = [&](int number) { return concat(path_, ".", number); };
  for (int number = kept_files - 1; number >= 1; --number) {
    auto moved = linux::rename(name(number), name(number + 1));
    if (!moved.ok() && moved.error().kind() != ErrorKind::not_found) log_error("audit", name(number), moved.error());
  }
  if (auto moved = linux::rename(path_, name(1)); !moved.ok()) log_error("audit", path_, moved.error());
}

Status AuditLog::append_locked(const std::string& text) {
  TRY_PLAIN(open_locked());
  if (size_ != 0 && size_ + text.size() > largest_) {
    rotate_locked();
    TRY_PLAIN(open_locked());
  }
  // A part of a line would spoil the next one: what a full disk has cut is taken back.
  auto written = linux::write_all(file_.get(), text);
  if (!written.ok()) {
    ignore(linux::ftruncate(file_.get(), size_));  // the reason is told already
    return written;
  }
  size_ += text.size();
  return {};
}

void AuditLog::write(const AuditLine& line) {
  if (path_.empty()) return;
  const std::string text = audit_text(line, now_ns()) + "\n";
  std::lock_guard lock(mutex_);
  auto written = append_locked(text);
  if (written.ok()) {
    last_failure_.clear();
    return;
  }
  ++lost_;
  if (last_failure_ != written.error().text()) log_error("audit", path_, written.error());
  last_failure_ = written.error().text();
}

}  // namespace caisson::engine
