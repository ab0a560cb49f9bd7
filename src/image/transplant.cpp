// A layer's way through its archive form, from the packer to the unpacker: there is one set of rules for what a layer may hold.
#include "image/transplant.hpp"

#include <cerrno>
#include <thread>

#include "base/strings.hpp"
#include "image/pack.hpp"
#include "image/unpack.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"

namespace caisson::image {

namespace {

constexpr std::size_t buffer_bytes = 1 << 18;

class SocketSource final : public ByteSource {
 public:
  explicit SocketSource(int fd) : fd_(fd), buffer_(buffer_bytes, '\0') {}
  Result<std::string_view> next() override {
    auto got = TRY_PLAIN(linux::read(fd_, buffer_));
    return std::string_view(buffer_.data(), got);
  }

 private:
  int fd_;
  std::string buffer_;
};

class NoMask {
 public:
  NoMask() : before_(linux::umask(0)) {}
  ~NoMask() { linux::umask(before_); }
  NoMask(const NoMask&) = delete;
  NoMask& operator=(const NoMask&) = delete;

 private:
  mode_t before_;
};

}  // namespace

/// The directory is empty of surprises: the worker that could have changed it is gone. Its list of devices is still
/// checked as if it were hostile, because it comes from a process that read hostile input.
Status make_device(int root_fd, const DeviceNode& node) {
  auto components = TRY_PLAIN(clean_components(node.path));
  if (components.empty()) return Error(ErrorKind::invalid, "device without a name");
  std::string name = components.back();
  components.pop_back();
  auto parent = components.empty() ? TRY_PLAIN(linux::openat(root_fd, ".", O_RDONLY | O_DIRECTORY))
                                   : TRY_PLAIN(linux::open_beneath(root_fd, join(components, "/"), O_RDONLY | O_DIRECTORY));
  auto before = TRY_PLAIN(linux::fstat(parent.get()));
  auto type = static_cast<mode_t>(node.is_block ? S_IFBLK : S_IFCHR);
  auto made = linux::mknodat(parent.get(), name, type, linux::make_device(node.major, node.minor));
  if (!made.ok() && made.error().error_number() == EPERM) return {};  // rootless: containers get their devices bind-mounted anyway
  TRY_PLAIN(std::move(made));
  TRY_PLAIN(linux::fchownat(parent.get(), name, node.uid, node.gid, AT_SYMLINK_NOFOLLOW));
  TRY_PLAIN(linux::fchmodat(parent.get(), name, node.mode & 07777));
  linux::TimeSpec time{};
  time.tv_sec = node.mtime_s;
  time.tv_nsec = static_cast<long>(node.mtime_ns);
  TRY_PLAIN(linux::utimensat(parent.get(), name, time, time, AT_SYMLINK_NOFOLLOW));
  return linux::utimensat(parent.get(), "", before.st_atim, before.st_mtim, AT_EMPTY_PATH);
}

Status copy_upperdir(int from_fd, int to_fd) {
  NoMask no_mask;
  auto ends = TRY_PLAIN(linux::socketpair(linux::UnixType::stream));
  Status packed;
  std::thread packer([&] {
    // Named, so that the root's own owner, mode and attributes come along.
    PackRequest request{.path = "/", .name = "./", .as_layer = true};
    TarWriter tar([&](std::string_view bytes) { return linux::send_all(ends.second.get(), bytes); });
    packed = pack_tree(from_fd, request, tar);
    ends.second.reset();
  });
  SocketSource source(ends.first.get());
  TarReader tar(source);
  UnpackedLayer layer;
  Status unpacked = unpack_layer(tar, to_fd, layer);
  ends.first.reset();  // a packer that has more to say ends
  packer.join();
  const bool is_hung_up = !packed.ok() && (packed.error().error_number() == EPIPE || packed.error().error_number() == ECONNRESET);
  if (!packed.ok() && !is_hung_up) return packed;
  TRY_PLAIN(std::move(unpacked));
  for (const auto& device : layer.devices) TRY(make_device(to_fd, device), concat("make device \"", device.path, "\""));
  return linux::syncfs(to_fd);
}

}  // namespace caisson::image
