// push: an image's blobs and manifest go to a registry as they are stored, and only those that it lacks.
#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <set>
#include <thread>

#include "base/strings.hpp"
#include "image/local_image_store.hpp"
#include "image/registries.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

constexpr std::size_t concurrent_uploads = 5;  // docker's number
constexpr std::size_t most_mount_sources = 4;

void tell(const ProgressSink& progress, std::string id, std::string status, std::uint64_t current = 0, std::uint64_t total = 0) {
  if (!progress) return;
  Progress line;
  line.id = std::move(id);
  line.status = std::move(status);
  line.current = current;
  line.total = total;
  progress(line);
}

Error push_error(const FetchReply& reply) {
  if (reply.code == "DENIED") return {ErrorKind::denied, reply.text};
  return error_of(reply);
}

}  // namespace

/// Other repositories of the same registry that have the blob, as far as this store's names tell.
Result<std::vector<std::string>> LocalImageStore::mount_sources(const Reference& name, const Digest& blob) {
  std::set<std::string> found;
  for (const auto& known : TRY_PLAIN(records_.names())) {
    auto other = parse_reference(known.reference);
    // Only a name by digest has certainly been there: pull and push record it.
    if (!other.ok() || !other->digest || other->domain != name.domain || other->path == name.path || found.count(other->path) != 0) continue;
    auto record = TRY_PLAIN(records_.find(known.id));
    if (!record) continue;
    bool holds = std::any_of(record->layers.begin(), record->layers.end(), [&](const LayerRecord& layer) { return layer.blob == blob; });
    if (holds) found.insert(other->path);
    if (found.size() == most_mount_sources) break;
  }
  return std::vector<std::string>(found.begin(), found.end());
}

Status LocalImageStore::push_layer(RegistrySession& session, const LayerRecord& layer, const std::vector<std::string>& mount_from, const ProgressSink& progress,
                                   const Cancel& cancel) {
  const auto id = short_id(layer.diff_id);  // what docker shows for pushes
  FetchRequest ask;
  ask.task = FetchTask::has_blob;
  ask.name = layer.blob.text();
  auto there = TRY_PLAIN(session.call(std::move(ask), -1, {}, std::array{cancel.fd}));
  if (!there.ok) return push_error(there);
  if (there.found) {
    tell(progress, id, "Layer already exists");
    return {};
  }
  auto file = TRY_PLAIN(linux::open(content_->blob_path(layer.blob), O_RDONLY));
  FetchRequest request;
  request.task = FetchTask::upload;
  request.name = layer.blob.text();
  request.size_bytes = TRY_PLAIN(content_->blob_size(layer.blob));
  request.mount_from = mount_from;
  const auto total = request.size_bytes;
  auto reply = TRY_PLAIN(session.call(std::move(request), file.get(), [&](std::uint64_t bytes) { tell(progress, id, "Pushing", bytes, total); }, std::array{cancel.fd}));
  if (!reply.ok) return push_error(reply);
  tell(progress, id, reply.mounted_from.empty() ? "Pushed" : concat("Mounted from ", reply.mounted_from));
  return {};
}

Result<PushedTag> LocalImageStore::push_one(RegistrySession& session, const Reference& name, const ImageRecord& record, const ProgressSink& progress, const Cancel& cancel) {
  std::mutex mutex;
  ProgressSink serial = [&](const Progress& line) {
    std::lock_guard lock(mutex);
    if (progress) progress(line);
  };
  std::vector<LayerRecord> layers;
  for (const auto& layer : record.layers)
    if (std::none_of(layers.begin(), layers.end(), [&](const LayerRecord& other) { return other.blob == layer.blob; })) layers.push_back(layer);
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) tell(serial, short_id(layer->diff_id), "Preparing");
  std::optional<Error> failure;
  std::atomic<std::size_t> next = 0;
  auto work = [&] {
    for (;;) {
      auto index = next.fetch_add(1);
      if (index >= layers.size()) return;
      auto push = [&]() -> Status {
        auto sources = TRY_PLAIN(mount_sources(name, layers[index].blob));
        return push_layer(session, layers[index], sources, serial, cancel);
      };
      auto status = push();
      if (status.ok()) continue;
      std::lock_guard lock(mutex);
      if (!failure) failure = std::move(status).error();
      next = layers.size();
    }
  };
  auto count = std::min(layers.size(), concurrent_uploads);
  std::vector<std::thread> others;
  for (std::size_t i = 1; i < count; ++i) others.emplace_back(work);
  work();
  for (auto& thread : others) thread.join();
  if (failure) return std::move(*failure);

  LayerRecord config;
  config.diff_id = config.blob = record.id;
  TRY_PLAIN(push_layer(session, config, {}, {}, cancel));
  FetchRequest request;
  request.task = FetchTask::put_manifest;
  request.name = name.tag;
  request.media_type = record.manifest_type;
  request.body = TRY_PLAIN(content_->read_blob(record.manifest));
  PushedTag pushed{name.tag, record.manifest, request.body.size()};
  auto reply = TRY_PLAIN(session.call(std::move(request), -1, {}, std::array{cancel.fd}));
  if (!reply.ok) return push_error(reply);
  auto said = Digest::parse(reply.digest);
  if (said.ok() && said->kind() == record.manifest.kind() && *said != record.manifest)
    return Error(ErrorKind::corrupt, concat("the registry stored the manifest as ", said->text(), ", not as ", record.manifest.text()));
  return pushed;
}

/// From now on the image is known under that digest, too.
Status LocalImageStore::record_pushed(const Reference& name, const ImageRecord& record) {
  Reference by_digest = name;
  by_digest.tag.clear();
  by_digest.digest = record.manifest;
  state::Transaction transaction;
  ImageRecords::put_name(transaction, by_digest.canonical(), record.id);
  std::lock_guard lock(records_mutex_);
  if (!TRY_PLAIN(records_.find(record.id))) return {};  // it was removed meanwhile
  TRY(store_.commit(transaction), "record the pushed digest");
  return write_layout_index();
}

Result<std::vector<PushedTag>> LocalImageStore::push(const PushRequest& request, const ProgressSink& progress, Cancel cancel) {
  if (options_.registries == nullptr) return Error(ErrorKind::unsupported, "this engine was set up without registries");
  auto reference = TRY_PLAIN(parse_reference(request.reference));
  if (reference.digest) return Error(ErrorKind::invalid, "cannot push a digest reference");
  struct Item {
    Reference name;
    ImageRecord record;
  };
  std::vector<Item> items;
  bool has_other_tags = false;
  Pins pins(*content_);
  {
    // Under the lock: between finding a record and pinning its blobs nobody may collect them.
    std::lock_guard lock(records_mutex_);
    auto add = [&](Reference name, ImageRecord record) {
      pins.add_blob(record.id);
      pins.add_blob(record.manifest);
      for (const auto& layer : record.layers) pins.add_blob(layer.blob);
      items.push_back({std::move(name), std::move(record)});
    };
    if (!request.image.empty()) add(reference, TRY_PLAIN(find_record(request.image)));
    for (const auto& known : request.image.empty() ? TRY_PLAIN(records_.names()) : std::vector<NameRecord>()) {
      auto name = parse_reference(known.reference);
      if (!name.ok() || name->digest || name->repository() != reference.repository()) continue;
      has_other_tags = true;
      if (!request.all_tags && name->tag != reference.tag) continue;
      auto record = TRY_PLAIN(records_.find(known.id));
      if (record) add(std::move(*name), std::move(*record));
    }
  }
  if (items.empty())
    return Error(ErrorKind::not_found, has_other_tags ? concat("tag does not exist: ", reference.familiar())
                                                      : concat("An image does not exist locally with the tag: ", reference.familiar_name()));
  tell(progress, "", concat("The push refers to repository [", reference.repository(), "]"));
  auto session = TRY_PLAIN(options_.registries->open(reference, "pull,push", request.credentials));
  std::vector<PushedTag> pushed;
  for (const auto& item : items) {
    pushed.push_back(TRY_PLAIN(push_one(*session, item.name, item.record, progress, cancel)));
    if (request.image.empty()) TRY_PLAIN(record_pushed(item.name, item.record));
    tell(progress, "", concat(item.name.tag, ": digest: ", pushed.back().digest.text(), " size: ", pushed.back().size_bytes));
  }
  return pushed;
}

}  // namespace caisson::image
