// Size limits of folders (volumes, writable layers): a project quota each, where the file system has them.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace caisson::engine {

/// Thread-safe. A folder itself says which project it is of and the file system what that may hold, so nothing is recorded.
class SizeLimits {
 public:
  /// Makes `dirs`, empty folders of one file system, one project of at most `size_bytes`. Errors: invalid, in docker's words and naming file
  /// system and reason, where it keeps no quotas; unavailable.
  Status limit(const std::vector<std::string>& dirs, std::int64_t size_bytes);
  /// `dir`, made anew, belongs to the project of its neighbour, if that has one.
  static Status join(const std::string& dir, const std::string& neighbour);
  /// Removes `tree`, after the limit of the folder `limited` in it: its project is free again.
  static Status remove_tree(const std::string& tree, const std::string& limited);

 private:
  std::mutex mutex_;  ///< choosing a project and naming it are one step
};

/// "10M". Errors: invalid.
Result<std::int64_t> parse_size_limit(const std::string& text);

}  // namespace caisson::engine
