// Tests of what a build decides and does to files: needed stages, keys, order of events, sources, digests, copies, modes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ids.hpp"
#include "base/strings.hpp"
#include "build/cache.hpp"
#include "build/fetch.hpp"
#include "build/local_builder.hpp"
#include "build/provenance.hpp"
#include "build/stage.hpp"
#include "build/tree.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::build {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

dockerfile::File parsed(const std::string& text) {
  auto file = dockerfile::parse({"Dockerfile", text});
  EXPECT_TRUE(file.ok()) << text;
  return file.ok() ? *file : dockerfile::File{};
}

TEST(stages, only_those_that_the_target_needs_are_built) {
  auto file = parsed("ARG B=b\nFROM x AS a\nFROM x AS b\nFROM x AS unused\nFROM $B AS c\nFROM a\nCOPY --from=c / /\nRUN --mount=from=0,target=/m true\nFROM x\nCOPY --from=other/image / /\n");
  dockerfile::GlobalScope globals({}, {});
  ASSERT_TRUE(globals.declare(file.arguments[0], '\\').ok());
  EXPECT_THAT(needed_stages(file, globals, 4), ElementsAre(0U, 1U, 3U, 4U));
  EXPECT_THAT(needed_stages(file, globals, 5), ElementsAre(5U));
  EXPECT_THAT(needs_of(file, globals, 4), ElementsAre(0U, 3U));
}

TEST(stages, a_named_context_stands_for_a_stage_or_an_image) {
  auto file = parsed("FROM x AS a\nFROM a AS b\nFROM y\nCOPY --from=a / /\nRUN --mount=from=b,target=/m true\n");
  dockerfile::GlobalScope globals({}, {});
  NamedContexts contexts;
  NamedContexts::Opened image;
  image.image = "other";
  ASSERT_TRUE(contexts.add("A", std::move(image)).ok());
  EXPECT_THAT(needed_stages(file, globals, 2, contexts), ElementsAre(1U, 2U)) << "the stage that it stands for is not built";
  EXPECT_EQ(contexts.add("a", {}).error().kind(), ErrorKind::invalid);
  ASSERT_TRUE(contexts.add("docker.io/library/alpine", {}).ok());
  EXPECT_NE(contexts.find("alpine:latest"), nullptr);
  EXPECT_EQ(contexts.find("alpine:3"), nullptr);
  EXPECT_EQ(contexts.find(""), nullptr);
}

TEST(provenance, an_image_is_known_by_the_digest_its_registry_has_it_under) {
  image::Image image;
  image.id = sha256_of("config");
  image.architecture = "arm";
  image.variant = "v7";
  image.repo_digests = {"other/name@" + sha256_of("a").text(), "registry.example/team/app@" + sha256_of("b").text()};
  const auto material = image_material("registry.example/team/app:1", image);
  EXPECT_EQ(material.uri, "pkg:docker/registry.example/team/app@1?platform=linux%2Farm%2Fv7");
  EXPECT_EQ(material.value, sha256_of("b").hex());
  EXPECT_EQ(image_material("alpine", image).uri, "pkg:docker/alpine@latest?platform=linux%2Farm%2Fv7");
  EXPECT_EQ(image_material("alpine", image).value, sha256_of("config").hex()) << "no registry is known to have it";
}

TEST(provenance, the_short_form_has_nothing_that_may_be_secret) {
  BuildRequest request;
  request.remote = "https://user:word@git.example/app.git#main";
  request.arguments = {{"TOKEN", "slipped-in"}};
  request.labels = {{"l", "label-text"}};
  request.secrets = {{"id", "true-secret"}};
  const dockerfile::Source source{"Dockerfile", "FROM scratch # text-of-it\n"};
  const std::vector<Material> materials{git_material(request.remote, "c0ffee"), url_material("https://u:p@host/x.tar", sha256_of("x"))};
  for (const auto mode : {Provenance::min, Provenance::max}) {
    request.provenance = mode;
    const auto text = write_provenance(request, source, materials, {"build-1", "linux/amd64", "linux/arm64", 0, 1'000'000'000});
    EXPECT_THAT(text, HasSubstr(R"("configSource":{"uri":"git+https://git.example/app.git#main","digest":{"gitCommit":"c0ffee"},"path":"Dockerfile"})"));
    EXPECT_THAT(text, HasSubstr(R"({"uri":"https://host/x.tar","digest":{"sha256":)"));
    EXPECT_THAT(text, HasSubstr(R"("invocationId":"build-1")"));
    for (const auto* hidden : {"user:word", "u:p@", "true-secret"}) EXPECT_THAT(text, testing::Not(HasSubstr(hidden)));
    for (const auto* told : {"slipped-in", "label-text", "text-of-it"}) {
      if (mode == Provenance::max) EXPECT_THAT(text, HasSubstr(told));
      else EXPECT_THAT(text, testing::Not(HasSubstr(told)));
    }
  }
}

TEST(stages, a_target_is_a_name_a_number_or_the_last_one) {
  auto file = parsed("FROM x AS one\nFROM x AS two\n");
  EXPECT_EQ(*find_target(file, ""), 1U);
  EXPECT_EQ(*find_target(file, "One"), 0U);
  EXPECT_EQ(*find_target(file, "1"), 1U);
  EXPECT_THAT(find_target(file, "tow").error().text(), HasSubstr("failed to reach build target tow in Dockerfile (did you mean two?)"));
  EXPECT_FALSE(find_target(file, "2").ok());
  EXPECT_EQ(StageBuilder::find_stage(file, "two", 1), std::nullopt) << "a stage sees earlier ones only";
}

TEST(keys, no_two_lists_of_fields_give_the_same) {
  std::set<std::string> keys;
  keys.insert(KeyHasher("k").add("a").add("b").finish());
  keys.insert(KeyHasher("k").add("ab").finish());
  keys.insert(KeyHasher("k").add("a").add("").add("b").finish());
  keys.insert(KeyHasher("k").add(std::vector<std::string>{"a", "b"}).finish());
  keys.insert(KeyHasher("k").add(std::vector<std::string>{"a"}).add("b").finish());
  keys.insert(KeyHasher("ka").add("b").finish());
  EXPECT_EQ(keys.size(), 6U);
  EXPECT_EQ(KeyHasher("k").add("a").finish(), KeyHasher("k").add("a").finish());
}

TEST(git_authorization, a_secret_of_the_host_comes_before_the_general_one) {
  dockerfile::GitSource source;
  source.repository = "https://h:8443/a.git";
  EXPECT_EQ(git_authorization(source, {}), "");
  EXPECT_EQ(git_authorization(source, {{"GIT_AUTH_TOKEN", "t\n"}}), "Basic eC1hY2Nlc3MtdG9rZW46dA==");
  EXPECT_EQ(git_authorization(source, {{"GIT_AUTH_TOKEN", "t"}, {"GIT_AUTH_HEADER.h:8443", "bearer x"}}), "bearer x");
}

TEST(events, stages_are_told_one_after_the_other) {
  std::vector<std::string> told;
  EventSink sink = [&](const Event& event) { told.push_back(event.text); };
  const EventSink none;
  Reporter reporter(sink, none, 3);
  auto say = [&](std::size_t stage, std::string text) {
    Event event;
    event.text = std::move(text);
    reporter.send(stage, std::move(event));
  };
  say(1, "b1");
  say(0, "a1");
  say(2, "c1");
  EXPECT_THAT(told, ElementsAre("a1"));
  reporter.finish(1);
  reporter.finish(0);
  EXPECT_THAT(told, ElementsAre("a1", "b1", "c1"));
  say(2, "c2");
  EXPECT_THAT(told, ElementsAre("a1", "b1", "c1", "c2"));
}

TEST(events, the_history_tells_of_a_debug_shell_or_why_there_was_none) {
  Event event;
  event.kind = EventKind::shell;
  DebugShell shell;
  shell.container = "0123456789abcdef";
  event.debug_shell = std::make_shared<DebugShell>(shell);
  EXPECT_EQ(text_of(event), " ---> Debug shell in 0123456789ab\n");
  shell.container.clear();
  shell.problem = "no program";
  event.debug_shell = std::make_shared<DebugShell>(shell);
  EXPECT_EQ(text_of(event), "No debug shell: no program\n");
}

TEST(events, after_a_failure_nothing_is_held_back) {
  std::vector<std::string> told;
  EventSink sink = [&](const Event& event) { told.push_back(event.text); };
  std::vector<std::uint32_t> at_once;
  const EventSink live = [&](const Event& event) { at_once.push_back(event.stage); };
  Reporter reporter(sink, live, 2);
  Event event;
  event.text = "cause";
  reporter.send(1, event);
  reporter.flush();
  EXPECT_THAT(told, ElementsAre("cause"));
  EXPECT_THAT(at_once, ElementsAre(1U)) << "whoever wants to know at once has known";
}

class Trees : public testing::Test {
 protected:
  std::string path = concat("/tmp/caisson-build-test-", random_id().substr(0, 12));
  UniqueFd root;
  void SetUp() override {
    ASSERT_TRUE(linux::make_dirs(path, 0755).ok());
    root = *linux::open(path, O_RDONLY | O_DIRECTORY);
  }
  void TearDown() override { EXPECT_TRUE(linux::remove_tree(path).ok()); }
  void write(const std::string& name, const std::string& text, mode_t mode = 0644) {
    auto folder = path + "/" + name.substr(0, name.find_last_of('/') + 1);
    ASSERT_TRUE(linux::make_dirs(folder, 0755).ok());
    ASSERT_TRUE(linux::write_file(path + "/" + name, text, mode).ok());
    ASSERT_TRUE(linux::fchmodat(AT_FDCWD, path + "/" + name, mode).ok());
  }
  std::string digest(const std::string& name, const dockerfile::IgnoreList* exclude = nullptr) { return *TreeHasher(exclude, false).digest(root.get(), name); }
};

TEST_F(Trees, sources_are_found_by_name_and_by_pattern) {
  write("d/a.txt", "1");
  write("d/b.txt", "2");
  write("e/a.txt", "3");
  EXPECT_THAT(*find_sources(root.get(), "d/a.txt"), ElementsAre("d/a.txt"));
  EXPECT_THAT(*find_sources(root.get(), "/d/"), ElementsAre("d"));
  EXPECT_THAT(*find_sources(root.get(), "."), ElementsAre("."));
  EXPECT_THAT(*find_sources(root.get(), "d/*.txt"), ElementsAre("d/a.txt", "d/b.txt"));
  EXPECT_THAT(*find_sources(root.get(), "?/a.*"), ElementsAre("d/a.txt", "e/a.txt"));
  EXPECT_THAT(*find_sources(root.get(), "x*"), IsEmpty());
  EXPECT_EQ(find_sources(root.get(), "none").error().kind(), ErrorKind::not_found);
  EXPECT_EQ(find_sources(root.get(), "../../etc/passwd").error().kind(), ErrorKind::not_found);
  EXPECT_FALSE(find_sources(root.get(), "[").ok());
}

TEST_F(Trees, a_link_that_leads_out_is_followed_inside) {
  ASSERT_TRUE(linux::symlinkat("/etc/passwd", root.get(), "link").ok());
  EXPECT_EQ(find_sources(root.get(), "link").error().kind(), ErrorKind::not_found);
  write("etc/passwd", "mine");
  EXPECT_EQ(digest("link"), digest("etc/passwd"));
}

TEST_F(Trees, digests_see_content_and_mode_and_no_times) {
  write("d/f", "1");
  auto before = digest("d");
  linux::TimeSpec old{};
  old.tv_sec = 1;
  ASSERT_TRUE(linux::utimensat(root.get(), "d/f", old, old, 0).ok());
  EXPECT_EQ(digest("d"), before);
  write("d/f", "1", 0755);
  EXPECT_NE(digest("d"), before);
  write("d/f", "2");
  EXPECT_NE(digest("d"), before);
  write("d/f", "1");
  EXPECT_EQ(digest("d"), before);
  write("d/g", "");
  EXPECT_NE(digest("d"), before);
  auto exclude = *dockerfile::IgnoreList::of_patterns({"g"});
  auto without = digest("d", &exclude);
  write("d/g", "changed");
  EXPECT_EQ(digest("d", &exclude), without);
}

TEST_F(Trees, copies_keep_modes_links_and_times_and_merge_folders) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: owners are set";
  write("from/a", "1", 04711);
  write("from/d/b", "2");
  ASSERT_TRUE(linux::symlinkat("/nowhere", root.get(), "from/l").ok());
  ASSERT_TRUE(linux::linkat(root.get(), "from/a", root.get(), "from/hard").ok());
  write("to/d/kept", "3");
  write("to/a", "old");
  linux::TimeSpec old{};
  old.tv_sec = 1'000'000;
  const std::string capability("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);  // cap_net_bind_service=ep
  ASSERT_TRUE(linux::fsetxattr(linux::openat(root.get(), "from/a", O_RDONLY)->get(), "security.capability", capability).ok());
  ASSERT_TRUE(linux::utimensat(root.get(), "from/a", old, old, 0).ok());
  auto from = *linux::openat(root.get(), "from", O_RDONLY | O_DIRECTORY);
  auto to = *linux::openat(root.get(), "to", O_RDONLY | O_DIRECTORY);
  CopyOptions options;
  options.owner = {5, 6};
  auto copied = TreeCopier(options).copy_children(from.get(), to.get());
  ASSERT_TRUE(copied.ok()) << copied.error().text();
  auto a = *linux::fstatat(to.get(), "a", AT_SYMLINK_NOFOLLOW);
  EXPECT_EQ(a.st_mode & 07777, 04711U);
  EXPECT_EQ(a.st_uid, 5U);
  EXPECT_EQ(a.st_gid, 6U);
  EXPECT_EQ(a.st_mtim.tv_sec, 1'000'000);
  EXPECT_EQ(*linux::fgetxattr(linux::openat(to.get(), "a", O_RDONLY)->get(), "security.capability"), capability) << "a change of the owner takes it away";
  EXPECT_EQ(a.st_ino, linux::fstatat(to.get(), "hard", AT_SYMLINK_NOFOLLOW)->st_ino);
  EXPECT_EQ(*linux::readlinkat(to.get(), "l"), "/nowhere");
  EXPECT_EQ(*linux::read_file_at(to.get(), "d/kept"), "3");
  EXPECT_EQ(*linux::read_file_at(to.get(), "d/b"), "2");
  write("from/d2/x", "");
  write("to/d2", "a file");
  EXPECT_THAT(TreeCopier(options).copy_children(from.get(), to.get()).error().text(), HasSubstr("cannot copy a folder to a file"));
}

TEST_F(Trees, folders_are_made_inside_the_root) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: owners are set";
  ASSERT_TRUE(linux::symlinkat("/real", root.get(), "link").ok());
  ASSERT_TRUE(make_folders(root.get(), "/real", {0, 0}).ok());
  ASSERT_TRUE(make_folders(root.get(), "/link/a/../b/c", {7, 8}).ok());
  auto made = *linux::fstatat(root.get(), "real/b/c", AT_SYMLINK_NOFOLLOW);
  EXPECT_EQ(made.st_uid, 7U);
  EXPECT_EQ(made.st_mode & 07777, 0755U);
  write("file", "");
  EXPECT_FALSE(make_folders(root.get(), "/file/x", {0, 0}).ok());
}

TEST_F(Trees, what_nothing_stands_in_the_way_of_is_grafted) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root: owners are set";
  write("from/a", "1");
  write("from/new/below", "2");
  write("from/both/b", "3");
  write("from/both/c", "4");
  write("to/a", "old");
  write("to/both/b", "old");
  auto from = *linux::openat(root.get(), "from", O_RDONLY | O_DIRECTORY);
  auto to = *linux::openat(root.get(), "to", O_RDONLY | O_DIRECTORY);
  std::vector<image::Graft> grafts;
  CopyOptions options;
  options.owner = {5, 6};
  options.grafts = &grafts;
  options.graft_folder = "srv/app";
  options.graft_source = "from";
  auto copied = TreeCopier(options).copy_children(from.get(), to.get());
  ASSERT_TRUE(copied.ok()) << copied.error().text();
  ASSERT_EQ(grafts.size(), 2U);
  EXPECT_EQ(grafts[0].folder, "srv/app/both");
  EXPECT_EQ(grafts[0].source, "from/both");
  EXPECT_THAT(grafts[0].names, testing::ElementsAre("b", "c"));
  EXPECT_EQ(grafts[1].folder, "srv/app");
  EXPECT_EQ(grafts[1].source, "from");
  EXPECT_THAT(grafts[1].names, testing::ElementsAre("a", "new"));
  EXPECT_EQ(linux::fstatat(to.get(), "both", AT_SYMLINK_NOFOLLOW)->st_uid, 5U);
  EXPECT_EQ(*linux::read_file_at(to.get(), "a"), "old");
  EXPECT_EQ(linux::fstatat(to.get(), "new", AT_SYMLINK_NOFOLLOW).error().kind(), ErrorKind::not_found);
  write("from/file", "");
  write("to/file/x", "a folder");
  EXPECT_THAT(TreeCopier(options).copy_children(from.get(), to.get()).error().text(), HasSubstr("a folder of that name is there"));
  ASSERT_TRUE(linux::unlinkat(root.get(), "from/file").ok());
  write("from/d2/x", "");
  write("to/d2", "a file");
  EXPECT_THAT(TreeCopier(options).copy_children(from.get(), to.get()).error().text(), HasSubstr("cannot copy a folder to a file"));
}

TEST(modes, octal_and_symbolic_ones_are_understood) {
  EXPECT_EQ(*change_mode("644", 0, false), 0644U);
  EXPECT_EQ(*change_mode("4755", 0, false), 04755U);
  EXPECT_EQ(*change_mode("u=rwX,go=rX", 0600, false), 0644U);
  EXPECT_EQ(*change_mode("u=rwX,go=rX", 0600, true), 0755U);
  EXPECT_EQ(*change_mode("+x", 0644, false), 0755U);
  EXPECT_EQ(*change_mode("go-rwx", 0777, false), 0700U);
  EXPECT_EQ(*change_mode("g=u", 0640, false), 0660U);
  EXPECT_EQ(*change_mode("u+s", 0755, false), 04755U);
  for (auto bad : {"", "8", "17777", "u", "x", "u=q", "u=r,,"}) EXPECT_FALSE(change_mode(bad, 0, false).ok()) << bad;
}

}  // namespace
}  // namespace caisson::build
