// What the state store remembers of images: "image/id/<digest>" and "image/name/<canonical reference>".
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "image/manifest.hpp"
#include "state/store.hpp"

namespace caisson::image {

struct LayerRecord {
  Digest diff_id;
  Digest blob;  ///< as received, compressed or not
  std::uint64_t blob_bytes = 0;
  std::string media_type;
};

/// Of an image whose layers may be used before they are here.
struct ComingRecord {
  std::string reference;    ///< canonical: where the rest of it is to come from
  std::string trouble;
  bool is_refused = false;  ///< what came is not what had been promised
};

struct ImageRecord {
  Digest id;        ///< of the config blob
  Digest manifest;
  std::string manifest_type{media_type::oci_manifest};  ///< as a registry has to be told, and as an index names it
  std::vector<LayerRecord> layers;  ///< lowest first
  std::uint64_t size_bytes = 0;     ///< of the unpacked layers
  std::optional<Digest> packages;   ///< blob with the list of packages of a bootstrapped image
  std::optional<ComingRecord> coming;  ///< nothing: it is here
};

struct NameRecord {
  std::string reference;  ///< canonical
  Digest id;
};

class ImageRecords {
 public:
  explicit ImageRecords(state::Store& store) : store_(store) {}

  /// Nothing when there is no such image. Errors: corrupt (the record is unreadable).
  Result<std::optional<ImageRecord>> find(const Digest& id) const;
  struct Listing {
    std::vector<ImageRecord> images;
    std::vector<std::string> unreadable;  ///< one sentence per record
  };
  Result<Listing> list() const;
  Result<std::optional<NameRecord>> find_name(const std::string& canonical) const;
  Result<std::vector<NameRecord>> names() const;
  Result<std::vector<NameRecord>> names_of(const Digest& id) const;

  static void put(state::Transaction& transaction, const ImageRecord& image);
  static void put_name(state::Transaction& transaction, const std::string& canonical, const Digest& id);
  static void erase(state::Transaction& transaction, const Digest& id);
  static void erase_name(state::Transaction& transaction, const std::string& canonical);

 private:
  state::Store& store_;
};

}  // namespace caisson::image
