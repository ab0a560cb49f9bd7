// Asking before removing, removing, and saying what was gained.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "cli/session.hpp"

namespace caisson::cli {

/// One kind of object to prune: "containers", "images", "volumes", "networks", "build" (its cache).
struct PruneStep {
  std::string_view collection;
  json::object filters;
  bool all = false;  ///< of the build cache
};

/// Asks "WARNING! … Are you sure?" unless `force`; then prunes every kind in order and prints what went and how much it freed.
/// Exit code 0, also when the user says no (docker's rule). Errors: the daemon's.
Result<int> prune(Session& session, bool force, std::string_view warning, const std::vector<PruneStep>& steps);

/// Asks on `out`, reads a line of standard input; its end means no.
Result<bool> ask_yes_or_no(Output& out, std::string_view question);

}  // namespace caisson::cli
