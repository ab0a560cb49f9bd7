// A pass over the tar that keeps the files of package managers, then the parsers.
#include "inventory/layer.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

#include "base/strings.hpp"
#include "image/layer_tree.hpp"
#include "image/tar_reader.hpp"
#include "inventory/databases.hpp"

namespace caisson::inventory {

namespace {

constexpr std::uint64_t most_kept_bytes = 512ULL << 20;
constexpr std::size_t most_files = 200'000;
constexpr std::size_t most_hidden = 10'000;

struct Known {
  std::string_view path;
  FileKind kind;
};
constexpr std::string_view status_folder = "var/lib/dpkg/status.d";
// rpm moved to /usr/lib/sysimage (Fedora 36, SUSE), ostree images have /usr/share/rpm; apk 3 keeps its database below /usr where /lib is a link.
constexpr std::array known_files = {
    Known{"var/lib/dpkg/status", FileKind::dpkg_status},
    Known{"lib/apk/db/installed", FileKind::apk_installed},
    Known{"usr/lib/apk/db/installed", FileKind::apk_installed},
    Known{"var/lib/rpm/rpmdb.sqlite", FileKind::rpm_sqlite},
    Known{"usr/lib/sysimage/rpm/rpmdb.sqlite", FileKind::rpm_sqlite},
    Known{"usr/share/rpm/rpmdb.sqlite", FileKind::rpm_sqlite},
    Known{"var/lib/rpm/Packages", FileKind::rpm_other},
    Known{"var/lib/rpm/Packages.db", FileKind::rpm_other},
    Known{"usr/lib/sysimage/rpm/Packages", FileKind::rpm_other},
    Known{"usr/lib/sysimage/rpm/Packages.db", FileKind::rpm_other},
    Known{"etc/os-release", FileKind::os_release},
    Known{"usr/lib/os-release", FileKind::os_release},
};

std::optional<FileKind> kind_of(std::string_view path) {
  for (const auto& known : known_files)
    if (known.path == path) return known.kind;
  const auto halves = split_last(path, '/');
  // distroless puts NAME and NAME.md5sums there.
  if (halves.before == status_folder && !halves.after.ends_with(".md5sums")) return FileKind::dpkg_status_d;
  return std::nullopt;
}

/// Whether hiding `path` can hide a file that matters.
bool is_on_the_way(std::string_view path) {
  if (is_at_or_below(status_folder, path) || is_at_or_below(path, status_folder)) return true;
  return std::any_of(known_files.begin(), known_files.end(), [&](const Known& known) { return is_at_or_below(known.path, path); });
}

struct Kept {
  std::string bytes;
  std::string link;  ///< the file this is a hard link to
};

class Scan {
 public:
  explicit Scan(image::ByteSource& source) : tar_(source) {}
  Result<LayerReport> run();

 private:
  Status take(const image::TarEntry& entry);
  Status hide(std::vector<std::string>& where, std::string path);
  Result<std::string> contents(const image::TarEntry& entry);
  LayerFile parse(const std::string& path, const Kept& kept) const;

  image::TarReader tar_;
  std::map<std::string, Kept> kept_;
  std::uint64_t kept_bytes_ = 0;
  LayerReport report_;
};

Status Scan::hide(std::vector<std::string>& where, std::string path) {
  if (!is_on_the_way(path)) return {};
  if (where.size() == most_hidden) return Error(ErrorKind::invalid, "the layer hides package databases more often than any layer does");
  where.push_back(std::move(path));
  return {};
}

Result<std::string> Scan::contents(const image::TarEntry& entry) {
  if (entry.size_bytes > most_kept_bytes - kept_bytes_) return Error(ErrorKind::unsupported, concat(entry.name, ": the layer's package databases have more than ", most_kept_bytes, " bytes"));
  kept_bytes_ += entry.size_bytes;
  std::string out;
  for (;;) {
    auto piece = TRY_PLAIN(tar_.read());
    if (piece.bytes.empty()) break;
    out.resize(piece.offset);  // holes of sparse files
    out += piece.bytes;
  }
  out.resize(entry.size_bytes);
  return out;
}

Status Scan::take(const image::TarEntry& entry) {
  auto components = TRY_PLAIN(image::clean_components(entry.name));
  if (components.empty()) return {};
  const auto name = components.back();
  components.pop_back();
  const auto folder = join(components, "/");
  if (name == ".wh..wh..opq") return hide(report_.opaque, folder);
  if (name.starts_with(".wh.")) return hide(report_.removed, concat(folder, folder.empty() ? "" : "/", name.substr(4)));
  const auto path = concat(folder, folder.empty() ? "" : "/", name);
  if (entry.type == image::TarType::directory) return {};
  const auto kind = kind_of(path);
  if (kind && (entry.type == image::TarType::file || entry.type == image::TarType::hard_link)) {
    if (kept_.size() == most_files) return Error(ErrorKind::invalid, concat("more than ", most_files, " files of package managers"));
    Kept kept;
    if (entry.type == image::TarType::hard_link) kept.link = join(TRY_PLAIN(image::clean_components(entry.link_target)), "/");
    else if (*kind != FileKind::rpm_other) kept.bytes = TRY_PLAIN(contents(entry));
    kept_[path] = std::move(kept);
    return {};
  }
  // A link or file where a database or a folder above it was: the lower one is no longer to be seen there.
  kept_.erase(path);
  return hide(report_.removed, path);
}

LayerFile Scan::parse(const std::string& path, const Kept& kept) const {
  LayerFile out;
  out.path = path;
  out.kind = *kind_of(path);
  std::string_view bytes = kept.bytes;
  if (!kept.link.empty()) {
    auto target = kept_.find(kept.link);
    if (target == kept_.end() || !target->second.link.empty()) {
      out.trouble = concat("it is a hard link to ", kept.link);
      return out;
    }
    bytes = target->second.bytes;
  }
  Result<std::vector<Package>> packages = std::vector<Package>();
  switch (out.kind) {
    case FileKind::dpkg_status:
    case FileKind::dpkg_status_d: packages = parse_dpkg_status(bytes); break;
    case FileKind::apk_installed: packages = parse_apk_installed(bytes); break;
    case FileKind::rpm_sqlite: packages = parse_rpm_database(bytes); break;
    case FileKind::rpm_other: out.trouble = "it is one of rpm's old databases (Berkeley DB or ndb), which are not read; rpm 4.16 and later writes SQLite"; break;
    case FileKind::os_release: out.distribution = parse_os_release(bytes); break;
  }
  if (packages.ok()) out.packages = std::move(*packages);
  else out.trouble = packages.error().text();
  return out;
}

Result<LayerReport> Scan::run() {
  image::TarEntry entry;
  while (TRY_PLAIN(tar_.next(entry))) TRY_PLAIN(take(entry));
  for (const auto& [path, kept] : kept_) report_.files.push_back(parse(path, kept));
  return std::move(report_);
}

}  // namespace

bool is_at_or_below(std::string_view path, std::string_view folder) {
  if (folder.empty()) return true;
  return path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/');
}

Result<LayerReport> examine_layer(image::ByteSource& tar) { return Scan(tar).run(); }

}  // namespace caisson::inventory
