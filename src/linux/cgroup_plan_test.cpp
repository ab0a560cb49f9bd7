// The pure half of cgroups: which hierarchies there are, which values are written, what the device filter answers.
#include <linux/bpf.h>

#include <cerrno>

#include "linux/cgroup.hpp"
#include "linux/testing.hpp"

namespace caisson::linux {
namespace {

constexpr std::string_view v2_mounts =
    "25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
    "30 25 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";
constexpr std::string_view v1_mounts =
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer,clone_children,release_agent=/x\n"
    "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd\n";
constexpr std::string_view hybrid_extra = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

CgroupLayout layout_of(std::string_view mounts, std::string_view controllers) {
  return cgroup_layout(must(parse_mountinfo(mounts)), controllers);
}

TEST(CgroupLayout, a_unified_host_is_seen) {
  const CgroupLayout layout = layout_of(v2_mounts, "cpuset cpu io memory hugetlb pids rdma misc\n");
  EXPECT_EQ(layout.mode, CgroupMode::unified);
  ASSERT_EQ(layout.hierarchies.size(), 1U);
  EXPECT_EQ(layout.v2()->mount_point, "/sys/fs/cgroup");
  EXPECT_TRUE(layout.has("memory"));
  EXPECT_FALSE(layout.has("devices"));
}

TEST(CgroupLayout, a_v1_host_is_seen_with_joined_and_named_hierarchies) {
  const CgroupLayout layout = layout_of(v1_mounts, "");
  EXPECT_EQ(layout.mode, CgroupMode::v1);
  EXPECT_EQ(layout.v2(), nullptr);
  ASSERT_EQ(layout.hierarchies.size(), 4U);
  EXPECT_EQ(layout.find("cpuacct"), layout.find("cpu"));
  EXPECT_EQ(layout.find("cpu")->mount_point, "/sys/fs/cgroup/cpu,cpuacct");
  EXPECT_EQ(layout.find("freezer")->controllers, std::vector<std::string>{"freezer"});
  EXPECT_TRUE(layout.has("name=systemd"));
}

TEST(CgroupLayout, a_hybrid_host_has_v2_last) {
  const CgroupLayout layout = layout_of(std::string(hybrid_extra) + std::string(v1_mounts), "hugetlb\n");
  EXPECT_EQ(layout.mode, CgroupMode::hybrid);
  ASSERT_EQ(layout.hierarchies.size(), 5U);
  EXPECT_TRUE(layout.hierarchies.back().is_v2);
  EXPECT_EQ(layout.find("hugetlb"), layout.v2());
  EXPECT_FALSE(layout.find("memory")->is_v2);
}

TEST(CgroupLayout, a_named_hierarchy_beside_v2_does_not_make_a_host_hybrid) {
  const CgroupLayout layout = layout_of(std::string(v2_mounts) + "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n", "cpu");
  EXPECT_EQ(layout.mode, CgroupMode::unified);
  EXPECT_EQ(layout.hierarchies.size(), 1U);
  const auto with = layout.with_named("name=systemd");
  ASSERT_TRUE(with);
  EXPECT_EQ(with->mode, CgroupMode::unified);
  ASSERT_EQ(with->hierarchies.size(), 2U);
  EXPECT_EQ(with->hierarchies[0].mount_point, "/sys/fs/cgroup/systemd");
  EXPECT_EQ(with->v2()->mount_point, "/sys/fs/cgroup");
  const auto missing = layout.with_named("name=other");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().kind(), ErrorKind::unsupported);
}

TEST(CgroupLayout, hidden_and_doubled_mounts_are_left_out) {
  const CgroupLayout layout = layout_of(
      "31 1 0:30 /part /somewhere rw - cgroup cgroup rw,memory\n"
      "32 1 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
      "33 1 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
      "34 1 0:32 / /sys/fs/cgroup/cpu rw - tmpfs tmpfs rw\n",
      "");
  ASSERT_EQ(layout.hierarchies.size(), 1U);
  EXPECT_EQ(layout.find("memory")->mount_point, "/sys/fs/cgroup/memory");
}

TEST(CgroupLayout, no_mount_is_no_mode) { EXPECT_EQ(layout_of("25 1 8:1 / / rw - ext4 /dev/sda1 rw\n", "").mode, CgroupMode::none); }

TEST(CgroupLayout, the_file_of_a_process_is_read) {
  const auto paths = parse_proc_cgroup("9:name=systemd:/\n4:memory:/a/b:c\n0::/user.slice\n");
  EXPECT_EQ(paths.at("name=systemd"), "/");
  EXPECT_EQ(paths.at("memory"), "/a/b:c");
  EXPECT_EQ(paths.at(""), "/user.slice");
}

TEST(CgroupPlan, shares_become_weights_by_the_newer_formula) {
  EXPECT_EQ(cpu_weight_of_shares(0), 0U);
  EXPECT_EQ(cpu_weight_of_shares(1), 1U);
  EXPECT_EQ(cpu_weight_of_shares(2), 1U);
  EXPECT_EQ(cpu_weight_of_shares(1024), 100U);
  EXPECT_EQ(cpu_weight_of_shares(262144), 10000U);
  EXPECT_EQ(cpu_weight_of_shares(UINT64_MAX), 10000U);
  std::uint64_t last = 1;
  for (std::uint64_t shares = 2; shares <= 262144; shares += 97) {
    const std::uint64_t weight = cpu_weight_of_shares(shares);
    EXPECT_GE(weight, last);
    EXPECT_LE(weight, 10000U);
    last = weight;
  }
}

TEST(CgroupPlan, block_weights_are_stretched) {
  EXPECT_EQ(io_weight_of_blkio(0), 0U);
  EXPECT_EQ(io_weight_of_blkio(10), 1U);
  EXPECT_EQ(io_weight_of_blkio(500), 4950U);
  EXPECT_EQ(io_weight_of_blkio(1000), 10000U);
}

std::string value_in(const std::vector<CgroupWrite>& writes, std::string_view file) {
  for (const CgroupWrite& item : writes)
    if (item.file == file) return item.value;
  return "(not written)";
}

TEST(CgroupPlan, memory_and_swap_are_counted_apart_on_v2_and_together_on_v1) {
  CgroupLimits limits;
  limits.memory_limit_bytes = 1000;
  limits.memory_swap_bytes = 1500;
  limits.memory_reservation_bytes = 500;
  const auto v2 = must(plan_v2_writes(limits));
  EXPECT_EQ(value_in(v2, "memory.max"), "1000");
  EXPECT_EQ(value_in(v2, "memory.swap.max"), "500");
  EXPECT_EQ(value_in(v2, "memory.low"), "500");
  const auto v1 = must(plan_v1_writes(limits));
  EXPECT_EQ(value_in(v1, "memory.limit_in_bytes"), "1000");
  EXPECT_EQ(value_in(v1, "memory.memsw.limit_in_bytes"), "1500");
  EXPECT_EQ(value_in(v1, "memory.soft_limit_in_bytes"), "500");
}

TEST(CgroupPlan, lifting_the_memory_limit_lifts_swap_too) {
  CgroupLimits limits;
  limits.memory_limit_bytes = -1;
  EXPECT_EQ(value_in(must(plan_v2_writes(limits)), "memory.max"), "max");
  EXPECT_EQ(value_in(must(plan_v2_writes(limits)), "memory.swap.max"), "max");
  EXPECT_EQ(value_in(must(plan_v1_writes(limits)), "memory.memsw.limit_in_bytes"), "-1");
}

TEST(CgroupPlan, swap_below_memory_or_without_it_is_refused) {
  CgroupLimits limits;
  limits.memory_limit_bytes = 1000;
  limits.memory_swap_bytes = 999;
  EXPECT_EQ(plan_v2_writes(limits).error().kind(), ErrorKind::invalid);
  EXPECT_EQ(plan_v1_writes(limits).error().kind(), ErrorKind::invalid);
  limits.memory_limit_bytes.reset();
  EXPECT_EQ(plan_v2_writes(limits).error().kind(), ErrorKind::invalid);
}

TEST(CgroupPlan, quota_and_period_are_one_write_on_v2) {
  CgroupLimits limits;
  limits.cpu_quota_us = 50000;
  limits.cpu_period_us = 100000;
  limits.cpu_shares = 512;
  limits.cpu_burst_us = 1000;
  limits.cpu_idle = 1;
  const auto v2 = must(plan_v2_writes(limits));
  EXPECT_EQ(value_in(v2, "cpu.max"), "50000 100000");
  EXPECT_EQ(value_in(v2, "cpu.weight"), "59");
  EXPECT_EQ(v2.back().file, "cpu.idle");
  const auto v1 = must(plan_v1_writes(limits));
  EXPECT_EQ(value_in(v1, "cpu.cfs_quota_us"), "50000");
  EXPECT_EQ(value_in(v1, "cpu.shares"), "512");
  CgroupLimits lifted;
  lifted.cpu_quota_us = -1;
  EXPECT_EQ(value_in(must(plan_v2_writes(lifted)), "cpu.max"), "max");
  EXPECT_EQ(value_in(must(plan_v1_writes(lifted)), "cpu.cfs_quota_us"), "-1");
}

TEST(CgroupPlan, what_v2_does_not_have_is_an_error_and_not_silence) {
  CgroupLimits realtime;
  realtime.cpu_rt_runtime_us = 1000;
  EXPECT_EQ(plan_v2_writes(realtime).error().kind(), ErrorKind::unsupported);
  EXPECT_EQ(value_in(must(plan_v1_writes(realtime)), "cpu.rt_runtime_us"), "1000");
  CgroupLimits swappiness;
  swappiness.memory_swappiness = 10;
  EXPECT_EQ(plan_v2_writes(swappiness).error().kind(), ErrorKind::unsupported);
  CgroupLimits unified;
  unified.unified["memory.high"] = "1";
  EXPECT_EQ(plan_v1_writes(unified).error().kind(), ErrorKind::unsupported);
}

TEST(CgroupPlan, zero_pids_is_a_limit_and_minus_one_is_none) {
  CgroupLimits limits;
  limits.pids_limit = 0;
  EXPECT_EQ(value_in(must(plan_v2_writes(limits)), "pids.max"), "0");
  limits.pids_limit = -1;
  EXPECT_EQ(value_in(must(plan_v1_writes(limits)), "pids.max"), "max");
}

TEST(CgroupPlan, block_limits_name_their_device) {
  CgroupLimits limits;
  limits.blkio_weight = 500;
  limits.blkio_read_bps = {{8, 16, 1048576}};
  limits.blkio_write_iops = {{8, 16, 0}};
  const auto v2 = must(plan_v2_writes(limits));
  EXPECT_EQ(v2[0], (CgroupWrite{"io", "io.bfq.weight", "500", "io.weight", "default 4950", false}));
  EXPECT_EQ(v2[1].value, "8:16 rbps=1048576");
  EXPECT_EQ(v2[2].value, "8:16 wiops=max");
  const auto v1 = must(plan_v1_writes(limits));
  EXPECT_EQ(value_in(v1, "blkio.throttle.read_bps_device"), "8:16 1048576");
  EXPECT_EQ(v1[0].else_file, "blkio.bfq.weight");
}

TEST(CgroupPlan, device_rules_alone_are_no_limits) {
  CgroupLimits limits;
  limits.devices = {CgroupDeviceRule{}};
  EXPECT_FALSE(asks_for_limits(limits));
  limits.pids_limit = 5;
  EXPECT_TRUE(asks_for_limits(limits));
  limits.pids_limit.reset();
  limits.unified["memory.high"] = "1";
  EXPECT_TRUE(asks_for_limits(limits));
}

TEST(CgroupPlan, network_classes_exist_on_v1_only_and_rdma_on_both) {
  CgroupLimits network;
  network.net_cls_classid = 0x100001;
  network.net_prio = {{"eth0", 5}, {"lo", 0}};
  const auto v1 = must(plan_v1_writes(network));
  EXPECT_EQ(value_in(v1, "net_cls.classid"), "1048577");
  EXPECT_EQ(v1.at(1).value, "eth0 5");
  EXPECT_EQ(v1.at(2).value, "lo 0");
  EXPECT_EQ(plan_v2_writes(network).error().kind(), ErrorKind::unsupported);
  network.net_prio = {{"eth0 9\nlo", 5}};
  EXPECT_EQ(plan_v1_writes(network).error().kind(), ErrorKind::invalid);
  CgroupLimits rdma;
  rdma.rdma = {{"mlx5_0", 3, {}}, {"mlx5_1", 1, 2}, {"silent", {}, {}}};
  for (const auto& writes : {must(plan_v1_writes(rdma)), must(plan_v2_writes(rdma))}) {
    ASSERT_EQ(writes.size(), 2U);
    EXPECT_EQ(writes[0].value, "mlx5_0 hca_handle=3");
    EXPECT_EQ(writes[1].value, "mlx5_1 hca_handle=1 hca_object=2");
  }
}

TEST(CgroupPlan, unified_keys_cannot_leave_the_directory) {
  for (const char* key : {"", "../x.y", "a/b.c", "nodot"}) {
    CgroupLimits limits;
    limits.unified[key] = "1";
    EXPECT_EQ(plan_v2_writes(limits).error().kind(), ErrorKind::invalid) << key;
  }
}

CgroupDeviceRule rule(bool allow, char type, std::optional<std::int64_t> major, std::optional<std::int64_t> minor, const char* access) {
  CgroupDeviceRule out;
  out.allow = allow;
  out.type = type;
  out.major = major;
  out.minor = minor;
  out.access = access;
  return out;
}

TEST(CgroupPlan, device_rules_are_v1_lines) {
  CgroupLimits limits;
  limits.devices = {rule(false, 'a', {}, {}, "rwm"), rule(true, 'c', 1, 3, "rw"), rule(true, 'b', {}, {}, "m")};
  const auto v1 = must(plan_v1_writes(limits));
  ASSERT_EQ(v1.size(), 3U);
  EXPECT_EQ(concat(v1[0].file, ' ', v1[0].value), "devices.deny a");
  EXPECT_EQ(concat(v1[1].file, ' ', v1[1].value), "devices.allow c 1:3 rw");
  EXPECT_EQ(concat(v1[2].file, ' ', v1[2].value), "devices.allow b *:* m");
  limits.devices = {rule(true, 'x', 1, 3, "rw")};
  EXPECT_EQ(plan_v1_writes(limits).error().kind(), ErrorKind::invalid);
  limits.devices = {rule(true, 'c', 1, 3, "rq")};
  EXPECT_EQ(plan_v1_writes(limits).error().kind(), ErrorKind::invalid);
}

/// Runs the filter as the kernel would; -1 when it does something a filter of ours never does.
int run_filter(const std::vector<std::uint64_t>& code, std::uint32_t type, std::uint32_t access, std::uint32_t major, std::uint32_t minor) {
  const std::uint32_t context[3] = {access << 16U | type, major, minor};
  std::uint64_t registers[11] = {};
  for (std::size_t at = 0, steps = 0; at < code.size() && steps < 10000; ++at, ++steps) {
    const auto opcode = static_cast<std::uint8_t>(code[at]);
    std::uint64_t& target = registers[code[at] >> 8U & 0xfU];
    const std::uint64_t source = registers[code[at] >> 12U & 0xfU];
    const auto offset = static_cast<std::int16_t>(code[at] >> 16U);
    const auto immediate = static_cast<std::int32_t>(code[at] >> 32U);
    switch (opcode) {
      case BPF_LDX | BPF_MEM | BPF_W: target = context[offset / 4]; break;
      case BPF_ALU64 | BPF_MOV | BPF_X: target = source; break;
      case BPF_ALU64 | BPF_MOV | BPF_K: target = static_cast<std::uint64_t>(std::int64_t{immediate}); break;
      case BPF_ALU | BPF_AND | BPF_K: target = static_cast<std::uint32_t>(target) & static_cast<std::uint32_t>(immediate); break;
      case BPF_ALU | BPF_RSH | BPF_K: target = static_cast<std::uint32_t>(target) >> immediate; break;
      case BPF_JMP32 | BPF_JNE | BPF_K:
        if (static_cast<std::uint32_t>(target) != static_cast<std::uint32_t>(immediate)) at += static_cast<std::size_t>(offset);
        break;
      case BPF_JMP32 | BPF_JEQ | BPF_K:
        if (static_cast<std::uint32_t>(target) == static_cast<std::uint32_t>(immediate)) at += static_cast<std::size_t>(offset);
        break;
      case BPF_JMP | BPF_EXIT: return static_cast<int>(registers[0]);
      default: return -1;
    }
  }
  return -1;
}

TEST(DeviceFilter, the_last_rule_about_a_device_and_an_access_wins) {
  const auto filter = build_device_filter({
      rule(false, 'a', {}, {}, "rwm"),
      rule(true, 'c', {}, {}, "m"),
      rule(true, 'c', 1, 3, "rwm"),
      rule(true, 'c', 5, {}, "r"),
      rule(true, 'c', 5, 2, "w"),
      rule(true, 'b', 8, 0, "rwm"),
      rule(false, 'b', 8, 0, "w"),
  });
  constexpr std::uint32_t c = BPF_DEVCG_DEV_CHAR;
  constexpr std::uint32_t b = BPF_DEVCG_DEV_BLOCK;
  constexpr std::uint32_t m = BPF_DEVCG_ACC_MKNOD;
  constexpr std::uint32_t r = BPF_DEVCG_ACC_READ;
  constexpr std::uint32_t w = BPF_DEVCG_ACC_WRITE;
  EXPECT_EQ(run_filter(filter, c, r | w, 1, 3), 1);
  EXPECT_EQ(run_filter(filter, c, r, 1, 5), 0);
  EXPECT_EQ(run_filter(filter, c, m, 99, 99), 1);
  EXPECT_EQ(run_filter(filter, b, m, 99, 99), 0);
  EXPECT_EQ(run_filter(filter, c, r | w, 5, 2), 1);  // two rules add up, as on v1
  EXPECT_EQ(run_filter(filter, c, r | w, 5, 1), 0);
  EXPECT_EQ(run_filter(filter, c, r, 5, 1), 1);
  EXPECT_EQ(run_filter(filter, b, r, 8, 0), 1);
  EXPECT_EQ(run_filter(filter, b, w, 8, 0), 0);
  EXPECT_EQ(run_filter(filter, b, r | w, 8, 0), 0);
  EXPECT_EQ(run_filter(filter, b, r, 8, 1), 0);
}

TEST(DeviceFilter, nothing_allowed_means_nothing_and_everything_means_everything) {
  EXPECT_EQ(run_filter(build_device_filter({}), BPF_DEVCG_DEV_CHAR, BPF_DEVCG_ACC_READ, 1, 3), 0);
  EXPECT_EQ(run_filter(build_device_filter({rule(false, 'a', {}, {}, "rwm"), rule(true, 'a', {}, {}, "rwm")}), BPF_DEVCG_DEV_BLOCK, 7, 8, 0), 1);
}

}  // namespace
}  // namespace caisson::linux
