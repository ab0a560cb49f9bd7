// The plans of single controllers, which hybrid hosts mix. Only for files of this module.
#pragma once

#include <vector>

#include "linux/cgroup.hpp"

namespace caisson::linux::detail {

using PlanController = Status (*)(const CgroupLimits&, std::vector<CgroupWrite>&);

Status plan_memory_v1(const CgroupLimits& limits, std::vector<CgroupWrite>& out);
Status plan_cpu_v1(const CgroupLimits& limits, std::vector<CgroupWrite>& out);
Status plan_blkio_v1(const CgroupLimits& limits, std::vector<CgroupWrite>& out);
Status plan_hugetlb_v1(const CgroupLimits& limits, std::vector<CgroupWrite>& out);
Status plan_net_cls_v1(const CgroupLimits& limits, std::vector<CgroupWrite>& out);
Status plan_net_prio_v1(const CgroupLimits& limits, std::vector<CgroupWrite>& out);
Status plan_devices_v1(const CgroupLimits& limits, std::vector<CgroupWrite>& out);

Status plan_memory_v2(const CgroupLimits& limits, std::vector<CgroupWrite>& out);
Status plan_cpu_v2(const CgroupLimits& limits, std::vector<CgroupWrite>& out);
Status plan_io_v2(const CgroupLimits& limits, std::vector<CgroupWrite>& out);
Status plan_hugetlb_v2(const CgroupLimits& limits, std::vector<CgroupWrite>& out);
/// Errors: unsupported when they are asked for.
Status plan_net_cls_v2(const CgroupLimits& limits, std::vector<CgroupWrite>& out);
Status plan_net_prio_v2(const CgroupLimits& limits, std::vector<CgroupWrite>& out);
Status plan_unified(const CgroupLimits& limits, std::vector<CgroupWrite>& out);

/// Alike on both.
Status plan_cpuset(const CgroupLimits& limits, std::vector<CgroupWrite>& out);
Status plan_pids(const CgroupLimits& limits, std::vector<CgroupWrite>& out);
Status plan_rdma(const CgroupLimits& limits, std::vector<CgroupWrite>& out);

/// Errors: invalid, naming the bad rule.
Status check_device_rules(const std::vector<CgroupDeviceRule>& rules);

}  // namespace caisson::linux::detail
