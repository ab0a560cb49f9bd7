// The store under a quota: what it counts is what du counts, what does not fit leaves nothing, and what nobody needs gives way first.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <future>
#include <random>
#include <thread>

#include "image/content_store.hpp"
#include "image/test_support.hpp"
#include "linux/tree.hpp"

namespace caisson::image {
namespace {

using namespace testing_support;
using testing::HasSubstr;

constexpr std::uint64_t mebibyte = 1 << 20;
/// Folders of the store itself and its two small documents.
constexpr std::uint64_t skeleton_bytes = 96 << 10;

std::string noise(std::size_t bytes, unsigned seed) {
  std::mt19937_64 dice(seed);
  std::string out(bytes, '\0');
  for (auto& c : out) c = static_cast<char>(dice());
  return out;
}

class Quota : public testing::TestWithParam<SnapshotForm> {
 protected:
  void SetUp() override {
    if (auto reason = why_not(); !reason.empty()) GTEST_SKIP() << reason;
    if (GetParam() == SnapshotForm::erofs)
      if (auto works = try_index("/var/tmp", first_worker_id); !works.ok()) GTEST_SKIP() << works.error().text();
    open(0);
  }
  void open(std::uint64_t quota_bytes) {
    images_.reset();
    state_.reset();
    auto opened = state::open_sqlite_store({folder_.path() + "/state.db"});
    ASSERT_TRUE(opened.ok()) << opened.error().text();
    state_ = std::move(opened->store);
    ImageOptions options;
    options.root = root();
    options.worker_path = worker_path();
    options.worker_first_id = first_worker_id;
    options.snapshot_form = GetParam();
    options.quota_bytes = quota_bytes;
    auto images = open_image_store(*state_, options);
    ASSERT_TRUE(images.ok()) << images.error().text();
    images_ = std::move(*images);
  }
  [[nodiscard]] std::string root() const { return folder_.path() + "/images"; }
  Result<Image> import(std::string_view tar, const std::string& name) {
    auto fd = fd_with(tar);
    ImportRequest request;
    request.source_fd = fd.get();
    request.reference = name;
    return images_->import(request, {}, {});
  }
  Image imported(std::string_view tar, const std::string& name) {
    auto image = import(tar, name);
    EXPECT_TRUE(image.ok()) << image.error().text();
    return image.ok() ? std::move(*image) : Image();
  }
  void expect_as_du() {
    const auto on_disk = linux::tree_usage(root()).value().size_bytes;
    const auto used = images_->room().used_bytes;
    EXPECT_LE(used, on_disk);
    EXPECT_GE(used + skeleton_bytes, on_disk);
    EXPECT_EQ(images_->room().reserved_bytes, 0U);
  }
  void expect_refused(const Error& error) {
    EXPECT_EQ(error.error_number(), EDQUOT) << error.text();
    EXPECT_EQ(error.kind(), ErrorKind::io);
    EXPECT_THAT(error.text(), HasSubstr("the image store has no room for it"));
    EXPECT_EQ(images_->room().reserved_bytes, 0U);
    EXPECT_TRUE(std::filesystem::is_empty(root() + "/ingest"));
  }
  std::string partial(const std::string& text, std::size_t bytes) {
    const auto path = concat(root(), "/partial/sha256-", sha256_of(text).hex());
    EXPECT_TRUE(linux::write_file(path, noise(bytes, 5), 0600).ok());
    return path;
  }

  Folder folder_{"/var/tmp"};
  std::unique_ptr<state::Store> state_;
  std::unique_ptr<ImageStore> images_;
};

TEST_P(Quota, the_account_is_what_du_counts_and_is_the_same_when_it_is_counted_anew) {
  const auto zeros = std::string(300'000, '\0');
  TarMaker many;
  many.dir("d").symlink("d/long", std::string(200, 'l')).file("d/twice", noise(20'000, 1)).file("d/twice", "short").hard_link("d/again", "d/twice");
  for (int number = 0; number < 300; ++number) many.file(concat("d/file", number), noise(static_cast<std::size_t>(number) * 37, 2));
  const auto first = many.done();
  imported(first, "plain:1");
  imported(gzip(first), "packed:1");  // the same layer under another blob
  imported(gzip(TarMaker().file("zeros", zeros).dir("etc").file("deep/er/file", "x").done()), "zeros:1");
  expect_as_du();
  auto upper = linux::open(images_->lowerdirs(images_->find("zeros:1").value().id).value().at(0), O_RDONLY | O_DIRECTORY).value();
  auto layer = images_->make_layer({.upper_fd = upper.get()}, {}, {});
  ASSERT_TRUE(layer.ok()) << layer.error().text();
  ComposeRequest request;
  request.base = "plain:1";
  request.layers.push_back(std::move(*layer));
  request.history.resize(1);
  request.references = {"made:1"};
  ASSERT_TRUE(images_->compose(request).ok());
  request.layers.clear();  // they hold on to the store that is closed next
  partial("coming", 1'000'000);
  const auto before = images_->room().used_bytes;
  open(0);
  expect_as_du();
  EXPECT_GE(images_->room().used_bytes, before + 1'000'000) << "the partial download was found";
  EXPECT_LE(images_->room().used_bytes, before + 1'000'000 + 4096);

  // A store of an earlier version has no note of what its trees take.
  const auto counted = images_->room().used_bytes;
  for (const auto& entry : std::filesystem::directory_iterator(root() + "/layers")) std::filesystem::remove(entry.path() / "disk");
  open(0);
  EXPECT_LE(images_->room().used_bytes, counted);
  EXPECT_GE(images_->room().used_bytes + (64 << 10), counted);
  for (const char* name : {"plain:1", "packed:1", "zeros:1", "made:1"}) ASSERT_TRUE(images_->remove(name, true, nullptr).ok());
  EXPECT_LE(images_->room().used_bytes, 1'000'000U + 4096U);
  expect_as_du();
}

TEST_P(Quota, an_import_beyond_it_is_refused_and_leaves_nothing) {
  open(8 * mebibyte);
  imported(TarMaker().file("f", noise(1 << 20, 1)).done(), "small:1");
  const auto used = images_->room().used_bytes;
  auto refused = import(TarMaker().file("f", noise(9 << 20, 2)).done(), "large:1");
  ASSERT_FALSE(refused.ok());
  expect_refused(refused.error());
  EXPECT_EQ(images_->room().used_bytes, used);
  EXPECT_EQ(images_->find("large:1").error().kind(), ErrorKind::not_found);
  EXPECT_TRUE(images_->find("small:1").ok());
  expect_as_du();
}

TEST_P(Quota, an_archive_that_grows_without_end_is_stopped_on_its_way) {
  open(16 * mebibyte);
  const auto bomb = gzip(TarMaker().file("zeros", std::string(100 * mebibyte, '\0')).done());
  ASSERT_LT(bomb.size(), mebibyte);
  std::uint64_t most = 0;
  std::atomic<bool> is_done = false;
  std::thread watcher([&] {
    while (!is_done)
      if (auto usage = linux::tree_usage(root() + "/ingest"); usage.ok()) most = std::max(most, usage->size_bytes);
  });
  auto refused = import(bomb, "bomb:1");
  is_done = true;
  watcher.join();
  ASSERT_FALSE(refused.ok());
  expect_refused(refused.error());
  EXPECT_LT(most, 80 * mebibyte) << "it was stopped, not thrown away at its end";
}

TEST_P(Quota, a_load_beyond_it_is_refused_while_it_is_read_and_when_it_is_unpacked) {
  const auto layer = TarMaker().file("f", noise(6 << 20, 1)).done();
  imported(layer, "six:1");
  auto file = linux::memfd_create("caisson-test").value();
  ASSERT_TRUE(images_->save({{"six:1"}, ""}, file.get(), {}).ok());
  ASSERT_TRUE(images_->remove("six:1", true, nullptr).ok());
  // Too little for the archive; then enough for it, and for its blob with the tar (one file) but not with a directory.
  for (const std::uint64_t quota : {5 * mebibyte, 9 * mebibyte}) {
    open(quota);
    ASSERT_TRUE(linux::lseek(file.get(), 0, SEEK_SET).ok());
    auto loaded = images_->load(file.get(), {}, {});
    if (quota > 6 * mebibyte && GetParam() == SnapshotForm::erofs) {
      EXPECT_TRUE(loaded.ok()) << loaded.error().text();
      continue;
    }
    ASSERT_FALSE(loaded.ok());
    expect_refused(loaded.error());
    EXPECT_LT(images_->room().used_bytes, 64U << 10U);
  }
}

TEST_P(Quota, a_commit_beyond_it_is_refused_and_the_tree_stays) {
  open(4 * mebibyte);
  Folder upper("/var/tmp");
  ASSERT_TRUE(linux::write_file(upper.path() + "/f", noise(5 << 20, 1), 0644).ok());
  auto fd = linux::open(upper.path(), O_RDONLY | O_DIRECTORY).value();
  auto refused = images_->make_layer({.upper_fd = fd.get()}, {}, {});
  ASSERT_FALSE(refused.ok());
  expect_refused(refused.error());
  EXPECT_TRUE(std::filesystem::exists(upper.path() + "/f"));
  EXPECT_LT(images_->room().used_bytes, 64U << 10U);
}

TEST_P(Quota, garbage_goes_first_then_old_downloads_then_what_others_let_go) {
  // Three megabytes of each, and of an image that nothing may touch.
  const auto tagged = imported(TarMaker().file("f", noise(1 << 20, 1)).done(), "kept:1");
  const auto lost = concat(root(), "/content/blobs/sha256/", sha256_of("lost").hex());
  ASSERT_TRUE(linux::write_file(lost, noise(3 << 20, 2), 0600).ok());
  const auto old = partial("old", 3 << 20);
  open(images_->room().used_bytes + 7 * mebibyte);  // what is there and one megabyte more
  int asked = 0;
  images_->when_full([&]() -> Result<bool> {
    ++asked;
    return false;
  });
  const auto next = [&](unsigned seed) { return TarMaker().file("f", noise(seed == 3 ? 1'500'000 : 1'900'000, seed)).done(); };
  auto first = import(next(3), "first:1");
  ASSERT_TRUE(first.ok()) << first.error().text();
  EXPECT_FALSE(std::filesystem::exists(lost));
  EXPECT_TRUE(std::filesystem::exists(old)) << "no more than it takes";
  std::vector<std::string> names{"first:1"};
  for (unsigned seed = 4; std::filesystem::exists(old); ++seed) {
    names.push_back(concat("next:", seed));
    ASSERT_TRUE(import(next(seed), names.back()).ok());
  }
  EXPECT_EQ(asked, 0);
  // One image after the other is let go, as the build cache lets its steps go.
  images_->when_full([&]() -> Result<bool> {
    ++asked;
    if (names.empty()) return false;
    const auto removed = images_->remove(names.front(), true, nullptr);
    EXPECT_TRUE(removed.ok());
    names.erase(names.begin());
    return true;
  });
  for (unsigned seed = 50; asked == 0; ++seed) ASSERT_TRUE(import(next(seed), concat("more:", seed)).ok());
  EXPECT_TRUE(images_->find("kept:1").ok());
  EXPECT_TRUE(std::filesystem::exists(images_->lowerdirs(tagged.id).value().at(0) + "/f"));
  expect_as_du();
}

/// The state (proc_pid_stat(5)) of the one process that this thread has started, when it has become `wanted`, or what it was to the end.
char state_of_worker(char wanted) {
  char state = '?';
  for (const auto until = now_ns() + 10'000'000'000; state != wanted && now_ns() < until;) {
    const auto pid = std::string(trim(linux::read_file("/proc/thread-self/children").value_or("")));
    const auto stat = linux::read_file(concat("/proc/", pid, "/stat")).value_or("");
    if (const auto at = stat.rfind(") "); at != std::string::npos) state = stat[at + 2];
  }
  return state;
}

TEST_P(Quota, while_room_is_made_the_worker_writes_nothing) {
  imported(TarMaker().file("f", noise(20 << 20, 1)).done(), "old:1");
  open(images_->room().used_bytes + 6 * mebibyte);
  char state = '?';
  std::promise<void> asked;
  images_->when_full([&]() -> Result<bool> {
    state = state_of_worker('T');
    asked.set_value();
    return images_->remove("old:1", true, nullptr).ok();
  });
  // The end of the archive comes when room has been asked for: before that the worker cannot have ended.
  const auto tar = TarMaker().file("f", noise(16 << 20, 2)).done();
  auto pipe = linux::pipe2();
  ASSERT_TRUE(pipe.ok());
  std::thread feeder([&, was_asked = asked.get_future()] {
    const auto most = std::string_view(tar).substr(0, 12 << 20);
    EXPECT_TRUE(linux::write_all(pipe->write_end.get(), most).ok());
    EXPECT_EQ(was_asked.wait_for(std::chrono::seconds(60)), std::future_status::ready);
    EXPECT_TRUE(linux::write_all(pipe->write_end.get(), std::string_view(tar).substr(most.size())).ok());
    pipe->write_end.reset();
  });
  ImportRequest request;
  request.source_fd = pipe->read_end.get();
  request.reference = "new:1";
  auto made = images_->import(request, {}, {});
  feeder.join();
  EXPECT_TRUE(made.ok()) << made.error().text();
  EXPECT_EQ(state, 'T');
  expect_as_du();
}

TEST_P(Quota, what_is_pinned_is_no_garbage_and_a_download_that_goes_on_is_not_old) {
  auto content = ContentStore::open(root());
  ASSERT_TRUE(content.ok());
  ASSERT_TRUE((*content)->begin_account(0, {}).ok());
  const auto wanted = partial("wanted", 100'000);
  const auto old = partial("old", 100'000);
  Pins pins(**content);
  pins.add_blob(sha256_of("wanted"));
  ASSERT_TRUE((*content)->free_partials([] { return false; }).ok());
  EXPECT_TRUE(std::filesystem::exists(wanted));
  EXPECT_FALSE(std::filesystem::exists(old));
  EXPECT_TRUE(std::filesystem::is_empty(root() + "/ingest"));
}

TEST_P(Quota, of_two_imports_at_once_of_which_one_fits_one_is_made) {
  open(5 * mebibyte + (GetParam() == SnapshotForm::directory ? 3 * mebibyte : 0));
  std::array<Result<Image>, 2> outcomes{Error(ErrorKind::internal, ""), Error(ErrorKind::internal, "")};
  std::vector<std::thread> threads;
  for (unsigned number : {0U, 1U})
    threads.emplace_back([&, number] { outcomes.at(number) = import(TarMaker().file("f", noise(3 << 20, number)).done(), concat("one:", number)); });
  for (auto& thread : threads) thread.join();
  EXPECT_NE(outcomes[0].ok(), outcomes[1].ok());
  expect_refused(outcomes[0].ok() ? outcomes[1].error() : outcomes[0].error());
  EXPECT_EQ(images_->list().value().size(), 1U);
  expect_as_du();
}

TEST_P(Quota, documents_count_too) {
  open(64 << 10);
  Result<Image> made = Error(ErrorKind::internal, "");
  for (int number = 0; number < 20; ++number) {
    ComposeRequest request;
    request.comment = concat(number);
    request.references = {concat("empty:", number)};
    made = images_->compose(request);
    if (!made.ok()) break;
  }
  ASSERT_FALSE(made.ok());
  expect_refused(made.error());
  EXPECT_LE(images_->room().used_bytes, 64U << 10U);
}

INSTANTIATE_TEST_SUITE_P(Forms, Quota, testing::Values(SnapshotForm::directory, SnapshotForm::erofs),
                         [](const auto& info) { return info.param == SnapshotForm::erofs ? std::string("erofs") : std::string("directory"); });

}  // namespace
}  // namespace caisson::image
