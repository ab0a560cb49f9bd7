// The policy of this host: which file it is, read with its keys, and again whenever one of them has changed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "trust/policy.hpp"

namespace caisson::trust {

/// Where a policy may be: the first that is there counts.
struct PolicyPlaces {
  std::string chosen;               ///< a setting: only this one, and it has to be there; "": the next ones
  std::vector<std::string> usual;   ///< our own first, then those of containers, in its order
};
/// `home`: "" for none.
std::vector<std::string> usual_policy_places(const std::string& home);

/// A policy with all that it says, at one point in time.
struct HostPolicy {
  std::string path;    ///< "": there is none, and everything is accepted
  Policy policy;       ///< keys are read; one whose file could not be is empty, and fails what needs it
  std::string digest;  ///< of the file and all key files: what was judged under the same digest need not be judged again
  [[nodiscard]] std::string where() const { return path.empty() ? "the default policy" : path; }
};

/// Errors: invalid, io, not_found (a chosen file), naming the file. A file that cannot be read or understood must stop what asked.
Result<std::shared_ptr<const HostPolicy>> read_host_policy(const PolicyPlaces& places);

/// Reads the key files that requirements name; what cannot be read stays empty.
void read_keys(Requirements& requirements);

/// Whether the policy lets anything in from registries, whoever made it: nothing is rejected, and no signature is asked for anywhere.
bool accepts_anything(const Policy& policy);

}  // namespace caisson::trust
