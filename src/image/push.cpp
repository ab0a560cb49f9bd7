// push: an image's blobs and manifest go to a registry, only those that it lacks, and layers without compression compressed.
#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "base/strings.hpp"
#include "image/local_image_store.hpp"
#include "image/registries.hpp"
#include "image/side_by_side.hpp"
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

Result<Index> LocalImageStore::platform_index(const std::vector<ImageRecord>& records, const std::vector<std::uint64_t>& manifest_bytes, const IndexAnnotations& annotations) {
  Index index;
  index.annotations = annotations.index;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const auto& record = records[i];
    const auto config = TRY(parse_image_config(TRY_PLAIN(content_->read_blob(record.id))), concat("image ", record.id.text()));
    Descriptor entry;
    entry.media_type = record.manifest_type;
    entry.digest = record.manifest;
    entry.size_bytes = manifest_bytes[i];
    entry.annotations = annotations.manifests;
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
    // Only a name by digest has certainly been there: pull and push record it. In another compression, perhaps: then the registry offers an upload.
    if (!other.ok() || !other->digest || other->domain != name.domain || other->path == name.path || found.count(other->path) != 0) continue;
    auto record = TRY_PLAIN(records_.find(known.id));
    if (!record) continue;
    bool holds = std::any_of(record->layers.begin(), record->layers.end(), [&](const LayerRecord& layer) { return layer.blob == blob; });
    if (holds) found.insert(other->path);
    if (found.size() == most_mount_sources) break;
  }
  return std::vector<std::string>(found.begin(), found.end());
}

Result<bool> LocalImageStore::push_blob(RegistrySession& session, const BlobToPush& blob, const ProgressSink& progress, const Cancel& cancel) {
  FetchRequest ask;
  ask.task = FetchTask::has_blob;
  ask.name = blob.digest.text();
  auto there = TRY_PLAIN(session.call(std::move(ask), -1, {}, std::array{cancel.fd}));
  if (!there.ok) return push_error(there);
  if (there.found) {
    tell(progress, blob.id, "Layer already exists");
    return true;
  }
  if (blob.path.empty() && blob.mount_from.empty()) return false;
  UniqueFd file;
  FetchRequest request;
  request.task = FetchTask::upload;
  request.name = blob.digest.text();
  request.mount_from = blob.mount_from;
  if (!blob.path.empty()) {
    file = TRY_PLAIN(linux::open(blob.path, O_RDONLY | O_NOFOLLOW));
    request.size_bytes = static_cast<std::uint64_t>(TRY_PLAIN(linux::fstat(file.get())).st_size);
  }
  const auto total = request.size_bytes;
  auto reply = TRY_PLAIN(session.call(std::move(request), file.get(), [&](std::uint64_t bytes) { tell(progress, blob.id, "Pushing", bytes, total); }, std::array{cancel.fd}));
  if (!reply.ok) return push_error(reply);
  if (blob.path.empty() && reply.mounted_from.empty()) return false;
  tell(progress, blob.id, reply.mounted_from.empty() ? "Pushed" : concat("Mounted from ", reply.mounted_from));
  return true;
}

/// Nothing: it went as it lies here. Else what it was made to for it.
Result<std::optional<FormRecord>> LocalImageStore::push_layer(RegistrySession& session, const Reference& name, const Outgoing& image, std::size_t index, const FormPlan& plan,
                                                              const ProgressSink& progress, const Cancel& cancel) {
  const auto& layer = image.record.layers[index];
  if (TRY_PLAIN(needs_form(layer, image.manifest.layers[index], plan))) {
    auto made = push_converted(session, name, layer, plan, progress, cancel);
    if (made.ok()) return std::optional(std::move(*made));
    if (!is_beyond_form(plan, made.error())) return std::move(made).error().in(concat("layer ", layer.diff_id.text()));
    tell(progress, short_id(layer.diff_id), concat("Not compressed as zstd:chunked, pushed as it is: ", made.error().text()));
  }
  auto sources = TRY_PLAIN(mount_sources(name, layer.blob));
  const BlobToPush blob{short_id(layer.diff_id), layer.blob, content_->blob_path(layer.blob), std::move(sources)};
  TRY_PLAIN(push_blob(session, blob, progress, cancel));
  return std::optional<FormRecord>();
}

/// What it was made to before is asked for first: nothing is compressed to learn that the registry has it.
Result<FormRecord> LocalImageStore::push_converted(RegistrySession& session, const Reference& name, const LayerRecord& layer, const FormPlan& plan, const ProgressSink& progress,
                                                   const Cancel& cancel) {
  auto held = form_locks_.lock(concat(name.domain, " ", layer.diff_id.text(), " ", to_string(plan.form), " ", plan.level));
  auto note = [&](const FormRecord& made, const std::string& repository) -> Status {
    std::lock_guard lock(records_mutex_);
    return forms_.note(layer.diff_id, plan, made, repository);
  };
  BlobToPush blob;
  blob.id = short_id(layer.diff_id);
  const auto known = TRY_PLAIN(forms_.find(layer.diff_id, plan));
  if (known) {
    for (const auto& repository : known->repositories) {
      const auto halves = split_once(repository, '/');
      if (halves.before == name.domain && halves.after != name.path && blob.mount_from.size() < most_mount_sources) blob.mount_from.emplace_back(halves.after);
    }
    blob.digest = known->blob;
    if (TRY_PLAIN(push_blob(session, blob, progress, cancel))) {
      TRY_PLAIN(note(*known, name.repository()));
      return *known;
    }
  }
  auto made = TRY_PLAIN(convert_layer(layer, plan, progress, cancel));
  TRY_PLAIN(note(made.made, ""));
  blob.digest = made.made.blob;
  blob.path = made.path();
  TRY_PLAIN(push_blob(session, blob, progress, cancel));
  TRY_PLAIN(note(made.made, name.repository()));
  return std::move(made.made);
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

Result<PushedTag> LocalImageStore::push_one(RegistrySession& session, const Reference& name, bool is_by_digest, Outgoing& image, const FormPlan& plan, const ProgressSink& progress,
                                            const Cancel& cancel) {
  std::mutex mutex;
  ProgressSink serial = [&](const Progress& line) {
    std::lock_guard lock(mutex);
    if (progress) progress(line);
  };
  const auto& layers = image.record.layers;
  std::vector<std::size_t> firsts;  // of each blob
  std::vector<std::size_t> first_of(layers.size());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const auto known = std::find_if(firsts.begin(), firsts.end(), [&](std::size_t other) { return layers[other].blob == layers[i].blob; });
    first_of[i] = known == firsts.end() ? i : *known;
    if (known == firsts.end()) firsts.push_back(i);
  }
  for (auto first = firsts.rbegin(); first != firsts.rend(); ++first) tell(serial, short_id(layers[*first].diff_id), "Preparing");
  std::vector<std::optional<FormRecord>> made(layers.size());
  TRY_PLAIN(side_by_side(firsts.size(), concurrent_uploads, [&](std::size_t i) -> Status {
    made[firsts[i]] = TRY_PLAIN(push_layer(session, name, image, firsts[i], plan, serial, cancel));
    return {};
  }));
  for (std::size_t i = 0; i < first_of.size(); ++i)
    if (made[first_of[i]]) image.set_form(i, plan.form, *made[first_of[i]]);
  image.finish();

  const auto& record = image.record;
  TRY_PLAIN(push_blob(session, {short_id(record.id), record.id, content_->blob_path(record.id), {}}, {}, cancel));
  return put_document(session, is_by_digest ? record.manifest.text() : name.tag, record.manifest_type, image.manifest_text, record.manifest, cancel);
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
  const auto plan = TRY_PLAIN(plan_form(request.compression, LayerForm::gzip));
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
    auto add = [&](Reference name, ImageRecord record) -> Status {
      TRY_PLAIN(must_be_here(record));
      pins.add_blob(record.id);
      pins.add_blob(record.manifest);
      for (const auto& layer : record.layers) pins.add_blob(layer.blob);
      items.push_back({std::move(name), std::move(record)});
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
  const bool is_index = request.images.size() > 1;
  std::vector<ImageRecord> records;
  std::vector<std::uint64_t> manifest_bytes;
  if (is_index) {
    // What cannot become an index is refused before the first byte travels.
    for (const auto& item : items) records.push_back(item.record);
    TRY_PLAIN(platform_index(records, std::vector<std::uint64_t>(items.size()), {}));
    records.clear();
  }
  std::vector<PushedTag> pushed;
  auto tell_pushed = [&](PushedTag tag) {
    tell(progress, "", concat(tag.tag, ": digest: ", tag.digest.text(), " size: ", tag.size_bytes));
    pushed.push_back(std::move(tag));
  };
  for (auto& item : items) {
    auto image = TRY_PLAIN(outgoing(std::move(item.record)));
    auto done = TRY_PLAIN(push_one(*session, item.name, is_index, image, plan, progress, cancel));
    if (request.images.empty()) TRY_PLAIN(record_pushed(item.name, image.record));
    manifest_bytes.push_back(done.size_bytes);
    records.push_back(std::move(image.record));
    if (!is_index) tell_pushed(std::move(done));
  }
  if (is_index) {
    auto text = write_index(TRY_PLAIN(platform_index(records, manifest_bytes, request.annotations)));
    const auto digest = sha256_of(text);
    tell_pushed(TRY_PLAIN(put_document(*session, reference.tag, media_type::oci_index, std::move(text), digest, cancel)));
  }
  return pushed;
}

}  // namespace caisson::image
