// Spool: a folder where blobs grow on their way, one writer each; what a cut or killed copy has left there is gone on with.
#pragma once

#include <string>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::transport {

class Spool {
 public:
  /// Makes the folder (0700), and removes what nobody has touched for a week. Errors: io, denied.
  static Result<Spool> open(std::string folder);
  /// Removes the folder if it is empty.
  void leave();

  /// The blob's file, locked until it is closed. Waits for whoever else is bringing the same blob.
  struct Held {
    UniqueFd fd;
    std::string path;
  };
  Result<Held> hold(const Digest& digest) const;
  [[nodiscard]] const std::string& folder() const { return folder_; }

 private:
  explicit Spool(std::string folder) : folder_(std::move(folder)) {}
  std::string folder_;
};

}  // namespace caisson::transport
