// The tables of the state file, how older ones become today's, and how a damaged file is put aside.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "state/sqlite.hpp"

namespace caisson::state {

/// Opens the file with today's tables. A damaged file is renamed to "PATH.damaged-<time>" and its readable rows are
/// copied into a new one; rows that are no valid JSON text move to the table `damaged`. One sentence per repair.
/// Errors: unsupported (written by a newer version), denied, unavailable, io.
Result<std::unique_ptr<Database>> open_repaired(const std::string& path, std::vector<std::string>& repairs);

}  // namespace caisson::state
