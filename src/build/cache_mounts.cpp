// Records and folders of cache mounts, and the thread that finds out how large they are.
#include "build/cache_mounts.hpp"

#include <algorithm>
#include <cerrno>

#include "base/digest.hpp"
#include "base/ids.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "build/cache.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::build {

namespace {

std::string_view prefix_of(CacheKind kind) { return kind == CacheKind::context ? "build/context/" : "build/mount/"; }
constexpr std::size_t key_digits = 64;

bool is_key(std::string_view name) { return name.size() == key_digits && name.find_first_not_of("0123456789abcdef") == std::string_view::npos; }

Status read_entry(const JsonView& view, CacheEntry& out, bool& is_measured) {
  TRY_PLAIN(view.read("id", out.id));
  TRY_PLAIN(view.read("scope", out.scope));
  TRY_PLAIN(view.read("target", out.text));
  TRY_PLAIN(view.read("sharing", out.sharing));
  TRY_PLAIN(view.read("size", out.size_bytes));
  TRY_PLAIN(view.read("measured", is_measured));
  TRY_PLAIN(view.read("created", out.created));
  TRY_PLAIN(view.read("last_used", out.last_used));
  TRY_PLAIN(view.read("use_count", out.use_count));
  return {};
}

std::string show(const CacheEntry& entry) { return entry.id.empty() ? entry.key.substr(0, 12) : entry.id; }

Error in_use(const CacheEntry& entry) { return Error(ErrorKind::conflict, concat("cache mount ", show(entry), " is in use by a build")).with_hint("wait for the build's end, or stop it"); }

}  // namespace

std::string cache_scope_of(const policy::Role& role) {
  std::vector<std::string> parts;
  for (const auto& [name, value] : role.scope.labels) parts.push_back(concat(name, "=", value));
  if (!role.scope.project.empty()) parts.push_back(concat("project ", role.scope.project));
  // Bounded, it must not write into what an administrator's builds run.
  if (parts.empty() && role.bounds) parts.push_back(concat("role ", role.name));
  return join(parts, ", ");
}

std::string cache_mount_key(const std::string& scope, const std::string& id) {
  // Without a scope as it always was: folders of earlier versions stay in use.
  return scope.empty() ? std::string(sha256_of(id).hex()) : KeyHasher("cache mount").add(scope).add(id).finish();
}

std::string CacheMounts::record_of(const std::string& key) const { return concat(prefix_of(kind_), key); }

std::string CacheMounts::path_of(const std::string& key) const { return concat(folder_, "/", key); }

CacheMounts::Entry CacheMounts::fresh_entry(const std::string& key, const CacheMountWish& wish) const {
  Entry fresh;
  auto& entry = fresh.shown;
  entry.kind = kind_;
  entry.key = key;
  entry.id = wish.id;
  entry.scope = wish.scope;
  entry.text = wish.target;
  entry.sharing = wish.sharing;
  entry.created = entry.last_used = now_ns();
  return fresh;
}

Status CacheMounts::store_entry(const Entry& entry) {
  const auto& shown = entry.shown;
  state::Transaction transaction;
  transaction.put(record_of(shown.key),
                  to_text(json::object{{"id", shown.id}, {"scope", shown.scope}, {"target", shown.text}, {"sharing", shown.sharing}, {"size", shown.size_bytes}, {"measured", entry.is_measured},
                                       {"created", shown.created}, {"last_used", shown.last_used}, {"use_count", shown.use_count}}));
  TRY_PLAIN(store_.commit(transaction));
  return {};
}

/// Of a version that kept no records: what its id was cannot be told from its name.
Status CacheMounts::adopt_unknown(const std::string& key) {
  auto entry = fresh_entry(key, {});
  const auto status = TRY_PLAIN(linux::lstat(path_of(key)));
  entry.shown.created = entry.shown.last_used = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000;
  TRY_PLAIN(store_entry(entry));
  entries_[key] = std::move(entry);
  to_measure_.push_back(key);
  return {};
}

Status CacheMounts::open() {
  TRY_PLAIN(linux::make_dirs(folder_, 0700));
  std::set<std::string> folders;
  {
    std::lock_guard lock(mutex_);
    for (const auto& entry : TRY_PLAIN(linux::list_dir(folder_))) {
      if (is_key(entry.name)) folders.insert(entry.name);
      else to_remove_.push_back(path_of(entry.name));  // what a killed daemon was making or removing
    }
    for (const auto& record : TRY_PLAIN(store_.list(prefix_of(kind_)))) {
      const auto key = record.key.substr(prefix_of(kind_).size());
      Entry entry;
      entry.shown.kind = kind_;
      entry.shown.key = key;
      auto document = parse_json(record.value, record.key);
      auto read = document.ok() ? read_entry(JsonView(*document), entry.shown, entry.is_measured) : Status(std::move(document).error());
      if (!read.ok()) log_error("cache mount", key, read.error());
      if (read.ok() && folders.erase(key) > 0) {
        if (!entry.is_measured) to_measure_.push_back(key);
        entries_[key] = std::move(entry);
        continue;
      }
      state::Transaction transaction;
      transaction.erase(record.key);
      TRY_PLAIN(store_.commit(transaction));
    }
    for (const auto& key : folders) TRY(adopt_unknown(key), concat("cache mount ", key));
  }
  for (const auto& entry : entries()) listener_.counted(path_of(entry.key), entry.size_bytes);
  std::lock_guard lock(mutex_);
  if (!to_measure_.empty() || !to_remove_.empty()) work_behind();
  return {};
}

void CacheMounts::work_behind() {
  if (is_stopped_) return;
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
  changed_.notify_all();
}

void CacheMounts::stop() {
  {
    std::lock_guard lock(mutex_);
    is_stopped_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

Result<CacheMounts::Staging> CacheMounts::stage() {
  auto path = concat(folder_, "/.new-", random_id().substr(0, 16));
  TRY(linux::mkdir(path, 0700), "cache mount");
  auto fd = TRY(linux::open(path, O_RDONLY | O_DIRECTORY), "cache mount");
  return Staging(std::move(path), std::move(fd));
}

CacheMounts::Staging::~Staging() {
  if (!path_.empty()) remove(path_);
}

Status CacheMounts::wait_for_holder(std::unique_lock<std::mutex>& lock, const std::string& key, const std::string& id, Cancel cancel) {
  TRY(waiters_.wait(lock, cancel, [&] {
    const auto found = entries_.find(key);
    return found == entries_.end() || !found->second.is_held;
  }), concat("cache mount ", id));
  return {};
}

Result<CacheMounts::Use> CacheMounts::acquire(const CacheMountWish& wish, const std::function<Status(int folder_fd)>& fill, Cancel cancel) {
  const auto key = cache_mount_key(wish.scope, wish.id);
  std::unique_lock lock(mutex_);
  TRY_PLAIN(wait_for_holder(lock, key, wish.id, cancel));
  if (const auto found = entries_.find(key); found != entries_.end()) return use(found->second, wish);
  lock.unlock();
  auto staging = TRY_PLAIN(stage());
  TRY(linux::fchown(staging.fd(), wish.uid, wish.gid), "cache mount");
  TRY(linux::fchmod(staging.fd(), wish.mode), "cache mount");
  TRY_PLAIN(fill(staging.fd()));
  lock.lock();
  // Another step may have been quicker: both have that one then.
  TRY_PLAIN(wait_for_holder(lock, key, wish.id, cancel));
  if (const auto found = entries_.find(key); found != entries_.end()) {
    auto taken = use(found->second, wish);
    lock.unlock();
    return taken;
  }
  auto entry = fresh_entry(key, wish);
  // First the record: a folder without one has lost its name.
  TRY(store_entry(entry), concat("cache mount ", wish.id));
  TRY(linux::rename(staging.path_, path_of(key)), concat("cache mount ", wish.id));
  staging.path_.clear();
  return use(entries_[key] = std::move(entry), wish);
}

Result<CacheMounts::Use> CacheMounts::use(Entry& entry, const CacheMountWish& wish) {
  auto& shown = entry.shown;
  shown.id = wish.id;
  shown.scope = wish.scope;
  shown.text = wish.target;
  shown.sharing = wish.sharing;
  shown.last_used = now_ns();
  ++shown.use_count;
  entry.is_measured = false;
  TRY(store_entry(entry), concat("cache mount ", wish.id));
  ++entry.uses;
  return Use(*this, shown.key);
}

CacheMounts::Use::~Use() {
  if (mounts_ == nullptr) return;
  std::lock_guard lock(mounts_->mutex_);
  if (auto found = mounts_->entries_.find(key_); found != mounts_->entries_.end() && found->second.uses > 0) --found->second.uses;
}

Result<CacheMounts::Hold> CacheMounts::hold(const std::string& key) {
  std::lock_guard lock(mutex_);
  auto found = entries_.find(key);
  if (found == entries_.end()) return Error(ErrorKind::not_found, concat("No such cache mount: ", key.substr(0, 12)));
  if (found->second.uses > 0) return in_use(found->second.shown);
  if (found->second.is_held) return Error(ErrorKind::conflict, concat("cache mount ", show(found->second.shown), " is being exported"));
  found->second.is_held = true;
  return Hold(*this, key);
}

CacheMounts::Hold::~Hold() {
  if (mounts_ == nullptr) return;
  std::lock_guard lock(mounts_->mutex_);
  if (auto found = mounts_->entries_.find(key_); found != mounts_->entries_.end()) found->second.is_held = false;
  mounts_->waiters_.tell();
}

std::vector<CacheEntry> CacheMounts::entries() const {
  std::lock_guard lock(mutex_);
  std::vector<CacheEntry> out;
  for (const auto& [key, entry] : entries_) {
    out.push_back(entry.shown);
    out.back().in_use = entry.uses > 0 || entry.is_held;
  }
  return out;
}

Result<std::string> CacheMounts::set_aside(const std::string& key) {
  auto gone = concat(folder_, "/.gone-", random_id().substr(0, 16));
  TRY(linux::rename(path_of(key), gone), concat("cache mount ", key.substr(0, 12)));
  return gone;
}

Result<std::vector<CacheEntry>> CacheMounts::take(const std::vector<std::string>& keys) {
  std::vector<CacheEntry> taken;
  std::vector<std::string> gone;
  Status failure;
  {
    std::lock_guard lock(mutex_);
    for (const auto& key : keys) {
      auto found = entries_.find(key);
      if (found == entries_.end() || found->second.uses > 0 || found->second.is_held) continue;
      auto aside = set_aside(key);
      if (!aside.ok()) {
        failure = std::move(aside).error();
        break;
      }
      gone.push_back(std::move(*aside));
      taken.push_back(std::move(found->second.shown));
      entries_.erase(found);
      state::Transaction transaction;
      transaction.erase(record_of(key));
      transaction.frees = true;
      if (auto committed = store_.commit(transaction); !committed.ok()) {  // a record without a folder is dropped by the next start
        failure = std::move(committed).error();
        break;
      }
    }
  }
  for (const auto& entry : taken) listener_.counted(path_of(entry.key), 0);
  for (const auto& path : gone) remove(path);
  TRY_PLAIN(std::move(failure));
  return taken;
}

Result<CacheEntry> CacheMounts::adopt(const CacheMountWish& wish, Staging staging) {
  const auto key = cache_mount_key(wish.scope, wish.id);
  TRY(linux::syncfs(staging.fd()), concat("cache mount ", wish.id));
  const auto usage = TRY(linux::tree_usage(staging.path_), concat("cache mount ", wish.id));
  auto entry = fresh_entry(key, wish);
  entry.shown.size_bytes = usage.size_bytes;
  entry.is_measured = true;
  {
    std::lock_guard lock(mutex_);
    const auto found = entries_.find(key);
    const bool is_there = found != entries_.end();
    if (is_there && (found->second.uses > 0 || found->second.is_held)) return in_use(found->second.shown);
    if (is_there) {
      entry.shown.use_count = found->second.shown.use_count;
      entry.shown.text = found->second.shown.text;
      entry.shown.sharing = found->second.shown.sharing;
    }
    TRY(store_entry(entry), concat("cache mount ", wish.id));
    // After an exchange the old one lies in the staging folder, and goes with it.
    TRY(linux::renameat2(AT_FDCWD, staging.path_, AT_FDCWD, path_of(key), is_there ? RENAME_EXCHANGE : 0U), concat("cache mount ", wish.id));
    if (!is_there) staging.path_.clear();
    entries_[key] = entry;
  }
  listener_.counted(path_of(key), usage.size_bytes);
  listener_.measured();
  return entry.shown;
}

void CacheMounts::measure_later(const std::string& key) {
  std::lock_guard lock(mutex_);
  if (std::find(to_measure_.begin(), to_measure_.end(), key) == to_measure_.end()) to_measure_.push_back(key);
  work_behind();
}

void CacheMounts::remove(const std::string& path) {
  auto removed = linux::remove_tree(path);
  if (!removed.ok()) log_error("remove a cache mount", path, removed.error());
}

/// The walk holds no lock: a build may change the tree meanwhile, and is followed by another measurement.
void CacheMounts::measure(const std::string& key) {
  std::uint64_t use_count = 0;
  {
    std::lock_guard lock(mutex_);
    if (auto found = entries_.find(key); found != entries_.end()) use_count = found->second.shown.use_count;
  }
  auto usage = linux::tree_usage(path_of(key));
  if (!usage.ok()) {
    if (usage.error().kind() != ErrorKind::not_found) log_error("measure a cache mount", key, usage.error());
    return;
  }
  {
    std::lock_guard lock(mutex_);
    auto found = entries_.find(key);
    if (found == entries_.end()) return;  // taken meanwhile
    found->second.shown.size_bytes = usage->size_bytes;
    found->second.is_measured = found->second.shown.use_count == use_count;
    auto stored = store_entry(found->second);
    if (!stored.ok()) log_error("record a cache mount", key, stored.error());
  }
  listener_.counted(path_of(key), usage->size_bytes);
  listener_.measured();
}

void CacheMounts::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return is_stopped_ || !to_measure_.empty() || !to_remove_.empty(); });
    if (is_stopped_) return;
    auto& queue = to_measure_.empty() ? to_remove_ : to_measure_;
    const bool is_removal = to_measure_.empty();
    const auto next = std::move(queue.front());
    queue.pop_front();
    is_busy_ = true;
    lock.unlock();
    if (is_removal) remove(next);
    else measure(next);
    lock.lock();
    is_busy_ = false;
    changed_.notify_all();
  }
}

void CacheMounts::settle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !is_busy_ && to_measure_.empty() && to_remove_.empty(); });
}

}  // namespace caisson::build
