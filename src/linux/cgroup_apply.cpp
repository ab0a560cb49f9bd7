// Applying limits: each controller's plan goes to the hierarchy that has it, v1 or v2.
#include <algorithm>

#include "base/strings.hpp"
#include "linux/cgroup.hpp"
#include "linux/cgroup_files.hpp"
#include "linux/cgroup_plan.hpp"
#include "linux/cgroup_systemd.hpp"
#include "linux/file.hpp"

namespace caisson::linux {

namespace {

using detail::PlanController;

struct ControllerPlans {
  std::string_view v1_name;
  std::string_view v2_name;
  PlanController v1;
  PlanController v2;
};
constexpr ControllerPlans controllers[] = {
    {"memory", "memory", detail::plan_memory_v1, detail::plan_memory_v2},
    {"cpu", "cpu", detail::plan_cpu_v1, detail::plan_cpu_v2},
    {"cpuset", "cpuset", detail::plan_cpuset, detail::plan_cpuset},
    {"pids", "pids", detail::plan_pids, detail::plan_pids},
    {"blkio", "io", detail::plan_blkio_v1, detail::plan_io_v2},
    {"hugetlb", "hugetlb", detail::plan_hugetlb_v1, detail::plan_hugetlb_v2},
    {"net_cls", "net_cls", detail::plan_net_cls_v1, detail::plan_net_cls_v2},
    {"net_prio", "net_prio", detail::plan_net_prio_v1, detail::plan_net_prio_v2},
    {"rdma", "rdma", detail::plan_rdma, detail::plan_rdma},
};

Status write_one(int dir_fd, const CgroupWrite& item) {
  auto done = detail::write_cgroup_file(dir_fd, item.controller, item.file, item.value);
  if (done || done.error().error_number() != EOPNOTSUPP) return done;
  if (!item.else_file.empty()) return detail::write_cgroup_file(dir_fd, item.controller, item.else_file, item.else_value);
  if (item.optional) return {};
  return done;
}

/// The kernel's EBUSY for a v1 memory limit says little; this says what is in the way.
Error explain(Error error, const std::string& directory, const CgroupWrite& item) {
  if (error.error_number() != EBUSY || item.controller != "memory") return error;
  const std::uint64_t usage = detail::read_cgroup_number(directory, "memory.usage_in_bytes");
  return Error(ErrorKind::conflict,
               concat("cgroup memory: the limit of ", item.value, " bytes is below what is in use and cannot be freed (", usage,
                      " bytes): Device or resource busy"),
               EBUSY);
}

/// Writes in order. Values that check each other (memory and memory plus swap, quota and period and burst) may be refused
/// with EINVAL only because of the order, which depends on the old values: what was refused is tried once more at the end.
/// So limits both rise and fall without reading the old ones first.
Status write_all_of(const std::string& directory, const std::vector<CgroupWrite>& writes) {
  if (writes.empty()) return {};
  // A single write needs no descriptor of the directory; what is missing is looked into below.
  if (writes.size() == 1 && writes[0].else_file.empty()) {
    const auto done = write_kernel_file(concat(directory, '/', writes[0].file), writes[0].value);
    if (done) return {};
  }
  auto opened = open(directory, O_PATH | O_DIRECTORY);
  if (!opened) {
    if (opened.error().error_number() != ENOENT) return std::move(opened).error().in("cgroup");
    return Error(ErrorKind::not_found, concat("cgroup ", directory, " does not exist"), ESRCH);
  }
  const int dir_fd = opened->get();
  std::vector<const CgroupWrite*> refused;
  for (const CgroupWrite& item : writes) {
    auto done = write_one(dir_fd, item);
    if (done) continue;
    if (done.error().error_number() == EINVAL && writes.size() > 1) refused.push_back(&item);
    else return explain(std::move(done).error(), directory, item);
  }
  for (const CgroupWrite* item : refused) {
    auto done = write_one(dir_fd, *item);
    if (!done) return explain(std::move(done).error(), directory, *item);
  }
  return {};
}

Status check_usage(const std::string& directory, bool is_v2, const CgroupLimits& limits) {
  if (!limits.memory_check_before_update || limits.memory_limit_bytes.value_or(0) <= 0) return {};
  const std::uint64_t usage = detail::read_cgroup_number(directory, is_v2 ? "memory.current" : "memory.usage_in_bytes");
  if (usage <= static_cast<std::uint64_t>(*limits.memory_limit_bytes)) return {};
  return Error(
      ErrorKind::conflict,
      concat("cgroup memory: the limit of ", *limits.memory_limit_bytes, " bytes is below the present usage of ", usage, " bytes"),
      EBUSY);
}

/// With RT_GROUP_SCHED a group gets realtime only as far as its parents have it, and new groups begin with none
/// (Documentation/scheduler/sched-rt-group.rst). Parents are raised from the top down, never lowered.
Status raise_realtime(const CgroupHierarchy& hierarchy, const std::string& directory, const CgroupLimits& limits) {
  const std::int64_t wanted_us = limits.cpu_rt_runtime_us.value_or(0);
  if (wanted_us <= 0) return {};
  for (std::size_t at = directory.find('/', hierarchy.mount_point.size() + 1); at != std::string::npos;
       at = directory.find('/', at + 1)) {
    const std::string parent = directory.substr(0, at);
    const auto has = detail::read_cgroup_line(parent, "cpu.rt_runtime_us");
    if (!has) return {};  // no such thing on this kernel: the write of the group itself will say so
    if (parse_integer<std::int64_t>(*has).value_or(0) >= wanted_us) continue;
    if (limits.cpu_rt_period_us.value_or(0) != 0)
      TRY(write_kernel_file(parent + "/cpu.rt_period_us", concat(*limits.cpu_rt_period_us)),
          concat("cgroup cpu: realtime period of ", parent));
    TRY(write_kernel_file(parent + "/cpu.rt_runtime_us", concat(wanted_us)), concat("cgroup cpu: realtime of ", parent));
  }
  return {};
}

}  // namespace

Status Cgroup::offers_v2(std::string_view controller) const {
  const CgroupHierarchy* hierarchy = layout_->find(controller);
  if (hierarchy == nullptr) return detail::missing_controller(controller);
  const auto enabled = detail::read_cgroup_file(*v2_directory(), "cgroup.controllers");
  if (!enabled) return Error(ErrorKind::not_found, concat("cgroup ", *v2_directory(), " does not exist"), ESRCH);
  for (std::string_view name : split(trim(*enabled), ' '))
    if (name == controller) return {};
  return detail::missing_controller(controller).with_hint("the controller is not delegated to this cgroup");
}

Status Cgroup::apply(const CgroupLimits& limits) {
  TRY_PLAIN(apply_unit(limits));
  if (!holder_ || !limits.pids_limit || *limits.pids_limit < 0) return apply_files(limits);
  // The holder counts as well, and a limit of 1 would then keep the container itself out; settle() writes the true one.
  CgroupLimits with_holder = limits;
  with_holder.pids_limit = *limits.pids_limit + 1;
  pids_after_settling_ = *limits.pids_limit;
  return apply_files(with_holder);
}

/// A unit that was started with these limits knows them; later ones it is told, or it would write the old ones again.
Status Cgroup::apply_unit(const CgroupLimits& limits) {
  if (!unit_ || holder_) return {};
  return detail::set_systemd_properties(*unit_, detail::plan_systemd_limits(limits, layout_->mode));
}

Status Cgroup::apply_files(const CgroupLimits& limits) {
  for (const ControllerPlans& controller : controllers) {
    std::vector<CgroupWrite> writes;
    if (const std::string* directory = v1_directory(controller.v1_name); directory != nullptr) {
      TRY_PLAIN(controller.v1(limits, writes));
      if (controller.v1_name == "memory") TRY_PLAIN(check_usage(*directory, false, limits));
      if (controller.v1_name == "cpu") TRY_PLAIN(raise_realtime(*layout_->find("cpu"), *directory, limits));
      TRY_PLAIN(write_all_of(*directory, writes));
      continue;
    }
    TRY_PLAIN(controller.v2(limits, writes));
    if (writes.empty()) continue;
    if (Status offered = offers_v2(controller.v2_name); !offered) {
      if (std::all_of(writes.begin(), writes.end(), [](const CgroupWrite& item) { return item.optional; })) continue;
      return offered;
    }
    if (controller.v2_name == "memory") TRY_PLAIN(check_usage(*v2_directory(), true, limits));
    TRY_PLAIN(write_all_of(*v2_directory(), writes));
  }
  TRY_PLAIN(apply_devices(limits));
  return apply_unified(limits);
}

Status Cgroup::apply_devices(const CgroupLimits& limits) {
  if (limits.devices.empty()) return {};
  if (const std::string* directory = v1_directory("devices"); directory != nullptr) {
    std::vector<CgroupWrite> writes;
    TRY_PLAIN(detail::plan_devices_v1(limits, writes));
    // Two descriptors for all rules: there are some fourteen of them in every start.
    const UniqueFd allow = TRY(linux::open(*directory + "/devices.allow", O_WRONLY), "cgroup devices");
    const UniqueFd deny = TRY(linux::open(*directory + "/devices.deny", O_WRONLY), "cgroup devices");
    for (const CgroupWrite& item : writes)
      TRY(write(item.file == "devices.allow" ? allow.get() : deny.get(), item.value),
          concat("cgroup devices: \"", item.value, "\" to ", item.file));
    return {};
  }
  if (v2_directory() == nullptr) return detail::missing_controller("devices");
  const UniqueFd directory = TRY(linux::open(*v2_directory(), O_RDONLY | O_DIRECTORY), "cgroup devices");
  return attach_device_filter(directory.get(), limits.devices);
}

Status Cgroup::apply_unified(const CgroupLimits& limits) {
  if (limits.unified.empty()) return {};
  if (v2_directory() == nullptr)
    return Error(ErrorKind::unsupported,
                 concat("cgroup: ", limits.unified.begin()->first, " needs cgroup v2, which this host does not mount"), EOPNOTSUPP);
  std::vector<CgroupWrite> writes;
  TRY_PLAIN(detail::plan_unified(limits, writes));
  for (const CgroupWrite& item : writes) {
    const CgroupHierarchy* hierarchy = layout_->find(item.controller);
    if (item.controller != "cgroup" && (hierarchy == nullptr || !hierarchy->is_v2)) return detail::missing_controller(item.controller);
  }
  return write_all_of(*v2_directory(), writes);
}

}  // namespace caisson::linux
