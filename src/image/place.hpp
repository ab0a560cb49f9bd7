// place: a tar → files below a folder of a container, which may be running and changing what lies there. Runs inside the worker.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "image/tar_reader.hpp"

namespace caisson::image {

struct FileOwner {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};
template <class C>
void visit(C& c, FileOwner& o) {
  c(o.uid);
  c(o.gid);
}

struct PlaceRequest {
  std::string path;              ///< a folder in the root; symbolic links are followed inside the root
  bool keep_kinds = false;       ///< a folder is never replaced by something else, nor something else by a folder
  std::optional<FileOwner> owner;  ///< of everything placed; none: what the archive names
  std::string first_name;        ///< replaces the first part of every name of the archive; "": nothing is renamed
  bool without_attributes = false;  ///< extended ones are dropped
};
template <class C>
void visit(C& c, PlaceRequest& r) {
  c(r.path);
  c(r.keep_kinds);
  c(r.owner);
  c(r.first_name);
  c(r.without_attributes);
}

/// Each entry is put as (folder descriptor, one name), the folder resolved inside `root_fd` (borrowed): whatever somebody swaps meanwhile,
/// nothing outside that root is touched. Device nodes and overlay attributes are left out.
/// Errors: not_found (path), invalid (path is no folder, a name that leads out of it, kinds differ, a bad archive), denied (EROFS: read-only), unavailable (full disk), io.
Status place_archive(TarReader& tar, int root_fd, const PlaceRequest& request);

}  // namespace caisson::image
