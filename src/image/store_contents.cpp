// What the store holds, as its account sees it: counted once at the start, then thing by thing as they change.
#include <algorithm>
#include <cerrno>

#include "base/strings.hpp"
#include "image/content_store.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::image {

namespace {

/// Of a tree; stores of earlier versions have layers that do not say it.
Result<std::uint64_t> tree_bytes(const std::string& layer) {
  const auto note = concat(layer, "/", layer_file::disk_bytes);
  if (auto text = linux::read_file(note); text.ok())
    if (auto bytes = parse_integer<std::uint64_t>(*text); bytes.ok()) return bytes;
  const auto usage = TRY_PLAIN(linux::tree_usage(concat(layer, "/", layer_file::tree)));
  TRY_PLAIN(linux::write_file_atomic(note, concat(usage.size_bytes), 0600, linux::Durability::none));
  return usage.size_bytes;
}

Result<std::optional<StoreAccount::Item>> item_at(const std::string& path) {
  auto status = linux::lstat(path);
  if (!status.ok() && status.error().kind() == ErrorKind::not_found) return std::optional<StoreAccount::Item>();
  if (!status.ok()) return std::move(status).error();
  return std::optional(StoreAccount::Item{status->st_ino, disk_bytes_of(*status)});
}

}  // namespace

Status ContentStore::count_file(const std::string& path, Reservation* room) {
  if (!account_.has_begun()) return {};
  std::vector<StoreAccount::Item> items;
  if (auto item = TRY(item_at(path), "count")) items.push_back(*item);
  account_.set(path, items, {room});
  return {};
}

Status ContentStore::count_layer(const std::string& path, std::initializer_list<Reservation*> rooms) {
  if (!account_.has_begun()) return {};
  std::vector<StoreAccount::Item> items;
  auto add = [&](const std::string& file) -> Status {
    if (auto item = TRY(item_at(file), "count")) items.push_back(*item);
    return {};
  };
  TRY_PLAIN(add(path));
  if (items.empty()) {
    account_.set(path, {});
    return {};
  }
  for (const auto& entry : TRY_PLAIN(linux::list_dir(path))) {
    if (entry.name == layer_file::mount_point) continue;  // what shows there is another file system's
    TRY_PLAIN(add(concat(path, "/", entry.name)));
    if (entry.name == layer_file::tree && items.size() > 1) items.back().bytes = TRY_PLAIN(tree_bytes(path));
  }
  account_.set(path, items, rooms);
  return {};
}

Status ContentStore::count_partial(const Digest& digest, Reservation* room) { return count_file(partial_path(digest), room); }

Status ContentStore::discard_partial(const Digest& digest) {
  auto removed = linux::unlink(partial_path(digest));
  if (!removed.ok() && removed.error().kind() != ErrorKind::not_found) return removed;
  return count_partial(digest);
}

Status ContentStore::begin_account(std::uint64_t quota_bytes, StoreAccount::Collector collector) {
  account_.begin(quota_bytes, std::move(collector));
  for (const auto& digest : TRY_PLAIN(list_blobs())) TRY_PLAIN(count_file(blob_path(digest)));
  for (const auto& entry : TRY_PLAIN(linux::list_dir(root_ + "/partial"))) TRY_PLAIN(count_file(concat(root_, "/partial/", entry.name)));
  for (const auto& digest : TRY_PLAIN(list_layers())) TRY_PLAIN(count_layer(layer_path(digest)));
  return {};
}

std::uint64_t ContentStore::disk_bytes(const std::vector<Digest>& blobs, const std::vector<Digest>& layers) const {
  std::vector<std::string> owners;
  for (const auto& digest : blobs) owners.push_back(blob_path(digest));
  for (const auto& digest : layers) owners.push_back(layer_path(digest));
  return account_.bytes_of(owners);
}

Status ContentStore::free_partials(const std::function<bool()>& is_enough) {
  struct Old {
    std::int64_t time_s;
    std::string path;
    Digest digest;
  };
  std::vector<Old> all;
  for (const auto& entry : TRY_PLAIN(linux::list_dir(root_ + "/partial"))) {
    auto halves = split_once(entry.name, '-');
    auto digest = Digest::parse(concat(halves.before, ":", halves.after));
    auto path = concat(root_, "/partial/", entry.name);
    auto status = linux::lstat(path);
    if (!digest.ok() || !status.ok()) continue;  // not ours to judge; or finished by now
    all.push_back({status->st_mtim.tv_sec, std::move(path), std::move(*digest)});
  }
  std::sort(all.begin(), all.end(), [](const Old& a, const Old& b) { return a.time_s < b.time_s; });
  for (const auto& old : all) {
    if (is_enough()) break;
    TRY_PLAIN(move_to_trash(old.path, "b " + old.digest.text()));  // whoever goes on with it has pinned the blob
  }
  return empty_trash();
}

}  // namespace caisson::image
