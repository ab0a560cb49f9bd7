// Tests of layers made from writable trees and of images composed of them: what the tree says is what the layer holds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include <filesystem>
#include <fstream>

#include "image/manifest.hpp"
#include "image/test_support.hpp"
#include "linux/tree.hpp"

namespace caisson::image {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace testing_support;

/// A writable layer as overlayfs leaves it.
class Upper {
 public:
  Upper() { ::chmod(path().c_str(), 0755); }
  [[nodiscard]] const std::string& path() const { return folder_.path(); }
  [[nodiscard]] std::string at(const std::string& name) const { return path() + "/" + name; }
  Upper& dir(const std::string& name, mode_t mode = 0755) {
    EXPECT_EQ(::mkdir(at(name).c_str(), mode), 0) << name;
    EXPECT_EQ(::chmod(at(name).c_str(), mode), 0);
    return *this;
  }
  Upper& file(const std::string& name, const std::string& text, uid_t owner = 0) {
    std::ofstream(at(name)) << text;
    EXPECT_EQ(::chown(at(name).c_str(), owner, owner), 0);
    return *this;
  }
  Upper& whiteout(const std::string& name) {
    EXPECT_EQ(::mknod(at(name).c_str(), S_IFCHR, ::makedev(0, 0)), 0);
    return *this;
  }
  Upper& attribute(const std::string& name, const char* key, const std::string& value) {
    EXPECT_EQ(::lsetxattr(at(name).c_str(), key, value.data(), value.size(), 0), 0) << key;
    return *this;
  }
  /// All times the same, so that two trees can be equal.
  Upper& settle() {
    const timespec times[2] = {{1'700'000'000, 5}, {1'700'000'000, 5}};
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path())) ::utimensat(AT_FDCWD, entry.path().c_str(), times, AT_SYMLINK_NOFOLLOW);
    ::utimensat(AT_FDCWD, path().c_str(), times, 0);
    return *this;
  }
  Result<MadeLayer> layer(Fixture& store, Cancel cancel = {}) const {
    auto fd = linux::open(path(), O_RDONLY | O_DIRECTORY);
    EXPECT_TRUE(fd.ok());
    return store->make_layer({.upper_fd = fd->get()}, {}, cancel);
  }

 private:
  Folder folder_;
};

class Compose : public testing::Test {
 protected:
  void SetUp() override {
    if (auto reason = why_not(); !reason.empty()) GTEST_SKIP() << reason;
    fixture_ = std::make_unique<Fixture>();
  }
  Fixture& store() { return *fixture_; }

 private:
  std::unique_ptr<Fixture> fixture_;
};

struct stat status_of(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::lstat(path.c_str(), &status), 0) << path;
  return status;
}

std::string attribute_of(const std::string& path, const char* key) {
  char buffer[256];
  auto size = ::lgetxattr(path.c_str(), key, buffer, sizeof buffer);
  return size < 0 ? "-" : std::string(buffer, static_cast<std::size_t>(size));
}

TEST_F(Compose, a_layer_holds_what_the_container_wrote) {
  Upper upper;
  upper.dir("etc").dir("gone").dir("new", 02770).file("etc/passwd", "root:x:0:0\n").file("new/owned", "x", 1000).whiteout("etc/removed");
  ASSERT_EQ(::chmod(upper.at("new/owned").c_str(), 04755), 0);
  ASSERT_EQ(::link(upper.at("etc/passwd").c_str(), upper.at("etc/passwd-").c_str()), 0);
  ASSERT_EQ(::symlink("../etc/passwd", upper.at("new/link").c_str()), 0);
  ASSERT_EQ(::mkfifo(upper.at("new/fifo").c_str(), 0600), 0);
  ASSERT_EQ(::mknod(upper.at("new/null").c_str(), S_IFCHR | 0666, ::makedev(1, 3)), 0);
  upper.attribute("gone", "user.overlay.opaque", "y").attribute("new/owned", "user.note", "kept").attribute("new/owned", "user.overlay.origin", "o");
  int listener = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "%s", upper.at("new/socket").c_str());
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ::close(listener);
  upper.settle();

  auto layer = upper.layer(store());
  ASSERT_TRUE(layer.ok()) << layer.error().text();
  EXPECT_FALSE(layer->is_empty);
  const auto& tree = layer->directory;
  EXPECT_EQ(status_of(tree + "/etc/passwd").st_nlink, 2U);
  auto owned = status_of(tree + "/new/owned");
  EXPECT_EQ(owned.st_mode & 07777, 04755U);
  EXPECT_EQ(owned.st_uid, 1000U);
  EXPECT_EQ(owned.st_mtim.tv_sec, 1'700'000'000);
  EXPECT_EQ(owned.st_mtim.tv_nsec, 0) << "layers hold whole seconds, as docker's do";
  EXPECT_EQ(attribute_of(tree + "/new/owned", "user.note"), "kept");
  EXPECT_EQ(attribute_of(tree + "/new/owned", "user.overlay.origin"), "-");
  EXPECT_EQ(std::filesystem::read_symlink(tree + "/new/link"), "../etc/passwd");
  EXPECT_TRUE(S_ISFIFO(status_of(tree + "/new/fifo").st_mode));
  EXPECT_EQ(status_of(tree + "/new/null").st_rdev, ::makedev(1, 3));
  EXPECT_EQ(status_of(tree + "/new").st_mode & 07777, 02770U);
  EXPECT_FALSE(std::filesystem::exists(tree + "/new/socket"));
  EXPECT_TRUE(S_ISCHR(status_of(tree + "/etc/removed").st_mode));
  EXPECT_EQ(status_of(tree + "/etc/removed").st_rdev, 0U);
  EXPECT_EQ(attribute_of(tree + "/gone", "user.overlay.opaque"), "y");
  EXPECT_EQ(store().leftovers(), 0U);
}

TEST_F(Compose, what_is_grafted_gives_the_layer_that_a_copy_gives) {
  auto add_files = [](Upper& upper, const std::string& below, uid_t owner) {
    upper.dir(below + "src", 02750).file(below + "src/b", "2", owner).file(below + "src/a", "1", owner).file(below + "top", "3", owner);
    EXPECT_EQ(::chown(upper.at(below + "src").c_str(), owner, owner), 0);
    EXPECT_EQ(::chmod(upper.at(below + "src").c_str(), 02750), 0);
    EXPECT_EQ(::chmod(upper.at(below + "src/a").c_str(), 04711), 0);
    EXPECT_EQ(::link(upper.at(below + "src/b").c_str(), upper.at(below + "src/c").c_str()), 0);
    EXPECT_EQ(::symlink("src/a", upper.at(below + "link").c_str()), 0);
    EXPECT_EQ(::lchown(upper.at(below + "link").c_str(), owner, owner), 0);
    upper.attribute(below + "src/a", "user.note", "kept");
  };
  Upper copied;
  copied.dir("app").file("app/mine", "m", 3);
  add_files(copied, "app/", 7);
  Upper grafted;
  grafted.dir("app").file("app/mine", "m", 3);
  Upper context;
  context.dir("in");
  add_files(context, "in/", 0);
  // What in a layer would be marks of an overlay is nothing here.
  context.attribute("in/src", "user.overlay.opaque", "y").attribute("in/src/b", "user.overlay.origin", "o");
  copied.settle();
  grafted.settle();
  context.settle();
  auto fd = *linux::open(grafted.path(), O_RDONLY | O_DIRECTORY);
  auto graft_fd = *linux::open(context.path(), O_RDONLY | O_DIRECTORY);
  LayerTrees source{.upper_fd = fd.get(), .graft_fd = graft_fd.get(), .grafts = {{"app", "in", {"top", "src", "link"}}}, .graft_uid = 7, .graft_gid = 7};
  auto one = copied.layer(store());
  auto other = store()->make_layer(source, {}, {});
  ASSERT_TRUE(one.ok()) << one.error().text();
  ASSERT_TRUE(other.ok()) << other.error().text();
  EXPECT_EQ(one->diff_id, other->diff_id);
  EXPECT_EQ(status_of(other->directory + "/app/src/c").st_nlink, 2U);

  source.latest_mtime_s = 1'600'000'000;
  auto earlier = store()->make_layer(source, {}, {});
  ASSERT_TRUE(earlier.ok()) << earlier.error().text();
  EXPECT_EQ(status_of(earlier->directory + "/app/src/a").st_mtim.tv_sec, 1'600'000'000);
  EXPECT_EQ(status_of(earlier->directory + "/app/mine").st_mtim.tv_sec, 1'600'000'000);
  EXPECT_EQ(status_of(context.at("in/src/a")).st_mtim.tv_sec, 1'700'000'000);
  EXPECT_EQ(store().leftovers(), 0U);
}

TEST_F(Compose, a_graft_that_cannot_be_is_refused_by_name) {
  Upper upper;
  upper.dir("app").file("app/mine", "m");
  Upper context;
  context.file("mine", "1").file(".wh.x", "2").whiteout("gone").file("fine", "3");
  auto fd = *linux::open(upper.path(), O_RDONLY | O_DIRECTORY);
  auto graft_fd = *linux::open(context.path(), O_RDONLY | O_DIRECTORY);
  auto refusal = [&](std::vector<Graft> grafts) {
    auto layer = store()->make_layer({.upper_fd = fd.get(), .graft_fd = graft_fd.get(), .grafts = std::move(grafts)}, {}, {});
    return layer.ok() ? "made" : layer.error().text();
  };
  EXPECT_THAT(refusal({{"app", ".", {"mine"}}}), HasSubstr("\"app/mine\" is in both trees"));
  EXPECT_THAT(refusal({{"app", ".", {".wh.x"}}}), HasSubstr("begins with .wh."));
  EXPECT_THAT(refusal({{"app", ".", {"gone"}}}), HasSubstr("\"app/gone\": a layer cannot hold the character device 0:0"));
  EXPECT_THAT(refusal({{"nowhere", ".", {"fine"}}}), HasSubstr("\"nowhere\": there is no such folder"));
  EXPECT_THAT(refusal({{"app", "nowhere", {"fine"}}}), HasSubstr("nowhere"));
  EXPECT_THAT(refusal({{"app", ".", {"fine"}}, {"app", ".", {"gone"}}}), HasSubstr("two grafts"));
  EXPECT_EQ(refusal({{"app", ".", {"fine"}}}), "made");
  EXPECT_EQ(store().leftovers(), 0U);
}

TEST_F(Compose, equal_trees_give_equal_layers) {
  auto make = [](Upper& upper) {
    upper.dir("b").dir("a").file("b/two", "2", 5).file("a/one", "1").whiteout("c").settle();
  };
  Upper first;
  Upper second;
  make(first);
  make(second);
  auto one = first.layer(store());
  auto other = second.layer(store());
  ASSERT_TRUE(one.ok() && other.ok());
  EXPECT_EQ(one->diff_id, other->diff_id);
  EXPECT_EQ(one->blob, other->blob);
  second.file("a/one", "different").settle();
  EXPECT_NE(second.layer(store())->diff_id, one->diff_id);
}

TEST_F(Compose, holes_take_no_space_in_a_layer) {
  Upper upper;
  upper.file("sparse", "head");
  constexpr off_t size = 1LL << 34U;
  ASSERT_EQ(::truncate(upper.at("sparse").c_str(), size), 0);
  auto layer = upper.layer(store());
  ASSERT_TRUE(layer.ok()) << layer.error().text();
  EXPECT_LT(layer->blob_bytes, 100'000U);
  auto status = status_of(layer->directory + "/sparse");
  EXPECT_EQ(status.st_size, size);
  EXPECT_LT(status.st_blocks, 100);
  std::ifstream file(layer->directory + "/sparse");
  std::string head(4, ' ');
  file.read(head.data(), 4);
  EXPECT_EQ(head, "head");
}

TEST_F(Compose, an_image_is_its_base_and_the_new_layer) {
  auto base = store().import(TarMaker().dir("etc").file("etc/os", "base").done(), "base:1", {"ENV A=b", "CMD [\"old\"]"});
  ASSERT_TRUE(base.ok()) << base.error().text();
  Upper upper;
  upper.dir("etc").file("etc/new", "x").settle();
  ComposeRequest request;
  request.base = "base:1";
  request.layers.push_back(*upper.layer(store()));
  request.config.cmd = {"new"};
  request.author = "me";
  request.comment = "why";
  request.created = 1'700'000'000'000'000'000;
  HistoryEntry entry;
  entry.created_by = "sh";
  request.history.push_back(entry);
  request.references = {"made:1", "localhost:5000/made:2"};
  auto image = store()->compose(request);
  ASSERT_TRUE(image.ok()) << image.error().text();
  EXPECT_THAT(image->repo_tags, testing::UnorderedElementsAre("made:1", "localhost:5000/made:2"));
  EXPECT_THAT(image->diff_ids, ElementsAre(base->diff_ids[0], request.layers[0].diff_id));
  EXPECT_THAT(image->config.cmd, ElementsAre("new"));
  EXPECT_TRUE(image->config.env.empty()) << "nothing of the base's configuration is taken over by itself";
  EXPECT_EQ(image->history.size(), 2U);
  EXPECT_EQ(image->author, "me");
  auto dirs = store()->lowerdirs(image->id);
  ASSERT_TRUE(dirs.ok());
  EXPECT_EQ(dirs->front(), request.layers[0].directory);
  request.layers.clear();
  ASSERT_TRUE(store()->recover().ok());
  auto again = store()->lowerdirs(image->id);
  EXPECT_TRUE(again.ok() && std::filesystem::exists(again->front() + "/etc/new")) << "the image holds its layers by itself";
}

TEST_F(Compose, an_artifact_comes_back_for_whom_it_is_and_is_no_image_for_others) {
  Upper upper;
  upper.file("f", "x").settle();
  ComposeRequest request;
  request.layers.push_back(*upper.layer(store()));
  request.artifact_type = media_type::cache_mount;
  request.config_type = media_type::cache_mount_config;
  request.annotations = {{"a", "b"}};
  auto made = store()->compose(request);
  ASSERT_TRUE(made.ok()) << made.error().text();
  auto archive = store().save({made->id.text()});
  ASSERT_TRUE(archive.ok()) << archive.error().text();
  EXPECT_THAT(*archive, testing::Not(HasSubstr("manifest.json"))) << "docker's list has images only";
  Fixture other;
  auto refused = other.load(*archive);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::unsupported);
  EXPECT_THAT(refused.error().text(), HasSubstr("a cache mount of builds (application/vnd.caisson.cache-mount.v1), no image: `caisson builder cache import` takes it in"));
  EXPECT_TRUE(other->list()->empty());
  auto fd = fd_with(*archive);
  EXPECT_FALSE(other->load_artifacts(fd.get(), "application/x.other", {}).ok());
  ASSERT_TRUE(linux::lseek(fd.get(), 0, SEEK_SET).ok());
  auto loaded = other->load_artifacts(fd.get(), request.artifact_type, {});
  ASSERT_TRUE(loaded.ok()) << loaded.error().text();
  auto list = other->list_layers({.reference = loaded->at(0).id.text()}, {});
  ASSERT_TRUE(list.ok()) << list.error().text();
  EXPECT_EQ(list->artifact_type, request.artifact_type);
  EXPECT_EQ(list->annotations, request.annotations);
  auto layer = other->bring_layer(*list, 0, {}, {}, {});
  ASSERT_TRUE(layer.ok()) << layer.error().text();
  Folder tree;
  auto target = linux::open(tree.path(), O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(target.ok());
  auto extracted = other->extract_layer(*layer, target->get(), {});
  ASSERT_TRUE(extracted.ok()) << extracted.error().text();
  EXPECT_EQ(*linux::read_file(tree.path() + "/f"), "x");
}

TEST_F(Compose, a_tree_without_changes_adds_no_layer) {
  auto base = store().import(TarMaker().file("x", "y").done(), "base:1");
  ASSERT_TRUE(base.ok());
  Upper upper;
  auto layer = upper.layer(store());
  ASSERT_TRUE(layer.ok());
  EXPECT_TRUE(layer->is_empty);
  ComposeRequest request;
  request.base = base->id.text();
  request.layers.push_back(*layer);
  request.history.emplace_back();
  request.history.back().empty_layer = true;
  auto image = store()->compose(request);
  ASSERT_TRUE(image.ok()) << image.error().text();
  EXPECT_EQ(image->diff_ids, base->diff_ids);
  request.history.back().empty_layer = false;
  EXPECT_THAT(store()->compose(request).error().text(), HasSubstr("the history names 2 layers, and the image has 1"));
}

TEST_F(Compose, what_cannot_be_a_layer_is_refused_by_name_and_leaves_nothing) {
  Upper upper;
  upper.dir("d").file("d/.wh.trick", "x");
  auto layer = upper.layer(store());
  ASSERT_FALSE(layer.ok());
  EXPECT_EQ(layer.error().kind(), ErrorKind::invalid);
  EXPECT_THAT(layer.error().text(), HasSubstr("d/.wh.trick"));
  EXPECT_EQ(store().leftovers(), 0U);
  ComposeRequest request;
  request.base = "nothing:here";
  EXPECT_EQ(store()->compose(request).error().kind(), ErrorKind::not_found);
  request.base.clear();
  request.references = {"UPPER"};
  EXPECT_EQ(store()->compose(request).error().kind(), ErrorKind::invalid);
}

TEST_F(Compose, a_layer_that_nobody_holds_is_collected_and_one_that_is_held_is_not) {
  Upper upper;
  upper.file("x", "y");
  auto layer = upper.layer(store());
  ASSERT_TRUE(layer.ok());
  const auto directory = layer->directory;
  ASSERT_TRUE(store()->recover().ok());
  EXPECT_TRUE(std::filesystem::exists(directory));
  *layer = MadeLayer{};
  ASSERT_TRUE(store()->recover().ok());
  EXPECT_FALSE(std::filesystem::exists(directory));
}

TEST_F(Compose, a_client_that_goes_away_ends_the_work) {
  Upper upper;
  upper.file("x", std::string(1 << 20, 'z'));
  auto pipe = linux::pipe2();
  ASSERT_TRUE(pipe.ok());
  pipe->write_end.reset();  // hung up: the cancel fires at once
  auto layer = upper.layer(store(), Cancel{pipe->read_end.get()});
  ASSERT_FALSE(layer.ok());
  EXPECT_EQ(layer.error().kind(), ErrorKind::unavailable);
  EXPECT_EQ(store().leftovers(), 0U);
}

}  // namespace
}  // namespace caisson::image
