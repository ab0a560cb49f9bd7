// EROFS from two plain files, by descriptors: no loop device, and no path that somebody could swap.
#include "image/index_mount.hpp"

#include <utility>

#include "base/ids.hpp"
#include "base/strings.hpp"
#include "image/content_store.hpp"
#include "image/index_form.hpp"
#include "image/tar_writer.hpp"
#include "image/unpack.hpp"
#include "image/worker_process.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
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

constexpr std::string_view probe_contents = "read through an index";

struct Probe {
  std::string tar;
  std::string index;
};

Result<Probe> make_probe() {
  Probe out;
  auto append_to = [](std::string& target) {
    return [&target](std::string_view bytes) -> Status {
      target += bytes;
      return {};
    };
  };
  TarWriter writer(append_to(out.tar));
  TarEntry entry;
  entry.name = "file";
  entry.mode = 0600;
  entry.size_bytes = probe_contents.size();
  TRY_PLAIN(writer.add(entry, probe_contents));
  TRY_PLAIN(writer.finish());
  MemorySource source(out.tar);
  TarReader reader(source);
  IndexForm form({});
  UnpackedLayer layer;
  TRY_PLAIN(unpack_into(form, reader, layer));
  TRY_PLAIN(form.write(out.tar.size(), append_to(out.index)));
  return out;
}

Status check_probe(int root_fd, std::uint32_t owner) {
  auto file = TRY_PLAIN(linux::openat(root_fd, "file", O_RDONLY | O_NOFOLLOW));
  if (TRY_PLAIN(linux::read_all(file.get())) != probe_contents) return Error(ErrorKind::unsupported, "an EROFS index does not read as it was written");
  if (TRY_PLAIN(linux::fstat(file.get())).st_uid != owner) return Error(ErrorKind::unsupported, "a map of ids does not count on an EROFS index");
  return {};
}

/// Where an overlay is tried: before Linux 6.15 its layers must be attached somewhere.
class ProbeFolder {
 public:
  static Result<ProbeFolder> create(const std::string& folder) {
    ProbeFolder out(concat(folder, "/probe-", random_id().substr(0, 16)));
    for (const auto& path : {out.path_, out.point(), out.other()}) TRY_PLAIN(linux::mkdir(path, 0700));
    return out;
  }
  ProbeFolder(ProbeFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ProbeFolder(const ProbeFolder&) = delete;
  ProbeFolder& operator=(const ProbeFolder&) = delete;
  ProbeFolder& operator=(ProbeFolder&&) = delete;
  ~ProbeFolder() {
    if (!path_.empty()) ignore(remove_layer_tree(path_));  // what stays lies where recover() removes it
  }
  Result<UniqueFd> mount_overlay(int mount_fd) {
    auto target = TRY_PLAIN(linux::open(point(), O_PATH | O_DIRECTORY | O_NOFOLLOW));
    TRY_PLAIN(linux::attach_mount(mount_fd, target.get()));
    auto context = TRY_PLAIN(linux::FileSystemContext::create("overlay"));
    TRY_PLAIN(context.set_flag("userxattr"));
    TRY_PLAIN(context.set_string("lowerdir+", point()));
    TRY_PLAIN(context.set_string("lowerdir+", other()));  // without an upper one it wants two
    TRY_PLAIN(context.create_superblock());
    return context.mount(MOUNT_ATTR_RDONLY);
  }

 private:
  explicit ProbeFolder(std::string path) : path_(std::move(path)) {}
  [[nodiscard]] std::string point() const { return concat(path_, "/", layer_file::mount_point); }
  [[nodiscard]] std::string other() const { return path_ + "/other"; }
  std::string path_;
};

}  // namespace

Result<UniqueFd> mount_index(int index_fd, int tar_fd) {
  auto context = TRY_PLAIN(linux::FileSystemContext::create("erofs"));
  TRY_PLAIN(context.set_string("source", name_of(index_fd)));
  TRY_PLAIN(context.set_string("device", name_of(tar_fd)));
  TRY_PLAIN(context.set_flag("ro"));
  TRY_PLAIN(context.create_superblock());
  return context.mount(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

Status try_index(const std::string& folder, std::uint32_t first_id) {
  auto parts = TRY_PLAIN(make_probe());
  auto index = TRY_PLAIN(file_with(folder, parts.index));
  auto tar = TRY_PLAIN(file_with(folder, parts.tar));
  auto mounted = TRY_PLAIN(mount_index(index.get(), tar.get()));
  if (first_id != 0) {
    auto userns = TRY_PLAIN(linux::create_user_namespace(one_range(first_id)));
    TRY_PLAIN(linux::idmap_mount(mounted.get(), userns.get()));
  }
  TRY_PLAIN(check_probe(mounted.get(), first_id));
  auto place = TRY_PLAIN(ProbeFolder::create(folder));
  auto overlay = TRY(place.mount_overlay(mounted.get()), "an overlay upon it");
  TRY(check_probe(overlay.get(), first_id), "an overlay upon it");
  return {};
}

}  // namespace caisson::image
