// The worker: a process without rights that reads hostile archives for the image store.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "image/worker_protocol.hpp"

namespace caisson::image {

/// main() of caisson-worker. Expects the descriptors of worker_fd. Gives up the rest of its rights (Landlock, seccomp)
/// before it reads the first byte of input.
int worker_main();

/// How workers are started.
struct WorkerOptions {
  std::string path;                 ///< the caisson-worker binary
  std::uint32_t first_host_id = 0;  ///< 65536 ids from here; 0: no ids of its own to use (see run_worker)
};

struct WorkerJob {
  WorkerRequest request;
  int input_fd = -1;   ///< borrowed; of unpack, index, split and place
  int copy_fd = -1;    ///< borrowed; with request.copy_input, or of pack, chunk and compress
  int tar_fd = -1;     ///< borrowed; of index: an empty file; with neither input kept nor this, the tar is not written
  int index_fd = -1;   ///< borrowed; of index and toc: an empty file
  int table_fd = -1;   ///< borrowed; of compare
  int target_fd = -1;  ///< borrowed; of those that make or read a tree: a directory, opened for reading, empty for unpack and split; ids on disk are those of archives
  int graft_fd = -1;   ///< borrowed; of pack with grafts: a directory, opened for reading, whose ids are as the target's
  /// Set: the target is a container's root as the container sees it, whose own 0 is this id of the host. The worker runs with
  /// the container's ids then, in a user namespace of its own that the container has no power over.
  std::optional<std::uint32_t> first_view_id;
  std::function<void(std::uint64_t bytes)> on_progress;
  /// Of unpack, index and split: what lies on the disk by now, now and then. A failure ends the worker, and is what comes back. `pause` lets it write
  /// nothing more until this returns: for answers that take their time.
  std::function<Status(std::uint64_t bytes, const std::function<void()>& pause)> on_written;
  Cancel cancel;
};

/// Runs one job to its end in a process with its own user, mount, network, ipc, uts and pid namespace, seen through an
/// idmapped clone of the target's mount, so that it owns no host id and files still lie there with the image's ids. Where
/// that cannot be (not root, or a file system without id maps) it runs in a user namespace that maps this one's ids.
/// A failure that the worker reports comes back as the Error it was; a worker that dies is an Error of kind io.
/// Errors also: unavailable when cancelled ("cancelled").
Result<WorkerResult> run_worker(const WorkerOptions& options, const WorkerJob& job);

}  // namespace caisson::image
