// Who has which role, what roles may, and files that must not be misread.
#include "policy/policy.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/digest.hpp"
#include "base/strings.hpp"

namespace caisson::policy {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Accounts accounts{"root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n", "root:x:0:\ndev:x:2000:alice\n"};

Policy must_parse(std::string_view text) {
  auto policy = Policy::parse(text, "roles.toml", accounts, 0, built_in("viewer"));
  if (!policy.ok()) ADD_FAILURE() << policy.error().text();
  return policy.ok() ? std::move(policy).value() : Policy();
}

std::string why_not(std::string_view text) {
  auto policy = Policy::parse(text, "roles.toml", accounts, 0, built_in("viewer"));
  if (policy.ok()) ADD_FAILURE() << "was accepted: " << text;
  return policy.ok() ? "" : concat(policy.error().text(), " | ", policy.error().hint());
}

Peer unix_peer(std::uint32_t uid, std::vector<std::uint32_t> groups = {}) {
  Peer peer;
  peer.uid = peer.gid = uid;
  peer.groups = std::move(groups);
  return peer;
}
Peer tcp_peer(bool is_verified, std::string certificate = "") {
  Peer peer;
  peer.is_unix = false;
  peer.uid = peer.gid = 65534;
  peer.address = "10.0.0.7:4711";
  peer.is_verified = is_verified;
  peer.certificate = std::move(certificate);
  return peer;
}

TEST(BuiltInRules, without_a_file_root_is_admin_and_whoever_else_may_open_the_socket_is_a_user) {
  const Policy policy(0, built_in("viewer"));
  EXPECT_EQ(policy.judge(unix_peer(0)).role->name, "admin");
  EXPECT_EQ(policy.judge(unix_peer(1000)).role->name, "user");
  EXPECT_EQ(policy.judge(tcp_peer(true, "ci")).role->name, "admin");
  EXPECT_EQ(policy.judge(tcp_peer(false)).role->name, "viewer");
}

TEST(BuiltInRules, the_user_who_runs_the_engine_is_its_admin) {
  EXPECT_EQ(Policy(1000).judge(unix_peer(1000)).role->name, "admin");
  EXPECT_EQ(Policy(1000).judge(unix_peer(1001)).role->name, "user");
}

TEST(BuiltInRules, root_in_a_container_of_another_engine_is_nobody) {
  auto peer = unix_peer(0);
  peer.is_elsewhere = true;
  EXPECT_EQ(Policy().judge(peer).role->name, "none");
}

TEST(BuiltInRules, a_token_that_nobody_gave_out_takes_away_what_its_bearer_would_be_without_it) {
  auto peer = unix_peer(0);
  peer.token = "guess";
  EXPECT_EQ(Policy().judge(peer).role->name, "none");
}

TEST(BuiltInRoles, a_user_touches_what_is_theirs_only) {
  const auto alice = Policy().judge(unix_peer(1000)).role;
  EXPECT_TRUE(alice->scope.holds({{"caisson.owner", "uid:1000"}}, ""));
  EXPECT_FALSE(alice->scope.holds({{"caisson.owner", "uid:1001"}}, ""));
  EXPECT_FALSE(alice->scope.holds({}, ""));
  EXPECT_TRUE(alice->allows(Verb::container_exec));
  EXPECT_FALSE(alice->allows(Verb::container_commit));
  EXPECT_FALSE(alice->allows(Verb::image_load)) << "an image under another's name would be run by them";
  EXPECT_FALSE(alice->allows(Verb::build_run));
  EXPECT_FALSE(alice->allows(Verb::system_reload));
  ASSERT_TRUE(alice->bounds.has_value());
  EXPECT_FALSE(alice->bounds->privileged);
  EXPECT_TRUE(alice->bounds->binds.empty());
}

TEST(BuiltInRoles, levels_hold_what_is_below_them) {
  EXPECT_TRUE(built_in("viewer")->allows(Verb::container_logs));
  EXPECT_FALSE(built_in("viewer")->allows(Verb::container_start));
  EXPECT_TRUE(built_in("operator")->allows(Verb::container_start));
  EXPECT_FALSE(built_in("operator")->allows(Verb::container_create));
  EXPECT_TRUE(built_in("admin")->may.all());
  EXPECT_TRUE(built_in("none")->may.none());
  EXPECT_EQ(built_in("developer"), nullptr);
}

constexpr std::string_view example = R"(
[[who]]
user = "alice"
role = "developer"
[[who]]
group = "dev"
role = "viewer"
[[who]]
certificate = "*.ci.example.org"
role = "developer"
[[who]]
plain-tcp = true
role = "none"

[roles.developer]
may = ["see", "container.*", "!container.commit", "build.run"]
labels = ["team=web", "owner={who}"]
[roles.developer.containers]
binds = ["/srv/web", "/srv/web/keys:ro", "/data/:owners"]
capabilities = ["cap_net_admin"]
host-namespaces = ["network"]
memory = "2g"
cpus = 1.5
pids = 100
ports = ["80", "8000-8999"]
users = ["1000-1999"]
)";

TEST(PolicyFile, the_first_rule_that_fits_decides) {
  const auto policy = must_parse(example);
  EXPECT_EQ(policy.judge(unix_peer(1000, {2000})).role->name, "developer");
  EXPECT_EQ(policy.judge(unix_peer(1001, {2000})).role->name, "viewer");
  EXPECT_EQ(policy.judge(unix_peer(2000)).role->name, "viewer") << "a primary group counts";
  EXPECT_EQ(policy.judge(tcp_peer(true, "a.ci.example.org")).role->name, "developer");
  EXPECT_EQ(policy.judge(tcp_peer(true, "example.org")).role->name, "admin");
  EXPECT_EQ(policy.judge(tcp_peer(false, "a.ci.example.org")).role->name, "none") << "an unverified name is no name";
}

TEST(PolicyFile, a_role_says_what_it_may_and_how_far_its_containers_reach) {
  const auto role = must_parse(example).judge(unix_peer(1000)).role;
  EXPECT_EQ(role->text(), "role \"developer\" (roles.toml, line 15)");
  EXPECT_TRUE(role->allows(Verb::container_exec));
  EXPECT_FALSE(role->allows(Verb::container_commit));
  EXPECT_EQ(role->scope.labels.at("owner"), "uid:1000");
  const auto& bounds = *role->bounds;
  EXPECT_EQ(grant_for(bounds, "/srv/web")->path, "/srv/web");
  EXPECT_EQ(grant_for(bounds, "/srv/website"), nullptr);
  EXPECT_EQ(grant_for(bounds, "/srv"), nullptr);
  EXPECT_TRUE(grant_for(bounds, "/srv/web/keys/a")->read_only);
  EXPECT_TRUE(grant_for(bounds, "/data/x")->keeps_owners);
  EXPECT_THAT(bounds.capabilities, ElementsAre("NET_ADMIN"));
  EXPECT_EQ(bounds.memory_bytes, std::int64_t{2} << 30);
  EXPECT_EQ(bounds.nano_cpus, 1'500'000'000);
  EXPECT_TRUE(bounds.ports[1].holds(8999));
  EXPECT_FALSE(bounds.privileged);
}

TEST(PolicyFile, a_token_is_known_by_its_digest) {
  const std::string line = concat("[[who]]\ntoken = \"ci\"\ntoken-sha256 = \"", sha256_of("secret").hex(), "\"\nrole = \"operator\"\n");
  const auto policy = must_parse(line);
  auto peer = tcp_peer(false);
  peer.token = "secret";
  EXPECT_EQ(policy.judge(peer).who, "token:ci");
  EXPECT_EQ(policy.judge(peer).role->name, "operator");
  peer.token = "secret2";
  EXPECT_EQ(policy.judge(peer).role->name, "none");
}

TEST(PolicyFile, a_rule_for_somebody_who_is_not_there_fits_nobody_and_is_said) {
  const auto policy = must_parse("[[who]]\nuser = \"bob\"\nrole = \"admin\"\n");
  EXPECT_EQ(policy.judge(unix_peer(1000)).role->name, "user");
  EXPECT_THAT(policy.warnings(), ElementsAre(HasSubstr("line 1: there is no user \"bob\"")));
}

TEST(PolicyFile, only_the_role_user_can_be_told_anew) {
  EXPECT_TRUE(must_parse("[roles.user]\nmay = [\"*\"]\nunbounded = true\n").judge(unix_peer(1000)).role->may.all());
  EXPECT_THAT(why_not("[roles.admin]\nmay = []\n"), HasSubstr("is built in"));
}

TEST(PolicyFile, what_is_not_understood_is_refused_by_its_line) {
  EXPECT_THAT(why_not("[roles.x]\nmya = []\n"), HasSubstr("roles.toml, line 2: roles.x.mya: unknown key"));
  EXPECT_THAT(why_not("[roles.x]\nmay = [\"container.fly\"]\n"), HasSubstr("\"container.fly\" is no verb"));
  EXPECT_THAT(why_not("[roles.x]\n[roles.x.containers]\nbinds = [\"/srv/../etc\"]\n"), HasSubstr("line 3"));
  EXPECT_THAT(why_not("[roles.x.containers]\nbinds = [\"srv\"]\n"), HasSubstr("absolute"));
  EXPECT_THAT(why_not("[roles.x.containers]\nhost-namespaces = [\"mount\"]\n"), HasSubstr("none of"));
  EXPECT_THAT(why_not("[roles.x.containers]\nmemory = -1\n"), HasSubstr("want a size"));
  EXPECT_THAT(why_not("[roles.x.containers]\ncpus = nan\n"), HasSubstr("number of CPUs"));
  EXPECT_THAT(why_not("[roles.x.containers]\nports = [\"90-80\"]\n"), HasSubstr("ends before it begins"));
  EXPECT_THAT(why_not("[roles.x]\nunbounded = true\n[roles.x.containers]\n"), HasSubstr("contradict"));
  EXPECT_THAT(why_not("[[who]]\nrole = \"admin\"\n"), HasSubstr("names nobody"));
  EXPECT_THAT(why_not("[[who]]\nuser = \"alice\"\n"), HasSubstr("has no role"));
  EXPECT_THAT(why_not("[[who]]\nuser = \"alice\"\nrole = \"king\"\n"), HasSubstr("there is no role \"king\""));
  EXPECT_THAT(why_not("[[who]]\nuser = \"\"\nrole = \"admin\"\n"), HasSubstr("want a text"));
  EXPECT_THAT(why_not("who = 3\n"), HasSubstr("[[who]]"));
  EXPECT_THAT(why_not("[[who]]\ntoken-sha256 = \"12\"\nrole = \"admin\"\n"), HasSubstr("64 hexadecimal"));
  EXPECT_THAT(why_not("[[who]\n"), HasSubstr("roles.toml"));
}

TEST(ContainersOwnSocket, reaches_its_project_and_no_further_than_its_creator) {
  const Policy policy;
  const auto of_admin = policy.judge_container("0123456789abcdef", "shop", {"uid:0", "admin", {}});
  EXPECT_EQ(of_admin.who, "container:0123456789ab");
  EXPECT_TRUE(of_admin.role->scope.holds({}, "shop"));
  EXPECT_FALSE(of_admin.role->scope.holds({}, "other"));
  EXPECT_TRUE(of_admin.role->bounds.has_value()) << "an admin's container is no admin";
  EXPECT_FALSE(of_admin.role->allows(Verb::build_run));
  EXPECT_EQ(of_admin.role->name, "container of admin");
  const auto of_container = policy.judge_container("fedcba9876543210", "shop", {of_admin.who, of_admin.role->name, {{"caisson.project", "shop"}}});
  EXPECT_EQ(of_container.role->name, "container of admin") << "what a container makes is no more than it, and no less";
  EXPECT_FALSE(of_container.role->scope.holds({}, "shop"));
  EXPECT_TRUE(of_container.role->scope.holds({{"caisson.project", "shop"}}, "shop"));
  const auto of_user = policy.judge_container("0123456789abcdef", "shop", {"uid:1000", "user", {{"caisson.owner", "uid:1000"}}});
  EXPECT_FALSE(of_user.role->scope.holds({}, "shop")) << "whoever calls his project like another's must not get it";
  EXPECT_TRUE(of_user.role->scope.holds({{"caisson.owner", "uid:1000"}}, "shop"));
  EXPECT_TRUE(policy.judge_container("0123456789abcdef", "shop", {"uid:1", "viewer", {}}).role->allows(Verb::container_list));
  EXPECT_FALSE(policy.judge_container("0123456789abcdef", "shop", {"uid:1", "viewer", {}}).role->allows(Verb::container_create));
  EXPECT_TRUE(policy.judge_container("0123456789abcdef", "shop", {"uid:1", "gone", {}}).role->may.none());
  EXPECT_TRUE(must_parse("containers-may-ask = false\n").judge_container("0123456789abcdef", "shop", {"uid:0", "admin", {}}).role->may.none());
}

TEST(Patterns, are_those_of_file_names_with_stars_over_slashes) {
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("registry.local/*", "registry.local/team/app:1"));
  EXPECT_FALSE(matches("registry.local/*", "registry.local"));
  EXPECT_TRUE(matches("a*b*c", "aXbXbc"));
  EXPECT_FALSE(matches("a*b", "abc"));
  EXPECT_TRUE(matches("/dev/snd/pcm?", "/dev/snd/pcm1"));
  EXPECT_FALSE(matches("", "x"));
  EXPECT_FALSE(matches("abc", "ab"));
}

TEST(Verbs, are_found_by_name_family_and_level) {
  EXPECT_EQ(verbs_of("container.start").count(), 1U);
  EXPECT_GT(verbs_of("image.*").count(), 10U);
  EXPECT_TRUE(verbs_of("*").all());
  EXPECT_TRUE(verbs_of("contain").none());
  EXPECT_TRUE(verbs_of("").none());
}

}  // namespace
}  // namespace caisson::policy
