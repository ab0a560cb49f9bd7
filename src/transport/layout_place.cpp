// Files of a layout: blobs appear whole, and index.json changes under a lock.
#include "transport/layout_place.hpp"

#include <algorithm>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "image/content_store.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::transport {

namespace {

constexpr const char* annotation_ref = "org.opencontainers.image.ref.name";
constexpr const char* annotation_name = "io.containerd.image.name";
constexpr std::string_view layout_version = "1.0.0";
constexpr const char* layout_text = R"({"imageLayoutVersion":"1.0.0"})";
constexpr std::size_t most_folder_depth = 16;
constexpr std::size_t most_document_bytes = 16 << 20;

Status check_version(const std::string& folder) {
  auto text = linux::read_file(folder + "/oci-layout");
  if (!text.ok() && text.error().kind() == ErrorKind::not_found) return Error(ErrorKind::not_found, concat(folder, " is no OCI layout: there is no file oci-layout in it"));
  auto document = TRY_PLAIN(parse_json(TRY_PLAIN(std::move(text)), folder + "/oci-layout"));
  std::string version;
  TRY(JsonView(document).read("imageLayoutVersion", version), folder + "/oci-layout");
  if (version != layout_version) return Error(ErrorKind::unsupported, concat(folder, " is an OCI layout of version \"", version, "\", not ", layout_version));
  return {};
}

Status create(const std::string& folder) {
  for (const char* part : {"/blobs/sha256", "/blobs/sha512"}) TRY_PLAIN(linux::make_dirs(folder + part, 0755));
  if (!TRY_PLAIN(linux::exists(folder + "/index.json")))
    TRY_PLAIN(linux::write_file_atomic(folder + "/index.json", image::write_index({}), 0644, linux::Durability::synced));
  // Last: a folder with this file is a layout.
  if (!TRY_PLAIN(linux::exists(folder + "/oci-layout"))) TRY_PLAIN(linux::write_file_atomic(folder + "/oci-layout", layout_text, 0644, linux::Durability::synced));
  return {};
}

bool is_named(const json::value& entry, const std::string& tag) {
  const auto* object = entry.if_object();
  const auto* annotations = object == nullptr ? nullptr : object->if_contains("annotations");
  const auto* ref = annotations == nullptr || !annotations->is_object() ? nullptr : annotations->get_object().if_contains(annotation_ref);
  return ref != nullptr && ref->is_string() && ref->get_string() == tag;
}

std::string tag_of(const image::Descriptor& entry) {
  auto found = entry.annotations.find(annotation_ref);
  return found == entry.annotations.end() ? std::string() : found->second;
}

}  // namespace

Result<std::unique_ptr<LayoutPlace>> LayoutPlace::open(const std::string& folder, Mode mode) {
  if (mode == Mode::write && !TRY_PLAIN(linux::exists(folder + "/oci-layout"))) TRY(create(folder), concat("make the OCI layout ", folder));
  TRY_PLAIN(check_version(folder));
  return std::unique_ptr<LayoutPlace>(new LayoutPlace(folder));
}

std::string LayoutPlace::blob_path(const Digest& digest) const { return concat(folder_, "/blobs/", digest.algorithm(), "/", digest.hex()); }

/// Only regular files: a layout may come from anywhere, and a link or pipe in it must not lead us to wait or elsewhere.
Result<UniqueFd> LayoutPlace::open_file(const Digest& digest) const {
  auto file = linux::open(blob_path(digest), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  if (!file.ok() && file.error().kind() == ErrorKind::not_found) return Error(ErrorKind::not_found, concat(name(), ": blob ", digest.text(), " is missing"));
  auto opened = TRY(std::move(file), name());
  if (!S_ISREG(TRY(linux::fstat(opened.get()), name()).st_mode)) return Error(ErrorKind::invalid, concat(name(), ": blob ", digest.text(), " is no regular file"));
  return opened;
}

Result<image::Index> LayoutPlace::index() const {
  const auto path = folder_ + "/index.json";
  return TRY(image::parse_index(TRY(linux::read_file(path), name())), path);
}

Result<json::object> LayoutPlace::read_index() const {
  const auto path = folder_ + "/index.json";
  auto document = TRY_PLAIN(parse_json(TRY(linux::read_file(path), name()), path));
  if (!document.is_object()) return Error(ErrorKind::invalid, path + " is no object");
  return std::move(document.get_object());
}

Result<image::FetchedManifest> LayoutPlace::manifest(const std::string& wanted) {
  const auto entries = TRY_PLAIN(index()).manifests;
  auto digest = Digest::parse(wanted);
  std::optional<image::Descriptor> found;
  if (wanted.empty()) found = TRY_PLAIN(only_image(entries));
  else
    for (const auto& entry : entries)
      if (digest.ok() ? entry.digest == *digest : tag_of(entry) == wanted) found = entry;
  if (!found && !digest.ok()) return Error(ErrorKind::not_found, concat(name(), " has no tag \"", wanted, "\""));
  image::FetchedManifest out;
  out.digest = digest.ok() ? *digest : found->digest;
  const auto file = TRY_PLAIN(open_file(out.digest));
  out.text = TRY(linux::read_all(file.get(), most_document_bytes), concat(name(), ": manifest ", out.digest.text()));
  const auto is_digest = digest_of(out.text, out.digest.kind());
  if (is_digest != out.digest) return Error(ErrorKind::corrupt, concat(name(), ": the file of manifest ", out.digest.text(), " holds something else, with digest ", is_digest.text()));
  // What is part of an index says itself what it is, or its form does.
  auto document = TRY(parse_json(out.text, "manifest"), concat(name(), ": manifest ", out.digest.text()));
  std::string own;
  TRY(JsonView(document).read("mediaType", own), concat(name(), ": manifest ", out.digest.text()));
  out.media_type = found && !found->media_type.empty() ? found->media_type : own;
  if (!own.empty() && own != out.media_type)  // CVE-2021-41190, as for registries
    return Error(ErrorKind::corrupt, concat(name(), ": manifest ", out.digest.text(), " says that it is \"", own, "\", the index says \"", out.media_type, "\""));
  if (out.media_type.empty()) out.media_type = image::parse_index(out.text).ok() ? image::media_type::oci_index : image::media_type::oci_manifest;
  return out;
}

Result<std::vector<std::string>> LayoutPlace::tags() {
  std::vector<std::string> out;
  for (const auto& entry : TRY_PLAIN(index()).manifests)
    if (auto tag = tag_of(entry); !tag.empty()) out.push_back(std::move(tag));
  std::sort(out.begin(), out.end());
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

Result<UniqueFd> LayoutPlace::open_blob(const image::Descriptor& blob) { return open_file(blob.digest); }

Status LayoutPlace::fetch_blob(const image::Descriptor& blob, int /*fd*/, std::uint64_t /*offset*/, const OnBytes& /*on_bytes*/) {
  return Error(ErrorKind::internal, concat(name(), ": blob ", blob.digest.text(), " lies at hand"));
}

Result<bool> LayoutPlace::has_blob(const image::Descriptor& blob) {
  auto status = linux::lstat(blob_path(blob.digest));
  if (!status.ok() && status.error().kind() == ErrorKind::not_found) return false;
  const auto found = TRY(std::move(status), name());
  return S_ISREG(found.st_mode) && static_cast<std::uint64_t>(found.st_size) == blob.size_bytes;
}

Status LayoutPlace::put_blob(const image::Descriptor& blob, const ReadyBlob& ready, const OnBytes& on_bytes) {
  const auto path = blob_path(blob.digest);
  const auto step = concat(name(), ": blob ", blob.digest.text());
  if (!ready.path.empty()) {
    TRY(linux::fsync(ready.fd), step);
    TRY(linux::rename(ready.path, path), step);
    return {};
  }
  const auto temporary = concat(path, ".", now_ns(), ".tmp");
  auto copy = [&]() -> Status {
    auto file = TRY_PLAIN(linux::open(temporary, O_WRONLY | O_CREAT | O_EXCL, 0644));
    auto source = TRY_PLAIN(linux::reopen(ready.fd, O_RDONLY));
    TRY_PLAIN(linux::copy_all(source.get(), file.get()));
    TRY_PLAIN(linux::fsync(file.get()));
    return linux::rename(temporary, path);
  };
  auto copied = copy();
  if (!copied.ok()) {
    ignore(linux::unlink(temporary));  // the first error is the one to tell
    return std::move(copied).error().in(step);
  }
  if (on_bytes) on_bytes(blob.size_bytes);
  return {};
}

Status LayoutPlace::list(const image::FetchedManifest& manifest, const std::string& tag, const std::string& artifact_type) {
  const auto folder = TRY(linux::open(folder_, O_RDONLY | O_DIRECTORY), name());
  TRY(linux::flock(folder.get(), LOCK_EX), name());  // until the descriptor closes
  auto document = TRY_PLAIN(read_index());
  json::array entries;
  if (auto* old = document.if_contains("manifests"); old != nullptr && old->is_array())
    for (auto& entry : old->get_array()) {
      const auto* digest = entry.is_object() ? entry.get_object().if_contains("digest") : nullptr;
      const bool is_same = tag.empty() && digest != nullptr && digest->is_string() && digest->get_string() == manifest.digest.text();
      if (is_same) return {};  // listed already, with or without a name
      if (tag.empty() || !is_named(entry, tag)) entries.push_back(std::move(entry));
    }
  json::object entry{{"mediaType", manifest.media_type}, {"digest", manifest.digest.text()}, {"size", manifest.text.size()}};
  if (!artifact_type.empty()) entry["artifactType"] = artifact_type;
  json::object annotations;
  if (!tag.empty()) annotations[annotation_ref] = tag;
  if (!tag.empty() && !repository_name_.empty()) annotations[annotation_name] = concat(repository_name_, ":", tag);
  if (!annotations.empty()) entry["annotations"] = std::move(annotations);
  entries.push_back(std::move(entry));
  document["manifests"] = std::move(entries);
  return linux::write_file_atomic(folder_ + "/index.json", to_text(document), 0644, linux::Durability::synced);
}

Status LayoutPlace::put_manifest(const image::FetchedManifest& manifest, const std::optional<std::string>& tag) {
  const auto step = concat(name(), ": manifest ", manifest.digest.text());
  const auto path = blob_path(manifest.digest);
  if (!TRY(linux::exists(path), step)) TRY(linux::write_file_atomic(path, manifest.text, 0644, linux::Durability::synced), step);
  if (tag) TRY(list(manifest, *tag, ""), step);
  return {};
}

Result<image::Attachment> LayoutPlace::attachment(const image::Descriptor& entry) {
  {
    std::lock_guard lock(mutex_);
    if (auto known = attachments_.find(entry.digest); known != attachments_.end()) return known->second;
  }
  auto described = [&]() -> Result<image::Attachment> { return image::describe_attachment(TRY_PLAIN(manifest(entry.digest.text()))); }();
  // Of a layout that lacks another image, or holds what is no manifest, the rest can still be used.
  const bool is_nobodys = !described.ok() && (described.error().kind() == ErrorKind::not_found || described.error().kind() == ErrorKind::invalid);
  auto out = is_nobodys ? image::Attachment{entry, std::nullopt} : TRY_PLAIN(std::move(described));
  std::lock_guard lock(mutex_);
  return attachments_.emplace(entry.digest, std::move(out)).first->second;
}

Result<image::Descriptor> LayoutPlace::only_image(const std::vector<image::Descriptor>& entries) {
  if (entries.size() == 1) return entries.front();
  std::vector<image::Descriptor> images;
  for (const auto& entry : entries)
    if (!TRY_PLAIN(attachment(entry)).subject) images.push_back(entry);
  if (images.size() == 1) return images.front();
  return Error(ErrorKind::invalid, concat(name(), " holds ", images.size(), " images; name one of them")).with_hint(concat("its tags: ", join(TRY_PLAIN(tags()), " ")));
}

Result<std::vector<image::Descriptor>> LayoutPlace::referrers(const Digest& subject) {
  std::vector<image::Descriptor> out;
  for (const auto& entry : TRY_PLAIN(index()).manifests) {
    auto found = TRY_PLAIN(attachment(entry));
    const bool is_known = std::any_of(out.begin(), out.end(), [&](const auto& other) { return other.digest == entry.digest; });  // under several tags
    if (found.subject && found.subject->digest == subject && !is_known && out.size() < image::most_referrers) out.push_back(std::move(found.descriptor));
  }
  return out;
}

Status LayoutPlace::put_referrer(const image::FetchedManifest& manifest, const image::Attachment& attachment) {
  TRY_PLAIN(put_manifest(manifest, std::nullopt));
  TRY(list(manifest, "", attachment.descriptor.artifact_type), concat(name(), ": manifest ", manifest.digest.text()));
  return {};
}

namespace {
Status look_for_layouts(const std::string& folder, const std::string& relative, std::size_t depth, std::vector<std::string>& out) {
  auto entries = TRY_PLAIN(linux::list_dir(folder));
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  if (std::any_of(entries.begin(), entries.end(), [](const auto& entry) { return entry.name == "oci-layout"; })) {
    out.push_back(relative);
    return {};
  }
  if (depth == most_folder_depth) return {};
  for (const auto& entry : entries) {
    if (!S_ISDIR(TRY_PLAIN(linux::lstat(concat(folder, "/", entry.name))).st_mode)) continue;
    TRY_PLAIN(look_for_layouts(concat(folder, "/", entry.name), relative.empty() ? entry.name : concat(relative, "/", entry.name), depth + 1, out));
  }
  return {};
}
}  // namespace

Result<std::vector<std::string>> find_layouts(const std::string& folder) {
  std::vector<std::string> out;
  TRY_PLAIN(look_for_layouts(folder, "", 0, out));
  return out;
}

}  // namespace caisson::transport
