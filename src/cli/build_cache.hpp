// --cache-from and --cache-to of builds, as buildx writes them.
#pragma once

#include <string>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "cli/parse.hpp"
#include "cli/session.hpp"

namespace caisson::cli {

struct CacheFlags {
  std::vector<std::string> folders;  ///< type=local,src=…: caches that go to the daemon first
  json::array from;                  ///< the others, as X-Caisson-Build has them
  json::array to;                    ///< as X-Caisson-Build has them
  std::string destination;           ///< type=local,dest=…: the folder for the cache that comes back, or ""
};
/// Errors: invalid, unsupported (gha, s3, azblob), naming the flag and its field.
Result<CacheFlags> parse_cache_flags(const std::vector<std::string>& from, const std::vector<std::string>& to);

/// Caches from folders, as images of the daemon's for as long as the build needs them.
class LentCaches {
 public:
  explicit LentCaches(Session& session) : session_(session) {}
  LentCaches(const LentCaches&) = delete;
  LentCaches& operator=(const LentCaches&) = delete;
  ~LentCaches();
  /// An OCI layout to the daemon; a folder that is not there is only warned about, as it is on the first run of a pipeline.
  /// Returns the image's id, or "". Errors: those of reading and of loading.
  Result<std::string> lend(const std::string& folder);

 private:
  Session& session_;
  std::vector<std::string> images_;
};

/// The image `id`, which the daemon made for this, as an OCI layout in `folder`; it goes from the daemon.
Status take_cache(Session& session, const std::string& id, const std::string& folder);

}  // namespace caisson::cli
