// Mount calls by descriptors, with the kernel's own explanation of a refused option.
#include "linux/mount_api.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "linux/file.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

using detail::descriptor;
using detail::status;

Result<FileSystemContext> FileSystemContext::create(PathArg type) {
  UniqueFd fd = TRY_PLAIN(
      descriptor("fsopen", [&] { return static_cast<int>(::syscall(SYS_fsopen, type.c_str(), FSOPEN_CLOEXEC)); }, type));
  return FileSystemContext(std::move(fd), std::string(type.view()));
}
Result<FileSystemContext> FileSystemContext::pick(int dir_fd, PathArg path, unsigned int flags) {
  UniqueFd fd = TRY_PLAIN(descriptor(
      "fspick",
      [&] { return static_cast<int>(::syscall(SYS_fspick, dir_fd, path.c_str(), flags | FSPICK_CLOEXEC)); }, path));
  return FileSystemContext(std::move(fd), std::string(path.view()));
}

std::string FileSystemContext::take_messages() {
  std::string out;
  std::array<char, 1024> buffer{};
  // One message per read (Documentation/filesystems/mount_api.rst); ENODATA ends the list.
  while (true) {
    const ssize_t got = ::read(fd_.get(), buffer.data(), buffer.size());
    if (got <= 2) return out;
    std::string_view line(buffer.data(), static_cast<std::size_t>(got));
    line = trim(line);
    if (line.size() > 2 && line[1] == ' ') line.remove_prefix(2);  // "e ", "w ", "i "
    out += concat(out.empty() ? "" : "; ", line);
  }
}

Status FileSystemContext::configure(unsigned int command, const char* key, const void* value, int aux,
                                    std::string_view what) {
  auto done = status("fsconfig", [&] { return ::syscall(SYS_fsconfig, fd_.get(), command, key, value, aux); });
  if (done) return done;
  const std::string messages = take_messages();
  std::string step = concat("mount ", type_, what.empty() ? "" : ": ", what);
  if (!messages.empty()) step += concat(": ", messages);
  return Error::from_errno(done.error().error_number(), step);
}

Status FileSystemContext::set_flag(PathArg key) {
  if (key.has_nul()) return Error(ErrorKind::invalid, "mount option: a NUL character inside", EINVAL);
  return configure(FSCONFIG_SET_FLAG, key.c_str(), nullptr, 0, concat("option ", key.view()));
}
Status FileSystemContext::set_string(PathArg key, PathArg value) {
  if (key.has_nul() || value.has_nul()) return Error(ErrorKind::invalid, "mount option: a NUL character inside", EINVAL);
  return configure(FSCONFIG_SET_STRING, key.c_str(), value.c_str(), 0, concat("option ", key.view(), '=', value.view()));
}
Status FileSystemContext::set_fd(PathArg key, int fd) {
  return configure(FSCONFIG_SET_FD, key.c_str(), nullptr, fd, concat("option ", key.view(), " by descriptor"));
}
Status FileSystemContext::set_path(PathArg key, int dir_fd, PathArg path) {
  if (path.has_nul()) return Error(ErrorKind::invalid, "mount option: a NUL character inside", EINVAL);
  return configure(FSCONFIG_SET_PATH, key.c_str(), path.c_str(), dir_fd, concat("option ", key.view(), '=', path.view()));
}
Status FileSystemContext::create_superblock() { return configure(FSCONFIG_CMD_CREATE, nullptr, nullptr, 0, ""); }
Status FileSystemContext::reconfigure() { return configure(FSCONFIG_CMD_RECONFIGURE, nullptr, nullptr, 0, "reconfigure"); }

Result<UniqueFd> FileSystemContext::mount(std::uint64_t attributes) {
  auto mounted = descriptor("fsmount", [&] {
    return static_cast<int>(::syscall(SYS_fsmount, fd_.get(), FSMOUNT_CLOEXEC, static_cast<unsigned int>(attributes)));
  });
  if (mounted) return mounted;
  const std::string messages = take_messages();
  return std::move(mounted).error().in(messages.empty() ? concat("mount ", type_) : concat("mount ", type_, ": ", messages));
}

Result<UniqueFd> mount_detached(PathArg type, const std::vector<MountOption>& options, std::uint64_t attributes) {
  FileSystemContext context = TRY_PLAIN(FileSystemContext::create(type));
  for (const MountOption& option : options) {
    if (option.value.empty()) TRY_PLAIN(context.set_flag(option.key));
    else TRY_PLAIN(context.set_string(option.key, option.value));
  }
  TRY_PLAIN(context.create_superblock());
  return context.mount(attributes);
}

Result<UniqueFd> open_tree(int dir_fd, PathArg path, unsigned int flags) {
  return descriptor(
      "open_tree",
      [&] { return static_cast<int>(::syscall(SYS_open_tree, dir_fd, path.c_str(), flags | OPEN_TREE_CLOEXEC)); }, path);
}
Result<UniqueFd> clone_tree(int fd, bool recursive) {
  constexpr unsigned int at_recursive = 0x8000;
  return open_tree(fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | (recursive ? at_recursive : 0U));
}
Status move_mount(int from_fd, PathArg from_path, int to_fd, PathArg to_path, unsigned int flags) {
  return status(
      "move_mount",
      [&] { return ::syscall(SYS_move_mount, from_fd, from_path.c_str(), to_fd, to_path.c_str(), flags); }, from_path,
      " to ", to_path);
}
Status attach_mount(int mount_fd, int target_fd) {
  return status("move_mount", [&] {
    return ::syscall(SYS_move_mount, mount_fd, "", target_fd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
  });
}

Status mount_setattr(int dir_fd, PathArg path, unsigned int flags, const MountAttributes& attributes) {
  struct ::mount_attr native {};
  native.attr_set = attributes.set;
  native.attr_clr = attributes.clear;
  native.propagation = attributes.propagation;
  native.userns_fd = attributes.userns_fd < 0 ? 0U : static_cast<unsigned int>(attributes.userns_fd);
  return status("mount_setattr",
                [&] { return ::syscall(SYS_mount_setattr, dir_fd, path.c_str(), flags, &native, sizeof native); }, path);
}

Status pivot_root(PathArg new_root, PathArg put_old) {
  return status("pivot_root", [&] { return ::syscall(SYS_pivot_root, new_root.c_str(), put_old.c_str()); }, new_root);
}
Status umount2(PathArg path, int flags) {
  return status("umount2", [&] { return ::umount2(path.c_str(), flags); }, path);
}
Status mount(PathArg source, PathArg target, PathArg type, unsigned long flags, PathArg data) {
  return status(
      "mount",
      [&] { return ::mount(source.c_str(), target.c_str(), type.c_str(), flags, data.empty() ? nullptr : data.c_str()); },
      target, " (", type, " ", source, ")");
}
Status make_all_mounts(std::uint64_t propagation) {
  return status("mount", [&] { return ::mount(nullptr, "/", nullptr, MS_REC | propagation, nullptr); }, "propagation of /");
}

}  // namespace caisson::linux
