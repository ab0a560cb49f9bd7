// recover: after a crash, remove leftovers, find what is missing, and rebuild what can be rebuilt.
#include <algorithm>

#include "base/strings.hpp"
#include "image/local_image_store.hpp"

namespace caisson::image {

namespace {
constexpr std::int64_t partial_keep_ns = std::int64_t{7} * 24 * 3600 * 1'000'000'000;
}

Result<std::vector<std::string>> LocalImageStore::recover() {
  std::vector<std::string> repairs;
  TRY(content_->detach_layers(), "recover images");
  auto leftovers = TRY(content_->clear_staging(), "recover images");
  if (leftovers > 0) repairs.push_back(concat("removed what ", leftovers, leftovers == 1 ? " interrupted image operation" : " interrupted image operations", " had left behind"));
  auto stale = TRY(content_->remove_stale_partials(partial_keep_ns), "recover images");
  if (stale > 0) repairs.push_back(concat("removed ", stale, " unfinished downloads that nobody had gone on with for a week"));
  auto listing = TRY(records_.list(), "recover images");
  for (const auto& text : listing.unreadable) repairs.push_back(concat("image ", text));
  auto lost = TRY(find_lost_images(listing.images, repairs), "recover images");
  if (!lost.empty()) {
    for (const auto& image : lost) TRY(repair_image(image.record, repairs), "recover images");
    TRY(record_images(lost), "recover images");
    for (const auto& image : lost) listing.images.push_back(image.record);
  }
  std::vector<ImageRecord> images;
  std::vector<Digest> coming;
  for (const auto& record : listing.images)
    for (const auto& layer : record.layers)
      if (record.coming) coming.push_back(layer.diff_id);
  TRY(stand_ins_.recover(coming), "recover images");
  for (const auto& record : listing.images) {
    TRY(repair_image(record, repairs), "recover images");
    images.push_back(record);
  }
  state::Transaction transaction;
  for (const auto& name : TRY(records_.names(), "recover images")) {
    bool is_known = std::any_of(images.begin(), images.end(), [&](const ImageRecord& image) { return image.id == name.id; });
    if (is_known) continue;
    repairs.push_back(concat("image name ", name.reference, " pointed at an image that does not exist (", short_id(name.id), ") and was removed"));
    ImageRecords::erase_name(transaction, name.reference);
  }
  if (!transaction.writes.empty()) TRY(store_.commit(transaction), "recover images");
  TRY(write_layout_index(), "recover images");
  // An unreadable record may need any blob: then nothing is called garbage.
  const auto removed = listing.unreadable.empty() ? TRY(remove_unreferenced(images), "recover images") : 0;
  if (removed > 0) repairs.push_back(concat("removed ", removed, " blobs and layers that belonged to no image"));
  for (const auto& record : images) {
    if (!record.coming || record.coming->is_refused) continue;
    go_on_with(record.id, {}, {});
    repairs.push_back(concat("image ", short_id(record.id), ": the layers that are still coming are gone on with"));
  }
  return repairs;
}

/// A missing layer is unpacked again from its blob; a missing blob can only be reported.
Status LocalImageStore::repair_image(const ImageRecord& record, std::vector<std::string>& repairs) {
  auto shown = short_id(record.id);
  for (const auto& blob : {record.id, record.manifest})
    if (!TRY_PLAIN(content_->has_blob(blob))) repairs.push_back(concat("image ", shown, ": blob ", blob.text(), " is missing; load or pull the image again"));
  bool was_rebuilt = false;
  for (const auto& layer : record.layers) {
    bool has_layer = TRY_PLAIN(content_->has_layer(layer.diff_id));
    bool has_blob = TRY_PLAIN(content_->has_blob(layer.blob));
    if (has_layer && !has_blob) repairs.push_back(concat("image ", shown, ": blob ", layer.blob.text(), " is missing; the image runs, but cannot be saved"));
    if (has_layer) continue;
    if (record.coming && stand_ins_.has(layer.diff_id)) continue;
    if (!has_blob) {
      repairs.push_back(concat("image ", shown, ": layer ", layer.diff_id.text(), " is missing; load or pull the image again"));
      continue;
    }
    was_rebuilt = true;
    auto rebuilt = ensure_layer({layer.diff_id, layer.blob, content_->blob_path(layer.blob), layer.blob_bytes}, {}, {});
    repairs.push_back(rebuilt.ok() ? concat("image ", shown, ": layer ", layer.diff_id.text(), " was missing and was unpacked again")
                                   : concat("image ", shown, ": layer ", layer.diff_id.text(), " is missing and could not be unpacked again: ", rebuilt.error().text()));
  }
  if (!was_rebuilt) return {};
  if (auto settled = settle(record); !settled.ok()) repairs.push_back(concat("image ", shown, ": ", settled.error().text()));
  return content_->sync();
}

}  // namespace caisson::image
