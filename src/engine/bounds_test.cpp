// Bounds of roles, field by field; the audit log's lines and files; and verbs judged by whose an object is.
#include "engine/bounds.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.hpp"
#include "engine/audit_log.hpp"
#include "engine/fake_parts.hpp"
#include "engine/volume_mounts.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {
namespace {

using fake::Harness;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

policy::Role bounded(policy::Bounds bounds = {}) {
  policy::Role role;
  role.name = "test";
  role.origin = "here";
  role.may = policy::verbs_up_to(policy::Level::administer);
  role.bounds = std::move(bounds);
  return role;
}

MountSpec bind_of(std::string source, bool read_only = false) {
  MountSpec mount;
  mount.source = std::move(source);
  mount.target = "/x";
  mount.read_only = read_only;
  return mount;
}

TEST(Bounds, an_ordinary_container_is_within_every_role) {
  ContainerSpec spec;
  spec.image = "busybox";
  spec.cap_add = {"CHOWN"};
  spec.mounts.push_back({.type = MountType::volume, .source = "data", .target = "/data"});
  spec.mounts.push_back({.type = MountType::tmpfs, .target = "/tmp"});
  spec.ports.push_back({.container_port = 80});
  EXPECT_TRUE(apply_bounds(bounded(), spec).ok());
  EXPECT_TRUE(spec.mounts[0].within.empty());
  policy::Bounds sound;
  sound.devices = {"/dev/snd/*"};
  spec.devices = {{"/dev/snd/pcm", "", "rwm"}};
  EXPECT_TRUE(apply_bounds(bounded(sound), spec).ok());
  spec.devices = {{"/dev/snd/../mem", "", "rwm"}};
  EXPECT_FALSE(apply_bounds(bounded(sound), spec).ok());
}

TEST(Bounds, each_way_out_of_the_default_box_is_named_when_it_is_refused) {
  const std::pair<std::string, std::function<void(ContainerSpec&)>> ways[] = {
      {"privileged", [](ContainerSpec& spec) { spec.privileged = true; }},
      {"capability sys_admin", [](ContainerSpec& spec) { spec.cap_add = {"sys_admin"}; }},
      {"capability ALL", [](ContainerSpec& spec) { spec.cap_add = {"ALL"}; }},
      {"host's network", [](ContainerSpec& spec) { spec.network.mode = "host"; }},
      {"host's network", [](ContainerSpec& spec) { spec.network.endpoints = {{.network = "host"}}; }},
      {"host's pid", [](ContainerSpec& spec) { spec.pid_mode = "host"; }},
      {"host's ipc", [](ContainerSpec& spec) { spec.ipc_mode = "host"; }},
      {"host's uts", [](ContainerSpec& spec) { spec.uts_mode = "host"; }},
      {"host's cgroup", [](ContainerSpec& spec) { spec.cgroupns_mode = "host"; }},
      {"host's user", [](ContainerSpec& spec) { spec.userns_mode = "host"; }},
      {"device /dev/mem", [](ContainerSpec& spec) { spec.devices = {{"/dev/mem", "", "rwm"}}; }},
      {"device rule", [](ContainerSpec& spec) { spec.device_cgroup_rules = {"a *:* rwm"}; }},
      {"GPUs", [](ContainerSpec& spec) { spec.device_requests = {{.count = -1}}; }},
      {"device x.com/y=z", [](ContainerSpec& spec) { spec.device_requests = {{.driver = "cdi", .device_ids = {"x.com/y=z"}}}; }},
      {"seccomp", [](ContainerSpec& spec) { spec.seccomp = "unconfined"; }},
      {"AppArmor", [](ContainerSpec& spec) { spec.apparmor_profile = "unconfined"; }},
      {"uncovered", [](ContainerSpec& spec) { spec.masked_paths.emplace(); }},
      {"uncovered", [](ContainerSpec& spec) { spec.readonly_paths.emplace(); }},
      {"cgroup parent", [](ContainerSpec& spec) { spec.cgroup_parent = "/"; }},
      {"bind mount of /", [](ContainerSpec& spec) { spec.mounts = {bind_of("/")}; }},
      {"volume option device=/", [](ContainerSpec& spec) { spec.mounts = {{.type = MountType::volume, .target = "/x", .driver_options = {{"device", "/"}}}}; }},
      {"oom-score-adj", [](ContainerSpec& spec) { spec.oom_score_adj = -1; }},
      {"oom-kill-disable", [](ContainerSpec& spec) { spec.resources.oom_kill_disable = true; }},
      {"real-time", [](ContainerSpec& spec) { spec.resources.cpu_realtime_runtime_us = 1; }},
      {"ulimit rtprio", [](ContainerSpec& spec) { spec.ulimits = {{"rtprio", 1, 1}}; }},
      {"annotation", [](ContainerSpec& spec) { spec.annotations = {{"run.oci.keep_original_groups", "1"}}; }},
      {"port 80", [](ContainerSpec& spec) { spec.ports = {{.container_port = 80, .host_port = 80}}; }},
      {"port 1000", [](ContainerSpec& spec) { spec.ports = {{.container_port = 80, .host_port = 1000, .host_port_last = 2000}}; }},
      {"log driver", [](ContainerSpec& spec) { spec.log_driver = "syslog"; }},
  };
  for (const auto& [what, change] : ways) {
    ContainerSpec spec;
    spec.image = "busybox";
    change(spec);
    auto judged = apply_bounds(bounded(), spec);
    ASSERT_FALSE(judged.ok()) << what;
    EXPECT_EQ(judged.error().kind(), ErrorKind::denied) << what;
    EXPECT_THAT(judged.error().text(), HasSubstr(what));
    EXPECT_THAT(judged.error().text(), HasSubstr("role \"test\" (here) does not allow"));
    policy::Role unbounded = bounded();
    unbounded.bounds.reset();
    EXPECT_TRUE(apply_bounds(unbounded, spec).ok()) << what;
  }
}

TEST(Bounds, what_a_role_grants_passes_and_no_more) {
  policy::Bounds bounds;
  bounds.capabilities = {"NET_ADMIN"};
  bounds.devices = {"/dev/snd/*", "gpus"};
  bounds.host_namespaces = {"network"};
  bounds.binds = {{"/srv/web", false, false}, {"/srv/web/keys", true, false}, {"/data", false, true}};
  const auto role = bounded(bounds);
  ContainerSpec spec;
  spec.image = "busybox";
  spec.cap_add = {"CAP_NET_ADMIN"};
  spec.devices = {{"/dev/snd/pcm", "", "rwm"}};
  spec.device_requests = {{.count = 1}};
  spec.network.mode = "host";
  spec.mounts = {bind_of("/srv/web/a"), bind_of("/srv/web/keys", true), bind_of("/data")};
  ASSERT_TRUE(apply_bounds(role, spec).ok());
  EXPECT_EQ(spec.mounts[0].within, "/srv/web");
  EXPECT_TRUE(spec.mounts[0].without_owners);
  EXPECT_THAT(spec.mounts[0].options, ElementsAre("nosuid", "nodev"));
  EXPECT_FALSE(spec.mounts[2].without_owners);
  spec.mounts = {bind_of("/srv/web/keys")};
  EXPECT_THAT(apply_bounds(role, spec).error().text(), HasSubstr("writing to"));
  spec.mounts = {bind_of("/srv/web/../../data/y")};
  ASSERT_TRUE(apply_bounds(role, spec).ok());
  EXPECT_EQ(spec.mounts[0].within, "/data") << "what it means counts, not how it is written";
  spec.mounts = {bind_of("/srv/web/../../etc")};
  EXPECT_FALSE(apply_bounds(role, spec).ok());
  EXPECT_FALSE(check_box(role, spec, {}).ok());
  spec.mounts = {bind_of("/srv/webmaster")};
  EXPECT_FALSE(apply_bounds(role, spec).ok());
  spec.mounts = {bind_of("/data")};
  spec.mounts[0].propagation = "rshared";
  EXPECT_FALSE(apply_bounds(role, spec).ok());
}

TEST(Bounds, limits_are_filled_in_and_not_passed) {
  policy::Bounds bounds;
  bounds.memory_bytes = 100;
  bounds.nano_cpus = 500'000'000;
  bounds.pids = 10;
  const auto role = bounded(bounds);
  ResourceSpec resources;
  ASSERT_TRUE(bound_resources(role, resources).ok());
  EXPECT_EQ(resources.memory_bytes, 100);
  EXPECT_EQ(resources.nano_cpus, 500'000'000);
  EXPECT_EQ(resources.pids_limit, 10);
  for (const auto& change : std::vector<std::function<void(ResourceSpec&)>>{[](auto& r) { r.memory_bytes = 101; }, [](auto& r) { r.memory_swap_bytes = -1; }, [](auto& r) { r.nano_cpus = 500'000'001; },
                                                                            [](auto& r) { r.cpu_quota_us = 60'000; }, [](auto& r) { r.pids_limit = 11; }}) {
    ResourceSpec more;
    change(more);
    EXPECT_FALSE(bound_resources(role, more).ok());
  }
  ResourceSpec quota;
  quota.cpu_quota_us = 20'000;
  quota.cpu_period_us = 50'000;
  EXPECT_TRUE(bound_resources(role, quota).ok());
  EXPECT_EQ(quota.nano_cpus, 0);
}

TEST(Bounds, images_are_known_by_any_of_their_names_and_users_by_number) {
  policy::Bounds bounds;
  bounds.images = {"docker.io/library/busybox:*"};
  bounds.users = {{1000, 1999}};
  const auto role = bounded(bounds);
  EXPECT_TRUE(check_image(role, "busybox", {}).ok());
  EXPECT_TRUE(check_image(role, "0123456789ab", {"docker.io/library/busybox:1"}).ok());
  EXPECT_FALSE(check_image(role, "busybox.example.org/x", {}).ok());
  bounds.images = {"b*", "registry.local/*"};
  const auto short_names = bounded(bounds);
  EXPECT_TRUE(check_image(short_names, "busybox", {}).ok());
  EXPECT_TRUE(check_image(short_names, "registry.local/a/b:1", {}).ok());
  EXPECT_FALSE(check_image(short_names, "busybox.example.org/x", {}).ok()) << "a star in the name of Docker's own images is no registry";
  EXPECT_FALSE(check_image(short_names, "registry.local.example.org/x", {}).ok());
  EXPECT_FALSE(check_image(short_names, "bada55", {"secret:latest"}).ok()) << "the beginning of an id says nothing";
  EXPECT_TRUE(check_image(short_names, concat("busybox@sha256:", std::string(64, 'a')), {"other:1"}).ok());
  ContainerSpec container;
  EXPECT_FALSE(check_exec(role, {}, container).ok()) << "no user is root";
  container.user = "1000:0";
  EXPECT_TRUE(check_exec(role, {}, container).ok());
  EXPECT_FALSE(check_exec(role, {.user = "2000"}, container).ok());
  EXPECT_THAT(check_exec(role, {.user = "nobody"}, container).error().text(), HasSubstr("by name"));
  EXPECT_FALSE(check_exec(role, {.user = "1000", .privileged = true}, container).ok());
  EXPECT_FALSE(check_exec(*policy::built_in("operator"), {.privileged = true}, container).ok());
  EXPECT_TRUE(check_exec(*policy::built_in("admin"), {.privileged = true}, container).ok());
}

TEST(Bounds, networks_hide_no_route_of_the_host) {
  auto judge = [](std::string cidr) { return check_network(bounded(), {.name = "n", .subnets = {{.cidr = std::move(cidr)}}}).ok(); };
  for (const char* good : {"", "10.0.0.0/8", "10.9.0.0/16", "172.16.0.0/12", "172.31.1.0/24", "192.168.0.0/16", "fd00:1::/64"}) EXPECT_TRUE(judge(good)) << good;
  for (const char* bad : {"8.8.8.0/24", "10.0.0.0/1", "172.15.0.0/16", "172.16.0.0/11", "192.168.0.0/15", "0.0.0.0/0", "2001:db8::/64", "f::/7", "fd::/64", "10.0.0.0", "x"}) EXPECT_FALSE(judge(bad)) << bad;
  EXPECT_FALSE(check_network(bounded(), {.name = "n", .driver = "macvlan"}).ok());
  EXPECT_FALSE(check_network(bounded(), {.name = "n", .options = {{"com.docker.network.bridge.name", "br0"}}}).ok());
  EXPECT_TRUE(check_network(bounded(), {.name = "n", .options = {{"com.docker.network.driver.mtu", "1400"}}}).ok());
}

TEST(Bounds, scope_is_put_into_what_is_made_and_not_overruled) {
  policy::Role role = bounded();
  role.scope = {{{"team", "web"}}, "shop"};
  policy::Labels labels;
  ASSERT_TRUE(put_in_scope(role, labels).ok());
  EXPECT_EQ(labels, (policy::Labels{{"team", "web"}, {"caisson.project", "shop"}}));
  ASSERT_TRUE(put_in_scope(role, labels).ok());
  labels["team"] = "other";
  EXPECT_FALSE(put_in_scope(role, labels).ok());
}

TEST(BindsWithinAGrant, do_not_follow_links_out_of_it) {
  const fake::TempFolder folder;
  const std::string grant = folder.path() + "/grant";
  ASSERT_TRUE(linux::make_dirs(grant + "/a/b", 0755).ok());
  ASSERT_TRUE(linux::symlinkat("/etc", AT_FDCWD, grant + "/out").ok());
  ASSERT_TRUE(linux::symlinkat("a/b", AT_FDCWD, grant + "/in").ok());
  EXPECT_TRUE(open_within(grant, grant).ok());
  EXPECT_TRUE(open_within(grant, grant + "/a/b").ok());
  EXPECT_TRUE(open_within(grant, grant + "/in").ok());
  EXPECT_TRUE(open_within("/", grant + "/a").ok());
  auto out = open_within(grant, grant + "/out");
  EXPECT_EQ(out.error().kind(), ErrorKind::denied);
  EXPECT_THAT(out.error().text(), HasSubstr("leads out of"));
  EXPECT_EQ(open_within(grant, folder.path() + "/other").error().kind(), ErrorKind::denied);
  EXPECT_EQ(open_within(grant, grant + "/missing").error().kind(), ErrorKind::not_found);
}

class Owners : public testing::Test {
 protected:
  Harness h;
  Engine& engine() { return *h.engine; }
  static Caller user(uid_t uid) {
    policy::Peer peer;
    peer.uid = peer.gid = uid;
    auto identity = policy::Policy().judge(peer);
    return {uid, uid, 1, "test", identity.who, identity.role};
  }
  const Caller alice = user(1000);
  const Caller bob = user(1001);
};

TEST_F(Owners, verbs_reach_ones_own_containers_only) {
  auto made = engine().create(alice, Harness::spec({"sleep"}, "theirs"));
  ASSERT_TRUE(made.ok()) << made.error().text();
  EXPECT_TRUE(engine().start(alice, "theirs").ok());
  for (const auto& status : {engine().kill(bob, "theirs", ""), engine().remove(bob, "theirs", {.force = true}), engine().rename(bob, "theirs", "mine"), engine().pause(bob, made->id)}) {
    EXPECT_EQ(status.error().kind(), ErrorKind::denied);
    EXPECT_THAT(status.error().text(), HasSubstr("is for objects with caisson.owner=uid:1001"));
  }
  EXPECT_EQ(engine().create_exec(bob, "theirs", {.cmd = {"sh"}}).error().kind(), ErrorKind::denied);
  EXPECT_THAT(*engine().list(bob, {.all = true}), IsEmpty());
  EXPECT_EQ(engine().list(alice, {.all = true})->size(), 1U);
  EXPECT_EQ(engine().inspect(h.admin, "theirs", false)->creator.who, "uid:1000");
  EXPECT_TRUE(engine().kill(alice, "theirs", "").ok());
}

TEST_F(Owners, anothers_namespaces_and_volumes_cannot_be_joined) {
  auto spec = Harness::spec({"sleep"}, "theirs");
  spec.mounts.push_back({.type = MountType::volume, .source = "data", .target = "/data"});
  ASSERT_TRUE(engine().create(alice, spec).ok());
  auto refused = [&](const std::function<void(ContainerSpec&)>& change) {
    auto wanted = Harness::spec({"sleep"});
    change(wanted);
    auto made = engine().create(bob, wanted);
    return !made.ok() && made.error().kind() == ErrorKind::denied;
  };
  EXPECT_TRUE(refused([](auto& s) { s.network.mode = "container:theirs"; }));
  EXPECT_TRUE(refused([](auto& s) { s.pid_mode = "container:theirs"; }));
  EXPECT_TRUE(refused([](auto& s) { s.volumes_from = {"theirs"}; }));
  EXPECT_TRUE(refused([](auto& s) { s.mounts.push_back({.type = MountType::volume, .source = "data", .target = "/data"}); }));
  EXPECT_EQ(engine().remove_volume(bob, "data", true).error().kind(), ErrorKind::denied);
  EXPECT_EQ(engine().create_volume(bob, {.name = "data"}).error().kind(), ErrorKind::denied) << "an existing one is answered to its owner only";
  EXPECT_THAT(*engine().list_volumes(bob, false), IsEmpty());
  EXPECT_THAT(*engine().list(bob, {.all = true}), IsEmpty()) << "a refused create leaves nothing";
}

TEST_F(Owners, an_admins_container_that_carries_the_label_is_not_worked_in_beyond_the_box) {
  auto spec = Harness::spec({"sleep"}, "strong");
  spec.privileged = true;
  spec.labels["caisson.owner"] = "uid:1000";
  h.run(spec);
  EXPECT_TRUE(engine().inspect(alice, "strong", false).ok());
  auto exec = engine().create_exec(alice, "strong", {.cmd = {"sh"}});
  EXPECT_EQ(exec.error().kind(), ErrorKind::denied);
  EXPECT_THAT(exec.error().text(), HasSubstr("reaches further than its caller"));
}

TEST_F(Owners, what_the_builder_mounts_is_not_asked_for_and_nobody_elses) {
  const StepMount cache{h.folder(), "/c", false};
  StepSpec step{Harness::spec({"sleep"}, "step"), {cache}};
  auto made = engine().create_step(alice, step);
  ASSERT_TRUE(made.ok()) << made.error().text();
  ASSERT_TRUE(engine().start(alice, "step").ok());
  EXPECT_TRUE(engine().create_exec(alice, "step", {.cmd = {"sh"}}).ok());
  // Others who see everything, within bounds: what a build was given is not theirs.
  const Caller all{1002, 1002, 1, "test", "uid:1002", std::make_shared<const policy::Role>(bounded())};
  EXPECT_TRUE(engine().inspect(all, "step", false).ok());
  auto exec = engine().create_exec(all, "step", {.cmd = {"sh"}});
  ASSERT_FALSE(exec.ok());
  EXPECT_EQ(exec.error().kind(), ErrorKind::denied);
  EXPECT_THAT(exec.error().text(), HasSubstr("the mount /c of somebody's build"));
  // Nor does it outlive the step by way of another container, be it the same caller's.
  for (const auto& caller : {alice, all}) {
    auto thief = Harness::spec({"sleep"});
    thief.volumes_from = {"step"};
    EXPECT_EQ(engine().create(caller, thief).error().kind(), ErrorKind::denied);
  }
  // It counts for what the builder mounts, not for the rest of the box.
  step.container.name = "second";
  step.container.mounts = {bind_of("/etc")};
  EXPECT_THAT(engine().create_step(alice, step).error().text(), HasSubstr("does not allow the bind mount of /etc"));
  step.container.mounts.clear();
  step.container.privileged = true;
  EXPECT_THAT(engine().create_step(alice, step).error().text(), HasSubstr("does not allow privileged"));
}

TEST_F(Owners, a_bind_that_another_role_was_granted_is_no_way_to_it) {
  policy::Bounds bounds;
  bounds.binds = {{h.folder(), false, false}};
  auto granted = bounded(bounds);
  granted.name = "granted";
  const Caller maker{1002, 1002, 1, "test", "uid:1002", std::make_shared<const policy::Role>(granted)};
  const Caller mate{1003, 1003, 1, "test", "uid:1003", maker.role};
  const Caller other{1004, 1004, 1, "test", "uid:1004", std::make_shared<const policy::Role>(bounded())};
  auto spec = Harness::spec({"sleep"}, "theirs");
  spec.mounts = {bind_of(h.folder())};
  ASSERT_TRUE(engine().create(maker, spec).ok());
  ASSERT_TRUE(engine().start(maker, "theirs").ok());
  EXPECT_TRUE(engine().create_exec(mate, "theirs", {.cmd = {"sh"}}).ok());
  auto exec = engine().create_exec(other, "theirs", {.cmd = {"sh"}});
  ASSERT_FALSE(exec.ok());
  EXPECT_THAT(exec.error().text(), HasSubstr("reaches further than its caller: role \"test\" (here) does not allow the bind mount of"));
  auto thief = Harness::spec({"sleep"});
  thief.volumes_from = {"theirs"};
  EXPECT_TRUE(engine().create(mate, thief).ok());
  auto made = engine().create(other, thief);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().kind(), ErrorKind::denied);
}

TEST_F(Owners, no_request_says_that_a_mount_is_the_builders_or_granted) {
  auto spec = Harness::spec({"sleep"});
  spec.mounts = {bind_of("/etc")};
  spec.mounts[0].of_step = true;
  EXPECT_THAT(engine().create(alice, spec).error().text(), HasSubstr("does not allow the bind mount of /etc"));
  spec.mounts[0].of_step = false;
  spec.mounts[0].within = "/";
  EXPECT_THAT(engine().create(alice, spec).error().text(), HasSubstr("does not allow the bind mount of /etc"));
}

TEST_F(Owners, a_steps_image_is_the_builders_choice) {
  policy::Bounds bounds;
  bounds.images = {"debian*"};
  const Caller caller{1002, 1002, 1, "test", "uid:1002", std::make_shared<const policy::Role>(bounded(bounds))};
  EXPECT_THAT(engine().create(caller, Harness::spec({"sleep"})).error().text(), HasSubstr("does not allow the image busybox"));
  EXPECT_TRUE(engine().create_step(caller, {Harness::spec({"sleep"}), {}}).ok());
}

TEST(AuditLog, a_line_says_who_what_from_where_and_whether) {
  const Caller caller{1000, 1000, 42, "unix:/run/caisson.sock", "uid:1000", policy::built_in("user")};
  EXPECT_EQ(audit_text({caller, policy::Verb::container_create, "web", "", false, "because", {}}, 1'000'000'000),
            R"({"time":"1970-01-01T00:00:01.000000000Z","who":"uid:1000","role":"user","from":"unix:/run/caisson.sock","verb":"container.create","object":"web","pid":42,"decision":"denied","why":"because"})");
}

TEST(AuditLog, is_put_aside_when_it_has_grown_and_counts_what_it_cannot_write) {
  const fake::TempFolder folder;
  const std::string path = folder.path() + "/audit.log";
  const Caller caller{0, 0, 1, "test", "uid:0", policy::built_in("admin")};
  AuditLog log(path, 1000);
  for (int i = 0; i < 100; ++i) log.write({caller, policy::Verb::container_start, concat("c", i), "", true, "", {}});
  EXPECT_EQ(log.lost(), 0U);
  EXPECT_LE(linux::read_file(path)->size(), 1000U);
  EXPECT_TRUE(linux::exists(path + ".8").value_or(false));
  EXPECT_FALSE(linux::exists(path + ".9").value_or(true));
  EXPECT_THAT(*linux::read_file(path), HasSubstr("\"c99\""));
  AuditLog nowhere(folder.path() + "/missing/audit.log");
  nowhere.write({caller, policy::Verb::container_start, "c", "", true, "", {}});
  EXPECT_EQ(nowhere.lost(), 1U);
  AuditLog none("");
  none.write({caller, policy::Verb::container_start, "c", "", true, "", {}});
  EXPECT_EQ(none.lost(), 0U);
}

TEST_F(Owners, a_process_of_a_container_is_that_container_whatever_its_user_is) {
  auto spec = Harness::spec({"sleep"}, "web");
  spec.labels["caisson.project"] = "shop";
  auto id = h.run(spec);
  Connection connection;
  connection.peer.uid = engine().inspect(h.admin, "web", false)->first_host_id;
  ASSERT_NE(connection.peer.uid, 0U);
  auto caller = engine().identify(connection);
  EXPECT_EQ(caller.who, concat("container:", id.substr(0, 12)));
  EXPECT_EQ(caller.role->scope.project, "shop");
  connection.peer.uid += 70000;
  EXPECT_THAT(engine().identify(connection).who, Not(HasSubstr("container:0")));
}

}  // namespace
}  // namespace caisson::engine
