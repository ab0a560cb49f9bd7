// mount(2) as docker's local driver calls it, and subpaths held by descriptor.
#include "engine/volume_mounts.hpp"

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/strings.hpp"
#include "engine/size_limit.hpp"
#include "linux/file.hpp"
#include "linux/mount_api.hpp"
#include "linux/process.hpp"

namespace caisson::engine {

namespace {

struct FlagWord {
  std::string_view word;
  bool clears = false;
  unsigned long flag = 0;
};
constexpr std::array flag_words = {
    FlagWord{"ro", false, MS_RDONLY},       FlagWord{"rw", true, MS_RDONLY},        FlagWord{"nosuid", false, MS_NOSUID},   FlagWord{"suid", true, MS_NOSUID},
    FlagWord{"nodev", false, MS_NODEV},     FlagWord{"dev", true, MS_NODEV},        FlagWord{"noexec", false, MS_NOEXEC},   FlagWord{"exec", true, MS_NOEXEC},
    FlagWord{"sync", false, MS_SYNCHRONOUS}, FlagWord{"async", true, MS_SYNCHRONOUS}, FlagWord{"dirsync", false, MS_DIRSYNC}, FlagWord{"noatime", false, MS_NOATIME},
    FlagWord{"atime", true, MS_NOATIME},    FlagWord{"nodiratime", false, MS_NODIRATIME}, FlagWord{"diratime", true, MS_NODIRATIME}, FlagWord{"relatime", false, MS_RELATIME},
    FlagWord{"norelatime", true, MS_RELATIME}, FlagWord{"strictatime", false, MS_STRICTATIME}, FlagWord{"bind", false, MS_BIND}, FlagWord{"rbind", false, MS_BIND | MS_REC},
    FlagWord{"defaults", false, 0},
};

std::string option_of(const VolumeInfo& volume, const std::string& key) {
  auto found = volume.options.find(key);
  return found == volume.options.end() ? std::string() : found->second;
}

bool is_bind(const VolumeInfo& volume) { return (parse_mount_words(option_of(volume, "o")).flags & MS_BIND) != 0; }

Result<bool> is_mount_point(const std::string& path) {
  auto mounts = TRY_PLAIN(linux::read_mountinfo());
  return std::any_of(mounts.begin(), mounts.end(), [&](const linux::MountInfo& mount) { return mount.mount_point == path; });
}

Status mount_volume(const VolumeInfo& volume) {
  if (TRY_PLAIN(is_mount_point(volume.mountpoint))) return {};
  auto words = parse_mount_words(option_of(volume, "o"));
  TRY(linux::mount(option_of(volume, "device"), volume.mountpoint, option_of(volume, "type"), words.flags, words.data),
      concat("failed to mount local volume ", volume.name));
  return {};
}

/// A path by which another process of ours reaches exactly what `fd` refers to.
std::string path_of(int fd) { return concat("/proc/", linux::getpid(), "/fd/", fd); }

Result<VolumeSources::Source> open_source(const VolumeInfo& volume, const std::string& subpath, std::vector<UniqueFd>& held) {
  if (is_file_system(volume)) TRY_PLAIN(mount_volume(volume));
  VolumeSources::Source source;
  source.path = contents_of(volume);
  source.read_only = (parse_mount_words(option_of(volume, "o")).flags & MS_RDONLY) != 0;
  const auto step = concat("failed to mount local volume ", volume.name);
  if (is_bind(volume)) TRY(linux::stat(source.path), step);
  if (subpath.empty()) return source;
  auto root = TRY(linux::open(source.path, O_PATH | O_DIRECTORY), step);
  // What containers wrote may hold links; they are followed inside the volume only.
  held.push_back(TRY(linux::open_in_root(root.get(), subpath, O_PATH), concat("volume ", volume.name, ": cannot access path ", subpath)));
  source.path = path_of(held.back().get());
  return source;
}

}  // namespace

Result<UniqueFd> open_within(const std::string& within, const std::string& source) {
  const std::string what = concat(source, " within ", within);
  if (within != "/" && source != within && !source.starts_with(within + "/")) return Error(ErrorKind::denied, concat(source, " is not within ", within, ", which is all that was granted"));
  auto granted = TRY(linux::open(within, O_PATH), what);
  const std::string_view rest = std::string_view(source).substr(within == "/" ? 1 : std::min(within.size() + 1, source.size()));
  if (rest.empty()) return granted;
  auto opened = linux::open_inside(granted.get(), std::string(rest), O_PATH);
  if (opened.ok()) return opened;
  if (opened.error().error_number() == EXDEV) return Error(ErrorKind::denied, concat(source, " leads out of ", within, ", which is all that was granted"));
  return std::move(opened).error().in(what);
}

Status check_volume_options(const std::map<std::string, std::string>& options) {
  constexpr std::array<std::string_view, 4> known = {"type", "o", "device", "size"};
  for (const auto& [key, value] : options)
    if (std::find(known.begin(), known.end(), key) == known.end()) return Error(ErrorKind::invalid, concat("invalid option: \"", key, "\""));
  auto require = [&](const char* given, const char* needed) -> Status {
    if (!options.contains(given) || options.contains(needed)) return {};
    return Error(ErrorKind::invalid, concat("missing required option: \"", needed, "\""));
  };
  TRY_PLAIN(require("device", "type"));
  TRY_PLAIN(require("type", "device"));
  TRY_PLAIN(require("o", "device"));
  TRY_PLAIN(require("o", "type"));
  auto size = options.find("size");
  if (size == options.end()) return {};
  TRY_PLAIN(parse_size_limit(size->second));
  if (options.contains("type"))
    return Error(ErrorKind::invalid, "size limits volumes that are folders; this one has a type").with_hint("a tmpfs is limited by its own option: --opt o=size=64m");
  return {};
}

MountWords parse_mount_words(std::string_view words) {
  MountWords out;
  std::vector<std::string> rest;
  for (auto word : split(words, ',')) {
    if (word.empty()) continue;
    auto known = std::find_if(flag_words.begin(), flag_words.end(), [&](const FlagWord& flag) { return flag.word == word; });
    if (known == flag_words.end()) rest.emplace_back(word);
    else if (known->clears) out.flags &= ~known->flag;
    else out.flags |= known->flag;
  }
  out.data = join(rest, ",");
  return out;
}

bool is_file_system(const VolumeInfo& volume) { return !option_of(volume, "type").empty() && !is_bind(volume); }

std::string contents_of(const VolumeInfo& volume) { return is_bind(volume) ? option_of(volume, "device") : volume.mountpoint; }

Result<VolumeSources> open_volume_sources(const ContainerInfo& info, const LoadVolume& load) {
  VolumeSources sources;
  for (const auto& point : info.mounts) {
    auto asked = std::find_if(info.spec.mounts.begin(), info.spec.mounts.end(), [&](const MountSpec& mount) { return mount.target == point.destination; });
    if (point.type == MountType::bind && asked != info.spec.mounts.end() && !asked->within.empty()) {
      sources.held.push_back(TRY(open_within(asked->within, point.source), concat("mount ", point.destination)));
      sources.by_destination[point.destination] = {path_of(sources.held.back().get()), false};
      continue;
    }
    if (point.type != MountType::volume) continue;
    const std::string subpath = asked == info.spec.mounts.end() ? std::string() : asked->subpath;
    auto volume = TRY_PLAIN(load(point.name));
    if (subpath.empty() && volume.options.empty()) continue;
    sources.by_destination.emplace(point.destination, TRY_PLAIN(open_source(volume, subpath, sources.held)));
  }
  return sources;
}

void apply_volume_sources(ContainerInfo& info, const VolumeSources& sources) {
  for (auto& point : info.mounts) {
    auto source = sources.by_destination.find(point.destination);
    if (source == sources.by_destination.end()) continue;
    point.source = source->second.path;
    point.read_write = point.read_write && !source->second.read_only;
  }
}

Status unmount_volume(const VolumeInfo& volume) {
  if (!is_file_system(volume) || !TRY_PLAIN(is_mount_point(volume.mountpoint))) return {};
  TRY(linux::umount2(volume.mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW), concat("unmount volume ", volume.name));
  return {};
}

}  // namespace caisson::engine
