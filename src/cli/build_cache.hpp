// --cache-from and --cache-to of builds, as buildx writes them.
#pragma once

#include <string>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "cli/parse.hpp"
#include "cli/session.hpp"

namespace caisson::cli {

/// Where a cache goes from here once the daemon has made an image of it: one of the two.
struct CachePlace {
  std::string folder;     ///< type=local,dest=…
  std::string reference;  ///< type=registry,ref=… of builds for several platforms: one index, which no single build can push
};
struct CacheFlags {
  std::vector<std::string> folders;  ///< type=local,src=…: caches that go to the daemon first
  json::array from;                  ///< the others, as X-Caisson-Build has them
  json::array to;                    ///< as X-Caisson-Build has them
  std::vector<CachePlace> places;    ///< for the images that come of `to`, in their order
};
/// `is_split`: there is a build for each of several platforms. Errors: invalid, unsupported (gha, s3, azblob), naming the flag and its field.
Result<CacheFlags> parse_cache_flags(const std::vector<std::string>& from, const std::vector<std::string>& to, bool is_split);

/// Caches from folders, as images of the daemon's for as long as the build needs them.
class LentCaches {
 public:
  explicit LentCaches(Session& session) : session_(session) {}
  LentCaches(const LentCaches&) = delete;
  LentCaches& operator=(const LentCaches&) = delete;
  ~LentCaches();
  /// An OCI layout to the daemon: of one with several platforms what is for `platform` ("": the daemon's). A folder that is not there, or has nothing for it, is only
  /// warned about, as it is on the first run of a pipeline. Returns the image's id, or "". Errors: those of reading and of loading.
  Result<std::string> lend(const std::string& folder, const std::string& platform);

 private:
  Session& session_;
  std::vector<std::string> images_;
};

/// Images that the daemon made of caches, for as long as they are on their way.
class TakenCaches {
 public:
  explicit TakenCaches(Session& session) : session_(session) {}
  TakenCaches(const TakenCaches&) = delete;
  TakenCaches& operator=(const TakenCaches&) = delete;
  ~TakenCaches();
  /// Of one build, one for each place.
  void add(const std::vector<std::string>& images);
  /// Each to its place: an OCI layout in a folder, or a registry; what several builds made under one index. Errors: those of saving and pushing; corrupt when a build left one out.
  Status deliver(const std::vector<CachePlace>& places, bool is_quiet);

 private:
  Session& session_;
  std::vector<std::vector<std::string>> builds_;
};

}  // namespace caisson::cli
