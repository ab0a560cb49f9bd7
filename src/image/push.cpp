// push: an image's blobs and manifest go to a registry as they are stored, and only those that it lacks.
#include <algorithm>
#include <array>
#include <atomic>
#include <optional>
#include <set>
#include <thread>

#include "base/strings.hpp"
#include "image/layer_toc.hpp"
#include "image/local_image_store.hpp"
#include "image/registries.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

constexpr std::size_t concurrent_uploads = 5;  // docker's number
constexpr std::size_t most_mount_sources = 4;

Error push_error(const FetchReply& reply) {
  if (reply.code == "DENIED") return {ErrorKind::denied, reply.text};
  return error_of(reply);
}

}  // namespace

Result<Index> LocalImageStore::platform_index(const std::vector<ImageRecord>& records, const std::vector<std::uint64_t>& manifest_bytes) {
  Index index;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const auto& record = records[i];
    const auto config = TRY(parse_image_config(TRY_PLAIN(content_->read_blob(record.id))), concat("image ", record.id.text()));
    Descriptor entry;
    entry.media_type = record.manifest_type;
    entry.digest = record.manifest;
    entry.size_bytes = manifest_bytes[i];
    entry.platform = Platform{config.os, config.architecture, config.variant};
    for (const auto& other : index.manifests)
      if (other.platform->os == config.os && other.platform->architecture == config.architecture && other.platform->variant == config.variant)
        return Error(ErrorKind::invalid, concat("two images are for ", platform_text(*entry.platform), ": an index has one for each platform"));
    index.manifests.push_back(std::move(entry));
  }
  return index;
}

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

Status LocalImageStore::push_layer(RegistrySession& session, const LayerRecord& layer, const std::string& path, const std::vector<std::string>& mount_from,
                                   const ProgressSink& progress, const Cancel& cancel) {
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
  auto file = TRY_PLAIN(linux::open(path, O_RDONLY | O_NOFOLLOW));
  FetchRequest request;
  request.task = FetchTask::upload;
  request.name = layer.blob.text();
  request.size_bytes = static_cast<std::uint64_t>(TRY_PLAIN(linux::fstat(file.get())).st_size);
  request.mount_from = mount_from;
  const auto total = request.size_bytes;
  auto reply = TRY_PLAIN(session.call(std::move(request), file.get(), [&](std::uint64_t bytes) { tell(progress, id, "Pushing", bytes, total); }, std::array{cancel.fd}));
  if (!reply.ok) return push_error(reply);
  tell(progress, id, reply.mounted_from.empty() ? "Pushed" : concat("Mounted from ", reply.mounted_from));
  return {};
}

Result<PushedTag> LocalImageStore::put_document(RegistrySession& session, const std::string& name, std::string_view media_type, std::string text, const Digest& digest, const Cancel& cancel) {
  PushedTag pushed{name, digest, text.size()};
  FetchRequest request;
  request.task = FetchTask::put_manifest;
  request.name = name;
  request.media_type = media_type;
  request.body = std::move(text);
  auto reply = TRY_PLAIN(session.call(std::move(request), -1, {}, std::array{cancel.fd}));
  if (!reply.ok) return push_error(reply);
  auto said = Digest::parse(reply.digest);
  if (said.ok() && said->kind() == digest.kind() && *said != digest) return Error(ErrorKind::corrupt, concat("the registry stored the manifest as ", said->text(), ", not as ", digest.text()));
  return pushed;
}

Result<PushedTag> LocalImageStore::push_one(RegistrySession& session, const Reference& name, const std::string& under, const Outgoing& image, const ProgressSink& progress,
                                            const Cancel& cancel) {
  const auto& record = image.record;
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
        const auto made = image.files.find(layers[index].blob);
        return push_layer(session, layers[index], made == image.files.end() ? content_->blob_path(layers[index].blob) : made->second, sources, serial, cancel);
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
  TRY_PLAIN(push_layer(session, config, content_->blob_path(record.id), {}, {}, cancel));
  return put_document(session, under, record.manifest_type, image.manifest_text, record.manifest, cancel);
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
  if (!request.compression.empty() && request.compression != to_string(TocFormat::zstd_chunked))
    return Error(ErrorKind::invalid, concat("layers cannot be pushed as \"", request.compression, "\": zstd:chunked is what they can be made to"));
  struct Item {
    Reference name;
    Outgoing image;
  };
  std::vector<Item> items;
  bool has_other_tags = false;
  Pins pins(*content_);
  {
    // Under the lock: between finding a record and pinning its blobs nobody may collect them.
    std::lock_guard lock(records_mutex_);
    auto add = [&](Reference name, ImageRecord record) -> Status {
      TRY_PLAIN(must_be_here(record));
      pins.add_blob(record.id);
      pins.add_blob(record.manifest);
      for (const auto& layer : record.layers) pins.add_blob(layer.blob);
      Item item;
      item.name = std::move(name);
      item.image.record = std::move(record);
      items.push_back(std::move(item));
      return {};
    };
    for (const auto& image : request.images) TRY_PLAIN(add(reference, TRY_PLAIN(find_record(image))));
    for (const auto& known : request.images.empty() ? TRY_PLAIN(records_.names()) : std::vector<NameRecord>()) {
      auto name = parse_reference(known.reference);
      if (!name.ok() || name->digest || name->repository() != reference.repository()) continue;
      has_other_tags = true;
      if (!request.all_tags && name->tag != reference.tag) continue;
      auto record = TRY_PLAIN(records_.find(known.id));
      if (record) TRY_PLAIN(add(std::move(*name), std::move(*record)));
    }
  }
  if (items.empty())
    return Error(ErrorKind::not_found, has_other_tags ? concat("tag does not exist: ", reference.familiar())
                                                      : concat("An image does not exist locally with the tag: ", reference.familiar_name()));
  tell(progress, "", concat("The push refers to repository [", reference.repository(), "]"));
  auto session = TRY_PLAIN(options_.registries->open(reference, "pull,push", request.credentials));
  for (auto& item : items) {
    item.image.manifest_text = TRY_PLAIN(content_->read_blob(item.image.record.manifest));
    if (!request.compression.empty()) TRY_PLAIN(make_chunked(item.image, progress, cancel));
  }
  const bool is_index = request.images.size() > 1;
  Index index;
  if (is_index) {
    std::vector<ImageRecord> records;
    std::vector<std::uint64_t> manifest_bytes;
    for (const auto& item : items) {
      records.push_back(item.image.record);
      manifest_bytes.push_back(item.image.manifest_text.size());
    }
    index = TRY_PLAIN(platform_index(records, manifest_bytes));
  }
  std::vector<PushedTag> pushed;
  auto tell_pushed = [&](PushedTag tag) {
    tell(progress, "", concat(tag.tag, ": digest: ", tag.digest.text(), " size: ", tag.size_bytes));
    pushed.push_back(std::move(tag));
  };
  for (const auto& item : items) {
    auto done = TRY_PLAIN(push_one(*session, item.name, is_index ? item.image.record.manifest.text() : item.name.tag, item.image, progress, cancel));
    // What was made for this push has another digest than what is here.
    if (request.images.empty() && item.image.files.empty()) TRY_PLAIN(record_pushed(item.name, item.image.record));
    if (!is_index) tell_pushed(std::move(done));
  }
  if (is_index) {
    auto text = write_index(index);
    const auto digest = sha256_of(text);
    tell_pushed(TRY_PLAIN(put_document(*session, reference.tag, media_type::oci_index, std::move(text), digest, cancel)));
  }
  return pushed;
}

}  // namespace caisson::image
