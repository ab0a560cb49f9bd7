// The commands of the OCI command line, one function each.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/oci_state.hpp"

namespace caisson::runtime {

struct OciGlobals {
  std::string root;
  std::string log_path;
  bool log_json = false;
  bool debug = false;
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
};

/// What every command works with.
struct OciContext {
  OciGlobals globals;
  OciArguments arguments;
  OciStore store;
  std::shared_ptr<const linux::CgroupLayout> layout;
  /// Fills `layout` once. create, run and exec do it after they have re-executed themselves, everything else before.
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
Result<int> oci_spec(OciContext& context);
Result<int> oci_features(OciContext& context);

/// Kills what is left of a container and takes away all that belongs to it. `spec` is its configuration where the caller has it;
/// null: read from its folder.
Status oci_destroy(OciContext& context, const OciState& state, const Spec* spec = nullptr);
Status oci_print(std::string_view text);
/// SIGTERM, TERM, 15 → 15. Errors: invalid.
Result<int> parse_signal(std::string_view text);

}  // namespace caisson::runtime
