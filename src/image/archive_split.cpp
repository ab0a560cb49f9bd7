// Members of an archive of images as numbered, hashed files.
#include "image/archive_split.hpp"

#include <map>

#include "base/strings.hpp"
#include "image/layer_tree.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

/// docker-archive has three members per layer; images have at most a few thousand layers.
constexpr std::size_t most_members = 100'000;

Status write_member(TarReader& tar, int target_fd, const TarEntry& entry, ArchiveMember& member) {
  if (entry.is_sparse) return Error(ErrorKind::unsupported, "sparse members are not supported");
  auto file = TRY_PLAIN(linux::openat(target_fd, concat(member.file), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
  Hasher hasher;
  for (;;) {
    auto piece = TRY_PLAIN(tar.read());
    if (piece.bytes.empty()) break;
    hasher.update(piece.bytes);
    TRY_PLAIN(linux::write_all(file.get(), piece.bytes));
  }
  member.size_bytes = entry.size_bytes;
  member.digest = hasher.finish().text();
  return {};
}

}  // namespace

Status split_archive(TarReader& tar, int target_fd, std::vector<ArchiveMember>& out) {
  std::map<std::string, std::size_t> seen;
  TarEntry entry;
  std::uint64_t next_file = 0;
  while (TRY_PLAIN(tar.next(entry))) {
    auto step = concat("member \"", entry.name, "\"");
    auto components = TRY(clean_components(entry.name), step);
    if (entry.type == TarType::directory || components.empty()) continue;
    ArchiveMember member;
    member.name = join(components, "/");
    member.type = entry.type;
    member.link_target = entry.link_target;
    if (entry.type == TarType::file) {
      member.file = next_file++;
      TRY(write_member(tar, target_fd, entry, member), step);
    } else if (entry.type != TarType::symlink && entry.type != TarType::hard_link) {
      return Error(ErrorKind::invalid, step + ": an archive of images holds files and links only");
    }
    if (out.size() >= most_members) return Error(ErrorKind::invalid, concat("archive with more than ", most_members, " members"));
    auto [at, is_new] = seen.emplace(member.name, out.size());
    if (is_new) out.push_back(std::move(member));
    else out[at->second] = std::move(member);
  }
  return {};
}

}  // namespace caisson::image
