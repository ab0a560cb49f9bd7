// The configuration: what is accepted, what is refused, and with which words.
#include "runtime/spec.hpp"

#include <gtest/gtest.h>

namespace caisson::runtime {
namespace {

/// A complete small configuration in which `from` is replaced by `to`.
std::string config(std::string_view from = "", std::string_view to = "") {
  std::string text = R"({"ociVersion":"1.0.2-dev","root":{"path":"rootfs"},"hostname":"h",
    "process":{"args":["sh"],"cwd":"/","user":{"uid":0,"gid":0},"rlimits":[{"type":"RLIMIT_NOFILE","soft":1,"hard":2}]},
    "mounts":[{"destination":"/proc","type":"proc","source":"proc"}],
    "linux":{"namespaces":[{"type":"mount"},{"type":"uts"},{"type":"ipc"}],"sysctl":{"kernel.shmmax":"1"},
             "resources":{"memory":{"limit":1048576}},"maskedPaths":["/proc/kcore"]}})";
  return from.empty() ? text : replace_all(text, from, to);
}

TEST(Spec, a_small_configuration_is_read) {
  auto spec = parse_spec(config());
  ASSERT_TRUE(spec) << spec.error().text();
  EXPECT_EQ(spec->process.args, std::vector<std::string>{"sh"});
  EXPECT_EQ(spec->resources.memory.limit_bytes, 1048576);
  EXPECT_EQ(spec->mounts.at(0).destination, "/proc");
  EXPECT_NE(spec->find_namespace(NamespaceType::uts), nullptr);
  EXPECT_EQ(spec->find_namespace(NamespaceType::pid), nullptr);
}

TEST(Spec, what_is_written_reads_back_the_same) {
  auto spec = parse_spec(config());
  ASSERT_TRUE(spec);
  const std::string once = to_text(to_json(*spec));
  auto again = parse_spec(once);
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(to_text(to_json(*again)), once);
}

TEST(Spec, the_rare_fields_are_read_and_written_back) {
  const std::string text =
      config(R"("sysctl":)", R"("timeOffsets":{"boottime":{"secs":-3,"nanosecs":7}},"personality":{"domain":"LINUX32"},
    "memoryPolicy":{"mode":"MPOL_BIND","nodes":"0-1","flags":["MPOL_F_STATIC_NODES"]},
    "intelRdt":{"closID":"g","l3CacheSchema":"L3:0=f","memBwSchema":"MB:0=10","schemata":["L2:0=1"],"enableMBM":true},
    "netDevices":{"eth1":{"name":"in0"},"eth2":{}},"sysctl":)");
  auto both = replace_all(text, R"({"type":"ipc"})", R"({"type":"ipc"},{"type":"time"},{"type":"network"})");
  both = replace_all(both, R"("resources":{)", R"("resources":{"network":{"classID":7,"priorities":[{"name":"eth0","priority":2}]},
    "rdma":{"mlx5_1":{"hcaHandles":3}},)");
  both = replace_all(both, R"("cwd":"/",)",
                     R"("cwd":"/","scheduler":{"policy":"SCHED_FIFO","priority":4,"flags":["SCHED_FLAG_RESET_ON_FORK"]},
    "ioPriority":{"class":"IOPRIO_CLASS_BE","priority":3},"execCPUAffinity":{"initial":"0","final":"1-2"},)");
  auto spec = parse_spec(both);
  ASSERT_TRUE(spec) << spec.error().text();
  EXPECT_EQ(spec->time_offsets.at("boottime").seconds, -3);
  EXPECT_EQ(spec->memory_policy->nodes, "0-1");
  EXPECT_TRUE(spec->intel_rdt->enable_monitoring) << "the word of 1.2";
  ASSERT_EQ(spec->net_devices.size(), 2U);
  EXPECT_EQ(spec->net_devices[0].name, "in0");
  EXPECT_EQ(spec->process.scheduler->priority, 4);
  EXPECT_EQ(spec->process.exec_cpu_affinity->final, "1-2");
  auto limits = spec->resources;
  EXPECT_EQ(limits.network.class_id, 7U);
  EXPECT_EQ(limits.rdma.at("mlx5_1").handles, 3U);
  const std::string once = to_text(to_json(*spec));
  auto again = parse_spec(once);
  ASSERT_TRUE(again) << again.error().text();
  EXPECT_EQ(to_text(to_json(*again)), once);
}

TEST(Spec, broken_configurations_are_refused_with_the_path_of_what_is_wrong) {
  struct Case {
    std::string_view from;
    std::string_view to;
    std::string_view text;
  };
  const Case cases[] = {
      {R"("1.0.2-dev")", R"("2.0")", "ociVersion"},
      {R"("path":"rootfs")", R"("path":7)", "root.path: want a string"},
      {R"("args":["sh"])", R"("args":[])", "process.args: at least"},
      {R"("args":["sh"])", R"("args":["a",3])", "process.args[1]: want a string"},
      {R"("cwd":"/")", R"("cwd":"x")", "process.cwd: \"x\" is not an absolute path"},
      {R"("uid":0)", R"("uid":-1)", "process.user.uid: number out of range"},
      {R"("uid":0)", R"("uid":4294967296)", "process.user.uid: number out of range"},
      {R"("soft":1)", R"("soft":3)", "process.rlimits[0]: soft limit is above"},
      {R"({"type":"RLIMIT_NOFILE","soft":1,"hard":2})",
       R"({"type":"RLIMIT_NOFILE","soft":1,"hard":2},{"type":"RLIMIT_NOFILE","soft":1,"hard":2})",
       "process.rlimits[1]: \"RLIMIT_NOFILE\" is listed twice"},
      {R"({"type":"ipc"})", R"({"type":"uts"})", "linux.namespaces[2]: namespace type \"uts\" is listed twice"},
      {R"({"type":"ipc"})", R"({"type":"ipcx"})", "linux.namespaces[2].type: \"ipcx\" is not a namespace type"},
      {R"({"type":"ipc"})", R"({"type":"ipc","path":"rel"})", "linux.namespaces[2].path: \"rel\" is not absolute"},
      {R"({"type":"uts"},)", "", "hostname: needs a namespace of type uts"},
      {R"("kernel.shmmax")", R"("kernel.core_pattern")", "linux.sysctl[\"kernel.core_pattern\"]: is not owned"},
      {R"("kernel.shmmax")", R"("net.ipv4.ip_forward")", "linux.sysctl[\"net.ipv4.ip_forward\"]: is not owned"},
      {R"("/proc/kcore")", R"("proc/kcore")", "linux.maskedPaths[0]: is not an absolute path"},
      {R"("memory":)", R"("intelRdt":{"a":1},"memory":[1],"x":)", "linux.resources.memory: want an object"},
      {R"("sysctl":)", R"("timeOffsets":{"boottime":{"secs":1}},"sysctl":)", "linux.timeOffsets: needs a namespace of type time"},
      {R"("sysctl":)", R"("cgroupsPath":"/a/../b","sysctl":)", "linux.cgroupsPath: may not contain"},
      {R"("sysctl":)", R"("uidMappings":[{"containerID":0,"hostID":1,"size":1}],"sysctl":)",
       "linux.uidMappings: mappings need a namespace"},
      {R"("destination":"/proc",)", "", "mounts[0].destination: missing"},
      {R"("sysctl":)", R"("devices":[{"path":"/dev/x","type":"q"}],"sysctl":)", "linux.devices[0].type"},
  };
  for (const auto& one : cases) {
    auto spec = parse_spec(config(one.from, one.to));
    ASSERT_FALSE(spec) << one.to;
    EXPECT_NE(spec.error().text().find(one.text), std::string::npos) << "got: " << spec.error().text() << "\nwant: " << one.text;
  }
  EXPECT_FALSE(parse_spec("[]"));
  EXPECT_FALSE(parse_spec("{"));
  EXPECT_FALSE(parse_spec(""));
}

TEST(Spec, id_maps_that_overlap_or_are_too_long_are_refused) {
  auto with_maps = [](std::vector<linux::IdMapping> uids) {
    auto spec = *parse_spec(config());
    spec.namespaces.push_back({NamespaceType::user, ""});
    spec.id_map.uids = std::move(uids);
    spec.id_map.gids = {{0, 1, 1}};
    return check_spec(spec);
  };
  EXPECT_TRUE(with_maps({{0, 1000, 10}, {10, 2000, 10}}));
  EXPECT_FALSE(with_maps({{0, 1000, 10}, {9, 2000, 10}}));
  EXPECT_FALSE(with_maps({{0, 1000, 10}, {10, 1009, 10}}));
  EXPECT_FALSE(with_maps({{0, 1000, 0}}));
  EXPECT_FALSE(with_maps({{0, 4294967290U, 10}}));
  std::vector<linux::IdMapping> many;
  for (std::uint32_t i = 0; i < 341; ++i) many.push_back({i * 2, 100000 + i * 2, 1});
  EXPECT_FALSE(with_maps(many));
  many.pop_back();
  EXPECT_TRUE(with_maps(many));
}

TEST(Spec, who_may_be_the_hosts_root_is_known) {
  Spec spec;
  EXPECT_TRUE(spec.may_be_host_root());
  spec.namespaces.push_back({NamespaceType::user, ""});
  spec.id_map.uids = {{0, 100000, 1000}};
  EXPECT_FALSE(spec.may_be_host_root());
  spec.id_map.uids.push_back({1000, 0, 1});
  EXPECT_TRUE(spec.may_be_host_root());
  spec.id_map.uids.clear();
  spec.namespaces.back().path = "/proc/1/ns/user";
  EXPECT_TRUE(spec.may_be_host_root());
}

}  // namespace
}  // namespace caisson::runtime
