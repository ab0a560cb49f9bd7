// What a container's writable layer changes in the layers below it.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "engine/types.hpp"

namespace caisson::engine {

/// Compares as docker does: a file counts when mode, owner, size, time or capability differ (a time without nanoseconds equals any within its
/// second), a folder when its mode or owner does; a folder with changes in it is listed as modified before them, the root never.
/// `lower`: topmost first. Reads names and attributes only, by descriptor, and follows no link. Errors: invalid (deeper than 256 folders), io.
Result<std::vector<FileChange>> find_changes(const std::string& upper, std::span<const std::string> lower);

}  // namespace caisson::engine
