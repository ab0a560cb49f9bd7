// The kernel's side of FUSE for one read-only file: version 7.31 of the protocol, which Linux 5.2 and later speak.
#include "linux/fuse_file.hpp"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/mount_api.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

namespace {

constexpr std::uint32_t protocol_minor = 31;
constexpr std::uint32_t most_write_bytes = 4096;  // nothing is written; the protocol wants a number
constexpr std::size_t page_bytes = 4096;
/// The kernel wants room for a header and the largest write (fs/fuse/dev.c).
constexpr std::size_t request_bytes = FUSE_MIN_READ_BUFFER + most_write_bytes;
constexpr std::uint64_t for_ever_s = 1ULL << 30;
constexpr std::uint32_t read_only_mode = S_IFREG | 0400;

Status send(int device_fd, const struct ::fuse_out_header& head, std::string_view bytes) {
  std::array<struct ::iovec, 2> parts{};
  parts[0].iov_base = const_cast<struct ::fuse_out_header*>(&head);
  parts[0].iov_len = sizeof head;
  parts[1].iov_base = const_cast<char*>(bytes.data());
  parts[1].iov_len = bytes.size();
  auto sent = detail::status("writev", [&] { return ::writev(device_fd, parts.data(), bytes.empty() ? 1 : 2); });
  // The asker was killed, or everything was unmounted meanwhile.
  if (!sent.ok() && (sent.error().error_number() == ENOENT || sent.error().error_number() == ENODEV)) return {};
  return sent;
}

Status answer(int device_fd, std::uint64_t number, std::string_view bytes, int error_number = 0) {
  struct ::fuse_out_header head {};
  head.len = static_cast<std::uint32_t>(sizeof head + bytes.size());
  head.error = -error_number;
  head.unique = number;
  return send(device_fd, head, bytes);
}

template <typename T>
std::string_view bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

/// The request's own part. Fields of later versions may be missing: they are zeros.
template <typename T>
T argument_of(std::string_view payload) {
  T out{};
  std::memcpy(&out, payload.data(), std::min(sizeof out, payload.size()));
  return out;
}

Status answer_init(int device_fd, std::uint64_t number, std::string_view payload) {
  const auto in = argument_of<struct ::fuse_init_in>(payload);
  if (in.major != FUSE_KERNEL_VERSION || in.minor < protocol_minor) return answer(device_fd, number, {}, EPROTO);
  struct ::fuse_init_out out {};
  out.major = FUSE_KERNEL_VERSION;
  out.minor = protocol_minor;
  out.max_readahead = in.max_readahead;
  out.flags = in.flags & (FUSE_ASYNC_READ | FUSE_MAX_PAGES);
  out.max_background = 64;
  out.congestion_threshold = 48;
  out.max_write = most_write_bytes;
  out.time_gran = 1;
  out.max_pages = most_fuse_read_bytes / page_bytes;
  return answer(device_fd, number, bytes_of(out));
}

Status answer_attributes(int device_fd, std::uint64_t number, std::uint64_t file_bytes) {
  struct ::fuse_attr_out out {};
  out.attr_valid = for_ever_s;
  out.attr.ino = FUSE_ROOT_ID;
  out.attr.size = file_bytes;
  out.attr.mode = read_only_mode;
  out.attr.nlink = 1;
  out.attr.blksize = page_bytes;
  return answer(device_fd, number, bytes_of(out));
}

Status answer_open(int device_fd, std::uint64_t number) {
  struct ::fuse_open_out out {};
  out.open_flags = FOPEN_DIRECT_IO;
  return answer(device_fd, number, bytes_of(out));
}

Status answer_statfs(int device_fd, std::uint64_t number) {
  struct ::fuse_statfs_out out {};
  out.st.bsize = page_bytes;
  out.st.namelen = 255;
  return answer(device_fd, number, bytes_of(out));
}

}  // namespace

Result<UniqueFd> open_fuse_device() { return open("/dev/fuse", O_RDWR); }

Result<UniqueFd> mount_fuse_file(int device_fd) {
  auto context = TRY_PLAIN(FileSystemContext::create("fuse"));
  TRY_PLAIN(context.set_string("source", "caisson"));
  TRY_PLAIN(context.set_string("fd", concat(device_fd)));
  TRY_PLAIN(context.set_string("rootmode", "100400"));
  TRY_PLAIN(context.set_string("user_id", "0"));
  TRY_PLAIN(context.set_string("group_id", "0"));
  TRY_PLAIN(context.set_string("max_read", concat(most_fuse_read_bytes)));
  TRY_PLAIN(context.set_flag("allow_other"));
  TRY_PLAIN(context.create_superblock());
  return context.mount(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

Result<UniqueFd> open_fuse_file(int mount_fd) {
  auto file = reopen(mount_fd, O_RDONLY);
  if (!file.ok() && (file.error().error_number() == ECONNABORTED || file.error().error_number() == ENOTCONN))
    return std::move(file).error().with_kind(ErrorKind::unavailable);
  // The kernel asks for the size only when somebody else does, and reads nothing behind the one that it knows.
  if (file.ok()) TRY_PLAIN(fstat(file->get()));
  return file;
}

Result<FuseEvent> next_fuse_event(int device_fd, std::uint64_t file_bytes) {
  alignas(std::uint64_t) std::array<char, request_bytes> buffer{};
  for (;;) {
    auto got = read(device_fd, buffer);
    if (!got.ok() && got.error().error_number() == ENODEV) return FuseEvent{};
    if (!got.ok() && (got.error().error_number() == ENOENT || got.error().error_number() == EAGAIN)) continue;  // an asker was killed before it was heard
    if (!got.ok()) return std::move(got).error();
    const std::string_view message(buffer.data(), *got);
    if (message.size() < sizeof(struct ::fuse_in_header)) return Error(ErrorKind::corrupt, "FUSE: a request without a header");
    const auto head = argument_of<struct ::fuse_in_header>(message);
    const auto payload = message.substr(sizeof head);
    switch (head.opcode) {
      case FUSE_INIT: TRY_PLAIN(answer_init(device_fd, head.unique, payload)); break;
      case FUSE_GETATTR: TRY_PLAIN(answer_attributes(device_fd, head.unique, file_bytes)); break;
      case FUSE_OPEN: TRY_PLAIN(answer_open(device_fd, head.unique)); break;
      case FUSE_STATFS: TRY_PLAIN(answer_statfs(device_fd, head.unique)); break;
      case FUSE_RELEASE:
      case FUSE_DESTROY: TRY_PLAIN(answer(device_fd, head.unique, {})); break;
      case FUSE_FORGET:
      case FUSE_BATCH_FORGET: break;  // are never answered
      case FUSE_INTERRUPT: return FuseEvent{FuseEvent::Kind::interrupt, argument_of<struct ::fuse_interrupt_in>(payload).unique, 0, 0};
      case FUSE_READ: {
        const auto in = argument_of<struct ::fuse_read_in>(payload);
        return FuseEvent{FuseEvent::Kind::read, head.unique, in.offset, in.size};
      }
      default: TRY_PLAIN(answer(device_fd, head.unique, {}, ENOSYS)); break;
    }
  }
}

Status answer_fuse_read(int device_fd, std::uint64_t number, std::string_view bytes) { return answer(device_fd, number, bytes); }

Status refuse_fuse_read(int device_fd, std::uint64_t number, int error_number) { return answer(device_fd, number, {}, error_number); }

}  // namespace caisson::linux
