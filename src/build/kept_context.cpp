// One file per content. A name is given after all bytes are there, so that a killed daemon leaves nothing that is not what it is called; what a power cut leaves is found by its digest.
#include "build/kept_context.hpp"

#include <algorithm>
#include <cerrno>
#include <set>

#include "base/digest.hpp"
#include "base/strings.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
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

Status restore(int kept_fd, const KeptFile& file, int folder_fd, const std::string& name, Cancel cancel) {
  auto kept = linux::openat(kept_fd, file.digest, O_RDONLY | O_NOFOLLOW);
  if (!kept.ok() && kept.error().kind() == ErrorKind::not_found) return is_gone();
  auto from = TRY_PLAIN(std::move(kept));
  const auto to = TRY_PLAIN(linux::openat(folder_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  if (TRY_PLAIN(read_contents(from.get(), to.get(), cancel)) != file.digest) {
    TRY_PLAIN(linux::unlinkat(kept_fd, file.digest));
    return is_gone();
  }
  TRY_PLAIN(linux::fchmod(to.get(), file.mode & 07777U));
  const linux::TimeSpec time{file.mtime_s, 0};
  return linux::utimensat(folder_fd, name, time, time, AT_SYMLINK_NOFOLLOW);
}

class Keeper {
 public:
  Keeper(int kept_fd, const std::vector<KeptFile>& restored) : kept_fd_(kept_fd) {
    for (const auto& file : restored) {
      known_.insert(file.path);
      wanted_.insert(file.digest);
    }
  }

  Status walk(int fd, const std::string& above) {
    for (const auto& entry : TRY_PLAIN(linux::list_dir(fd))) {
      const auto path = above.empty() ? entry.name : concat(above, "/", entry.name);
      const auto status = TRY_PLAIN(linux::fstatat(fd, entry.name, AT_SYMLINK_NOFOLLOW));
      if (S_ISDIR(status.st_mode)) {
        const auto inner = TRY_PLAIN(linux::openat(fd, entry.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        TRY_PLAIN(walk(inner.get(), path));
      } else if (S_ISREG(status.st_mode) && !known_.contains(path)) {
        TRY_PLAIN(keep(fd, entry.name, status));
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
  Status keep(int folder_fd, const std::string& name, const linux::FileStatus& status) {
    const auto size = static_cast<std::uint64_t>(status.st_size);
    constexpr std::uint64_t block_bytes = 512;
    if (size < least_kept_bytes || static_cast<std::uint64_t>(status.st_blocks) * block_bytes < size || status.st_nlink > 1) return {};
    const auto file = TRY_PLAIN(linux::openat(folder_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    const auto digest = TRY_PLAIN(read_contents(file.get(), -1, {}));
    if (!wanted_.insert(digest).second) return {};
    // In place of one that was damaged, too.
    return linux::renameat2(folder_fd, name, kept_fd_, digest);
  }

  int kept_fd_;
  std::set<std::string> known_;
  std::set<std::string> wanted_;
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

Status restore_files(int kept_fd, const std::vector<KeptFile>& files, int context_fd, Cancel cancel) {
  UniqueFd folder;
  std::string opened;
  for (const auto& file : files) {
    TRY_PLAIN(check_path(file.path));
    if (!is_digest(file.digest)) return Error(ErrorKind::invalid, concat("build context: ", file.path, ": \"", file.digest, "\" is no SHA-256 digest in hexadecimal"));
    const auto slash = file.path.rfind('/');
    const auto above = slash == std::string::npos ? std::string(".") : file.path.substr(0, slash);
    const auto name = slash == std::string::npos ? file.path : file.path.substr(slash + 1);
    if (!folder || above != opened) folder = TRY(linux::open_in_root(context_fd, above, O_RDONLY | O_DIRECTORY), concat("build context: ", file.path));
    opened = above;
    TRY(restore(kept_fd, file, folder.get(), name, cancel), concat("build context: ", file.path));
  }
  return {};
}

Status keep_files(int kept_fd, const std::vector<KeptFile>& restored, const std::vector<int>& context_fds) {
  Keeper keeper(kept_fd, restored);
  for (const int fd : context_fds) TRY_PLAIN(keeper.walk(fd, ""));
  return keeper.drop_others();
}

}  // namespace caisson::build
