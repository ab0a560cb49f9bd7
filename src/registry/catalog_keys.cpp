// Records as JSON.
#include "registry/catalog_keys.hpp"

#include "base/json_array.hpp"

namespace caisson::registry::keys {

namespace {

template <typename Read>
auto read_record(const state::Entry& entry, Read&& read) -> decltype(read(std::declval<const JsonView&>())) {
  auto document = parse_json(entry.value, entry.key);
  if (!document.ok()) return std::move(document).error().with_kind(ErrorKind::corrupt);
  auto record = read(JsonView(*document, entry.key));
  if (!record.ok()) return std::move(record).error().with_kind(ErrorKind::corrupt);
  return record;
}

}  // namespace

std::string write(const BlobRecord& record) {
  json::object out;
  out["size"] = record.size_bytes;
  out["given"] = record.given;
  return to_text(out);
}

std::string write(const ManifestRecord& record) {
  json::object out;
  out["mediaType"] = record.media_type;
  out["size"] = record.size_bytes;
  if (!record.artifact_type.empty()) out["artifactType"] = record.artifact_type;
  if (!record.subject.empty()) out["subject"] = record.subject;
  if (!record.annotations.empty()) {
    json::object annotations;
    for (const auto& [key, value] : record.annotations) annotations[key] = value;
    out["annotations"] = std::move(annotations);
  }
  out["blobs"] = texts(record.blobs);
  out["manifests"] = texts(record.manifests);
  out["pushed"] = record.pushed;
  return to_text(out);
}

std::string write_tag(const Digest& digest, TimestampNs at) {
  json::object out;
  out["digest"] = digest.text();
  out["at"] = at;
  return to_text(out);
}

Result<BlobRecord> read_blob(const state::Entry& entry) {
  return read_record(entry, [](const JsonView& view) -> Result<BlobRecord> {
    BlobRecord record;
    TRY_PLAIN(view.read("size", record.size_bytes));
    TRY_PLAIN(view.read("given", record.given));
    return record;
  });
}

Result<ManifestRecord> read_manifest(const state::Entry& entry) {
  return read_record(entry, [](const JsonView& view) -> Result<ManifestRecord> {
    ManifestRecord record;
    TRY_PLAIN(view.read("mediaType", record.media_type));
    TRY_PLAIN(view.read("size", record.size_bytes));
    TRY_PLAIN(view.read("artifactType", record.artifact_type));
    TRY_PLAIN(view.read("subject", record.subject));
    TRY_PLAIN(view.read("annotations", record.annotations));
    TRY_PLAIN(view.read("blobs", record.blobs));
    TRY_PLAIN(view.read("manifests", record.manifests));
    TRY_PLAIN(view.read("pushed", record.pushed));
    return record;
  });
}

Result<Digest> read_tag(const state::Entry& entry) {
  return read_record(entry, [](const JsonView& view) -> Result<Digest> {
    std::string text;
    TRY_PLAIN(view.read("digest", text));
    return Digest::parse(text);
  });
}

Result<TimestampNs> read_tag_time(const state::Entry& entry) {
  return read_record(entry, [](const JsonView& view) -> Result<TimestampNs> {
    TimestampNs at = 0;
    TRY_PLAIN(view.read("at", at));
    return at;
  });
}

Held split_key(std::string_view key, std::string_view prefix) {
  auto halves = split_once(key.substr(prefix.size()), '@');
  return {std::string(halves.before), std::string(halves.after)};
}

}  // namespace caisson::registry::keys
