// ScratchLayout: an OCI layout in a folder that vanishes: what an archive becomes before it is copied from, and is made of.
#pragma once

#include <memory>
#include <string>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "transport/layout_place.hpp"

namespace caisson::transport {

class ScratchLayout {
 public:
  /// An empty layout below `parent`, a folder of ours.
  static Result<std::unique_ptr<ScratchLayout>> create(const std::string& parent);
  /// What an archive holds, an OCI layout or docker's kind, plain or compressed. A worker (the binary at `worker_path`) takes it apart: nothing here
  /// reads it before. Errors: invalid, corrupt.
  static Result<std::unique_ptr<ScratchLayout>> from_archive(const std::string& parent, int archive_fd, const std::string& worker_path, Cancel cancel);
  ~ScratchLayout();
  ScratchLayout(const ScratchLayout&) = delete;
  ScratchLayout& operator=(const ScratchLayout&) = delete;

  [[nodiscard]] LayoutPlace& place() { return *place_; }
  /// A tar that is an OCI layout, and docker's kind too when it holds single images only. Members in the order of their names.
  Status write_archive(int fd) const;

 private:
  explicit ScratchLayout(std::string folder) : folder_(std::move(folder)) {}
  std::string folder_;
  std::unique_ptr<LayoutPlace> place_;
};

}  // namespace caisson::transport
