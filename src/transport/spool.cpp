// Files by digest, flock(2) as the right to write.
#include "transport/spool.hpp"

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::transport {

namespace {

constexpr std::int64_t stale_age_s = 7LL * 24 * 3600;
constexpr std::int64_t ns_per_s = 1'000'000'000;

/// A failure only leaves rubbish behind, which the next one tries again.
void remove_stale(const std::string& folder) {
  auto entries = linux::list_dir(folder);
  if (!entries.ok()) return;
  for (const auto& entry : *entries) {
    const auto path = concat(folder, "/", entry.name);
    auto status = linux::lstat(path);
    if (status.ok() && now_ns() / ns_per_s - status->st_mtim.tv_sec > stale_age_s) ignore(linux::remove_tree(path));
  }
}

}  // namespace

Result<Spool> Spool::open(std::string folder) {
  TRY(linux::make_dirs(folder, 0700), "where blobs grow");
  remove_stale(folder);
  return Spool(std::move(folder));
}

void Spool::leave() { ignore(linux::rmdir(folder_)); }  // not empty: something is to be gone on with

Result<Spool::Held> Spool::hold(const Digest& digest) const {
  const auto path = concat(folder_, "/", digest.algorithm(), "-", digest.hex());
  for (;;) {
    Held held;
    held.path = path;
    auto file = linux::open(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
    if (!file.ok() && file.error().kind() == ErrorKind::not_found) {  // another process has left the folder just now
      TRY(linux::make_dirs(folder_, 0700), "keep the blob");
      continue;
    }
    held.fd = TRY(std::move(file), "keep the blob");
    TRY(linux::flock(held.fd.get(), LOCK_EX), "keep the blob");
    // Whoever held it before may have renamed or removed it: then another file has its name now, or none.
    auto named = linux::lstat(path);
    const auto locked = TRY(linux::fstat(held.fd.get()), "keep the blob");
    if (named.ok() && named->st_ino == locked.st_ino && named->st_dev == locked.st_dev) return held;
  }
}

}  // namespace caisson::transport
