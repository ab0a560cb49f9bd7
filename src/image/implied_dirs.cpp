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

Status copy_attributes(int from, int to) {
  auto status = TRY_PLAIN(linux::fstat(from));
  TRY_PLAIN(linux::fchown(to, status.st_uid, status.st_gid));
  TRY_PLAIN(linux::fchmod(to, status.st_mode & 07777));
  for (const auto& name : TRY_PLAIN(linux::flistxattr(from))) {
    if (name.starts_with("user.overlay.") || name.starts_with("trusted.") || name == "security.selinux") continue;
    TRY_PLAIN(linux::fsetxattr(to, name, TRY_PLAIN(linux::fgetxattr(from, name))));
  }
  return linux::utimensat(to, "", status.st_atim, status.st_mtim, AT_EMPTY_PATH);
}

}  // namespace

Status ContentStore::settle_implied_dirs(const Digest& diff_id, const std::vector<Digest>& below) {
  std::string file = layer_path(diff_id) + "/implied";
  auto names = TRY(read_implied(file), concat("layer ", diff_id.text()));
  if (names.empty() || below.empty()) return {};
  for (const auto& name : names) {
    auto target = TRY_PLAIN(open_dir_of(layer_dir(diff_id), name));
    for (const auto& lower : below) {
      auto source = open_dir_of(layer_dir(lower), name);
      if (!source.ok()) continue;  // not there, or something else there: the next layer down may have it
      TRY(copy_attributes(source->get(), target.get()), concat("layer ", diff_id.text(), ": directory ", name));
      break;
    }
  }
  auto removed = linux::unlink(file);
  // Another load of the same layer may have settled it in the same moment, with the same result.
  if (!removed.ok() && removed.error().kind() == ErrorKind::not_found) return {};
  return removed;
}

}  // namespace caisson::image
