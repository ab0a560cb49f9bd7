// Walks the folder by descriptors; a file that changes its size meanwhile is sent with the size it had when it was opened.
#include "cli/build_context.hpp"

#include <algorithm>
#include <functional>
#include <optional>
#include <vector>

#include "base/digest.hpp"
#include "base/strings.hpp"
#include "base/utf8.hpp"
#include "dockerfile/git_url.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/sysinfo.hpp"
#include "linux/tree.hpp"

namespace caisson::cli {

namespace {

/// What a walk through the context finds, in the order of names.
struct Finder {
  std::function<Status(const image::TarEntry& entry)> on_other;                                   ///< folders and symbolic links
  std::function<Status(int folder_fd, const std::string& name, image::TarEntry& entry)> on_file;  ///< the size is the one that it had a moment ago
};

class Walk {
 public:
  /// `place`: put before every name; `dockerfile`: kept whatever `ignored` says.
  Walk(const dockerfile::IgnoreList& ignored, std::string dockerfile, std::string place, const Finder& finder)
      : ignored_(ignored), dockerfile_(std::move(dockerfile)), place_(std::move(place)), finder_(finder) {}

  Status go(int fd, const std::string& above) {
    std::vector<std::string> names;
    for (const auto& entry : TRY_PLAIN(linux::list_dir(fd))) names.push_back(entry.name);
    std::sort(names.begin(), names.end());
    for (const auto& name : names) {
      auto path = above.empty() ? name : concat(above, "/", name);
      TRY(visit(fd, name, path), path);
    }
    return {};
  }

 private:
  /// The builder reads these two whether they are excluded or not.
  [[nodiscard]] bool is_needed(const std::string& path) const {
    return path == dockerfile_ || path == ".dockerignore" || path == dockerfile_ + ".dockerignore";
  }

  Status visit(int folder, const std::string& name, const std::string& path) {
    auto status = TRY_PLAIN(linux::fstatat(folder, name, AT_SYMLINK_NOFOLLOW));
    bool is_folder = S_ISDIR(status.st_mode);
    bool is_excluded = ignored_.excludes(path) && !is_needed(path);
    if (is_excluded && (!is_folder || (ignored_.excludes_all_below(path) && !dockerfile_.starts_with(path + "/")))) return {};
    image::TarEntry entry;
    entry.name = place_ + path;
    entry.mode = status.st_mode & 07777;
    entry.mtime_s = status.st_mtim.tv_sec;
    if (is_folder) {
      entry.type = image::TarType::directory;
      entry.name += "/";
      if (!is_excluded) TRY_PLAIN(finder_.on_other(entry));
      auto inner = TRY_PLAIN(linux::openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      return go(inner.get(), path);
    }
    if (S_ISLNK(status.st_mode)) {
      entry.type = image::TarType::symlink;
      entry.link_target = TRY_PLAIN(linux::readlinkat(folder, name));
      return finder_.on_other(entry);
    }
    if (!S_ISREG(status.st_mode)) return {};  // sockets, pipes and devices of this host are no sources
    entry.size_bytes = static_cast<std::uint64_t>(status.st_size);
    return finder_.on_file(folder, name, entry);
  }

  const dockerfile::IgnoreList& ignored_;
  std::string dockerfile_;
  std::string place_;
  const Finder& finder_;
};

Status walk_context(const BuildContext& context, const Finder& finder) {
  if (context.folder) TRY_PLAIN(Walk(context.ignored, context.dockerfile, "", finder).go(context.folder.get(), ""));
  for (const auto& named : context.named) {
    image::TarEntry root;
    root.type = image::TarType::directory;
    root.name = named.place + "/";
    root.mode = 0755;
    TRY_PLAIN(finder.on_other(root));
    TRY(Walk(named.ignored, "", named.place + "/", finder).go(named.folder.get(), ""), named.place);
  }
  return {};
}

/// What of the file there is, in pieces; zeros where it has shrunk since `entry` got its size.
Status read_file(int folder, const std::string& name, image::TarEntry& entry, const std::function<Status()>& begin, const std::function<Status(std::string_view)>& take) {
  auto file = TRY_PLAIN(linux::openat(folder, name, O_RDONLY | O_NOFOLLOW));
  entry.size_bytes = static_cast<std::uint64_t>(TRY_PLAIN(linux::fstat(file.get())).st_size);
  TRY_PLAIN(begin());
  std::string buffer(static_cast<std::size_t>(std::min<std::uint64_t>(entry.size_bytes, 256 << 10)), '\0');
  for (std::uint64_t left = entry.size_bytes; left > 0;) {
    auto want = std::min<std::uint64_t>(left, buffer.size());
    auto got = TRY_PLAIN(linux::read(file.get(), std::span(buffer).first(static_cast<std::size_t>(want))));
    if (got == 0) {
      std::fill(buffer.begin(), buffer.end(), '\0');
      got = static_cast<std::size_t>(want);
    }
    TRY_PLAIN(take(std::string_view(buffer).substr(0, got)));
    left -= got;
  }
  return {};
}

std::vector<int> folders_of(const BuildContext& context) {
  std::vector<int> out;
  if (context.folder) out.push_back(context.folder.get());
  for (const auto& named : context.named) out.push_back(named.folder.get());
  return out;
}

/// The same on this host for the same folders, and for nothing else: whoever builds elsewhere has another name for his.
std::string name_of(const BuildContext& context) {
  std::string text = concat(linux::read_file("/etc/machine-id").value_or(""), "\n", linux::uname().value_or(linux::SystemName{}).nodename, "\n", linux::getuid(), "\n", context.dockerfile);
  for (const int fd : folders_of(context)) text += concat("\n", linux::readlinkat(AT_FDCWD, concat("/proc/self/fd/", fd)).value_or(""));
  return std::string(sha256_of(text).hex());
}

/// The text of a file of the folder; nothing when it does not exist.
Result<std::optional<std::string>> read_optional(int folder, const std::string& name) {
  auto text = linux::read_file_at(folder, name);
  if (text.ok()) return std::optional(std::move(*text));
  if (text.error().kind() == ErrorKind::not_found) return std::optional<std::string>();
  return std::move(text).error();
}

/// Of the first of these files that is there.
Result<dockerfile::IgnoreList> read_ignored(int folder, const std::vector<std::string>& names) {
  for (const auto& name : names)
    if (auto text = TRY(read_optional(folder, name), name)) return TRY(dockerfile::IgnoreList::parse(*text), name);
  return dockerfile::IgnoreList();
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

Result<BuildContext> open_context(const std::string& path, const std::string& dockerfile, const std::string& inline_text) {
  BuildContext context;
  auto folder = linux::open(path, O_RDONLY | O_DIRECTORY);
  if (!folder.ok()) return Error(folder.error().kind(), concat("unable to prepare context: path \"", path, "\" not found or not a directory"), folder.error().error_number());
  context.folder = std::move(*folder);
  if (!inline_text.empty()) {
    context.dockerfile_text = inline_text;
  } else if (dockerfile == "-") {
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
  context.ignored = TRY_PLAIN(read_ignored(context.folder.get(), {context.dockerfile + ".dockerignore", ".dockerignore"}));
  return context;
}

bool is_remote(const std::string& path) {
  return path.find("://") != std::string::npos || (dockerfile::is_git_url(path) && !linux::exists(path).value_or(false));
}

Result<json::object> parse_named_contexts(const std::vector<std::string>& flags, BuildContext& context) {
  json::object out;
  if (flags.empty()) return out;  // most builds; the first digest costs OpenSSL's start, a millisecond
  constexpr std::string_view image_scheme = "docker-image://";
  // A name that the context itself does not have.
  const auto top = concat(".caisson.contexts.", sha256_of(join(flags, "\n")).hex().substr(0, 20));
  for (const auto& flag : flags) {
    const auto halves = split_once(flag, '=');
    const std::string name(halves.before);
    const std::string value(halves.after);
    const auto step = concat("--build-context ", flag);
    if (name.empty() || value.empty()) return Error(ErrorKind::invalid, concat(step, ": want NAME=FOLDER, NAME=docker-image://IMAGE or NAME=ADDRESS"));
    if (out.contains(name)) return Error(ErrorKind::invalid, concat(step, ": there are two of that name"));
    if (value.starts_with(image_scheme)) {
      out[name] = json::object{{"type", "image"}, {"value", value.substr(image_scheme.size())}};
    } else if (value.starts_with("oci-layout://") || value.starts_with("target:")) {
      return Error(ErrorKind::unsupported, concat(step, ": not supported (folders, docker-image://, repositories and archives are)")).with_hint("caisson image copy oci:FOLDER …, then docker-image://NAME");
    } else if (is_remote(value)) {
      out[name] = json::object{{"type", "remote"}, {"value", value}};
    } else {
      if (!context.folder && context.dockerfile_text.empty()) return Error(ErrorKind::invalid, concat(step, ": a folder travels with the context, and this one comes from elsewhere"));
      NamedFolder named;
      named.place = concat(top, "/", context.named.size());
      named.folder = TRY(linux::open(value, O_RDONLY | O_DIRECTORY), step);
      named.ignored = TRY(read_ignored(named.folder.get(), {".dockerignore"}), step);
      out[name] = json::object{{"type", "folder"}, {"value", named.place}};
      context.named.push_back(std::move(named));
    }
  }
  return out;
}

Result<std::optional<ContextFiles>> list_files(const BuildContext& context) {
  // Smaller contexts are sent sooner than they are asked for; of more files the list would be too long for a request.
  constexpr std::uint64_t least_bytes = 1 << 20;
  constexpr std::size_t most_files = 50'000;
  constexpr std::uint64_t most_bytes = 4ULL << 30U;  // of one file: it had to be read twice to be sent
  struct Sizes {
    std::uint64_t bytes = 0;
    std::size_t files = 0;
  } sizes;
  constexpr std::uint64_t block_bytes = 512;  // of the archive: an entry takes as much
  const auto is_listed = [](std::uint64_t size_bytes) { return size_bytes >= block_bytes && size_bytes <= most_bytes; };
  const Finder count{[](const image::TarEntry& /*entry*/) { return Status(); },
                     [&](int /*folder*/, const std::string& /*name*/, const image::TarEntry& entry) -> Status {
                       if (!is_listed(entry.size_bytes)) return {};
                       sizes.bytes += entry.size_bytes;
                       ++sizes.files;
                       return {};
                     }};
  TRY_PLAIN(walk_context(context, count));
  if (sizes.bytes < least_bytes || sizes.files > most_files) return std::optional<ContextFiles>();
  ContextFiles out;
  const Finder hash{[](const image::TarEntry& /*entry*/) { return Status(); },
                    [&](int folder, const std::string& name, image::TarEntry& entry) -> Status {
                      if (!is_listed(entry.size_bytes) || valid_utf8(entry.name) != entry.name) return {};
                      Hasher hasher;
                      TRY_PLAIN(read_file(folder, name, entry, [] { return Status(); }, [&](std::string_view piece) {
                        hasher.update(piece);
                        return Status();
                      }));
                      if (is_listed(entry.size_bytes)) out.files.push_back({entry.name, std::string(hasher.finish().hex()), entry.mode, entry.mtime_s});
                      return {};
                    }};
  TRY_PLAIN(walk_context(context, hash));
  out.name = name_of(context);
  out.text = linux::readlinkat(AT_FDCWD, concat("/proc/self/fd/", folders_of(context).front())).value_or("");
  return std::optional(std::move(out));
}

Status pack_context(const BuildContext& context, const std::set<std::string>& left_out, image::TarWriter& tar) {
  const Finder pack{[&](const image::TarEntry& entry) { return tar.begin(entry); },
                    [&](int folder, const std::string& name, image::TarEntry& entry) -> Status {
                      if (left_out.contains(entry.name)) return {};
                      return read_file(folder, name, entry, [&] { return tar.begin(entry); }, [&](std::string_view piece) { return tar.write(piece); });
                    }};
  TRY_PLAIN(walk_context(context, pack));
  if (!context.dockerfile_text.empty()) {
    image::TarEntry entry;
    entry.name = context.dockerfile;
    entry.mode = 0644;
    TRY_PLAIN(tar.add(entry, context.dockerfile_text));
  }
  return tar.finish();
}

}  // namespace caisson::cli
