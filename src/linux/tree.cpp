// Folder trees by descriptors: every step opens relative to a descriptor it already holds, and never through a link.
#include "linux/tree.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <set>
#include <utility>

#include "linux/syscall.hpp"

namespace caisson::linux {

using detail::value;

namespace {

FileType file_type_of(unsigned char type) {
  // DT_* of getdents64(2); glibc shows them only through dirent.h.
  switch (type) {
    case 1: return FileType::fifo;
    case 2: return FileType::character_device;
    case 4: return FileType::directory;
    case 6: return FileType::block_device;
    case 8: return FileType::regular;
    case 10: return FileType::symlink;
    case 12: return FileType::socket;
    default: return FileType::unknown;
  }
}

/// struct linux_dirent64's fixed part: u64 inode, s64 offset, u16 length, u8 type, then the name.
constexpr std::size_t record_length_offset = 16;
constexpr std::size_t type_offset = 18;
constexpr std::size_t name_offset = 19;

void append_entries(std::string_view block, std::vector<DirectoryEntry>& out) {
  while (block.size() > name_offset) {
    std::uint64_t inode = 0;
    std::uint16_t length = 0;
    std::memcpy(&inode, block.data(), sizeof inode);
    std::memcpy(&length, block.data() + record_length_offset, sizeof length);
    const std::string_view name(block.data() + name_offset);
    if (name != "." && name != "..")
      out.push_back({std::string(name), file_type_of(static_cast<unsigned char>(block[type_offset])), inode});
    block.remove_prefix(length);
  }
}

}  // namespace

Result<std::vector<DirectoryEntry>> list_dir(int dir_fd) {
  TRY_PLAIN(lseek(dir_fd, 0, SEEK_SET));
  std::vector<DirectoryEntry> out;
  std::string buffer(32768, '\0');
  while (true) {
    const auto got = TRY_PLAIN(value<std::size_t>(
        "getdents64", [&] { return ::syscall(SYS_getdents64, dir_fd, buffer.data(), buffer.size()); }));
    if (got == 0) return out;
    append_entries(std::string_view(buffer).substr(0, got), out);
  }
}

Result<std::vector<DirectoryEntry>> list_dir(PathArg path) {
  const UniqueFd fd = TRY_PLAIN(open(path, O_RDONLY | O_DIRECTORY));
  return TRY(list_dir(fd.get()), path.view());
}

namespace {

/// Makes one folder and opens it. A new one gets exactly `mode`; an existing one is left as it is.
Result<UniqueFd> make_one(int dir_fd, const std::string& name, mode_t mode) {
  const Status made = mkdirat(dir_fd, name, mode);
  if (!made && made.error().error_number() != EEXIST) return made.error();
  UniqueFd fd = TRY_PLAIN(openat(dir_fd, name, O_PATH | O_DIRECTORY));
  if (made) TRY_PLAIN(fchmodat(AT_FDCWD, concat("/proc/self/fd/", fd.get()), mode));  // undo the umask
  return fd;
}

}  // namespace

Status make_dirs(PathArg path, mode_t mode) {
  const std::string_view text = path.view();
  if (path.has_nul()) return Error(ErrorKind::invalid, "make folders: the path contains a NUL character", EINVAL);
  // The common case first: everything but perhaps the last part is there.
  if (auto status = fstatat(AT_FDCWD, path, 0); status && S_ISDIR(status->st_mode)) return {};
  UniqueFd at = TRY_PLAIN(open(text.starts_with('/') ? "/" : ".", O_PATH | O_DIRECTORY));
  for (std::string_view part : split(text, '/')) {
    if (part.empty() || part == ".") continue;
    at = TRY(make_one(at.get(), std::string(part), mode), concat("make folder ", text));
  }
  return {};
}

Result<UniqueFd> make_dirs_in_root(int root_fd, PathArg path, mode_t mode) {
  if (path.has_nul()) return Error(ErrorKind::invalid, "make folders: the path contains a NUL character", EINVAL);
  UniqueFd at = TRY_PLAIN(open_in_root(root_fd, ".", O_PATH | O_DIRECTORY));
  std::string so_far;
  for (std::string_view part : split(path.view(), '/')) {
    if (part.empty() || part == ".") continue;
    so_far = concat(so_far, so_far.empty() ? "" : "/", part);
    // Resolved anew from the root each time: a link met half-way must be taken against the root, not against its folder.
    auto next = open_in_root(root_fd, so_far, O_PATH | O_DIRECTORY);
    if (!next && next.error().error_number() == ENOENT && part != "..") {
      const Status made = mkdirat(at.get(), std::string(part), mode);
      if (!made && made.error().error_number() != EEXIST) return Error(made.error()).in(concat("make folder ", path.view()));
      next = open_in_root(root_fd, so_far, O_PATH | O_DIRECTORY);
      // A dangling link: mkdir said EEXIST and the link's target is still missing. We do not make what a link points to.
      if (next && made) TRY_PLAIN(fchmodat(AT_FDCWD, concat("/proc/self/fd/", next->get()), mode));
    }
    at = TRY(std::move(next), concat("make folder ", path.view()));
  }
  return at;
}

namespace {

/// ENOENT means somebody else removed it first: success.
Status gone(Status status) {
  if (!status && status.error().error_number() == ENOENT) return {};
  return status;
}

/// Opens a folder for reading without following a link or entering a mount; gives a folder of ours without
/// permissions (mode 0) the ones needed.
Result<UniqueFd> open_for_removal(int dir_fd, const std::string& name) {
  constexpr std::uint64_t resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
  constexpr int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
  auto opened = openat2(dir_fd, name, flags, resolve);
  if (opened || opened.error().error_number() != EACCES) return opened;
  const UniqueFd handle = TRY_PLAIN(openat2(dir_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, resolve));
  TRY_PLAIN(fchmodat(AT_FDCWD, concat("/proc/self/fd/", handle.get()), 0700));
  return openat2(dir_fd, name, flags, resolve);
}

constexpr int max_rounds = 64;

/// Errors that mean "it is something else now": a folder was swapped for a link or the other way round.
bool was_swapped(const Error& error) {
  const int reason = error.error_number();
  return reason == ENOTDIR || reason == EISDIR || reason == ELOOP;
}

/// One try to remove an entry, or to open it when it is a folder with content. EISDIR, ENOTDIR, ELOOP: try again.
Result<UniqueFd> try_unlink_or_open(int dir_fd, const std::string& name, bool as_file) {
  if (as_file) {
    const Status removed = gone(unlinkat(dir_fd, name));
    if (removed) return UniqueFd();
    // EPERM is POSIX's and some file systems' way to say EISDIR.
    if (removed.error().error_number() != EPERM) return removed.error();
  }
  const Status removed = gone(unlinkat(dir_fd, name, AT_REMOVEDIR));  // most folders of a container are empty
  if (removed) return UniqueFd();
  const int reason = removed.error().error_number();
  // EACCES: its parent or itself lacks permissions; opening tells which.
  if (reason != ENOTEMPTY && reason != EEXIST && reason != EACCES) return removed.error();
  auto opened = open_for_removal(dir_fd, name);
  if (opened) return opened;
  if (opened.error().error_number() == ENOENT) return UniqueFd();
  if (opened.error().error_number() == EXDEV)
    return Error::from_errno(EBUSY, concat("remove ", name, ": a file system is mounted there"));
  return opened;
}

/// Removes an entry (then there is nothing to return), or opens it when it is a folder with content.
Result<UniqueFd> unlink_or_open(int dir_fd, const std::string& name, FileType type) {
  bool as_file = type != FileType::directory;
  for (int round = 0;; ++round) {
    auto done = try_unlink_or_open(dir_fd, name, as_file);
    if (done || round == max_rounds || !was_swapped(done.error())) return done;
    // Not simply the other way each time: who swaps in a loop takes turns with us at the folder's lock, and would then
    // always be one step ahead. The same way twice meets both states.
    as_file = round % 4 < 2;
  }
}

struct Level {
  UniqueFd fd;
  std::string name;  ///< in the level above
  std::vector<DirectoryEntry> entries;
};

/// Depth first with an explicit stack of descriptors, so that a deep tree cannot exhaust the call stack; beyond
/// 512 levels the deep rest is moved up instead, so that it cannot exhaust descriptors either.
Status remove_below(int top_fd) {
  constexpr std::size_t max_depth = 512;
  std::vector<Level> stack;
  for (int round = 0; round < max_rounds; ++round) {
    auto top_entries = TRY_PLAIN(list_dir(top_fd));
    if (top_entries.empty()) return {};
    UniqueFd top = TRY_PLAIN(dup_at_least(top_fd, 0));
    stack.clear();
    stack.push_back({});
    stack.back().fd = std::move(top);
    stack.back().entries = std::move(top_entries);
    while (!stack.empty()) {
      Level& level = stack.back();
      if (level.entries.empty()) {
        if (stack.size() == 1) break;
        const std::string name = level.name;
        stack.pop_back();
        const Status removed = gone(unlinkat(stack.back().fd.get(), name, AT_REMOVEDIR));
        // Not empty or swapped: somebody still works there; the next round finds it.
        if (!removed && removed.error().error_number() != ENOTEMPTY && removed.error().error_number() != EEXIST &&
            !was_swapped(removed.error()))
          return removed;
        continue;
      }
      const DirectoryEntry entry = std::move(level.entries.back());
      level.entries.pop_back();
      if (entry.type == FileType::directory && stack.size() >= max_depth) {
        TRY_PLAIN(gone(renameat2(level.fd.get(), entry.name, top_fd, concat(".caisson-deep-", round, '-', entry.inode))));
        continue;
      }
      UniqueFd folder = TRY_PLAIN(unlink_or_open(level.fd.get(), entry.name, entry.type));
      if (!folder) continue;
      auto entries = TRY_PLAIN(list_dir(folder.get()));
      Level next;
      next.fd = std::move(folder);
      next.name = entry.name;
      next.entries = std::move(entries);
      stack.push_back(std::move(next));
    }
  }
  return Error::from_errno(ENOTEMPTY, "remove: files keep appearing");
}

}  // namespace

Status remove_children(int dir_fd) {
  const UniqueFd readable = TRY_PLAIN(openat2(dir_fd, ".", O_RDONLY | O_DIRECTORY, RESOLVE_BENEATH));
  return remove_below(readable.get());
}

Status remove_tree(int dir_fd, PathArg name) {
  if (name.has_nul() || name.empty() || name.view().find('/') != std::string_view::npos || name.view() == "." ||
      name.view() == "..")
    return Error(ErrorKind::invalid, concat("remove tree: \"", name.view(), "\" is not a plain name"), EINVAL);
  for (int round = 0; round < max_rounds; ++round) {
    const UniqueFd folder =
        TRY(unlink_or_open(dir_fd, std::string(name.view()), FileType::unknown), concat("remove ", name.view()));
    if (!folder) return {};
    TRY(remove_below(folder.get()), concat("remove ", name.view()));
  }
  return Error::from_errno(ENOTEMPTY, concat("remove ", name.view(), ": files keep appearing"));
}

Status remove_tree(PathArg path) {
  std::string_view text = path.view();
  while (text.size() > 1 && text.ends_with('/')) text.remove_suffix(1);
  const Halves halves = split_last(text, '/');
  const std::string folder(halves.found ? (halves.before.empty() ? "/" : halves.before) : ".");
  auto folder_fd = open(folder, O_PATH | O_DIRECTORY);
  if (!folder_fd && folder_fd.error().error_number() == ENOENT) return {};
  const UniqueFd fd = TRY_PLAIN(std::move(folder_fd));
  return remove_tree(fd.get(), std::string(halves.found ? halves.after : text));
}

namespace {

/// One folder that is being measured.
struct Measured {
  UniqueFd fd;
  std::vector<DirectoryEntry> rest;
};

/// The folder to go on in, if `entry` is one that can be entered.
Result<UniqueFd> measure_entry(int dir_fd, const std::string& name, std::set<std::pair<dev_t, ino_t>>& seen, TreeUsage& usage) {
  auto status = fstatat(dir_fd, name, AT_SYMLINK_NOFOLLOW);
  if (!status && status.error().error_number() == ENOENT) return UniqueFd();
  const FileStatus info = TRY_PLAIN(std::move(status));
  if (info.st_nlink > 1 && !S_ISDIR(info.st_mode) && !seen.insert({info.st_dev, info.st_ino}).second) return UniqueFd();
  usage.size_bytes += static_cast<std::uint64_t>(info.st_blocks) * 512;
  ++usage.inodes;
  if (!S_ISDIR(info.st_mode)) return UniqueFd();
  auto folder = openat2(dir_fd, name, O_RDONLY | O_DIRECTORY, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
  if (folder) return folder;
  const int reason = folder.error().error_number();
  if (reason == ENOENT || reason == EXDEV || reason == ELOOP || reason == ENOTDIR) return UniqueFd();
  return std::move(folder).error();
}

}  // namespace

/// With a list of levels instead of recursion: threads that serve requests have small stacks, and containers choose the depth.
Result<TreeUsage> tree_usage(PathArg path) {
  constexpr std::size_t max_depth = 512;
  TreeUsage usage;
  std::set<std::pair<dev_t, ino_t>> seen;
  std::vector<Measured> stack;
  auto enter = [&](UniqueFd fd) -> Status {
    if (stack.size() > max_depth) return Error::from_errno(ELOOP, "measure tree: deeper than 512 folders");
    Measured level;
    level.rest = TRY_PLAIN(list_dir(fd.get()));
    level.fd = std::move(fd);
    stack.push_back(std::move(level));
    return {};
  };
  TRY(enter(TRY_PLAIN(open(path, O_RDONLY | O_DIRECTORY))), path.view());
  while (!stack.empty()) {
    if (stack.back().rest.empty()) {
      stack.pop_back();
      continue;
    }
    const std::string name = std::move(stack.back().rest.back().name);
    stack.back().rest.pop_back();
    UniqueFd folder = TRY(measure_entry(stack.back().fd.get(), name, seen, usage), path.view());
    if (folder) TRY(enter(std::move(folder)), path.view());
  }
  return usage;
}

}  // namespace caisson::linux
