// What /proc tells about processes and the host: for top, stats and info.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "engine/types.hpp"

namespace caisson::engine {

/// One column of `top`: its title and the ps(1) keyword it stands for.
struct PsColumn {
  std::string title;
  std::string keyword;
};
/// "" and "-ef": the full format; "aux": the user format; "-o pid,ppid,args" with or without "-e", "ax", "-A". Errors: invalid, naming the
/// word that is not known.
Result<std::vector<PsColumn>> parse_ps_arguments(std::string_view arguments);

/// One row per process that still lives. Ids are the host's.
TopResult read_processes(std::span<const pid_t> pids, const std::vector<PsColumn>& columns);

/// Time of all CPUs together since boot, idle included (the "cpu" line of /proc/stat).
Result<std::uint64_t> read_system_cpu_ns();
/// Counters of the interfaces of that process's network namespace, without lo.
Result<std::map<std::string, InterfaceStats>> read_interface_stats(pid_t pid);
/// Pure: the text of /proc/PID/net/dev.
std::map<std::string, InterfaceStats> parse_net_dev(std::string_view text);

/// Whether /sys/fs/cgroup is one v2 hierarchy.
bool is_cgroup_v2();

struct OwnUsage {
  std::uint64_t open_fds = 0;
  std::uint64_t threads = 0;
};
OwnUsage read_own_usage();

}  // namespace caisson::engine
