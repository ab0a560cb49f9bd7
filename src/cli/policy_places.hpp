// Where this host's daemon looks for its signature policy, for commands that read it without the daemon.
#pragma once

#include "base/result.hpp"
#include "trust/policy_file.hpp"

namespace caisson::cli {

/// `trust.policy` of /etc/caisson/caisson.toml when it is set there, else the usual places. A daemon that was given --signature-policy on its
/// command line reads another file, which only it knows. Errors: invalid and io, naming caisson.toml.
Result<trust::PolicyPlaces> daemon_policy_places();

}  // namespace caisson::cli
