// Reading and changing the records. Reads go straight to the store; changes take the lock, so that a clean-up sees all of a change or nothing.
#include "registry/catalog.hpp"

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "base/strings.hpp"
#include "registry/catalog_keys.hpp"

namespace caisson::registry {

namespace {

/// The entry, or none.
Result<std::optional<state::Entry>> find(state::Store& store, std::string_view key) {
  auto entry = store.get(key);
  if (entry.ok()) return std::optional<state::Entry>(std::move(*entry));
  if (entry.error().kind() == ErrorKind::not_found) return std::optional<state::Entry>();
  return std::move(entry).error();
}

Result<Page> page_of(state::Store& store, const std::string& prefix, std::string_view after, std::size_t most) {
  Page page;
  for (const auto& entry : TRY_PLAIN(store.list(prefix))) {
    const auto name = std::string_view(entry.key).substr(prefix.size());
    if (!after.empty() && name <= after) continue;
    if (page.names.size() == most) {
      page.has_more = true;
      break;
    }
    page.names.emplace_back(name);
  }
  return page;
}

Error over_quota(std::string_view what, std::uint64_t limit) {
  return {ErrorKind::unavailable, concat(what, " may hold at most ", human_size(limit)), EDQUOT};
}

}  // namespace

Catalog::Catalog(state::Store& store, Storage& storage, Limits limits)
    : store_(store), storage_(storage), limits_(std::move(limits)), opened_(now_ns()) {}

Result<std::unique_ptr<Catalog>> Catalog::open(state::Store& store, Storage& storage, Limits limits) {
  std::unique_ptr<Catalog> catalog(new Catalog(store, storage, std::move(limits)));
  TRY(catalog->load(), "read the registry's records");
  return catalog;
}

Status Catalog::load() {
  std::map<std::string, std::uint64_t> sizes;  // shared blobs once
  auto count = [&](const keys::Held& held, std::uint64_t size_bytes) {
    held_bytes_[held.repository] += size_bytes;
    sizes[held.digest] = size_bytes;
  };
  held_bytes_.clear();
  for (const auto& entry : TRY_PLAIN(store_.list(keys::all_blobs))) count(keys::split_key(entry.key, keys::all_blobs), TRY_PLAIN(keys::read_blob(entry)).size_bytes);
  for (const auto& entry : TRY_PLAIN(store_.list(keys::all_manifests))) count(keys::split_key(entry.key, keys::all_manifests), TRY_PLAIN(keys::read_manifest(entry)).size_bytes);
  const auto there = TRY_PLAIN(storage_.total_bytes());
  total_bytes_ = 0;
  if (there) total_bytes_ = *there;
  else
    for (const auto& [digest, size_bytes] : sizes) total_bytes_ += size_bytes;
  return {};
}

// -- blobs

Result<std::optional<std::uint64_t>> Catalog::blob_size(std::string_view repository, const Digest& digest) {
  auto entry = TRY_PLAIN(find(store_, keys::blob(repository, digest.text())));
  if (!entry) return std::optional<std::uint64_t>();
  return std::optional<std::uint64_t>(TRY_PLAIN(keys::read_blob(*entry)).size_bytes);
}

Status Catalog::hold_blob(const std::string& repository, const Digest& digest, std::uint64_t size_bytes) {
  std::lock_guard lock(mutex_);
  const auto now = now_ns();
  auto key = keys::blob(repository, digest.text());
  if (TRY_PLAIN(find(store_, key))) {
    touched_[concat(repository, "@", digest.text())] = now;
    return {};
  }
  TRY_PLAIN(check_quota_locked(repository, size_bytes, 0));
  state::Transaction change;
  change.put(std::move(key), keys::write(keys::BlobRecord{size_bytes, now})).put(keys::blob_holder(digest.text(), repository), keys::present);
  change.put(keys::repository(repository), keys::present);
  TRY_PLAIN(store_.commit(change));
  held_bytes_[repository] += size_bytes;
  return {};
}

Status Catalog::release_blob(const std::string& repository, const Digest& digest) {
  std::lock_guard lock(mutex_);
  auto entry = TRY_PLAIN(find(store_, keys::blob(repository, digest.text())));
  if (!entry) return Error(ErrorKind::not_found, concat("repository ", repository, " has no blob ", digest.text()));
  state::Transaction change;
  change.erase(entry->key).erase(keys::blob_holder(digest.text(), repository));
  change.frees = true;
  TRY_PLAIN(store_.commit(change));
  held_bytes_[repository] -= TRY_PLAIN(keys::read_blob(*entry)).size_bytes;
  return {};
}

Result<std::vector<std::string>> Catalog::holders(const Digest& digest) {
  const auto prefix = keys::blob_holders(digest.text());
  std::vector<std::string> out;
  for (const auto& entry : TRY_PLAIN(store_.list(prefix))) out.push_back(entry.key.substr(prefix.size()));
  return out;
}

void Catalog::touch(std::string_view repository, const Digest& digest) {
  std::lock_guard lock(mutex_);
  touched_[concat(repository, "@", digest.text())] = now_ns();
}

Status Catalog::check_quota(const std::string& repository, std::uint64_t more_bytes) {
  std::lock_guard lock(mutex_);
  return check_quota_locked(repository, more_bytes, more_bytes);
}

Status Catalog::check_quota_locked(const std::string& repository, std::uint64_t more_bytes, std::uint64_t more_on_disk) {
  auto exception = limits_.of_repository.find(repository);
  const auto limit = exception == limits_.of_repository.end() ? limits_.repository_bytes : exception->second;
  const auto held = held_bytes_.find(repository);
  const auto has = held == held_bytes_.end() ? 0 : held->second;
  if (limit != 0 && (has > limit || more_bytes > limit - has)) return over_quota(concat("repository ", repository), limit);
  if (limits_.total_bytes != 0 && (total_bytes_ > limits_.total_bytes || more_on_disk > limits_.total_bytes - total_bytes_))
    return over_quota("the registry", limits_.total_bytes);
  return {};
}

void Catalog::count_bytes(std::int64_t difference) {
  std::lock_guard lock(mutex_);
  total_bytes_ = static_cast<std::uint64_t>(static_cast<std::int64_t>(total_bytes_) + difference);
}

// -- manifests and tags

Result<std::optional<ManifestRecord>> Catalog::manifest(std::string_view repository, const Digest& digest) {
  auto entry = TRY_PLAIN(find(store_, keys::manifest(repository, digest.text())));
  if (!entry) return std::optional<ManifestRecord>();
  return std::optional<ManifestRecord>(TRY_PLAIN(keys::read_manifest(*entry)));
}

Result<std::optional<Digest>> Catalog::tag(std::string_view repository, std::string_view tag) {
  auto entry = TRY_PLAIN(find(store_, keys::tag(repository, tag)));
  if (!entry) return std::optional<Digest>();
  return std::optional<Digest>(TRY_PLAIN(keys::read_tag(*entry)));
}

Result<bool> Catalog::is_tag_fresh(std::string_view repository, std::string_view tag, std::int64_t age_ns) {
  auto entry = TRY_PLAIN(find(store_, keys::tag(repository, tag)));
  return entry && now_ns() - TRY_PLAIN(keys::read_tag_time(*entry)) < age_ns;
}

Result<std::vector<Digest>> Catalog::manifests_naming(std::string_view repository, const Digest& blob) {
  std::vector<Digest> out;
  for (const auto& entry : TRY_PLAIN(store_.list(keys::manifests(repository)))) {
    const auto record = TRY_PLAIN(keys::read_manifest(entry));
    if (std::find(record.blobs.begin(), record.blobs.end(), blob.text()) == record.blobs.end()) continue;
    out.push_back(TRY_PLAIN(Digest::parse(keys::split_key(entry.key, keys::all_manifests).digest)));
  }
  return out;
}

/// The handler has looked already, to name what is missing; a clean-up or a delete may have come between.
Status Catalog::check_parts_locked(const std::string& repository, const ManifestRecord& record) {
  for (const auto& digest : record.blobs)
    if (!TRY_PLAIN(find(store_, keys::blob(repository, digest)))) return Error(ErrorKind::not_found, concat("repository ", repository, " has no blob ", digest));
  for (const auto& digest : record.manifests)
    if (!TRY_PLAIN(find(store_, keys::manifest(repository, digest)))) return Error(ErrorKind::not_found, concat("repository ", repository, " has no manifest ", digest));
  return {};
}

Status Catalog::put_manifest(const std::string& repository, const Digest& digest, const ManifestRecord& record, const std::vector<std::string>& tags,
                             const TagCondition& condition, Needs needs) {
  Changed changed;
  {
    std::lock_guard lock(mutex_);
    changed = TRY_PLAIN(put_manifest_locked(repository, digest, record, tags, condition, needs));
  }
  return mirror(changed);
}

Result<Catalog::Changed> Catalog::put_manifest_locked(const std::string& repository, const Digest& digest, const ManifestRecord& record, const std::vector<std::string>& tags,
                                                      const TagCondition& condition, Needs needs) {
  if (needs == Needs::all_parts) TRY_PLAIN(check_parts_locked(repository, record));
  for (const auto& name : tags) {
    auto entry = TRY_PLAIN(find(store_, keys::tag(repository, name)));
    if (condition.must_be_absent && entry) return Error(ErrorKind::conflict, concat("the tag ", name, " exists already"));
    if (!condition.must_be) continue;
    const bool holds = entry && (*condition.must_be == "*" || TRY_PLAIN(keys::read_tag(*entry)).text() == *condition.must_be);
    if (!holds) return Error(ErrorKind::conflict, concat("the tag ", name, " is not what the request expects"));
  }
  const bool is_new = !TRY_PLAIN(find(store_, keys::manifest(repository, digest.text())));
  if (is_new) TRY_PLAIN(check_quota_locked(repository, record.size_bytes, 0));
  state::Transaction change;
  change.durable = true;
  change.put(keys::repository(repository), keys::present);
  change.put(keys::manifest(repository, digest.text()), keys::write(record)).put(keys::manifest_holder(digest.text(), repository), keys::present);
  if (!record.subject.empty()) change.put(keys::referrer(repository, record.subject, digest.text()), keys::present);
  for (const auto& name : tags) change.put(keys::tag(repository, name), keys::write_tag(digest, record.pushed));
  auto changed = note(change);
  TRY_PLAIN(store_.commit(change));
  if (is_new) held_bytes_[repository] += record.size_bytes;
  return changed;
}

Status Catalog::remove_tag(const std::string& repository, const std::string& tag) {
  Changed changed;
  {
    std::lock_guard lock(mutex_);
    auto key = keys::tag(repository, tag);
    if (!TRY_PLAIN(find(store_, key))) return Error(ErrorKind::not_found, concat("repository ", repository, " has no tag ", tag));
    state::Transaction change;
    change.durable = true;
    change.erase(std::move(key));
    changed = note(change);
    change.frees = true;
    TRY_PLAIN(store_.commit(change));
  }
  return mirror(changed);
}

Result<std::vector<std::string>> Catalog::tags_of_locked(const std::string& repository, const Digest& digest) {
  std::vector<std::string> out;
  for (const auto& entry : TRY_PLAIN(store_.list(keys::tags(repository))))
    if (TRY_PLAIN(keys::read_tag(entry)) == digest) out.push_back(entry.key);
  return out;
}

Status Catalog::remove_manifest(const std::string& repository, const Digest& digest) {
  Changed changed;
  {
    std::lock_guard lock(mutex_);
    TRY_PLAIN(remove_manifest_locked(repository, digest, changed));
  }
  return mirror(changed);
}

Status Catalog::remove_manifest_locked(const std::string& repository, const Digest& digest, Changed& changed) {
  auto entry = TRY_PLAIN(find(store_, keys::manifest(repository, digest.text())));
  if (!entry) return Error(ErrorKind::not_found, concat("repository ", repository, " has no manifest ", digest.text()));
  const auto record = TRY_PLAIN(keys::read_manifest(*entry));
  state::Transaction change;
  change.durable = true;
  change.erase(entry->key).erase(keys::manifest_holder(digest.text(), repository));
  if (!record.subject.empty()) change.erase(keys::referrer(repository, record.subject, digest.text()));
  for (auto& key : TRY_PLAIN(tags_of_locked(repository, digest))) change.erase(std::move(key));
  auto noted = note(change);
  change.frees = true;
  TRY_PLAIN(store_.commit(change));
  changed.insert(changed.end(), std::make_move_iterator(noted.begin()), std::make_move_iterator(noted.end()));
  held_bytes_[repository] -= record.size_bytes;
  return {};
}

Status Catalog::remove_repository(const std::string& repository) {
  std::unique_lock lock(mutex_);
  if (!TRY_PLAIN(find(store_, keys::repository(repository)))) return Error(ErrorKind::not_found, concat("no repository ", repository));
  state::Transaction change;
  change.durable = true;
  change.erase(keys::repository(repository));
  for (auto& entry : TRY_PLAIN(store_.list(keys::blobs(repository)))) {
    change.erase(keys::blob_holder(keys::split_key(entry.key, keys::all_blobs).digest, repository));
    change.erase(std::move(entry.key));
  }
  for (auto& entry : TRY_PLAIN(store_.list(keys::manifests(repository)))) {
    change.erase(keys::manifest_holder(keys::split_key(entry.key, keys::all_manifests).digest, repository));
    change.erase(std::move(entry.key));
  }
  for (auto& entry : TRY_PLAIN(store_.list(keys::tags(repository)))) change.erase(std::move(entry.key));
  for (auto& entry : TRY_PLAIN(store_.list(concat("referrer/", repository, "@")))) change.erase(std::move(entry.key));
  const auto changed = note(change);
  change.frees = true;
  TRY_PLAIN(store_.commit(change));
  held_bytes_.erase(repository);
  lock.unlock();
  return mirror(changed);
}

// -- listings

Result<bool> Catalog::exists(std::string_view repository) { return TRY_PLAIN(find(store_, keys::repository(repository))).has_value(); }

Result<Page> Catalog::tags(std::string_view repository, std::string_view after, std::size_t most) { return page_of(store_, keys::tags(repository), after, most); }

Result<Page> Catalog::repositories(std::string_view after, std::size_t most) { return page_of(store_, std::string(keys::all_repositories), after, most); }

Result<std::vector<Catalog::Referrer>> Catalog::referrers(std::string_view repository, const Digest& subject) {
  const auto prefix = keys::referrers(repository, subject.text());
  std::vector<Referrer> out;
  for (const auto& entry : TRY_PLAIN(store_.list(prefix))) {
    auto digest = TRY_PLAIN(Digest::parse(std::string_view(entry.key).substr(prefix.size())));
    auto record = TRY_PLAIN(manifest(repository, digest));
    if (record) out.push_back({std::move(digest), std::move(*record)});  // it may go while we read
  }
  return out;
}

Catalog::Usage Catalog::usage() {
  std::lock_guard lock(mutex_);
  return {held_bytes_, total_bytes_};
}

}  // namespace caisson::registry
