// One layer as the inventory sees it: which package databases it brings, and what it hides of those below. Runs in the worker.
#pragma once

#include <string>
#include <vector>

#include "base/codec.hpp"
#include "base/result.hpp"
#include "image/byte_source.hpp"
#include "inventory/package.hpp"

namespace caisson::inventory {

enum class FileKind : std::uint8_t {
  dpkg_status,
  dpkg_status_d,  ///< one file per package: distroless images
  apk_installed,
  rpm_sqlite,
  rpm_other,      ///< Berkeley DB or ndb: not read
  os_release,
};

/// A file that matters, parsed. What could not be parsed says why: it is an error only if no layer above replaces it.
struct LayerFile {
  std::string path;  ///< "var/lib/dpkg/status"
  FileKind kind = FileKind::dpkg_status;
  std::vector<Package> packages;
  Distribution distribution;
  std::string trouble;
};
template <class C>
void visit(C& c, LayerFile& f) {
  c(f.path);
  c(f.kind);
  c(f.packages);
  c(f.distribution);
  c(f.trouble);
}

struct LayerReport {
  std::vector<LayerFile> files;      ///< by path
  std::vector<std::string> removed;  ///< paths whose lower files are gone, with all below: whiteouts, and what took a folder's place
  std::vector<std::string> opaque;   ///< folders whose lower contents are hidden
};
template <class C>
void visit(C& c, LayerReport& r) {
  c(r.files);
  c(r.removed);
  c(r.opaque);
}

/// Reads a layer's decoded tar to its end. Errors: invalid (the archive), unsupported (databases beyond 512 MiB).
Result<LayerReport> examine_layer(image::ByteSource& tar);

/// True when `path` is `folder` or lies below it; "" is the root.
bool is_at_or_below(std::string_view path, std::string_view folder);

}  // namespace caisson::inventory
