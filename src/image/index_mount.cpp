// EROFS from two plain files, by descriptors: no loop device, and no path that somebody could swap.
#include "image/index_mount.hpp"

#include "base/strings.hpp"
#include "image/index_form.hpp"
#include "image/tar_writer.hpp"
#include "image/unpack.hpp"
#include "linux/file.hpp"
#include "linux/mount_api.hpp"

namespace caisson::image {

namespace {

std::string name_of(int fd) { return concat("/proc/self/fd/", fd); }

Result<UniqueFd> file_with(const std::string& folder, std::string_view bytes) {
  auto file = TRY_PLAIN(linux::open(folder, O_TMPFILE | O_RDWR, 0600));
  TRY_PLAIN(linux::write_all(file.get(), bytes));
  // A file that is open for writing may be mounted too, but ours will not be.
  return linux::reopen(file.get(), O_RDONLY);
}

}  // namespace

Result<UniqueFd> mount_index(int index_fd, int tar_fd) {
  auto context = TRY_PLAIN(linux::FileSystemContext::create("erofs"));
  TRY_PLAIN(context.set_string("source", name_of(index_fd)));
  TRY_PLAIN(context.set_string("device", name_of(tar_fd)));
  TRY_PLAIN(context.set_flag("ro"));
  TRY_PLAIN(context.create_superblock());
  return context.mount(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

Status try_index(const std::string& folder) {
  constexpr std::string_view contents = "read through an index";
  std::string tar;
  TarWriter writer([&](std::string_view bytes) -> Status {
    tar += bytes;
    return {};
  });
  TarEntry entry;
  entry.name = "file";
  entry.mode = 0600;
  entry.size_bytes = contents.size();
  TRY_PLAIN(writer.add(entry, contents));
  TRY_PLAIN(writer.finish());
  MemorySource source(tar);
  TarReader reader(source);
  IndexForm form({});
  UnpackedLayer layer;
  TRY_PLAIN(unpack_into(form, reader, layer));
  std::string index;
  TRY_PLAIN(form.write(tar.size(), [&](std::string_view bytes) -> Status {
    index += bytes;
    return {};
  }));
  auto index_file = TRY_PLAIN(file_with(folder, index));
  auto tar_file = TRY_PLAIN(file_with(folder, tar));
  auto mounted = TRY_PLAIN(mount_index(index_file.get(), tar_file.get()));
  auto file = TRY_PLAIN(linux::openat(mounted.get(), "file", O_RDONLY | O_NOFOLLOW));
  if (TRY_PLAIN(linux::read_all(file.get())) != contents) return Error(ErrorKind::unsupported, "an EROFS index does not read as it was written");
  return {};
}

}  // namespace caisson::image
