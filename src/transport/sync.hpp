// Sync: many images from one side to the other, each on its own: one that fails does not keep the others from travelling.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "transport/copier.hpp"
#include "transport/sync_plan.hpp"

namespace caisson::transport {

struct SyncRequest {
  std::string source_folder;         ///< of layouts; "": entries name registries
  std::vector<SyncEntry> entries;    ///< none with a folder: every layout in it
  SyncTarget target;
  bool is_dry_run = false;
  CopyOptions copy;
};

/// One image's end.
struct SyncOutcome {
  enum class Kind : std::uint8_t { copied, unchanged, would_copy, failed };
  Kind kind = Kind::failed;
  std::string from;    ///< "docker.io/library/alpine:3.20"
  std::string to;
  std::string digest;
  Traffic traffic;
  std::optional<Error> error;
};

struct SyncSurroundings {
  /// Opens a registry's repository. `actions`: "pull" or "pull,push".
  std::function<Result<std::unique_ptr<Place>>(const image::Reference& repository, const std::string& actions)> open_registry;
  std::string spool_folder;
  image::ProgressSink progress;
  std::function<void(const SyncOutcome&)> on_outcome;
};

struct SyncSummary {
  std::size_t copied = 0;
  std::size_t unchanged = 0;
  std::size_t failed = 0;
  Traffic traffic;
};

/// Errors: only what stops all of it (the folder of layouts cannot be read). What fails for one image is its outcome.
Result<SyncSummary> run_sync(const SyncRequest& request, const SyncSurroundings& surroundings);

}  // namespace caisson::transport
