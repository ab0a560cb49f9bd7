// Tests of the store under trouble: a worker that dies, a full disk, cancelled callers, damage found at start, removal rules,
// and the layers' use as overlays.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <fstream>
#include <random>
#include <thread>

#include "image/content_store.hpp"
#include "image/test_support.hpp"
#include "linux/event.hpp"
#include "linux/tree.hpp"

namespace caisson::image {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace testing_support;

class Trouble : public testing::Test {
 protected:
  void SetUp() override {
    if (auto reason = why_not(); !reason.empty()) GTEST_SKIP() << reason;
    fixture_ = std::make_unique<Fixture>();
  }
  void expect_nothing_left(Fixture& fixture) {
    EXPECT_EQ(fixture->list()->size(), 0U);
    EXPECT_EQ(fixture.leftovers(), 0U);
    EXPECT_TRUE(std::filesystem::is_empty(fixture.root() + "/content/blobs/sha256"));
  }
  std::unique_ptr<Fixture> fixture_;
};

/// The worker that this process has started, found in /proc by parent and name; 0: none.
int find_worker() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "status");
    std::string line;
    bool is_worker = false;
    while (std::getline(file, line)) {
      if (line == "Name:\tcaisson-worker") is_worker = true;
      if (line.starts_with("PPid:") && is_worker && line == concat("PPid:\t", ::getpid())) return std::stoi(entry.path().filename());
    }
  }
  return 0;
}

std::string status_line(int pid, const std::string& name) {
  std::ifstream file(concat("/proc/", pid, "/status"));
  std::string line;
  while (std::getline(file, line))
    if (line.starts_with(name)) return std::string(trim(line.substr(name.size())));
  return {};
}

/// An import that waits for the rest of its input, so that its worker can be looked at.
class StalledImport {
 public:
  explicit StalledImport(Fixture& fixture) {
    auto pipe = linux::pipe2();
    EXPECT_TRUE(pipe.ok());
    read_end_ = std::move(pipe->read_end);
    write_end_ = std::move(pipe->write_end);
    cancel_ = std::move(*linux::eventfd());
    auto tar = TarMaker().file("first", std::string(300'000, 'x')).done();
    thread_ = std::thread([this, &fixture] {
      ImportRequest request;
      request.source_fd = read_end_.get();
      request.reference = "stalled:1";
      result_.emplace(fixture->import(request, {}, Cancel{cancel_.get()}));
    });
    // The pipe holds 64 KiB: when 200 KB are through, the worker has left its start-up behind and reads its input.
    EXPECT_TRUE(linux::write_all(write_end_.get(), tar.substr(0, 200'000)).ok());
  }
  ~StalledImport() {
    write_end_.reset();
    if (thread_.joinable()) thread_.join();
  }
  StalledImport(const StalledImport&) = delete;
  StalledImport& operator=(const StalledImport&) = delete;
  void cancel() { EXPECT_TRUE(linux::eventfd_signal(cancel_.get()).ok()); }
  Result<Image>& finish() {
    thread_.join();
    return *result_;
  }

 private:
  UniqueFd read_end_;
  UniqueFd write_end_;
  UniqueFd cancel_;
  std::optional<Result<Image>> result_;
  std::thread thread_;
};

TEST_F(Trouble, the_worker_owns_no_host_id_no_network_and_no_capability_outside) {
  StalledImport import(*fixture_);
  int pid = find_worker();
  ASSERT_NE(pid, 0);
  auto id = concat(first_worker_id);
  EXPECT_EQ(status_line(pid, "Uid:"), join(std::vector<std::string>(4, id), "\t"));
  EXPECT_EQ(status_line(pid, "Gid:"), join(std::vector<std::string>(4, id), "\t"));
  EXPECT_EQ(status_line(pid, "Seccomp:"), "2");
  EXPECT_EQ(status_line(pid, "NoNewPrivs:"), "1");
  EXPECT_EQ(status_line(pid, "CapEff:"), "000000008000001b") << "chown, dac_override, fowner, fsetid, setfcap, all inside its namespace";
  EXPECT_EQ(status_line(pid, "Groups:"), "");
  for (const char* name : {"user", "net", "mnt", "ipc", "uts", "pid"}) {
    auto own = std::filesystem::read_symlink(concat("/proc/self/ns/", name));
    EXPECT_NE(std::filesystem::read_symlink(concat("/proc/", pid, "/ns/", name)), own) << name;
  }
  import.cancel();
  auto& result = import.finish();
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.error().text(), HasSubstr("cancelled"));
  EXPECT_EQ(find_worker(), 0);
  expect_nothing_left(*fixture_);
}

TEST_F(Trouble, a_worker_killed_in_the_middle_leaves_nothing) {
  StalledImport import(*fixture_);
  int pid = find_worker();
  ASSERT_NE(pid, 0);
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
  auto& result = import.finish();
  ASSERT_FALSE(result.ok());
  EXPECT_THAT(result.error().text(), HasSubstr("by signal 9"));
  expect_nothing_left(*fixture_);
}

TEST_F(Trouble, leftovers_of_a_killed_daemon_are_removed_at_the_next_start) {
  auto image = fixture_->import(TarMaker().file("a", "x").done(), "kept:1");
  ASSERT_TRUE(image.ok()) << image.error().text();
  std::filesystem::create_directories(fixture_->root() + "/ingest/layer-0123/fs/deep");
  std::ofstream(fixture_->root() + "/ingest/layer-0123/fs/deep/file") << "x";
  auto stray = fixture_->root() + "/content/blobs/sha256/" + std::string(64, 'a');
  std::ofstream(stray) << "x";
  std::filesystem::create_directories(fixture_->root() + "/layers/" + std::string(64, 'b') + "/fs");
  fixture_->reopen();
  auto repairs = (*fixture_)->recover();
  ASSERT_TRUE(repairs.ok()) << repairs.error().text();
  EXPECT_THAT(*repairs, ElementsAre(HasSubstr("1 interrupted image operation "), HasSubstr("2 blobs and layers")));
  EXPECT_EQ(fixture_->leftovers(), 0U);
  EXPECT_FALSE(std::filesystem::exists(stray));
  EXPECT_TRUE((*fixture_)->find("kept:1").ok());
  EXPECT_EQ((*fixture_)->recover()->size(), 0U);
}

TEST_F(Trouble, a_missing_layer_is_unpacked_again_and_a_missing_blob_is_said) {
  auto image = fixture_->import(TarMaker().file("a", "content").done(), "kept:1");
  ASSERT_TRUE(image.ok());
  auto tree = fixture_->tree(*image);
  auto lose_layer = [&] { ASSERT_TRUE(remove_layer_tree(std::filesystem::path(tree).parent_path()).ok()); };
  lose_layer();
  EXPECT_EQ((*fixture_)->lowerdirs(image->id).error().kind(), ErrorKind::corrupt);
  EXPECT_THAT((*fixture_)->lowerdirs(image->id).error().text(), HasSubstr("is missing; load or pull the image again"));
  EXPECT_THAT(*(*fixture_)->recover(), ElementsAre(HasSubstr("was missing and was unpacked again")));
  EXPECT_EQ(fixture_->tree(*image), tree);
  EXPECT_TRUE(std::filesystem::exists(tree + "/a"));
  std::filesystem::remove(fixture_->root() + "/content/blobs/sha256/" + std::string(image->diff_ids[0].hex()));
  EXPECT_THAT(*(*fixture_)->recover(), ElementsAre(HasSubstr("cannot be saved")));
  EXPECT_THAT(fixture_->save({"kept:1"}).error().text(), HasSubstr("is missing"));
  lose_layer();
  EXPECT_THAT(*(*fixture_)->recover(), ElementsAre(HasSubstr("load or pull the image again")));
}

TEST_F(Trouble, an_unreadable_record_hides_only_itself) {
  auto good = fixture_->import(TarMaker().file("a", "1").done(), "good:1");
  auto bad = fixture_->import(TarMaker().file("b", "2").done(), "bad:1");
  ASSERT_TRUE(good.ok() && bad.ok());
  ASSERT_TRUE(fixture_->state().commit(state::Transaction().put("image/id/" + bad->id.text(), R"({"manifest":5})")).ok());
  EXPECT_EQ((*fixture_)->list()->size(), 1U);
  EXPECT_EQ((*fixture_)->find("bad:1").error().kind(), ErrorKind::corrupt);
  EXPECT_TRUE((*fixture_)->find("good:1").ok());
  EXPECT_THAT((*fixture_)->recover().value(), testing::Contains(HasSubstr("is unreadable")));
}

TEST_F(Trouble, images_survive_the_loss_of_the_state_file) {
  auto image = fixture_->import(TarMaker().file("a", "1").done(), "lost:1");
  ASSERT_TRUE(image.ok());
  ASSERT_TRUE((*fixture_)->tag("lost:1", "registry.example/other:2").ok());
  fixture_->close();
  for (const char* suffix : {"", "-wal"}) std::filesystem::remove(fixture_->path() + "/state.db" + suffix);
  fixture_->open();
  auto repairs = (*fixture_)->recover();
  ASSERT_TRUE(repairs.ok()) << repairs.error().text();
  EXPECT_THAT(*repairs, testing::Contains(HasSubstr("was found again")));
  auto found = (*fixture_)->find("lost:1");
  ASSERT_TRUE(found.ok()) << found.error().text();
  EXPECT_EQ(found->id, image->id);
  EXPECT_TRUE((*fixture_)->find("registry.example/other:2").ok());
  EXPECT_EQ(found->size_bytes, 1U);
  EXPECT_TRUE(fixture_->save({"lost:1"}).ok());
  ASSERT_TRUE((*fixture_)->remove("lost:1", false, nullptr).ok());
  ASSERT_TRUE((*fixture_)->remove("registry.example/other:2", false, nullptr).ok());
  EXPECT_EQ((*fixture_)->recover()->size(), 0U) << "what was removed on purpose does not come back";
  EXPECT_EQ((*fixture_)->list()->size(), 0U);
}

/// A small file system to fill: ext4 in a file, because no index can lie on a tmpfs.
class SmallDisk {
 public:
  explicit SmallDisk(std::uint64_t bytes) {
    const auto file = folder_.path() + "/disk";
    { std::ofstream(file) << ""; }
    std::filesystem::resize_file(file, bytes);
    const auto commands = concat("mkfs.ext4 -q -m 0 -N 512 -O ^has_journal ", file, " && mount -o loop ", file, " ", path());
    std::filesystem::create_directory(path());
    works_ = std::system(commands.c_str()) == 0;
  }
  ~SmallDisk() {
    if (works_) ::umount2(path().c_str(), MNT_DETACH);  // its loop device goes with it: mount(8) has asked for that
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  [[nodiscard]] bool works() const { return works_; }
  [[nodiscard]] std::string path() const { return folder_.path() + "/mounted"; }

 private:
  Folder folder_{"/var/tmp"};
  bool works_ = false;
};

TEST_F(Trouble, a_full_disk_is_said_and_nothing_is_half_created) {
  SmallDisk disk(6U << 20U);
  if (!disk.works()) GTEST_SKIP() << "needs mkfs.ext4 and a loop device";
  {
    Fixture small(disk.path());
    auto big = TarMaker().file("a", std::string(4U << 20U, 'x')).file("b", std::string(4U << 20U, 'y')).done();
    auto image = small.import(big);
    ASSERT_FALSE(image.ok());
    EXPECT_EQ(image.error().kind(), ErrorKind::unavailable);
    EXPECT_THAT(image.error().text(), HasSubstr("No space left on device"));
    expect_nothing_left(small);
    auto fits = small.import(TarMaker().file("a", "x").done());
    EXPECT_TRUE(fits.ok()) << fits.error().text();
  }
}

/// Tree or index, blob, tar, documents and records: the room ends in each of them once.
TEST_F(Trouble, a_layer_that_is_compressed_for_its_way_out_leaves_nothing_on_a_full_disk_or_when_nobody_wants_it_any_more) {
  SmallDisk disk(24U << 20U);
  if (!disk.works()) GTEST_SKIP() << "needs mkfs.ext4 and a loop device";
  std::mt19937_64 random(1);
  std::string data(4U << 20U, '\0');
  for (auto& byte : data) byte = static_cast<char>(random());
  Fixture small(disk.path());
  auto image = small.import(TarMaker().file("srv/data", data).done());
  ASSERT_TRUE(image.ok()) << image.error().text();
  auto cancel = linux::eventfd();
  ASSERT_TRUE(cancel.ok() && linux::eventfd_signal(cancel->get()).ok());
  auto target = fd_with("");
  auto cancelled = small->save({.names = {"test:1"}, .compression = {"gzip", {}, true}}, target.get(), Cancel{cancel->get()});
  ASSERT_FALSE(cancelled.ok());
  EXPECT_EQ(cancelled.error().error_number(), ECANCELED) << cancelled.error().text();
  EXPECT_EQ(small.leftovers(), 0U);
  {
    std::ofstream filler(disk.path() + "/filler");
    const std::string piece(1U << 16U, 'f');
    while (filler.write(piece.data(), static_cast<std::streamsize>(piece.size())) && filler.flush()) {}
  }
  std::filesystem::resize_file(disk.path() + "/filler", std::filesystem::file_size(disk.path() + "/filler") - (1U << 20U));
  auto full = small.save({"test:1"}, "", {"gzip", {}, true});
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().error_number(), ENOSPC) << full.error().text();
  EXPECT_THAT(full.error().text(), HasSubstr(concat("layer ", image->diff_ids[0].text(), ": store the compressed layer")));
  EXPECT_EQ(small.leftovers(), 0U);
  std::filesystem::remove(disk.path() + "/filler");
  EXPECT_TRUE(small.save({"test:1"}, "", {"gzip", {}, true}).ok());
}

TEST_F(Trouble, wherever_the_disk_gets_full_nothing_is_half_created) {
  SmallDisk disk(6U << 20U);
  if (!disk.works()) GTEST_SKIP() << "needs mkfs.ext4 and a loop device";
  Fixture small(disk.path());
  TarMaker maker;
  for (int i = 0; i < 200; ++i) maker.file(concat("folder/file", i), std::string(700, 'x'));
  const auto layer = gzip(maker.done());
  const auto ballast = disk.path() + "/ballast";
  std::size_t refused = 0;
  bool has_fitted = false;
  for (std::uint64_t room = 32U << 10U; !has_fitted && room < (4U << 20U); room += 16U << 10U) {
    const auto free = std::filesystem::space(disk.path()).available;
    ASSERT_GT(free, room);
    auto file = linux::open(ballast, O_WRONLY | O_CREAT, 0600);
    ASSERT_TRUE(file.ok());
    ASSERT_EQ(::posix_fallocate(file->get(), 0, static_cast<off_t>(free - room)), 0) << room;
    auto image = small.import(layer);
    has_fitted = image.ok();
    if (!has_fitted) {
      ++refused;
      EXPECT_EQ(image.error().kind(), ErrorKind::unavailable) << room << ": " << image.error().text();
      EXPECT_EQ(small.leftovers(), 0U) << room;
      EXPECT_EQ(small->list()->size(), 0U) << room;
    }
    std::filesystem::remove(ballast);
  }
  EXPECT_GT(refused, 3U);
  ASSERT_TRUE(has_fitted);
  EXPECT_EQ(small.leftovers(), 0U);
}

TEST_F(Trouble, names_and_ids_are_found_as_docker_finds_them) {
  auto one = fixture_->import(TarMaker().file("a", "1").done(), "one:1");
  auto two = fixture_->import(TarMaker().file("a", "2").done(), "");
  ASSERT_TRUE(one.ok() && two.ok());
  auto hex = std::string(one->id.hex());
  for (const auto& name : {std::string("one:1"), std::string("docker.io/library/one:1"), hex, "sha256:" + hex, hex.substr(0, 12), "sha256:" + hex.substr(0, 12)})
    EXPECT_EQ((*fixture_)->find(name).value().id, one->id) << name;
  EXPECT_EQ((*fixture_)->find("one").error().text(), "No such image: one:latest");
  EXPECT_EQ((*fixture_)->find("one").error().kind(), ErrorKind::not_found);
  EXPECT_EQ((*fixture_)->find("sha256:" + std::string(64, '0')).error().kind(), ErrorKind::not_found);
  EXPECT_EQ((*fixture_)->find("Bad Name").error().kind(), ErrorKind::invalid);
  EXPECT_EQ((*fixture_)->find(hex.substr(0, 3)).error().kind(), ErrorKind::not_found);
  auto all = (*fixture_)->list();
  ASSERT_EQ(all->size(), 2U);
  EXPECT_THAT((*fixture_)->find(std::string(two->id.hex())).value().repo_tags, ElementsAre());
  EXPECT_FALSE((*fixture_)->tag("one:1", "Bad").ok());
  EXPECT_FALSE((*fixture_)->tag("none", "x").ok());
}

TEST_F(Trouble, removal_follows_dockers_rules) {
  auto image = fixture_->import(TarMaker().file("a", "1").done(), "one:1");
  ASSERT_TRUE(image.ok());
  ASSERT_TRUE((*fixture_)->tag("one:1", "two:2").ok());
  auto id = std::string(image->id.hex());
  auto in_use = [](const Digest&) { return std::optional<std::string>("stopped container 0123456789ab"); };
  EXPECT_EQ((*fixture_)->remove(id, false, nullptr).error().text(),
            "conflict: unable to delete " + id.substr(0, 12) + " (must be forced) - image is referenced in multiple repositories");
  auto untagged = (*fixture_)->remove("one:1", false, in_use);
  ASSERT_TRUE(untagged.ok()) << untagged.error().text();
  EXPECT_THAT(untagged->untagged, ElementsAre("one:1"));
  EXPECT_THAT(untagged->deleted, ElementsAre());
  EXPECT_EQ((*fixture_)->remove("two:2", false, in_use).error().text(),
            "conflict: unable to remove repository reference \"two:2\" (must force) - container 0123456789ab is using its referenced image " + id.substr(0, 12));
  EXPECT_EQ((*fixture_)->remove(id, true, in_use).error().text(),
            "conflict: unable to delete " + id.substr(0, 12) + " (cannot be forced) - image is being used by stopped container 0123456789ab");
  auto forced = (*fixture_)->remove("two:2", true, in_use);
  ASSERT_TRUE(forced.ok());
  EXPECT_THAT(forced->deleted, ElementsAre());
  EXPECT_TRUE((*fixture_)->find(id).ok()) << "a container needs it: it stays without a name";
  auto removed = (*fixture_)->remove(id.substr(0, 12), false, nullptr);
  ASSERT_TRUE(removed.ok()) << removed.error().text();
  EXPECT_THAT(removed->deleted, ElementsAre(image->id.text(), image->diff_ids[0].text()));
  EXPECT_EQ((*fixture_)->remove(id, false, nullptr).error().kind(), ErrorKind::not_found);
  expect_nothing_left(*fixture_);
}

TEST_F(Trouble, a_layer_shared_by_two_images_goes_with_the_last) {
  auto tar = TarMaker().file("a", "1").done();
  auto one = fixture_->import(tar, "one:1");
  auto two = fixture_->import(tar, "two:1", {"ENV A=b"});
  ASSERT_TRUE(one.ok() && two.ok());
  auto tree = fixture_->tree(*one);
  auto first = (*fixture_)->remove("one:1", false, nullptr);
  ASSERT_TRUE(first.ok());
  EXPECT_THAT(first->deleted, ElementsAre(one->id.text()));
  EXPECT_TRUE(std::filesystem::exists(tree + "/a"));
  auto usage = (*fixture_)->usage();
  EXPECT_EQ(usage->layers_bytes, 1U);
  EXPECT_THAT((*fixture_)->remove("two:1", false, nullptr)->deleted, ElementsAre(two->id.text(), two->diff_ids[0].text()));
  EXPECT_FALSE(std::filesystem::exists(tree));
  expect_nothing_left(*fixture_);
}

TEST_F(Trouble, import_refuses_bad_requests_before_it_reads_anything) {
  auto tar = TarMaker().file("a", "1").done();
  EXPECT_EQ(fixture_->import(tar, "Bad Name").error().kind(), ErrorKind::invalid);
  EXPECT_THAT(fixture_->import(tar, "x:1", {"RUN rm -rf /"}).error().text(), HasSubstr("RUN is not a valid change command"));
  ImportRequest request;
  auto fd = fd_with(tar);
  request.source_fd = fd.get();
  request.platform = "no such/thing/at/all";
  EXPECT_EQ((*fixture_)->import(request, {}, {}).error().kind(), ErrorKind::invalid);
  EXPECT_EQ(linux::lseek(fd.get(), 0, SEEK_CUR).value(), 0U);
}

TEST_F(Trouble, whiteouts_and_opaque_directories_work_in_an_overlay_mounted_as_the_runtime_does) {
  auto lower = fixture_->import(TarMaker().dir("d").file("d/gone", "1").file("d/kept", "1").dir("o").file("o/old", "1").file("top", "1").dir("alone").done(), "l:1");
  auto upper = fixture_->import(
      TarMaker().dir("d").file("d/.wh.gone").dir("o").file("o/.wh..wh..opq").file("o/new", "1").file(".wh.top").dir("only").file("only/.wh.x").file("only/y", "1").done(), "u:1");
  ASSERT_TRUE(lower.ok() && upper.ok());
  Folder target;
  auto options = concat("userxattr,lowerdir=", fixture_->tree(*upper), ":", fixture_->tree(*lower));
  if (::mount("overlay", target.path().c_str(), "overlay", MS_RDONLY, options.c_str()) != 0) GTEST_SKIP() << "needs to mount an overlay here";
  auto names = [&](const std::string& folder) {
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(target.path() + folder)) out.push_back(entry.path().filename());
    return out;
  };
  EXPECT_THAT(names("/d"), ElementsAre("kept"));
  EXPECT_THAT(names("/o"), ElementsAre("new"));
  EXPECT_THAT(names("/only"), ElementsAre("y")) << "a directory of one layer only must not list its whiteouts";
  EXPECT_THAT(names("/"), testing::UnorderedElementsAre("d", "o", "alone", "only"));
  EXPECT_FALSE(std::filesystem::exists(target.path() + "/d/gone"));
  EXPECT_FALSE(std::filesystem::exists(target.path() + "/top"));
  EXPECT_FALSE(std::filesystem::exists(target.path() + "/only/x"));
  ::umount2(target.path().c_str(), MNT_DETACH);
}

}  // namespace
}  // namespace caisson::image
