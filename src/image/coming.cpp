// Images that may be used before they are here: pull --lazy, and the thread that brings the rest of them.
#include "image/coming.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "image/local_image_store.hpp"
#include "image/registries.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

constexpr std::int64_t second_ns = 1'000'000'000;
/// Whoever waits for a file goes first: the rest comes when nobody has asked for so long, or after the patience has ended.
constexpr std::int64_t quiet_ns = second_ns;
constexpr std::int64_t patience_ns = 10 * second_ns;
constexpr int look_again_ms = 200;
/// A container that is being started may be about to use a stand-in's folder.
constexpr int retire_after_ms = 60'000;
constexpr int first_pause_ms = 1'000;
constexpr int longest_pause_ms = 300'000;
constexpr unsigned most_corrupt = 3;  // a line may spoil a layer; one that comes wrong again and again was wrong when it was pushed

bool is_cancelled(const Error& error) { return error.error_number() == ECANCELED; }

}  // namespace

bool LocalImageStore::ComingImage::wait(int milliseconds) const { return !linux::wait_readable(stop.get(), milliseconds).value_or(true); }

LocalImageStore::~LocalImageStore() {
  std::vector<std::unique_ptr<ComingImage>> all;
  {
    std::lock_guard lock(coming_mutex_);
    for (auto& [id, coming] : coming_) all.push_back(std::move(coming));
    coming_.clear();
  }
  for (const auto& coming : all) ignore(linux::eventfd_signal(coming->stop.get()));
  for (const auto& coming : all) coming->thread.join();
}

Result<std::optional<Image>> LocalImageStore::pull_lazily(RegistrySession& session, BegunPull& begun, const PullRequest& request, const ProgressSink& progress, const Cancel& cancel) {
  const auto whose = concat("image ", begun.reference.familiar());
  if (form_ != SnapshotForm::erofs) {
    tell(progress, "", "Layers come as a whole: this store keeps them as directories, and only EROFS indexes can be shown before their contents are here");
    return std::optional<Image>();
  }
  const auto count = begun.layers.size();
  std::vector<bool> is_lazy(count, false);
  std::vector<std::optional<FetchedToc>> tocs(count);
  std::vector<PulledLayer> whole;
  std::vector<PulledLayer> rest;
  auto comes_whole = [&](std::size_t i, const Error& why) { tell(progress, short_id(begun.layers[i].blob.digest), concat("Comes as a whole: ", why.text())); };
  for (std::size_t i = 0; i < count; ++i) {
    const auto& layer = begun.layers[i];
    const bool is_repeated = std::any_of(begun.layers.begin(), begun.layers.begin() + static_cast<std::ptrdiff_t>(i), [&](const PulledLayer& other) { return other.diff_id == layer.diff_id; });
    if (is_repeated) continue;
    const bool is_here = TRY_PLAIN(content_->has_layer(layer.diff_id)) || TRY_PLAIN(content_->has_blob(layer.blob.digest));
    if (!is_here && !stand_ins_.has(layer.diff_id)) {
      auto toc = StandIns::fetch_toc(session, layer.blob, cancel);
      if (!toc.ok() && is_cancelled(toc.error())) return std::move(toc).error();
      if (toc.ok()) tocs[i] = std::move(*toc);
      else comes_whole(i, toc.error());
    }
    is_lazy[i] = !is_here && (tocs[i] || stand_ins_.has(layer.diff_id));
    (is_lazy[i] ? rest : whole).push_back(layer);
  }
  if (rest.empty()) return std::optional<Image>();
  // The room for what comes later is kept now: a refusal belongs to the pull.
  TRY(reserve_blobs(rest), whose);
  TRY_PLAIN(pull_layers(session, whose, whole, progress, cancel));
  std::vector<Digest> below;  // topmost first
  std::size_t lazy = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto& layer = begun.layers[i];
    if (is_lazy[i]) {
      stand_ins_.remember(layer.diff_id, request.credentials);
      Status made;
      if (tocs[i]) made = stand_ins_.make({layer.diff_id, layer.blob, begun.reference}, *tocs[i], [&] { return folders_of(below); }, cancel);
      auto opened = made.ok() ? stand_ins_.open(layer.diff_id) : Result<std::string>(std::move(made).error());
      if (!opened.ok()) {
        if (is_cancelled(opened.error())) return std::move(opened).error();
        comes_whole(i, opened.error());
        TRY_PLAIN(stand_ins_.retire(layer.diff_id));
        TRY_PLAIN(pull_layers(session, whose, {layer}, progress, cancel));
      } else {
        tell(progress, short_id(layer.blob.digest), "Comes lazily");
        ++lazy;
      }
    }
    below.insert(below.begin(), layer.diff_id);
  }
  if (lazy == 0) return std::optional<Image>();
  const auto id = begun.image.record.id;
  begun.image.record.coming = ComingRecord{begun.reference.canonical(), "", false};
  auto image = TRY_PLAIN(finish_pull(begun, concat("Can be used, while ", lazy, lazy == 1 ? " layer is" : " layers are", " still coming: "), progress));
  go_on_with(id, request.credentials, std::move(rest));
  return std::optional(std::move(image));
}

void LocalImageStore::go_on_with(const Digest& id, const RegistryCredentials& credentials, std::vector<PulledLayer> layers) {
  stop_coming(id);
  auto coming = std::make_unique<ComingImage>();
  coming->id = id;
  coming->credentials = credentials;
  coming->layers = std::move(layers);
  auto stop = linux::eventfd();
  if (!stop.ok()) return log_error("go on with a lazy pull", concat("image ", short_id(id)), stop.error());
  coming->stop = std::move(*stop);
  std::lock_guard lock(coming_mutex_);
  auto& place = coming_[id];
  place = std::move(coming);
  place->thread = std::thread([this, borrowed = place.get()] { bring(*borrowed); });
}

void LocalImageStore::stop_coming(const Digest& id) {
  std::unique_ptr<ComingImage> coming;
  {
    std::lock_guard lock(coming_mutex_);
    auto found = coming_.find(id);
    if (found == coming_.end()) return;
    coming = std::move(found->second);
    coming_.erase(found);
  }
  ignore(linux::eventfd_signal(coming->stop.get()));
  coming->thread.join();
}

void LocalImageStore::bring(ComingImage& coming) {
  const auto object = concat("image ", short_id(coming.id));
  auto record = records_.find(coming.id);
  if (!record.ok()) return log_error("go on with a lazy pull", object, record.error());
  if (!*record) return;
  unsigned corrupt = 0;
  for (int pause_ms = first_pause_ms;; pause_ms = std::min(2 * pause_ms, longest_pause_ms)) {
    auto brought = bring_once(coming);
    if (brought.ok()) break;
    if (is_cancelled(brought.error()) || !coming.wait(0)) return;
    log_error(coming.is_lie ? "compare a layer with what its table of contents had promised" : "go on with a lazy pull", object, brought.error());
    if (brought.error().kind() == ErrorKind::corrupt && ++corrupt == most_corrupt) coming.is_lie = true;
    for (;;) {
      auto noted = note_trouble(coming, brought.error());
      if (!noted.ok()) log_error("go on with a lazy pull", object, noted.error());
      if (coming.is_lie && noted.ok()) return;
      if (!coming.wait(pause_ms)) return;
      if (!coming.is_lie) break;  // else it has to be remembered for the next start of this engine, however long that takes
    }
  }
  coming.layers.clear();
  log(LogLevel::info, "a lazy pull", object, "is complete");
  if (!coming.wait(retire_after_ms)) return;
  if (auto retired = retire_stand_ins(**record); !retired.ok()) log_error("take stand-ins of layers away", object, retired.error());
}

Status LocalImageStore::bring_once(ComingImage& coming) {
  const Cancel cancel{coming.stop.get()};
  auto record = TRY_PLAIN(records_.find(coming.id));
  if (!record || !record->coming) return {};
  if (options_.registries == nullptr) return Error(ErrorKind::unsupported, "this engine was set up without registries");
  const auto reference = TRY_PLAIN(parse_reference(record->coming->reference));
  const auto whose = concat("image ", reference.familiar());
  Pins pins(*content_);
  for (const auto& layer : record->layers) {
    pins.add_blob(layer.blob);
    pins.add_layer(layer.diff_id);
  }
  std::unique_ptr<RegistrySession> session;
  for (const auto& layer : record->layers) {
    if (TRY_PLAIN(content_->has_layer(layer.diff_id)) && TRY_PLAIN(content_->has_blob(layer.blob))) continue;
    const auto begun_ns = monotonic_ns();
    while (monotonic_ns() - stand_ins_.last_request_ns() < quiet_ns && monotonic_ns() - begun_ns < patience_ns)
      if (!coming.wait(look_again_ms)) return Error(ErrorKind::unavailable, "cancelled", ECANCELED);
    if (!session) session = TRY_PLAIN(options_.registries->open(reference, "pull", coming.credentials));
    Descriptor blob;
    blob.media_type = layer.media_type;
    blob.digest = layer.blob;
    blob.size_bytes = layer.blob_bytes;
    // One at a time: what containers read comes over the same line.
    TRY_PLAIN(pull_layers(*session, whose, {PulledLayer{std::move(blob), layer.diff_id, nullptr}}, {}, cancel));
  }
  for (const auto& layer : record->layers) {
    if (!stand_ins_.has(layer.diff_id)) continue;
    auto blob = TRY_PLAIN(linux::open(content_->blob_path(layer.blob), O_RDONLY | O_NOFOLLOW));
    auto compared = stand_ins_.compare(layer.diff_id, blob.get(), cancel);
    coming.is_lie = !compared.ok() && compared.error().kind() == ErrorKind::corrupt;
    if (!compared.ok()) return std::move(compared).error().in(whose);
  }
  return settle_coming(coming);
}

/// All is here: from now on it is an image like any other.
Status LocalImageStore::settle_coming(ComingImage& coming) {
  auto record = TRY_PLAIN(records_.find(coming.id));
  if (!record || !record->coming) return {};
  TRY_PLAIN(settle(*record));
  TRY_PLAIN(content_->sync());
  std::lock_guard lock(records_mutex_);
  record = TRY_PLAIN(records_.find(coming.id));
  if (!record || !record->coming) return {};  // it was removed, or pulled otherwise meanwhile
  record->coming.reset();
  state::Transaction transaction;
  transaction.durable = true;
  ImageRecords::put(transaction, *record);
  TRY(store_.commit(transaction), "record images");
  return write_layout_index();
}

Status LocalImageStore::note_trouble(ComingImage& coming, const Error& error) {
  std::lock_guard lock(records_mutex_);
  auto record = TRY_PLAIN(records_.find(coming.id));
  if (!record || !record->coming) return {};
  record->coming->trouble = error.text();
  record->coming->is_refused = coming.is_lie;
  {
    std::lock_guard told_lock(coming_mutex_);
    coming.told = record->coming;
  }
  state::Transaction transaction;
  transaction.durable = coming.is_lie;
  ImageRecords::put(transaction, *record);
  TRY(store_.commit(transaction), "record images");
  return {};
}

/// Of an image that was pulled whole nothing is to be forgotten.
Status LocalImageStore::forget_coming(const ImageRecord& removed) {
  const bool has_stand_ins = std::any_of(removed.layers.begin(), removed.layers.end(), [&](const LayerRecord& layer) { return stand_ins_.has(layer.diff_id); });
  if (!removed.coming && !has_stand_ins) return {};
  stop_coming(removed.id);
  TRY_PLAIN(retire_stand_ins(removed));
  for (const auto& layer : removed.layers) {
    auto held = download_locks_.lock(layer.blob.text());
    if (!content_->is_pinned(layer.blob)) TRY_PLAIN(content_->discard_partial(layer.blob));
  }
  // What was pinned when the record went.
  std::lock_guard lock(records_mutex_);
  RemovedImage out;
  return collect_garbage(removed, out);
}

/// Those that no other image on its way needs.
Status LocalImageStore::retire_stand_ins(const ImageRecord& record) {
  std::lock_guard lock(records_mutex_);
  std::set<Digest> needed;
  for (const auto& other : TRY_PLAIN(records_.list()).images)
    for (const auto& layer : other.layers)
      if (other.coming) needed.insert(layer.diff_id);
  for (const auto& layer : record.layers)
    if (needed.count(layer.diff_id) == 0 && stand_ins_.has(layer.diff_id)) TRY_PLAIN(stand_ins_.retire(layer.diff_id));
  return {};
}

std::optional<ComingRecord> LocalImageStore::coming_now(const ImageRecord& record) {
  if (!record.coming) return {};
  std::lock_guard lock(coming_mutex_);
  const auto found = coming_.find(record.id);
  return found != coming_.end() && found->second->told ? found->second->told : record.coming;
}

std::optional<Coming> LocalImageStore::coming_of(const ImageRecord& record) {
  const auto now = coming_now(record);
  if (!now) return {};
  Coming out;
  out.layers = record.layers.size();
  for (const auto& layer : record.layers) out.layers_here += content_->has_layer(layer.diff_id).value_or(false) ? 1U : 0U;
  out.trouble = now->trouble;
  out.is_refused = now->is_refused;
  return out;
}

namespace {

Status refuse(const Digest& id, const Coming& coming) {
  return Error(ErrorKind::corrupt, concat("image ", short_id(id), " is not what it was said to be when it was pulled lazily: ", coming.trouble))
      .with_hint("remove it, or pull it without --lazy: then what is used is what its digests say");
}

Status check_is_here(const Digest& id, const std::optional<Coming>& coming) {
  if (!coming) return {};
  if (coming->is_refused) return refuse(id, *coming);
  return Error(ErrorKind::conflict, concat("image ", short_id(id), " is still coming: ", coming->layers_here, " of its ", coming->layers, " layers are here",
                                           coming->trouble.empty() ? "" : "; ", coming->trouble))
      .with_hint("it was pulled with --lazy; wait until it is here, or pull it without");
}

}  // namespace

Status LocalImageStore::refuse_liars(const ImageRecord& record) {
  const auto now = coming_now(record);
  if (!now || !now->is_refused) return {};
  return refuse(record.id, Coming{0, 0, now->trouble, true});
}

Status LocalImageStore::must_be_here(const ImageRecord& record) { return check_is_here(record.id, coming_of(record)); }

Status must_be_here(const Image& image) { return check_is_here(image.id, image.coming); }

}  // namespace caisson::image
