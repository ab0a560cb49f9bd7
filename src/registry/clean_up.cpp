// Online clean-up: takes away what nothing leads to any more. Each step is one transaction or one rename, so it may be killed anywhere and begun anew.
#include <algorithm>
#include <set>

#include "base/strings.hpp"
#include "registry/catalog.hpp"
#include "registry/catalog_keys.hpp"

namespace caisson::registry {

bool Catalog::is_fresh_locked(std::string_view repository, std::string_view digest, TimestampNs given, std::int64_t grace_ns) {
  // What was touched before this process began is not known: everything counts as touched at its start.
  TimestampNs latest = std::max(given, opened_);
  if (auto found = touched_.find(concat(repository, "@", digest)); found != touched_.end()) latest = std::max(latest, found->second);
  return now_ns() - latest < grace_ns;
}

/// Manifests that no tag leads to, directly, through an index or as something attached.
Status Catalog::sweep_manifests(const std::string& repository, const CleanUpOptions& options, CleanUp& done) {
  Changed changed;
  {
    std::lock_guard lock(mutex_);
    TRY_PLAIN(sweep_manifests_locked(repository, options, done, changed));
  }
  return mirror(changed);
}

Status Catalog::sweep_manifests_locked(const std::string& repository, const CleanUpOptions& options, CleanUp& done, Changed& changed) {
  std::map<std::string, ManifestRecord> all;
  for (const auto& entry : TRY_PLAIN(store_.list(keys::manifests(repository))))
    all[keys::split_key(entry.key, keys::all_manifests).digest] = TRY_PLAIN(keys::read_manifest(entry));
  std::multimap<std::string, std::string> attached;  // by subject
  for (const auto& [digest, record] : all)
    if (!record.subject.empty()) attached.emplace(record.subject, digest);
  std::set<std::string> reached;
  std::vector<std::string> open;
  for (const auto& entry : TRY_PLAIN(store_.list(keys::tags(repository)))) open.push_back(TRY_PLAIN(keys::read_tag(entry)).text());
  for (const auto& [digest, record] : all)
    if (is_fresh_locked(repository, digest, record.pushed, options.grace_ns)) open.push_back(digest);
  while (!open.empty()) {
    const auto digest = std::move(open.back());
    open.pop_back();
    const auto found = all.find(digest);
    if (found == all.end() || !reached.insert(digest).second) continue;
    open.insert(open.end(), found->second.manifests.begin(), found->second.manifests.end());
    for (auto [at, end] = attached.equal_range(digest); at != end; ++at) open.push_back(at->second);
  }
  for (const auto& [text, record] : all) {
    if (reached.count(text) != 0) continue;
    TRY_PLAIN(remove_manifest_locked(repository, TRY_PLAIN(Digest::parse(text)), changed));
    ++done.manifests;
  }
  return {};
}

Status Catalog::sweep_links(const std::string& repository, const CleanUpOptions& options, CleanUp& done) {
  std::lock_guard lock(mutex_);
  std::set<std::string> used;
  for (const auto& entry : TRY_PLAIN(store_.list(keys::manifests(repository)))) {
    auto record = TRY_PLAIN(keys::read_manifest(entry));
    used.insert(record.blobs.begin(), record.blobs.end());
  }
  state::Transaction change;
  std::uint64_t freed_bytes = 0;
  for (const auto& entry : TRY_PLAIN(store_.list(keys::blobs(repository)))) {
    const auto digest = keys::split_key(entry.key, keys::all_blobs).digest;
    const auto record = TRY_PLAIN(keys::read_blob(entry));
    if (used.count(digest) != 0 || is_fresh_locked(repository, digest, record.given, options.grace_ns)) continue;
    change.erase(entry.key).erase(keys::blob_holder(digest, repository));
    freed_bytes += record.size_bytes;
    ++done.links;
  }
  if (!change.writes.empty()) {
    change.frees = true;
    TRY_PLAIN(store_.commit(change));
    held_bytes_[repository] -= freed_bytes;
  }
  return drop_if_empty_locked(repository);
}

Status Catalog::drop_if_empty_locked(const std::string& repository) {
  for (const auto& prefix : {keys::blobs(repository), keys::manifests(repository), keys::tags(repository)})
    if (!TRY_PLAIN(store_.list(prefix)).empty()) return {};
  state::Transaction change;
  change.erase(keys::repository(repository));
  change.frees = true;
  TRY_PLAIN(store_.commit(change));
  held_bytes_.erase(repository);
  return {};
}

Status Catalog::sweep_blobs(const CleanUpOptions& options, CleanUp& done) {
  for (const auto& listed : TRY_PLAIN(storage_.list())) {
    const auto& digest = listed.digest;
    if (!TRY_PLAIN(store_.list(keys::holders(digest.text()))).empty()) continue;  // without the lock: most blobs are held
    std::lock_guard lock(mutex_);
    if (!TRY_PLAIN(store_.list(keys::holders(digest.text()))).empty()) continue;
    const auto blob = TRY_PLAIN(storage_.look_again(listed));
    if (!blob) continue;  // gone meanwhile
    // The kept file of an upload whose process died before it said so to anybody: nobody relies on it, but a repeated upload may be under way.
    if (now_ns() - blob->written < options.grace_ns) continue;
    if (!TRY_PLAIN(storage_.discard(digest))) continue;  // pinned: it is about to be held
    total_bytes_ -= std::min(total_bytes_, blob->size_bytes);
    done.bytes += blob->size_bytes;
    ++done.blobs;
  }
  return storage_.remove_discarded();
}

Result<CleanUp> Catalog::clean_up(const CleanUpOptions& options) {
  CleanUp done;
  TRY(check_owner(), "clean up");
  for (const auto& entry : TRY_PLAIN(store_.list(keys::all_repositories))) {
    const auto repository = entry.key.substr(keys::all_repositories.size());
    if (options.untagged) TRY(sweep_manifests(repository, options, done), concat("clean up repository ", repository));
    TRY(sweep_links(repository, options, done), concat("clean up repository ", repository));
  }
  TRY(mirror_leftovers(), "bring records to the storage");
  TRY(sweep_blobs(options, done), "clean up blobs");
  std::lock_guard lock(mutex_);
  std::erase_if(touched_, [&](const auto& item) { return now_ns() - item.second >= options.grace_ns; });
  return done;
}

}  // namespace caisson::registry
