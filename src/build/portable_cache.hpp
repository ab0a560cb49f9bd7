// The build cache on its way between hosts: an image that holds steps' layers, and says in its manifest which key each layer has.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "build/builder.hpp"
#include "build/cache.hpp"
#include "image/image_store.hpp"

namespace caisson::build {

/// The annotation of a manifest with the records below. An image that was built with its cache inline has it, too.
inline constexpr std::string_view cache_annotation = "org.caisson.build.cache.v1";

/// A step that was done somewhere.
struct CacheRecord {
  std::string key;               ///< 64 hexadecimal digits
  std::string text;              ///< the instruction
  std::optional<Digest> layer;   ///< diffID; nothing: the step changed no file
};

/// {"steps":[{"key","text","layer"}]}, in order of keys: the same records give the same text.
std::string write_cache_records(std::vector<CacheRecord> records);
/// Errors: invalid, naming the field; a record twice; more than 100,000 of them.
Result<std::vector<CacheRecord>> parse_cache_records(std::string_view text);

/// What the sources of a build offer. A source says what a step makes: whoever may write to it decides what is built here, so it is
/// judged by the signature policy as an image is. Filled once, read by all stages.
class ImportedCache {
 public:
  explicit ImportedCache(image::ImageStore& images) : images_(images) {}

  /// Documents travel, layers do not. Returns how many steps it offers. Errors: as ImageStore::list_layers; invalid.
  Result<std::size_t> add(const CacheSource& source, const image::RegistryCredentials& credentials, const std::string& platform, Cancel cancel);
  /// The layer of a step, held in the store; nothing when no source offers the step. Errors: as ImageStore::bring_layer.
  Result<std::optional<image::MadeLayer>> bring(const std::string& key, Cancel cancel) const;

 private:
  struct Source {
    image::LayerList list;
    image::RegistryCredentials credentials;
  };
  struct Place {
    std::size_t source = 0;
    std::optional<std::size_t> layer;
  };
  image::ImageStore& images_;
  std::vector<Source> sources_;
  std::map<std::string, Place> places_;
};

std::vector<CacheRecord> records_of(const std::vector<ExportedStep>& steps);

/// The image that carries `records`: their layers, each once, in order of digests, and no configuration. The same steps give the same digest on
/// every host. It has no name. Errors: as ImageStore::compose.
Result<image::Image> compose_cache_image(image::ImageStore& images, const std::vector<ExportedStep>& steps, const std::string& platform);

}  // namespace caisson::build
