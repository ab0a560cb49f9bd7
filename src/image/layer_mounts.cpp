// Layers that are kept as an index: checked and mounted when they are wanted, replaced, and taken down before they are removed.
#include <cerrno>

#include "base/strings.hpp"
#include "image/content_store.hpp"
#include "image/index_mount.hpp"
#include "linux/file.hpp"
#include "linux/mount_api.hpp"
#include "linux/tree.hpp"

namespace caisson::image {

namespace {

std::string file_of(const std::string& path, const char* name) { return concat(path, "/", name); }

/// The digests that the index may have: one, or two while it is being replaced. Lines of a file of ours.
Result<std::vector<std::string>> recorded_digests(const std::string& path) {
  auto text = TRY_PLAIN(linux::read_file(file_of(path, layer_file::index_digest)));
  std::vector<std::string> out;
  for (auto line : split(text, '\n')) out.emplace_back(line);
  return out;
}

Status record_digests(const std::string& path, const std::vector<std::string>& digests) {
  return linux::write_file_atomic(file_of(path, layer_file::index_digest), join(digests, "\n"), 0600, linux::Durability::synced);
}

/// Whether something is mounted in a layer's folder: another file system shows.
Result<bool> is_mounted(const std::string& path) {
  const auto point = linux::stat(file_of(path, layer_file::mount_point));
  if (!point.ok() && point.error().kind() == ErrorKind::not_found) return false;
  const auto folder = TRY_PLAIN(linux::stat(path));
  return TRY_PLAIN(point).st_dev != folder.st_dev;
}

Error damaged(const std::string& path, std::string_view what) { return {ErrorKind::corrupt, concat(path, ": ", what)}; }

}  // namespace

Status detach_layer(const std::string& path) {
  const auto point = file_of(path, layer_file::mount_point);
  for (;;) {  // a replaced index lies upon the old one
    auto detached = linux::umount2(point, MNT_DETACH | UMOUNT_NOFOLLOW);
    if (detached.ok()) continue;
    const int reason = detached.error().error_number();
    // Nothing is mounted there; or whoever we are may not mount, so nothing of ours is.
    if (reason == EINVAL || reason == ENOENT || reason == ENOTDIR || reason == EPERM) return {};
    return detached;
  }
}

Status remove_layer_tree(const std::string& path) {
  TRY_PLAIN(detach_layer(path));
  return linux::remove_tree(path);
}

/// Under mounts_mutex_.
Status ContentStore::mount_layer(const std::string& path) {
  for (const char* name : {layer_file::index, layer_file::tar, layer_file::index_digest, layer_file::mount_point})
    if (!TRY_PLAIN(linux::exists(file_of(path, name)))) return damaged(path, concat(name, " is missing"));
  auto index = TRY_PLAIN(linux::open(file_of(path, layer_file::index), O_RDONLY | O_NOFOLLOW));
  auto tar = TRY_PLAIN(linux::open(file_of(path, layer_file::tar), O_RDONLY | O_NOFOLLOW));
  const auto digest = TRY_PLAIN(digest_of_file(index.get(), DigestAlgorithm::sha256)).text();
  bool is_known = false;
  for (const auto& recorded : TRY_PLAIN(recorded_digests(path))) is_known = is_known || recorded == digest;
  if (!is_known) return damaged(path, "the index has changed since it was made");
  auto mounted = TRY(mount_index(index.get(), tar.get()), path);
  auto point = TRY_PLAIN(linux::open(file_of(path, layer_file::mount_point), O_PATH | O_DIRECTORY | O_NOFOLLOW));
  TRY(linux::attach_mount(mounted.get(), point.get()), path);
  mounted_.insert(path);
  return {};
}

Result<std::string> ContentStore::open_layer(const Digest& diff_id) {
  const auto path = layer_path(diff_id);
  auto point = file_of(path, layer_file::mount_point);
  std::lock_guard lock(mounts_mutex_);
  // Somebody may have taken the mount away; an empty directory would be taken for the layer.
  if (mounted_.count(path) != 0 && TRY_PLAIN(is_mounted(path))) return point;
  auto tree = file_of(path, layer_file::tree);
  if (TRY_PLAIN(linux::exists(tree))) return tree;
  TRY_PLAIN(mount_layer(path));
  return point;
}

/// Whichever step is the last before a crash, the index is one of those that are recorded. What is mounted is covered by the new one, not
/// taken away: somebody may be about to use the path.
Status ContentStore::replace_index(const Digest& diff_id, const Staging& staging) {
  const auto path = layer_path(diff_id);
  auto index = TRY_PLAIN(linux::openat(staging.fd(), layer_file::index, O_RDONLY | O_NOFOLLOW));
  TRY_PLAIN(linux::fsync(index.get()));
  const auto digest = TRY_PLAIN(digest_of_file(index.get(), DigestAlgorithm::sha256)).text();
  std::lock_guard lock(mounts_mutex_);
  auto digests = TRY_PLAIN(recorded_digests(path));
  digests.push_back(digest);
  TRY_PLAIN(record_digests(path, digests));
  TRY_PLAIN(linux::rename(file_of(staging.path(), layer_file::index), file_of(path, layer_file::index)));
  auto folder = TRY_PLAIN(linux::open(path, O_RDONLY | O_DIRECTORY));
  TRY_PLAIN(linux::fsync(folder.get()));
  TRY_PLAIN(record_digests(path, {digest}));
  TRY_PLAIN(count_layer(path));
  if (mounted_.count(path) != 0) TRY_PLAIN(mount_layer(path));
  return {};
}

Status ContentStore::detach_layers() {
  std::lock_guard lock(mounts_mutex_);
  mounted_.clear();
  for (const auto& digest : TRY_PLAIN(list_layers())) TRY(detach_layer(layer_path(digest)), "layers of an earlier process");
  return {};
}

ContentStore::~ContentStore() {
  for (const auto& path : mounted_) ignore(detach_layer(path));  // what stays is undone by detach_layers() of the next process
}

}  // namespace caisson::image
