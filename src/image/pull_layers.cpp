// Layers over the network: several at a time, each in one pass from the socket to files, each gone on with where it stopped.
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>

#include "base/strings.hpp"
#include "image/blob_feeder.hpp"
#include "image/local_image_store.hpp"
#include "image/registries.hpp"
#include "image/side_by_side.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

/// docker names layers by the digest of what travels.
void tell(const ProgressSink& progress, const Digest& blob, const char* status, std::uint64_t current = 0, std::uint64_t total = 0) {
  image::tell(progress, short_id(blob), status, current, total);
}

/// A partial file counts as it is whenever nobody writes to it any more.
class CountedDownload {
 public:
  CountedDownload(ContentStore& content, const Digest& digest, Reservation* room) : content_(content), digest_(digest), room_(room) {}
  CountedDownload(const CountedDownload&) = delete;
  CountedDownload& operator=(const CountedDownload&) = delete;
  ~CountedDownload() { ignore(content_.count_partial(digest_, room_)); }  // fails where the disk cannot be read, which the download itself has said

 private:
  ContentStore& content_;
  const Digest& digest_;
  Reservation* room_;
};

Error wrong_digest(const Digest& wanted, const Digest& got) {
  return {ErrorKind::corrupt, concat("the registry sent something else than ", wanted.text(), ": it has the digest ", got.text())};
}

}  // namespace

Status LocalImageStore::reserve_blobs(std::span<PulledLayer> layers) {
  std::lock_guard lock(rooms_mutex_);
  std::erase_if(rooms_, [](const auto& entry) { return entry.second.expired(); });
  struct Share {
    DownloadRoom* room;
    std::uint64_t blob_bytes;
    std::uint64_t layer_bytes;
  };
  std::vector<Share> shares;
  std::uint64_t sum = 0;
  for (auto& layer : layers) {
    if (TRY_PLAIN(content_->has_blob(layer.blob.digest))) continue;
    auto& known = rooms_[layer.blob.digest];
    layer.room = known.lock();
    if (layer.room) continue;
    known = layer.room = std::make_shared<DownloadRoom>();
    const auto needed = disk_bytes_for(layer.blob.size_bytes);
    const auto is_here = TRY_PLAIN(disk_bytes_of(content_->partial_path(layer.blob.digest)));
    const bool has_layer = TRY_PLAIN(content_->has_layer(layer.diff_id));
    shares.push_back({layer.room.get(), needed - std::min(needed, is_here), has_layer ? 0 : needed});
    sum += shares.back().blob_bytes + shares.back().layer_bytes;
  }
  auto whole = TRY_PLAIN(content_->account().reserve(sum));
  for (const auto& share : shares) {
    share.room->blob = whole.split(share.blob_bytes);
    share.room->layer = whole.split(share.layer_bytes);
  }
  return {};
}

/// What runs when one fails is kept as far as it gets.
Status LocalImageStore::pull_layers(RegistrySession& session, const std::string& whose, const std::vector<PulledLayer>& layers, const ProgressSink& progress, const Cancel& cancel) {
  std::mutex mutex;
  ProgressSink serial = [&](const Progress& line) {
    std::lock_guard lock(mutex);
    if (progress) progress(line);
  };
  // Every layer once, though an image may hold the same one twice.
  std::vector<PulledLayer> todo;
  for (const auto& layer : layers)
    if (std::none_of(todo.begin(), todo.end(), [&](const PulledLayer& other) { return other.blob.digest == layer.blob.digest && other.diff_id == layer.diff_id; }))
      todo.push_back(layer);
  TRY(reserve_blobs(todo), whose);
  for (const auto& layer : todo) tell(serial, layer.blob.digest, "Pulling fs layer");
  auto done = side_by_side(todo.size(), std::max(1U, options_.registries->options().concurrent_downloads), [&](std::size_t index) { return pull_layer(session, todo[index], serial, cancel); });
  if (!done.ok() && done.error().error_number() == EDQUOT) return std::move(done).error().in(whose);
  return done;
}

Status LocalImageStore::pull_layer(RegistrySession& session, const PulledLayer& layer, const ProgressSink& progress, const Cancel& cancel) {
  const auto step = concat("layer ", layer.blob.digest.text());
  auto held = download_locks_.lock(layer.blob.digest.text());
  const CountedDownload counted(*content_, layer.blob.digest, layer.blob_room());
  const bool has_layer = TRY(content_->has_layer(layer.diff_id), step);
  const bool has_blob = TRY(content_->has_blob(layer.blob.digest), step);
  if (has_layer && has_blob) {
    tell(progress, layer.blob.digest, "Already exists");
    return {};
  }
  if (has_blob) return ensure_layer({layer.diff_id, layer.blob.digest, content_->blob_path(layer.blob.digest), layer.blob.size_bytes}, progress, cancel);
  if (has_layer) {
    TRY(pull_blob(session, layer, progress, cancel), step);
  } else {
    TRY(pull_and_unpack(session, layer, progress, cancel), step);
  }
  tell(progress, layer.blob.digest, "Pull complete");
  return {};
}

Status LocalImageStore::pull_blob(RegistrySession& session, const PulledLayer& layer, const ProgressSink& progress, const Cancel& cancel) {
  const auto& blob = layer.blob;
  const auto path = content_->partial_path(blob.digest);
  for (bool is_retry : {false, true}) {
    auto file = TRY_PLAIN(linux::open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
    const auto offset = TRY_PLAIN(usable_bytes(file.get(), blob.size_bytes));
    if (offset < blob.size_bytes) {
      FetchRequest request;
      request.task = FetchTask::blob;
      request.name = blob.digest.text();
      request.offset = offset;
      request.size_bytes = blob.size_bytes;
      auto on_progress = [&](std::uint64_t bytes) { tell(progress, blob.digest, "Downloading", bytes, blob.size_bytes); };
      auto reply = TRY_PLAIN(session.call(std::move(request), file.get(), on_progress, std::array{cancel.fd}));
      if (!reply.ok) return error_of(reply);
    }
    tell(progress, blob.digest, "Verifying Checksum");
    auto got = TRY_PLAIN(digest_of_file(file.get(), blob.digest.kind()));
    if (got == blob.digest) break;
    TRY_PLAIN(linux::unlink(path));
    // What an earlier attempt had left may have been damaged: once more, from the start.
    if (offset == 0 || is_retry) return wrong_digest(blob.digest, got);
  }
  tell(progress, blob.digest, "Download complete");
  return content_->adopt_blob(path, blob.digest, layer.blob_room());
}

Status LocalImageStore::pull_and_unpack(RegistrySession& session, const PulledLayer& layer, const ProgressSink& progress, const Cancel& cancel) {
  const auto& blob = layer.blob;
  const auto path = content_->partial_path(blob.digest);
  for (bool is_retry : {false, true}) {
    std::atomic<bool> is_downloaded = false;
    BlobFeeder::Source source;
    source.path = path;
    source.digest = blob.digest;
    source.size_bytes = blob.size_bytes;
    auto feeder = TRY_PLAIN(BlobFeeder::start(session, std::move(source), cancel, [&](std::uint64_t bytes) {
      if (bytes < blob.size_bytes) return tell(progress, blob.digest, "Downloading", bytes, blob.size_bytes);
      tell(progress, blob.digest, "Verifying Checksum");
      tell(progress, blob.digest, "Download complete");
      is_downloaded = true;
    }));
    UnpackSource from;
    from.fd = feeder->read_end();
    from.total_bytes = blob.size_bytes;
    from.progress_id = short_id(blob.digest);
    from.progress_status = "Extracting";
    from.input_algorithm = blob.digest.kind();
    from.decoded_algorithm = layer.diff_id.kind();
    from.room = layer.room ? &layer.room->layer : nullptr;
    // Until all is here, the bar is the download's.
    auto archive = unpack(from, [&](const Progress& line) { if (is_downloaded && progress) progress(line); }, cancel);
    const bool was_resumed = feeder->was_resumed();
    // A download that failed cuts the archive short: its error is the reason, the worker's only the consequence.
    auto downloaded = feeder->finish();
    if (!downloaded.ok() && !feeder->was_stopped()) return std::move(downloaded).error();
    if (archive.ok() && archive->blob == blob.digest && archive->diff_id == layer.diff_id) {
      TRY_PLAIN(content_->adopt_blob(path, blob.digest, layer.blob_room()));
      tell(progress, blob.digest, "Extracting", blob.size_bytes, blob.size_bytes);
      auto held = layer_locks_.lock(layer.diff_id.text());
      return content_->adopt_layer(archive->staging, layer.diff_id, archive->result.layer);
    }
    if (archive.ok() && archive->blob == blob.digest)
      return Error(ErrorKind::corrupt, concat("the archive's content has the digest ", archive->diff_id.text(), ", the image's config says ", layer.diff_id.text()));
    // What was stopped or had no room says nothing about the download, which is gone on with the next time.
    const int reason = archive.ok() ? 0 : archive.error().error_number();
    if (reason == ECANCELED || reason == EDQUOT || reason == ENOSPC) return std::move(archive).error();
    // The archive may be refused because what an earlier attempt had left was damaged: once more, from the start.
    Digest got = archive.ok() ? archive->blob : Digest();
    if (downloaded.ok() && got.empty()) {
      // Whether the sender or the network is to blame shows in the digest, which an unpacker that gave up has not computed.
      auto file = TRY_PLAIN(linux::open(path, O_RDONLY | O_NOFOLLOW));
      got = TRY_PLAIN(digest_of_file(file.get(), blob.digest.kind()));
    }
    if (downloaded.ok() || was_resumed) TRY_PLAIN(discard_partial(path));
    if (was_resumed && !is_retry) continue;
    if (!got.empty() && got != blob.digest) return wrong_digest(blob.digest, got);
    return std::move(archive).error();
  }
  return Error(ErrorKind::internal, "a layer was neither accepted nor refused");
}

}  // namespace caisson::image
