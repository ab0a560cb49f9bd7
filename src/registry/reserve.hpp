// A file that holds space back, so that removing things still works on a full disk: every removal is written down before it frees anything.
#pragma once

#include <string>

#include "base/result.hpp"

namespace caisson::registry {

class Reserve {
 public:
  /// A full disk is no error here: the file is made when there is space again.
  explicit Reserve(std::string path);
  /// Gives the space away. False when there is none to give.
  bool release();
  /// Takes space again, if there is enough.
  void refill();

 private:
  std::string path_;
};

}  // namespace caisson::registry
