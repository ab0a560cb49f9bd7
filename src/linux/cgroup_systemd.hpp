// systemd's part of a cgroup: the scope that systemd makes, limits as its properties. Only for files of this module.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/cgroup.hpp"
#include "linux/dbus_message.hpp"

namespace caisson::linux::detail {

/// What a path "systemd:/…" means.
struct SystemdUnit {
  std::string name;   ///< "caisson-web.scope"
  std::string slice;  ///< "system.slice"
  std::string path;   ///< of the cgroup below the mount points, with what follows the unit
  std::string unit_path;
  bool of_user = false;  ///< a unit of the user's own manager
  std::string manager;   ///< of_user: the cgroup below which that manager may move processes, "/user.slice/user-1.slice/user@1.service"
  [[nodiscard]] bool is_slice() const { return name.ends_with(".slice"); }
};
/// Pure. Nothing for a path of the cgroupfs driver. Errors: invalid.
Result<std::optional<SystemdUnit>> parse_systemd_path(std::string_view path);

struct SystemdProperty {
  std::string name;
  DbusValue value;
  bool operator==(const SystemdProperty&) const = default;
};
/// Pure: the limits that systemd knows, in its words (systemd.resource-control(5)); what it does not know is left to the files.
std::vector<SystemdProperty> plan_systemd_limits(const CgroupLimits& limits, CgroupMode mode);
/// Pure: properties in GVariant text form. "FooSec" in seconds becomes the bus's "FooUSec". Errors: invalid.
Result<std::vector<SystemdProperty>> parse_systemd_properties(const std::map<std::string, std::string>& texts);

/// A process whose only task is to keep a scope from being empty, which would end it, until the container is in it.
class ScopeHolder {
 public:
  static Result<std::unique_ptr<ScopeHolder>> create();
  ScopeHolder(const ScopeHolder&) = delete;
  ScopeHolder& operator=(const ScopeHolder&) = delete;
  ~ScopeHolder();
  [[nodiscard]] int pid() const { return pid_; }

 private:
  ScopeHolder(int pid, UniqueFd pidfd, UniqueFd lifeline) : pid_(pid), pidfd_(std::move(pidfd)), lifeline_(std::move(lifeline)) {}
  int pid_;
  UniqueFd pidfd_;
  UniqueFd lifeline_;  ///< its end of file tells the holder that we are gone
};

/// Starts the unit with the process `pid` inside (0: none, for a slice) and waits until systemd has made it. Errors: conflict (a unit of
/// that name exists), unavailable (no systemd answers), denied, invalid (a property).
Status start_systemd_unit(const SystemdUnit& unit, int pid, std::vector<SystemdProperty> properties);
/// An ordinary user moves processes only between cgroups whose common ancestor is the user's (cgroups(7), "Delegation containment"), and a
/// login's session is not in the user manager's tree. Where we stand outside of it, systemd takes us into a scope beside `unit`, as
/// podman has it done; it ends with us.
Status come_near(const SystemdUnit& unit);
/// Errors: not_found, invalid.
Status set_systemd_properties(const SystemdUnit& unit, std::vector<SystemdProperty> properties);
/// Stops it, which ends what runs in it, and forgets a failure. A unit that is gone is fine.
Status stop_systemd_unit(const SystemdUnit& unit);

}  // namespace caisson::linux::detail
