// Facts about this machine, read from the kernel.
#include "linux/sysinfo.hpp"

#include <sys/random.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

using detail::status;
using detail::value;

Result<SystemName> uname() {
  struct ::utsname native {};
  TRY_PLAIN(status("uname", [&] { return ::uname(&native); }));
  SystemName out;
  out.sysname = native.sysname;
  out.nodename = native.nodename;
  out.release = native.release;
  out.version = native.version;
  out.machine = native.machine;
  out.domainname = native.domainname;
  return out;
}
int cpu_count() {
  const auto cpus = sched_getaffinity(0);
  return cpus && !cpus->empty() ? static_cast<int>(cpus->size()) : 1;
}
Result<std::uint64_t> total_memory_bytes() {
  struct ::sysinfo native {};
  TRY_PLAIN(status("sysinfo", [&] { return ::sysinfo(&native); }));
  return std::uint64_t{native.totalram} * native.mem_unit;
}
Result<std::string> boot_id() {
  const std::string text = TRY_PLAIN(read_file("/proc/sys/kernel/random/boot_id"));
  return std::string(trim(text));
}
Status random_bytes(std::span<char> out) {
  while (!out.empty()) {
    const auto got = TRY_PLAIN(value<std::size_t>("getrandom", [&] { return ::getrandom(out.data(), out.size(), 0); }));
    out = out.subspan(got);
  }
  return {};
}
std::uint64_t page_size_bytes() { return static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)); }
std::uint64_t clock_ticks_per_second() { return static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK)); }

}  // namespace caisson::linux
