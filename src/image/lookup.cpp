// Finding, listing and naming images.
#include <algorithm>

#include "base/strings.hpp"
#include "image/index_mount.hpp"
#include "image/local_image_store.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

constexpr std::size_t fewest_prefix_digits = 4;

bool is_hex_text(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// What is asked for must be had; automatic is an index where one can be mounted and read (docs/adr/0014).
Result<SnapshotForm> choose_form(const ImageOptions& options) {
  if (options.snapshot_form == SnapshotForm::directory) return SnapshotForm::directory;
  auto works = try_index(options.root + "/ingest", options.worker_first_id);
  if (works.ok()) return SnapshotForm::erofs;
  if (options.snapshot_form == SnapshotForm::automatic) return SnapshotForm::directory;
  return Error(ErrorKind::unavailable, concat("layers cannot be kept as EROFS indexes here: ", works.error().text()), works.error().error_number())
      .with_hint("it needs Linux 6.12 with EROFS, root, and a file system on a disk; use snapshot-form = \"directory\"");
}

std::string_view without_algorithm(std::string_view text) {
  constexpr std::string_view algorithm = "sha256:";
  return text.starts_with(algorithm) ? text.substr(algorithm.size()) : text;
}

}  // namespace

std::string short_id(const Digest& digest) { return std::string(digest.hex().substr(0, 12)); }

LocalImageStore::LocalImageStore(state::Store& store, ImageOptions options, std::unique_ptr<ContentStore> content)
    : form_(options.snapshot_form), options_(std::move(options)), content_(std::move(content)), gate_(options_.trust, store), records_(store), forms_(store), store_(store),
      stand_ins_(*content_, options_.registries, worker_options()) {}

Result<std::unique_ptr<ImageStore>> open_image_store(state::Store& store, const ImageOptions& options) {
  auto content = TRY_PLAIN(ContentStore::open(options.root));
  auto chosen = options;
  chosen.snapshot_form = TRY_PLAIN(choose_form(options));
  auto images = std::make_unique<LocalImageStore>(store, std::move(chosen), std::move(content));
  TRY(images->open(), "open image store");
  return std::unique_ptr<ImageStore>(std::move(images));
}

/// Docker's order: a full id, then a name, then the beginning of an id.
Result<ImageRecord> LocalImageStore::find_record(const std::string& name) {
  std::string shown = name;
  auto hex = without_algorithm(name);
  if (hex.size() == 64 && is_hex_text(hex)) {
    auto record = TRY_PLAIN(records_.find(TRY_PLAIN(Digest::parse(concat("sha256:", hex)))));
    if (record) return std::move(*record);
    return Error(ErrorKind::not_found, concat("No such image: ", shown));
  }
  auto reference = parse_reference(name);
  if (reference.ok()) {
    auto record = TRY_PLAIN(find_by_reference(*reference));
    if (record) return std::move(*record);
    shown = reference->familiar();
  }
  auto record = TRY_PLAIN(find_by_prefix(name));
  if (record) return std::move(*record);
  if (!reference.ok()) return std::move(reference).error();
  return Error(ErrorKind::not_found, concat("No such image: ", shown));
}

Result<std::optional<ImageRecord>> LocalImageStore::find_by_reference(const Reference& reference) {
  Reference wanted = reference;
  if (wanted.digest) wanted.tag.clear();  // what the digest says counts; a tag beside it is decoration
  if (auto name = TRY_PLAIN(records_.find_name(wanted.canonical()))) return records_.find(name->id);
  if (!reference.digest) return std::optional<ImageRecord>();
  // name@digest: an image of that repository whose manifest has the digest.
  std::string repository = concat(reference.domain, "/", reference.path);
  for (const auto& name : TRY_PLAIN(records_.names())) {
    auto parsed = parse_reference(name.reference);
    if (!parsed.ok() || concat(parsed->domain, "/", parsed->path) != repository) continue;
    auto record = TRY_PLAIN(records_.find(name.id));
    if (record && record->manifest == *reference.digest) return record;
  }
  return std::optional<ImageRecord>();
}

Result<std::optional<ImageRecord>> LocalImageStore::find_by_prefix(const std::string& name) {
  auto hex = without_algorithm(name);
  std::optional<ImageRecord> found;
  if (hex.size() < fewest_prefix_digits || hex.size() > 64 || !is_hex_text(hex)) return found;
  for (auto& record : TRY_PLAIN(records_.list()).images) {
    if (!record.id.hex().starts_with(hex)) continue;
    if (found) return Error(ErrorKind::conflict, concat("image id ", name, " is ambiguous: several images begin with it"));
    found = std::move(record);
  }
  return found;
}

Result<Image> LocalImageStore::image_of(const ImageRecord& record, const std::vector<NameRecord>& names) {
  auto text = TRY(content_->read_blob(record.id), concat("image ", short_id(record.id)));
  auto config = TRY(parse_image_config(text), concat("image ", short_id(record.id)));
  Image image;
  image.id = record.id;
  for (const auto& name : names) {
    if (name.id != record.id) continue;
    auto reference = parse_reference(name.reference);
    if (!reference.ok()) continue;
    (reference->digest ? image.repo_digests : image.repo_tags).push_back(reference->familiar());
  }
  image.created = config.created;
  image.architecture = std::move(config.architecture);
  image.os = std::move(config.os);
  image.variant = std::move(config.variant);
  image.author = std::move(config.author);
  image.config = std::move(config.config);
  image.diff_ids = std::move(config.diff_ids);
  image.history = std::move(config.history);
  image.on_build = std::move(config.on_build);
  image.size_bytes = record.size_bytes;
  image.coming = coming_of(record);
  return image;
}

Result<Image> LocalImageStore::image_of(const ImageRecord& record) {
  auto names = TRY_PLAIN(records_.names_of(record.id));
  return image_of(record, names);
}

Result<Image> LocalImageStore::find(const std::string& name) {
  auto record = TRY_PLAIN(find_record(name));
  return image_of(record);
}

Result<Image> LocalImageStore::admit(const std::string& name) {
  auto record = TRY_PLAIN(find_record(name));
  // By id, or by the beginning of one, no name was said, and any origin will do.
  std::optional<Reference> said;
  if (auto reference = parse_reference(name); reference.ok()) {
    auto found = TRY_PLAIN(find_by_reference(*reference));
    if (found && found->id == record.id) said = std::move(*reference);
  }
  TRY_PLAIN(gate_.admit_use(record.id, said));
  TRY_PLAIN(refuse_liars(record));
  return image_of(record);
}

Result<std::vector<Image>> LocalImageStore::list() {
  auto listing = TRY_PLAIN(records_.list());
  auto names = TRY_PLAIN(records_.names());
  std::vector<Image> images;
  for (const auto& record : listing.images) {
    // A damaged image must not hide the others; recover() says what is wrong with it.
    auto image = image_of(record, names);
    if (image.ok()) images.push_back(std::move(*image));
  }
  std::stable_sort(images.begin(), images.end(), [](const Image& a, const Image& b) { return a.created > b.created; });
  return images;
}

Result<std::string> LocalImageStore::raw_config(const Digest& id) {
  auto record = TRY_PLAIN(find_record(id.text()));
  return content_->read_blob(record.id);
}

Status LocalImageStore::tag(const std::string& source, const std::string& target_reference) {
  auto target = TRY(parse_reference(target_reference), concat("Error parsing reference: \"", target_reference, "\" is not a valid repository/tag"));
  if (target.digest) return Error(ErrorKind::invalid, "refusing to create a tag with a digest reference");
  std::lock_guard lock(records_mutex_);
  auto record = TRY_PLAIN(find_record(source));
  state::Transaction transaction;
  ImageRecords::put_name(transaction, target.canonical(), record.id);
  transaction.durable = true;
  TRY(store_.commit(transaction), concat("tag ", target.familiar()));
  return write_layout_index();
}

/// A damaged index is made again, with its tar, from the layer's blob. Whoever comes second finds it mended.
Result<std::string> LocalImageStore::open_layer(const ImageRecord& record, const LayerRecord& layer) {
  auto dir = content_->open_layer(layer.diff_id);
  if (dir.ok() || dir.error().kind() != ErrorKind::corrupt) return dir;
  const bool is_here = TRY_PLAIN(content_->has_layer(layer.diff_id));
  if (!is_here && record.coming && stand_ins_.has(layer.diff_id)) return stand_ins_.open(layer.diff_id);
  if (!is_here)
    return Error(ErrorKind::corrupt, concat("layer ", layer.diff_id.text(), " of image ", short_id(record.id), " is missing; load or pull the image again"));
  if (!TRY_PLAIN(content_->has_blob(layer.blob))) return std::move(dir).error().in(concat("layer ", layer.diff_id.text(), " of image ", short_id(record.id)));
  auto held = download_locks_.lock(layer.blob.text());
  dir = content_->open_layer(layer.diff_id);
  if (dir.ok() || dir.error().kind() != ErrorKind::corrupt) return dir;
  TRY_PLAIN(content_->set_aside_layer(layer.diff_id));
  TRY_PLAIN(ensure_layer({layer.diff_id, layer.blob, content_->blob_path(layer.blob), layer.blob_bytes}, {}, {}));
  TRY_PLAIN(settle(record));
  TRY_PLAIN(content_->sync());
  TRY_PLAIN(content_->empty_trash());
  return content_->open_layer(layer.diff_id);
}

Result<std::vector<std::string>> LocalImageStore::lowerdirs(const Digest& id) {
  auto record = TRY_PLAIN(find_record(id.text()));
  TRY_PLAIN(refuse_liars(record));
  std::vector<std::string> dirs;
  for (auto layer = record.layers.rbegin(); layer != record.layers.rend(); ++layer) {
    auto dir = TRY_PLAIN(open_layer(record, *layer));
    // The same layer twice in one chain adds nothing below, and overlayfs refuses it (ELOOP).
    if (std::find(dirs.begin(), dirs.end(), dir) == dirs.end()) dirs.push_back(std::move(dir));
  }
  if (dirs.empty()) dirs.push_back(content_->empty_layer_dir());
  return dirs;
}

Result<std::uint64_t> LocalImageStore::disk_bytes(const std::vector<Digest>& ids) {
  std::vector<Digest> blobs;
  std::vector<Digest> layers;
  for (const auto& id : ids) {
    const auto record = TRY_PLAIN(records_.find(id));
    if (!record) continue;
    blobs.push_back(record->id);
    blobs.push_back(record->manifest);
    if (record->packages) blobs.push_back(*record->packages);
    for (const auto& layer : record->layers) {
      blobs.push_back(layer.blob);
      layers.push_back(layer.diff_id);
    }
  }
  return content_->disk_bytes(blobs, layers);
}

void LocalImageStore::count_folder(const std::string& path, std::uint64_t bytes) {
  const auto status = linux::lstat(path);
  const bool is_there = bytes > 0 && status.ok();
  std::lock_guard lock(folders_mutex_);
  if (content_->account().has_begun()) content_->account().set(path, is_there ? std::vector<StoreAccount::Item>{{status->st_ino, bytes}} : std::vector<StoreAccount::Item>{});
  if (is_there) folders_[path] = bytes;
  else folders_.erase(path);
}

Result<ImageStore::Usage> LocalImageStore::usage() {
  Usage usage;
  usage.blobs_bytes = TRY_PLAIN(content_->blobs_bytes());
  for (const auto& layer : TRY_PLAIN(content_->list_layers())) {
    auto size = content_->layer_size(layer);
    if (!size.ok()) continue;  // removed meanwhile
    usage.layers_bytes += *size;
    usage.layers.emplace(layer, *size);
  }
  usage.disk_bytes = room().used_bytes;
  std::lock_guard lock(folders_mutex_);
  for (const auto& [path, bytes] : folders_) usage.disk_bytes -= std::min(usage.disk_bytes, bytes);
  return usage;
}

}  // namespace caisson::image
