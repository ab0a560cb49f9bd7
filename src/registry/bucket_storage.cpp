// A blob is in the bucket before it is in the cache, and leaves the cache before it leaves the bucket.
#include "registry/bucket_storage.hpp"

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <set>

#include "base/ids.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"

namespace caisson::registry {

namespace {

constexpr std::string_view blobs_prefix = "blobs/";
constexpr std::string_view records_prefix = "records/";
constexpr std::uint64_t small_bytes = 8 << 20;  // a part of a blob that is no larger brings it whole
constexpr std::uint32_t direct_seconds = 1200;
constexpr std::size_t spread = 2;  // digits of the hash that stand before it, for services that keep objects as files

class BucketStorage final : public Storage {
 public:
  BucketStorage(image::ContentStore& local, std::unique_ptr<S3Client> client, BucketOptions options) : Storage(local), client_(std::move(client)), options_(options) {}

  Result<bool> has(const Digest& digest) override {
    if (is_kept_after_all(digest)) return true;
    return client_->has(key_of(digest));
  }

  Result<std::string> read(const Digest& digest) override {
    auto kept = local().read_blob(digest);
    use(digest);
    if (kept.ok() || kept.error().error_number() != ENOENT) return kept;
    auto text = TRY_PLAIN(client_->get(key_of(digest)));
    if (!text) return Error(ErrorKind::corrupt, concat("blob ", digest.text(), " is missing in ", client_->name()));
    if (digest_of(*text, digest.kind()) != digest) return Error(ErrorKind::corrupt, concat("blob ", digest.text(), " is something else in ", client_->name()));
    TRY_PLAIN(local().put_blob(*text, digest.kind()));
    cached(digest, text->size());
    return std::move(*text);
  }

  Result<OpenedBlob> open(const Digest& digest, std::uint64_t size_bytes, ByteRange wanted) override {
    OpenedBlob out;
    out.offset = wanted.first;
    if (out.fd = TRY_PLAIN(from_cache(digest)); out.fd) return out;
    const bool is_part = size_bytes > 0 && wanted.size_bytes() < size_bytes;
    if (is_part && size_bytes > small_bytes) {
      out.fd = TRY_PLAIN(nameless_file());
      out.offset = 0;
      TRY_PLAIN(client_->get_file(key_of(digest), out.fd.get(), wanted.first, wanted.size_bytes(), false));
      return out;
    }
    out.fd = TRY_PLAIN(bring(digest, size_bytes));
    return out;
  }

  std::string direct_url(const Digest& digest) override { return options_.redirects ? client_->presigned_url(key_of(digest), direct_seconds) : std::string(); }

  Status put(std::string_view bytes, const Digest& digest) override {
    if (!TRY_PLAIN(has(digest))) TRY_PLAIN(client_->put(key_of(digest), bytes));
    TRY_PLAIN(local().put_blob(bytes, digest.kind()));
    cached(digest, bytes.size());
    return {};
  }

  Status adopt(const std::string& file, const Digest& digest) override {
    const auto fd = TRY_PLAIN(linux::open(file, O_RDONLY | O_NOFOLLOW));
    const auto size = static_cast<std::uint64_t>(TRY_PLAIN(linux::fstat(fd.get())).st_size);
    if (!is_kept_after_all(digest)) TRY_PLAIN(client_->put_file(key_of(digest), fd.get(), size));
    TRY_PLAIN(local().adopt_blob(file, digest));
    cached(digest, size);
    return {};
  }

  Result<std::vector<StoredBlob>> list() override {
    std::vector<StoredBlob> out;
    for (const auto& object : TRY_PLAIN(client_->list(blobs_prefix))) {
      const auto parts = split(object.key, '/');
      if (parts.size() != 4) continue;  // nothing of ours
      auto digest = Digest::parse(concat(parts[1], ":", parts[3]));
      if (digest.ok()) out.push_back({std::move(*digest), object.size_bytes, object.written});
    }
    return out;
  }
  /// A clean-up decides under a lock: nobody is asked meanwhile. Whoever writes the same blob again has it pinned.
  Result<std::optional<StoredBlob>> look_again(const StoredBlob& listed) override { return std::optional(listed); }
  Result<std::optional<std::uint64_t>> total_bytes() override { return std::optional<std::uint64_t>(); }

  Result<bool> discard(const Digest& digest) override {
    std::lock_guard lock(mutex_);
    if (local().is_pinned(digest)) return false;
    leaving_.insert(digest);
    return true;
  }

  Status remove_discarded() override {
    Status outcome;
    while (const auto digest = next_to_go()) {
      auto removed = remove_one(*digest);
      if (!removed.ok() && outcome.ok()) outcome = std::move(removed);  // the object is found again by the next clean-up
      std::lock_guard lock(mutex_);
      going_.erase(*digest);
      changed_.notify_all();
    }
    TRY_PLAIN(std::move(outcome));
    TRY_PLAIN(client_->abort_leftovers(blobs_prefix));
    return local().empty_trash();
  }

  void joined() override {
    {
      std::lock_guard lock(cache_mutex_);
      has_joined_ = true;
    }
    auto there = local().list_blobs();
    if (!there.ok()) return;  // it is filled anew
    for (const auto& digest : *there)
      if (auto size = local().blob_size(digest); size.ok()) cached(digest, *size);
  }
  [[nodiscard]] bool keeps_records() const override { return true; }
  Status put_record(std::string_view key, std::string_view text) override { return client_->put(concat(records_prefix, key), text); }
  Status erase_record(std::string_view key) override { return client_->remove(concat(records_prefix, key)); }
  Result<std::vector<std::string>> list_records() override {
    std::vector<std::string> out;
    for (const auto& object : TRY_PLAIN(client_->list(records_prefix))) out.push_back(object.key.substr(records_prefix.size()));
    return out;
  }
  Result<std::optional<std::string>> read_record(std::string_view key) override { return client_->get(concat(records_prefix, key)); }

 private:
  static std::string key_of(const Digest& digest) { return concat(blobs_prefix, digest.algorithm(), "/", digest.hex().substr(0, spread), "/", digest.hex()); }

  /// True: the clean-up had taken it out of use and has not removed it yet, so that it simply stays. Waits while it is being removed.
  bool is_kept_after_all(const Digest& digest) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return going_.count(digest) == 0; });
    return leaving_.erase(digest) != 0;
  }
  std::optional<Digest> next_to_go() {
    std::lock_guard lock(mutex_);
    if (leaving_.empty()) return std::nullopt;
    auto digest = *leaving_.begin();
    leaving_.erase(leaving_.begin());
    going_.insert(digest);
    return digest;
  }
  Status remove_one(const Digest& digest) {
    drop_from_cache(digest);
    return client_->remove(key_of(digest));
  }

  Result<UniqueFd> nameless_file() {
    const auto path = concat(local().root(), "/ingest/range-", random_id().substr(0, 16));
    auto file = TRY_PLAIN(linux::open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    TRY_PLAIN(linux::unlink(path));
    return file;
  }

  Result<UniqueFd> from_cache(const Digest& digest) {
    auto file = linux::open(local().blob_path(digest), O_RDONLY | O_NOFOLLOW);
    if (!file.ok() && file.error().kind() == ErrorKind::not_found) return UniqueFd();
    use(digest);
    return file;
  }

  /// The whole blob into the cache: one request brings it, the others wait for that.
  Result<UniqueFd> bring(const Digest& digest, std::uint64_t size_bytes) {
    class Turn {
     public:
      Turn(BucketStorage& owner, const Digest& digest) : owner_(owner), digest_(digest) {
        std::unique_lock lock(owner_.mutex_);
        owner_.changed_.wait(lock, [&] { return owner_.coming_.count(digest_) == 0; });
        owner_.coming_.insert(digest_);
      }
      ~Turn() {
        std::lock_guard lock(owner_.mutex_);
        owner_.coming_.erase(digest_);
        owner_.changed_.notify_all();
      }
      Turn(const Turn&) = delete;
      Turn& operator=(const Turn&) = delete;

     private:
      BucketStorage& owner_;
      const Digest& digest_;
    } turn(*this, digest);
    if (auto file = TRY_PLAIN(from_cache(digest)); file) return file;
    const auto partial = local().partial_path(digest);
    auto file = TRY_PLAIN(linux::open(partial, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
    auto received = receive(digest, file.get(), size_bytes);
    if (!received.ok()) {
      ignore(linux::unlink(partial));  // the clean-up does it otherwise
      return std::move(received).error();
    }
    TRY_PLAIN(local().adopt_blob(partial, digest));
    cached(digest, size_bytes);
    return file;
  }
  Status receive(const Digest& digest, int fd, std::uint64_t size_bytes) {
    auto got = client_->get_file(key_of(digest), fd, 0, size_bytes, true);
    if (!got.ok() && got.error().kind() == ErrorKind::not_found) return Error(ErrorKind::corrupt, concat("blob ", digest.text(), " is held and missing: ", got.error().text()));
    TRY_PLAIN(std::move(got));
    const auto found = TRY_PLAIN(image::digest_of_file(fd, digest.kind()));
    if (found != digest) return Error(ErrorKind::corrupt, concat("blob ", digest.text(), " is something else in ", client_->name(), ", with digest ", found.text()));
    return {};
  }

  // -- the cache: files of the content store, in the order in which they were asked for

  void use(const Digest& digest) {
    std::lock_guard lock(cache_mutex_);
    if (auto found = cache_.find(digest); found != cache_.end()) found->second.used = ++clock_;
  }
  void cached(const Digest& digest, std::uint64_t size_bytes) {
    std::lock_guard lock(cache_mutex_);
    if (!has_joined_) return;  // what a folder brings may not be in the bucket yet: nothing may leave
    auto [entry, is_new] = cache_.try_emplace(digest);
    if (is_new) cache_used_bytes_ += size_bytes;
    entry->second = {size_bytes, ++clock_};
    while (cache_used_bytes_ > options_.cache_bytes && !cache_.empty()) {
      const auto oldest = std::min_element(cache_.begin(), cache_.end(), [](const auto& a, const auto& b) { return a.second.used < b.second.used; });
      ignore(linux::unlink(local().blob_path(oldest->first)));  // whoever reads it has it open; a file that stays is known again at the next start
      cache_used_bytes_ -= oldest->second.size_bytes;
      cache_.erase(oldest);
    }
  }
  void drop_from_cache(const Digest& digest) {
    std::lock_guard lock(cache_mutex_);
    ignore(linux::unlink(local().blob_path(digest)));  // it need not be there
    auto found = cache_.find(digest);
    if (found == cache_.end()) return;
    cache_used_bytes_ -= found->second.size_bytes;
    cache_.erase(found);
  }

  struct Cached {
    std::uint64_t size_bytes = 0;
    std::uint64_t used = 0;
  };
  const std::unique_ptr<S3Client> client_;
  const BucketOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<Digest> leaving_;  ///< out of use, still there
  std::set<Digest> going_;    ///< being removed
  std::set<Digest> coming_;   ///< on their way into the cache
  std::mutex cache_mutex_;
  bool has_joined_ = false;
  std::map<Digest, Cached> cache_;
  std::uint64_t cache_used_bytes_ = 0;
  std::uint64_t clock_ = 0;
};

}  // namespace

std::unique_ptr<Storage> bucket_storage(image::ContentStore& local, std::unique_ptr<S3Client> client, BucketOptions options) {
  return std::make_unique<BucketStorage>(local, std::move(client), options);
}

}  // namespace caisson::registry
