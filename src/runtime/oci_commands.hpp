// The commands of the OCI command line, one function each.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/oci_log.hpp"
#include "runtime/oci_state.hpp"

namespace caisson::runtime {

struct OciGlobals {
  std::string root;
  OciLog log;
  linux::CgroupDriver cgroup_driver = linux::CgroupDriver::cgroupfs;
  std::string criu = "criu";     ///< --criu: the binary's path, or a name that is searched in PATH
};

/// A command's flags and what stood between and after them.
struct OciArguments {
  std::map<std::string, std::vector<std::string>> values;  ///< long names
  std::vector<std::string> words;
  [[nodiscard]] bool has(const std::string& name) const { return values.contains(name); }
  [[nodiscard]] std::string value(const std::string& name, std::string fallback = "") const {
    auto found = values.find(name);
    return found == values.end() || found->second.empty() ? fallback : found->second.back();
  }
  /// Every value of a flag that may be repeated.
  [[nodiscard]] std::vector<std::string> all(const std::string& name) const {
    auto found = values.find(name);
    return found == values.end() ? std::vector<std::string>() : found->second;
  }
  /// Errors: invalid, unless there is exactly one word.
  [[nodiscard]] Result<std::string> id() const;
};

/// What every command works with.
struct OciContext {
  OciGlobals globals;
  OciArguments arguments;
  OciStore store;
  std::shared_ptr<const linux::CgroupLayout> layout;
  /// Fills `layout` once. create, run and exec do it once their binary is protected, which may mean a new start of it; everything else before.
  Status find_cgroups();
};

/// Each returns the exit code.
Result<int> oci_create(OciContext& context);
Result<int> oci_run(OciContext& context);
Result<int> oci_exec(OciContext& context);
Result<int> oci_start(OciContext& context);
Result<int> oci_state(OciContext& context);
Result<int> oci_kill(OciContext& context);
Result<int> oci_delete(OciContext& context);
Result<int> oci_list(OciContext& context);
Result<int> oci_ps(OciContext& context);
Result<int> oci_pause(OciContext& context);
Result<int> oci_resume(OciContext& context);
Result<int> oci_update(OciContext& context);
Result<int> oci_events(OciContext& context);
Result<int> oci_spec(OciContext& context);
Result<int> oci_features(OciContext& context);
Result<int> oci_mounts(OciContext& context);
Result<int> oci_checkpoint(OciContext& context);
Result<int> oci_restore(OciContext& context);

// --- what several commands share ----------------------------------------------------------------------------------

/// The state of the one container that the words name. Errors: invalid, not_found.
Result<OciState> oci_load(const OciContext& context);
/// Errors: unsupported when the container has none of its own.
Result<linux::Cgroup> oci_cgroup(const OciContext& context, const OciState& state);
/// Kills what is left of a container and takes away all that belongs to it.
/// `spec` is its configuration where the caller has it; null: read from its folder.
Status oci_destroy(OciContext& context, const OciState& state, const Spec* spec = nullptr);
/// As `delete`: refuses a running one without `force`; then kills, waits and destroys.
Status oci_delete_container(OciContext& context, const std::string& id, bool force);
Status oci_print(std::string_view text);
/// SIGTERM, TERM, term, 15, RTMIN+2 → number. Errors: invalid.
Result<int> parse_signal(std::string_view text);
/// The ids of --root that an extended regular expression matches (regex(7)). Errors: invalid.
Result<std::vector<std::string>> matching_ids(const OciStore& store, const std::string& expression);
/// A pidfd of the container's init. Errors: conflict ("container not running") when it is gone or its pid is another's now.
Result<UniqueFd> open_init(const OciState& state);

}  // namespace caisson::runtime
