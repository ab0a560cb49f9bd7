// Room for what is to come: who needs nothing any more gives way, in an order, and only as far as it has to.
#include <set>

#include "base/strings.hpp"
#include "image/local_image_store.hpp"

namespace caisson::image {

Status LocalImageStore::open() {
  return content_->begin_account(options_.quota_bytes, [this](const std::function<bool()>& is_enough) { return make_room(is_enough); });
}

void LocalImageStore::when_full(std::function<Result<bool>()> release_one) {
  std::lock_guard lock(release_mutex_);
  release_one_ = std::move(release_one);
}

Result<std::size_t> LocalImageStore::remove_unreferenced(const std::vector<ImageRecord>& images) {
  std::set<Digest> blobs;
  std::set<Digest> layers;
  for (const auto& image : images) {
    blobs.insert(image.id);
    blobs.insert(image.manifest);
    if (image.packages) blobs.insert(*image.packages);
    for (const auto& layer : image.layers) {
      blobs.insert(layer.blob);
      layers.insert(layer.diff_id);
    }
  }
  std::size_t removed = 0;
  for (const auto& blob : TRY_PLAIN(content_->list_blobs()))
    if (blobs.count(blob) == 0 && TRY_PLAIN(content_->discard_blob(blob))) ++removed;
  for (const auto& layer : TRY_PLAIN(content_->list_layers()))
    if (layers.count(layer) == 0 && TRY_PLAIN(content_->discard_layer(layer))) ++removed;
  TRY_PLAIN(forms_.keep_only(TRY_PLAIN(content_->list_layers())));
  TRY_PLAIN(content_->empty_trash());
  return removed;
}

/// Garbage costs nobody anything, a download that was given up a second download, the build cache building once more. Images go by `rm` and `prune` only.
Status LocalImageStore::make_room(const std::function<bool()>& is_enough) {
  {
    // As in remove(): whoever is about to use something that no record names yet holds a pin on it until after the commit, and commits wait for this lock.
    std::lock_guard lock(records_mutex_);
    const auto listing = TRY_PLAIN(records_.list());
    if (listing.unreadable.empty()) TRY_PLAIN(remove_unreferenced(listing.images));
  }
  if (is_enough()) return {};
  TRY_PLAIN(content_->free_partials(is_enough));
  std::lock_guard lock(release_mutex_);
  while (release_one_ && !is_enough())
    if (!TRY_PLAIN(release_one_())) break;
  return {};
}

}  // namespace caisson::image
