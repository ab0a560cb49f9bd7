// Tests for the contents of layers that are still coming: pieces from here and from there, checked, kept, and asked for once.
#include "image/layer_server.hpp"

#include <atomic>
#include <thread>

#include "image/chunked_layer.hpp"
#include "image/index_form.hpp"
#include "image/index_mount.hpp"
#include "image/test_support.hpp"
#include "image/unpack.hpp"
#include "linux/event.hpp"
#include "linux/fault.hpp"
#include "linux/fuse_file.hpp"

namespace caisson::image {
namespace {

using testing_support::TarMaker;

/// A blob of which the registry has all, and the disk the beginning.
class FakeSource final : public PieceSource {
 public:
  explicit FakeSource(std::string of) : blob(std::move(of)) {}
  Result<std::string> local(std::uint64_t offset, std::uint64_t bytes) override {
    if (offset + bytes > local_bytes) return std::string();
    return (damaged_here ? std::string(blob.size(), 'x') : blob).substr(offset, bytes);
  }
  Result<std::string> remote(std::uint64_t offset, std::uint64_t bytes, int /*cancel_fd*/) override {
    ++requests;
    if (is_gone) return Error(ErrorKind::unavailable, "nobody there");
    auto out = blob.substr(offset, bytes);
    if (is_lying) out[out.size() / 2] = static_cast<char>(out[out.size() / 2] ^ 1);
    return out;
  }
  std::string blob;
  std::uint64_t local_bytes = 0;
  bool damaged_here = false;
  std::atomic<bool> is_gone = false;
  bool is_lying = false;
  std::atomic<int> requests = 0;
};

class LayerServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string noise;
    for (std::uint64_t state = 1; noise.size() < 900'000; state = state * 6364136223846793005ULL + 1442695040888963407ULL) noise.append(reinterpret_cast<const char*>(&state), 6);
    TarMaker maker;
    maker.dir("srv").file("srv/a", "first").file("srv/noise", noise).file("srv/z", "last");
    tar_ = maker.done();
    std::string blob;
    MemorySource source(tar_);
    auto made = write_chunked(source, 3, [&](std::string_view bytes) -> Status {
      blob += bytes;
      return {};
    });
    ASSERT_TRUE(made.ok());
    auto text = decode_toc(blob.substr(made->toc.offset, made->toc.size_bytes), made->toc);
    ASSERT_TRUE(text.ok());
    toc_ = *parse_toc(*text, made->toc);
    TocArchive archive(toc_);
    while (!archive.next()->empty()) continue;
    pieces_ = archive.chunks();
    bytes_ = archive.bytes();
    source_ = std::make_unique<FakeSource>(std::move(blob));
    cache_ = *linux::open(folder_.path(), O_TMPFILE | O_RDWR, 0600);
  }
  LayerContents contents() {
    return LayerContents(pieces_, bytes_, cache_.get(), *source_, [this](const std::string& text) { notices_.push_back(text); });
  }
  /// What a file of the layer has, by the tar that is served.
  std::string read_file(LayerContents& contents, std::string_view name) {
    std::size_t next = 0;
    for (const auto& entry : toc_.entries) {
      if (entry.tar.name == name) {
        auto got = contents.read(pieces_[next].file_offset, entry.tar.size_bytes, -1);
        EXPECT_TRUE(got.ok()) << got.error().text();
        return got.ok() ? *got : "";
      }
      next += entry.chunks.size();
    }
    return "";
  }

  testing_support::Folder folder_;
  std::string tar_;
  LayerToc toc_;
  std::vector<TocChunk> pieces_;
  std::uint64_t bytes_ = 0;
  std::unique_ptr<FakeSource> source_;
  UniqueFd cache_;
  std::vector<std::string> notices_;
};

TEST_F(LayerServerTest, every_file_reads_as_the_tar_has_it) {
  auto served = contents();
  EXPECT_EQ(read_file(served, "srv/a"), "first");
  EXPECT_EQ(read_file(served, "srv/z"), "last");
  EXPECT_NE(tar_.find(read_file(served, "srv/noise")), std::string::npos);
  EXPECT_EQ(served.file_bytes() % 4096, 0U);
  EXPECT_EQ(served.read(served.file_bytes() - 512, 512, -1)->size(), 512U);
}

TEST_F(LayerServerTest, what_was_read_is_not_asked_for_again) {
  auto served = contents();
  read_file(served, "srv/noise");
  const int requests = source_->requests;
  source_->is_gone = true;
  EXPECT_EQ(read_file(served, "srv/noise").size(), 900'000U);
  EXPECT_EQ(source_->requests, requests);
}

TEST_F(LayerServerTest, many_readers_ask_once) {
  auto served = contents();
  std::vector<std::thread> readers;
  for (int i = 0; i < 8; ++i) readers.emplace_back([&] { EXPECT_EQ(read_file(served, "srv/noise").size(), 900'000U); });
  for (auto& reader : readers) reader.join();
  EXPECT_LE(source_->requests, 4);
}

TEST_F(LayerServerTest, what_is_here_does_not_travel) {
  auto served = contents();
  source_->local_bytes = source_->blob.size();
  source_->is_gone = true;
  EXPECT_EQ(read_file(served, "srv/a"), "first");
  EXPECT_EQ(source_->requests, 0);
}

TEST_F(LayerServerTest, a_download_that_went_wrong_is_not_believed) {
  auto served = contents();
  source_->local_bytes = source_->blob.size();
  source_->damaged_here = true;
  EXPECT_EQ(read_file(served, "srv/a"), "first");
  EXPECT_EQ(source_->requests, 1);
}

TEST_F(LayerServerTest, bytes_that_were_not_promised_are_an_error) {
  auto served = contents();
  source_->is_lying = true;
  auto got = served.read(pieces_[1].file_offset, 512, -1);
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().kind(), ErrorKind::corrupt);
  source_->is_lying = false;
  EXPECT_TRUE(served.read(pieces_[1].file_offset, 512, -1).ok());
}

TEST_F(LayerServerTest, a_failure_is_not_kept) {
  auto served = contents();
  source_->is_gone = true;
  EXPECT_FALSE(served.read(pieces_[0].file_offset, 5, -1).ok());
  source_->is_gone = false;
  EXPECT_EQ(*served.read(pieces_[0].file_offset, 5, -1), "first");
}

TEST_F(LayerServerTest, a_full_disk_is_said_once_and_readers_are_served) {
  auto served = contents();
  const linux::ScopedFault full("pwrite", ENOSPC, 1, linux::FaultRepeat::always);
  EXPECT_EQ(read_file(served, "srv/noise").size(), 900'000U);
  EXPECT_EQ(read_file(served, "srv/noise").size(), 900'000U);
  ASSERT_EQ(notices_.size(), 1U);
  EXPECT_NE(notices_[0].find("No space left"), std::string::npos);
}

TEST_F(LayerServerTest, zeros_lie_nowhere) {
  TocChunk zeros;
  zeros.file_offset = 512;
  zeros.size_bytes = 1ULL << 40;
  pieces_ = {zeros};
  bytes_ = zeros.file_offset + zeros.size_bytes;
  auto served = contents();
  EXPECT_EQ(*served.read(1ULL << 39, 4096, -1), std::string(4096, '\0'));
  EXPECT_EQ(source_->requests, 0);
}

/// The file as EROFS reads it, with a thread in the place of the server.
class MountedLayerTest : public LayerServerTest {
 protected:
  void SetUp() override {
    LayerServerTest::SetUp();
    if (auto works = try_index("/var/tmp", 0); !works.ok()) GTEST_SKIP() << works.error().text();
    auto device = linux::open_fuse_device();
    if (!device.ok()) GTEST_SKIP() << device.error().text();
    device_ = std::move(*device);
    TocArchive archive(toc_);
    TarReader tar(archive);
    IndexForm form({});
    UnpackedLayer layer;
    ASSERT_TRUE(unpack_into(form, tar, layer).ok());
    auto index = linux::open("/var/tmp", O_TMPFILE | O_RDWR, 0600);
    ASSERT_TRUE(index.ok());
    ASSERT_TRUE(form.write(archive.bytes(), [&](std::string_view bytes) { return linux::write_all(index->get(), bytes); }).ok());
    auto read_only = linux::reopen(index->get(), O_RDONLY);
    ASSERT_TRUE(read_only.ok());
    contents_ = std::make_unique<LayerContents>(pieces_, bytes_, cache_.get(), *source_, [](const std::string&) {});
    auto mounted = linux::mount_fuse_file(device_.get());
    ASSERT_TRUE(mounted.ok()) << mounted.error().text();
    server_ = std::thread([this] { serve(); });
    auto file = linux::open_fuse_file(mounted->get());
    ASSERT_TRUE(file.ok()) << file.error().text();
    auto layer_mount = mount_index(read_only->get(), file->get());
    ASSERT_TRUE(layer_mount.ok()) << layer_mount.error().text();
    mount_ = std::move(*layer_mount);
  }
  void TearDown() override {
    mount_.reset();
    if (server_.joinable()) server_.join();  // ends with the last mount
  }
  void serve() {
    for (;;) {
      auto event = linux::next_fuse_event(device_.get(), contents_->file_bytes());
      if (!event.ok() || event->kind == linux::FuseEvent::Kind::ended) return;
      if (event->kind != linux::FuseEvent::Kind::read) continue;
      auto bytes = contents_->read(event->offset, event->size_bytes, -1);
      largest_read_ = std::max<std::uint64_t>(largest_read_, event->size_bytes);
      if (bytes.ok()) ignore(linux::answer_fuse_read(device_.get(), event->number, *bytes));
      else ignore(linux::refuse_fuse_read(device_.get(), event->number, EIO));
    }
  }
  Result<std::string> read(const char* name) {
    auto file = TRY_PLAIN(linux::openat(mount_.get(), name, O_RDONLY));
    return linux::read_all(file.get());
  }
  std::string read_well(const char* name) {
    auto got = read(name);
    EXPECT_TRUE(got.ok()) << got.error().text();
    return got.ok() ? *got : "";
  }
  UniqueFd device_;
  UniqueFd mount_;
  std::unique_ptr<LayerContents> contents_;
  std::thread server_;
  std::atomic<std::uint64_t> largest_read_ = 0;
};

TEST_F(MountedLayerTest, files_read_as_the_tar_has_them) {
  EXPECT_EQ(read_well("srv/a"), "first");
  const auto noise = read_well("srv/noise");
  EXPECT_EQ(noise.size(), 900'000U);
  EXPECT_NE(tar_.find(noise), std::string::npos);
  EXPECT_LE(largest_read_, linux::most_fuse_read_bytes);
}

/// Whatever is not there is an error: never zeros, and never a shorter file.
TEST_F(MountedLayerTest, what_cannot_be_had_is_an_error_and_can_be_had_later) {
  source_->is_gone = true;
  auto gone = read("srv/noise");
  ASSERT_FALSE(gone.ok());
  EXPECT_EQ(gone.error().error_number(), EIO);
  source_->is_gone = false;
  const auto noise = read_well("srv/noise");
  EXPECT_NE(tar_.find(noise), std::string::npos);
  EXPECT_EQ(noise.size(), 900'000U);
}

TEST_F(MountedLayerTest, a_registry_that_goes_away_in_the_middle_leaves_no_zeros) {
  auto file = linux::openat(mount_.get(), "srv/noise", O_RDONLY);
  ASSERT_TRUE(file.ok());
  std::string begin(4096, '\0');
  ASSERT_EQ(linux::pread(file->get(), begin, 0).value_or(0), begin.size());
  source_->is_gone = true;
  std::string got;
  for (std::string piece(300'000, '\0');;) {
    auto count = linux::pread(file->get(), piece, got.size());
    if (!count.ok() || *count == 0) break;
    got += piece.substr(0, *count);
  }
  EXPECT_LT(got.size(), 900'000U);
  EXPECT_NE(tar_.find(got), std::string::npos);
}

}  // namespace
}  // namespace caisson::image
