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

struct OciState {
  std::string id;
  std::int32_t pid = 0;
  std::uint64_t start_time = 0;
  std::string bundle;
  std::string rootfs;
  std::string cgroup_path;
  std::uint64_t exec_namespaces = 0;
  bool in_user_namespace = false;
  TimestampNs created = 0;
  std::uint32_t owner = 0;
  std::map<std::string, std::string> annotations;
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
  Status save(const OciState& state, const std::string& config) const;
  /// Errors: not_found ("container does not exist").
  [[nodiscard]] Result<OciState> load(const std::string& id) const;
  /// Without linux.seccomp, which only exec has a use for: that uses load_config.
  [[nodiscard]] Result<Spec> load_spec(const std::string& id) const;
  [[nodiscard]] Result<ConfigWithFilter> load_config(const std::string& id) const;
  [[nodiscard]] SeccompCache filters() const { return SeccompCache(concat(root_, "/.cache/seccomp")); }
  void forget(const std::string& id) const;
  [[nodiscard]] Result<std::vector<std::string>> ids() const;

 private:
  std::string root_;
};

/// Asks the kernel, never a record: pid and start time together name the process; a zombie has stopped.
OciStatus status_of(const OciState& state, const OciStore& store, const std::shared_ptr<const linux::CgroupLayout>& layout);
/// The state object of the runtime specification.
json::object state_json(const OciState& state, OciStatus status);

enum class HookPlace : std::uint8_t { runtime_namespaces, container_namespaces };
/// Runs hooks in order with the state on their stdin. Errors: the first that fails, with its output's end.
Status run_hooks(const std::vector<Hook>& hooks, std::string_view name, const OciState& state, OciStatus status, HookPlace place);

}  // namespace caisson::runtime
