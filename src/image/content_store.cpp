// Blobs and layers on disk: made aside, synced, renamed into place, and moved away before they are deleted.
#include "image/content_store.hpp"

#include <cerrno>

#include "base/ids.hpp"
#include "base/json.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::image {

namespace {
constexpr std::string_view oci_layout_text = R"({"imageLayoutVersion":"1.0.0"})";
constexpr std::string_view trash_prefix = "trash-";
constexpr mode_t private_dir = 0700;
constexpr int read_directory = O_RDONLY | O_DIRECTORY;

Status sync_folder_of(const std::string& path) {
  auto fd = TRY_PLAIN(linux::open(std::string(split_last(path, '/').before), read_directory));
  return linux::fsync(fd.get());
}
}  // namespace

Staging::~Staging() {
  if (!path_.empty()) ignore(remove_layer_tree(path_));  // what cannot be removed now is removed by recover()
}

Pins::~Pins() {
  if (store_ == nullptr) return;
  std::lock_guard lock(store_->mutex_);
  for (const auto& key : keys_) {
    auto found = store_->pins_.find(key);
    if (--found->second == 0) store_->pins_.erase(found);
  }
}

void Pins::add(std::string key) {
  std::lock_guard lock(store_->mutex_);
  ++store_->pins_[key];
  keys_.push_back(std::move(key));
}

Result<std::unique_ptr<ContentStore>> ContentStore::open(const std::string& root) {
  std::unique_ptr<ContentStore> store(new ContentStore(root));
  for (const char* folder : {"", "/content", "/content/blobs", "/content/blobs/sha256", "/content/blobs/sha512", "/layers", "/ingest", "/partial"})
    TRY(linux::make_dirs(root + folder, private_dir), "open image store");
  // Setuid files and devices of images lie below: nobody but the daemon may pass.
  auto fd = TRY(linux::open(root, read_directory), "open image store");
  TRY(linux::fchmod(fd.get(), private_dir), concat("open image store ", root));
  TRY(linux::make_dirs(store->empty_layer_dir(), 0755), "open image store");
  std::string layout = root + "/content/oci-layout";
  if (!TRY_PLAIN(linux::exists(layout))) TRY(linux::write_file_atomic(layout, oci_layout_text, 0600, linux::Durability::none), "open image store");
  return store;
}

Result<Staging> ContentStore::new_staging(std::string_view purpose) {
  std::string path = concat(root_, "/ingest/", purpose, "-", random_id().substr(0, 16));
  TRY_PLAIN(linux::mkdir(path, private_dir));
  auto fd = linux::open(path, read_directory);
  if (!fd.ok()) {
    ignore(linux::rmdir(path));
    return std::move(fd).error();
  }
  auto room = TRY_PLAIN(account_.reserve(0));
  return Staging(std::move(path), std::move(*fd), std::move(room));
}

std::string ContentStore::blob_path(const Digest& digest) const { return concat(root_, "/content/blobs/", digest.algorithm(), "/", digest.hex()); }

std::string ContentStore::layer_path(const Digest& diff_id) const { return concat(root_, "/layers/", diff_id.hex()); }

Result<bool> ContentStore::has_blob(const Digest& digest) const { return linux::exists(blob_path(digest)); }

Result<bool> ContentStore::has_layer(const Digest& diff_id) const {
  const auto path = layer_path(diff_id);
  if (TRY_PLAIN(linux::exists(concat(path, "/", layer_file::tree)))) return true;
  for (const char* name : {layer_file::index, layer_file::index_digest, layer_file::mount_point})
    if (!TRY_PLAIN(linux::exists(concat(path, "/", name)))) return false;
  return linux::exists(concat(path, "/", layer_file::tar));
}

Result<std::string> ContentStore::read_blob(const Digest& digest) const {
  auto text = linux::read_file(blob_path(digest));
  if (!text.ok() && text.error().kind() == ErrorKind::not_found) return Error(ErrorKind::corrupt, concat("blob ", digest.text(), " is missing"), ENOENT);
  return text;
}

Result<std::uint64_t> ContentStore::blob_size(const Digest& digest) const {
  auto status = linux::stat(blob_path(digest));
  if (!status.ok() && status.error().kind() == ErrorKind::not_found) return Error(ErrorKind::corrupt, concat("blob ", digest.text(), " is missing"), ENOENT);
  if (!status.ok()) return std::move(status).error();
  return static_cast<std::uint64_t>(status->st_size);
}

Result<Digest> ContentStore::put_blob(std::string_view bytes, DigestAlgorithm algorithm) {
  auto digest = digest_of(bytes, algorithm);
  if (TRY_PLAIN(has_blob(digest))) return digest;
  auto staging = TRY_PLAIN(new_staging("blob"));
  std::string file = staging.path() + "/blob";
  TRY(staging.room().resize(disk_bytes_for(bytes.size())), "store blob");
  TRY(linux::write_file(file, bytes, 0600), "store blob");
  TRY_PLAIN(adopt_blob(file, digest, &staging.room()));
  return digest;
}

std::string ContentStore::partial_path(const Digest& digest) const { return concat(root_, "/partial/", digest.algorithm(), "-", digest.hex()); }

Result<std::size_t> ContentStore::remove_stale_partials(std::int64_t age_ns) {
  std::size_t count = 0;
  for (const auto& entry : TRY_PLAIN(linux::list_dir(root_ + "/partial"))) {
    const std::string path = concat(root_, "/partial/", entry.name);
    auto status = TRY_PLAIN(linux::stat(path));
    if (now_ns() - static_cast<std::int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 < age_ns) continue;
    TRY(linux::unlink(path), "remove an old download");
    account_.set(path, {});
    ++count;
  }
  return count;
}

Status ContentStore::adopt_blob(const std::string& file, const Digest& digest, Reservation* room) {
  auto fd = TRY_PLAIN(linux::open(file, O_RDONLY | O_NOFOLLOW));
  TRY(linux::fsync(fd.get()), "store blob");
  // rename over an equal blob is harmless: both have the content their name says.
  const auto path = blob_path(digest);
  TRY(linux::rename(file, path), "store blob");
  TRY_PLAIN(count_file(path, room));
  account_.set(file, {});  // a download that was counted; second, so that its data does not go in between
  return sync_folder_of(path);
}

Result<std::uint64_t> ContentStore::layer_size(const Digest& diff_id) const {
  auto missing = [&] { return Error(ErrorKind::corrupt, concat("layer ", diff_id.text(), " is missing"), ENOENT); };
  auto text = linux::read_file(layer_path(diff_id) + "/size");
  if (!text.ok() && text.error().kind() == ErrorKind::not_found) return missing();
  if (!text.ok()) return std::move(text).error();
  auto size = parse_integer<std::uint64_t>(*text);
  if (!size.ok()) return missing();
  return size;
}

Status ContentStore::adopt_layer(Staging& staging, const Digest& diff_id, const UnpackedLayer& unpacked, Reservation* tar_room) {
  TRY(linux::write_file(staging.path() + "/size", concat(unpacked.size_bytes), 0600), "store layer");
  if (TRY_PLAIN(linux::exists(concat(staging.path(), "/", layer_file::index)))) {
    auto index = TRY_PLAIN(linux::openat(staging.fd(), layer_file::index, O_RDONLY | O_NOFOLLOW));
    auto digest = TRY(digest_of_file(index.get(), DigestAlgorithm::sha256), "store layer");
    TRY(linux::write_file(concat(staging.path(), "/", layer_file::index_digest), digest.text(), 0600), "store layer");
    TRY(linux::mkdirat(staging.fd(), layer_file::mount_point, private_dir), "store layer");
  } else {
    TRY(linux::write_file(concat(staging.path(), "/", layer_file::disk_bytes), concat(unpacked.disk_bytes), 0600), "store layer");
  }
  if (!unpacked.implied_dirs.empty()) {
    json::array names;
    for (const auto& name : unpacked.implied_dirs) names.push_back(json::value(base64_encode(name)));  // names are bytes, JSON is text
    TRY(linux::write_file(staging.path() + "/implied", to_text(names), 0600), "store layer");
  }
  auto move = [&] { return linux::renameat2(AT_FDCWD, staging.path(), AT_FDCWD, layer_path(diff_id), RENAME_NOREPLACE); };
  auto renamed = move();
  if (!renamed.ok() && renamed.error().error_number() == EEXIST) {
    if (TRY_PLAIN(has_layer(diff_id))) return {};  // another operation was first; ours vanishes with its staging
    TRY(set_aside_layer(diff_id), "store layer");
    renamed = move();
  }
  TRY(std::move(renamed), "store layer");
  TRY_PLAIN(count_layer(layer_path(diff_id), {&staging.room(), tar_room}));
  return sync_folder_of(layer_path(diff_id));
}

Status ContentStore::sync() {
  auto fd = TRY_PLAIN(linux::open(root_, read_directory));
  return linux::syncfs(fd.get());
}

std::string ContentStore::new_trash() const { return concat(root_, "/ingest/", trash_prefix, random_id().substr(0, 16)); }

Result<bool> ContentStore::move_to_trash(const std::string& path, const std::string& pin_key) {
  std::string trash = new_trash();
  std::lock_guard lock(mutex_);
  if (pins_.count(pin_key) != 0) return false;
  auto renamed = linux::rename(path, trash);
  if (!renamed.ok() && renamed.error().kind() == ErrorKind::not_found) return false;
  TRY_PLAIN(std::move(renamed));
  account_.set(path, {});
  return true;
}

bool ContentStore::is_pinned(const Digest& digest) const {
  std::lock_guard lock(mutex_);
  return pins_.count("b " + digest.text()) != 0;
}

Result<bool> ContentStore::discard_blob(const Digest& digest) { return move_to_trash(blob_path(digest), "b " + digest.text()); }

Result<bool> ContentStore::discard_layer(const Digest& diff_id) {
  const auto path = layer_path(diff_id);
  std::lock_guard lock(mounts_mutex_);
  const bool is_gone = TRY_PLAIN(move_to_trash(path, "l " + diff_id.text()));
  if (is_gone) mounted_.erase(path);  // the mount goes with the folder, and is undone when the trash is emptied
  return is_gone;
}

Status ContentStore::set_aside_layer(const Digest& diff_id) {
  const auto path = layer_path(diff_id);
  std::lock_guard lock(mounts_mutex_);
  mounted_.erase(path);
  auto renamed = linux::rename(path, new_trash());
  if (!renamed.ok() && renamed.error().kind() == ErrorKind::not_found) return {};
  if (renamed.ok()) account_.set(path, {});
  return renamed;
}

Status ContentStore::empty_trash() {
  for (const auto& entry : TRY_PLAIN(linux::list_dir(root_ + "/ingest")))
    if (entry.name.starts_with(trash_prefix)) TRY_PLAIN(remove_layer_tree(concat(root_, "/ingest/", entry.name)));
  return {};
}

Result<std::vector<Digest>> ContentStore::list_blobs() const {
  std::vector<Digest> out;
  for (const char* algorithm : {"sha256", "sha512"}) {
    for (const auto& entry : TRY_PLAIN(linux::list_dir(concat(root_, "/content/blobs/", algorithm)))) {
      auto digest = Digest::parse(concat(algorithm, ":", entry.name));
      if (digest.ok()) out.push_back(std::move(*digest));
    }
  }
  return out;
}

Result<std::vector<Digest>> ContentStore::list_layers() const {
  std::vector<Digest> out;
  for (const auto& entry : TRY_PLAIN(linux::list_dir(root_ + "/layers"))) {
    auto digest = Digest::parse(concat(entry.name.size() == 128 ? "sha512:" : "sha256:", entry.name));
    if (digest.ok()) out.push_back(std::move(*digest));
  }
  return out;
}

Result<std::uint64_t> ContentStore::blobs_bytes() const {
  std::uint64_t sum = 0;
  for (const auto& digest : TRY_PLAIN(list_blobs()))
    if (auto size = blob_size(digest); size.ok()) sum += *size;  // one may have been removed meanwhile
  return sum;
}

Result<std::size_t> ContentStore::clear_staging() {
  std::size_t count = 0;
  for (const auto& entry : TRY_PLAIN(linux::list_dir(root_ + "/ingest"))) {
    TRY(remove_layer_tree(concat(root_, "/ingest/", entry.name)), "remove a leftover");
    if (!entry.name.starts_with(trash_prefix)) ++count;
  }
  return count;
}

Result<Digest> digest_of_file(int fd, DigestAlgorithm algorithm) {
  Hasher hasher(algorithm);
  std::vector<char> buffer(256 << 10);
  for (std::uint64_t at = 0;;) {
    auto got = TRY_PLAIN(linux::pread(fd, buffer, at));
    if (got == 0) return hasher.finish();
    hasher.update(std::string_view(buffer.data(), got));
    at += got;
  }
}

}  // namespace caisson::image
