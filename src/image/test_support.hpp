// What the tests of this module share: temporary folders, tars made in code, a store with its worker.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/strings.hpp"
#include "image/image_store.hpp"
#include "image/index_mount.hpp"
#include "image/inflate.hpp"
#include "image/tar_writer.hpp"
#include "linux/file.hpp"
#include "state/store.hpp"

namespace caisson::image::testing_support {

class Folder {
 public:
  explicit Folder(const std::string& parent = "/tmp") {
    std::string name = parent + "/caisson-test-image-XXXXXX";
    path_ = ::mkdtemp(name.data());
    ::chmod(path_.c_str(), 0755);  // the worker's user must be able to pass, as below /var/lib
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Archives made in code, well-formed by TarWriter or bent by hand.
class TarMaker {
 public:
  TarMaker() : writer_([this](std::string_view bytes) -> Status {
      bytes_ += bytes;
      return {};
    }) {}
  TarMaker(const TarMaker&) = delete;
  TarMaker& operator=(const TarMaker&) = delete;

  TarMaker& add(TarEntry entry, std::string_view contents = "") {
    EXPECT_TRUE(writer_.add(entry, contents).ok());
    return *this;
  }
  TarMaker& file(const std::string& name, std::string_view contents = "", std::uint32_t mode = 0644) { return add(make(TarType::file, name, mode), contents); }
  TarMaker& dir(const std::string& name, std::uint32_t mode = 0755) { return add(make(TarType::directory, name, mode)); }
  TarMaker& symlink(const std::string& name, const std::string& target) { return add(make_link(TarType::symlink, name, target)); }
  TarMaker& hard_link(const std::string& name, const std::string& target) { return add(make_link(TarType::hard_link, name, target)); }
  TarMaker& device(const std::string& name, TarType type, std::uint32_t major, std::uint32_t minor) {
    auto entry = make(type, name, 0666);
    entry.device_major = major;
    entry.device_minor = minor;
    return add(entry);
  }
  TarMaker& raw(std::string_view bytes) {
    bytes_ += bytes;
    return *this;
  }
  /// With the end marker; the maker is spent.
  std::string done() {
    EXPECT_TRUE(writer_.finish().ok());
    return std::move(bytes_);
  }
  static TarEntry make(TarType type, const std::string& name, std::uint32_t mode) {
    TarEntry entry;
    entry.type = type;
    entry.name = name;
    entry.mode = mode;
    entry.mtime_s = 1'700'000'000;
    return entry;
  }
  static TarEntry make_link(TarType type, const std::string& name, const std::string& target) {
    auto entry = make(type, name, 0777);
    entry.link_target = target;
    return entry;
  }

 private:
  std::string bytes_;
  TarWriter writer_;
};

/// A 512-byte header with a right checksum around fields that no honest writer would write.
inline std::string bent_header(const std::map<std::size_t, std::string>& fields, char type = '0') {
  std::string block(512, '\0');
  auto put = [&](std::size_t at, std::string_view text) { block.replace(at, text.size(), text); };
  put(0, "bent");
  put(100, "0000644");
  put(108, "0000000");
  put(116, "0000000");
  put(124, "00000000000");
  put(136, "00000000000");
  put(257, std::string_view("ustar\0"
                            "00",
                            8));
  block[156] = type;
  for (const auto& [at, text] : fields) put(at, text);
  put(148, "        ");
  unsigned sum = 0;
  for (char c : block) sum += static_cast<unsigned char>(c);
  char digits[8];
  std::snprintf(digits, sizeof digits, "%06o", sum);
  put(148, std::string_view(digits, 7));
  block[155] = ' ';
  return block;
}

inline std::string gzip(std::string_view bytes) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, bytes.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

/// What a blob holds, whatever it is compressed with.
inline std::string inflated(std::string_view blob) {
  MemorySource source(blob);
  auto inflater = open_inflater(source);
  EXPECT_TRUE(inflater.ok());
  std::string out;
  for (;;) {
    auto piece = (*inflater)->next();
    EXPECT_TRUE(piece.ok()) << piece.error().text();
    if (!piece.ok() || piece->empty()) return out;
    out += *piece;
  }
}

/// A descriptor to read `bytes` from.
inline UniqueFd fd_with(std::string_view bytes) {
  auto fd = linux::memfd_create("caisson-test");
  EXPECT_TRUE(fd.ok());
  EXPECT_TRUE(linux::write_all(fd->get(), bytes).ok());
  EXPECT_TRUE(linux::lseek(fd->get(), 0, SEEK_SET).ok());
  return std::move(*fd);
}

/// The worker beside the test program. The build puts both into bin/.
inline std::string worker_path() {
  if (const char* path = std::getenv("CAISSON_WORKER")) return path;
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "caisson-worker";
}

constexpr std::uint32_t first_worker_id = 1'500'000'000;

/// All tests of the store can be run in the other form, too.
inline SnapshotForm wanted_form() {
  const char* name = std::getenv("CAISSON_TEST_SNAPSHOT_FORM");
  if (name == nullptr) return SnapshotForm::automatic;
  return std::string_view(name) == "erofs" ? SnapshotForm::erofs : SnapshotForm::directory;
}

/// Why tests that unpack cannot run here; empty: they can.
inline std::string why_not() {
  if (::geteuid() != 0) return "needs root: the store's files get the owners that images name";
  if (!std::filesystem::exists(worker_path())) return "needs caisson-worker beside the test program (build target caisson-worker)";
  if (wanted_form() == SnapshotForm::erofs)
    if (auto works = try_index("/tmp", first_worker_id); !works.ok()) return works.error().text();
  return {};
}

/// A state store and an image store in a folder, opened and closed together.
class Fixture {
 public:
  explicit Fixture(const std::string& parent = "/tmp", SnapshotForm form = wanted_form()) : form(form), folder_(parent) { open(); }
  void open() {
    auto opened = state::open_sqlite_store({folder_.path() + "/state.db"});
    if (!opened.ok()) {
      ADD_FAILURE() << opened.error().text();
      return;
    }
    state_ = std::move(opened->store);
    ImageOptions options;
    options.root = root();
    options.worker_path = worker_path();
    options.worker_first_id = first_worker_id;
    options.snapshot_form = form;
    auto images = open_image_store(*state_, options);
    if (!images.ok()) {
      ADD_FAILURE() << images.error().text();
      return;
    }
    images_ = std::move(*images);
  }
  void close() {
    images_.reset();
    state_.reset();
  }
  void reopen() {
    close();
    open();
  }
  ImageStore* operator->() { return images_.get(); }
  state::Store& state() { return *state_; }
  [[nodiscard]] std::string root() const { return folder_.path() + "/images"; }
  [[nodiscard]] const std::string& path() const { return folder_.path(); }

  Result<Image> import(std::string_view tar, const std::string& reference = "test:1", const std::vector<std::string>& changes = {}) {
    auto fd = fd_with(tar);
    ImportRequest request;
    request.source_fd = fd.get();
    request.reference = reference;
    request.changes = changes;
    return images_->import(request, {}, {});
  }
  Result<Image> import_for(const std::string& platform, std::string_view tar, const std::string& reference) {
    auto fd = fd_with(tar);
    ImportRequest request;
    request.source_fd = fd.get();
    request.reference = reference;
    request.platform = platform;
    return images_->import(request, {}, {});
  }
  Result<std::vector<Image>> load(std::string_view archive) {
    auto fd = fd_with(archive);
    return images_->load(fd.get(), {}, {});
  }
  Result<std::string> save(const std::vector<std::string>& names, const std::string& index_name = "", const CompressionWish& compression = {}) {
    auto file = linux::memfd_create("caisson-test");
    EXPECT_TRUE(file.ok());
    TRY_PLAIN(images_->save({.names = names, .index_name = index_name, .annotations = {}, .compression = compression}, file->get(), {}));
    EXPECT_TRUE(linux::lseek(file->get(), 0, SEEK_SET).ok());
    return linux::read_all(file->get(), 1U << 30U);
  }
  /// The unpacked tree of an image of one layer.
  std::string tree(const Image& image) { return images_->lowerdirs(image.id).value_or({}).at(0); }
  /// Nothing below ingest/, and only what records name elsewhere.
  [[nodiscard]] std::size_t leftovers() const {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(root() + "/ingest")) count += entry.exists() ? 1U : 1U;
    return count;
  }

  SnapshotForm form;  ///< the next open() takes it into force

 private:
  Folder folder_;
  std::unique_ptr<state::Store> state_;
  std::unique_ptr<ImageStore> images_;
};

}  // namespace caisson::image::testing_support
