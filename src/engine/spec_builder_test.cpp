// The plan, pure: what a specification becomes.
#include "engine/spec_builder.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/capabilities.hpp"
#include "engine/check_spec.hpp"
#include "engine/devices.hpp"
#include "engine/local_engine.hpp"
#include "engine/network_files.hpp"
#include "engine/record.hpp"
#include "engine/signals.hpp"

namespace caisson::engine {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

ContainerInfo plain_info() {
  ContainerInfo info;
  info.id = std::string(64, 'a');
  info.name = "web";
  info.args = {"nginx", "-g"};
  info.hosts_path = "/r/hosts";
  info.hostname_path = "/r/hostname";
  info.resolv_conf_path = "/r/resolv.conf";
  return info;
}

linux::IdMap own_map() { return {{{0, 100000, 65536}}, {{0, 100000, 65536}}}; }

Result<runtime::Spec> build(const ContainerInfo& info, linux::IdMap map = own_map()) {
  SpecInput input{.info = info};
  input.id_map = std::move(map);
  input.cgroups_path = "/caisson/x";
  input.default_pids_limit = 4096;
  input.seccomp = runtime::SeccompProfile{};
  return build_spec(input);
}

const runtime::Mount* mount_at(const runtime::Spec& spec, std::string_view destination) {
  for (const auto& mount : spec.mounts)
    if (mount.destination == destination) return &mount;
  return nullptr;
}

TEST(SpecBuilder, an_ordinary_container_is_confined_in_every_way) {
  auto info = plain_info();
  auto spec = build(info);
  ASSERT_TRUE(spec.ok()) << spec.error().text();
  for (auto type : {runtime::NamespaceType::user, runtime::NamespaceType::pid, runtime::NamespaceType::network, runtime::NamespaceType::mount,
                    runtime::NamespaceType::ipc, runtime::NamespaceType::uts, runtime::NamespaceType::cgroup})
    EXPECT_NE(spec->find_namespace(type), nullptr);
  EXPECT_EQ(spec->hostname, "aaaaaaaaaaaa");
  EXPECT_EQ(spec->process.args, info.args);
  EXPECT_TRUE(spec->seccomp.has_value());
  EXPECT_THAT(spec->masked_paths, Contains("/proc/kcore"));
  EXPECT_THAT(spec->readonly_paths, Contains("/proc/sys"));
  EXPECT_EQ(spec->resources.pids_limit, 4096);
  ASSERT_TRUE(spec->process.capabilities.has_value());
  EXPECT_EQ(spec->process.capabilities->bounding.size(), default_capabilities().size());
  EXPECT_TRUE(spec->process.capabilities->inheritable.empty());
  EXPECT_TRUE(spec->process.capabilities->ambient.empty());
  EXPECT_THAT(mount_at(*spec, "/sys")->options, Contains("ro"));
  EXPECT_THAT(mount_at(*spec, "/etc/hosts")->options, Contains("idmap"));
}

TEST(SpecBuilder, a_user_other_than_root_holds_no_capability) {
  auto info = plain_info();
  SpecInput input{.info = info};
  input.user.uid = 33;
  auto spec = build_spec(input);
  ASSERT_TRUE(spec.ok());
  EXPECT_TRUE(spec->process.capabilities->effective.empty());
  EXPECT_TRUE(spec->process.capabilities->permitted.empty());
  EXPECT_FALSE(spec->process.capabilities->bounding.empty());
}

TEST(SpecBuilder, ids_that_are_not_mapped_are_refused) {
  auto info = plain_info();
  SpecInput input{.info = info};
  input.id_map = own_map();
  input.user.uid = 70000;
  auto spec = build_spec(input);
  ASSERT_FALSE(spec.ok());
  EXPECT_EQ(spec.error().kind(), ErrorKind::invalid);
  EXPECT_THAT(spec.error().hint(), HasSubstr("--userns=host"));
  input.id_map = {};
  EXPECT_TRUE(build_spec(input).ok());
}

TEST(SpecBuilder, privileged_lifts_masks_profile_and_limits) {
  auto info = plain_info();
  info.spec.privileged = true;
  auto spec = build(info, {});
  ASSERT_TRUE(spec.ok());
  EXPECT_TRUE(spec->masked_paths.empty());
  EXPECT_TRUE(spec->readonly_paths.empty());
  EXPECT_FALSE(spec->seccomp.has_value());
  EXPECT_FALSE(spec->resources.pids_limit.has_value());
  EXPECT_EQ(spec->process.capabilities->bounding.size(), all_capabilities().size());
  EXPECT_THAT(mount_at(*spec, "/sys")->options, Contains("rw"));
}

TEST(SpecBuilder, nesting_covers_nothing_and_hands_over_a_cgroup_where_there_is_one) {
  auto info = plain_info();
  info.spec.nesting = true;
  auto spec = build(info);
  ASSERT_TRUE(spec.ok()) << spec.error().text();
  EXPECT_THAT(spec->masked_paths, testing::IsEmpty());
  EXPECT_THAT(spec->readonly_paths, testing::IsEmpty());
  EXPECT_TRUE(spec->seccomp.has_value());
  EXPECT_NE(spec->find_namespace(runtime::NamespaceType::user), nullptr);
  EXPECT_EQ(spec->process.capabilities->bounding.size(), default_capabilities().size()) << "capabilities are asked for by name";
  EXPECT_THAT(mount_at(*spec, "/sys")->options, Contains("rw"));
  EXPECT_THAT(mount_at(*spec, "/sys/fs/cgroup")->options, Contains("ro"));
  SpecInput input{.info = info};
  input.id_map = own_map();
  input.default_apparmor = "caisson-default";
  input.can_hand_over_cgroup = true;
  spec = build_spec(input);
  ASSERT_TRUE(spec.ok());
  EXPECT_THAT(mount_at(*spec, "/sys/fs/cgroup")->options, Contains("rw"));
  EXPECT_EQ(spec->process.apparmor_profile, "") << "the default one denies mounts";
  info.spec.masked_paths = std::vector<std::string>{"/proc/kcore"};
  EXPECT_THAT(build(info)->masked_paths, testing::ElementsAre("/proc/kcore")) << "what was asked for counts";
}

TEST(SpecBuilder, host_namespaces_are_bound_not_mounted_anew_in_an_own_user_namespace) {
  auto info = plain_info();
  info.spec.network.mode = "host";
  info.spec.pid_mode = "host";
  info.spec.ipc_mode = "host";
  info.spec.uts_mode = "host";
  auto spec = build(info);
  ASSERT_TRUE(spec.ok());
  for (auto type : {runtime::NamespaceType::network, runtime::NamespaceType::pid, runtime::NamespaceType::ipc, runtime::NamespaceType::uts})
    EXPECT_EQ(spec->find_namespace(type), nullptr);
  EXPECT_EQ(mount_at(*spec, "/proc")->type, "bind");
  EXPECT_EQ(mount_at(*spec, "/sys")->type, "bind");
  EXPECT_EQ(mount_at(*spec, "/dev/mqueue")->type, "bind");
  EXPECT_TRUE(spec->sysctl.empty());
  EXPECT_TRUE(spec->hostname.empty());
}

TEST(SpecBuilder, mounts_replace_defaults_and_parents_come_first) {
  auto info = plain_info();
  auto add = [&](MountSpec asked, MountPoint point) {
    point.type = asked.type;
    point.destination = asked.target;
    info.spec.mounts.push_back(std::move(asked));
    info.mounts.push_back(std::move(point));
  };
  MountSpec deep;
  deep.target = "/data/inner";
  deep.read_only = true;
  add(deep, {.source = "/host/deep", .read_write = false});
  MountSpec data;
  data.target = "/data";
  add(data, {.source = "/host/data"});
  MountSpec hosts;
  hosts.target = "/etc/hosts";
  add(hosts, {.source = "/my/hosts"});
  MountSpec shm;
  shm.type = MountType::tmpfs;
  shm.target = "/dev/shm";
  shm.options = {"exec", "size=1m"};
  add(shm, {});
  auto spec = build(info);
  ASSERT_TRUE(spec.ok()) << spec.error().text();
  EXPECT_EQ(mount_at(*spec, "/etc/hosts")->source, "/my/hosts");
  EXPECT_LT(mount_at(*spec, "/data"), mount_at(*spec, "/data/inner"));
  EXPECT_THAT(mount_at(*spec, "/data/inner")->options, Contains("rro"));
  EXPECT_THAT(mount_at(*spec, "/data")->options, Contains("idmap"));
  EXPECT_TRUE(mount_at(*spec, "/data")->id_map.empty());
  EXPECT_EQ(std::count_if(spec->mounts.begin(), spec->mounts.end(), [](const auto& m) { return m.destination == "/dev/shm"; }), 1);
  EXPECT_THAT(mount_at(*spec, "/dev/shm")->options, Contains("exec"));
  EXPECT_THAT(mount_at(*spec, "/dev/shm")->options, Not(Contains("noexec")));
}

TEST(SpecBuilder, sources_that_cannot_map_ids_are_bound_as_they_are) {
  auto info = plain_info();
  MountSpec asked;
  asked.target = "/nfs";
  info.spec.mounts.push_back(asked);
  info.mounts.push_back({.source = "/host/nfs", .destination = "/nfs"});
  SpecInput input{.info = info};
  input.id_map = own_map();
  input.unmappable_sources = {"/host/nfs"};
  auto spec = build_spec(input);
  ASSERT_TRUE(spec.ok());
  EXPECT_TRUE(mount_at(*spec, "/nfs")->id_map.empty());
  EXPECT_THAT(mount_at(*spec, "/nfs")->options, Not(Contains("idmap")));
}

TEST(SpecBuilder, cpu_and_memory_become_what_the_kernel_takes) {
  ResourceSpec asked;
  asked.nano_cpus = 1'500'000'000;
  asked.memory_bytes = 64 << 20;
  asked.pids_limit = -1;
  auto resources = build_resources(asked);
  EXPECT_EQ(resources.cpu.quota_us, 150'000);
  EXPECT_EQ(resources.cpu.period_us, 100'000U);
  EXPECT_EQ(resources.memory.limit_bytes, 64 << 20);
  EXPECT_EQ(resources.memory.swap_bytes, 128 << 20);
  EXPECT_EQ(resources.pids_limit, -1);
  asked.memory_swap_bytes = -1;
  EXPECT_EQ(build_resources(asked).memory.swap_bytes, -1);
}

TEST(SpecBuilder, a_cgroup_parent_names_a_slice_under_systemd) {
  EXPECT_EQ(slice_of_parent("/caisson"), "caisson.slice");
  EXPECT_EQ(slice_of_parent("/a/b"), "a-b.slice");
  EXPECT_EQ(slice_of_parent("x-y.slice"), "x-y.slice");
}

TEST(SpecBuilder, the_environment_is_defaults_then_spec_then_home) {
  ContainerSpec spec;
  spec.env = {"PATH=/mine", "A=1"};
  spec.tty = true;
  ResolvedUser user;
  user.home = "/home/u";
  EXPECT_THAT(build_environment(spec, std::string(64, 'a'), user), ElementsAre("PATH=/mine", "HOSTNAME=aaaaaaaaaaaa", "TERM=xterm", "A=1", "HOME=/home/u"));
  EXPECT_THAT(merge_environment({"A=1", "B=2"}, {"A", "B=3", "C=4"}), ElementsAre("B=3", "C=4"));
}

TEST(SpecBuilder, an_exec_has_its_own_terminal_user_and_rights) {
  auto info = plain_info();
  info.spec.env = {"OUTER=1"};
  SpecInput input{.info = info};
  ExecSpec exec;
  exec.cmd = {"sh"};
  exec.env = {"INNER=2"};
  exec.tty = true;
  exec.privileged = true;
  auto process = build_exec_process(input, exec);
  ASSERT_TRUE(process.ok());
  EXPECT_TRUE(process->terminal);
  EXPECT_THAT(process->env, Contains("TERM=xterm"));
  EXPECT_THAT(process->env, Contains("OUTER=1"));
  EXPECT_THAT(process->env, Contains("INNER=2"));
  EXPECT_EQ(process->capabilities->effective.size(), all_capabilities().size());
}

TEST(Capabilities, add_and_drop_work_as_in_docker) {
  auto resolve = [](std::vector<std::string> add, std::vector<std::string> drop, bool privileged = false) {
    auto result = resolve_capabilities(add, drop, privileged);
    return result.ok() ? *result : std::vector<std::string>{result.error().text()};
  };
  EXPECT_LT(resolve({}, {}).size() * 2, all_capabilities().size());
  EXPECT_THAT(resolve({"net_admin"}, {}), Contains("CAP_NET_ADMIN"));
  EXPECT_THAT(resolve({}, {"CAP_CHOWN"}), Not(Contains("CAP_CHOWN")));
  EXPECT_THAT(resolve({"CHOWN"}, {"ALL"}), ElementsAre("CAP_CHOWN"));
  EXPECT_EQ(resolve({"ALL"}, {}).size(), all_capabilities().size());
  EXPECT_EQ(resolve({"ALL"}, {"SYS_ADMIN"}).size(), all_capabilities().size() - 1);
  EXPECT_EQ(resolve({}, {"ALL"}, true).size(), all_capabilities().size());
  EXPECT_THAT(resolve({"NO_SUCH"}, {})[0], HasSubstr("NO_SUCH"));
}

TEST(Seccomp, dockers_conditions_are_applied) {
  const std::string text = R"({"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
    "syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"},
    {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
    {"names":["clone"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]}},
    {"names":["s390_x"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["s390x"]}}]})";
  auto plain = seccomp_from_text(text, {});
  ASSERT_TRUE(plain.ok()) << plain.error().text();
  ASSERT_EQ(plain->syscalls.size(), 2U);
  EXPECT_EQ(plain->syscalls[1].names, std::vector<std::string>{"clone"});
  EXPECT_THAT(plain->architectures, ElementsAre("SCMP_ARCH_X86_64", "SCMP_ARCH_X86"));
  auto admin = seccomp_from_text(text, {"CAP_SYS_ADMIN"});
  ASSERT_TRUE(admin.ok());
  EXPECT_EQ(admin->syscalls[1].names, std::vector<std::string>{"mount"});
  for (const char* broken : {"", "[]", "{}", R"({"defaultAction":5})", R"({"defaultAction":"SCMP_ACT_ERRNO","syscalls":[5]})"})
    EXPECT_FALSE(seccomp_from_text(broken, {}).ok()) << broken;
}

TEST(Users, names_numbers_and_groups_resolve_as_in_docker) {
  AccountFiles files{"root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var/www:/bin/sh\nbroken line\n7:x:77:77::/seven:\n",
                     "root:x:0:\nweb:x:33:\nlogs:x:44:web,other\nstaff:x:50:web\n"};
  auto web = resolve_user("web", {}, files);
  ASSERT_TRUE(web.ok());
  EXPECT_EQ(web->uid, 33U);
  EXPECT_EQ(web->home, "/var/www");
  EXPECT_THAT(web->additional_gids, ElementsAre(44, 50));
  auto explicit_group = resolve_user("web:logs", {}, files);
  EXPECT_EQ(explicit_group->gid, 44U);
  EXPECT_TRUE(explicit_group->additional_gids.empty());
  EXPECT_EQ(resolve_user("", {}, files)->home, "/root");
  EXPECT_EQ(resolve_user("1234:2345", {}, files)->gid, 2345U);
  EXPECT_EQ(resolve_user("1234", {}, files)->home, "/");
  EXPECT_EQ(resolve_user("7", {}, files)->uid, 77U);  // a name first, docker's rule
  const std::vector<std::string> groups = {"staff", "777"};
  EXPECT_THAT(resolve_user("0", groups, files)->additional_gids, ElementsAre(50, 777));
  for (const char* broken : {"nosuch", "1:", "-1", "0x1", "4294967296", "2147483648", "1 ", "web:nosuch"})
    EXPECT_FALSE(resolve_user(broken, {}, files).ok()) << broken;
}

TEST(Signals, names_and_numbers_are_read) {
  for (const auto& [text, number] : std::vector<std::pair<std::string, int>>{
           {"TERM", 15}, {"SIGTERM", 15}, {"sigkill", 9}, {"9", 9}, {"RTMIN+3", 37}, {"SIGRTMAX", 64}, {"RTMAX-1", 63}})
    EXPECT_EQ(parse_signal(text).value_or(0), number) << text;
  for (const char* broken : {"", "0", "65", "-1", "SIGNOSUCH", "RTMIN+99", "RTMIN3", "15x"}) EXPECT_FALSE(parse_signal(broken).ok()) << broken;
}

TEST(CheckSpec, broken_specifications_are_refused_by_name) {
  HostLimits host{2, 1ULL << 34};
  auto refused = [&](const std::function<void(ContainerSpec&)>& spoil, const std::string& words) {
    ContainerSpec spec;
    spec.image = "x";
    ASSERT_TRUE(check_spec(spec, host).ok());
    spoil(spec);
    auto status = check_spec(spec, host);
    ASSERT_FALSE(status.ok()) << words;
    EXPECT_THAT(status.error().text(), HasSubstr(words));
  };
  refused([](auto& s) { s.image = ""; }, "image");
  refused([](auto& s) { s.env = {"=x"}; }, "=x");
  refused([](auto& s) { s.working_dir = "rel"; }, "'rel'");
  refused([](auto& s) { s.stop_signal = "NOPE"; }, "NOPE");
  refused([](auto& s) { s.mounts = {{.source = "/a", .target = "rel"}}; }, "must be absolute");
  refused([](auto& s) { s.mounts = {{.source = "/a", .target = "/"}}; }, "can't be '/'");
  refused([](auto& s) { s.mounts = {{.source = "rel", .target = "/a"}}; }, "'rel'");
  refused([](auto& s) { s.mounts = {{.source = "/a", .target = "/x"}, {.source = "/b", .target = "/x"}}; }, "Duplicate mount point: /x");
  refused([](auto& s) { s.mounts = {{.type = MountType::volume, .source = "../x", .target = "/x"}}; }, "../x");
  refused([](auto& s) { s.mounts = {{.type = MountType::tmpfs, .target = "/x", .options = {"nonsense"}}}; }, "nonsense");
  refused([](auto& s) { s.cap_add = {"NOPE"}; }, "NOPE");
  refused([](auto& s) { s.seccomp = "{"; }, "seccomp");
  refused([](auto& s) { s.ulimits = {{"nosuch", 1, 1}}; }, "nosuch");
  refused([](auto& s) { s.ulimits = {{"nofile", 2, 1}}; }, "soft limit");
  refused([](auto& s) { s.ulimits = {{"nofile", 1, 1}, {"nofile", 1, 1}}; }, "twice");
  refused([](auto& s) { s.network.mode = "container:"; }, "container:");
  refused([](auto& s) { s.network.mode = "container:x"; s.hostname = "h"; }, "hostname");
  refused([](auto& s) { s.pid_mode = "nonsense"; }, "nonsense");
  refused([](auto& s) { s.extra_hosts = {"nocolon"}; }, "nocolon");
  refused([](auto& s) { s.resources.memory_bytes = 1000; }, "memory");
  refused([](auto& s) { s.resources.nano_cpus = 3'000'000'000; }, "Range of CPUs");
  refused([](auto& s) { s.resources.nano_cpus = -1; }, "Range of CPUs");
  refused([](auto& s) { s.resources.memory_swap_bytes = 1 << 20; }, "Memory limit");
  refused([](auto& s) { s.resources.cpu_quota_us = 5; }, "1ms");
  refused([](auto& s) { s.log_driver = "splunk"; }, "splunk");
  refused([](auto& s) { s.log_options = {{"max-size", "often"}}; }, "often");
  refused([](auto& s) { s.log_options = {{"bogus", "1"}}; }, "bogus");
  refused([](auto& s) { s.restart.condition = RestartCondition::always; s.auto_remove = true; }, "AutoRemove");
  refused([](auto& s) { s.restart.maximum_retry_count = 3; }, "on-failure");
}

TEST(NetworkFiles, hosts_and_resolver_follow_dockers_rules) {
  ContainerSpec spec;
  spec.extra_hosts = {"db:10.9.8.7", "gw:host-gateway", "six:[fe80::1]"};
  network::Endpoint endpoint;
  endpoint.ipv4 = "10.0.0.5";
  endpoint.gateway = "10.0.0.1";
  auto hosts = hosts_text(spec, "web", {endpoint}, {});
  for (const char* line : {"127.0.0.1\tlocalhost\n", "10.9.8.7\tdb\n", "10.0.0.1\tgw\n", "fe80::1\tsix\n", "10.0.0.5\tweb\n"}) EXPECT_THAT(hosts, HasSubstr(line));

  const std::string host = "# comment\nnameserver 127.0.0.53\nnameserver 9.9.9.9\nsearch lan\noptions edns0\n";
  EXPECT_EQ(resolv_conf_text(host, {}), "nameserver 9.9.9.9\nsearch lan\noptions edns0\n");
  EXPECT_EQ(resolv_conf_text("nameserver 127.0.0.1\n", {}), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
  EXPECT_TRUE(has_only_loopback_nameservers("nameserver 127.0.0.53\n"));
  EXPECT_FALSE(has_only_loopback_nameservers(host));
  ContainerSpec own;
  own.dns = {"1.2.3.4"};
  own.dns_search = {"."};
  own.dns_options = {"ndots:2"};
  EXPECT_EQ(resolv_conf_text(host, own), "nameserver 1.2.3.4\noptions ndots:2\n");
  ContainerSpec shares;
  shares.network.mode = "host";
  EXPECT_THAT(resolv_conf_text(host, shares), HasSubstr("127.0.0.53"));
}

TEST(Devices, those_with_another_name_are_bound_where_no_nodes_can_be_made) {
  const std::vector<DeviceSpec> asked = {{"/dev/fuse", "/dev/mine", "rwm"}, {"/dev/net/tun", "", "rwm"}, {"/dev/snd", "/dev/sound", "rwm"}, {"/dev/kvm", "/dev/kvm", "rwm"}};
  std::vector<runtime::Device> nodes(5);
  for (std::size_t i = 0; const char* path : {"/dev/mine", "/dev/net/tun", "/dev/sound/timer", "/dev/sounder", "/dev/kvm"}) nodes[i++].path = path;
  const auto binds = bind_renamed_devices(asked, nodes);
  ASSERT_EQ(binds.size(), 2U);
  EXPECT_EQ(binds[0].source + " " + binds[0].destination, "/dev/fuse /dev/mine");
  EXPECT_EQ(binds[1].source + " " + binds[1].destination, "/dev/snd /dev/sound");
  std::vector<std::string> left;
  for (const auto& node : nodes) left.push_back(node.path);
  EXPECT_EQ(left, (std::vector<std::string>{"/dev/net/tun", "/dev/sounder", "/dev/kvm"}));
}

TEST(Devices, rules_are_read_and_broken_ones_refused) {
  auto rule = parse_device_rule("c 1:* rw");
  ASSERT_TRUE(rule.ok());
  EXPECT_EQ(rule->major, 1);
  EXPECT_FALSE(rule->minor.has_value());
  for (const char* broken : {"", "c 1:3", "x 1:3 rwm", "c 1-3 rwm", "c 1:3 q", "c -1:3 r"}) EXPECT_FALSE(parse_device_rule(broken).ok()) << broken;
}

TEST(Records, a_record_survives_the_way_through_the_store) {
  Record record;
  record.info.id = std::string(64, 'c');
  record.info.name = "web";
  record.info.state = State::exited;
  record.info.exit_code = 3;
  record.info.args = {"a", "b"};
  auto& spec = record.info.spec;
  spec.image = "busybox";
  spec.entrypoint = std::vector<std::string>{};
  spec.cmd = std::vector<std::string>{"sh"};
  spec.mounts = {{.source = "/a", .target = "/b", .read_only = true, .tmpfs_mode = 0}};
  spec.ports = {{network::Protocol::udp, 53, "127.0.0.1", 5353}};
  spec.resources.memory_swappiness = 0;
  spec.labels = {{"k", "v"}};
  spec.stop_timeout_s = 0;
  spec.healthcheck = image::Healthcheck{{"CMD", "x"}, 1, 2, 3, 4};
  record.info.mounts = {{.source = "/a", .destination = "/b", .read_write = false}};
  record.info.first_host_id = 0x70010000;
  auto text = to_text(record);
  auto back = parse_record(text);
  ASSERT_TRUE(back.ok()) << back.error().text();
  EXPECT_EQ(to_text(*back), text);
  EXPECT_EQ(back->info.exit_code, 3);
  EXPECT_TRUE(back->info.spec.entrypoint.has_value());
  EXPECT_TRUE(back->info.spec.stop_timeout_s.has_value());
  EXPECT_FALSE(back->info.mounts[0].read_write);
  for (const char* broken : {"", "{}", "[]", R"({"id":5})", R"({"id":"x"})"}) {
    auto refused = parse_record(broken);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().kind(), ErrorKind::corrupt);
  }
}

}  // namespace
}  // namespace caisson::engine
