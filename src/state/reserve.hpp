// A file that holds space back, so that removing things still works on a full disk: every removal is written down before it frees anything.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.hpp"

namespace caisson::state {

/// Not thread-safe.
class Reserve {
 public:
  /// A full disk is no error here: the file is made when there is space again.
  explicit Reserve(std::string path);
  /// Gives the space away. False when there is none to give.
  bool release();
  /// Takes space again, if there is enough and it was given away; at most once a second it looks.
  void refill();

 private:
  void take();

  std::string path_;
  bool is_held_ = false;
  std::int64_t next_try_ns_ = 0;  // monotonic
};

}  // namespace caisson::state
