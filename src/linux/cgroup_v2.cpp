// The OCI resources, which think in v1 values, as writes to cgroup v2 files (Documentation/admin-guide/cgroup-v2.rst).
#include <cmath>

#include "base/strings.hpp"
#include "linux/cgroup.hpp"
#include "linux/cgroup_plan.hpp"

namespace caisson::linux {

std::uint64_t cpu_weight_of_shares(std::uint64_t shares) {
  if (shares == 0) return 0;
  if (shares <= 2) return 1;
  if (shares >= 262144) return 10000;
  const double l = std::log2(static_cast<double>(shares));
  const double exponent = (l * l + 125 * l) / 612.0 - 7.0 / 34.0;
  // 1024 gives 100 exactly on paper; the small subtraction keeps rounding errors from making it 101.
  return static_cast<std::uint64_t>(std::ceil(std::pow(10, exponent) - 1e-9));
}

std::uint64_t io_weight_of_blkio(std::uint64_t weight) {
  if (weight == 0) return 0;
  if (weight <= 10) return 1;
  return 1 + (weight - 10) * 9999 / 990;
}

namespace detail {

namespace {

std::string max_or(std::int64_t value) { return value < 0 ? std::string("max") : concat(value); }

/// memory.swap.max counts swap alone; v1 and OCI give memory plus swap. Nothing: leave alone.
Result<std::optional<std::string>> swap_alone(const CgroupLimits& limits) {
  const std::int64_t memory = limits.memory_limit_bytes.value_or(0);
  const std::int64_t both = limits.memory_swap_bytes.value_or(0);
  std::optional<std::string> none;
  if (both == 0) return memory < 0 ? std::optional<std::string>("max") : none;  // limit lifted, swap unsaid: lift both
  if (both < 0) return std::optional<std::string>("max");
  if (memory == 0) return Error(ErrorKind::invalid, "cgroup memory: a limit of memory plus swap needs a memory limit", EINVAL);
  if (memory < 0) return Error(ErrorKind::invalid, "cgroup memory: a limit of memory plus swap needs a finite memory limit", EINVAL);
  if (both < memory)
    return Error(ErrorKind::invalid, concat("cgroup memory: memory plus swap (", both, ") is less than memory (", memory, ")"), EINVAL);
  return std::optional<std::string>(concat(both - memory));
}

}  // namespace

Status plan_memory_v2(const CgroupLimits& limits, std::vector<CgroupWrite>& out) {
  if (limits.memory_swappiness)
    return Error(ErrorKind::unsupported, "cgroup memory: swappiness has no counterpart on cgroup v2", EOPNOTSUPP);
  if (limits.memory_disable_oom_killer.value_or(false))
    return Error(ErrorKind::unsupported, "cgroup memory: the OOM killer cannot be disabled on cgroup v2", EOPNOTSUPP);
  const auto swap = TRY_PLAIN(swap_alone(limits));
  // A kernel without swap has no swap file to write; "max" means nothing then and may be missing.
  if (swap) out.push_back({.controller = "memory", .file = "memory.swap.max", .value = *swap, .optional = *swap == "max" || *swap == "0"});
  if (limits.memory_limit_bytes.value_or(0) != 0)
    out.push_back({.controller = "memory", .file = "memory.max", .value = max_or(*limits.memory_limit_bytes)});
  if (limits.memory_reservation_bytes.value_or(0) != 0)
    out.push_back({.controller = "memory", .file = "memory.low", .value = max_or(*limits.memory_reservation_bytes)});
  return {};
}

Status plan_cpu_v2(const CgroupLimits& limits, std::vector<CgroupWrite>& out) {
  if (limits.cpu_rt_runtime_us.value_or(0) != 0 || limits.cpu_rt_period_us.value_or(0) != 0)
    return Error(ErrorKind::unsupported, "cgroup cpu: realtime limits have no counterpart on cgroup v2", EOPNOTSUPP);
  if (limits.cpu_shares.value_or(0) != 0)
    out.push_back({.controller = "cpu", .file = "cpu.weight", .value = concat(cpu_weight_of_shares(*limits.cpu_shares))});
  if (limits.cpu_quota_us.value_or(0) != 0 || limits.cpu_period_us.value_or(0) != 0) {
    const std::int64_t quota = limits.cpu_quota_us.value_or(-1);
    std::string value = quota <= 0 ? std::string("max") : concat(quota);
    if (limits.cpu_period_us.value_or(0) != 0) value += concat(' ', *limits.cpu_period_us);
    out.push_back({.controller = "cpu", .file = "cpu.max", .value = value});
  }
  if (limits.cpu_burst_us) out.push_back({.controller = "cpu", .file = "cpu.max.burst", .value = concat(*limits.cpu_burst_us)});
  // After the weight: a group that is idle already refuses one.
  if (limits.cpu_idle) out.push_back({.controller = "cpu", .file = "cpu.idle", .value = concat(*limits.cpu_idle)});
  return {};
}

Status plan_cpuset(const CgroupLimits& limits, std::vector<CgroupWrite>& out) {
  if (!limits.cpuset_cpus.empty()) out.push_back({.controller = "cpuset", .file = "cpuset.cpus", .value = limits.cpuset_cpus});
  if (!limits.cpuset_mems.empty()) out.push_back({.controller = "cpuset", .file = "cpuset.mems", .value = limits.cpuset_mems});
  return {};
}

Status plan_pids(const CgroupLimits& limits, std::vector<CgroupWrite>& out) {
  if (limits.pids_limit) out.push_back({.controller = "pids", .file = "pids.max", .value = max_or(*limits.pids_limit)});
  return {};
}

Status plan_rdma(const CgroupLimits& limits, std::vector<CgroupWrite>& out) {
  for (const CgroupRdma& item : limits.rdma) {
    if (item.device.empty() || item.device.find_first_of(" \t\n") != std::string::npos)
      return Error(ErrorKind::invalid, concat("cgroup rdma: \"", item.device, "\" is not the name of a device"), EINVAL);
    std::string line = item.device;
    if (item.handles) line += concat(" hca_handle=", *item.handles);
    if (item.objects) line += concat(" hca_object=", *item.objects);
    if (line != item.device) out.push_back({.controller = "rdma", .file = "rdma.max", .value = line});
  }
  return {};
}

Status plan_net_cls_v2(const CgroupLimits& limits, std::vector<CgroupWrite>&) {
  if (!limits.net_cls_classid) return {};
  return Error(ErrorKind::unsupported, "cgroup net_cls: class ids need the net_cls controller of cgroup v1", EOPNOTSUPP);
}

Status plan_net_prio_v2(const CgroupLimits& limits, std::vector<CgroupWrite>&) {
  if (limits.net_prio.empty()) return {};
  return Error(ErrorKind::unsupported, "cgroup net_prio: priorities of interfaces need the net_prio controller of cgroup v1",
               EOPNOTSUPP);
}

Status plan_io_v2(const CgroupLimits& limits, std::vector<CgroupWrite>& out) {
  // BFQ reads v1's numbers; io.cost and the rest of v2 have a range of their own.
  if (limits.blkio_weight.value_or(0) != 0)
    out.push_back({.controller = "io", .file = "io.bfq.weight", .value = concat(*limits.blkio_weight),
                   .else_file = "io.weight", .else_value = concat("default ", io_weight_of_blkio(*limits.blkio_weight))});
  for (const CgroupDevice& device : limits.blkio_weight_devices) {
    const std::string name = concat(device.major, ':', device.minor, ' ');
    out.push_back({.controller = "io", .file = "io.bfq.weight", .value = concat(name, device.value),
                   .else_file = "io.weight", .else_value = concat(name, io_weight_of_blkio(device.value))});
  }
  const std::pair<const std::vector<CgroupDevice>*, std::string_view> throttles[] = {
      {&limits.blkio_read_bps, "rbps="},
      {&limits.blkio_write_bps, "wbps="},
      {&limits.blkio_read_iops, "riops="},
      {&limits.blkio_write_iops, "wiops="},
  };
  for (const auto& [devices, key] : throttles)
    for (const CgroupDevice& device : *devices) {
      const std::string rate = device.value == 0 ? std::string("max") : concat(device.value);
      out.push_back({.controller = "io", .file = "io.max", .value = concat(device.major, ':', device.minor, ' ', key, rate)});
    }
  return {};
}

Status plan_hugetlb_v2(const CgroupLimits& limits, std::vector<CgroupWrite>& out) {
  for (const CgroupHugepages& pages : limits.hugepages) {
    const std::string prefix = concat("hugetlb.", pages.page_size);
    out.push_back({.controller = "hugetlb", .file = prefix + ".max", .value = concat(pages.limit_bytes)});
    out.push_back({.controller = "hugetlb", .file = prefix + ".rsvd.max", .value = concat(pages.limit_bytes), .optional = true});
  }
  return {};
}

Status plan_unified(const CgroupLimits& limits, std::vector<CgroupWrite>& out) {
  for (const auto& [file, value] : limits.unified) {
    if (file.empty() || file.find('/') != std::string::npos || file.find('\0') != std::string::npos || file.find('.') == std::string::npos)
      return Error(ErrorKind::invalid, concat("cgroup: \"", file, "\" is not the name of a cgroup file"), EINVAL);
    out.push_back({.controller = std::string(split_once(file, '.').before), .file = file, .value = value});
  }
  return {};
}

}  // namespace detail

Result<std::vector<CgroupWrite>> plan_v2_writes(const CgroupLimits& limits) {
  std::vector<CgroupWrite> out;
  TRY_PLAIN(detail::plan_memory_v2(limits, out));
  TRY_PLAIN(detail::plan_cpu_v2(limits, out));
  TRY_PLAIN(detail::plan_cpuset(limits, out));
  TRY_PLAIN(detail::plan_pids(limits, out));
  TRY_PLAIN(detail::plan_io_v2(limits, out));
  TRY_PLAIN(detail::plan_hugetlb_v2(limits, out));
  TRY_PLAIN(detail::plan_net_cls_v2(limits, out));
  TRY_PLAIN(detail::plan_net_prio_v2(limits, out));
  TRY_PLAIN(detail::plan_rdma(limits, out));
  TRY_PLAIN(detail::plan_unified(limits, out));
  return out;
}

}  // namespace caisson::linux
