// Tests of cache mounts as records and folders, and of the artifact they travel as.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "base/strings.hpp"
#include "build/cache_mounts.hpp"
#include "build/portable_mount.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/testing.hpp"
#include "linux/tree.hpp"

namespace caisson::build {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class cache_mounts : public testing::Test {
 protected:
  const linux::TemporaryFolder folder_;
  std::unique_ptr<state::Store> store_ = std::move(state::open_sqlite_store({.path = folder_ / "state.db"})->store);
  std::map<std::string, std::uint64_t> counted_;
  std::unique_ptr<CacheMounts> mounts_ = opened();

  std::string place() { return folder_ / "build-cache"; }
  std::unique_ptr<CacheMounts> opened() {
    auto mounts = std::make_unique<CacheMounts>(*store_, CacheKind::mount, place(), CacheMounts::Listener{[this](const std::string& path, std::uint64_t bytes) { counted_[path] = bytes; }, [] {}});
    auto status = mounts->open();
    EXPECT_TRUE(status.ok()) << status.error().text();
    mounts->settle();
    return mounts;
  }
  void reopen() {
    mounts_.reset();
    mounts_ = opened();
  }
  static CacheMountWish wish(const std::string& id) {
    CacheMountWish out;
    out.id = id;
    out.target = "/c";
    out.sharing = "locked";
    out.uid = linux::getuid();
    out.gid = linux::getgid();
    return out;
  }
  CacheMounts::Use used(const std::string& id, const std::string& content = "") {
    auto use = mounts_->acquire(wish(id), [](int) { return Status(); });
    EXPECT_TRUE(use.ok()) << use.error().text();
    if (!content.empty()) linux::must(linux::write_file(use->path() + "/f", content));
    mounts_->measure_later(use->key());
    mounts_->settle();
    return std::move(*use);
  }
  CacheEntry only() {
    auto all = mounts_->entries();
    EXPECT_THAT(all, SizeIs(1));
    return all.at(0);
  }
};

TEST_F(cache_mounts, are_named_counted_and_measured_and_outlive_the_daemon) {
  { auto use = used("/root/.cache", std::string(100'000, 'x')); EXPECT_TRUE(only().in_use); }
  used("/root/.cache");
  reopen();
  const auto entry = only();
  EXPECT_EQ(entry.kind, CacheKind::mount);
  EXPECT_EQ(entry.id, "/root/.cache");
  EXPECT_EQ(entry.sharing, "locked");
  EXPECT_EQ(entry.text, "/c");
  EXPECT_EQ(entry.use_count, 2U);
  EXPECT_FALSE(entry.in_use);
  EXPECT_GE(entry.size_bytes, 100'000U);
  EXPECT_LE(entry.created, entry.last_used);
  EXPECT_EQ(counted_[concat(place(), "/", entry.key)], entry.size_bytes);
}

TEST_F(cache_mounts, that_a_build_uses_are_not_taken) {
  auto kept = used("a", "1");
  const auto key = kept.key();
  used("b", "1");
  auto taken = mounts_->take({key, cache_mount_key("", "b")});
  ASSERT_TRUE(taken.ok());
  ASSERT_THAT(*taken, SizeIs(1));
  EXPECT_EQ(taken->at(0).id, "b");
  EXPECT_TRUE(*linux::exists(kept.path() + "/f"));
  EXPECT_EQ(linux::list_dir(place())->size(), 1U) << "nothing is left of the other one";
  EXPECT_EQ(counted_[concat(place(), "/", cache_mount_key("", "b"))], 0U);
  EXPECT_EQ(mounts_->hold(key).error().kind(), ErrorKind::conflict);
  { auto released = std::move(kept); }
  EXPECT_TRUE(mounts_->hold(key).ok());
  EXPECT_THAT(*mounts_->take({key}), SizeIs(1));
}

TEST_F(cache_mounts, of_other_scopes_are_others) {
  policy::Role role;
  EXPECT_EQ(cache_scope_of(role), "");
  role.scope.labels = {{"team", "web"}, {"a", "b"}};
  role.scope.project = "p";
  EXPECT_EQ(cache_scope_of(role), "a=b, team=web, project p");
  role.scope = {};
  role.name = "dev";
  role.bounds.emplace();
  EXPECT_EQ(cache_scope_of(role), "role dev") << "who is bounded does not write into what an administrator's builds run";
  EXPECT_NE(cache_mount_key("", "id"), cache_mount_key("a=b", "id"));
  EXPECT_EQ(cache_mount_key("", "id"), sha256_of("id").hex()) << "folders of earlier versions stay in use";
}

TEST_F(cache_mounts, of_which_no_record_was_kept_get_their_id_by_the_next_use) {
  mounts_.reset();
  const auto path = concat(place(), "/", cache_mount_key("", "old"));
  ASSERT_TRUE(linux::make_dirs(path, 0755).ok());
  ASSERT_TRUE(linux::write_file(path + "/f", std::string(50'000, 'x')).ok());
  mounts_ = opened();
  EXPECT_EQ(only().id, "");
  EXPECT_GE(only().size_bytes, 50'000U);
  auto use = used("old");
  EXPECT_TRUE(*linux::exists(use.path() + "/f"));
  EXPECT_EQ(only().id, "old");
}

TEST_F(cache_mounts, that_are_held_are_waited_for_until_the_build_is_cancelled) {
  used("a");
  const auto key = only().key;
  auto cancel = linux::eventfd();
  ASSERT_TRUE(cancel.ok());
  auto held = mounts_->hold(key);
  ASSERT_TRUE(held.ok());
  ASSERT_TRUE(linux::eventfd_signal(cancel->get()).ok());
  auto given_up = mounts_->acquire(wish("a"), [](int) { return Status(); }, {cancel->get()});
  ASSERT_FALSE(given_up.ok());
  EXPECT_EQ(given_up.error().error_number(), ECANCELED);
  EXPECT_THAT(given_up.error().text(), HasSubstr("cache mount a"));
  // Whoever goes on waiting gets it, also when another build has it before.
  std::atomic<int> got = 0;
  auto wait = [&] {
    auto use = mounts_->acquire(wish("a"), [](int) { return Status(); });
    if (use.ok()) ++got;
  };
  std::thread first(wait);
  std::thread second(wait);
  { const auto released = std::move(*held); }
  first.join();
  second.join();
  EXPECT_EQ(got, 2);
  EXPECT_FALSE(only().in_use);
}

TEST_F(cache_mounts, leave_nothing_half_made_behind_a_killed_daemon) {
  auto failed = mounts_->acquire(wish("a"), [](int) { return Status(Error(ErrorKind::io, "no")); });
  EXPECT_FALSE(failed.ok());
  EXPECT_THAT(mounts_->entries(), IsEmpty());
  EXPECT_THAT(*linux::list_dir(place()), IsEmpty());
  used("lost", "1");
  mounts_.reset();
  ASSERT_TRUE(linux::remove_tree(concat(place(), "/", cache_mount_key("", "lost"))).ok());  // as between the two halves of a removal
  for (const auto* name : {".new-1", ".gone-2"}) ASSERT_TRUE(linux::make_dirs(concat(place(), "/", name, "/deep"), 0755).ok());
  mounts_ = opened();
  EXPECT_THAT(mounts_->entries(), IsEmpty());
  EXPECT_THAT(*linux::list_dir(place()), IsEmpty());
}

TEST_F(cache_mounts, are_replaced_as_a_whole_and_not_while_they_are_used) {
  auto stage = [&](const std::string& content) {
    auto staging = mounts_->stage();
    EXPECT_TRUE(staging.ok());
    auto file = linux::openat(staging->fd(), "g", O_WRONLY | O_CREAT, 0644);
    EXPECT_TRUE(file.ok() && linux::write_all(file->get(), content).ok());
    return std::move(*staging);
  };
  ASSERT_TRUE(mounts_->adopt(wish("a"), stage("new")).ok());
  {
    auto use = used("a", "old");
    auto refused = mounts_->adopt(wish("a"), stage("newer"));
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().kind(), ErrorKind::conflict);
    EXPECT_THAT(refused.error().text(), HasSubstr("cache mount a is in use by a build"));
    EXPECT_EQ(*linux::read_file(use.path() + "/g"), "new");
  }
  auto replaced = mounts_->adopt(wish("a"), stage("newer"));
  ASSERT_TRUE(replaced.ok()) << replaced.error().text();
  auto use = used("a");
  EXPECT_EQ(*linux::read_file(use.path() + "/g"), "newer");
  EXPECT_FALSE(*linux::exists(use.path() + "/f"));
  EXPECT_EQ(linux::list_dir(place())->size(), 1U);
}

image::LayerList list_of(const image::ComposeRequest& request) {
  image::LayerList list;
  list.reference = "x";
  list.annotations = request.annotations;
  list.artifact_type = request.artifact_type;
  list.layers.resize(request.layers.size(), {sha256_of(""), sha256_of(""), 1, ""});
  return list;
}

TEST(portable_mount, says_what_it_is) {
  image::MadeLayer layer;
  const auto request = artifact_of({"/root/.cache", 5, 65535, 01777}, layer);
  EXPECT_EQ(request.created, 0);
  auto read = parse_artifact(list_of(request));
  ASSERT_TRUE(read.ok()) << read.error().text();
  EXPECT_EQ(read->id, "/root/.cache");
  EXPECT_EQ(read->uid, 5U);
  EXPECT_EQ(read->gid, 65535U);
  EXPECT_EQ(read->mode, 01777U);
  layer.is_empty = true;
  EXPECT_THAT(artifact_of({"a", 0, 0, 0755}, layer).layers, IsEmpty());
}

TEST(portable_mount, that_is_something_else_is_refused_by_name) {
  const auto good = list_of(artifact_of({"a", 0, 0, 0755}, {}));
  auto refusal = [&](const std::function<void(image::LayerList&)>& damage) {
    auto list = good;
    damage(list);
    auto read = parse_artifact(list);
    return read.ok() ? std::string("taken") : read.error().text();
  };
  EXPECT_THAT(refusal([](auto& list) { list.artifact_type.clear(); }), HasSubstr("x is no cache mount: its artifactType is not application/vnd.caisson.cache-mount.v1"));
  EXPECT_THAT(refusal([](auto& list) { list.annotations.erase(std::string(mount_id_annotation)); }), HasSubstr("x: the annotation org.caisson.build.cache-mount.id is missing"));
  EXPECT_THAT(refusal([](auto& list) { list.annotations.erase(std::string(mount_mode_annotation)); }), HasSubstr("cache-mount.mode is missing"));
  EXPECT_THAT(refusal([](auto& list) { list.annotations[std::string(mount_id_annotation)] = ""; }), HasSubstr("is no id"));
  EXPECT_THAT(refusal([](auto& list) { list.annotations[std::string(mount_owner_annotation)] = "0:65536"; }), HasSubstr("\"65536\" is no number up to 65535"));
  EXPECT_THAT(refusal([](auto& list) { list.annotations[std::string(mount_owner_annotation)] = "0"; }), HasSubstr("cache-mount.owner"));
  EXPECT_THAT(refusal([](auto& list) { list.annotations[std::string(mount_mode_annotation)] = "10000"; }), HasSubstr("\"10000\" is no number up to 07777"));
  EXPECT_THAT(refusal([](auto& list) { list.layers.resize(2, list.layers.at(0)); }), HasSubstr("is one layer, and this has 2"));
}

}  // namespace
}  // namespace caisson::build
