// Links: the variables dockerd 20.10 makes (observed, with its order), names that follow renames, and links taken off.
#include "engine/links.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/fake_parts.hpp"

namespace caisson::engine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Links, every_way_to_write_one_is_read) {
  for (const auto& [text, target, alias] : {std::tuple{"db", "db", "db"}, {"db:d", "db", "d"}, {"/db:/web/d", "db", "d"}, {"db:a/b", "db", "a/b"}}) {
    const Link link = parse_link(text);
    EXPECT_EQ(link.target, target) << text;
    EXPECT_EQ(link.alias, alias) << text;
  }
  EXPECT_EQ(link_host_name({"db", "a/b"}), "b");
}

TEST(Links, variables_are_dockers) {
  ContainerSpec target;
  target.exposed_ports = {"80/tcp", "81/tcp", "82/tcp", "53/udp", "9000/tcp"};
  target.env = {"PATH=/bin", "FOO=b=r", "EMPTY=", "HOME=/x"};
  EXPECT_THAT(link_environment("web", {"db-one", "other-x"}, "172.17.0.2", target),
              ElementsAre("OTHER_X_PORT=udp://172.17.0.2:53", "OTHER_X_PORT_80_TCP_START=tcp://172.17.0.2:80", "OTHER_X_PORT_80_TCP_ADDR=172.17.0.2",
                          "OTHER_X_PORT_80_TCP_PROTO=tcp", "OTHER_X_PORT_80_TCP_PORT_START=80", "OTHER_X_PORT_80_TCP_END=tcp://172.17.0.2:82",
                          "OTHER_X_PORT_80_TCP_PORT_END=82", "OTHER_X_PORT_53_UDP=udp://172.17.0.2:53", "OTHER_X_PORT_53_UDP_ADDR=172.17.0.2",
                          "OTHER_X_PORT_53_UDP_PORT=53", "OTHER_X_PORT_53_UDP_PROTO=udp", "OTHER_X_PORT_80_TCP=tcp://172.17.0.2:80",
                          "OTHER_X_PORT_80_TCP_ADDR=172.17.0.2", "OTHER_X_PORT_80_TCP_PORT=80", "OTHER_X_PORT_80_TCP_PROTO=tcp",
                          "OTHER_X_PORT_81_TCP=tcp://172.17.0.2:81", "OTHER_X_PORT_81_TCP_ADDR=172.17.0.2", "OTHER_X_PORT_81_TCP_PORT=81",
                          "OTHER_X_PORT_81_TCP_PROTO=tcp", "OTHER_X_PORT_82_TCP=tcp://172.17.0.2:82", "OTHER_X_PORT_82_TCP_ADDR=172.17.0.2",
                          "OTHER_X_PORT_82_TCP_PORT=82", "OTHER_X_PORT_82_TCP_PROTO=tcp", "OTHER_X_PORT_9000_TCP=tcp://172.17.0.2:9000",
                          "OTHER_X_PORT_9000_TCP_ADDR=172.17.0.2", "OTHER_X_PORT_9000_TCP_PORT=9000", "OTHER_X_PORT_9000_TCP_PROTO=tcp",
                          "OTHER_X_NAME=/web/other-x", "OTHER_X_ENV_FOO=b=r", "OTHER_X_ENV_EMPTY="));
}

TEST(Links, published_ports_count_and_two_neighbours_are_no_run) {
  ContainerSpec target;
  target.exposed_ports = {"80/tcp", "81/tcp"};
  target.ports = {{network::Protocol::udp, 80, "", 90}, {network::Protocol::tcp, 80, "", 91}};
  auto env = link_environment("w", {"x", "a/b"}, "10.0.0.2", target);
  EXPECT_EQ(env[0], "B_PORT=tcp://10.0.0.2:80");
  EXPECT_EQ(env.back(), "B_NAME=/w/a/b");
  // By dockerd's count 80/tcp, 80/udp and 81/tcp follow each other.
  EXPECT_THAT(env, testing::Contains("B_PORT_80_TCP_END=tcp://10.0.0.2:81"));
  target.ports.clear();
  for (const auto& setting : link_environment("w", {"x", "b"}, "10.0.0.2", target)) EXPECT_THAT(setting, testing::Not(HasSubstr("_START")));
  EXPECT_THAT(link_environment("w", {"x", "p"}, "10.0.0.2", {}), ElementsAre("P_NAME=/w/p"));
}

class LinkedContainers : public testing::Test {
 protected:
  std::string make(const std::string& name, std::vector<std::string> links = {}) {
    ContainerSpec spec = fake::Harness::spec({"sleep"}, name);
    spec.links = std::move(links);
    return h.create(std::move(spec));
  }
  std::vector<std::string> links_of(const std::string& name) { return h.engine->inspect(h.admin, name, false)->links; }
  std::string hosts_of(const std::string& name) { return linux::read_file(h.engine->inspect(h.admin, name, false)->hosts_path).value_or("none"); }
  fake::Harness h;
};

TEST_F(LinkedContainers, inspect_lists_and_lookups_know_them_by_path_through_renames) {
  const std::string db = make("db");
  make("web", {"db", "db:d", "db:d"});
  EXPECT_THAT(links_of("web"), ElementsAre("/db:/web/db", "/db:/web/d"));
  EXPECT_EQ(h.engine->inspect(h.admin, "/web/d", false)->id, db);
  EXPECT_EQ(h.engine->inspect(h.admin, "web/none", false).error().kind(), ErrorKind::not_found);
  ASSERT_TRUE(h.engine->rename(h.admin, "db", "store").ok());
  ASSERT_TRUE(h.engine->rename(h.admin, "web", "front").ok());
  EXPECT_THAT(links_of("front"), ElementsAre("/store:/front/db", "/store:/front/d"));
  auto listed = h.engine->list(h.admin, {.all = true, .size = false});
  ASSERT_TRUE(listed.ok());
  for (const auto& container : *listed)
    if (container.id == db) {
      EXPECT_THAT(container.link_names, testing::UnorderedElementsAre("front/db", "front/d"));
    }
}

TEST_F(LinkedContainers, a_start_wants_the_other_running_and_gets_its_name) {
  make("db");
  make("web", {"db:d"});
  auto refused = h.engine->start(h.admin, "web");
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().text(), HasSubstr("Cannot link to a non running container: /db AS /web/d"));
  ASSERT_TRUE(h.engine->start(h.admin, "db").ok());
  ASSERT_TRUE(h.engine->start(h.admin, "web").ok());
  EXPECT_THAT(hosts_of("web"), HasSubstr("\td "));
}

TEST_F(LinkedContainers, one_is_taken_off_by_its_path_while_it_runs) {
  make("db");
  make("web", {"db:d", "db:e"});
  ASSERT_TRUE(h.engine->start(h.admin, "db").ok());
  ASSERT_TRUE(h.engine->start(h.admin, "web").ok());
  RemoveOptions link;
  link.link = true;
  ASSERT_TRUE(h.engine->remove(h.admin, "/web/d", link).ok());
  EXPECT_THAT(links_of("web"), ElementsAre("/db:/web/e"));
  EXPECT_THAT(hosts_of("web"), testing::AllOf(HasSubstr("\te "), testing::Not(HasSubstr("\td "))));
  EXPECT_EQ(h.engine->remove(h.admin, "web/d", link).error().kind(), ErrorKind::not_found);
  EXPECT_EQ(h.engine->remove(h.admin, "web", link).error().text(), "Conflict, cannot remove the default link name of the container");
  EXPECT_TRUE(h.engine->inspect(h.admin, "web", false).ok());
}

TEST_F(LinkedContainers, one_that_is_not_there_is_refused_at_create) {
  ContainerSpec spec = fake::Harness::spec({"sleep"}, "web");
  spec.links = {"none:d"};
  auto refused = h.engine->create(h.admin, spec);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::invalid);
  EXPECT_THAT(refused.error().text(), HasSubstr("could not get container for none"));
  spec.links = {"a:b:c"};
  EXPECT_THAT(h.engine->create(h.admin, spec).error().text(), HasSubstr("bad format for links: a:b:c"));
}

}  // namespace
}  // namespace caisson::engine
