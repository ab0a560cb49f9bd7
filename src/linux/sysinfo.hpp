// Facts about this machine and boot.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.hpp"

namespace caisson::linux {

struct SystemName {
  std::string sysname;
  std::string nodename;
  std::string release;
  std::string version;
  std::string machine;  ///< "x86_64"
  std::string domainname;
};
Result<SystemName> uname();
/// CPUs this process may use (sched_getaffinity), at least 1.
int cpu_count();
Result<std::uint64_t> total_memory_bytes();
/// 36 characters that change with every boot: records of an older boot describe processes that are gone.
Result<std::string> boot_id();
/// Fills with bytes of the kernel's generator; blocks only before it is seeded.
Status random_bytes(std::span<char> out);
std::uint64_t page_size_bytes();
/// Clock ticks per second of /proc/PID/stat.
std::uint64_t clock_ticks_per_second();

}  // namespace caisson::linux
