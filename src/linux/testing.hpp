// What the tests of this module share: a temporary folder that cleans up after itself, and reasons to skip.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <stdexcept>
#include <string>

#include "base/ids.hpp"
#include "base/strings.hpp"
#include "linux/capabilities.hpp"
#include "linux/tree.hpp"

namespace caisson::linux {

class TemporaryFolder {
 public:
  TemporaryFolder() : path_(concat("/tmp/caisson-test-", ::getpid(), '-', random_id().substr(0, 12))) {
    const auto made = mkdir(path_, 0700);
    if (!made) ADD_FAILURE() << made.error().text();
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    const auto removed = remove_tree(path_);
    if (!removed) ADD_FAILURE() << removed.error().text();
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string operator/(std::string_view name) const { return concat(path_, '/', name); }

 private:
  std::string path_;
};

inline bool has_capability(int number) {
  const auto state = capget();
  return state && state->effective.contains(number);
}

/// Unwraps a Result in a test: the failure's text is the message.
template <typename T>
T must(Result<T> result) {
  if (!result) {
    ADD_FAILURE() << result.error().text();
    throw std::runtime_error(result.error().text());
  }
  return std::move(result).value();
}
inline void must(const Status& status) {
  if (!status) {
    ADD_FAILURE() << status.error().text();
    throw std::runtime_error(status.error().text());
  }
}

}  // namespace caisson::linux
