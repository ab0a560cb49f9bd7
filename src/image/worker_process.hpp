// A worker as a process: its rights, its start, and what it says until it ends. For what gives workers work in this module.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "linux/idmap.hpp"
#include "linux/spawn.hpp"

namespace caisson::image {

/// `count` ids of the host from `first` on.
linux::IdMap one_range(std::uint32_t first);
/// The ids of this user namespace; for an ordinary user, who has but one to give (user_namespaces(7)), that one.
linux::IdMap own_ids();

/// With its own namespaces and the capabilities that unpacking needs, inside its own user namespace only.
Result<linux::ChildProcess> start_worker(const std::string& path, std::vector<std::string> argv, const linux::IdMap& ids, std::vector<linux::FdMapping> fds);
/// What a worker says on its way. Both may be empty.
struct WorkerListeners {
  std::function<void(std::uint64_t bytes)> on_progress;
  std::function<Status(std::uint64_t bytes, const std::function<void()>& pause)> on_written;  ///< a failure ends the worker
};
/// Listens until the worker has closed `result_fd`, and sees to its end. Returns the payload of its result.
/// Errors: io (it died), corrupt, unavailable ("cancelled"); those of `listeners`.
Result<std::string> await_result(linux::ChildProcess child, int result_fd, const WorkerListeners& listeners, const Cancel& cancel);

}  // namespace caisson::image
