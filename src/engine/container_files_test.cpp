// Tests of commit's bookkeeping on a fake image store, and of the comparison of layers on real folders.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "engine/fake_parts.hpp"
#include "engine/file_changes.hpp"

namespace caisson::engine {
namespace {

using fake::Harness;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Commit : public testing::Test {
 protected:
  Result<image::Image> commit(const std::string& name, const CommitOptions& options = {}) { return h.engine->commit(h.admin, name, options, {}); }
  State state_of(const std::string& name) { return h.engine->inspect(h.admin, name, false)->state; }
  Harness h;
};

TEST_F(Commit, the_image_is_the_containers_configuration_with_the_changes) {
  auto spec = Harness::spec({"serve", "-x"}, "web");
  spec.env = {"MINE=1"};
  spec.mounts = {{.type = MountType::volume, .target = "/data", .origin = "volumes"}, {.type = MountType::volume, .source = "named", .target = "/named", .origin = "binds"}};
  h.create(std::move(spec));
  CommitOptions options;
  options.reference = "made:1";
  options.author = "me";
  options.comment = "why";
  options.changes = {"ENV Z=1", "USER web\n# a comment\n\nWORKDIR \\\n/srv", "CMD [\"ls\"]"};
  ASSERT_TRUE(commit("web", options).ok());
  const auto& made = h.images->composed;
  EXPECT_EQ(made.base, h.images->image().id.text());
  EXPECT_THAT(made.config.env, ElementsAre("PATH=/bin", "FROM_IMAGE=1", "MINE=1", "Z=1"));
  EXPECT_THAT(made.config.cmd, ElementsAre("ls"));
  EXPECT_EQ(made.config.user, "web");
  EXPECT_EQ(made.config.working_dir, "/srv");
  EXPECT_THAT(made.config.volumes, ElementsAre("/data"));
  EXPECT_THAT(made.references, ElementsAre("made:1"));
  ASSERT_EQ(made.history.size(), 1U);
  EXPECT_EQ(made.history[0].created_by, "serve -x");
  EXPECT_EQ(made.history[0].comment, "why");
  EXPECT_EQ(made.layers.size(), 1U);
}

TEST_F(Commit, a_given_configuration_is_merged_with_the_containers) {
  auto spec = Harness::spec({"serve"}, "web");
  spec.env = {"A=1", "B=1"};
  spec.labels = {{"l", "own"}};
  h.create(std::move(spec));
  CommitOptions options;
  options.config.emplace();
  options.config->env = {"B=2"};
  options.config->labels = {{"l", "given"}, {"m", "given"}};
  ASSERT_TRUE(commit("web", options).ok());
  const auto& config = h.images->composed.config;
  EXPECT_THAT(config.env, ElementsAre("B=2", "PATH=/bin", "FROM_IMAGE=1", "A=1"));
  EXPECT_EQ(config.labels.at("l"), "given");
  EXPECT_EQ(config.labels.at("from"), "image");
  EXPECT_THAT(config.cmd, ElementsAre("serve"));
}

TEST_F(Commit, a_running_container_is_paused_while_its_layer_is_read_and_goes_on_in_any_case) {
  auto id = h.run(Harness::spec({"serve"}, "web"));
  State during = State::dead;
  h.images->before_layer = [&] { during = state_of("web"); };
  ASSERT_TRUE(commit("web").ok());
  EXPECT_EQ(during, State::paused);
  EXPECT_EQ(state_of("web"), State::running);
  h.images->layer_outcome = Error(ErrorKind::unavailable, "No space left on device");
  EXPECT_FALSE(commit("web").ok());
  EXPECT_EQ(state_of("web"), State::running);
  h.images->layer_outcome = {};
  CommitOptions options;
  options.pause = false;
  ASSERT_TRUE(commit("web", options).ok());
  EXPECT_EQ(during, State::running);
  ASSERT_TRUE(h.engine->pause(h.admin, "web").ok());
  ASSERT_TRUE(commit("web").ok());
  EXPECT_EQ(state_of("web"), State::paused) << "whoever was paused before stays so";
}

TEST_F(Commit, what_cannot_be_committed_is_refused_before_anything_is_paused) {
  h.run(Harness::spec({"serve"}, "web"));
  bool was_read = false;
  h.images->before_layer = [&] { was_read = true; };
  CommitOptions options;
  options.changes = {"RUN x"};
  auto refused = commit("web", options);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::invalid);
  EXPECT_THAT(refused.error().text(), HasSubstr("RUN is not a valid change command"));
  options.changes.clear();
  options.reference = "UPPER";
  EXPECT_EQ(commit("web", options).error().kind(), ErrorKind::invalid);
  EXPECT_EQ(commit("nobody").error().kind(), ErrorKind::not_found);
  EXPECT_FALSE(was_read);
}

/// Two folders that overlayfs would stack.
class Changes : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: whiteouts and owners";
    make_dir("upper");
    make_dir("lower");
    make_dir("lowest");
  }
  std::string at(const std::string& name) { return folder_.path() + "/" + name; }
  void make_dir(const std::string& name) { ASSERT_EQ(::mkdir(at(name).c_str(), 0755), 0) << name; }
  void make_file(const std::string& name, const std::string& text = "x") {
    ASSERT_TRUE(linux::write_file(at(name), text).ok());
    const timespec times[2] = {{1'700'000'000, 0}, {1'700'000'000, 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, at(name).c_str(), times, 0), 0);
  }
  void make_whiteout(const std::string& name) { ASSERT_EQ(::mknod(at(name).c_str(), S_IFCHR, ::makedev(0, 0)), 0); }
  void make_opaque(const std::string& name) { ASSERT_EQ(::setxattr(at(name).c_str(), "user.overlay.opaque", "y", 1, 0), 0); }
  std::vector<std::string> changes() {
    const std::vector<std::string> lower = {at("lower"), at("lowest")};
    auto found = find_changes(at("upper"), lower);
    EXPECT_TRUE(found.ok()) << found.error().text();
    std::vector<std::string> out;
    if (!found.ok()) return out;
    for (const auto& change : *found) out.push_back(concat("CAD"[static_cast<int>(change.kind)], " ", change.path));
    return out;
  }

 private:
  fake::TempFolder folder_;
};

TEST_F(Changes, a_parent_is_listed_before_what_changed_in_it) {
  make_dir("lowest/etc");
  make_file("lowest/etc/old");
  make_dir("upper/etc");
  make_whiteout("upper/etc/old");
  make_file("upper/etc/new");
  make_dir("upper/made");
  make_file("upper/made/file");
  EXPECT_THAT(changes(), ElementsAre("C /etc", "A /etc/new", "D /etc/old", "A /made", "A /made/file"));
}

TEST_F(Changes, only_what_differs_counts) {
  for (const auto* layer : {"lower", "upper"}) {
    make_dir(concat(layer, "/d"));
    make_file(concat(layer, "/d/same"));
    make_file(concat(layer, "/d/bigger"));
    make_file(concat(layer, "/d/mode"));
  }
  EXPECT_THAT(changes(), IsEmpty()) << "a folder that was only copied up is no change";
  make_file("upper/d/bigger", "xx");
  ASSERT_EQ(::chmod(at("upper/d/mode").c_str(), 0600), 0);
  EXPECT_THAT(changes(), ElementsAre("C /d", "C /d/bigger", "C /d/mode"));
  ASSERT_EQ(::chmod(at("upper/d").c_str(), 0700), 0);
  EXPECT_THAT(changes(), ElementsAre("C /d", "C /d/bigger", "C /d/mode"));
}

TEST_F(Changes, a_folder_made_anew_hides_all_of_the_old_one) {
  make_dir("lowest/usr");
  make_file("lowest/usr/bin");
  make_dir("lower/usr");
  make_file("lower/usr/lib");
  make_dir("upper/usr");
  make_opaque("upper/usr");
  make_file("upper/usr/new");
  EXPECT_THAT(changes(), ElementsAre("C /usr", "D /usr/bin", "D /usr/lib", "A /usr/new"));
}

TEST_F(Changes, layers_hide_each_other_as_in_the_overlay) {
  make_dir("lowest/a");
  make_file("lowest/a/hidden");
  make_whiteout("lower/a");
  make_dir("lowest/b");
  make_file("lowest/b/hidden");
  make_dir("lower/b");
  make_opaque("lower/b");
  make_whiteout("upper/a");
  make_dir("upper/b");
  make_whiteout("upper/b/hidden");
  EXPECT_THAT(changes(), IsEmpty()) << "what the container cannot have seen was not deleted by it";
  make_file("upper/b/hidden2");
  EXPECT_THAT(changes(), ElementsAre("C /b", "A /b/hidden2"));
}

TEST_F(Changes, a_file_in_place_of_a_folder_and_the_reverse_are_changes) {
  make_dir("lower/was-folder");
  make_file("lower/was-folder/in");
  make_file("lower/was-file");
  make_file("upper/was-folder");
  make_dir("upper/was-file");
  make_file("upper/was-file/in");
  EXPECT_THAT(changes(), ElementsAre("C /was-file", "A /was-file/in", "C /was-folder"));
}

}  // namespace
}  // namespace caisson::engine
