// Directories that a layer's archive names only as part of other names take the attributes of the layer below.
#include "base/json.hpp"
#include "base/strings.hpp"
#include "image/content_store.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

Result<std::vector<std::string>> read_implied(const std::string& file) {
  auto text = linux::read_file(file);
  if (!text.ok() && text.error().kind() == ErrorKind::not_found) return std::vector<std::string>();
  if (!text.ok()) return std::move(text).error();
  auto document = TRY_PLAIN(parse_json(*text, file));
  std::vector<std::string> encoded;
  TRY_PLAIN(JsonView(document, "implied").read(encoded));
  std::vector<std::string> names;
  for (const auto& name : encoded) names.push_back(TRY_PLAIN(base64_decode(name)));
  return names;
}

/// The directory `name` of a layer; no link on the way is followed, so that both layers are asked for the same name.
Result<UniqueFd> open_dir_of(const std::string& layer, const std::string& name) {
  auto root = TRY_PLAIN(linux::open(layer, O_RDONLY | O_DIRECTORY));
  if (name.empty()) return root;
  return linux::open_beneath(root.get(), name, O_RDONLY | O_DIRECTORY);
}

Result<DirectoryAttributes> read_attributes(int fd) {
  DirectoryAttributes out;
  auto status = TRY_PLAIN(linux::fstat(fd));
  out.mode = status.st_mode & 07777;
  out.uid = status.st_uid;
  out.gid = status.st_gid;
  out.mtime_s = status.st_mtim.tv_sec;
  out.mtime_ns = static_cast<std::uint32_t>(status.st_mtim.tv_nsec);
  for (const auto& name : TRY_PLAIN(linux::flistxattr(fd))) {
    if (name.starts_with("user.overlay.") || name.starts_with("trusted.") || name == "security.selinux") continue;
    out.xattrs.emplace(name, TRY_PLAIN(linux::fgetxattr(fd, name)));
  }
  return out;
}

Status write_attributes(int fd, const DirectoryAttributes& attributes) {
  TRY_PLAIN(linux::fchown(fd, attributes.uid, attributes.gid));
  TRY_PLAIN(linux::fchmod(fd, attributes.mode));
  for (const auto& [name, value] : attributes.xattrs) TRY_PLAIN(linux::fsetxattr(fd, name, value));
  linux::TimeSpec time{};
  time.tv_sec = attributes.mtime_s;
  time.tv_nsec = static_cast<long>(attributes.mtime_ns);
  return linux::utimensat(fd, "", time, time, AT_EMPTY_PATH);
}

}  // namespace

Result<std::vector<DirectoryAttributes>> directory_attributes(const std::vector<std::string>& names, const std::vector<std::string>& layers) {
  std::vector<DirectoryAttributes> out;
  for (const auto& name : names) {
    for (const auto& layer : layers) {
      auto source = open_dir_of(layer, name);
      if (!source.ok()) continue;  // not there, or something else there: the next layer down may have it
      out.push_back(TRY(read_attributes(source->get()), concat(layer, ": directory ", name)));
      out.back().name = name;
      break;
    }
  }
  return out;
}

Status ContentStore::settle_implied_dirs(const Digest& diff_id, const Below& below, const MakeIndex& make_index) {
  const auto path = layer_path(diff_id);
  const auto file = path + "/implied";
  auto names = TRY(read_implied(file), concat("layer ", diff_id.text()));
  if (names.empty() || !below) return {};
  const auto attributes = TRY(directory_attributes(names, TRY_PLAIN(below())), concat("layer ", diff_id.text()));
  const auto tree = concat(path, "/", layer_file::tree);
  if (TRY_PLAIN(linux::exists(tree))) {
    for (const auto& directory : attributes) {
      auto target = TRY_PLAIN(open_dir_of(tree, directory.name));
      TRY(write_attributes(target.get(), directory), concat("layer ", diff_id.text(), ": directory ", directory.name));
    }
  } else if (!attributes.empty()) {
    auto staging = TRY(make_index(concat(path, "/", layer_file::tar), attributes), concat("layer ", diff_id.text()));
    TRY(replace_index(diff_id, staging), concat("layer ", diff_id.text()));
  }
  TRY_PLAIN(linux::unlink(file));
  return count_layer(path);
}

}  // namespace caisson::image
