// push --compression-format zstd:chunked: an image's layers in a form of which single files can be had, made for the one push.
#include <algorithm>

#include "base/strings.hpp"
#include "image/chunked_layer.hpp"
#include "image/local_image_store.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {
constexpr const char* blob_file = "blob";
}

/// One worker makes the blob; another one, which has seen nothing of it, says whether it is the layer and whether its table tells the truth.
Result<LocalImageStore::ChunkedBlob> LocalImageStore::chunk_layer(const LayerRecord& layer, const Cancel& cancel) {
  ChunkedBlob out{TRY_PLAIN(content_->new_staging("chunked")), {}};
  // It is hardly ever larger than what it is made of, and is told to the account as soon as that is known.
  TRY_PLAIN(out.staging.room().resize(disk_bytes_for(layer.blob_bytes)));
  auto blob = TRY_PLAIN(linux::openat(out.staging.fd(), blob_file, O_RDWR | O_CREAT | O_EXCL, 0600));
  auto input = TRY_PLAIN(linux::open(content_->blob_path(layer.blob), O_RDONLY | O_NOFOLLOW));
  WorkerJob job;
  job.request.task = WorkerTask::chunk;
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
  out.descriptor.media_type = layer_media_type(Compression::zstd);
  out.descriptor.digest = TRY_PLAIN(Digest::parse(checked.input_digest));
  out.descriptor.size_bytes = checked.input_bytes;
  out.descriptor.annotations = chunked_annotations(said);
  return out;
}

Status LocalImageStore::make_chunked(Outgoing& image, const ProgressSink& progress, const Cancel& cancel) {
  auto& record = image.record;
  auto manifest = TRY(parse_manifest(image.manifest_text), concat("manifest ", record.manifest.text()));
  auto tell = [&](const Digest& diff_id, std::string status) {
    Progress line;
    line.id = short_id(diff_id);
    line.status = std::move(status);
    if (progress) progress(line);
  };
  for (std::size_t i = 0; i < record.layers.size() && i < manifest.layers.size(); ++i) {
    auto& layer = record.layers[i];
    auto& descriptor = manifest.layers[i];
    auto toc = toc_of(descriptor);
    if (toc.ok() && *toc) continue;
    tell(layer.diff_id, "Compressing as zstd:chunked");
    auto made = chunk_layer(layer, cancel);
    const auto kind = made.ok() ? ErrorKind::internal : made.error().kind();
    if (kind == ErrorKind::unsupported || kind == ErrorKind::corrupt || kind == ErrorKind::invalid) {
      tell(layer.diff_id, concat("Not compressed as zstd:chunked, pushed as it is: ", made.error().text()));
      continue;
    }
    if (!made.ok()) return std::move(made).error().in(concat("layer ", layer.diff_id.text()));
    for (const char* name : {toc_annotation::estargz_digest, toc_annotation::old_chunked_digest, toc_annotation::old_chunked_position}) descriptor.annotations.erase(name);
    for (auto& [name, value] : made->descriptor.annotations) descriptor.annotations[name] = value;
    descriptor.media_type = layer.media_type = made->descriptor.media_type;
    descriptor.digest = layer.blob = made->descriptor.digest;
    descriptor.size_bytes = layer.blob_bytes = made->descriptor.size_bytes;
    image.files[layer.blob] = concat(made->staging.path(), "/", blob_file);
    image.made.push_back(std::move(made->staging));
  }
  if (image.files.empty()) return {};
  // Docker's manifest has no word for zstd.
  for (auto& descriptor : manifest.layers)
    if (!descriptor.media_type.starts_with(media_type::oci_layer)) descriptor.media_type = layer_media_type(descriptor.media_type.ends_with("gzip") ? Compression::gzip : Compression::none);
  manifest.media_type = record.manifest_type = media_type::oci_manifest;
  manifest.config.media_type = media_type::oci_config;
  image.manifest_text = write_manifest(manifest);
  record.manifest = sha256_of(image.manifest_text);
  return {};
}

}  // namespace caisson::image
