// The build cache: what each step made, under a key that covers all that could make it come out differently.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/cancel.hpp"
#include "base/digest.hpp"
#include "base/result.hpp"
#include "build/builder.hpp"
#include "build/waiters.hpp"
#include "image/image_store.hpp"
#include "state/store.hpp"

namespace caisson::build {

/// Fields are hashed with their lengths, so that no two lists give the same key.
class KeyHasher {
 public:
  explicit KeyHasher(std::string_view kind) { add(kind); }
  KeyHasher& add(std::string_view field);
  KeyHasher& add(const std::vector<std::string>& fields);
  std::string finish() { return std::string(hasher_.finish().hex()); }

 private:
  Hasher hasher_;
};

/// What a step made: a layer, and an image that ends with it and keeps it in the store.
struct Made {
  image::MadeLayer layer;
  std::string image;  ///< "sha256:…"; the parent's when the layer is empty, "" when there is none either
  bool owns_image = false;  ///< the image was made for the cache, and goes with its entry
};

/// A step as it goes to other hosts.
struct ExportedStep {
  std::string key;
  std::string text;
  image::MadeLayer layer;
};

/// Records "build/cache/<key>" in the state store; layers live as long as their images. Thread-safe.
class Cache {
 public:
  Cache(state::Store& store, image::ImageStore& images) : store_(store), images_(images) {}

  /// Reads what is recorded. Records that cannot be read are dropped.
  Status load();
  /// Nothing when it was not done before, or its image is gone. A hit counts as a use, which record_uses() keeps.
  Result<std::optional<Made>> find(const std::string& key);
  Status put(const std::string& key, const std::string& text, const Made& made);
  /// One commit for all hits since the last time: a step that was found costs none of its own. A crash forgets when they were used, nothing else.
  Status record_uses();
  [[nodiscard]] std::vector<CacheEntry> entries();
  /// Those of the keys that are there, in order of keys. Does not count as a use.
  [[nodiscard]] std::vector<ExportedStep> steps(const std::set<std::string>& keys);
  /// Those of the keys go that no build needs.
  Result<std::vector<CacheEntry>> take(const std::vector<std::string>& keys);
  [[nodiscard]] std::set<std::string> images();
  /// Of an image that was made for the cache's sake, unless it is somebody's own by now.
  Status remove_image(const std::string& id);

  /// Finished images by everything that is in them: building the same again gives the same image.
  Result<std::optional<image::Image>> find_final(const std::string& key);
  Status put_final(const std::string& key, const std::string& image);

  /// One at a time per key: a second build of the same step waits, and then finds it done. Also pins the key against pruning.
  class Held {
   public:
    Held(Cache& cache, std::string key) : cache_(&cache), key_(std::move(key)) {}
    Held(Held&& other) noexcept : cache_(std::exchange(other.cache_, nullptr)), key_(std::move(other.key_)) {}
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    Held& operator=(Held&&) = delete;
    ~Held();

   private:
    Cache* cache_;
    std::string key_;
  };
  /// Errors: unavailable (ECANCELED).
  Result<Held> hold(const std::string& key, Cancel cancel);
  /// Keeps entries while a build goes on.
  void pin(const std::string& key);
  void unpin(const std::set<std::string>& keys);

 private:
  Result<std::vector<CacheEntry>> take_any(const std::vector<std::string>& keys, bool also_pinned);

  struct Entry {
    CacheEntry shown;
    image::MadeLayer layer;
    bool owns_image = false;
    std::size_t pins = 0;
  };
  std::string encode(const Entry& entry) const;

  state::Store& store_;
  image::ImageStore& images_;
  std::mutex mutex_;
  std::map<std::string, Entry> entries_;
  std::set<std::string> held_;
  Waiters waiters_;  // for the end of a Held
  std::set<std::string> used_;
};

}  // namespace caisson::build
