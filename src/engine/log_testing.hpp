// What the tests of log files share.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>

#include "engine/log_reader.hpp"
#include "linux/file.hpp"

namespace caisson::engine::fake {

/// What a reader was given, as one text.
class CollectedLog final : public LogSink {
 public:
  Status write(const LogRecord& record) override {
    std::lock_guard lock(mutex);
    text += record.text;
    changed.notify_all();
    return {};
  }
  Status flush() override { return {}; }
  /// False when it does not become so in time.
  bool wait_for(const std::string& wanted) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(20), [&] { return text == wanted; });
  }
  bool wait_for_end(const std::string& end) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(20), [&] { return text.ends_with(end); });
  }
  std::mutex mutex;
  std::condition_variable changed;
  std::string text;
};

inline void append(const std::string& path, const std::string& text) {
  auto fd = linux::open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
  ASSERT_TRUE(fd.ok());
  ASSERT_TRUE(linux::write_all(fd->get(), text).ok());
}

}  // namespace caisson::engine::fake
