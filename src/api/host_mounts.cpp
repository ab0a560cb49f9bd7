// Binds, Mounts and Tmpfs of HostConfig.
#include <algorithm>

#include "api/create_body.hpp"
#include "api/host_config.hpp"
#include "base/strings.hpp"

namespace caisson::api {

namespace {

constexpr std::string_view propagations[] = {"private", "rprivate", "shared", "rshared", "slave", "rslave"};

Status read_bind_options(const JsonView& options, engine::MountSpec& mount) {
  TRY_PLAIN(options.read("Propagation", mount.propagation));
  TRY_PLAIN(options.read("NonRecursive", mount.non_recursive));
  TRY_PLAIN(options.read("CreateMountpoint", mount.create_source));
  bool flag = false;
  TRY_PLAIN(options.read("ReadOnlyForceRecursive", flag));  // every read-only bind is recursive here
  TRY_PLAIN(options.read("ReadOnlyNonRecursive", flag));
  if (flag) return Error(ErrorKind::unsupported, concat(options.path(), ".ReadOnlyNonRecursive: a read-only bind mount holds for its submounts too"));
  return {};
}

Status read_volume_options(const JsonView& options, engine::MountSpec& mount) {
  TRY_PLAIN(options.read("NoCopy", mount.no_copy));
  TRY_PLAIN(options.read("Labels", mount.labels));
  TRY_PLAIN(options.read("Subpath", mount.subpath));
  JsonView driver = TRY_PLAIN(options.at("DriverConfig"));
  TRY_PLAIN(driver.read("Name", mount.driver));
  return driver.read("Options", mount.driver_options);
}

Status read_tmpfs_options(const JsonView& options, engine::MountSpec& mount) {
  TRY_PLAIN(options.read("SizeBytes", mount.tmpfs_size_bytes));
  std::uint32_t mode = 0;
  TRY_PLAIN(options.read("Mode", mode));
  if (mode != 0) mount.tmpfs_mode = mode;
  // [["noexec"], ["uid", "5"]]: an option, or an option and its value.
  std::vector<std::vector<std::string>> words;
  TRY_PLAIN(options.read("Options", words));
  for (const auto& word : words) {
    if (word.empty() || word.size() > 2) return options.error("Options: want [\"name\"] or [\"name\", \"value\"]");
    mount.options.push_back(word.size() == 1 ? word[0] : concat(word[0], "=", word[1]));
  }
  return {};
}

Result<engine::MountSpec> read_mount(const JsonView& view) {
  engine::MountSpec mount;
  mount.origin = "mounts";
  std::string type;
  TRY_PLAIN(view.read("Type", type));
  TRY_PLAIN(view.read("Source", mount.source));
  TRY_PLAIN(view.read("Target", mount.target));
  TRY_PLAIN(view.read("ReadOnly", mount.read_only));
  JsonView bind = TRY_PLAIN(view.at("BindOptions"));
  JsonView volume = TRY_PLAIN(view.at("VolumeOptions"));
  JsonView tmpfs = TRY_PLAIN(view.at("TmpfsOptions"));
  auto foreign = [&](const JsonView& options, std::string_view name) -> Status {
    if (!options.is_set()) return {};
    return Error(ErrorKind::invalid, concat("invalid mount config for type \"", type, "\": field ", name, " must not be specified"));
  };
  if (type == "bind") {
    mount.type = engine::MountType::bind;
    TRY_PLAIN(foreign(volume, "VolumeOptions"));
    TRY_PLAIN(foreign(tmpfs, "TmpfsOptions"));
    TRY_PLAIN(read_bind_options(bind, mount));
  } else if (type == "volume") {
    mount.type = engine::MountType::volume;
    TRY_PLAIN(foreign(bind, "BindOptions"));
    TRY_PLAIN(foreign(tmpfs, "TmpfsOptions"));
    TRY_PLAIN(read_volume_options(volume, mount));
  } else if (type == "tmpfs") {
    mount.type = engine::MountType::tmpfs;
    TRY_PLAIN(foreign(bind, "BindOptions"));
    TRY_PLAIN(foreign(volume, "VolumeOptions"));
    TRY_PLAIN(read_tmpfs_options(tmpfs, mount));
  } else if (type == "image" || type == "npipe" || type == "cluster") {
    return Error(ErrorKind::unsupported, concat(view.path(), ".Type: mounts of type \"", type, "\" are not supported"));
  } else {
    return Error(ErrorKind::invalid, concat("mount type unknown: \"", type, "\""));
  }
  return mount;
}

}  // namespace

Result<engine::MountSpec> parse_bind(std::string_view text) {
  auto refuse = [&] { return Error(ErrorKind::invalid, concat("invalid volume specification: '", text, "'")); };
  auto parts = split(text, ':');
  if (parts.size() < 2 || parts.size() > 3 || parts[0].empty() || parts[1].empty()) return refuse();
  engine::MountSpec mount;
  mount.origin = "binds";
  mount.source = parts[0];
  mount.target = parts[1];
  if (mount.source.starts_with('/')) {
    mount.type = engine::MountType::bind;
    mount.create_source = true;
  } else {
    mount.type = engine::MountType::volume;
  }
  if (parts.size() == 2) return mount;
  for (auto word : split(parts[2], ',')) {
    if (word == "ro") {
      mount.read_only = true;
    } else if (word == "rw") {
      mount.read_only = false;
    } else if (word == "nocopy" && mount.type == engine::MountType::volume) {
      mount.no_copy = true;
    } else if (std::find(std::begin(propagations), std::end(propagations), word) != std::end(propagations)) {
      mount.propagation = word;
    } else if (!word.empty()) {
      mount.options.emplace_back(word);  // z, Z, cached …: the engine knows which exist
    } else {
      return refuse();
    }
  }
  return mount;
}

Status read_mounts(const JsonView& host, std::vector<engine::MountSpec>& mounts) {
  std::vector<std::string> binds;
  TRY_PLAIN(host.read("Binds", binds));
  for (const auto& bind : binds) mounts.push_back(TRY_PLAIN(parse_bind(bind)));
  TRY_PLAIN(TRY_PLAIN(host.at("Mounts")).for_each_element([&](const JsonView& view) -> Status {
    mounts.push_back(TRY_PLAIN(read_mount(view)));
    return {};
  }));
  std::map<std::string, std::string> tmpfs;
  TRY_PLAIN(host.read("Tmpfs", tmpfs));
  for (const auto& [target, options] : tmpfs) {
    engine::MountSpec mount;
    mount.type = engine::MountType::tmpfs;
    mount.origin = "tmpfs";
    mount.target = target;
    for (auto word : split(options, ','))
      if (!word.empty()) mount.options.emplace_back(word);
    mounts.push_back(std::move(mount));
  }
  return {};
}

}  // namespace caisson::api
