// remove: untag, and delete when the last name is gone; docker's rules and words.
#include <algorithm>
#include <cerrno>
#include <set>

#include "base/strings.hpp"
#include "image/local_image_store.hpp"

namespace caisson::image {

namespace {

std::string familiar_of(const std::string& canonical) {
  auto reference = parse_reference(canonical);
  return reference.ok() ? reference->familiar() : canonical;
}

/// Docker's "single reference": at most one tag, and nothing of another repository.
bool is_single_reference(const std::vector<NameRecord>& names) {
  std::set<std::string> repositories;
  std::size_t tags = 0;
  for (const auto& name : names) {
    auto reference = parse_reference(name.reference);
    if (!reference.ok()) continue;
    repositories.insert(reference->familiar_name());
    tags += reference->digest ? 0U : 1U;
  }
  return tags <= 1 && repositories.size() <= 1;
}

/// Canonical names by digest of `removed`'s repository, when no other tag of it names the image.
std::vector<std::string> digests_without_tag(const std::vector<NameRecord>& names, const Reference& removed) {
  std::vector<std::string> digests;
  for (const auto& name : names) {
    auto reference = parse_reference(name.reference);
    if (!reference.ok() || reference->repository() != removed.repository() || name.reference == removed.canonical()) continue;
    if (!reference->digest) return {};
    if (!removed.digest) digests.push_back(name.reference);
  }
  return digests;
}

/// "running container X" → "container X": docker's sentence about a name does not tell the state.
std::string_view without_state(std::string_view user) {
  for (std::string_view state : {"running ", "stopped "})
    if (user.starts_with(state)) return user.substr(state.size());
  return user;
}

Error delete_conflict(const Digest& id, bool can_be_forced, std::string_view reason) {
  return {ErrorKind::conflict, concat("conflict: unable to delete ", short_id(id), can_be_forced ? " (must be forced) - " : " (cannot be forced) - ", reason)};
}

}  // namespace

Result<RemovedImage> LocalImageStore::remove(const std::string& name, bool force,
                                             const std::function<std::optional<std::string>(const Digest&)>& is_in_use) {
  ImageRecord record;
  RemovedImage out;
  {
    std::lock_guard lock(records_mutex_);
    record = TRY_PLAIN(find_record(name));
    auto names = TRY_PLAIN(records_.names_of(record.id));
    auto user = is_in_use ? is_in_use(record.id) : std::nullopt;
    auto hex = std::string_view(name).substr(name.starts_with("sha256:") ? 7 : 0);
    auto reference = parse_reference(name);
    bool is_by_name = reference.ok() && TRY_PLAIN(records_.find_name(reference->canonical())).has_value();
    bool is_by_id = !is_by_name && record.id.hex().starts_with(hex);
    std::vector<std::string> dropped;
    bool keeps_image = false;
    if (is_by_name) {
      // The digests under which a repository was pulled go with its last tag (docker's rule).
      dropped = digests_without_tag(names, *reference);
      bool is_last = names.size() == 1 + dropped.size();
      if (is_last && !force && user)
        return Error(ErrorKind::conflict, concat("conflict: unable to remove repository reference \"", name, "\" (must force) - ", without_state(*user),
                                                 " is using its referenced image ", short_id(record.id)));
      dropped.insert(dropped.begin(), reference->canonical());
      keeps_image = !is_last || user.has_value();  // forced away from under a container: the image stays, without a name
    } else if (is_by_id) {
      if (!is_single_reference(names) && !force) return delete_conflict(record.id, true, "image is referenced in multiple repositories");
      if (user) return delete_conflict(record.id, false, concat("image is being used by ", *user));
      for (const auto& known : names) dropped.push_back(known.reference);
    } else {
      // name@digest of an image that is only known by its tags
      return Error(ErrorKind::not_found, concat("No such image: ", name));
    }
    state::Transaction transaction;
    transaction.durable = transaction.frees = true;
    for (const auto& canonical : dropped) {
      ImageRecords::erase_name(transaction, canonical);
      out.untagged.push_back(familiar_of(canonical));
    }
    if (!keeps_image) {
      ImageRecords::erase(transaction, record.id);
      TrustGate::erase(transaction, record.id);
    }
    // The index first: after a crash between the two, the record still stands, and nothing removed comes back.
    Without without;
    without.names = dropped;
    if (!keeps_image) without.image = record.id;
    auto written = write_layout_index(without);
    if (!written.ok() && written.error().error_number() == ENOSPC && store_.release_reserve()) written = write_layout_index(without);
    TRY(std::move(written), concat("remove image ", name));
    TRY(store_.commit(transaction), concat("remove image ", name));
    if (keeps_image) return out;
    out.deleted.push_back(record.id.text());
    TRY(collect_garbage(record, out), concat("remove image ", name));
  }
  TRY(forget_coming(record), concat("remove image ", name));
  TRY(content_->empty_trash(), concat("remove image ", name));
  return out;
}

/// What `removed` used and no other image uses any more. Under records_mutex_: whoever is about to use one of these again
/// holds a pin on it until after the commit, and commits wait for this lock.
Status LocalImageStore::collect_garbage(const ImageRecord& removed, RemovedImage& out) {
  std::set<Digest> blobs;
  std::set<Digest> layers;
  for (const auto& image : TRY_PLAIN(records_.list()).images) {
    blobs.insert(image.id);
    blobs.insert(image.manifest);
    if (image.packages) blobs.insert(*image.packages);
    for (const auto& layer : image.layers) {
      blobs.insert(layer.blob);
      layers.insert(layer.diff_id);
    }
  }
  std::vector<Digest> old_blobs{removed.id, removed.manifest};
  if (removed.packages) old_blobs.push_back(*removed.packages);
  std::vector<Digest> gone;
  for (auto layer = removed.layers.rbegin(); layer != removed.layers.rend(); ++layer) {
    old_blobs.push_back(layer->blob);
    if (layers.count(layer->diff_id) != 0) continue;
    if (!TRY_PLAIN(content_->discard_layer(layer->diff_id))) continue;
    out.deleted.push_back(layer->diff_id.text());
    gone.push_back(layer->diff_id);
  }
  TRY_PLAIN(forms_.forget(gone));
  for (const auto& blob : old_blobs)
    if (blobs.count(blob) == 0) TRY_PLAIN(content_->discard_blob(blob));
  return {};
}

}  // namespace caisson::image
