// Cache mounts out of this builder and into it, by way of artifacts that the store keeps for a moment as images that nobody sees.
#include "base/ids.hpp"
#include "base/log.hpp"
#include "base/strings.hpp"
#include "build/local_builder.hpp"
#include "build/portable_mount.hpp"
#include "image/manifest.hpp"
#include "linux/file.hpp"

namespace caisson::build {

using policy::Verb;

namespace {

constexpr std::string_view transfer_prefix = "build/transfer/";
constexpr std::size_t shortest_key = 4;

}  // namespace

/// A record while images of a transfer may be in the store: by it the next start knows that a killed daemon may have left one. The images that were there before stay.
class LocalBuilder::Transfer {
 public:
  static Result<std::unique_ptr<Transfer>> begin(LocalBuilder& builder) {
    auto transfer = std::unique_ptr<Transfer>(new Transfer(builder, concat(transfer_prefix, random_id())));
    for (const auto& image : TRY_PLAIN(builder.images_.list())) transfer->before_.insert(image.id.text());
    state::Transaction transaction;
    transaction.put(transfer->record_, "{}");
    TRY(builder.store_.commit(transaction), "record the transfer");
    return transfer;
  }
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;
  ~Transfer() {
    auto removed = remove_images();
    if (removed.ok()) {
      state::Transaction transaction;
      transaction.erase(record_);
      if (auto committed = builder_.store_.commit(transaction); !committed.ok()) removed = std::move(committed).error();
    }
    if (!removed.ok()) log_error("transfer of a cache mount", record_, removed.error());  // the next start tries again
  }
  void add(const std::string& image) {
    if (before_.contains(image)) return;
    images_.insert(image);
    builder_.hide(image, true);
  }

 private:
  Transfer(LocalBuilder& builder, std::string record) : builder_(builder), record_(std::move(record)) {}
  Status remove_images() {
    Status failure;
    for (const auto& image : images_) {
      auto removed = builder_.forget_image(image);
      builder_.hide(image, false);
      if (!removed.ok()) failure = std::move(removed);
    }
    return failure;
  }

  LocalBuilder& builder_;
  std::string record_;
  std::set<std::string> before_;
  std::set<std::string> images_;
};

void LocalBuilder::hide(const std::string& image, bool is_hidden) {
  std::lock_guard lock(hidden_mutex_);
  if (is_hidden) hidden_.insert(image);
  else hidden_.erase(image);
}

std::set<std::string> LocalBuilder::hidden_images() {
  auto out = cache_.images();
  std::lock_guard lock(hidden_mutex_);
  out.insert(hidden_.begin(), hidden_.end());
  return out;
}

/// An image that a transfer brought, with the names that its archive gave it.
Status LocalBuilder::forget_image(const std::string& id) {
  auto image = images_.find(id);
  if (!image.ok()) return {};
  for (const auto& name : image->repo_tags) TRY_PLAIN(images_.remove(name, false, [](const Digest& /*id*/) { return std::optional<std::string>(); }));
  return cache_.remove_image(id);
}

/// Nameless images with our label, where a record says that a transfer did not end.
Status LocalBuilder::remove_transfer_leftovers() {
  const auto records = TRY_PLAIN(store_.list(transfer_prefix));
  if (records.empty()) return {};
  for (const auto& image : TRY_PLAIN(images_.list())) {
    if (!image.repo_tags.empty() || !image.config.labels.contains(std::string(mount_label))) continue;
    TRY_PLAIN(cache_.remove_image(image.id.text()));
    log(LogLevel::info, "build", image.id.text().substr(0, 19), "removed the image of a cache mount whose export or import was interrupted");
  }
  state::Transaction transaction;
  for (const auto& record : records) transaction.erase(record.key);
  TRY_PLAIN(store_.commit(transaction));
  return {};
}

std::vector<CacheEntry> LocalBuilder::in_scope(const engine::Caller& caller, std::vector<CacheEntry> all) {
  const bool sees_all = caller.role && caller.role->scope.is_everything() && !caller.role->bounds;
  const auto own = caller.role ? cache_scope_of(*caller.role) : std::string();
  std::erase_if(all, [&](const CacheEntry& entry) { return !sees_all && (own.empty() || entry.scope != own); });
  return all;
}

Result<CacheEntry> LocalBuilder::find_mount(const engine::Caller& caller, const std::string& name) const {
  const auto all = mounts_in_scope(caller);
  std::vector<CacheEntry> found;
  for (const auto& entry : all)
    if (!entry.id.empty() && entry.id == name) found.push_back(entry);
  if (found.empty() && name.size() >= shortest_key)
    for (const auto& entry : all)
      if (entry.key.starts_with(name)) found.push_back(entry);
  if (found.empty()) return Error(ErrorKind::not_found, concat("No such cache mount: ", name)).with_hint("`caisson builder cache ls` lists them");
  if (found.size() == 1) return std::move(found.front());
  std::vector<std::string> keys;
  for (const auto& entry : found) keys.push_back(concat(entry.key.substr(0, 12), entry.scope.empty() ? "" : " of ", entry.scope));
  return Error(ErrorKind::conflict, concat("cache mount ", name, " is ambiguous: ", join(keys, ", ")));
}

Result<CacheEntry> LocalBuilder::find_cache_mount(const engine::Caller& caller, const std::string& name) {
  TRY_PLAIN(engine_.authorize(caller, Verb::build_cache_list, name));
  return find_mount(caller, name);
}

Status LocalBuilder::remove_cache_mount(const engine::Caller& caller, const std::string& name) {
  TRY_PLAIN(engine_.authorize(caller, Verb::build_prune, name));
  const auto entry = TRY_PLAIN(find_mount(caller, name));
  if (!TRY_PLAIN(mounts_.take({entry.key})).empty()) return {};
  TRY_PLAIN(mounts_.hold(entry.key));  // says why not
  return Error(ErrorKind::conflict, concat("cache mount ", name, " was in use a moment ago"));
}

Status LocalBuilder::export_cache_mount(const engine::Caller& caller, const std::string& name, int target_fd, Cancel cancel) {
  // Whoever builds reads and writes the mounts of the same scope in every RUN; what is asked for here is no more.
  TRY_PLAIN(engine_.authorize(caller, Verb::build_run, concat("export of cache mount ", name)));
  TRY_PLAIN(engine_.authorize(caller, Verb::image_save, concat("cache mount ", name)));
  const auto entry = TRY_PLAIN(find_mount(caller, name));
  if (entry.id.empty()) return Error(ErrorKind::invalid, concat("cache mount ", name, " has no id yet: the next build that uses it tells it"));
  const auto step = concat("cache mount ", entry.id);
  // The same mount twice at a time is one image, which the first to end would remove.
  const auto alone = TRY_PLAIN(cache_.hold(concat("transfer ", entry.id), cancel));
  const auto transfer = TRY_PLAIN(Transfer::begin(*this));
  PortableMount mount;
  image::MadeLayer layer;
  {
    const auto hold = TRY_PLAIN(mounts_.hold(entry.key));
    const auto folder = TRY(linux::open(hold.path(), O_RDONLY | O_DIRECTORY), step);
    const auto status = TRY(linux::fstat(folder.get()), step);
    mount = {entry.id, status.st_uid, status.st_gid, status.st_mode & 07777U};
    layer = TRY(images_.make_layer({.upper_fd = folder.get()}, {}, cancel), step);
  }
  const auto image = TRY(images_.compose(artifact_of(mount, std::move(layer))), step);
  transfer->add(image.id.text());
  image::SaveRequest save;
  save.names = {image.id.text()};
  return images_.save(save, target_fd, cancel);
}

Result<CacheEntry> LocalBuilder::import_cache_mount(const engine::Caller& caller, const CacheMountImport& request, Cancel cancel) {
  TRY_PLAIN(engine_.authorize(caller, Verb::build_run, concat("import of cache mount ", request.id.empty() ? request.reference : request.id)));
  // It comes as an image does, and may bring a name along.
  TRY_PLAIN(engine_.authorize(caller, request.reference.empty() ? Verb::image_load : Verb::image_pull, request.reference));
  const auto transfer = TRY_PLAIN(Transfer::begin(*this));
  image::LayersRequest source;
  source.reference = request.reference;
  source.is_remote = !request.reference.empty();
  source.credentials = request.credentials;
  source.artifact_type = image::media_type::cache_mount;
  if (!source.is_remote) {
    const auto loaded = TRY_PLAIN(images_.load_artifacts(request.source_fd, source.artifact_type, cancel));
    for (const auto& image : loaded) transfer->add(image.id.text());
    if (loaded.size() != 1) return Error(ErrorKind::invalid, concat("a cache mount is one image, and the archive has ", loaded.size()));
    source.reference = loaded.front().id.text();
  }
  auto list = TRY_PLAIN(images_.list_layers(source, cancel));
  const auto mount = TRY_PLAIN(parse_artifact(list));
  CacheMountWish wish;
  wish.scope = caller.role ? cache_scope_of(*caller.role) : std::string();
  wish.id = request.id.empty() ? mount.id : request.id;
  const auto step = concat("cache mount ", wish.id);
  // Better now than after everything has travelled; adopt() has the last word.
  for (const auto& entry : mounts_.entries())
    if (entry.in_use && entry.key == cache_mount_key(wish.scope, wish.id)) TRY_PLAIN(mounts_.hold(entry.key));
  auto staging = TRY_PLAIN(mounts_.stage());
  if (!list.layers.empty()) {
    const auto layer = TRY(images_.bring_layer(list, 0, request.credentials, {}, cancel), step);
    TRY(images_.extract_layer(layer, staging.fd(), cancel), step);
  }
  TRY(linux::fchown(staging.fd(), mount.uid, mount.gid), step);
  TRY(linux::fchmod(staging.fd(), mount.mode), step);
  return mounts_.adopt(wish, std::move(staging));
}

}  // namespace caisson::build
