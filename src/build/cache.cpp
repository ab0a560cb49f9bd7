// Keys, records, and the order in which entries go when the disk space is needed.
#include "build/cache.hpp"

#include "base/json.hpp"
#include "base/log.hpp"
#include "base/strings.hpp"

namespace caisson::build {

namespace {

constexpr std::string_view cache_prefix = "build/cache/";
constexpr std::string_view final_prefix = "build/image/";

struct Stored {
  CacheEntry shown;
  image::MadeLayer layer;
  bool owns_image = false;
};

Status from_json(const JsonView& view, Stored& out) {
  std::string diff_id;
  std::string blob;
  TRY_PLAIN(view.read("image", out.shown.image));
  TRY_PLAIN(view.read("text", out.shown.text));
  TRY_PLAIN(view.read("size", out.shown.size_bytes));
  TRY_PLAIN(view.read("created", out.shown.created));
  TRY_PLAIN(view.read("last_used", out.shown.last_used));
  TRY_PLAIN(view.read("use_count", out.shown.use_count));
  TRY_PLAIN(view.read("diff_id", diff_id));
  TRY_PLAIN(view.read("blob", blob));
  TRY_PLAIN(view.read("blob_bytes", out.layer.blob_bytes));
  TRY_PLAIN(view.read("media_type", out.layer.media_type));
  TRY_PLAIN(view.read("is_empty", out.layer.is_empty));
  TRY_PLAIN(view.read("owns_image", out.owns_image));
  out.layer.diff_id = TRY_PLAIN(Digest::parse(diff_id));
  out.layer.blob = TRY_PLAIN(Digest::parse(blob));
  return {};
}

}  // namespace

KeyHasher& KeyHasher::add(std::string_view field) {
  hasher_.update(concat(field.size(), ":"));
  hasher_.update(field);
  return *this;
}

KeyHasher& KeyHasher::add(const std::vector<std::string>& fields) {
  hasher_.update(concat(fields.size(), "["));
  for (const auto& field : fields) add(std::string_view(field));
  return *this;
}

std::string Cache::encode(const Entry& entry) const {
  json::object out{{"image", entry.shown.image}, {"text", entry.shown.text}, {"size", entry.shown.size_bytes}, {"created", entry.shown.created},
                   {"last_used", entry.shown.last_used}, {"use_count", entry.shown.use_count}, {"diff_id", entry.layer.diff_id.text()},
                   {"blob", entry.layer.blob.text()}, {"blob_bytes", entry.layer.blob_bytes}, {"media_type", entry.layer.media_type}, {"is_empty", entry.layer.is_empty}, {"owns_image", entry.owns_image}};
  return to_text(out);
}

Status Cache::load() {
  std::lock_guard lock(mutex_);
  for (const auto& record : TRY_PLAIN(store_.list(cache_prefix))) {
    Stored stored;
    auto document = parse_json(record.value, record.key);
    auto read = document.ok() ? JsonView(*document).read(stored) : Status(std::move(document).error());
    if (!read.ok()) {
      log_error("build cache", record.key, read.error());
      state::Transaction transaction;
      transaction.erase(record.key);
      TRY_PLAIN(store_.commit(transaction));
      continue;
    }
    auto key = record.key.substr(cache_prefix.size());
    stored.shown.key = key;
    entries_[key] = Entry{std::move(stored.shown), std::move(stored.layer), stored.owns_image};
  }
  return {};
}

Result<std::optional<Made>> Cache::find(const std::string& key) {
  Made made;
  {
    std::lock_guard lock(mutex_);
    auto found = entries_.find(key);
    if (found == entries_.end()) return std::optional<Made>();
    made.layer = found->second.layer;
    made.image = found->second.shown.image;
    made.owns_image = found->second.owns_image;
  }
  if (!made.image.empty()) {
    // Which layers it has is in its id; whether it has them is asked here.
    auto layers = images_.lowerdirs(TRY(Digest::parse(made.image), "build cache"));
    if (!layers.ok()) {  // somebody removed the image; the step is done again
      TRY_PLAIN(take_any({key}, true));
      return std::optional<Made>();
    }
    made.layer.directory = layers->front();
  }
  std::lock_guard lock(mutex_);
  auto found = entries_.find(key);
  if (found == entries_.end()) return std::optional<Made>();
  found->second.shown.last_used = now_ns();
  ++found->second.shown.use_count;
  used_.insert(key);
  return std::optional(std::move(made));
}

Status Cache::record_uses() {
  std::lock_guard lock(mutex_);
  state::Transaction transaction;
  for (const auto& key : std::exchange(used_, {}))
    if (auto found = entries_.find(key); found != entries_.end()) transaction.put(concat(cache_prefix, key), encode(found->second));
  if (!transaction.writes.empty()) TRY_PLAIN(store_.commit(transaction));
  return {};
}

Status Cache::put(const std::string& key, const std::string& text, const Made& made) {
  Entry entry;
  entry.shown.key = key;
  entry.shown.image = made.image;
  entry.shown.text = text;
  entry.shown.size_bytes = made.layer.is_empty ? 0 : made.layer.blob_bytes;
  entry.shown.created = entry.shown.last_used = now_ns();
  entry.layer = made.layer;
  entry.owns_image = made.owns_image;
  entry.layer.hold.reset();  // the image keeps it from here on
  std::lock_guard lock(mutex_);
  state::Transaction transaction;
  transaction.put(concat(cache_prefix, key), encode(entry));
  TRY_PLAIN(store_.commit(transaction));
  if (auto old = entries_.find(key); old != entries_.end()) entry.pins = old->second.pins;
  entries_[key] = std::move(entry);
  return {};
}

std::vector<CacheEntry> Cache::entries() {
  std::lock_guard lock(mutex_);
  std::vector<CacheEntry> out;
  for (const auto& [key, entry] : entries_) {
    out.push_back(entry.shown);
    out.back().in_use = entry.pins > 0;
  }
  return out;
}

std::vector<ExportedStep> Cache::steps(const std::set<std::string>& keys) {
  std::lock_guard lock(mutex_);
  std::vector<ExportedStep> out;
  for (const auto& key : keys)
    if (auto found = entries_.find(key); found != entries_.end()) out.push_back({key, found->second.shown.text, found->second.layer});
  return out;
}

std::set<std::string> Cache::images() {
  std::lock_guard lock(mutex_);
  std::set<std::string> out;
  for (const auto& [key, entry] : entries_)
    if (entry.owns_image) out.insert(entry.shown.image);
  return out;
}

/// An image that has a name, or that a container uses, is somebody's own by now.
Status Cache::remove_image(const std::string& id) {
  auto image = images_.find(id);
  if (!image.ok() || !image->repo_tags.empty()) return {};
  auto removed = images_.remove(id, false, [](const Digest& /*id*/) { return std::optional<std::string>(); });
  if (!removed.ok() && removed.error().kind() != ErrorKind::not_found) return std::move(removed).error();
  return {};
}

Result<std::vector<CacheEntry>> Cache::take_any(const std::vector<std::string>& keys, bool also_pinned) {
  std::vector<CacheEntry> taken;
  std::set<std::string> owned;
  {
    std::lock_guard lock(mutex_);
    state::Transaction transaction;
    transaction.frees = true;
    for (const auto& key : keys) {
      auto found = entries_.find(key);
      if (found == entries_.end() || (found->second.pins > 0 && !also_pinned)) continue;
      transaction.erase(concat(cache_prefix, key));
      if (found->second.owns_image) owned.insert(found->second.shown.image);
      taken.push_back(std::move(found->second.shown));
      entries_.erase(found);
    }
    if (!taken.empty()) TRY_PLAIN(store_.commit(transaction));
    for (const auto& [key, entry] : entries_) owned.erase(entry.shown.image);
  }
  for (const auto& id : owned) TRY(remove_image(id), concat("image ", id.substr(0, 19), " of the build cache"));
  return taken;
}

Result<std::vector<CacheEntry>> Cache::take(const std::vector<std::string>& keys) { return take_any(keys, false); }

Result<std::optional<image::Image>> Cache::find_final(const std::string& key) {
  auto record = store_.get(concat(final_prefix, key));
  if (!record.ok() && record.error().kind() == ErrorKind::not_found) return std::optional<image::Image>();
  if (!record.ok()) return std::move(record).error();
  std::string id;
  auto document = parse_json(record->value, record->key);
  if (document.ok()) ignore(JsonView(*document).read(id));  // what is no text finds no image, and goes
  auto image = images_.find(id);
  if (image.ok()) return std::optional(std::move(*image));
  state::Transaction transaction;
  transaction.erase(concat(final_prefix, key));
  TRY_PLAIN(store_.commit(transaction));
  return std::optional<image::Image>();
}

Status Cache::put_final(const std::string& key, const std::string& image) {
  state::Transaction transaction;
  transaction.put(concat(final_prefix, key), to_text(json::value(image)));
  TRY_PLAIN(store_.commit(transaction));
  return {};
}

Result<Cache::Held> Cache::hold(const std::string& key, Cancel cancel) {
  std::unique_lock lock(mutex_);
  TRY_PLAIN(waiters_.wait(lock, cancel, [&] { return !held_.contains(key); }));
  held_.insert(key);
  return Held(*this, key);
}

Cache::Held::~Held() {
  if (cache_ == nullptr) return;
  std::lock_guard lock(cache_->mutex_);
  cache_->held_.erase(key_);
  cache_->waiters_.tell();
}

void Cache::pin(const std::string& key) {
  std::lock_guard lock(mutex_);
  if (auto found = entries_.find(key); found != entries_.end()) ++found->second.pins;
}

void Cache::unpin(const std::set<std::string>& keys) {
  std::lock_guard lock(mutex_);
  for (const auto& key : keys)
    if (auto found = entries_.find(key); found != entries_.end() && found->second.pins > 0) --found->second.pins;
}

}  // namespace caisson::build
