// Reading what a cgroup uses, in one form for v1 and v2.
#include <charconv>

#include "base/strings.hpp"
#include "linux/cgroup.hpp"
#include "linux/cgroup_files.hpp"
#include "linux/sysinfo.hpp"

namespace caisson::linux {

namespace {

using detail::read_cgroup_file;
using detail::read_cgroup_number;
using detail::read_cgroup_pairs;

std::uint64_t value_of(const std::map<std::string, std::uint64_t>& pairs, const std::string& key) {
  const auto found = pairs.find(key);
  return found == pairs.end() ? 0 : found->second;
}

double decimal(std::string_view text) {
  double value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

/// "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and "full …" (Documentation/accounting/psi.rst).
std::optional<CgroupPressure> read_pressure(const std::string& directory, std::string_view file) {
  const auto text = read_cgroup_file(directory, file);
  if (!text) return std::nullopt;
  CgroupPressure out;
  for (std::string_view line : split(*text, '\n')) {
    const auto words = split(line, ' ');
    if (words.size() < 5) continue;
    const bool some = words[0] == "some";
    for (std::string_view word : words) {
      const Halves pair = split_once(word, '=');
      if (pair.before == "avg10") (some ? out.some_avg10 : out.full_avg10) = decimal(pair.after);
      if (pair.before == "avg60") (some ? out.some_avg60 : out.full_avg60) = decimal(pair.after);
      if (pair.before == "avg300") (some ? out.some_avg300 : out.full_avg300) = decimal(pair.after);
      if (pair.before == "total")
        (some ? out.some_total_us : out.full_total_us) = parse_integer<std::uint64_t>(pair.after).value_or(0);
    }
  }
  return out;
}

CgroupIoStat& io_of(CgroupStats& out, std::int64_t major, std::int64_t minor) {
  for (CgroupIoStat& known : out.io)
    if (known.major == major && known.minor == minor) return known;
  CgroupIoStat fresh;
  fresh.major = major;
  fresh.minor = minor;
  return out.io.emplace_back(fresh);
}

/// v1: "254:0 Read 4096" lines; the "_recursive" files count the cgroups below too.
void read_v1_io(const std::string& directory, const char* file, bool bytes, CgroupStats& out) {
  const auto text = read_cgroup_file(directory, file);
  if (!text) return;
  for (std::string_view line : split(*text, '\n')) {
    const auto words = split(line, ' ');
    if (words.size() != 3) continue;
    const Halves device = split_once(words[0], ':');
    const auto major = parse_integer<std::int64_t>(device.before);
    const auto minor = parse_integer<std::int64_t>(device.after);
    const auto number = parse_integer<std::uint64_t>(words[2]);
    if (!major || !minor || !number) continue;
    CgroupIoStat& entry = io_of(out, *major, *minor);
    if (words[1] == "Read") (bytes ? entry.read_bytes : entry.reads) = *number;
    if (words[1] == "Write") (bytes ? entry.write_bytes : entry.writes) = *number;
  }
}

/// v2: "254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6" lines.
void read_v2_io(const std::string& directory, CgroupStats& out) {
  const auto text = read_cgroup_file(directory, "io.stat");
  if (!text) return;
  for (std::string_view line : split(*text, '\n')) {
    const auto words = split(line, ' ');
    const Halves device = split_once(words[0], ':');
    const auto major = parse_integer<std::int64_t>(device.before);
    const auto minor = parse_integer<std::int64_t>(device.after);
    if (!major || !minor) continue;
    CgroupIoStat& entry = io_of(out, *major, *minor);
    for (std::string_view word : words) {
      const Halves pair = split_once(word, '=');
      const std::uint64_t number = parse_integer<std::uint64_t>(pair.after).value_or(0);
      if (pair.before == "rbytes") entry.read_bytes = number;
      if (pair.before == "wbytes") entry.write_bytes = number;
      if (pair.before == "rios") entry.reads = number;
      if (pair.before == "wios") entry.writes = number;
    }
  }
}

void read_v1_cpuacct(const std::string& directory, CgroupStats& out) {
  out.cpu_usage_ns = read_cgroup_number(directory, "cpuacct.usage");
  const auto stat = read_cgroup_pairs(directory, "cpuacct.stat");
  const std::uint64_t tick_ns = 1'000'000'000 / clock_ticks_per_second();
  out.cpu_user_ns = value_of(stat, "user") * tick_ns;
  out.cpu_system_ns = value_of(stat, "system") * tick_ns;
  if (const auto each = read_cgroup_file(directory, "cpuacct.usage_percpu"))
    for (std::string_view word : split(trim(*each), ' '))
      if (const auto number = parse_integer<std::uint64_t>(word)) out.cpu_per_cpu_ns.push_back(*number);
}

void read_v1_cpu(const std::string& directory, CgroupStats& out) {
  const auto stat = read_cgroup_pairs(directory, "cpu.stat");
  out.cpu_periods = value_of(stat, "nr_periods");
  out.cpu_throttled_periods = value_of(stat, "nr_throttled");
  out.cpu_throttled_ns = value_of(stat, "throttled_time");
}

void read_v2_cpu(const std::string& directory, bool usage, bool throttling, CgroupStats& out) {
  const auto stat = read_cgroup_pairs(directory, "cpu.stat");
  if (usage) {
    out.cpu_usage_ns = value_of(stat, "usage_usec") * 1000;
    out.cpu_user_ns = value_of(stat, "user_usec") * 1000;
    out.cpu_system_ns = value_of(stat, "system_usec") * 1000;
  }
  if (throttling) {
    out.cpu_periods = value_of(stat, "nr_periods");
    out.cpu_throttled_periods = value_of(stat, "nr_throttled");
    out.cpu_throttled_ns = value_of(stat, "throttled_usec") * 1000;
  }
}

void read_v1_memory(const std::string& directory, CgroupStats& out) {
  out.memory_usage_bytes = read_cgroup_number(directory, "memory.usage_in_bytes");
  out.memory_peak_bytes = read_cgroup_number(directory, "memory.max_usage_in_bytes");
  // v1 says "unlimited" as the largest multiple of a page that fits a signed number.
  const auto limit = [&](std::string_view file) {
    const std::uint64_t number = read_cgroup_number(directory, file);
    return number >= static_cast<std::uint64_t>(INT64_MAX) / 4096 * 4096 - 65536 ? UINT64_MAX : number;
  };
  out.memory_limit_bytes = limit("memory.limit_in_bytes");
  out.memory_failures = read_cgroup_number(directory, "memory.failcnt");
  const std::uint64_t both = read_cgroup_number(directory, "memory.memsw.usage_in_bytes");
  out.swap_usage_bytes = both > out.memory_usage_bytes ? both - out.memory_usage_bytes : 0;
  const std::uint64_t both_limit = limit("memory.memsw.limit_in_bytes");
  out.swap_limit_bytes = both_limit == UINT64_MAX || out.memory_limit_bytes == UINT64_MAX ? UINT64_MAX
                         : both_limit > out.memory_limit_bytes                            ? both_limit - out.memory_limit_bytes
                                                                                          : 0;
  out.memory_stat = read_cgroup_pairs(directory, "memory.stat");
  out.oom_kills = value_of(read_cgroup_pairs(directory, "memory.oom_control"), "oom_kill");
}

void read_v2_memory(const std::string& directory, CgroupStats& out) {
  out.memory_usage_bytes = read_cgroup_number(directory, "memory.current");
  out.memory_peak_bytes = read_cgroup_number(directory, "memory.peak");
  out.memory_limit_bytes = read_cgroup_number(directory, "memory.max");
  out.swap_usage_bytes = read_cgroup_number(directory, "memory.swap.current");
  out.swap_limit_bytes = read_cgroup_number(directory, "memory.swap.max");
  out.memory_stat = read_cgroup_pairs(directory, "memory.stat");
  const auto events = read_cgroup_pairs(directory, "memory.events");
  out.memory_failures = value_of(events, "max");
  out.oom_kills = value_of(events, "oom_kill");
}

}  // namespace

Result<CgroupStats> Cgroup::stats() const {
  if (!exists()) return Error(ErrorKind::not_found, concat("cgroup ", path_, " does not exist"), ESRCH);
  CgroupStats out;
  const std::string* v2 = v2_directory();
  const std::string* cpuacct = v1_directory("cpuacct");
  const std::string* cpu = v1_directory("cpu");
  if (cpuacct != nullptr) read_v1_cpuacct(*cpuacct, out);
  if (cpu != nullptr) read_v1_cpu(*cpu, out);
  if (v2 != nullptr) read_v2_cpu(*v2, cpuacct == nullptr, cpu == nullptr, out);
  if (const std::string* memory = v1_directory("memory"); memory != nullptr) read_v1_memory(*memory, out);
  else if (v2 != nullptr) read_v2_memory(*v2, out);
  const std::string* pids = v1_directory("pids") != nullptr ? v1_directory("pids") : v2;
  if (pids != nullptr) {
    out.pids_current = read_cgroup_number(*pids, "pids.current");
    out.pids_limit = read_cgroup_number(*pids, "pids.max");
  }
  if (const std::string* blkio = v1_directory("blkio"); blkio != nullptr) {
    read_v1_io(*blkio, "blkio.throttle.io_service_bytes_recursive", true, out);
    read_v1_io(*blkio, "blkio.throttle.io_serviced_recursive", false, out);
  } else if (v2 != nullptr) {
    read_v2_io(*v2, out);
  }
  if (v2 != nullptr) {
    out.cpu_pressure = read_pressure(*v2, "cpu.pressure");
    out.memory_pressure = read_pressure(*v2, "memory.pressure");
    out.io_pressure = read_pressure(*v2, "io.pressure");
  }
  return out;
}

}  // namespace caisson::linux
