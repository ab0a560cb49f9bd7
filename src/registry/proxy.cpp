// Asking the other registry, and keeping what it gave.
#include "registry/proxy.hpp"

#include <algorithm>
#include <array>

#include "base/log.hpp"
#include "base/reference.hpp"
#include "base/strings.hpp"
#include "image/registries.hpp"
#include "linux/file.hpp"
#include "registry/manifest_check.hpp"

namespace caisson::registry {

class Proxies::Turn {
 public:
  Turn(Proxies& owner, std::string key) : owner_(owner), key_(std::move(key)) {
    std::unique_lock lock(owner_.mutex_);
    owner_.changed_.wait(lock, [&] { return owner_.under_way_.count(key_) == 0; });
    owner_.under_way_.insert(key_);
  }
  ~Turn() {
    std::lock_guard lock(owner_.mutex_);
    owner_.under_way_.erase(key_);
    owner_.changed_.notify_all();
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  Proxies& owner_;
  std::string key_;
};

const Upstream* Proxies::find(std::string_view repository) const {
  const Upstream* best = nullptr;
  for (const auto& upstream : upstreams_)
    if (repository.starts_with(upstream.prefix) && repository.size() > upstream.prefix.size() && (best == nullptr || upstream.prefix.size() > best->prefix.size())) best = &upstream;
  return best;
}

Status Proxies::bring_manifest(const std::string& repository, const std::string& reference) {
  const auto* upstream = find(repository);
  if (upstream == nullptr) return {};
  const bool is_digest = reference.find(':') != std::string::npos;
  const auto digest = is_digest ? Digest::parse(reference) : Result<Digest>(Digest());
  if (!digest.ok() || (!is_digest && !is_tag(reference))) return {};  // the caller refuses it
  Turn turn(*this, concat(repository, " ", reference));
  if (is_digest ? TRY_PLAIN(catalog_.manifest(repository, *digest)).has_value() : TRY_PLAIN(catalog_.is_tag_fresh(repository, reference, upstream->fresh_ns))) {
    ++metrics_.proxy_hits;
    return {};
  }
  ++metrics_.proxy_misses;
  auto fetched = fetch_manifest(*upstream, repository, reference);
  if (fetched.ok() || fetched.error().kind() == ErrorKind::io) return fetched;
  log(LogLevel::warning, "ask the other registry", concat(repository, " ", reference), fetched.error().text());
  return {};
}

Status Proxies::fetch_manifest(const Upstream& upstream, const std::string& repository, const std::string& reference) {
  const auto path = repository.substr(upstream.prefix.size());
  image::Reference wanted;
  wanted.domain = upstream.name;
  wanted.path = path;
  const auto fetched = TRY_PLAIN(image::fetch_manifest(*upstream.session, wanted, reference, Cancel{}));
  auto checked = TRY(check_manifest(fetched.text, fetched.media_type), concat("manifest of ", upstream.name, "/", path));
  auto& record = checked.record;
  for (const auto& part : checked.blobs) record.blobs.push_back(part.digest.text());
  for (const auto& part : checked.manifests) record.manifests.push_back(part.digest.text());
  record.pushed = now_ns();
  auto pins = image::Pins(storage_.local());
  pins.add_blob(fetched.digest);
  const bool was_there = TRY_PLAIN(storage_.has(fetched.digest));
  TRY_PLAIN(storage_.put(fetched.text, fetched.digest));
  if (!was_there) catalog_.count_bytes(static_cast<std::int64_t>(fetched.text.size()));
  std::vector<std::string> tags;
  if (reference.find(':') == std::string::npos) tags.push_back(reference);
  return catalog_.put_manifest(repository, fetched.digest, record, tags, {}, Catalog::Needs::nothing);
}

/// Only what a manifest here names is brought, and never more than it announces.
Result<std::optional<std::uint64_t>> Proxies::announced_size(const std::string& repository, const Digest& digest) {
  for (const auto& holder : TRY_PLAIN(catalog_.manifests_naming(repository, digest))) {
    const auto record = TRY_PLAIN(catalog_.manifest(repository, holder));
    if (!record) continue;
    const auto text = TRY_PLAIN(storage_.read(holder));
    for (const auto& part : TRY_PLAIN(check_manifest(text, record->media_type)).blobs)
      if (part.digest == digest) return std::optional<std::uint64_t>(part.size_bytes);
  }
  return std::optional<std::uint64_t>();
}

Status Proxies::bring_blob(const std::string& repository, const Digest& digest) {
  const auto* upstream = find(repository);
  if (upstream == nullptr) return {};
  Turn turn(*this, digest.text());
  if (TRY_PLAIN(catalog_.blob_size(repository, digest))) {
    ++metrics_.proxy_hits;
    return {};
  }
  const auto size = TRY_PLAIN(announced_size(repository, digest));
  if (!size) return {};
  ++metrics_.proxy_misses;
  auto fetched = fetch_blob(*upstream, repository, digest, *size);
  if (fetched.ok() || fetched.error().kind() == ErrorKind::io) return fetched;
  log(LogLevel::warning, "ask the other registry", concat(repository, " ", digest.text()), fetched.error().text());
  return {};
}

Status Proxies::fetch_blob(const Upstream& upstream, const std::string& repository, const Digest& digest, std::uint64_t size_bytes) {
  auto pins = image::Pins(storage_.local());
  pins.add_blob(digest);
  if (!TRY_PLAIN(storage_.has(digest))) {
    TRY_PLAIN(catalog_.check_quota(repository, size_bytes));
    const auto partial = storage_.local().partial_path(digest);
    auto file = TRY(linux::open(partial, O_RDWR | O_CREAT | O_NOFOLLOW, 0600), "keep the blob");
    const auto here = static_cast<std::uint64_t>(TRY(linux::fstat(file.get()), "keep the blob").st_size);
    if (here > size_bytes) TRY(linux::ftruncate(file.get(), 0), "keep the blob");
    image::FetchRequest request;
    request.task = image::FetchTask::blob;
    request.repository = repository.substr(upstream.prefix.size());
    request.name = digest.text();
    request.offset = here > size_bytes ? 0 : here;
    request.size_bytes = size_bytes;
    auto reply = TRY_PLAIN(upstream.session->call(std::move(request), file.get(), {}, {}));
    if (!reply.ok) return image::error_of(reply);
    const auto found = TRY(image::digest_of_file(file.get(), digest.kind()), "keep the blob");
    if (found != digest) {
      TRY(linux::unlink(partial), "throw a wrong blob away");
      return Error(ErrorKind::corrupt, concat(upstream.name, " sent something else for ", digest.text(), ", with digest ", found.text()));
    }
    TRY_PLAIN(storage_.adopt(partial, digest));
    catalog_.count_bytes(static_cast<std::int64_t>(size_bytes));
  }
  return catalog_.hold_blob(repository, digest, size_bytes);
}

}  // namespace caisson::registry
