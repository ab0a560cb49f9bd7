// Named contexts: what FROM, --from and --mount=from mean in one build, ahead of stages and images of the same name.
#pragma once

#include <map>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "build/builder.hpp"

namespace caisson::build {

class NamedContexts {
 public:
  /// One that can be read: an image by its name, or the root of a folder's files.
  struct Opened {
    std::string image;
    UniqueFd folder;  ///< opened for reading; empty: an image
  };

  NamedContexts() = default;
  /// Errors: invalid (no name, twice the same).
  Status add(const std::string& name, Opened context);
  /// Nothing when `name` is none of them. An image's name and its full form are the same: "alpine" is "docker.io/library/alpine:latest".
  [[nodiscard]] const Opened* find(std::string_view name) const;

 private:
  std::map<std::string, Opened> contexts_;
};

}  // namespace caisson::build
