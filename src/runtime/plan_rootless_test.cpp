// What a plan leaves out or replaces when we are not the host's root.
#include <gtest/gtest.h>

#include <cerrno>

#include "linux/mount_api.hpp"
#include "runtime/plan.hpp"

namespace caisson::runtime {
namespace {

/// What `spec --rootless` writes, in short.
Spec user_spec() {
  Spec spec;
  spec.root.path = "rootfs";
  spec.process.args = {"sh"};
  spec.namespaces = {{NamespaceType::mount, ""}, {NamespaceType::pid, ""}, {NamespaceType::user, ""}};
  spec.id_map.uids = {{0, 1000, 1}};
  spec.id_map.gids = {{0, 1000, 1}};
  return spec;
}

void without_user_namespace(Spec& spec) {
  spec.namespaces.pop_back();
  spec.id_map = {};
}

HostFacts user_facts() {
  HostFacts facts;
  facts.is_privileged = false;
  facts.may_raise_rlimits = false;
  facts.is_rootless = true;
  facts.may_mount = false;
  facts.oom_score_adj = 100;
  return facts;
}

/// Root of a user namespace, as under rootless podman.
HostFacts nested_facts() {
  HostFacts facts = user_facts();
  facts.may_mount = true;
  return facts;
}

LaunchPlan plan_of(const Spec& spec, const HostFacts& facts) {
  auto plan = compute_plan(spec, facts, {});
  EXPECT_TRUE(plan) << (plan ? "" : plan.error().text());
  return plan ? std::move(plan).value() : LaunchPlan{};
}

Mount mount_of(std::string destination, std::string type, std::vector<std::string> options) {
  Mount out;
  out.destination = std::move(destination);
  out.source = type;
  out.type = std::move(type);
  out.options = std::move(options);
  return out;
}

TEST(PlanRootless, an_ordinary_user_needs_a_user_namespace) {
  Spec spec = user_spec();
  without_user_namespace(spec);
  auto plan = compute_plan(spec, user_facts(), {});
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().error_number(), EPERM);
  EXPECT_NE(plan.error().text().find("needs a user namespace"), std::string::npos) << plan.error().text();
  EXPECT_TRUE(compute_plan(spec, nested_facts(), {})) << "root of a user namespace has one";
}

TEST(PlanRootless, devices_have_no_rules_and_are_made_by_the_child) {
  Spec spec = user_spec();
  spec.mounts = {mount_of("/dev", "tmpfs", {"mode=755"})};
  const auto plan = plan_of(spec, user_facts());
  EXPECT_TRUE(plan.limits.devices.empty());
  EXPECT_EQ(plan.mounts[0].kind, MountKind::filesystem);
  EXPECT_FALSE(plan.devices.empty());
}

TEST(PlanRootless, what_the_hosts_namespaces_own_is_bound) {
  Spec spec = user_spec();
  spec.mounts = {mount_of("/sys", "sysfs", {"ro"}), mount_of("/dev/mqueue", "mqueue", {})};
  without_user_namespace(spec);
  auto plan = plan_of(spec, nested_facts());
  EXPECT_EQ(plan.mounts[0].kind, MountKind::bind);
  EXPECT_EQ(plan.mounts[0].source, "/sys");
  EXPECT_EQ(plan.mounts[0].recursive_attr_set & MOUNT_ATTR_RDONLY, std::uint64_t{MOUNT_ATTR_RDONLY});
  EXPECT_EQ(plan.mounts[1].source, "/dev/mqueue");
  spec.namespaces.push_back({NamespaceType::network, "/run/user/1000/netns/x"});
  spec.namespaces.push_back({NamespaceType::ipc, ""});
  plan = plan_of(spec, nested_facts());
  EXPECT_EQ(plan.mounts[0].kind, MountKind::filesystem) << "whoever owns that one, the child tries, and binds when it may not";
  EXPECT_EQ(plan.mounts[1].kind, MountKind::filesystem);
}

TEST(PlanRootless, the_cgroups_of_the_user_are_shown_read_only) {
  Spec spec = user_spec();
  spec.mounts = {mount_of("/sys/fs/cgroup", "cgroup", {"rw"})};
  HostFacts facts = user_facts();
  facts.cgroup_unified = true;
  auto plan = plan_of(spec, facts);
  EXPECT_EQ(plan.mounts[0].kind, MountKind::bind);
  EXPECT_EQ(plan.mounts[0].recursive_attr_set & MOUNT_ATTR_RDONLY, std::uint64_t{MOUNT_ATTR_RDONLY});
  spec.namespaces.push_back({NamespaceType::cgroup, ""});
  plan = plan_of(spec, facts);
  EXPECT_EQ(plan.mounts[0].type, "cgroup2") << "its own view may be writable";
}

TEST(PlanRootless, an_oom_score_only_rises) {
  Spec spec = user_spec();
  spec.process.oom_score_adj = -500;
  auto plan = plan_of(spec, user_facts());
  EXPECT_EQ(plan.process.oom_score_adj, 100);
  ASSERT_EQ(plan.warnings.size(), 1U);
  EXPECT_NE(plan.warnings[0].find("oomScoreAdj: -500 raised to our own 100"), std::string::npos) << plan.warnings[0];
  spec.process.oom_score_adj = 500;
  plan = plan_of(spec, user_facts());
  EXPECT_EQ(plan.process.oom_score_adj, 500);
  spec.process.oom_score_adj = -500;
  plan = plan_of(spec, HostFacts{});
  EXPECT_EQ(plan.process.oom_score_adj, -500) << "root is told by the kernel";
}

TEST(PlanRootless, groups_are_left_out_where_setgroups_is_denied) {
  Spec spec = user_spec();
  spec.process.user.additional_gids = {10};
  auto plan = plan_of(spec, user_facts());
  EXPECT_FALSE(plan.process.set_groups);
  EXPECT_TRUE(plan.process.groups.empty());
  ASSERT_EQ(plan.warnings.size(), 1U);
  spec.id_map.gids = {{0, 1000, 1}, {1, 100000, 65536}};
  plan = plan_of(spec, user_facts());
  EXPECT_TRUE(plan.process.set_groups) << "newgidmap does not deny it";
  EXPECT_EQ(plan.process.groups, std::vector<std::uint32_t>{10});
}

}  // namespace
}  // namespace caisson::runtime
