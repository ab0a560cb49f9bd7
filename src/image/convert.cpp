// Layers in another form than they are stored in, made for one push or archive; and the manifest that says so.
#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "image/chunked_layer.hpp"
#include "image/local_image_store.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

constexpr const char* blob_file = "blob";

Result<Compression> stored_compression(const std::string& blob_path) {
  auto file = TRY_PLAIN(linux::open(blob_path, O_RDONLY | O_NOFOLLOW));
  std::array<char, compression_magic_bytes> head{};
  const auto got = TRY_PLAIN(linux::pread(file.get(), head, 0));
  return detect_compression(std::string_view(head.data(), got));
}

std::string docker_layer_type(std::string_view oci_type) { return concat(media_type::docker_layer, oci_type.ends_with("gzip") ? ".gzip" : ""); }

}  // namespace

Result<bool> LocalImageStore::needs_form(const LayerRecord& layer, const Descriptor& descriptor, const FormPlan& plan) {
  const auto stored = TRY(stored_compression(content_->blob_path(layer.blob)), concat("layer ", layer.diff_id.text()));
  if (stored != Compression::none && !plan.has_all) return false;
  if (plan.form != LayerForm::zstd_chunked) return stored != compression_of(plan.form);
  auto toc = toc_of(descriptor);
  return !toc.ok() || !*toc;
}

std::string LocalImageStore::ConvertedLayer::path() const { return concat(staging.path(), "/", blob_file); }

Result<LocalImageStore::ConvertedLayer> LocalImageStore::convert_layer(const LayerRecord& layer, const FormPlan& plan, const ProgressSink& progress, const Cancel& cancel) {
  if (plan.form == LayerForm::zstd_chunked) return chunk_layer(layer, plan.level, progress, cancel);
  // It takes all processors: several at once would only need several times the memory.
  std::lock_guard lock(compress_mutex_);
  auto staging = TRY_PLAIN(content_->new_staging("compressed"));
  ConvertedLayer out{std::move(staging), {}};
  auto blob = TRY_PLAIN(linux::openat(out.staging.fd(), blob_file, O_WRONLY | O_CREAT | O_EXCL, 0600));
  auto input = TRY_PLAIN(linux::open(content_->blob_path(layer.blob), O_RDONLY | O_NOFOLLOW));
  WorkerJob job;
  job.request.task = WorkerTask::compress;
  job.request.form = plan.form;
  job.request.level = plan.level;
  job.request.known_digest = layer.blob.text();
  job.request.decoded_algorithm = layer.diff_id.kind();
  job.input_fd = input.get();
  job.copy_fd = blob.get();
  job.cancel = cancel;
  const char* status = plan.form == LayerForm::uncompressed ? "Decompressing" : "Compressing";
  tell(progress, short_id(layer.diff_id), status, 0, layer.blob_bytes);
  job.on_progress = [&](std::uint64_t bytes) { tell(progress, short_id(layer.diff_id), status, bytes, layer.blob_bytes); };
  job.on_written = [&](std::uint64_t bytes, const std::function<void()>& pause) { return out.staging.room().resize(bytes, pause); };
  const auto made = TRY_PLAIN(run_worker(worker_options(), job));
  if (made.decoded_digest != layer.diff_id.text()) return Error(ErrorKind::corrupt, concat("blob ", layer.blob.text(), " holds ", made.decoded_digest)).with_hint("load or pull the image again");
  TRY_PLAIN(out.staging.room().resize(disk_bytes_for(made.output_bytes)));
  out.made.blob = TRY(Digest::parse(made.output_digest), "the worker's answer");
  out.made.blob_bytes = made.output_bytes;
  return out;
}

/// One worker makes the blob; another one, which has seen nothing of it, says whether it is the layer and whether its table tells the truth.
Result<LocalImageStore::ConvertedLayer> LocalImageStore::chunk_layer(const LayerRecord& layer, int level, const ProgressSink& progress, const Cancel& cancel) {
  tell(progress, short_id(layer.diff_id), "Compressing as zstd:chunked");
  auto staging = TRY_PLAIN(content_->new_staging("chunked"));
  ConvertedLayer out{std::move(staging), {}};
  TRY_PLAIN(out.staging.room().resize(disk_bytes_for(layer.blob_bytes)));
  auto blob = TRY_PLAIN(linux::openat(out.staging.fd(), blob_file, O_RDWR | O_CREAT | O_EXCL, 0600));
  auto input = TRY_PLAIN(linux::open(content_->blob_path(layer.blob), O_RDONLY | O_NOFOLLOW));
  WorkerJob job;
  job.request.task = WorkerTask::chunk;
  job.request.level = level;
  job.request.known_digest = layer.blob.text();
  job.request.decoded_algorithm = layer.diff_id.kind();
  job.input_fd = input.get();
  job.copy_fd = blob.get();
  job.cancel = cancel;
  const auto made = TRY_PLAIN(run_worker(worker_options(), job));
  TRY_PLAIN(out.staging.room().resize(disk_bytes_for(made.output_bytes)));
  auto table = TRY_PLAIN(linux::memfd_create("caisson-table"));
  std::string bytes(static_cast<std::size_t>(std::min<std::uint64_t>(made.toc.size_bytes, most_toc_bytes)), '\0');
  if (TRY_PLAIN(linux::pread(blob.get(), bytes, made.toc.offset)) != bytes.size()) return Error(ErrorKind::internal, "the table is not where the worker says");
  TRY_PLAIN(linux::write_all(table.get(), bytes));
  TRY_PLAIN(linux::lseek(table.get(), 0, SEEK_SET));
  TRY_PLAIN(linux::lseek(blob.get(), 0, SEEK_SET));
  WorkerJob check;
  check.request.task = WorkerTask::compare;
  check.request.toc = made.toc;
  check.request.decoded_algorithm = layer.diff_id.kind();
  check.input_fd = blob.get();
  check.table_fd = table.get();
  check.cancel = cancel;
  const auto checked = TRY_PLAIN(run_worker(worker_options(), check));
  if (checked.decoded_digest != layer.diff_id.text())
    return Error(ErrorKind::internal, concat("what was made of it has the content ", checked.decoded_digest));
  ChunkedLayer said;
  said.toc = made.toc;
  said.decoded_toc_bytes = made.decoded_toc_bytes;
  out.made.blob = TRY_PLAIN(Digest::parse(checked.input_digest));
  out.made.blob_bytes = checked.input_bytes;
  out.made.annotations = chunked_annotations(said);
  return out;
}

bool LocalImageStore::is_beyond_form(const FormPlan& plan, const Error& error) {
  if (plan.form != LayerForm::zstd_chunked) return false;
  return error.kind() == ErrorKind::unsupported || error.kind() == ErrorKind::corrupt || error.kind() == ErrorKind::invalid;
}

void LocalImageStore::Outgoing::set_form(std::size_t index, LayerForm form, const FormRecord& made) {
  auto& layer = record.layers[index];
  auto& descriptor = manifest.layers[index];
  for (const char* name : {toc_annotation::estargz_digest, toc_annotation::chunked_digest, toc_annotation::chunked_position, toc_annotation::old_chunked_digest, toc_annotation::old_chunked_position})
    descriptor.annotations.erase(name);
  for (const auto& [name, value] : made.annotations) descriptor.annotations[name] = value;
  descriptor.media_type = layer_media_type(compression_of(form));
  descriptor.digest = layer.blob = made.blob;
  descriptor.size_bytes = layer.blob_bytes = made.blob_bytes;
  is_changed = true;
}

void LocalImageStore::Outgoing::finish() {
  if (!is_changed) return;
  const auto is_zstd = [](const Descriptor& layer) { return layer.media_type.ends_with("zstd"); };
  if (manifest.media_type != media_type::docker_manifest) {
    manifest.media_type = media_type::oci_manifest;
  } else if (std::any_of(manifest.layers.begin(), manifest.layers.end(), is_zstd)) {
    // Docker's manifest has no word for zstd.
    for (auto& layer : manifest.layers)
      if (!layer.media_type.starts_with(media_type::oci_layer)) layer.media_type = layer_media_type(layer.media_type.ends_with("gzip") ? Compression::gzip : Compression::none);
    manifest.media_type = media_type::oci_manifest;
    manifest.config.media_type = media_type::oci_config;
  } else {
    for (auto& layer : manifest.layers)
      if (layer.media_type.starts_with(media_type::oci_layer)) layer.media_type = docker_layer_type(layer.media_type);
  }
  for (std::size_t i = 0; i < manifest.layers.size(); ++i) record.layers[i].media_type = manifest.layers[i].media_type;
  record.manifest_type = manifest.media_type;
  manifest_text = write_manifest(manifest);
  record.manifest = sha256_of(manifest_text);
}

Status LocalImageStore::convert_layers(Outgoing& image, const FormPlan& plan, std::map<Digest, ConvertedLayer>& made, const Cancel& cancel) {
  for (std::size_t i = 0; i < image.record.layers.size(); ++i) {
    const auto layer = image.record.layers[i];
    if (!TRY_PLAIN(needs_form(layer, image.manifest.layers[i], plan))) continue;
    auto known = made.find(layer.blob);
    if (known == made.end()) {
      auto converted = convert_layer(layer, plan, {}, cancel);
      if (!converted.ok() && is_beyond_form(plan, converted.error())) continue;
      known = made.emplace(layer.blob, TRY(std::move(converted), concat("layer ", layer.diff_id.text()))).first;
    }
    image.set_form(i, plan.form, known->second.made);
  }
  image.finish();
  return {};
}

Result<LocalImageStore::Outgoing> LocalImageStore::outgoing(ImageRecord record) {
  Outgoing out;
  out.manifest_text = TRY_PLAIN(content_->read_blob(record.manifest));
  out.manifest = TRY(parse_manifest(out.manifest_text), concat("manifest ", record.manifest.text()));
  if (out.manifest.layers.size() != record.layers.size()) return Error(ErrorKind::corrupt, concat("manifest ", record.manifest.text(), " has not the layers that the image has"));
  out.record = std::move(record);
  return out;
}

}  // namespace caisson::image
