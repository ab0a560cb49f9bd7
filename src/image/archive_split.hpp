// split_archive: an archive of images (docker-archive or OCI layout) → one numbered file per member. Runs in the worker.
#pragma once

#include <vector>

#include "base/result.hpp"
#include "image/tar_reader.hpp"
#include "image/worker_protocol.hpp"

namespace caisson::image {

/// Writes every file of `tar` into the directory `target_fd` as "0", "1", … with its SHA-256; no name of the archive
/// reaches the file system. Links are listed, directories skipped, anything else refused. A name that comes twice counts
/// as the later one (tar's rule). Errors: invalid, naming the member; unavailable (disk full); io.
Status split_archive(TarReader& tar, int target_fd, std::vector<ArchiveMember>& out);

}  // namespace caisson::image
