// A BoltDB file's keys and values, read and never written: dockerd keeps its networks and its volumes' labels in such files.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson::cli {

/// Format of go.etcd.io/bbolt (page.go, db.go, bucket.go), version 2, little-endian: pages; two of them say where the newest tree begins.
class BoltDatabase {
 public:
  /// `bytes`: the whole file, borrowed. `what` names it in errors. Errors: corrupt (no page says in a way that fits its checksum where the tree is), unsupported (another version).
  static Result<BoltDatabase> open(std::string_view bytes, std::string what);

  using Visitor = std::function<Status(std::string_view key, std::string_view value)>;
  /// Calls `visit` with what a bucket at the top holds, in the order of the keys; buckets in it are left out. A bucket that is not there
  /// holds nothing. The views are into the file. Pure. Errors: corrupt; those of `visit`.
  [[nodiscard]] Status for_each(std::string_view bucket, const Visitor& visit) const;

 private:
  BoltDatabase(std::string_view bytes, std::string what) : bytes_(bytes), what_(std::move(what)) {}
  std::string_view bytes_;
  std::string what_;
  std::uint32_t page_bytes_ = 0;
  std::uint64_t root_page_ = 0;
};

}  // namespace caisson::cli
