// Archive → worker → layout, and layout → archive.
#include "transport/archive.hpp"

#include <algorithm>
#include <array>

#include "base/ids.hpp"
#include "base/strings.hpp"
#include "image/archive_plan.hpp"
#include "image/tar_writer.hpp"
#include "image/worker.hpp"
#include "linux/file.hpp"
#include "linux/sysinfo.hpp"
#include "linux/tree.hpp"

namespace caisson::transport {

namespace {

constexpr std::size_t copy_buffer_bytes = 1 << 18;
constexpr std::size_t short_id = 16;

Result<image::Compression> sniff(int dir_fd, const image::ArchiveMember& member) {
  auto file = TRY_PLAIN(linux::openat(dir_fd, concat(member.file), O_RDONLY));
  std::array<char, image::compression_magic_bytes> head{};
  auto got = TRY_PLAIN(linux::pread(file.get(), head, 0));
  return image::detect_compression(std::string_view(head.data(), got));
}

/// An OCI layout keeps its index as it is, whatever is in it.
Status take_layout(const std::vector<image::ArchiveMember>& members, const std::string& split, LayoutPlace& place) {
  for (const auto& member : members) {
    if (member.type != image::TarType::file) continue;
    const auto from = concat(split, "/", member.file);
    if (member.name == "index.json") {
      TRY_PLAIN(linux::write_file_atomic(place.folder() + "/index.json", TRY_PLAIN(linux::read_file(from)), 0644, linux::Durability::none));
      continue;
    }
    const auto pieces = split_last(member.name, '/');
    auto digest = Digest::parse(concat(split_last(pieces.before, '/').after, ":", pieces.after));
    if (!digest.ok() || member.name != concat("blobs/", digest->algorithm(), "/", digest->hex())) continue;
    TRY_PLAIN(linux::rename(from, place.blob_path(*digest)));
  }
  return {};
}

/// docker's kind has no manifests: each image gets one of its uncompressed layers, the same one every time.
Status take_images(const image::ArchiveMembers& members, const std::string& split, LayoutPlace& place) {
  auto machine = TRY_PLAIN(linux::uname()).machine;
  for (const auto& planned : TRY_PLAIN(image::plan_archive(members, image::platform_of_machine(machine)))) {
    TRY_PLAIN(linux::write_file(place.blob_path(sha256_of(planned.config_text)), planned.config_text));
    for (const auto& layer : planned.layers) {
      const auto path = place.blob_path(layer.blob);
      if (!TRY_PLAIN(linux::exists(path))) TRY_PLAIN(linux::rename(concat(split, "/", layer.file), path));
    }
    image::FetchedManifest manifest;
    manifest.text = planned.manifest_text;
    manifest.digest = sha256_of(planned.manifest_text);
    manifest.media_type = TRY_PLAIN(image::parse_manifest(planned.manifest_text)).media_type;
    if (planned.names.empty()) TRY_PLAIN(place.put_manifest(manifest, ""));
    for (const auto& name : planned.names) TRY_PLAIN(place.put_manifest(manifest, TRY_PLAIN(image::parse_reference(name)).tag));
  }
  return {};
}

class ArchiveWriter {
 public:
  ArchiveWriter(const LayoutPlace& place, int fd) : place_(place), tar_([fd](std::string_view bytes) { return linux::write_all(fd, bytes); }) {}
  Status run();

 private:
  Status add_folder(const std::string& name);
  Status add_file(const std::string& name);
  /// manifest.json, when every entry is one image, and none an artifact.
  Result<std::optional<std::string>> docker_manifest() const;

  const LayoutPlace& place_;
  image::TarWriter tar_;
  std::vector<char> buffer_ = std::vector<char>(copy_buffer_bytes);
};

Status ArchiveWriter::add_folder(const std::string& name) {
  image::TarEntry entry;
  entry.type = image::TarType::directory;
  entry.name = name;
  entry.mode = 0755;
  return tar_.begin(entry);
}

Status ArchiveWriter::add_file(const std::string& name) {
  const auto file = TRY_PLAIN(linux::open(concat(place_.folder(), "/", name), O_RDONLY));
  image::TarEntry entry;
  entry.name = name;
  entry.mode = 0644;
  entry.size_bytes = static_cast<std::uint64_t>(TRY_PLAIN(linux::fstat(file.get())).st_size);
  TRY_PLAIN(tar_.begin(entry));
  for (;;) {
    const auto got = TRY_PLAIN(linux::read(file.get(), buffer_));
    if (got == 0) return {};
    TRY_PLAIN(tar_.write(std::string_view(buffer_.data(), got)));
  }
}

std::string member_of(const Digest& digest) { return concat("blobs/", digest.algorithm(), "/", digest.hex()); }

Result<std::optional<std::string>> ArchiveWriter::docker_manifest() const {
  std::vector<image::ArchivedImage> images;
  for (const auto& entry : TRY_PLAIN(place_.index()).manifests) {
    if (image::is_index_type(entry.media_type)) return std::optional<std::string>();
    const auto manifest = TRY_PLAIN(image::parse_manifest(TRY_PLAIN(linux::read_file(place_.blob_path(entry.digest)))));
    if (!manifest.artifact_type.empty()) return std::optional<std::string>();
    image::ArchivedImage item;
    item.config = member_of(manifest.config.digest);
    if (auto name = entry.annotations.find("io.containerd.image.name"); name != entry.annotations.end())
      item.repo_tags.push_back(TRY_PLAIN(image::parse_reference(name->second)).familiar());
    for (const auto& layer : manifest.layers) item.layers.push_back(member_of(layer.digest));
    images.push_back(std::move(item));
  }
  return std::optional(image::write_archive_manifest(images));
}

Status ArchiveWriter::run() {
  TRY_PLAIN(add_folder("blobs/"));
  for (const char* algorithm : {"blobs/sha256/", "blobs/sha512/"}) {
    auto entries = TRY_PLAIN(linux::list_dir(concat(place_.folder(), "/", algorithm)));
    if (entries.empty()) continue;
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    TRY_PLAIN(add_folder(algorithm));
    for (const auto& entry : entries) TRY_PLAIN(add_file(concat(algorithm, entry.name)));
  }
  TRY_PLAIN(add_file("index.json"));
  if (const auto text = TRY_PLAIN(docker_manifest())) {
    image::TarEntry entry;
    entry.name = "manifest.json";
    entry.mode = 0644;
    TRY_PLAIN(tar_.add(entry, *text));
  }
  TRY_PLAIN(add_file("oci-layout"));
  return tar_.finish();
}

}  // namespace

Result<std::unique_ptr<ScratchLayout>> ScratchLayout::create(const std::string& parent) {
  std::unique_ptr<ScratchLayout> made(new ScratchLayout(concat(parent, "/layout-", random_id().substr(0, short_id))));
  TRY(linux::make_dirs(made->folder_, 0700), "a folder for the archive");
  made->place_ = TRY_PLAIN(LayoutPlace::open(made->folder_ + "/layout", LayoutPlace::Mode::write));
  return made;
}

ScratchLayout::~ScratchLayout() { ignore(linux::remove_tree(folder_)); }  // what stays is removed with the spool's stale files

Result<std::unique_ptr<ScratchLayout>> ScratchLayout::from_archive(const std::string& parent, int archive_fd, const std::string& worker_path, Cancel cancel) {
  auto made = TRY_PLAIN(create(parent));
  const auto split = made->folder_ + "/split";
  TRY_PLAIN(linux::mkdir(split, 0700));
  const auto target = TRY_PLAIN(linux::open(split, O_RDONLY | O_DIRECTORY));
  image::WorkerJob job;
  job.request.task = image::WorkerTask::split;
  job.request.known_digest = "none";
  job.input_fd = archive_fd;
  job.target_fd = target.get();
  job.cancel = cancel;
  const auto result = TRY_PLAIN(image::run_worker({worker_path, 0}, job));
  image::ArchiveMembers members(result.members, [&](const image::ArchiveMember& member) { return linux::read_file_at(target.get(), concat(member.file)); });
  members.set_sniffer([&](const image::ArchiveMember& member) { return sniff(target.get(), member); });
  if (members.has("index.json") && members.has("oci-layout")) TRY_PLAIN(take_layout(result.members, split, *made->place_));
  else TRY_PLAIN(take_images(members, split, *made->place_));
  TRY_PLAIN(linux::remove_tree(split));
  return made;
}

Status ScratchLayout::write_archive(int fd) const { return ArchiveWriter(*place_, fd).run(); }

}  // namespace caisson::transport
