// save: images as one tar that docker reads by manifest.json and everybody else as an OCI layout.
#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "base/strings.hpp"
#include "image/local_image_store.hpp"
#include "image/tar_writer.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

constexpr std::size_t copy_buffer_bytes = 1 << 18;

struct SavedImage {
  ImageRecord record;
  std::vector<Reference> names;
  bool is_artifact = false;
};

/// What goes into the archive in place of what is stored.
struct Replacements {
  std::map<Digest, std::string> files;      ///< by digest of a blob, where it lies
  std::map<Digest, std::string> documents;  ///< by digest, their texts
};

class ArchiveWriter {
 public:
  ArchiveWriter(const ContentStore& content, const Replacements& made, int target_fd, Cancel cancel)
      : content_(content), made_(made), cancel_(cancel), buffer_(copy_buffer_bytes), tar_([target_fd](std::string_view bytes) { return linux::write_all(target_fd, bytes); }) {}

  /// `index`: unless empty, the layout holds this one image, of several platforms.
  Status run(const std::vector<SavedImage>& images, const Index& index, const Reference& index_name, const IndexAnnotations& annotations);

 private:
  Status add_folder(const std::string& name);
  Status add_document(const std::string& name, const std::string& text);
  Status add_blob(const Digest& digest);
  Result<std::uint64_t> size_of(const Digest& digest) const;
  Status check_cancelled();
  static std::string index_of(const std::vector<SavedImage>& images, const std::map<Digest, std::uint64_t>& manifest_sizes, const IndexAnnotations& annotations);
  static std::string docker_manifest_of(const std::vector<SavedImage>& images);

  const ContentStore& content_;
  const Replacements& made_;
  Cancel cancel_;
  std::vector<char> buffer_;
  TarWriter tar_;
};

std::string member_of(const Digest& digest) { return concat("blobs/", digest.algorithm(), "/", digest.hex()); }

void name_entry(Descriptor& descriptor, const Reference& name, Index& index) {
  descriptor.annotations["io.containerd.image.name"] = name.canonical();
  descriptor.annotations["org.opencontainers.image.ref.name"] = name.tag;
  index.manifests.push_back(descriptor);
}

Status ArchiveWriter::run(const std::vector<SavedImage>& images, const Index& index, const Reference& index_name, const IndexAnnotations& annotations) {
  std::set<Digest> blobs;
  std::map<Digest, std::uint64_t> manifest_sizes;
  for (const auto& image : images) {
    blobs.insert(image.record.id);
    blobs.insert(image.record.manifest);
    manifest_sizes[image.record.manifest] = TRY_PLAIN(size_of(image.record.manifest));
    for (const auto& layer : image.record.layers) blobs.insert(layer.blob);
  }
  // A missing blob is found before the first byte goes out: half an archive looks like a whole one to a careless reader.
  for (const auto& blob : blobs) TRY_PLAIN(size_of(blob));
  std::set<std::string> algorithms;
  for (const auto& blob : blobs) algorithms.emplace(blob.algorithm());
  TRY_PLAIN(add_folder("blobs/"));
  for (const auto& algorithm : algorithms) TRY_PLAIN(add_folder(concat("blobs/", algorithm, "/")));
  for (const auto& blob : blobs) TRY(add_blob(blob), concat("blob ", blob.text()));
  if (index.manifests.empty()) {
    TRY_PLAIN(add_document("index.json", index_of(images, manifest_sizes, annotations)));
  } else {
    const auto text = write_index(index);
    Descriptor inner;
    inner.media_type = media_type::oci_index;
    inner.digest = sha256_of(text);
    inner.size_bytes = text.size();
    inner.annotations = annotations.entry;
    Index outer;
    name_entry(inner, index_name, outer);
    TRY_PLAIN(add_document(member_of(inner.digest), text));
    TRY_PLAIN(add_document("index.json", write_index(outer)));
  }
  // What is no image has no place in docker's list.
  if (std::any_of(images.begin(), images.end(), [](const SavedImage& image) { return !image.is_artifact; })) TRY_PLAIN(add_document("manifest.json", docker_manifest_of(images)));
  TRY_PLAIN(add_document("oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
  return tar_.finish();
}

Status ArchiveWriter::add_folder(const std::string& name) {
  TarEntry entry;
  entry.type = TarType::directory;
  entry.name = name;
  entry.mode = 0755;
  return tar_.begin(entry);
}

Status ArchiveWriter::add_document(const std::string& name, const std::string& text) {
  TarEntry entry;
  entry.name = name;
  entry.mode = 0644;
  return tar_.add(entry, text);
}

Status ArchiveWriter::check_cancelled() {
  if (cancel_.fd < 0 || !TRY_PLAIN(linux::wait_readable(cancel_.fd, 0))) return {};
  return Error(ErrorKind::unavailable, "cancelled", ECANCELED);
}

Result<std::uint64_t> ArchiveWriter::size_of(const Digest& digest) const {
  if (const auto document = made_.documents.find(digest); document != made_.documents.end()) return document->second.size();
  if (made_.files.count(digest) != 0) return 0;  // it is there: it was just made
  return content_.blob_size(digest);
}

Status ArchiveWriter::add_blob(const Digest& digest) {
  if (const auto document = made_.documents.find(digest); document != made_.documents.end()) return add_document(member_of(digest), document->second);
  const auto made = made_.files.find(digest);
  auto file = TRY_PLAIN(linux::open(made == made_.files.end() ? content_.blob_path(digest) : made->second, O_RDONLY | O_NOFOLLOW));
  auto status = TRY_PLAIN(linux::fstat(file.get()));
  TarEntry entry;
  entry.name = member_of(digest);
  entry.mode = 0644;
  entry.size_bytes = static_cast<std::uint64_t>(status.st_size);
  TRY_PLAIN(tar_.begin(entry));
  for (std::uint64_t done = 0; done < entry.size_bytes;) {
    TRY_PLAIN(check_cancelled());
    auto got = TRY_PLAIN(linux::read(file.get(), buffer_));
    if (got == 0) return Error(ErrorKind::corrupt, "is shorter than it was");
    TRY_PLAIN(tar_.write(std::string_view(buffer_.data(), got)));
    done += got;
  }
  return {};
}

std::string ArchiveWriter::index_of(const std::vector<SavedImage>& images, const std::map<Digest, std::uint64_t>& manifest_sizes, const IndexAnnotations& annotations) {
  Index index;
  for (const auto& image : images) {
    Descriptor descriptor;
    descriptor.media_type = image.record.manifest_type;
    descriptor.digest = image.record.manifest;
    descriptor.size_bytes = manifest_sizes.at(image.record.manifest);
    descriptor.annotations = annotations.manifests;
    if (image.names.empty()) index.manifests.push_back(descriptor);
    for (const auto& name : image.names) name_entry(descriptor, name, index);
  }
  return write_index(index);
}

std::string ArchiveWriter::docker_manifest_of(const std::vector<SavedImage>& images) {
  std::vector<ArchivedImage> archived;
  for (const auto& image : images) {
    if (image.is_artifact) continue;
    ArchivedImage item;
    item.config = member_of(image.record.id);
    for (const auto& name : image.names) item.repo_tags.push_back(name.familiar());
    for (const auto& layer : image.record.layers) item.layers.push_back(member_of(layer.blob));
    archived.push_back(std::move(item));
  }
  return write_archive_manifest(archived);
}

}  // namespace

Status LocalImageStore::save(const SaveRequest& request, int target_fd, Cancel cancel) {
  if (request.names.empty()) return Error(ErrorKind::invalid, "save: no image was named");
  std::optional<FormPlan> plan;
  if (!request.compression.format.empty()) plan = TRY(plan_form(request.compression, LayerForm::uncompressed), "save");
  else if (request.compression.level) return Error(ErrorKind::invalid, "save: a compression level needs a compression");
  std::vector<SavedImage> images;
  Pins pins(*content_);
  for (const auto& name : request.names) {
    // Under the lock: between finding the record and pinning its blobs nobody may collect them.
    std::lock_guard lock(records_mutex_);
    auto record = TRY_PLAIN(find_record(name));
    TRY_PLAIN(must_be_here(record));
    pins.add_blob(record.id);
    pins.add_blob(record.manifest);
    for (const auto& layer : record.layers) pins.add_blob(layer.blob);
    const bool is_artifact = !TRY(parse_manifest(TRY_PLAIN(content_->read_blob(record.manifest))), concat("manifest of image ", short_id(record.id))).artifact_type.empty();
    auto known = std::find_if(images.begin(), images.end(), [&](const SavedImage& image) { return image.record.id == record.id; });
    if (known == images.end()) known = images.insert(images.end(), SavedImage{record, {}, is_artifact});
    // A name given as a name is kept; an id has none.
    auto reference = parse_reference(name);
    if (!reference.ok() || reference->tag.empty() || reference->digest) continue;
    if (TRY_PLAIN(records_.find_name(reference->canonical()))) known->names.push_back(std::move(*reference));
  }
  Replacements replacements;
  std::map<Digest, ConvertedLayer> made;
  for (auto& image : images) {
    if (!plan) break;
    auto converted = TRY(outgoing(image.record), "save");
    TRY(convert_layers(converted, *plan, made, cancel), "save");
    if (!converted.is_changed) continue;
    replacements.documents[converted.record.manifest] = std::move(converted.manifest_text);
    image.record = std::move(converted.record);
  }
  for (const auto& [source, layer] : made) replacements.files[layer.made.blob] = layer.path();
  Index index;
  Reference as;
  if (!request.index_name.empty()) {
    as = TRY(parse_reference(request.index_name), "save");
    std::vector<ImageRecord> records;
    std::vector<std::uint64_t> manifest_bytes;
    for (const auto& image : images) {
      records.push_back(image.record);
      const auto document = replacements.documents.find(image.record.manifest);
      manifest_bytes.push_back(document == replacements.documents.end() ? TRY(content_->blob_size(image.record.manifest), "save") : document->second.size());
    }
    index = TRY(platform_index(records, manifest_bytes, request.annotations), "save");
  }
  TRY(ArchiveWriter(*content_, replacements, target_fd, cancel).run(images, index, as, request.annotations), "save");
  return {};
}

}  // namespace caisson::image
