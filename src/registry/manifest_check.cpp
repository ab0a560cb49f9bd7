// Manifests and indexes, OCI's and Docker's.
#include "registry/manifest_check.hpp"

#include "base/json.hpp"
#include "base/strings.hpp"
#include "image/manifest.hpp"

namespace caisson::registry {

namespace {

namespace media_type = image::media_type;

/// image-spec, "Non-Distributable Layers", and Docker's foreign layers: pushing them is not asked for.
bool may_stay_elsewhere(const image::Descriptor& layer) {
  return layer.media_type.find("nondistributable") != std::string::npos || layer.media_type.find(".foreign.") != std::string::npos;
}

template <typename Document>
void take_relations(const Document& document, CheckedManifest& out) {
  out.record.annotations = document.annotations;
  out.record.artifact_type = document.artifact_type;
  if (document.subject) out.record.subject = document.subject->digest.text();
}

Status take_manifest(std::string_view text, CheckedManifest& out, std::string& own_type) {
  const auto manifest = TRY_PLAIN(image::parse_manifest(text));
  own_type = manifest.media_type;
  take_relations(manifest, out);
  // distribution-spec, "Listing Referrers": an artifact without a type of its own has its config's.
  if (out.record.artifact_type.empty()) out.record.artifact_type = manifest.config.media_type;
  out.blobs.push_back({manifest.config.digest, manifest.config.size_bytes, false});
  for (const auto& layer : manifest.layers) out.blobs.push_back({layer.digest, layer.size_bytes, may_stay_elsewhere(layer)});
  return {};
}

Status take_index(std::string_view text, CheckedManifest& out, std::string& own_type) {
  const auto index = TRY_PLAIN(image::parse_index(text));
  own_type = index.media_type;
  take_relations(index, out);
  for (const auto& entry : index.manifests) out.manifests.push_back({entry.digest, entry.size_bytes, false});
  return {};
}

}  // namespace

Result<CheckedManifest> check_manifest(std::string_view text, std::string_view content_type) {
  auto type = lower(trim(split_once(content_type, ';').before));
  if (type.starts_with(media_type::docker_schema1)) return Error(ErrorKind::unsupported, "manifests of Docker's schema 1 are not taken");
  if (type.empty()) {  // the document says what it is
    auto document = TRY_PLAIN(parse_json(text, "manifest"));
    TRY_PLAIN(JsonView(document, "manifest").read("mediaType", type));
    if (type.empty()) return Error(ErrorKind::invalid, "neither the request's Content-Type nor the manifest's mediaType says what it is");
  }
  CheckedManifest out;
  std::string own_type;
  if (image::is_index_type(type)) TRY_PLAIN(take_index(text, out, own_type));
  else if (type == media_type::oci_manifest || type == media_type::docker_manifest) TRY_PLAIN(take_manifest(text, out, own_type));
  else return Error(ErrorKind::unsupported, concat("\"", type, "\" is no manifest type that this registry knows"));
  // CVE-2021-41190: one document must not be a manifest to one reader and an index to another.
  if (!own_type.empty() && own_type != type) return Error(ErrorKind::invalid, concat("its mediaType \"", own_type, "\" contradicts the Content-Type \"", type, "\""));
  out.record.media_type = std::move(type);
  out.record.size_bytes = text.size();
  return out;
}

}  // namespace caisson::registry
