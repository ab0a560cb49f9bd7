// Records in a manifest's annotation; sources asked in order.
#include "build/portable_cache.hpp"

#include <algorithm>
#include <set>

#include "base/json.hpp"
#include "base/strings.hpp"

namespace caisson::build {

namespace {

constexpr std::size_t most_records = 100'000;

Status check_key(const std::string& key) {
  constexpr std::size_t digits = 64;
  if (key.size() == digits && key.find_first_not_of("0123456789abcdef") == std::string::npos) return {};
  return Error(ErrorKind::invalid, concat("key: \"", key, "\" is no digest of a step"));
}

Status read_record(const JsonView& view, CacheRecord& out) {
  std::string layer;
  TRY_PLAIN(view.read("key", out.key));
  TRY_PLAIN(view.read("text", out.text));
  TRY_PLAIN(view.read("layer", layer));
  TRY_PLAIN(check_key(out.key));
  if (!layer.empty()) out.layer = TRY(Digest::parse(layer), "layer");
  return {};
}

}  // namespace

std::string write_cache_records(std::vector<CacheRecord> records) {
  std::sort(records.begin(), records.end(), [](const CacheRecord& a, const CacheRecord& b) { return a.key < b.key; });
  json::array steps;
  for (const auto& record : records)
    steps.push_back(json::object{{"key", record.key}, {"text", record.text}, {"layer", record.layer ? record.layer->text() : std::string()}});
  return to_text(json::object{{"steps", std::move(steps)}});
}

Result<std::vector<CacheRecord>> parse_cache_records(std::string_view text) {
  auto document = TRY(parse_json(text, cache_annotation), "build cache");
  std::vector<CacheRecord> records;
  auto steps = TRY(JsonView(document, std::string(cache_annotation)).at("steps"), "build cache");
  TRY(steps.for_each_element([&](const JsonView& step) -> Status {
    if (records.size() == most_records) return Error(ErrorKind::invalid, concat("more than ", most_records, " steps"));
    return read_record(step, records.emplace_back());
  }), "build cache");
  std::set<std::string> keys;
  for (const auto& record : records)
    if (!keys.insert(record.key).second) return Error(ErrorKind::invalid, concat("build cache: the step ", record.key, " is there twice"));
  return records;
}

Result<std::size_t> ImportedCache::add(const CacheSource& source, const image::RegistryCredentials& credentials, const std::string& platform, Cancel cancel) {
  image::LayersRequest request;
  request.reference = source.reference;
  request.platform = platform;
  request.credentials = credentials;
  Source opened;
  opened.credentials = request.credentials;
  auto list = source.is_remote ? Result<image::LayerList>(Error(ErrorKind::not_found, "")) : images_.list_layers(request, cancel);
  if (!list.ok() && list.error().kind() == ErrorKind::not_found && !source.is_local) {
    request.is_remote = true;
    list = images_.list_layers(request, cancel);
  }
  opened.list = TRY_PLAIN(std::move(list));
  auto text = opened.list.annotations.find(std::string(cache_annotation));
  if (text == opened.list.annotations.end()) return std::size_t{0};
  auto records = TRY_PLAIN(parse_cache_records(text->second));
  std::size_t offered = 0;
  for (const auto& record : records) {
    Place place;
    place.source = sources_.size();
    if (record.layer) {
      auto entry = std::find_if(opened.list.layers.begin(), opened.list.layers.end(), [&](const image::LayerEntry& layer) { return layer.diff_id == *record.layer; });
      if (entry == opened.list.layers.end()) return Error(ErrorKind::invalid, concat("build cache: the step ", record.key, " has the layer ", record.layer->text(), ", and the image does not"));
      place.layer = static_cast<std::size_t>(entry - opened.list.layers.begin());
    }
    // Whoever was named first is asked first.
    if (places_.emplace(record.key, place).second) ++offered;
  }
  sources_.push_back(std::move(opened));
  return offered;
}

Result<std::optional<image::MadeLayer>> ImportedCache::bring(const std::string& key, Cancel cancel) const {
  auto place = places_.find(key);
  if (place == places_.end()) return std::optional<image::MadeLayer>();
  if (!place->second.layer) {
    image::MadeLayer none;
    none.is_empty = true;
    return std::optional(std::move(none));
  }
  const auto& source = sources_[place->second.source];
  return std::optional(TRY(images_.bring_layer(source.list, *place->second.layer, source.credentials, {}, cancel), concat("build cache ", source.list.reference)));
}

std::vector<CacheRecord> records_of(const std::vector<ExportedStep>& steps) {
  std::vector<CacheRecord> records;
  for (const auto& step : steps) {
    CacheRecord record{step.key, step.text, std::nullopt};
    if (!step.layer.is_empty) record.layer = step.layer.diff_id;
    records.push_back(std::move(record));
  }
  return records;
}

Result<image::Image> compose_cache_image(image::ImageStore& images, const std::vector<ExportedStep>& steps, const std::string& platform) {
  std::map<std::string, image::MadeLayer> layers;
  for (const auto& step : steps)
    if (!step.layer.is_empty) layers.emplace(step.layer.diff_id.text(), step.layer);
  image::ComposeRequest request;
  request.platform = platform;
  auto records = write_cache_records(records_of(steps));
  // The image's id knows nothing of annotations: other steps with the same layers are another image.
  request.comment = concat("a build cache ", sha256_of(records).hex());
  for (auto& [digest, layer] : layers) request.layers.push_back(std::move(layer));
  request.annotations.emplace(cache_annotation, std::move(records));
  return images.compose(request);
}

}  // namespace caisson::build
