// Tests of /changes, /export, /archive and /commit: docker's headers, names and numbers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "api/api.hpp"
#include "api/fake_builder.hpp"
#include "api/fake_engine.hpp"
#include "base/json.hpp"
#include "base/strings.hpp"

namespace caisson::api {
namespace {

using testing::ElementsAre;

class ContainerFiles : public testing::Test {
 protected:
  FakeExchange call(const std::string& method, const std::string& target, const std::string& body = "") {
    FakeExchange exchange(method, target, body);
    handler_(exchange);
    return exchange;
  }
  FakeEngine engine_;
  FakeBuilder builder_;
  wire::Handler handler_ = create_api(engine_, builder_, {});
};

TEST_F(ContainerFiles, changes_are_kinds_and_paths_and_null_when_there_are_none) {
  EXPECT_EQ(call("GET", "/containers/web/changes").answer, "null\n");
  engine_.file_changes = {{engine::ChangeKind::modified, "/etc"}, {engine::ChangeKind::added, "/etc/new"}, {engine::ChangeKind::deleted, "/etc/old"}};
  EXPECT_EQ(call("GET", "/containers/web/changes").answer, R"([{"Path":"/etc","Kind":0},{"Path":"/etc/new","Kind":1},{"Path":"/etc/old","Kind":2}])" "\n");
  EXPECT_EQ(call("GET", "/containers/none/changes").status, 404);
}

TEST_F(ContainerFiles, an_export_is_a_stream_of_bytes) {
  auto answer = call("GET", "/containers/web/export");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.answer_header("Content-Type"), "application/octet-stream");
  EXPECT_EQ(answer.answer, "a tar");
  EXPECT_EQ(call("GET", "/containers/none/export").status, 404);
}

TEST_F(ContainerFiles, a_path_is_described_in_gos_terms) {
  auto mode_of = [&](std::uint32_t mode) {
    engine_.path_status.mode = mode;
    auto header = std::string(call("HEAD", "/containers/web/archive?path=/x").answer_header("X-Docker-Container-Path-Stat"));
    auto text = base64_decode(header);
    EXPECT_TRUE(text.ok());
    return parse_json(*text, "header").value_or(json::value()).as_object()["mode"].to_number<std::uint32_t>();
  };
  EXPECT_EQ(mode_of(S_IFDIR | 0755), 2147484141U);
  EXPECT_EQ(mode_of(S_IFLNK | 0777), 134218239U);
  EXPECT_EQ(mode_of(S_IFREG | 04755), (1U << 23U) | 0755U);
  EXPECT_EQ(mode_of(S_IFDIR | 01777), (1U << 31U) | (1U << 20U) | 0777U);
  EXPECT_EQ(mode_of(S_IFCHR | 0600), (1U << 26U) | (1U << 21U) | 0600U);
  engine_.path_status.mtime_s = 1'700'000'000;
  engine_.path_status.link_target = "/bin/busybox";
  auto text = base64_decode(std::string(call("HEAD", "/containers/web/archive?path=/bin/ls").answer_header("X-Docker-Container-Path-Stat")));
  EXPECT_EQ(*text, R"({"name":"ls","size":0,"mode":69206400,"mtime":"2023-11-14T22:13:20Z","linkTarget":"/bin/busybox"})");
}

TEST_F(ContainerFiles, paths_are_cleaned_and_their_last_part_names_the_archives_first_entry) {
  for (auto [asked, read] : {std::pair{"/etc", "/etc as etc"}, {"/etc/", "/etc/ as etc"}, {"/etc/.", "/etc/. as ."}, {"/", "/ as /"}, {"a/../b", "/b as b"}, {"/../../x", "/x as x"}, {".", "/. as ."}}) {
    engine_.calls.clear();
    EXPECT_EQ(call("GET", concat("/containers/web/archive?path=", wire::percent_encode(asked))).answer, "a tar");
    EXPECT_EQ(engine_.calls.back(), concat("read ", read, " web")) << asked;
  }
  EXPECT_EQ(call("GET", "/containers/web/archive").status, 400);
  EXPECT_EQ(call("HEAD", "/containers/web/archive?path=").status, 400);
  EXPECT_EQ(call("GET", "/containers/web/archive?path=a%00b").status, 400);
}

TEST_F(ContainerFiles, an_archive_is_passed_on_with_its_options) {
  EXPECT_EQ(call("PUT", "/containers/web/archive?path=/srv", "bytes").status, 200);
  EXPECT_EQ(engine_.loaded, "bytes");
  EXPECT_EQ(engine_.calls.back(), "write /srv web");
  call("PUT", "/containers/web/archive?path=/srv&noOverwriteDirNonDir=true&copyUIDGID=1", "bytes");
  EXPECT_EQ(engine_.calls.back(), "write /srv keep-kinds own-by-user web");
  engine_.next_status = Error(ErrorKind::denied, "container rootfs is marked read-only");
  EXPECT_EQ(call("PUT", "/containers/web/archive?path=/srv", "bytes").status, 403);
}

TEST_F(ContainerFiles, a_commit_takes_its_query_and_an_optional_body) {
  auto answer = call("POST", "/commit?author=a&changes=ENV+Z%3D1&changes=USER+b&comment=c&container=web&repo=docker.io/library/x&tag=1");
  EXPECT_EQ(answer.status, 201);
  EXPECT_EQ(answer.answer, concat(R"({"Id":")", engine_.image.id.text(), "\"}\n"));
  EXPECT_EQ(engine_.committed.reference, "docker.io/library/x:1");
  EXPECT_THAT(engine_.committed.changes, ElementsAre("ENV Z=1", "USER b"));
  EXPECT_TRUE(engine_.committed.pause);
  EXPECT_FALSE(engine_.committed.config);
  call("POST", "/commit?container=web&pause=0", R"({"Cmd":"ls","Volumes":{"/v":{}},"Shell":["sh"]})");
  EXPECT_FALSE(engine_.committed.pause);
  EXPECT_THAT(engine_.committed.config->cmd, ElementsAre("ls"));
  EXPECT_THAT(engine_.committed.config->volumes, ElementsAre("/v"));
  EXPECT_EQ(call("POST", "/commit?repo=x").status, 400);
  EXPECT_EQ(call("POST", "/commit?container=none").status, 404);
  EXPECT_EQ(call("POST", "/commit?container=web", "[").status, 400);
}

}  // namespace
}  // namespace caisson::api
