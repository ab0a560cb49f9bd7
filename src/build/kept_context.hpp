// The files of a context that was sent before, so that the next build sends only those that have changed.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "build/builder.hpp"

namespace caisson::build {

/// Whether these are SHA-256 digests in hexadecimal. Errors: invalid.
Status check_digests(const std::vector<std::string>& digests);
/// Which of these SHA-256 digests (hexadecimal) the folder has no file of, by their places. Only names are looked at: KeptFiles::restore has the last word.
Result<std::vector<std::size_t>> missing_files(int kept_fd, const std::vector<std::string>& digests);

/// Kept files that builds have in their contexts for as long as they go on, so that another build of the same context finds them there. Thread-safe.
class LentFiles {
 public:
  /// Where a file is meanwhile.
  struct Place {
    std::shared_ptr<const UniqueFd> context;
    std::string path;
  };
  void add(const std::string& key, const std::string& digest, Place place);
  [[nodiscard]] std::optional<Place> find(const std::string& key, const std::string& digest) const;
  void remove(const std::string& key, const UniqueFd& context);

 private:
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, Place> places_;  // by key of the kept context, and digest
};

/// A kept context in the hands of one build. No other one may call it at the same time: the caller has a lock per key.
class KeptFiles {
 public:
  /// `kept_fd` and `lent` are borrowed. `key`: the kept context's.
  KeptFiles(int kept_fd, LentFiles& lent, std::string key) : kept_fd_(kept_fd), lent_(lent), key_(std::move(key)) {}
  KeptFiles(const KeptFiles&) = delete;
  KeptFiles& operator=(const KeptFiles&) = delete;

  /// Puts kept files where the client has them, in a context whose other files and whose folders are there already. Contents are compared with their digests first. A file moves there; it is
  /// copied where the context has it several times, or where another build has it. Errors: conflict (one is not kept any more, or was damaged and is thrown away: the client has to send all),
  /// invalid (a path that leads nowhere, that is taken, or that is no path), unavailable (full disk, cancelled), io. What is there by then is for give_back().
  Status restore(const std::vector<KeptFile>& files, int context_fd, Cancel cancel);
  /// What was put there goes back. For a build that has got no further than that.
  Status give_back();
  /// At a build's end, when nobody needs its context any more: its regular files move into the folder, named by their digests, and what this context does not have goes.
  /// Files with holes stay behind, and so do those of a block or less, which clients always send.
  Status keep(const std::vector<int>& context_fds);

 private:
  Status restore(const KeptFile& file, int folder_fd, const std::string& name, bool is_last, Cancel cancel);
  int kept_fd_;
  LentFiles& lent_;
  std::string key_;
  std::shared_ptr<const UniqueFd> context_;
  std::map<std::string, std::string> restored_;  // digests by path
};

}  // namespace caisson::build
