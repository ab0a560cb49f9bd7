// One file per content. A name is given after all bytes are there, so that a killed daemon leaves nothing that is not what it is called; what a power cut leaves is found by its digest.
// Files move into a context and back, because making and removing thousands of them is what costs: ext4 looks past every inode that was freed in the last minutes for one to take.
#include "build/kept_context.hpp"

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/digest.hpp"
#include "base/strings.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/tree.hpp"

namespace caisson::build {

namespace {

constexpr std::size_t digest_digits = 64;
constexpr std::size_t piece_bytes = 256 << 10;
constexpr std::uint64_t bytes_between_looks = 16 << 20;

bool is_digest(std::string_view text) { return text.size() == digest_digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos; }

Error is_gone() { return {ErrorKind::conflict, "files of an earlier context are not kept any more: the whole context has to be sent"}; }

Status check_path(const std::string& path) {
  for (const auto part : split(path, '/'))
    if (part.empty() || part == "." || part == ".." || part.find('\0') != std::string_view::npos) return Error(ErrorKind::invalid, concat("build context: \"", path, "\" is no path of a file"));
  return {};
}

/// Copies or, with `to_fd` -1, only reads. Returns the digest of what was read.
Result<std::string> read_contents(int from_fd, int to_fd, Cancel cancel) {
  Hasher hasher;
  std::string buffer(piece_bytes, '\0');
  for (std::uint64_t done = 0, looked = 0;;) {
    const auto got = TRY_PLAIN(linux::read(from_fd, buffer));
    if (got == 0) return std::string(hasher.finish().hex());
    const auto piece = std::string_view(buffer).substr(0, got);
    hasher.update(piece);
    if (to_fd >= 0) TRY_PLAIN(linux::write_all(to_fd, piece));
    done += got;
    if (done - looked < bytes_between_looks) continue;
    looked = done;
    if (cancel.fd >= 0 && TRY_PLAIN(linux::wait_readable(cancel.fd, 0))) return Error(ErrorKind::unavailable, "the build was cancelled", ECANCELED);
  }
}

/// What a copy would have: the daemon's own ids, and what the client says.
Status set_attributes(int fd, const KeptFile& file) {
  TRY_PLAIN(linux::fchown(fd, linux::geteuid(), linux::getegid()));
  TRY_PLAIN(linux::fchmod(fd, file.mode & 07777U));
  const linux::TimeSpec time{file.mtime_s, 0};
  return linux::utimensat(fd, "", time, time, AT_EMPTY_PATH);
}

/// The folder that a file of a context lies in, and its name there.
Result<std::pair<UniqueFd, std::string>> open_parent(int context_fd, const std::string& path) {
  const auto slash = path.rfind('/');
  auto folder = TRY_PLAIN(linux::open_in_root(context_fd, slash == std::string::npos ? "." : path.substr(0, slash), O_RDONLY | O_DIRECTORY));
  return std::pair(std::move(folder), slash == std::string::npos ? path : path.substr(slash + 1));
}

class Keeper {
 public:
  Keeper(int kept_fd, const std::map<std::string, std::string>& restored) : kept_fd_(kept_fd), restored_(restored) {
    for (const auto& [path, digest] : restored) wanted_.insert(digest);
  }

  Status walk(int fd, const std::string& above) {
    for (const auto& entry : TRY_PLAIN(linux::list_dir(fd))) {
      const auto path = above.empty() ? entry.name : concat(above, "/", entry.name);
      const auto status = TRY_PLAIN(linux::fstatat(fd, entry.name, AT_SYMLINK_NOFOLLOW));
      if (S_ISDIR(status.st_mode)) {
        const auto inner = TRY_PLAIN(linux::openat(fd, entry.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        TRY_PLAIN(walk(inner.get(), path));
      } else if (S_ISREG(status.st_mode)) {
        TRY_PLAIN(keep(fd, entry.name, path, status));
      }
    }
    return {};
  }
  Status drop_others() {
    for (const auto& entry : TRY_PLAIN(linux::list_dir(kept_fd_)))
      if (!wanted_.contains(entry.name)) TRY_PLAIN(linux::unlinkat(kept_fd_, entry.name));
    return {};
  }

 private:
  Status keep(int folder_fd, const std::string& name, const std::string& path, const linux::FileStatus& status) {
    const auto size = static_cast<std::uint64_t>(status.st_size);
    constexpr std::uint64_t block_bytes = 512;
    if (size < least_kept_bytes || static_cast<std::uint64_t>(status.st_blocks) * block_bytes < size || status.st_nlink > 1) return {};
    const auto known = restored_.find(path);
    std::string digest;
    if (known != restored_.end()) {
      digest = known->second;
    } else {
      const auto file = TRY_PLAIN(linux::openat(folder_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
      digest = TRY_PLAIN(read_contents(file.get(), -1, {}));
    }
    wanted_.insert(digest);
    if (!placed_.insert(digest).second) return {};
    // In place of one that was damaged, too.
    return linux::renameat2(folder_fd, name, kept_fd_, digest);
  }

  int kept_fd_;
  const std::map<std::string, std::string>& restored_;
  std::set<std::string> wanted_;
  std::set<std::string> placed_;
};

}  // namespace

Status check_digests(const std::vector<std::string>& digests) {
  for (const auto& digest : digests)
    if (!is_digest(digest)) return Error(ErrorKind::invalid, concat("\"", digest, "\" is no SHA-256 digest in hexadecimal"));
  return {};
}

Result<std::vector<std::size_t>> missing_files(int kept_fd, const std::vector<std::string>& digests) {
  TRY_PLAIN(check_digests(digests));
  std::set<std::string> kept;
  for (const auto& entry : TRY_PLAIN(linux::list_dir(kept_fd))) kept.insert(entry.name);
  std::vector<std::size_t> missing;
  for (std::size_t i = 0; i < digests.size(); ++i)
    if (!kept.contains(digests[i])) missing.push_back(i);
  return missing;
}

void LentFiles::add(const std::string& key, const std::string& digest, Place place) {
  std::lock_guard lock(mutex_);
  places_.insert_or_assign({key, digest}, std::move(place));
}

std::optional<LentFiles::Place> LentFiles::find(const std::string& key, const std::string& digest) const {
  std::lock_guard lock(mutex_);
  const auto found = places_.find({key, digest});
  return found == places_.end() ? std::nullopt : std::optional(found->second);
}

void LentFiles::remove(const std::string& key, const UniqueFd& context) {
  std::lock_guard lock(mutex_);
  std::erase_if(places_, [&](const auto& entry) { return entry.first.first == key && entry.second.context.get() == &context; });
}

Status KeptFiles::restore(const KeptFile& file, int folder_fd, const std::string& name, bool is_last, Cancel cancel) {
  auto kept = linux::openat(kept_fd_, file.digest, O_RDONLY | O_NOFOLLOW);
  const bool is_here = kept.ok();
  if (!is_here && kept.error().kind() != ErrorKind::not_found) return std::move(kept).error();
  if (!is_here) {
    const auto lent = lent_.find(key_, file.digest);
    if (!lent) return is_gone();
    const auto folder = open_parent(lent->context->get(), lent->path);
    if (folder.ok()) kept = linux::openat(folder->first.get(), folder->second, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (!kept.ok()) return is_gone();  // that build does not need it, or has put it somewhere else
  }
  const auto from = TRY_PLAIN(std::move(kept));
  const bool moves = is_here && is_last;
  UniqueFd copy;
  if (!moves) copy = TRY_PLAIN(linux::openat(folder_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  if (TRY_PLAIN(read_contents(from.get(), copy.get(), cancel)) != file.digest) {
    if (is_here) TRY_PLAIN(linux::unlinkat(kept_fd_, file.digest));
    return is_gone();
  }
  if (moves) TRY_PLAIN(linux::renameat2(kept_fd_, file.digest, folder_fd, name, RENAME_NOREPLACE));
  restored_[file.path] = file.digest;
  if (!moves) return set_attributes(copy.get(), file);
  lent_.add(key_, file.digest, {context_, file.path});
  return set_attributes(from.get(), file);
}

Status KeptFiles::restore(const std::vector<KeptFile>& files, int context_fd, Cancel cancel) {
  context_ = std::make_shared<const UniqueFd>(TRY_PLAIN(linux::dup(context_fd)));
  std::map<std::string, std::size_t> left;
  for (const auto& file : files) {
    TRY_PLAIN(check_path(file.path));
    if (!is_digest(file.digest)) return Error(ErrorKind::invalid, concat("build context: ", file.path, ": \"", file.digest, "\" is no SHA-256 digest in hexadecimal"));
    ++left[file.digest];
  }
  std::pair<UniqueFd, std::string> place;
  std::string opened;
  for (const auto& file : files) {
    const auto above = file.path.substr(0, file.path.rfind('/') + 1);
    if (!place.first || above != opened) place = TRY(open_parent(context_fd, file.path), concat("build context: ", file.path));
    opened = above;
    TRY(restore(file, place.first.get(), file.path.substr(above.size()), --left[file.digest] == 0, cancel), concat("build context: ", file.path));
  }
  return {};
}

Status KeptFiles::give_back() {
  Status first;
  for (const auto& [path, digest] : restored_) {
    const auto place = open_parent(context_->get(), path);
    Status back = place.ok() ? linux::renameat2(place->first.get(), place->second, kept_fd_, digest) : Status(place.error());
    if (!back.ok() && first.ok()) first = std::move(back);
  }
  if (context_) lent_.remove(key_, *context_);
  return first;
}

Status KeptFiles::keep(const std::vector<int>& context_fds) {
  if (context_) lent_.remove(key_, *context_);
  Keeper keeper(kept_fd_, restored_);
  for (const int fd : context_fds) TRY_PLAIN(keeper.walk(fd, ""));
  return keeper.drop_others();
}

}  // namespace caisson::build
