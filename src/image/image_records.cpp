// Image records as JSON texts in the state store.
#include "image/image_records.hpp"

#include "base/json.hpp"
#include "base/strings.hpp"

namespace caisson::image {

namespace {

constexpr std::string_view id_prefix = "image/id/";
constexpr std::string_view name_prefix = "image/name/";

Status read_digest(const JsonView& view, std::string_view key, Digest& out) {
  std::string text;
  TRY_PLAIN(view.read(key, text));
  out = TRY(Digest::parse(text), key);
  return {};
}

}  // namespace

static Status from_json(const JsonView& view, LayerRecord& out) {
  TRY_PLAIN(read_digest(view, "diff_id", out.diff_id));
  TRY_PLAIN(read_digest(view, "blob", out.blob));
  TRY_PLAIN(view.read("blob_bytes", out.blob_bytes));
  return view.read("media_type", out.media_type);
}

static Status from_json(const JsonView& view, ComingRecord& out) {
  TRY_PLAIN(view.read("reference", out.reference));
  TRY_PLAIN(view.read("trouble", out.trouble));
  return view.read("refused", out.is_refused);
}

static Status from_json(const JsonView& view, ImageRecord& out) {
  TRY_PLAIN(read_digest(view, "manifest", out.manifest));
  TRY_PLAIN(view.read("manifest_type", out.manifest_type));
  TRY_PLAIN(view.read("layers", out.layers));
  TRY_PLAIN(view.read("size_bytes", out.size_bytes));
  TRY_PLAIN(view.read("coming", out.coming));
  std::string packages;
  TRY_PLAIN(view.read("packages", packages));
  if (!packages.empty()) out.packages = TRY(Digest::parse(packages), "packages");
  return {};
}

namespace {

Result<ImageRecord> parse_image(const state::Entry& entry) {
  auto parse = [&]() -> Result<ImageRecord> {
    ImageRecord record;
    record.id = TRY_PLAIN(Digest::parse(std::string_view(entry.key).substr(id_prefix.size())));
    auto document = TRY_PLAIN(parse_json(entry.value, "record"));
    TRY_PLAIN(from_json(JsonView(document), record));
    return record;
  };
  auto record = parse();
  if (!record.ok()) return std::move(record).error().with_kind(ErrorKind::corrupt).in(concat("record \"", entry.key, "\" is unreadable"));
  return record;
}

Result<NameRecord> parse_name(const state::Entry& entry) {
  NameRecord record;
  record.reference = entry.key.substr(name_prefix.size());
  auto document = TRY_PLAIN(parse_json(entry.value, entry.key));
  TRY(read_digest(JsonView(document), "id", record.id), entry.key);
  return record;
}

}  // namespace

Result<std::optional<ImageRecord>> ImageRecords::find(const Digest& id) const {
  auto entry = store_.get(concat(id_prefix, id.text()));
  if (!entry.ok() && entry.error().kind() == ErrorKind::not_found) return std::optional<ImageRecord>();
  if (!entry.ok()) return std::move(entry).error();
  return std::optional<ImageRecord>(TRY_PLAIN(parse_image(*entry)));
}

Result<ImageRecords::Listing> ImageRecords::list() const {
  Listing listing;
  for (const auto& entry : TRY_PLAIN(store_.list(id_prefix))) {
    auto record = parse_image(entry);
    if (record.ok()) listing.images.push_back(std::move(*record));
    else listing.unreadable.push_back(record.error().text());
  }
  return listing;
}

Result<std::optional<NameRecord>> ImageRecords::find_name(const std::string& canonical) const {
  auto entry = store_.get(concat(name_prefix, canonical));
  if (!entry.ok() && entry.error().kind() == ErrorKind::not_found) return std::optional<NameRecord>();
  if (!entry.ok()) return std::move(entry).error();
  auto record = parse_name(*entry);
  if (!record.ok()) return std::move(record).error().with_kind(ErrorKind::corrupt);
  return std::optional<NameRecord>(std::move(*record));
}

Result<std::vector<NameRecord>> ImageRecords::names() const {
  std::vector<NameRecord> out;
  for (const auto& entry : TRY_PLAIN(store_.list(name_prefix)))
    if (auto record = parse_name(entry); record.ok()) out.push_back(std::move(*record));
  return out;
}

Result<std::vector<NameRecord>> ImageRecords::names_of(const Digest& id) const {
  std::vector<NameRecord> out;
  for (auto& record : TRY_PLAIN(names()))
    if (record.id == id) out.push_back(std::move(record));
  return out;
}

void ImageRecords::put(state::Transaction& transaction, const ImageRecord& image) {
  json::object out;
  out["manifest"] = image.manifest.text();
  if (image.manifest_type != media_type::oci_manifest) out["manifest_type"] = image.manifest_type;
  json::array layers;
  for (const auto& layer : image.layers) {
    json::object item;
    item["diff_id"] = layer.diff_id.text();
    item["blob"] = layer.blob.text();
    item["blob_bytes"] = layer.blob_bytes;
    item["media_type"] = layer.media_type;
    layers.push_back(std::move(item));
  }
  out["layers"] = std::move(layers);
  out["size_bytes"] = image.size_bytes;
  if (image.packages) out["packages"] = image.packages->text();
  if (image.coming) {
    json::object coming{{"reference", image.coming->reference}};
    if (!image.coming->trouble.empty()) coming["trouble"] = image.coming->trouble;
    if (image.coming->is_refused) coming["refused"] = true;
    out["coming"] = std::move(coming);
  }
  transaction.put(concat(id_prefix, image.id.text()), to_text(out));
}

void ImageRecords::put_name(state::Transaction& transaction, const std::string& canonical, const Digest& id) {
  json::object out;
  out["id"] = id.text();
  transaction.put(concat(name_prefix, canonical), to_text(out));
}

void ImageRecords::erase(state::Transaction& transaction, const Digest& id) { transaction.erase(concat(id_prefix, id.text())); }

void ImageRecords::erase_name(state::Transaction& transaction, const std::string& canonical) { transaction.erase(concat(name_prefix, canonical)); }

}  // namespace caisson::image
