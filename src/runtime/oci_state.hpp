// What the OCI command line keeps about a container between its calls: one folder with state.json, config.json, exec.fifo.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/time.hpp"
#include "base/unique_fd.hpp"
#include "linux/cgroup.hpp"
#include "runtime/plan.hpp"
#include "runtime/seccomp_cache.hpp"
#include "runtime/spec.hpp"

namespace caisson::runtime {

/// A process by pid and start time: beyond reuse of the pid.
struct OciProcess {
  std::int32_t pid = 0;
  std::uint64_t start_time = 0;
  /// A zombie does not. Errors: the kernel was asked and gave no answer, so that it may live or not.
  [[nodiscard]] Result<bool> lives() const;
};

struct OciState {
  std::string id;
  /// Set from before anything is made until the container is created: whoever finds this record with a dead creator knows
  /// that nobody will finish it, and by `cgroup_path` where the rest of it is.
  std::optional<OciProcess> creator;
  std::int32_t pid = 0;
  std::uint64_t start_time = 0;
  std::string bundle;
  std::string rootfs;
  std::string cgroup_path;
  linux::CgroupLayout cgroup_layout;  ///< as it was when the container was made; without hierarchies: not known
  std::uint64_t exec_namespaces = 0;
  bool in_user_namespace = false;
  TimestampNs created = 0;
  std::uint32_t owner = 0;
  std::map<std::string, std::string> annotations;
  std::vector<std::string> resctrl_folders;  ///< to be removed with the container
};

enum class OciStatus : std::uint8_t { creating, created, running, paused, stopped };
std::string_view to_string(OciStatus status);

/// The state folder of all containers below --root.
class OciStore {
 public:
  explicit OciStore(std::string root) : root_(std::move(root)) {}

  /// "[A-Za-z0-9_+-][A-Za-z0-9_+.-]*". Errors: invalid.
  static Status check_id(std::string_view id);
  [[nodiscard]] std::string folder(std::string_view id) const { return concat(root_, "/", id); }
  [[nodiscard]] std::string fifo(std::string_view id) const { return concat(root_, "/", id, "/exec.fifo"); }

  /// Takes the id. Errors: conflict ("container with given ID already exists").
  Status reserve(const std::string& id) const;
  Status save(const OciState& state) const;
  /// The configuration as it was given, for later commands.
  Status save_config(const std::string& id, const std::string& config) const;
  /// Errors: not_found ("container does not exist").
  [[nodiscard]] Result<OciState> load(const std::string& id) const;
  /// The folder of that name is there, with or without a record.
  [[nodiscard]] bool has_folder(const std::string& id) const;
  /// Without linux.seccomp, which only exec has a use for: that uses load_config.
  [[nodiscard]] Result<Spec> load_spec(const std::string& id) const;
  [[nodiscard]] Result<ConfigWithFilter> load_config(const std::string& id) const;
  [[nodiscard]] SeccompCache filters() const { return SeccompCache(concat(root_, "/.cache/seccomp")); }
  void forget(const std::string& id) const;
  [[nodiscard]] Result<std::vector<std::string>> ids() const;

 private:
  std::string root_;
};

/// Pure: state.json as text, and back. Errors: invalid.
std::string write_oci_state(const OciState& state);
Result<OciState> read_oci_state(std::string_view text);

/// Asks the kernel, never a record: pid and start time together name the process; a zombie has stopped.
Result<OciStatus> status_of(const OciState& state, const OciStore& store, const std::shared_ptr<const linux::CgroupLayout>& layout);
/// The state object of the runtime specification.
json::object state_json(const OciState& state, OciStatus status);

/// Connects to who takes the listener of a seccomp filter; nothing when the process has none. Before the process exists: without a
/// receiver it must not run. Errors: unavailable, naming listenerPath.
Result<UniqueFd> connect_listener(const ProcessPolicy& policy);
/// Sends the listener (borrowed) of `pid`, a process of the container: one message, the container process state of the runtime
/// specification with the descriptor beside it.
Status send_listener(int socket, const ProcessPolicy& policy, const OciState& state, OciStatus status, pid_t pid, int listener);

enum class HookPlace : std::uint8_t { runtime_namespaces, container_namespaces };
/// Runs hooks in order with the state on their stdin. What they print is appended to the files that the annotations
/// run.oci.hooks.stdout and run.oci.hooks.stderr name, if they do. Errors: the first that fails, with its output's end.
Status run_hooks(const std::vector<Hook>& hooks, std::string_view name, const OciState& state, OciStatus status, HookPlace place);

}  // namespace caisson::runtime
