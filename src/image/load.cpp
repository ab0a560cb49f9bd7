// load: a docker-archive or OCI layout becomes images. A worker takes it apart, then its layers are unpacked side by side.
#include <array>
#include <map>
#include <set>

#include "base/strings.hpp"
#include "image/archive_plan.hpp"
#include "image/local_image_store.hpp"
#include "linux/file.hpp"
#include "linux/sysinfo.hpp"

namespace caisson::image {

namespace {

Result<Compression> sniff(int dir_fd, const ArchiveMember& member) {
  auto file = TRY_PLAIN(linux::openat(dir_fd, concat(member.file), O_RDONLY));
  std::array<char, compression_magic_bytes> head{};
  auto got = TRY_PLAIN(linux::pread(file.get(), head, 0));
  return detect_compression(std::string_view(head.data(), got));
}

}  // namespace

Result<std::vector<Image>> LocalImageStore::load(int source_fd, const ProgressSink& progress, Cancel cancel) { return load_archive(source_fd, "", progress, cancel); }

Result<std::vector<Image>> LocalImageStore::load_artifacts(int source_fd, const std::string& artifact_type, Cancel cancel) { return load_archive(source_fd, artifact_type, {}, cancel); }

Result<std::vector<Image>> LocalImageStore::load_archive(int source_fd, const std::string& artifact_type, const ProgressSink& progress, Cancel cancel) {
  auto staging = TRY(content_->new_staging("load"), "load");
  WorkerJob job;
  job.request.task = WorkerTask::split;
  job.input_fd = source_fd;
  job.target_fd = staging.fd();
  job.cancel = cancel;
  // The copy of the whole archive is not wanted: its members are what is kept.
  job.request.known_digest = "none";
  if (progress) {
    job.on_progress = [&](std::uint64_t bytes) {
      Progress line;
      line.status = "Reading archive";
      line.current = bytes;
      progress(line);
    };
  }
  job.on_written = [&](std::uint64_t bytes, const std::function<void()>& pause) { return staging.room().resize(bytes, pause); };
  auto split_result = TRY(run_worker(worker_options(), job), "load");
  std::uint64_t split_bytes = 0;
  for (const auto& member : split_result.members) split_bytes += disk_bytes_for(member.size_bytes);
  TRY(staging.room().resize(split_bytes), "load");

  ArchiveMembers members(split_result.members, [&](const ArchiveMember& member) { return linux::read_file_at(staging.fd(), concat(member.file)); });
  members.set_sniffer([&](const ArchiveMember& member) { return sniff(staging.fd(), member); });
  auto name = TRY_PLAIN(linux::uname());
  auto planned = TRY(plan_archive(members, platform_of_machine(name.machine), artifact_type), "load");

  // As which of containers' transports it was read: plan_archive prefers a layout's documents.
  const std::string_view transport = members.has("index.json") ? "oci-archive" : "docker-archive";
  Pins pins(*content_);
  std::vector<NewImage> images;
  std::vector<LayerSource> layers;
  std::map<Digest, std::uint64_t> blobs;  // digest → split member
  std::set<Digest> diff_ids;
  for (const auto& image : planned) {
    NewImage made;
    made.record.id = sha256_of(image.config_text);
    made.record.manifest = sha256_of(image.manifest_text);
    if (auto type = parse_manifest(image.manifest_text); type.ok() && type->media_type == media_type::docker_manifest) made.record.manifest_type = type->media_type;
    made.names = image.names;
    made.origin = TRY(gate_.admit_local(transport, made.record.manifest), "load");
    pins.add_blob(made.record.id);
    pins.add_blob(made.record.manifest);
    for (const auto& layer : image.layers) {
      pins.add_blob(layer.blob);
      pins.add_layer(layer.diff_id);
      made.record.layers.push_back({layer.diff_id, layer.blob, layer.size_bytes, layer.media_type});
      blobs[layer.blob] = layer.file;
      if (diff_ids.insert(layer.diff_id).second) layers.push_back({layer.diff_id, layer.blob, concat(staging.path(), "/", layer.file), layer.size_bytes, &staging.room()});
    }
    images.push_back(std::move(made));
  }
  TRY(ensure_layers(layers, progress, cancel), "load");
  for (const auto& image : planned) {
    TRY(content_->put_blob(image.config_text), "load: store the config");
    TRY(content_->put_blob(image.manifest_text), "load: store the manifest");
  }
  for (const auto& [digest, file] : blobs) TRY(content_->adopt_blob(concat(staging.path(), "/", file), digest, &staging.room()), "load: store a layer");
  TRY(record_images(images), "load");
  std::vector<Image> out;
  for (const auto& image : images) {
    // The names that this archive gave: none for an unnamed one, whatever the image was called before.
    std::vector<NameRecord> given;
    for (const auto& name : image.names) given.push_back({name, image.record.id});
    out.push_back(TRY_PLAIN(image_of(image.record, given)));
  }
  return out;
}

}  // namespace caisson::image
