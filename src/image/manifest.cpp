// Parsing of manifests, indexes and docker-archive's list of images.
#include "image/manifest.hpp"

#include <algorithm>

#include "base/strings.hpp"

namespace caisson::image {

namespace {

constexpr std::size_t most_layers = 4096;

Status read_digest(const JsonView& view, std::string_view key, Digest& out) {
  auto member = TRY_PLAIN(view.at(key));
  std::string text;
  TRY_PLAIN(member.read(text));
  auto digest = Digest::parse(text);
  if (!digest.ok()) return member.error(digest.error().text());
  out = std::move(*digest);
  return {};
}

Status read_platform(const JsonView& view, std::optional<Platform>& out) {
  auto member = TRY_PLAIN(view.at("platform"));
  if (!member.is_set()) return {};
  Platform platform;
  TRY_PLAIN(member.read("os", platform.os));
  TRY_PLAIN(member.read("architecture", platform.architecture));
  TRY_PLAIN(member.read("variant", platform.variant));
  out = std::move(platform);
  return {};
}

}  // namespace

static Status from_json(const JsonView& view, Descriptor& out) {
  TRY_PLAIN(view.read("mediaType", out.media_type));
  TRY_PLAIN(read_digest(view, "digest", out.digest));
  TRY_PLAIN(view.read("size", out.size_bytes));
  TRY_PLAIN(view.read("annotations", out.annotations));
  TRY_PLAIN(view.read("urls", out.urls));
  TRY_PLAIN(view.read("artifactType", out.artifact_type));
  return read_platform(view, out.platform);
}

static Status from_json(const JsonView& view, ArchivedImage& out) {
  TRY_PLAIN(view.read("Config", out.config));
  TRY_PLAIN(view.read("RepoTags", out.repo_tags));
  TRY_PLAIN(view.read("Layers", out.layers));
  if (out.config.empty()) return view.error("Config is missing");
  if (out.layers.size() > most_layers) return view.error(concat("more than ", most_layers, " layers"));
  return {};
}

bool is_index_type(std::string_view type) { return type == media_type::oci_index || type == media_type::docker_list; }

Platform platform_of_machine(std::string_view machine) {
  Platform platform;
  platform.os = "linux";
  if (machine == "x86_64" || machine == "amd64") platform.architecture = "amd64";
  else if (machine == "aarch64" || machine == "arm64") platform.architecture = "arm64";
  else if (machine.starts_with("armv7") || machine == "armhf") platform = {"linux", "arm", "v7"};
  else if (machine.starts_with("armv6") || machine == "armel") platform = {"linux", "arm", "v6"};
  else if (machine.size() == 4 && machine[0] == 'i' && machine.ends_with("86")) platform.architecture = "386";
  else platform.architecture = machine;  // riscv64, s390x, ppc64le are the same in both vocabularies
  return platform;
}

std::string platform_text(const Platform& platform) { return concat(platform.os, "/", platform.architecture, platform.variant.empty() ? "" : "/", platform.variant); }

Result<Platform> parse_platform(std::string_view text) {
  auto bad = [&] { return Error(ErrorKind::invalid, concat("\"", text, "\": unknown operating system or architecture: invalid platform")); };
  auto pieces = split(text, '/');
  if (pieces.size() > 3 || std::any_of(pieces.begin(), pieces.end(), [](auto piece) { return piece.empty(); })) return bad();
  for (char c : text)
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '/' || c == '_' || c == '.' || c == '-')) return bad();
  if (pieces.size() == 1) return pieces[0] == "linux" ? bad() : Result<Platform>(platform_of_machine(pieces[0]));
  auto platform = platform_of_machine(pieces[1]);
  platform.os = pieces[0];
  if (pieces.size() == 3) platform.variant = pieces[2];
  return platform;
}

bool platform_matches(const Platform& offered, const Platform& wanted) {
  auto variant = [](const Platform& platform) {
    if (platform.architecture == "arm64" && platform.variant == "v8") return std::string();
    if (platform.architecture == "amd64" && platform.variant == "v1") return std::string();
    return platform.variant;
  };
  if (offered.os != wanted.os || offered.architecture != wanted.architecture) return false;
  // A 32-bit ARM core also runs what was built for its ancestors.
  if (offered.architecture == "arm" && !offered.variant.empty() && !wanted.variant.empty()) return offered.variant <= wanted.variant;
  return offered.variant.empty() || variant(offered) == variant(wanted);
}

namespace {
/// What a manifest and an index have in common since version 1.1 of the image specification.
template <typename Document>
Status read_relations(const JsonView& view, Document& out) {
  TRY_PLAIN(view.read("annotations", out.annotations));
  TRY_PLAIN(view.read("artifactType", out.artifact_type));
  auto subject = TRY_PLAIN(view.at("subject"));
  if (!subject.is_set()) return {};
  out.subject.emplace();
  return subject.read(*out.subject);
}
}  // namespace

Result<Manifest> parse_manifest(std::string_view text) {
  auto document = TRY_PLAIN(parse_json(text, "image manifest"));
  JsonView view(document, "manifest");
  Manifest manifest;
  TRY_PLAIN(view.read("mediaType", manifest.media_type));
  std::int64_t version = 2;
  TRY_PLAIN(view.read("schemaVersion", version));
  if (version != 2 || manifest.media_type.starts_with(media_type::docker_schema1))
    return Error(ErrorKind::unsupported, "manifest: Docker image manifest version 2, schema 1 is no longer supported")
        .with_hint("Rebuild the image with a newer tool, or convert it with \"skopeo copy --format v2s2\"");
  auto list = TRY_PLAIN(view.at("manifests"));
  auto layers = TRY_PLAIN(view.at("layers"));
  if (list.is_set()) return Error(ErrorKind::invalid, layers.is_set() ? "manifest: has both \"layers\" and \"manifests\"" : "manifest: is an index");
  auto config = TRY_PLAIN(view.at("config"));
  if (!config.is_set()) return view.error("config is missing");
  TRY_PLAIN(config.read(manifest.config));
  if (!layers.is_set()) return view.error("layers is missing");
  TRY_PLAIN(layers.read(manifest.layers));
  if (manifest.layers.size() > most_layers) return layers.error(concat("more than ", most_layers, " layers"));
  TRY_PLAIN(read_relations(view, manifest));
  return manifest;
}

Status check_purpose(const Manifest& manifest, std::string_view accepted) {
  if (manifest.artifact_type != media_type::cache_mount || manifest.artifact_type == accepted) return {};
  return Error(ErrorKind::unsupported, concat("a cache mount of builds (", manifest.artifact_type, "), no image: `caisson builder cache import` takes it in"));
}

Result<Index> parse_index(std::string_view text) {
  auto document = TRY_PLAIN(parse_json(text, "image index"));
  JsonView view(document, "index");
  Index index;
  auto layers = TRY_PLAIN(view.at("layers"));
  if (layers.is_set()) return view.error("has \"layers\", so it is no index");
  auto manifests = TRY_PLAIN(view.at("manifests"));
  if (!manifests.is_set()) return view.error("manifests is missing");
  TRY_PLAIN(manifests.read(index.manifests));
  TRY_PLAIN(view.read("mediaType", index.media_type));
  TRY_PLAIN(read_relations(view, index));
  return index;
}

Result<std::vector<ArchivedImage>> parse_archive_manifest(std::string_view text) {
  auto document = TRY_PLAIN(parse_json(text, "manifest.json"));
  JsonView view(document, "manifest.json");
  std::vector<ArchivedImage> images;
  TRY_PLAIN(view.read(images));
  return images;
}

std::string layer_media_type(Compression compression) {
  std::string type(media_type::oci_layer);
  if (compression != Compression::none) type += concat("+", to_string(compression));
  return type;
}

namespace {
json::object write_texts(const std::map<std::string, std::string>& texts) {
  json::object out;
  for (const auto& [key, value] : texts) out[key] = value;
  return out;
}

json::object write_descriptor(const Descriptor& descriptor) {
  json::object out;
  out["mediaType"] = descriptor.media_type;
  if (!descriptor.artifact_type.empty()) out["artifactType"] = descriptor.artifact_type;
  out["digest"] = descriptor.digest.text();
  out["size"] = descriptor.size_bytes;
  if (!descriptor.annotations.empty()) out["annotations"] = write_texts(descriptor.annotations);
  if (descriptor.platform) {
    json::object platform;
    platform["architecture"] = descriptor.platform->architecture;
    platform["os"] = descriptor.platform->os;
    if (!descriptor.platform->variant.empty()) platform["variant"] = descriptor.platform->variant;
    out["platform"] = std::move(platform);
  }
  return out;
}
}  // namespace

std::string write_manifest(const Manifest& manifest) {
  json::object out;
  out["schemaVersion"] = 2;
  out["mediaType"] = manifest.media_type;
  if (!manifest.artifact_type.empty()) out["artifactType"] = manifest.artifact_type;
  out["config"] = write_descriptor(manifest.config);
  json::array layers;
  for (const auto& layer : manifest.layers) layers.push_back(write_descriptor(layer));
  out["layers"] = std::move(layers);
  if (manifest.subject) out["subject"] = write_descriptor(*manifest.subject);
  if (!manifest.annotations.empty()) out["annotations"] = write_texts(manifest.annotations);
  return to_text(out);
}

std::string write_index(const Index& index) {
  json::object out;
  out["schemaVersion"] = 2;
  out["mediaType"] = media_type::oci_index;
  if (!index.artifact_type.empty()) out["artifactType"] = index.artifact_type;
  json::array manifests;
  for (const auto& descriptor : index.manifests) manifests.push_back(write_descriptor(descriptor));
  out["manifests"] = std::move(manifests);
  if (index.subject) out["subject"] = write_descriptor(*index.subject);
  if (!index.annotations.empty()) out["annotations"] = write_texts(index.annotations);
  return to_text(out);
}

std::string write_archive_manifest(const std::vector<ArchivedImage>& images) {
  json::array out;
  for (const auto& image : images) {
    json::object item;
    item["Config"] = image.config;
    json::array tags;
    for (const auto& tag : image.repo_tags) tags.push_back(json::value(tag));
    if (image.repo_tags.empty()) item["RepoTags"] = nullptr;
    else item["RepoTags"] = std::move(tags);
    json::array layers;
    for (const auto& layer : image.layers) layers.push_back(json::value(layer));
    item["Layers"] = std::move(layers);
    out.push_back(std::move(item));
  }
  return to_text(out);
}

}  // namespace caisson::image
