#include "build/kept_context.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/digest.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/testing.hpp"
#include "linux/tree.hpp"

namespace caisson::build {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

std::string hex_of(const std::string& text) { return std::string(sha256_of(text).hex()); }

class KeptContextTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const auto* name : {"kept", "first", "second"}) ASSERT_TRUE(linux::mkdir(at(name), 0755).ok());
    kept_ = *linux::open(at("kept"), O_RDONLY | O_DIRECTORY);
    first_ = *linux::open(at("first"), O_RDONLY | O_DIRECTORY);
    second_ = *linux::open(at("second"), O_RDONLY | O_DIRECTORY);
  }
  [[nodiscard]] std::string at(const std::string& name) const { return folder_.path() + "/" + name; }
  void write(const std::string& name, const std::string& text) { ASSERT_TRUE(linux::write_file(at(name), text, 0644).ok()); }
  std::vector<std::string> kept_names() {
    std::vector<std::string> out;
    const auto entries = linux::list_dir(kept_.get());
    for (const auto& entry : *entries) out.push_back(entry.name);
    return out;
  }
  /// What a build does at its beginning, and what one without kept files does at its end.
  Status restore(const std::vector<KeptFile>& files) { return KeptFiles(kept_.get(), lent_, "key").restore(files, second_.get(), {}); }
  Status keep(const UniqueFd& context) { return KeptFiles(kept_.get(), lent_, "key").keep({context.get()}); }
  linux::TemporaryFolder folder_;
  LentFiles lent_;
  UniqueFd kept_;
  UniqueFd first_;
  UniqueFd second_;
  const std::string one_ = std::string(1000, 'a');
  const std::string two_ = std::string(2000, 'b');
};

TEST_F(KeptContextTest, files_of_one_build_come_back_in_the_next_one) {
  ASSERT_TRUE(linux::mkdir(at("first/src"), 0755).ok());
  write("first/one", one_);
  write("first/src/two", two_);
  write("first/small", "short");
  ASSERT_TRUE(keep(first_).ok());
  EXPECT_THAT(kept_names(), UnorderedElementsAre(hex_of(one_), hex_of(two_)));
  EXPECT_THAT(*missing_files(kept_.get(), {hex_of("other"), hex_of(two_), hex_of(one_)}), ElementsAre(0U));

  ASSERT_TRUE(linux::mkdir(at("second/moved"), 0755).ok());
  const std::vector<KeptFile> files{{"moved/two", hex_of(two_), 0755, 12345}, {"again", hex_of(two_), 0600, 1}};
  KeptFiles build(kept_.get(), lent_, "key");
  ASSERT_TRUE(build.restore(files, second_.get(), {}).ok());
  EXPECT_THAT(kept_names(), ElementsAre(hex_of(one_))) << "the other one has moved";
  EXPECT_EQ(*linux::read_file(at("second/moved/two")), two_);
  const auto status = *linux::stat(at("second/moved/two"));
  EXPECT_EQ(status.st_mode & 07777U, 0755U);
  EXPECT_EQ(status.st_mtim.tv_sec, 12345);
  EXPECT_EQ(status.st_nlink, 1U) << "a second name would be a hard link in a layer";
  EXPECT_EQ(*linux::read_file(at("second/again")), two_);

  // What the second context does not have goes, what it has new comes.
  write("second/new", std::string(700, 'n'));
  ASSERT_TRUE(build.keep({second_.get()}).ok());
  EXPECT_THAT(kept_names(), UnorderedElementsAre(hex_of(two_), hex_of(std::string(700, 'n'))));
}

TEST_F(KeptContextTest, another_build_of_the_same_context_finds_what_the_first_one_has) {
  for (const auto* name : {"third", "fourth"}) ASSERT_TRUE(linux::mkdir(at(name), 0755).ok());
  const auto third = *linux::open(at("third"), O_RDONLY | O_DIRECTORY);
  const auto fourth = *linux::open(at("fourth"), O_RDONLY | O_DIRECTORY);
  write("first/one", one_);
  write("first/two", two_);
  ASSERT_TRUE(keep(first_).ok());
  const std::vector<KeptFile> files{{"one", hex_of(one_), 0755, 12345}, {"two", hex_of(two_), 0600, 1}};
  KeptFiles build(kept_.get(), lent_, "key");
  ASSERT_TRUE(build.restore(files, second_.get(), {}).ok());
  EXPECT_THAT(kept_names(), IsEmpty());
  EXPECT_TRUE(lent_.find("key", hex_of(one_)));
  EXPECT_FALSE(lent_.find("another key", hex_of(one_)));
  {
    KeptFiles other(kept_.get(), lent_, "another key");
    EXPECT_EQ(other.restore(files, third.get(), {}).error().kind(), ErrorKind::conflict);
  }
  KeptFiles beside(kept_.get(), lent_, "key");
  ASSERT_TRUE(beside.restore({{"again", hex_of(one_), 0644, 2}}, third.get(), {}).ok());
  EXPECT_EQ(*linux::read_file(at("third/again")), one_);
  EXPECT_EQ(linux::stat(at("second/one"))->st_mode & 07777U, 0755U) << "each has a file of its own";
  // Where the first one has changed its file, nobody takes that for what is asked for.
  ASSERT_TRUE(linux::write_file(at("second/two"), "changed", 0644).ok());
  KeptFiles late(kept_.get(), lent_, "key");
  EXPECT_EQ(late.restore({{"two", hex_of(two_), 0644, 2}}, fourth.get(), {}).error().kind(), ErrorKind::conflict);

  // In whatever order they end.
  ASSERT_TRUE(beside.keep({third.get()}).ok());
  EXPECT_THAT(kept_names(), ElementsAre(hex_of(one_)));
  ASSERT_TRUE(build.give_back().ok());
  EXPECT_THAT(kept_names(), UnorderedElementsAre(hex_of(one_), hex_of(two_)));
  EXPECT_FALSE(lent_.find("key", hex_of(one_)));
}

TEST_F(KeptContextTest, what_a_build_without_success_took_goes_back) {
  write("first/one", one_);
  ASSERT_TRUE(keep(first_).ok());
  KeptFiles build(kept_.get(), lent_, "key");
  EXPECT_FALSE(build.restore({{"one", hex_of(one_), 0644, 0}, {"two", hex_of(two_), 0644, 0}}, second_.get(), {}).ok());
  EXPECT_THAT(kept_names(), IsEmpty());
  ASSERT_TRUE(build.give_back().ok());
  EXPECT_THAT(kept_names(), ElementsAre(hex_of(one_)));
}

TEST_F(KeptContextTest, a_damaged_file_is_thrown_away_and_asked_for) {
  write("first/one", one_);
  ASSERT_TRUE(keep(first_).ok());
  ASSERT_TRUE(linux::write_file(at("kept/" + hex_of(one_)), std::string(1000, 'x'), 0644).ok());
  const auto restored = restore({{"one", hex_of(one_), 0644, 0}});
  ASSERT_FALSE(restored.ok());
  EXPECT_EQ(restored.error().kind(), ErrorKind::conflict);
  EXPECT_THAT(kept_names(), IsEmpty());
}

TEST_F(KeptContextTest, what_is_not_kept_any_more_is_a_conflict) {
  const auto restored = restore({{"one", hex_of(one_), 0644, 0}});
  ASSERT_FALSE(restored.ok());
  EXPECT_EQ(restored.error().kind(), ErrorKind::conflict);
  EXPECT_THAT(restored.error().text(), HasSubstr("one"));
}

TEST_F(KeptContextTest, no_path_leads_out_and_no_name_but_a_digest_is_looked_for) {
  write("first/one", one_);
  write("outside", "keep me");
  ASSERT_TRUE(keep(first_).ok());
  ASSERT_TRUE(linux::symlinkat("..", second_.get(), "up").ok());
  ASSERT_TRUE(linux::symlinkat("../outside", second_.get(), "link").ok());
  for (const auto* path : {"", ".", "..", "../outside", "/etc/x", "a//b", "a/../b", "nowhere/file", "up/outside", "link"}) {
    const std::vector<KeptFile> files{{path, hex_of(one_), 0644, 0}};
    const auto restored = restore(files);
    // "up/outside" ends in the context itself: no link leads out of it.
    if (std::string_view(path) == "up/outside") EXPECT_TRUE(restored.ok()) << restored.error().text();
    else EXPECT_FALSE(restored.ok()) << path;
  }
  EXPECT_EQ(*linux::read_file(at("outside")), "keep me");
  const std::vector<std::string> digests{"../outside", std::string(64, 'g'), ""};
  for (const auto& digest : digests) {
    const std::vector<KeptFile> files{{"one", digest, 0644, 0}};
    const auto restored = restore(files);
    ASSERT_FALSE(restored.ok());
    EXPECT_EQ(restored.error().kind(), ErrorKind::invalid);
    EXPECT_FALSE(missing_files(kept_.get(), std::vector<std::string>(1, digest)).ok());
  }
}

TEST_F(KeptContextTest, holes_and_hard_links_stay_behind) {
  write("first/one", one_);
  ASSERT_TRUE(linux::linkat(AT_FDCWD, at("first/one"), AT_FDCWD, at("first/other")).ok());
  const auto sparse = *linux::open(at("first/sparse"), O_WRONLY | O_CREAT, 0644);
  ASSERT_TRUE(linux::ftruncate(sparse.get(), 1LL << 40).ok());
  ASSERT_TRUE(keep(first_).ok());
  EXPECT_THAT(kept_names(), IsEmpty());
}

}  // namespace
}  // namespace caisson::build
