// Several layers at a time: a job per item on a bounded number of threads.
#pragma once

#include <cstddef>
#include <functional>

#include "base/result.hpp"

namespace caisson::image {

/// Runs `job` for every index below `items`, on at most `threads` threads (this one is among them). Returns when all that began have ended.
/// Errors: the first one; nobody begins another item after it.
Status side_by_side(std::size_t items, std::size_t threads, const std::function<Status(std::size_t index)>& job);

}  // namespace caisson::image
