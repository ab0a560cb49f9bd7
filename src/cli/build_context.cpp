// Walks the folder by descriptors; a file that changes its size meanwhile is sent with the size it had when it was opened.
#include "cli/build_context.hpp"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/digest.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::cli {

namespace {

class Packer {
 public:
  Packer(const BuildContext& context, image::TarWriter& tar) : context_(context), tar_(tar) {}

  Status pack_folder(int fd, const std::string& above) {
    std::vector<std::string> names;
    for (const auto& entry : TRY_PLAIN(linux::list_dir(fd))) names.push_back(entry.name);
    std::sort(names.begin(), names.end());
    for (const auto& name : names) {
      auto path = above.empty() ? name : concat(above, "/", name);
      TRY(pack(fd, name, path), path);
    }
    return {};
  }

 private:
  /// The builder reads these two whether they are excluded or not.
  [[nodiscard]] bool is_needed(const std::string& path) const {
    return path == context_.dockerfile || path == ".dockerignore" || path == context_.dockerfile + ".dockerignore";
  }

  Status pack(int folder, const std::string& name, const std::string& path) {
    auto status = TRY_PLAIN(linux::fstatat(folder, name, AT_SYMLINK_NOFOLLOW));
    bool is_folder = S_ISDIR(status.st_mode);
    bool is_excluded = context_.ignored.excludes(path) && !is_needed(path);
    if (is_excluded && (!is_folder || (context_.ignored.excludes_all_below(path) && !context_.dockerfile.starts_with(path + "/")))) return {};
    image::TarEntry entry;
    entry.name = path;
    entry.mode = status.st_mode & 07777;
    entry.mtime_s = status.st_mtim.tv_sec;
    if (is_folder) {
      entry.type = image::TarType::directory;
      entry.name += "/";
      if (!is_excluded) TRY_PLAIN(tar_.begin(entry));
      auto inner = TRY_PLAIN(linux::openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      return pack_folder(inner.get(), path);
    }
    if (S_ISLNK(status.st_mode)) {
      entry.type = image::TarType::symlink;
      entry.link_target = TRY_PLAIN(linux::readlinkat(folder, name));
      return tar_.begin(entry);
    }
    if (!S_ISREG(status.st_mode)) return {};  // sockets, pipes and devices of this host are no sources
    return pack_file(folder, name, entry);
  }

  Status pack_file(int folder, const std::string& name, image::TarEntry& entry) {
    auto file = TRY_PLAIN(linux::openat(folder, name, O_RDONLY | O_NOFOLLOW));
    entry.size_bytes = static_cast<std::uint64_t>(TRY_PLAIN(linux::fstat(file.get())).st_size);
    TRY_PLAIN(tar_.begin(entry));
    std::string buffer(256 << 10, '\0');
    for (std::uint64_t left = entry.size_bytes; left > 0;) {
      auto want = std::min<std::uint64_t>(left, buffer.size());
      auto got = TRY_PLAIN(linux::read(file.get(), std::span(buffer).first(static_cast<std::size_t>(want))));
      if (got == 0) {
        std::fill(buffer.begin(), buffer.end(), '\0');  // it has shrunk
        got = static_cast<std::size_t>(want);
      }
      TRY_PLAIN(tar_.write(std::string_view(buffer).substr(0, got)));
      left -= got;
    }
    return {};
  }

  const BuildContext& context_;
  image::TarWriter& tar_;
};

/// The text of a file of the folder; nothing when it does not exist.
Result<std::optional<std::string>> read_optional(int folder, const std::string& name) {
  auto text = linux::read_file_at(folder, name);
  if (text.ok()) return std::optional(std::move(*text));
  if (text.error().kind() == ErrorKind::not_found) return std::optional<std::string>();
  return std::move(text).error();
}

/// "a/b" when `path` lies in the folder, else "".
Result<std::string> name_inside(int folder, const std::string& path) {
  auto whole = TRY_PLAIN(linux::readlinkat(AT_FDCWD, concat("/proc/self/fd/", folder)));
  auto file = TRY_PLAIN(linux::open(path, O_PATH));
  auto where = TRY_PLAIN(linux::readlinkat(AT_FDCWD, concat("/proc/self/fd/", file.get())));
  auto prefix = whole == "/" ? whole : whole + "/";
  return where.starts_with(prefix) ? where.substr(prefix.size()) : std::string();
}

}  // namespace

Result<BuildContext> open_context(const std::string& path, const std::string& dockerfile) {
  BuildContext context;
  auto folder = linux::open(path, O_RDONLY | O_DIRECTORY);
  if (!folder.ok()) return Error(folder.error().kind(), concat("unable to prepare context: path \"", path, "\" not found or not a directory"), folder.error().error_number());
  context.folder = std::move(*folder);
  if (dockerfile == "-") {
    context.dockerfile_text = TRY(linux::read_all(0), "read the Dockerfile from standard input");
  } else if (dockerfile.empty()) {
    context.dockerfile = "Dockerfile";
    auto lower_case = TRY_PLAIN(read_optional(context.folder.get(), "dockerfile"));
    auto usual = TRY_PLAIN(read_optional(context.folder.get(), "Dockerfile"));
    if (!usual && lower_case) context.dockerfile = "dockerfile";
    if (!usual && !lower_case)
      return Error(ErrorKind::not_found, concat("unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat ", path, "/Dockerfile: no such file or directory"));
  } else {
    // Docker's rule: relative to where the command runs.
    auto inside = name_inside(context.folder.get(), dockerfile);
    if (!inside.ok())
      return Error(inside.error().kind(), concat("unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat ", dockerfile, ": no such file or directory"));
    context.dockerfile = *inside;
    if (inside->empty()) context.dockerfile_text = TRY(linux::read_file(dockerfile), "Dockerfile");
  }
  if (!context.dockerfile_text.empty()) context.dockerfile = concat(".dockerfile.", sha256_of(context.dockerfile_text).hex().substr(0, 20));
  if (context.dockerfile.empty()) return Error(ErrorKind::invalid, "the Dockerfile cannot be empty");
  for (const auto& name : {context.dockerfile + ".dockerignore", std::string(".dockerignore")}) {
    auto text = TRY(read_optional(context.folder.get(), name), name);
    if (!text) continue;
    context.ignored = TRY(dockerfile::IgnoreList::parse(*text), name);
    break;
  }
  return context;
}

Status pack_context(const BuildContext& context, image::TarWriter& tar) {
  if (context.folder) TRY_PLAIN(Packer(context, tar).pack_folder(context.folder.get(), ""));
  if (!context.dockerfile_text.empty()) {
    image::TarEntry entry;
    entry.name = context.dockerfile;
    entry.mode = 0644;
    TRY_PLAIN(tar.add(entry, context.dockerfile_text));
  }
  return tar.finish();
}

}  // namespace caisson::cli
