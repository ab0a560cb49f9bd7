// The OCI resources as writes to cgroup v1 files (Documentation/admin-guide/cgroup-v1).
#include "base/strings.hpp"
#include "linux/cgroup.hpp"
#include "linux/cgroup_plan.hpp"

namespace caisson::linux {

namespace detail {

Status plan_memory_v1(const CgroupLimits& limits, std::vector<CgroupWrite>& out) {
  const std::int64_t memory = limits.memory_limit_bytes.value_or(0);
  std::int64_t both = limits.memory_swap_bytes.value_or(0);
  if (memory < 0 && both == 0) both = -1;  // limit lifted, swap unsaid: lift both
  if (both > 0 && memory > 0 && both < memory)
    return Error(ErrorKind::invalid, concat("cgroup memory: memory plus swap (", both, ") is less than memory (", memory, ")"), EINVAL);
  if (memory != 0) out.push_back({.controller = "memory", .file = "memory.limit_in_bytes", .value = concat(memory)});
  // Missing on kernels without swap accounting, where lifting it means nothing.
  if (both != 0)
    out.push_back({.controller = "memory", .file = "memory.memsw.limit_in_bytes", .value = concat(both), .optional = both < 0});
  if (limits.memory_reservation_bytes.value_or(0) != 0)
    out.push_back({.controller = "memory", .file = "memory.soft_limit_in_bytes", .value = concat(*limits.memory_reservation_bytes)});
  if (limits.memory_swappiness)
    out.push_back({.controller = "memory", .file = "memory.swappiness", .value = concat(*limits.memory_swappiness)});
  if (limits.memory_disable_oom_killer)
    out.push_back({.controller = "memory", .file = "memory.oom_control", .value = *limits.memory_disable_oom_killer ? "1" : "0"});
  return {};
}

Status plan_cpu_v1(const CgroupLimits& limits, std::vector<CgroupWrite>& out) {
  auto add = [&](const char* file, const std::string& value) {
    out.push_back({.controller = "cpu", .file = file, .value = value});
  };
  if (limits.cpu_shares.value_or(0) != 0) add("cpu.shares", concat(*limits.cpu_shares));
  if (limits.cpu_period_us.value_or(0) != 0) add("cpu.cfs_period_us", concat(*limits.cpu_period_us));
  if (limits.cpu_quota_us.value_or(0) != 0) add("cpu.cfs_quota_us", concat(*limits.cpu_quota_us < 0 ? -1 : *limits.cpu_quota_us));
  if (limits.cpu_burst_us) add("cpu.cfs_burst_us", concat(*limits.cpu_burst_us));
  if (limits.cpu_rt_period_us.value_or(0) != 0) add("cpu.rt_period_us", concat(*limits.cpu_rt_period_us));
  if (limits.cpu_rt_runtime_us.value_or(0) != 0) add("cpu.rt_runtime_us", concat(*limits.cpu_rt_runtime_us));
  // After the shares: a group that is idle already refuses them.
  if (limits.cpu_idle) add("cpu.idle", concat(*limits.cpu_idle));
  return {};
}

Status plan_blkio_v1(const CgroupLimits& limits, std::vector<CgroupWrite>& out) {
  if (limits.blkio_weight.value_or(0) != 0) {
    const std::string weight = concat(*limits.blkio_weight);
    out.push_back({.controller = "blkio", .file = "blkio.weight", .value = weight, .else_file = "blkio.bfq.weight", .else_value = weight});
  }
  for (const CgroupDevice& device : limits.blkio_weight_devices) {
    const std::string line = concat(device.major, ':', device.minor, ' ', device.value);
    out.push_back({.controller = "blkio", .file = "blkio.weight_device", .value = line, .else_file = "blkio.bfq.weight_device", .else_value = line});
  }
  const std::pair<const std::vector<CgroupDevice>*, std::string_view> throttles[] = {
      {&limits.blkio_read_bps, "blkio.throttle.read_bps_device"},
      {&limits.blkio_write_bps, "blkio.throttle.write_bps_device"},
      {&limits.blkio_read_iops, "blkio.throttle.read_iops_device"},
      {&limits.blkio_write_iops, "blkio.throttle.write_iops_device"},
  };
  for (const auto& [devices, file] : throttles)
    for (const CgroupDevice& device : *devices)
      out.push_back({.controller = "blkio", .file = std::string(file), .value = concat(device.major, ':', device.minor, ' ', device.value)});
  return {};
}

Status plan_hugetlb_v1(const CgroupLimits& limits, std::vector<CgroupWrite>& out) {
  for (const CgroupHugepages& pages : limits.hugepages) {
    const std::string prefix = concat("hugetlb.", pages.page_size);
    out.push_back({.controller = "hugetlb", .file = prefix + ".limit_in_bytes", .value = concat(pages.limit_bytes)});
    out.push_back({.controller = "hugetlb", .file = prefix + ".rsvd.limit_in_bytes", .value = concat(pages.limit_bytes), .optional = true});
  }
  return {};
}

Status plan_net_cls_v1(const CgroupLimits& limits, std::vector<CgroupWrite>& out) {
  if (limits.net_cls_classid)
    out.push_back({.controller = "net_cls", .file = "net_cls.classid", .value = concat(*limits.net_cls_classid)});
  return {};
}

Status plan_net_prio_v1(const CgroupLimits& limits, std::vector<CgroupWrite>& out) {
  for (const CgroupInterfacePriority& item : limits.net_prio) {
    // The file's line is "NAME PRIORITY": a blank inside the name would make it another line.
    if (item.interface.empty() || item.interface.find_first_of(" \t\n") != std::string::npos)
      return Error(ErrorKind::invalid, concat("cgroup net_prio: \"", item.interface, "\" is not the name of a network interface"),
                   EINVAL);
    out.push_back({.controller = "net_prio", .file = "net_prio.ifpriomap", .value = concat(item.interface, ' ', item.priority)});
  }
  return {};
}

Status plan_devices_v1(const CgroupLimits& limits, std::vector<CgroupWrite>& out) {
  TRY_PLAIN(check_device_rules(limits.devices));
  for (const CgroupDeviceRule& rule : limits.devices) {
    std::string value = "a";  // the kernel takes type a for everything, whatever the numbers
    if (rule.type != 'a') {
      const std::string major = rule.major ? concat(*rule.major) : std::string("*");
      const std::string minor = rule.minor ? concat(*rule.minor) : std::string("*");
      value = concat(rule.type, ' ', major, ':', minor, ' ', rule.access.empty() ? "rwm" : rule.access);
    }
    out.push_back({.controller = "devices", .file = rule.allow ? "devices.allow" : "devices.deny", .value = value});
  }
  return {};
}

}  // namespace detail

Result<std::vector<CgroupWrite>> plan_v1_writes(const CgroupLimits& limits) {
  if (!limits.unified.empty())
    return Error(ErrorKind::unsupported, concat("cgroup: ", limits.unified.begin()->first, " needs cgroup v2, which this host does not mount"), EOPNOTSUPP);
  std::vector<CgroupWrite> out;
  TRY_PLAIN(detail::plan_devices_v1(limits, out));
  TRY_PLAIN(detail::plan_memory_v1(limits, out));
  TRY_PLAIN(detail::plan_cpu_v1(limits, out));
  TRY_PLAIN(detail::plan_cpuset(limits, out));
  TRY_PLAIN(detail::plan_pids(limits, out));
  TRY_PLAIN(detail::plan_blkio_v1(limits, out));
  TRY_PLAIN(detail::plan_hugetlb_v1(limits, out));
  TRY_PLAIN(detail::plan_net_cls_v1(limits, out));
  TRY_PLAIN(detail::plan_net_prio_v1(limits, out));
  TRY_PLAIN(detail::plan_rdma(limits, out));
  return out;
}

}  // namespace caisson::linux
