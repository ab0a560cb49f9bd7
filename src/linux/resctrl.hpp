// resctrl: groups of processes with a share of caches and memory bandwidth (Documentation/filesystems/resctrl.rst).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace caisson::linux {

/// Where resctrl is mounted. Errors: unsupported when it is not (or the processor has none).
Result<std::string> find_resctrl();

/// Whether every domain that `wanted` ("L3:0=ff;1=f") names has that value among the lines of a schemata file. Numbers are compared as
/// numbers: the kernel pads them. Pure. Errors: invalid when `wanted` is not RESOURCE:DOMAIN=VALUE;….
Result<bool> schemata_match(std::string_view present, std::string_view wanted);

struct ResctrlRequest {
  std::string root;                   ///< of the file system
  std::string group;                  ///< a folder's name, or "/" for the default group
  std::vector<std::string> schemata;  ///< one write each, in order; empty: leave alone
  std::string monitor;                ///< name of a monitoring group inside; empty: none
};

/// A group a container lives in. It outlives the object; only what was made here is removed.
class ResctrlGroup {
 public:
  /// Makes the group, or takes one that is there, whose schemata must then be what is asked for.
  /// Errors: conflict (there with other schemata, naming both), invalid (the kernel refused a line, with its own words), unsupported.
  /// On failure nothing is left.
  static Result<ResctrlGroup> create(const ResctrlRequest& request);
  /// New schemata for the group that `request` names; its monitor is left alone. Errors: invalid (as create), not_found.
  static Status change(const ResctrlRequest& request);
  /// Moves a process into it, before it has threads.
  Status add(int pid) const;
  /// Folders to remove when the container is gone, innermost first.
  [[nodiscard]] const std::vector<std::string>& made() const { return made_; }
  /// Removes folders that made() named; those that are gone are fine. The kernel moves their processes to the default group.
  static Status remove(const std::vector<std::string>& folders);

 private:
  std::string folder_;
  std::string monitor_;
  std::vector<std::string> made_;
};

}  // namespace caisson::linux
