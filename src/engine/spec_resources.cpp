// Docker's limits → the OCI's.
#include "engine/spec_builder.hpp"

namespace caisson::engine {

namespace {
runtime::MemoryLimits memory_limits(const ResourceSpec& spec) {
  runtime::MemoryLimits limits;
  if (spec.memory_bytes != 0) limits.limit_bytes = spec.memory_bytes;
  if (spec.memory_reservation_bytes != 0) limits.reservation_bytes = spec.memory_reservation_bytes;
  if (spec.memory_swap_bytes != 0) {
    limits.swap_bytes = spec.memory_swap_bytes;
  } else if (spec.memory_bytes > 0) {
    limits.swap_bytes = spec.memory_bytes * 2;  // docker's documented default: as much swap again
  }
  if (spec.memory_swappiness) limits.swappiness = static_cast<std::uint64_t>(*spec.memory_swappiness);
  limits.disable_oom_killer = spec.oom_kill_disable;
  return limits;
}

runtime::CpuLimits cpu_limits(const ResourceSpec& spec) {
  constexpr std::int64_t default_period_us = 100'000;
  constexpr std::int64_t nanos_per_cpu = 1'000'000'000;
  runtime::CpuLimits limits;
  if (spec.cpu_shares > 0) limits.shares = static_cast<std::uint64_t>(spec.cpu_shares);
  if (spec.nano_cpus > 0) {
    limits.period_us = default_period_us;
    limits.quota_us = spec.nano_cpus / (nanos_per_cpu / default_period_us);
  }
  if (spec.cpu_period_us > 0) limits.period_us = static_cast<std::uint64_t>(spec.cpu_period_us);
  if (spec.cpu_quota_us != 0) limits.quota_us = spec.cpu_quota_us;
  if (spec.cpu_realtime_period_us > 0) limits.realtime_period_us = static_cast<std::uint64_t>(spec.cpu_realtime_period_us);
  if (spec.cpu_realtime_runtime_us != 0) limits.realtime_runtime_us = spec.cpu_realtime_runtime_us;
  limits.cpus = spec.cpuset_cpus;
  limits.mems = spec.cpuset_mems;
  return limits;
}
}  // namespace

std::vector<std::string> asked_limits(const ResourceSpec& spec) {
  std::vector<std::string> names;
  auto name = [&](bool is_asked, const char* text) {
    if (is_asked) names.emplace_back(text);
  };
  name(spec.memory_bytes != 0 || spec.memory_swap_bytes != 0 || spec.memory_reservation_bytes != 0 || spec.memory_swappiness || spec.oom_kill_disable.value_or(false), "memory");
  name(spec.nano_cpus != 0 || spec.cpu_quota_us != 0 || spec.cpu_period_us != 0 || spec.cpu_shares != 0 || spec.cpu_realtime_period_us != 0 || spec.cpu_realtime_runtime_us != 0, "cpu");
  name(!spec.cpuset_cpus.empty() || !spec.cpuset_mems.empty(), "cpuset");
  name(spec.pids_limit.value_or(0) > 0, "pids");
  name(spec.blkio_weight != 0 || !spec.blkio_weight_devices.empty() || !spec.blkio_read_bps.empty() || !spec.blkio_write_bps.empty() || !spec.blkio_read_iops.empty() ||
           !spec.blkio_write_iops.empty(), "blkio");
  return names;
}

runtime::Resources build_resources(const ResourceSpec& spec) {
  runtime::Resources resources;
  resources.memory = memory_limits(spec);
  resources.cpu = cpu_limits(spec);
  if (spec.pids_limit && *spec.pids_limit != 0) resources.pids_limit = *spec.pids_limit;
  if (spec.blkio_weight != 0) resources.block_io.weight = spec.blkio_weight;
  return resources;
}

}  // namespace caisson::engine
