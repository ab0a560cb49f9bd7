// A Docker's folder made by hand: what is read of it, how layers come together again, what a container's files become.
#include "cli/docker_folder.hpp"

#include <gtest/gtest.h>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/tree.hpp"

namespace caisson::cli {
namespace {

class DockerFolderTest : public testing::Test {
 protected:
  DockerFolderTest() {
    root_ = concat("/tmp/caisson-test-docker-folder-", linux::getpid());
    put("image/overlay2/repositories.json", R"({"Repositories":{"web":{"web:1":"sha256:aa","web@sha256:00":"sha256:aa"}}})");
    put("image/overlay2/imagedb/content/sha256/aa", R"({"rootfs":{"type":"layers","diff_ids":["sha256:d1","sha256:d2"]}})");
    put("image/overlay2/layerdb/sha256/d1/diff", "sha256:d1");
    put("image/overlay2/layerdb/sha256/c2/diff", "sha256:d2");
    put("image/overlay2/layerdb/sha256/c2/parent", "sha256:d1");
    put("volumes/metadata.db", "");  // as dockerd has it before its first write
  }
  ~DockerFolderTest() override { EXPECT_TRUE(linux::remove_tree(root_).ok()); }
  void put(const std::string& name, std::string_view text) {
    std::string path = concat(root_, "/", name);
    ASSERT_TRUE(linux::make_dirs(path.substr(0, path.rfind('/')), 0755).ok());
    ASSERT_TRUE(linux::write_file(path, text).ok());
  }
  std::string root_;
};

TEST_F(DockerFolderTest, gives_images_their_tags_and_the_chain_of_their_layers) {
  auto folder = read_docker_folder(root_);
  ASSERT_TRUE(folder.ok()) << folder.error().text();
  ASSERT_EQ(folder->images.size(), 1U);
  EXPECT_EQ(folder->images[0].tags, std::vector<std::string>{"web:1"});
  EXPECT_EQ(folder->images[0].chain_ids, (std::vector<std::string>{"d1", "c2"}));
}

TEST_F(DockerFolderTest, with_a_missing_layer_is_refused_by_the_image) {
  ASSERT_TRUE(linux::remove_tree(root_ + "/image/overlay2/layerdb/sha256/c2").ok());
  auto folder = read_docker_folder(root_);
  ASSERT_FALSE(folder.ok());
  EXPECT_EQ(folder.error().text(), "image sha256:aa: the layer sha256:d2 is missing");
}

TEST_F(DockerFolderTest, is_refused_while_a_dockerd_holds_its_databases) {
  auto database = linux::open(concat(root_, "/volumes/metadata.db"), O_RDONLY);
  ASSERT_TRUE(database.ok() && linux::flock(database->get(), LOCK_EX).ok());
  auto folder = read_docker_folder(root_);
  ASSERT_FALSE(folder.ok());
  EXPECT_EQ(folder.error().kind(), ErrorKind::conflict);
  database->reset();
  EXPECT_TRUE(read_docker_folder(root_).ok());
}

TEST_F(DockerFolderTest, of_another_storage_driver_is_refused_by_name) {
  ASSERT_TRUE(linux::remove_tree(root_ + "/image/overlay2").ok());
  put("image/zfs/repositories.json", "{}");
  auto folder = read_docker_folder(root_);
  ASSERT_FALSE(folder.ok());
  EXPECT_NE(folder.error().text().find("zfs"), std::string::npos);
}

TEST_F(DockerFolderTest, that_is_none_is_said) {
  auto folder = read_docker_folder("/usr/share");
  ASSERT_FALSE(folder.ok());
  EXPECT_EQ(folder.error().kind(), ErrorKind::not_found);
}

TEST_F(DockerFolderTest, volumes_keep_the_options_of_their_driver) {
  put("volumes/plain/_data/file", "x");
  put("volumes/bound/opts.json", R"({"MountType":"none","MountOpts":"bind","MountDevice":"/srv"})");
  put("volumes/bound/_data/.keep", "");
  auto folder = read_docker_folder(root_);
  ASSERT_TRUE(folder.ok()) << folder.error().text();
  ASSERT_EQ(folder->volumes.size(), 2U);
  EXPECT_EQ(folder->volumes[0].options, (std::map<std::string, std::string>{{"device", "/srv"}, {"o", "bind"}, {"type", "none"}}));
  EXPECT_TRUE(folder->volumes[1].options.empty());
}

TEST(TarSplit, holds_bytes_and_the_files_between_them) {
  auto bytes = parse_tar_split(R"({"type":2,"payload":"aGVhZA==","position":0})");
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ(bytes->bytes, "head");
  auto file = parse_tar_split(R"({"type":1,"name":"etc/passwd","size":7,"payload":"AAAAAAAAAAA=","position":1})");
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(file->file, "etc/passwd");
  EXPECT_EQ(file->size, 7U);
  auto raw = parse_tar_split(R"({"type":1,"name_raw":"/w==","size":1,"position":2})");
  ASSERT_TRUE(raw.ok());
  EXPECT_EQ(raw->file, "\xFF");
  EXPECT_FALSE(parse_tar_split(R"({"type":3,"position":3})").ok());
}

DockerContainer container() {
  DockerContainer out;
  out.id = "0123456789abcdef";
  out.name = "web";
  out.config = {{"Image", "web"}, {"Hostname", "0123456789ab"}, {"Volumes", json::object{{"/data", json::object()}, {"/new", json::object()}}}};
  out.host_config = {{"Binds", json::array{"named:/srv"}}, {"NetworkMode", "app"}, {"Runtime", "runc"}, {"PidMode", "container:fedc"}};
  return out;
}

TEST(DockerContainer, keeps_its_anonymous_volumes_by_their_names) {
  auto from = container();
  from.mount_points = json::object{{"/data", json::object{{"Type", "volume"}, {"Name", "abc"}, {"RW", false}}}, {"/srv", json::object{{"Type", "volume"}, {"Name", "named"}, {"RW", true}}},
                                   {"/etc/x", json::object{{"Type", "bind"}, {"Source", "/x"}}}};
  auto body = create_body_of(from, {}, "web");
  ASSERT_TRUE(body.ok()) << body.error().text();
  EXPECT_EQ(to_text(body->at("HostConfig").at("Binds")), R"(["named:/srv","abc:/data:ro"])");
  EXPECT_EQ(to_text(body->at("Volumes")), R"({"/new":{}})");
}

TEST(DockerContainer, forgets_what_dockerd_filled_in_and_follows_renamed_partners) {
  auto from = container();
  from.networks = json::object{{"app", json::object{{"Aliases", json::array{"db", "0123456789ab"}}, {"IPAddress", "172.18.0.2"}}}};
  auto body = create_body_of(from, {{"fedc", "partner"}}, "sha256:aa");
  ASSERT_TRUE(body.ok()) << body.error().text();
  EXPECT_FALSE(body->contains("Hostname"));
  EXPECT_EQ(body->at("Image").get_string(), "sha256:aa");
  EXPECT_FALSE(body->at("HostConfig").get_object().contains("Runtime"));
  EXPECT_EQ(body->at("HostConfig").at("PidMode").get_string(), "container:partner");
  EXPECT_EQ(to_text(body->at("NetworkingConfig")), R"({"EndpointsConfig":{"app":{"Aliases":["db"]}}})");
}

TEST(DockerContainer, follows_networks_that_were_named_by_their_ids) {
  auto from = container();
  from.host_config["NetworkMode"] = "2700f23b04cc";
  auto body = create_body_of(from, {{"2700f23b04cc", "app"}}, "web");
  ASSERT_TRUE(body.ok()) << body.error().text();
  EXPECT_EQ(body->at("HostConfig").at("NetworkMode").get_string(), "app");
}

TEST(DockerContainer, that_left_its_first_network_does_not_come_back_into_it) {
  auto from = container();
  from.host_config["NetworkMode"] = "default";
  from.networks = json::object{{"app", json::object{{"IPAMConfig", json::object{{"IPv4Address", "10.77.0.5"}}}}}};
  auto body = create_body_of(from, {}, "web");
  ASSERT_TRUE(body.ok()) << body.error().text();
  EXPECT_EQ(body->at("HostConfig").at("NetworkMode").get_string(), "app");
  EXPECT_EQ(to_text(body->at("NetworkingConfig")), R"({"EndpointsConfig":{"app":{"IPAMConfig":{"IPv4Address":"10.77.0.5"}}}})");
  from.networks = json::object{{"app", json::object()}, {"bridge", json::object()}};
  EXPECT_EQ(create_body_of(from, {}, "web")->at("HostConfig").at("NetworkMode").get_string(), "default");
}

TEST(DockerContainer, names_the_partners_it_needs) {
  auto from = container();
  from.host_config["NetworkMode"] = "container:aaaa";
  from.host_config["Links"] = json::array{"/db:/web/alias", "cache:c"};
  EXPECT_EQ(partners_of(from, {{"aaaa", "front"}, {"fedc", "partner"}}), (std::vector<std::string>{"front", "partner", "db", "cache"}));
}

}  // namespace
}  // namespace caisson::cli
