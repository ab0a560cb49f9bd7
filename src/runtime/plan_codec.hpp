// The field lists of floor 1's cgroup structs, so that they travel inside a LaunchPlan (base/codec.hpp).
#pragma once

#include "base/codec.hpp"
#include "linux/cgroup.hpp"

namespace caisson::linux {

template <class C>
void visit(C& c, CgroupDevice& d) {
  c(d.major);
  c(d.minor);
  c(d.value);
}
template <class C>
void visit(C& c, CgroupDeviceRule& r) {
  c(r.allow);
  c(r.type);
  c(r.major);
  c(r.minor);
  c(r.access);
}
template <class C>
void visit(C& c, CgroupHugepages& h) {
  c(h.page_size);
  c(h.limit_bytes);
}
template <class C>
void visit(C& c, CgroupInterfacePriority& p) {
  c(p.interface);
  c(p.priority);
}
template <class C>
void visit(C& c, CgroupRdma& r) {
  c(r.device);
  c(r.handles);
  c(r.objects);
}
template <class C>
void visit(C& c, CgroupLimits& l) {
  c(l.memory_limit_bytes);
  c(l.memory_reservation_bytes);
  c(l.memory_swap_bytes);
  c(l.memory_swappiness);
  c(l.memory_disable_oom_killer);
  c(l.memory_check_before_update);
  c(l.cpu_shares);
  c(l.cpu_quota_us);
  c(l.cpu_period_us);
  c(l.cpu_burst_us);
  c(l.cpu_rt_runtime_us);
  c(l.cpu_rt_period_us);
  c(l.cpu_idle);
  c(l.cpuset_cpus);
  c(l.cpuset_mems);
  c(l.pids_limit);
  c(l.blkio_weight);
  c(l.blkio_weight_devices);
  c(l.blkio_read_bps);
  c(l.blkio_write_bps);
  c(l.blkio_read_iops);
  c(l.blkio_write_iops);
  c(l.hugepages);
  c(l.net_cls_classid);
  c(l.net_prio);
  c(l.rdma);
  c(l.unified);
  c(l.devices);
}

}  // namespace caisson::linux
