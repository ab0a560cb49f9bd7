// Plans are pure: the same configuration and facts give the same plan, bytes included.
#include "runtime/plan.hpp"

#include <gtest/gtest.h>

#include "linux/mount_api.hpp"
#include "linux/process.hpp"
#include "runtime/launch.hpp"

namespace caisson::runtime {
namespace {

Spec base_spec() {
  Spec spec;
  spec.root.path = "rootfs";
  spec.process.args = {"sh"};
  spec.namespaces = {{NamespaceType::mount, ""}, {NamespaceType::pid, ""}, {NamespaceType::uts, ""}, {NamespaceType::cgroup, ""}};
  return spec;
}

Mount mount_of(std::string destination, std::string type, std::string source, std::vector<std::string> options) {
  Mount out;
  out.destination = std::move(destination);
  out.type = std::move(type);
  out.source = std::move(source);
  out.options = std::move(options);
  return out;
}

HostFacts facts() {
  HostFacts out;
  out.cgroup_v1_mounts = {"cpu", "memory"};
  return out;
}

LaunchPlan plan_of(const Spec& spec, PlanOptions options = {}) {
  auto plan = compute_plan(spec, facts(), options);
  EXPECT_TRUE(plan) << (plan ? "" : plan.error().text());
  return plan ? std::move(plan).value() : LaunchPlan{};
}

std::string refusal(const Spec& spec, const PlanOptions& options = {}) {
  auto plan = compute_plan(spec, facts(), options);
  return plan ? "accepted" : plan.error().text();
}

TEST(Plan, survives_its_journey_as_bytes) {
  auto spec = base_spec();
  spec.mounts = {mount_of("/dev", "tmpfs", "tmpfs", {"mode=755"}), mount_of("/data", "bind", "/srv", {"rbind", "ro"})};
  spec.sysctl["net.ipv4.ip_forward"] = "1";
  spec.namespaces.push_back({NamespaceType::network, ""});
  spec.resources.memory.limit_bytes = 1 << 20;
  PlanOptions options;
  options.rootfs = linux::Overlay{{"/a", "/b"}, "/u/upper", "/u/work", true};
  const auto plan = plan_of(spec, options);
  const std::string bytes = encode(plan);
  auto back = decode<LaunchPlan>(bytes, "plan");
  ASSERT_TRUE(back) << back.error().text();
  EXPECT_EQ(encode(*back), bytes);
  EXPECT_FALSE(decode<LaunchPlan>(std::string_view(bytes).substr(0, bytes.size() - 1), "plan"));
}

TEST(Plan, namespaces_become_clone_flags_and_joins) {
  auto spec = base_spec();
  spec.namespaces.push_back({NamespaceType::network, "/run/netns/x"});
  auto plan = plan_of(spec);
  EXPECT_EQ(plan.clone_flags, static_cast<std::uint64_t>(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS));
  EXPECT_TRUE(plan.new_cgroup_namespace);
  ASSERT_EQ(plan.joins.size(), 1U);
  EXPECT_EQ(plan.joins[0].path, "/run/netns/x");
  EXPECT_EQ(exec_namespaces(plan),
            static_cast<std::uint64_t>(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP));
  PlanOptions given;
  given.has_user_namespace = true;
  given.has_network_namespace = true;
  plan = plan_of(base_spec(), given);
  EXPECT_TRUE(plan.in_user_namespace);
  ASSERT_EQ(plan.joins.size(), 2U);
  EXPECT_EQ(plan.joins[1].flag, static_cast<std::uint64_t>(CLONE_NEWUSER));
  auto without = base_spec();
  without.namespaces.erase(without.namespaces.begin());
  EXPECT_EQ(refusal(without), "linux.namespaces: a new mount namespace is required");
}

TEST(Plan, mount_words_become_attributes_and_the_rest_goes_to_the_file_system) {
  auto spec = base_spec();
  spec.mounts = {mount_of("/x//y/./z/", "tmpfs", "tmpfs", {"nosuid", "noatime", "ro", "size=1m", "huge", "rslave"}),
                 mount_of("rel", "bind", "src", {"rbind", "rro", "exec", "noexec", "x-systemd.y"})};
  PlanOptions options;
  options.bundle = "/bundle";
  auto plan = plan_of(spec, options);
  const auto& first = plan.mounts.at(0);
  EXPECT_EQ(first.kind, MountKind::filesystem);
  EXPECT_EQ(first.destination, "/x/y/z");
  EXPECT_EQ(first.attr_set, static_cast<std::uint64_t>(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOATIME | MOUNT_ATTR_RDONLY));
  EXPECT_EQ(first.propagation, static_cast<std::uint64_t>(MS_SLAVE));
  EXPECT_TRUE(first.propagation_recursive);
  ASSERT_EQ(first.options.size(), 2U);
  EXPECT_EQ(first.options[0].value, "1m");
  EXPECT_TRUE(first.options[1].is_flag);
  const auto& second = plan.mounts.at(1);
  EXPECT_EQ(second.kind, MountKind::bind);
  EXPECT_TRUE(second.recursive);
  EXPECT_EQ(second.source, "/bundle/src");
  EXPECT_EQ(second.destination, "/rel");
  EXPECT_EQ(second.recursive_attr_set, static_cast<std::uint64_t>(MOUNT_ATTR_RDONLY));
  EXPECT_EQ(second.attr_set, static_cast<std::uint64_t>(MOUNT_ATTR_NOEXEC)) << "the last word wins";
}

TEST(Plan, impossible_mounts_are_refused) {
  auto with = [](Mount mount) {
    auto spec = base_spec();
    spec.mounts = {std::move(mount)};
    return refusal(spec);
  };
  EXPECT_EQ(with(mount_of("/", "tmpfs", "tmpfs", {})), "mounts[0]: the destination / is the root itself");
  EXPECT_EQ(with(mount_of("/x", "bind", "/y", {"size=1"})), "mounts[0]: \"size=1\" is no option of a bind mount");
  EXPECT_EQ(with(mount_of("/x", "bind", "", {})), "mounts[0]: source: missing for a bind mount");
  EXPECT_EQ(with(mount_of("/x", "", "", {})), "mounts[0]: type: missing");
  EXPECT_EQ(with(mount_of("/x", "proc", "proc", {"tmpcopyup"})), "mounts[0].options: \"tmpcopyup\" is for a new tmpfs only");
  EXPECT_EQ(with(mount_of("/x", "cgroup", "cgroup", {"idmap=uids=0-1-1;gids=0-1-1"})), "mounts[0]: idmap: this mount cannot have it");
  EXPECT_EQ(with(mount_of("/x", "bind", "/y", {"idmap"})), "mounts[0]: idmap without mappings needs a user namespace");
}

TEST(Plan, special_folders_are_made_the_way_the_container_can_have_them) {
  auto spec = base_spec();
  spec.mounts = {mount_of("/dev", "tmpfs", "tmpfs", {}), mount_of("/dev/pts", "devpts", "devpts", {}),
                 mount_of("/sys", "sysfs", "sysfs", {"ro"}), mount_of("/sys/fs/cgroup", "cgroup", "cgroup", {"ro"}),
                 mount_of("/proc", "proc", "proc", {})};
  spec.namespaces.push_back({NamespaceType::user, ""});
  spec.id_map = {{{0, 100000, 65536}}, {{0, 100000, 65536}}};
  auto plan = plan_of(spec);
  EXPECT_EQ(plan.mounts[0].kind, MountKind::device_folder);
  EXPECT_EQ(plan.mounts[0].folders, std::vector<std::string>{"pts"});
  EXPECT_TRUE(plan.mounts[0].no_symlink_target);
  EXPECT_EQ(plan.mounts[2].kind, MountKind::bind) << "the host's network: its sysfs belongs to another user namespace";
  EXPECT_EQ(plan.mounts[2].recursive_attr_set, static_cast<std::uint64_t>(MOUNT_ATTR_RDONLY));
  EXPECT_EQ(plan.mounts[3].kind, MountKind::cgroup_v1);
  EXPECT_EQ(plan.mounts[3].folders, (std::vector<std::string>{"cpu", "memory"}));
  EXPECT_EQ(plan.mounts[4].kind, MountKind::filesystem);
  auto unified = facts();
  unified.cgroup_unified = true;
  auto on_v2 = compute_plan(spec, unified, {});
  ASSERT_TRUE(on_v2);
  EXPECT_EQ(on_v2->mounts[3].kind, MountKind::filesystem);
  EXPECT_EQ(on_v2->mounts[3].type, "cgroup2");
}

TEST(Plan, a_cgroup_is_delegated_only_where_the_container_owns_its_view_of_it) {
  auto spec = base_spec();
  spec.annotations = {{"org.systemd.property.TimeoutStopUSec", "uint64 5"}, {"org.systemd.propertyless", "x"}};
  spec.mounts = {mount_of("/sys/fs/cgroup", "cgroup", "cgroup", {"rw"})};
  spec.namespaces.push_back({NamespaceType::user, ""});  // beside base_spec's cgroup namespace
  spec.id_map = {{{0, 100000, 65536}}, {{0, 100000, 65536}}};
  auto unified = facts();
  unified.cgroup_unified = true;
  const auto plan_on = [&](const HostFacts& host) {
    auto plan = compute_plan(spec, host, {});
    EXPECT_TRUE(plan) << (plan ? "" : plan.error().text());
    return plan ? std::move(plan).value() : LaunchPlan{};
  };
  const LaunchPlan plan = plan_on(unified);
  EXPECT_TRUE(plan.hand_over_cgroup);
  EXPECT_EQ(plan.systemd_properties, (std::map<std::string, std::string>{{"TimeoutStopUSec", "uint64 5"}}));
  EXPECT_FALSE(plan_on(facts()).hand_over_cgroup) << "a delegated v1 hierarchy is a way out (release_agent)";
  spec.mounts = {mount_of("/sys/fs/cgroup", "cgroup", "cgroup", {"ro"})};
  EXPECT_FALSE(plan_on(unified).hand_over_cgroup);
}

TEST(Plan, proc_and_mqueue_of_a_joined_namespace_are_its_own_and_never_the_hosts) {
  auto spec = base_spec();
  spec.mounts = {mount_of("/proc", "proc", "proc", {}), mount_of("/dev/mqueue", "mqueue", "mqueue", {})};
  spec.id_map = {{{0, 100000, 65536}}, {{0, 100000, 65536}}};
  const auto kinds = [&](const std::string& path) {
    spec.namespaces = {{NamespaceType::mount, ""}, {NamespaceType::user, ""}};
    if (!path.empty()) {
      spec.namespaces.push_back({NamespaceType::pid, path + "pid"});
      spec.namespaces.push_back({NamespaceType::ipc, path + "ipc"});
    }
    auto plan = plan_of(spec);
    return std::pair(plan.mounts[0].kind, plan.mounts[1].kind);
  };
  EXPECT_EQ(kinds("/proc/4711/ns/"), std::pair(MountKind::filesystem, MountKind::filesystem));
  EXPECT_EQ(kinds(""), std::pair(MountKind::bind, MountKind::bind)) << "the host's: a new one is not permitted";
}

TEST(Plan, limits_that_cannot_be_raised_are_clamped_with_a_word_or_left_to_fail) {
  auto spec = base_spec();
  spec.process.rlimits = {{"RLIMIT_NOFILE", 1000, 50000}};
  auto poor = facts();
  poor.may_raise_rlimits = false;
  poor.hard_rlimits.assign(16, 20000);
  PlanOptions clamp;
  clamp.clamp_rlimits = true;
  auto plan = compute_plan(spec, poor, clamp);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->process.rlimits.at(0).hard, 20000U);
  ASSERT_EQ(plan->warnings.size(), 1U);
  EXPECT_EQ(plan->warnings[0], "RLIMIT_NOFILE clamped to 20000: raising a hard limit needs CAP_SYS_RESOURCE");
  plan = compute_plan(spec, poor, {});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->process.rlimits.at(0).hard, 50000U);
  EXPECT_TRUE(plan->process.rlimits.at(0).raises_hard);
  spec.process.rlimits = {{"RLIMIT_NOTHING", 1, 1}};
  EXPECT_EQ(refusal(spec), "process.rlimits[0].type: \"RLIMIT_NOTHING\" is not a limit");
}

TEST(Plan, capabilities_that_nobody_can_grant_are_left_out_with_one_warning) {
  auto spec = base_spec();
  CapabilitySets caps;
  caps.bounding = {"CAP_CHOWN", "CAP_NOT_YET"};
  caps.permitted = caps.bounding;
  caps.effective = caps.bounding;
  caps.ambient = {"CAP_CHOWN"};
  spec.process.capabilities = caps;
  auto plan = plan_of(spec);
  EXPECT_EQ(plan.process.capabilities.bounding, 1U);
  EXPECT_EQ(plan.process.capabilities.effective, 1U);
  EXPECT_EQ(plan.process.capabilities.ambient, 0U) << "ambient needs inheritable";
  EXPECT_EQ(plan.warnings.size(), 1U);
}

TEST(Plan, sysctl_names_follow_procps) {
  auto spec = base_spec();
  spec.namespaces.push_back({NamespaceType::network, ""});
  spec.sysctl["net.ipv4.conf.eth0/100.forwarding"] = "1";
  spec.sysctl["net/ipv4/conf/eth0.200/forwarding"] = "1";
  auto plan = plan_of(spec);
  ASSERT_EQ(plan.sysctls.size(), 2U);
  EXPECT_EQ(plan.sysctls[0].path, "net/ipv4/conf/eth0.100/forwarding");
  EXPECT_EQ(plan.sysctls[1].path, "net/ipv4/conf/eth0.200/forwarding");
}

TEST(Plan, devices_are_denied_by_default_and_the_usual_ones_allowed) {
  auto plan = plan_of(base_spec());
  ASSERT_GT(plan.limits.devices.size(), 5U);
  EXPECT_FALSE(plan.limits.devices[0].allow);
  EXPECT_EQ(plan.limits.devices[0].type, 'a');
  EXPECT_EQ(plan.devices.size(), 6U);
  auto everything = base_spec();
  DeviceRule all;
  all.allow = true;
  everything.resources.devices = {all};
  EXPECT_EQ(plan_of(everything).limits.devices.size(), 1U);
}

TEST(Plan, the_hosts_ptmx_and_console_are_never_made_where_the_container_has_its_own) {
  auto spec = base_spec();
  for (const char* path : {"/dev/ptmx", "/dev/console"}) {
    Device device;
    device.path = path;
    device.major = 5;
    spec.devices.push_back(device);
  }
  spec.process.terminal = true;
  EXPECT_EQ(plan_of(spec).devices.size(), 6U);
  spec.process.terminal = false;
  EXPECT_EQ(plan_of(spec).devices.size(), 7U);
}

TEST(Plan, a_profile_is_compiled_once) {
  auto spec = base_spec();
  SeccompProfile profile;
  profile.default_action = "SCMP_ACT_ERRNO";
  SeccompRule rule;
  rule.names = {"read", "write", "execve", "exit_group"};
  rule.action = "SCMP_ACT_ALLOW";
  profile.syscalls = {rule};
  spec.seccomp = profile;
  auto first = plan_of(spec);
  auto second = plan_of(spec);
  EXPECT_FALSE(first.process.seccomp.empty());
  EXPECT_EQ(encode(first.process), encode(second.process));
  spec.seccomp->syscalls[0].action = "SCMP_ACT_MAYBE";
  EXPECT_NE(refusal(spec).find("linux.seccomp.syscalls[0].action"), std::string::npos) << refusal(spec);
}

TEST(Plan, scheduling_becomes_the_kernels_numbers) {
  auto spec = base_spec();
  spec.process.scheduler = Scheduler{"SCHED_DEADLINE", 0, 0, {"SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"}, 10, 20, 30};
  spec.process.io_priority = IoPriority{"IOPRIO_CLASS_IDLE", 7};
  spec.process.exec_cpu_affinity = CpuAffinity{"0-1,65", ""};
  spec.personality = Personality{"LINUX32", {}};
  spec.memory_policy = MemoryPolicy{"MPOL_INTERLEAVE", "1,3", {"MPOL_F_RELATIVE_NODES"}};
  const auto policy = plan_of(spec).process.policy;
  ASSERT_TRUE(policy.scheduler && policy.io_priority && policy.memory_policy);
  EXPECT_EQ(policy.scheduler->policy, 6U);
  EXPECT_EQ(policy.scheduler->flags, 6U);
  EXPECT_EQ(policy.scheduler->deadline_ns, 20U);
  EXPECT_EQ(policy.io_priority->io_class, 3);
  EXPECT_EQ(policy.initial_cpus, (std::vector<std::uint64_t>{3, 2}));
  EXPECT_TRUE(policy.final_cpus.empty());
  EXPECT_EQ(policy.personality, 8U);
  EXPECT_EQ(policy.memory_policy->mode, 3 | (1 << 14));
  EXPECT_EQ(policy.memory_policy->nodes, std::vector<std::uint64_t>{10});
  EXPECT_TRUE(policy.needs_host());
  auto bytes = encode(plan_of(spec));
  auto back = decode<LaunchPlan>(bytes, "plan");
  ASSERT_TRUE(back);
  EXPECT_EQ(back->process.policy.scheduler->period_ns, 30U) << "the policy travels with the plan";
}

TEST(Plan, id_maps_in_cruns_words_are_absolute_or_of_the_container) {
  auto spec = base_spec();
  spec.namespaces.push_back({NamespaceType::user, ""});
  spec.id_map = {{{0, 100000, 1}, {1, 200000, 1000}}, {{0, 100000, 65536}}};
  spec.mounts = {mount_of("/a", "bind", "/srv", {"bind", "ridmap=uids=0-1-10#10-11-10;gids=0-100-10"}),
                 mount_of("/b", "bind", "/srv", {"bind", "idmap=uids=@1-3-10;gids=@0-0-1"})};
  auto plan = plan_of(spec);
  EXPECT_TRUE(plan.mounts.at(0).id_mapped_recursive);
  EXPECT_EQ(plan.mounts[0].id_map.uids, (std::vector<linux::IdMapping>{{0, 1, 10}, {10, 11, 10}}));
  EXPECT_FALSE(plan.mounts.at(1).id_mapped_recursive);
  EXPECT_EQ(plan.mounts[1].id_map.uids, (std::vector<linux::IdMapping>{{1, 200002, 10}}));
  EXPECT_EQ(plan.mounts[1].id_map.gids, (std::vector<linux::IdMapping>{{0, 100000, 1}}));
  spec.mounts = {mount_of("/b", "bind", "/srv", {"bind", "idmap=uids=@1-0-10;gids=@0-0-1"})};
  EXPECT_NE(refusal(spec).find("not within one range"), std::string::npos) << "two ranges of the container are no range outside";
}

TEST(Plan, recursive_words_of_a_new_file_system_are_its_own) {
  auto spec = base_spec();
  spec.mounts = {mount_of("/x", "tmpfs", "tmpfs", {"rro", "rnosuid", "nodev"})};
  auto plan = plan_of(spec);
  EXPECT_EQ(plan.mounts.at(0).attr_set, static_cast<std::uint64_t>(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  EXPECT_EQ(plan.mounts[0].recursive_attr_set, 0U);
}

TEST(Plan, cache_groups_are_named_by_the_container_when_they_have_no_name) {
  auto spec = base_spec();
  spec.intel_rdt = IntelRdt{"", "L3:0=f\nL3:1=f", "MB:0=10", {"L2:0=1"}, true};
  PlanOptions options;
  options.container_id = "c1";
  auto plan = plan_of(spec, options);
  ASSERT_TRUE(plan.intel_rdt);
  EXPECT_EQ(plan.intel_rdt->group, "c1");
  EXPECT_EQ(plan.intel_rdt->schemata, (std::vector<std::string>{"L3:0=f", "L3:1=f", "MB:0=10", "L2:0=1"}));
  EXPECT_EQ(plan.intel_rdt->monitor, "c1");
  spec.intel_rdt->clos_id = "/";
  spec.intel_rdt->enable_monitoring = false;
  plan = plan_of(spec, options);
  EXPECT_EQ(plan.intel_rdt->group, "/");
  EXPECT_EQ(plan.intel_rdt->monitor, "");
}

TEST(Plan, labels_go_to_new_file_systems_in_the_kind_that_was_asked_for) {
  auto spec = base_spec();
  spec.mounts = {mount_of("/tmp", "tmpfs", "tmpfs", {}), mount_of("/proc", "proc", "proc", {}),
                 mount_of("/b", "bind", "/b", {"bind"})};
  spec.mount_label = "system_u:object_r:container_file_t:s0";
  auto with = facts();
  with.has_selinux = true;
  auto plan = compute_plan(spec, with, {});
  ASSERT_TRUE(plan);
  ASSERT_EQ(plan->mounts[0].options.size(), 1U);
  EXPECT_EQ(plan->mounts[0].options[0].key, "context");
  EXPECT_EQ(plan->mounts[0].options[0].value, spec.mount_label);
  EXPECT_TRUE(plan->mounts[1].options.empty());
  EXPECT_TRUE(plan->mounts[2].options.empty());
  spec.annotations["run.oci.mount_context_type"] = "rootcontext";
  plan = compute_plan(spec, with, {});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->mounts[0].options[0].key, "rootcontext");
  spec.annotations["run.oci.mount_context_type"] = "other";
  EXPECT_FALSE(compute_plan(spec, with, {}));
  EXPECT_EQ(refusal(spec), "linux.mountLabel: SELinux is off");
}

TEST(Plan, delegation_takes_a_name_on_v2_only) {
  auto spec = base_spec();
  spec.annotations["run.oci.delegate-cgroup"] = "inner";
  EXPECT_NE(refusal(spec).find("cgroup v2 only"), std::string::npos);
  auto unified = facts();
  unified.cgroup_unified = true;
  auto plan = compute_plan(spec, unified, {});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->delegated_cgroup, "inner");
  for (const char* name : {"", "..", "a/b", ".hidden"}) {
    spec.annotations["run.oci.delegate-cgroup"] = name;
    EXPECT_FALSE(compute_plan(spec, unified, {})) << name;
  }
}

TEST(Plan, a_v1_hierarchy_is_forced_upon_the_mount_that_the_annotation_names) {
  auto spec = base_spec();
  spec.mounts = {{"/sys/fs/cgroup", "cgroup", "cgroup", {"rw"}, {}}};
  spec.annotations[force_cgroup_v1] = "/sys/fs/cgroup";
  auto unified = facts();
  unified.cgroup_unified = true;
  unified.cgroup_v1_mounts = {"systemd"};
  auto plan = compute_plan(spec, unified, {});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->mounts[0].kind, MountKind::cgroup_v1);
  EXPECT_EQ(plan->mounts[0].folders, std::vector<std::string>{"systemd"});
  spec.annotations[force_cgroup_v1] = "/elsewhere";
  plan = compute_plan(spec, unified, {});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->mounts[0].kind, MountKind::filesystem);
  ASSERT_EQ(plan->warnings.size(), 1U);
}

TEST(Plan, resources_of_every_controller_arrive_in_the_limits) {
  Resources resources;
  resources.network.class_id = 0x100001;
  resources.network.priorities = {{"eth0", 5}};
  resources.rdma["mlx5_1"] = {3, std::nullopt};
  resources.memory.check_before_update = true;
  auto limits = plan_limits(resources);
  ASSERT_TRUE(limits);
  EXPECT_EQ(limits->net_cls_classid, 0x100001U);
  EXPECT_EQ(limits->net_prio.at(0).priority, 5U);
  EXPECT_EQ(limits->rdma.at(0).handles, 3U);
  EXPECT_TRUE(limits->memory_check_before_update);
}

TEST(LaunchError, words_for_a_missing_program_are_used_for_nothing_else) {
  LaunchPlan plan;
  plan.process.args = {"sh"};
  plan.process.rlimits = {{7, 1, 2, true}};
  for (std::uint32_t step = 0; step <= static_cast<std::uint32_t>(ChildStep::stage_clone); ++step) {
    const auto which = static_cast<ChildStep>(step);
    if (which == ChildStep::exec || which == ChildStep::program_lookup) continue;
    for (int number : {1, 2, 13, 20, 40}) {
      ChildMessage message{ChildMessageKind::failed, which, 0, number};
      std::string text = lower(describe_failure(message, plan.process, &plan).text());
      for (const char* word :
           {"no such file", "permission denied", "operation not permitted", "executable file not found", "not a directory"})
        EXPECT_EQ(text.find(word), std::string::npos) << text;
    }
  }
}

}  // namespace
}  // namespace caisson::runtime
