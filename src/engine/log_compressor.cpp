// Waiting for rotations.
#include "engine/log_compressor.hpp"

#include <array>
#include <optional>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/log_archive.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"

namespace caisson::engine {

Status LogCompressor::start_thread() {
  if (thread_.joinable()) return {};
  UniqueFd changes = TRY_PLAIN(linux::inotify_create());
  UniqueFd wake = TRY_PLAIN(linux::eventfd());
  changes_ = std::move(changes);
  wake_ = std::move(wake);
  thread_ = std::thread([this] { run(); });
  return {};
}

Status LogCompressor::watch(const std::string& log_path) {
  std::lock_guard lock(mutex_);
  if (stopping_) return {};
  TRY(start_thread(), "compression of logs");
  // Renames alone: what is written does not wake us.
  const int watch = TRY(linux::inotify_add_watch(changes_.get(), std::string(split_last(log_path, '/').before), IN_MOVED_TO), "compression of logs");
  logs_[watch] = log_path;
  due_.insert(log_path);
  return linux::eventfd_signal(wake_.get());
}

void LogCompressor::forget(const std::string& log_path) {
  std::lock_guard lock(mutex_);
  due_.erase(log_path);
  for (auto log = logs_.begin(); log != logs_.end(); ++log) {
    if (log->second != log_path) continue;
    ignore(linux::inotify_remove_watch(changes_.get(), log->first));  // gone with its folder already
    logs_.erase(log);
    return;
  }
}

void LogCompressor::finish() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    if (wake_) ignore(linux::eventfd_signal(wake_.get()));  // fails only for a bad descriptor
  }
  if (thread_.joinable()) thread_.join();
}

void LogCompressor::run() {
  Status outcome = run_until_stopped();
  if (!outcome.ok()) log_error("compression of logs", "", outcome.error());
}

Status LogCompressor::run_until_stopped() {
  std::array<linux::PollEntry, 2> entries{};
  for (;;) {
    std::optional<std::string> path;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return {};
      if (!due_.empty()) path = std::move(due_.extract(due_.begin()).value());
    }
    if (path) {
      Status packed = compress_rotated(*path);
      // A container that goes takes its log along.
      if (!packed.ok() && packed.error().kind() != ErrorKind::not_found) log_error("compression of logs", *path, packed.error());
      continue;
    }
    entries[0] = {changes_.get(), POLLIN, 0};
    entries[1] = {wake_.get(), POLLIN, 0};
    TRY_PLAIN(linux::poll(entries, -1));
    if (entries[1].revents != 0) ignore(linux::eventfd_take(wake_.get()));  // what it says is looked up above
    if (entries[0].revents == 0) continue;
    const auto events = TRY_PLAIN(linux::inotify_take(changes_.get()));
    std::lock_guard lock(mutex_);
    for (const auto& event : events) {
      if ((event.mask & IN_Q_OVERFLOW) != 0)
        for (const auto& [watch, log_path] : logs_) due_.insert(log_path);
      auto log = logs_.find(event.watch);
      if (log == logs_.end()) continue;
      if (concat(split_last(log->second, '/').after, ".1") == event.name) due_.insert(log->second);
    }
  }
}

}  // namespace caisson::engine
