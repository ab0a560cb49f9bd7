// The judgements of doctor: a healthy host is left alone, every sick one is named with its cure.
#include "cli/doctor.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace caisson::cli {
namespace {

HostReading healthy() {
  HostReading host;
  host.user = "root";
  host.kernel = "6.12.0";
  host.max_user_namespaces = 65'536;
  host.nameservers = {"192.0.2.1"};
  host.root = "/var/lib/caisson";
  host.disk_bytes = 100ULL << 30U;
  host.free_bytes = 50ULL << 30U;
  host.inodes = 1'000'000;
  host.free_inodes = 900'000;
  host.socket = "/run/caisson.sock";
  host.socket_mode = 0660;
  host.now = 1'800'000'000LL * 1'000'000'000;
  return host;
}

Finding finding_of(const HostReading& host, std::string_view check) {
  for (const auto& finding : judge_host(host))
    if (finding.check == check) return finding;
  ADD_FAILURE() << "no finding " << check;
  return {};
}

TEST(Doctor, finds_nothing_wrong_with_a_healthy_host) {
  for (const auto& finding : judge_host(healthy())) EXPECT_EQ(finding.verdict, Verdict::good) << finding.check << ": " << finding.what;
}

TEST(Doctor, says_for_everything_that_is_wrong_why_it_matters) {
  HostReading host;  // nearly nothing is there
  host.missing_programs = {"caissond"};
  host.overlay_problem = host.idmap_problem = "Invalid argument";
  host.cgroup_mode = linux::CgroupMode::none;
  host.has_seccomp = host.has_apparmor = host.has_apparmor_parser = host.has_systemd = host.has_kvm = host.has_criu = host.has_mmdebstrap = host.has_id_map_helpers = false;
  host.landlock_abi = 0;
  host.nft_problem = "not installed";
  host.forwards_ipv4 = false;
  host.dropping_chains = {"chain inet filter forward"};
  host.file_system = "NFS";
  auto findings = judge_host(host);
  std::size_t wrong = 0;
  for (const auto& finding : findings) {
    if (finding.verdict == Verdict::good) continue;
    ++wrong;
    EXPECT_FALSE(finding.why.empty()) << finding.check;
    EXPECT_TRUE(finding.verdict == Verdict::note || !finding.mend.empty()) << finding.check;
  }
  EXPECT_GE(wrong, 18U);
}

TEST(Doctor, says_when_images_from_anyone_are_accepted_and_when_none_can_be) {
  auto host = healthy();
  host.policy = "/etc/containers/policy.json";
  host.accepts_anything = true;
  EXPECT_EQ(finding_of(host, "trust").verdict, Verdict::note);
  EXPECT_NE(finding_of(host, "trust").what.find("accepts images from anyone (/etc/containers/policy.json)"), std::string::npos);
  host.policy.clear();
  EXPECT_NE(finding_of(host, "trust").what.find("no signature policy"), std::string::npos);
  host.needs_gpgv = true;
  EXPECT_EQ(finding_of(host, "trust").verdict, Verdict::broken);
  host.policy_problem = "signature policy: /etc/containers/policy.json: invalid JSON";
  EXPECT_EQ(finding_of(host, "trust").what, host.policy_problem);
}

TEST(Doctor, names_each_check_once) {
  std::vector<std::string> names;
  for (const auto& finding : judge_host(healthy())) names.push_back(finding.check);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
}

TEST(Doctor, mends_switched_off_user_namespaces_by_their_setting) {
  auto host = healthy();
  host.user_namespace_problem = "No space left on device";
  host.max_user_namespaces = 0;
  auto finding = finding_of(host, "user-namespaces");
  EXPECT_EQ(finding.verdict, Verdict::broken);
  EXPECT_EQ(finding.repair.setting, "user.max_user_namespaces=65536");
  EXPECT_EQ(finding.mend, "sysctl -w user.max_user_namespaces=65536");
}

TEST(Doctor, names_the_library_that_the_registries_program_lacks) {
  auto host = healthy();
  host.fetch_problem = "caisson-fetch: error while loading shared libraries: libcurl.so.4: cannot open shared object file";
  auto finding = finding_of(host, "registries");
  EXPECT_EQ(finding.verdict, Verdict::broken);
  EXPECT_EQ(finding.mend, "apt-get install libcurl4");
  host.fetch_problem.clear();
  host.has_fetch = false;
  EXPECT_EQ(finding_of(host, "registries").verdict, Verdict::warning) << "an engine without registries still runs containers";
}

TEST(Doctor, wants_missing_memory_limits_from_the_kernel_command_line) {
  auto host = healthy();
  host.missing_controllers = {"memory"};
  EXPECT_EQ(finding_of(host, "cgroups").mend, "add cgroup_enable=memory to the kernel's command line");
}

TEST(Doctor, warns_of_a_firewall_that_drops_what_is_forwarded_and_names_its_owner) {
  auto host = healthy();
  host.dropping_chains = {"the FORWARD chain of iptables"};
  host.firewalls = {"ufw", "dockerd"};
  auto finding = finding_of(host, "forward-policy");
  EXPECT_EQ(finding.verdict, Verdict::warning);
  EXPECT_EQ(finding.what, "forwarded packets are dropped by the FORWARD chain of iptables (here: ufw, dockerd)");
}

TEST(Doctor, calls_a_full_disk_broken_and_a_nearly_full_one_a_warning) {
  auto host = healthy();
  host.free_bytes = 2ULL << 30U;
  EXPECT_EQ(finding_of(host, "disk-space").verdict, Verdict::warning);
  host.free_bytes = 1U << 20U;
  EXPECT_EQ(finding_of(host, "disk-space").verdict, Verdict::broken);
}

TEST(Doctor, warns_of_images_that_have_nearly_used_up_their_quota) {
  auto host = healthy();
  auto findings = judge_host(host);
  EXPECT_TRUE(std::none_of(findings.begin(), findings.end(), [](const auto& f) { return f.check == "store-quota"; })) << "there is none";
  host.store_quota_bytes = 10ULL << 30U;
  host.store_used_bytes = 8ULL << 30U;
  EXPECT_EQ(finding_of(host, "store-quota").verdict, Verdict::good);
  host.store_used_bytes = 9ULL << 30U;
  EXPECT_EQ(finding_of(host, "store-quota").verdict, Verdict::warning);
  EXPECT_EQ(finding_of(host, "store-quota").what, "images take 9GiB of the quota of 10GiB");
}

TEST(Doctor, notices_that_inodes_run_out_where_their_number_is_fixed) {
  auto host = healthy();
  host.free_inodes = 100;
  EXPECT_EQ(finding_of(host, "inodes").verdict, Verdict::broken);
  host.inodes = 0;  // btrfs: as many as fit
  auto findings = judge_host(host);
  EXPECT_TRUE(std::none_of(findings.begin(), findings.end(), [](const auto& f) { return f.check == "inodes"; }));
}

TEST(Doctor, closes_a_socket_that_everybody_may_use) {
  auto host = healthy();
  host.socket_mode = 0666;
  auto finding = finding_of(host, "socket");
  EXPECT_EQ(finding.verdict, Verdict::broken);
  EXPECT_EQ(finding.repair.socket_mode, 0660U);
}

TEST(Doctor, takes_what_only_an_engine_without_root_needs_as_a_note_for_root) {
  auto host = healthy();
  host.has_id_map_helpers = false;
  EXPECT_EQ(finding_of(host, "id-maps").verdict, Verdict::note);
  host.is_root = false;
  EXPECT_EQ(finding_of(host, "id-maps").verdict, Verdict::broken);
}

TEST(Doctor, says_what_the_container_around_an_engine_lacks) {
  auto inside = healthy();
  inside.is_contained = true;
  inside.is_privileged = false;
  for (const auto& finding : judge_host(inside)) EXPECT_EQ(finding.verdict, Verdict::good) << finding.check << ": " << finding.what;
  auto poor = inside;
  poor.missing_rights = {"SYS_ADMIN", "NET_ADMIN"};
  EXPECT_EQ(finding_of(poor, "privilege").verdict, Verdict::broken);
  EXPECT_EQ(finding_of(poor, "privilege").mend, "start the container around with --security-opt nesting --cap-add SYS_ADMIN --cap-add NET_ADMIN");
  poor.own_ids = 1000;
  EXPECT_EQ(finding_of(poor, "own-ids").verdict, Verdict::broken);
  poor.proc_problem = "mount proc: Operation not permitted";
  EXPECT_EQ(finding_of(poor, "fresh-proc").verdict, Verdict::broken);
  poor.may_make_cgroups = false;
  EXPECT_EQ(finding_of(poor, "cgroups").verdict, Verdict::warning);
  poor.idmap_problem = "Operation not permitted";
  for (const auto& finding : judge_host(poor)) EXPECT_NE(finding.check, "idmapped-mounts") << "nothing is mapped in there";
}

TEST(Doctor, says_what_an_ordinary_user_lacks_for_an_engine_of_his_own) {
  auto user = healthy();
  user.is_root = false;
  user.user = "anna";
  for (const auto& finding : judge_host(user)) {
    const bool is_expected = finding.check == "low-ports";  // a note on every host
    EXPECT_EQ(finding.verdict, is_expected ? Verdict::note : Verdict::good) << finding.check << ": " << finding.what;
  }
  auto with = [&](auto change) {
    auto host = user;
    change(host);
    return host;
  };
  auto few_ids = finding_of(with([](auto& host) { host.subordinate_ids = 1000; }), "id-maps");
  EXPECT_EQ(few_ids.verdict, Verdict::broken);
  EXPECT_NE(few_ids.mend.find("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 anna"), std::string::npos) << few_ids.mend;
  EXPECT_EQ(finding_of(with([](auto& host) { host.may_map_ids = false; }), "id-maps").verdict, Verdict::broken);
  EXPECT_EQ(finding_of(with([](auto& host) { host.uplink = ""; }), "rootless-network").mend, "apt-get install passt");
  EXPECT_EQ(finding_of(with([](auto& host) { host.has_tun = false; }), "rootless-network").verdict, Verdict::warning);
  EXPECT_EQ(finding_of(with([](auto& host) { host.has_runtime_dir = false; }), "runtime-dir").verdict, Verdict::broken);
  EXPECT_EQ(finding_of(with([](auto& host) { host.cgroup_mode = linux::CgroupMode::hybrid; }), "delegation").verdict, Verdict::warning);
  EXPECT_EQ(finding_of(with([](auto& host) { host.has_user_manager = false; }), "delegation").verdict, Verdict::warning);
  EXPECT_NE(finding_of(with([](auto& host) { host.missing_delegation = {"cpu", "io"}; }), "delegation").what.find("cpu, io"), std::string::npos);
  EXPECT_EQ(finding_of(with([](auto& host) { host.lingers = false; }), "linger").mend, "loginctl enable-linger anna");
  EXPECT_EQ(finding_of(with([](auto& host) { host.first_user_port = 80; }), "low-ports").verdict, Verdict::good);
  EXPECT_NE(finding_of(with([](auto& host) { host.is_unit_enabled = false; }), "systemd").mend.find("systemctl --user enable"), std::string::npos);
}

TEST(Doctor, accepts_a_resolver_on_this_host_only_with_the_list_behind_it) {
  auto host = healthy();
  host.has_only_loopback_nameservers = true;
  EXPECT_EQ(finding_of(host, "dns").verdict, Verdict::warning);
  host.has_resolved_file = true;
  EXPECT_EQ(finding_of(host, "dns").verdict, Verdict::good);
}

TEST(Doctor, reads_this_host_without_a_daemon) {
  auto host = read_host(Invocation(global_flags()));
  ASSERT_TRUE(host.ok()) << host.error().text();
  EXPECT_FALSE(host->kernel.empty());
  EXPECT_GT(host->disk_bytes, 0U);
}

}  // namespace
}  // namespace caisson::cli
