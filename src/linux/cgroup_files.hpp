// Reading and writing cgroup files with errors that name controller, file and value. Only for files of this module.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "linux/cgroup.hpp"

namespace caisson::linux::detail {

/// "memory controller is not available": never the words of ENOENT, from which callers would take exit code 127.
Error missing_controller(std::string_view controller);
Error missing_file(std::string_view controller, std::string_view file);

/// One write. Errors: unsupported (no such file: errno EOPNOTSUPP), denied, conflict (EBUSY), invalid.
Status write_cgroup_file(int dir_fd, std::string_view controller, const std::string& file, std::string_view value);

/// The text of DIRECTORY/FILE; nothing when there is no such file or it cannot be read now (ENODEV, EOPNOTSUPP).
std::optional<std::string> read_cgroup_file(const std::string& directory, std::string_view file);
/// The same for a file of one line, in three system calls: these are read at every start.
std::optional<std::string> read_cgroup_line(const std::string& directory, std::string_view file);
/// A number; "max" is UINT64_MAX; 0 when it is missing.
std::uint64_t read_cgroup_number(const std::string& directory, std::string_view file);
/// "key number" lines.
std::map<std::string, std::uint64_t> read_cgroup_pairs(const std::string& directory, std::string_view file);

/// Pids of the directory, and of those below it.
Result<std::vector<int>> read_cgroup_pids(const std::string& directory, bool recursive);
/// The directories directly below.
Result<std::vector<std::string>> child_cgroups(const std::string& directory);

}  // namespace caisson::linux::detail
