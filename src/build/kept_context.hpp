// The files of a context that was sent before, so that the next build sends only those that have changed.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "build/builder.hpp"

namespace caisson::build {

/// Whether these are SHA-256 digests in hexadecimal. Errors: invalid.
Status check_digests(const std::vector<std::string>& digests);
/// Which of these SHA-256 digests (hexadecimal) the folder has no file of, by their places. Only names are looked at: restore_files has the last word.
Result<std::vector<std::size_t>> missing_files(int kept_fd, const std::vector<std::string>& digests);

/// Puts kept files where the client has them, in a context whose other files and whose folders are there already; each is a copy, and its contents are compared with
/// their digest on the way. Errors: conflict (one is not kept any more, or was damaged and is thrown away: the client has to send all), invalid (a path that leads nowhere, that is
/// taken, or that is no path), unavailable (full disk, cancelled), io.
Status restore_files(int kept_fd, const std::vector<KeptFile>& files, int context_fd, Cancel cancel);

/// At a build's end, when nobody needs its context any more: its regular files move into the folder, named by their digests, and what this context does not have goes.
/// Files with holes stay behind, and so do those of a block or less, which clients always send. `restored`: what restore_files was given.
Status keep_files(int kept_fd, const std::vector<KeptFile>& restored, const std::vector<int>& context_fds);

}  // namespace caisson::build
