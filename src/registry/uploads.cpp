// Files below uploads/, one record each in the store, and a hash that runs along.
#include "registry/uploads.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "base/ids.hpp"
#include "base/json.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::registry {

namespace {
constexpr std::string_view record_prefix = "upload/";
constexpr std::size_t most_uploads = 10'000;  // a client that begins and never goes on must not fill memory
constexpr std::size_t read_bytes = 256 << 10;
constexpr std::uint64_t sent_out_bytes = 2 << 20;  // 1 MiB and 8 MiB were slower (bench/registry.py)
/// A cut connection may be noticed after its client has come back.
constexpr std::chrono::seconds busy_patience{5};
}  // namespace

struct UploadWriter::State {
  std::string id;
  std::string repository;
  std::timed_mutex writing;
  std::atomic<std::uint64_t> bytes = 0;
  std::optional<Hasher> hasher;  ///< over the first `hashed` bytes; none after a restart
  DigestAlgorithm algorithm = DigestAlgorithm::sha256;
  std::uint64_t hashed = 0;
  std::uint64_t sent_out = 0;    ///< as far as the kernel was asked to write
  bool is_over = false;  ///< finished or cancelled while somebody waited for it
};

const std::string& UploadWriter::id() const { return state_->id; }
std::uint64_t UploadWriter::size_bytes() const { return state_->bytes; }

Status UploadWriter::append(std::string_view bytes) {
  if (!state_->hasher || state_->hashed != state_->bytes) TRY_PLAIN(catch_up(state_->algorithm));
  while (!bytes.empty()) {
    const auto count = TRY(linux::pwrite(fd_.get(), bytes, state_->bytes), "store the upload");
    state_->hasher->update(bytes.substr(0, count));
    state_->hashed += count;
    state_->bytes += count;
    bytes.remove_prefix(count);
  }
  // The disk works while the rest still comes: finish() syncs, and has only the end to wait for.
  if (const std::uint64_t size = state_->bytes; size - state_->sent_out >= sent_out_bytes) {
    ignore(linux::begin_writing_out(fd_.get(), state_->sent_out, size - state_->sent_out));  // a hint; what fails is said by the sync
    state_->sent_out = size;
  }
  return {};
}

/// Hashes what the file holds already: after a restart, or when the digest turns out to be of another algorithm.
Status UploadWriter::catch_up(DigestAlgorithm algorithm) {
  state_->hasher.emplace(algorithm);
  state_->algorithm = algorithm;
  state_->hashed = 0;
  std::string buffer(read_bytes, '\0');
  while (state_->hashed < state_->bytes) {
    const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), state_->bytes - state_->hashed));
    const auto count = TRY(linux::pread(fd_.get(), std::span<char>(buffer.data(), want), state_->hashed), "read the upload");
    if (count == 0) return Error(ErrorKind::corrupt, concat("upload ", state_->id, " is shorter than it was"));
    state_->hasher->update(std::string_view(buffer).substr(0, count));
    state_->hashed += count;
  }
  return {};
}

Result<std::uint64_t> UploadWriter::finish(const Digest& digest) {
  if (!state_->hasher || state_->algorithm != digest.kind() || state_->hashed != state_->bytes) TRY_PLAIN(catch_up(digest.kind()));
  auto found = state_->hasher->finish();
  state_->hasher.reset();
  if (found != digest) {
    TRY_PLAIN(cancel());
    return Error(ErrorKind::invalid, concat("the content's digest is ", found.text(), ", not ", digest.text()));
  }
  const std::uint64_t size = state_->bytes;
  const bool was_there = TRY_PLAIN(owner_->storage_.has(digest));
  if (was_there) {
    TRY_PLAIN(cancel());
    return std::uint64_t{0};
  }
  fd_.reset();
  TRY_PLAIN(owner_->storage_.adopt(owner_->path(state_->id), digest));
  state_->is_over = true;
  TRY_PLAIN(owner_->forget(state_->id));
  return size;
}

Status UploadWriter::cancel() {
  state_->is_over = true;
  auto removed = linux::unlink(owner_->path(state_->id));
  if (!removed.ok() && removed.error().kind() != ErrorKind::not_found) return std::move(removed).error();
  return owner_->forget(state_->id);
}

std::string Uploads::path(std::string_view id) const { return concat(folder_, "/", id); }

Result<std::unique_ptr<Uploads>> Uploads::open(const std::string& folder, state::Store& store, Storage& storage) {
  TRY(linux::make_dirs(folder, 0700), "open uploads");
  std::unique_ptr<Uploads> uploads(new Uploads(folder, store, storage));
  TRY(uploads->load(), "take up the uploads of before");
  return uploads;
}

Status Uploads::load() {
  for (const auto& entry : TRY_PLAIN(store_.list(record_prefix))) {
    auto state = std::make_shared<UploadWriter::State>();
    state->id = entry.key.substr(record_prefix.size());
    auto document = TRY_PLAIN(parse_json(entry.value, entry.key));
    TRY_PLAIN(JsonView(document).read("repository", state->repository));
    auto status = linux::stat(path(state->id));
    if (!status.ok()) {
      TRY_PLAIN(forget(state->id));
      continue;
    }
    state->bytes = static_cast<std::uint64_t>(status->st_size);
    table_[state->id] = std::move(state);
  }
  for (const auto& entry : TRY_PLAIN(linux::list_dir(folder_)))
    if (table_.find(entry.name) == table_.end()) TRY_PLAIN(linux::unlink(path(entry.name)));
  return {};
}

Result<UploadWriter> Uploads::begin(const std::string& repository, DigestAlgorithm algorithm) {
  if (count() >= most_uploads) return Error(ErrorKind::unavailable, "too many uploads have been begun and not finished");
  auto state = std::make_shared<UploadWriter::State>();
  state->id = random_id().substr(0, 32);
  state->repository = repository;
  state->algorithm = algorithm;
  auto fd = TRY(linux::open(path(state->id), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600), "begin an upload");
  json::object record;
  record["repository"] = repository;
  state::Transaction change;
  change.put(concat(record_prefix, state->id), to_text(record));
  auto committed = store_.commit(change);
  if (!committed.ok()) {
    ignore(linux::unlink(path(state->id)));  // the next start removes it otherwise
    return std::move(committed).error();
  }
  std::unique_lock lock(state->writing);
  {
    std::lock_guard table_lock(mutex_);
    table_[state->id] = state;
  }
  return UploadWriter(*this, std::move(state), std::move(lock), std::move(fd));
}

Result<std::shared_ptr<UploadWriter::State>> Uploads::find(std::string_view repository, std::string_view id) {
  std::lock_guard lock(mutex_);
  auto found = table_.find(id);
  if (found == table_.end() || found->second->repository != repository) return Error(ErrorKind::not_found, concat("repository ", repository, " has no upload ", id));
  return found->second;
}

Result<UploadWriter> Uploads::take(std::string_view repository, std::string_view id) {
  auto state = TRY_PLAIN(find(repository, id));
  std::unique_lock lock(state->writing, busy_patience);
  if (!lock.owns_lock()) return Error(ErrorKind::conflict, concat("upload ", id, " is being written to by another request"));
  if (state->is_over) return Error(ErrorKind::not_found, concat("upload ", id, " is over"));
  auto fd = TRY(linux::open(path(id), O_RDWR | O_NOFOLLOW), concat("upload ", id));
  return UploadWriter(*this, std::move(state), std::move(lock), std::move(fd));
}

Result<std::uint64_t> Uploads::size_bytes(std::string_view repository, std::string_view id) { return TRY_PLAIN(find(repository, id))->bytes.load(); }

Status Uploads::forget(const std::string& id) {
  {
    std::lock_guard lock(mutex_);
    table_.erase(id);
  }
  state::Transaction change;
  change.erase(concat(record_prefix, id));
  TRY_PLAIN(store_.commit(change));
  return {};
}

std::size_t Uploads::count() {
  std::lock_guard lock(mutex_);
  return table_.size();
}

Result<std::uint64_t> Uploads::expire(std::int64_t age_ns) {
  std::vector<std::shared_ptr<UploadWriter::State>> all;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [id, state] : table_) all.push_back(state);
  }
  std::uint64_t count = 0;
  for (const auto& state : all) {
    std::unique_lock lock(state->writing, std::try_to_lock);
    if (!lock.owns_lock() || state->is_over) continue;
    auto status = linux::stat(path(state->id));
    if (status.ok() && now_ns() - static_cast<TimestampNs>(status->st_mtim.tv_sec) * 1'000'000'000 < age_ns) continue;
    UploadWriter writer(*this, state, std::move(lock), UniqueFd());
    TRY(writer.cancel(), concat("end the forgotten upload ", state->id));
    ++count;
  }
  return count;
}

}  // namespace caisson::registry
