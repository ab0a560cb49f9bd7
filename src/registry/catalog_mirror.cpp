// Records beside the blobs in a bucket: manifests and tags, so that everything else can be made anew from them. A change is noted in its own transaction,
// and forgotten when the storage has it: what a crash comes between is brought there later.
#include <functional>

#include "base/ids.hpp"
#include "base/log.hpp"
#include "base/strings.hpp"
#include "image/side_by_side.hpp"
#include "registry/catalog.hpp"
#include "registry/catalog_keys.hpp"

namespace caisson::registry {

namespace {

constexpr std::string_view noted_prefix = "mirror/";  // "mirror/KEY": the storage may have an older KEY
constexpr std::string_view instance_key = "storage/instance";
constexpr std::string_view owner_record = "owner";
constexpr std::size_t at_once = 16;

bool is_mirrored(std::string_view key) { return key.starts_with(keys::all_manifests) || key.starts_with(keys::all_tags); }

Result<std::optional<std::string>> value_of(state::Store& store, std::string_view key) {
  auto entry = store.get(key);
  if (entry.ok()) return std::optional<std::string>(std::move(entry->value));
  if (entry.error().kind() == ErrorKind::not_found) return std::optional<std::string>();
  return std::move(entry).error();
}

Error not_ours() {
  return Error(ErrorKind::conflict, "the storage belongs to another registry, and what one of the two does not know its clean-up would remove")
      .with_hint("give each registry a prefix or bucket of its own; an empty folder takes over what is in the storage");
}

std::string instance_text(const std::string& id) { return to_text(json::object{{"instance", id}}); }

}  // namespace

Catalog::Changed Catalog::note(state::Transaction& change) const {
  Changed changed;
  if (!storage_.keeps_records()) return changed;
  for (const auto& write : change.writes)
    if (is_mirrored(write.key)) changed.push_back(write.key);
  for (const auto& key : changed) change.put(concat(noted_prefix, key), keys::present);
  return changed;
}

Status Catalog::mirror(const Changed& changed) {
  auto done = image::side_by_side(changed.size(), at_once, [&](std::size_t index) { return mirror_one(changed[index]); });
  if (done.ok()) return done;
  auto error = std::move(done).error().in("bring records to the storage");
  // What the service has not found or does not allow is no refusal of what the client asked for.
  return error.kind() == ErrorKind::timeout ? std::move(error) : Error(ErrorKind::io, error.text());
}

Status Catalog::mirror_one(const std::string& key) {
  // Whoever comes last writes what holds then: the order of changes does not matter.
  std::lock_guard turn(mirror_mutexes_[std::hash<std::string>{}(key) % mirror_mutexes_.size()]);
  const auto value = TRY_PLAIN(value_of(store_, key));
  TRY_PLAIN(value ? storage_.put_record(key, *value) : storage_.erase_record(key));
  std::lock_guard lock(mutex_);
  if (TRY_PLAIN(value_of(store_, key)) != value) return {};  // changed meanwhile: the note is the other change's
  state::Transaction done;
  done.erase(concat(noted_prefix, key));
  TRY_PLAIN(store_.commit(done));
  return {};
}

Status Catalog::mirror_leftovers() {
  Changed changed;
  for (const auto& entry : TRY_PLAIN(store_.list(noted_prefix))) changed.push_back(entry.key.substr(noted_prefix.size()));
  return mirror(changed);
}

Status Catalog::join_storage() {
  if (!storage_.keeps_records()) return {};
  const auto own = TRY_PLAIN(value_of(store_, instance_key));
  const auto owner = TRY(storage_.read_record(owner_record), "ask whose storage it is");
  if (own && owner && *own == *owner) {
    TRY_PLAIN(mirror_leftovers());
    storage_.joined();
    return {};
  }
  if (own && !owner)
    return Error(ErrorKind::conflict, "the storage is not the one in which this folder's blobs lie").with_hint("copy all objects below the old prefix, or name the old bucket and prefix again");
  const bool is_empty = TRY_PLAIN(store_.list(keys::all_repositories)).empty();
  if (owner && (own || !is_empty)) return not_ours();
  if (owner) TRY(restore(), "make the records anew from the storage");
  else TRY(bring_folder(), "bring what the folder holds to the storage");
  // From here on the other folder, if it still lives, is refused.
  const auto id = instance_text(random_id());
  TRY_PLAIN(storage_.put_record(owner_record, id));
  state::Transaction change;
  change.durable = true;
  change.put(std::string(instance_key), id);
  TRY_PLAIN(store_.commit(change));
  storage_.joined();
  return load();
}

Status Catalog::check_owner() {
  if (!storage_.keeps_records()) return {};
  const auto own = TRY_PLAIN(value_of(store_, instance_key));
  if (own != TRY_PLAIN(storage_.read_record(owner_record))) return not_ours();
  return {};
}

Status Catalog::restore() {
  std::map<std::string, std::uint64_t> sizes;
  for (const auto& blob : TRY_PLAIN(storage_.list())) sizes[blob.digest.text()] = blob.size_bytes;
  std::vector<state::Entry> entries;
  for (auto& key : TRY_PLAIN(storage_.list_records()))
    if (is_mirrored(key)) entries.push_back({std::move(key), "", 0});
  TRY_PLAIN(image::side_by_side(entries.size(), at_once, [&](std::size_t index) -> Status {
    if (auto text = TRY_PLAIN(storage_.read_record(entries[index].key))) entries[index].value = std::move(*text);
    return {};
  }));
  std::size_t manifests = 0;
  for (const auto& entry : entries) {
    if (!entry.key.starts_with(keys::all_manifests)) continue;
    TRY_PLAIN(restore_manifest(entry, sizes));
    ++manifests;
  }
  state::Transaction tags;
  tags.durable = true;
  for (const auto& entry : entries)
    if (entry.key.starts_with(keys::all_tags) && keys::read_tag(entry).ok()) tags.put(entry.key, entry.value);
  TRY_PLAIN(store_.commit(tags));
  log(LogLevel::info, "restore", "", concat(manifests, " manifests and ", tags.writes.size(), " tags from the storage"));
  return {};
}

Status Catalog::restore_manifest(const state::Entry& entry, const std::map<std::string, std::uint64_t>& sizes) {
  const auto [repository, digest] = keys::split_key(entry.key, keys::all_manifests);
  auto record = keys::read_manifest(entry);
  if (!record.ok() || sizes.count(digest) == 0) {
    log(LogLevel::warning, "restore", entry.key, record.ok() ? "its manifest is not in the storage" : record.error().text());
    return {};
  }
  state::Transaction change;
  change.put(keys::repository(repository), keys::present);
  change.put(entry.key, entry.value).put(keys::manifest_holder(digest, repository), keys::present);
  if (!record->subject.empty()) change.put(keys::referrer(repository, record->subject, digest), keys::present);
  for (const auto& blob : record->blobs) {
    const auto size = sizes.find(blob);
    if (size == sizes.end()) continue;  // of another registry's image, not asked for yet
    change.put(keys::blob(repository, blob), keys::write(keys::BlobRecord{size->second, now_ns()})).put(keys::blob_holder(blob, repository), keys::present);
  }
  TRY_PLAIN(store_.commit(change));
  return {};
}

Status Catalog::bring_folder() {
  const auto there = TRY_PLAIN(storage_.local().list_blobs());
  TRY_PLAIN(image::side_by_side(there.size(), at_once / 4, [&](std::size_t index) -> Status {
    if (TRY_PLAIN(store_.list(keys::holders(there[index].text()))).empty()) return {};
    return storage_.adopt(storage_.local().blob_path(there[index]), there[index]);
  }));
  Changed records;
  for (std::string_view prefix : {keys::all_manifests, keys::all_tags})
    for (auto& entry : TRY_PLAIN(store_.list(prefix))) records.push_back(std::move(entry.key));
  return mirror(records);
}

}  // namespace caisson::registry
