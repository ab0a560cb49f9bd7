// create: from a specification to a record. Folders come first and are nobody's until one transaction names them all; a crash in
// between leaves folders without a record, which the next start removes.
#include <algorithm>
#include <functional>

#include "base/ids.hpp"
#include "base/strings.hpp"
#include "engine/copy_up.hpp"
#include "engine/local_engine.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {

namespace {
/// Runs at the end of a scope unless released: undoes what a failed create has made.
class Undo {
 public:
  explicit Undo(std::function<void()> action) : action_(std::move(action)) {}
  Undo(const Undo&) = delete;
  Undo& operator=(const Undo&) = delete;
  ~Undo() {
    if (action_) action_();
  }
  void release() { action_ = nullptr; }

 private:
  std::function<void()> action_;
};

bool has_target(const ContainerSpec& spec, const std::string& target) {
  return std::any_of(spec.mounts.begin(), spec.mounts.end(), [&](const MountSpec& mount) { return clean_path(mount.target) == target; });
}

Result<std::vector<std::string>> arguments_of(ContainerSpec& spec, const image::ContainerConfig& config) {
  // docker's merge: an entrypoint of the user's own drops the image's command; an empty list counts as none given for the command.
  bool has_entrypoint = spec.entrypoint && !spec.entrypoint->empty();
  if (!has_entrypoint) {
    if (!spec.cmd || spec.cmd->empty()) spec.cmd = config.cmd;
    if (!spec.entrypoint) spec.entrypoint = config.entrypoint;
  }
  if (spec.entrypoint->size() == 1 && spec.entrypoint->front().empty()) spec.entrypoint->clear();
  if (!spec.cmd) spec.cmd.emplace();
  std::vector<std::string> args = *spec.entrypoint;
  args.insert(args.end(), spec.cmd->begin(), spec.cmd->end());
  if (args.empty()) return Error(ErrorKind::invalid, "no command specified").with_hint("the image names no command: give one after the image's name");
  for (const auto& arg : args)
    if (arg.find('\0') != std::string::npos) return Error(ErrorKind::invalid, "cmd: an argument holds a zero byte");
  return args;
}

Status publish_exposed_ports(ContainerSpec& spec) {
  for (const auto& exposed : spec.exposed_ports) {
    auto halves = split_once(exposed, '/');
    std::string_view protocol = halves.found ? halves.after : std::string_view("tcp");
    network::PortBinding binding;
    binding.protocol = TRY(network::parse_protocol(protocol), concat("port ", exposed));
    auto port = parse_integer<std::uint16_t>(halves.before);
    if (!port.ok() || *port == 0) return Error(ErrorKind::invalid, concat("invalid containerPort: ", exposed));
    binding.container_port = *port;
    bool is_bound = std::any_of(spec.ports.begin(), spec.ports.end(), [&](const auto& other) {
      return other.container_port == binding.container_port && other.protocol == binding.protocol;
    });
    if (spec.publish_all_ports && !is_bound) spec.ports.push_back(binding);
  }
  return {};
}

/// "arch" or "os/arch[/variant]". Errors: invalid, and not_found in docker's words.
Status check_platform(const std::string& platform, const std::string& image_name, const image::Image& image) {
  if (platform.empty()) return {};
  auto parts = split(platform, '/');
  if (parts.size() > 3 || std::any_of(parts.begin(), parts.end(), [](std::string_view part) { return part.empty(); }))
    return Error(ErrorKind::invalid, concat("\"", platform, "\": cannot parse platform specifier: want os/architecture[/variant]"));
  std::string_view os = parts.size() > 1 ? parts[0] : std::string_view("linux");
  std::string_view architecture = parts.size() > 1 ? parts[1] : parts[0];
  if (os == image.os && architecture == image.architecture) return {};
  return Error(ErrorKind::not_found, concat("image with reference ", image_name, " was found but its platform (", image.os, "/",
                                            image.architecture, ") does not match the specified platform (", platform, ")"));
}
}  // namespace

/// Volumes that this create has made and must remove again when it fails, and where their first content comes from.
struct LocalEngine::MadeVolumes {
  std::vector<std::string> names;
  std::vector<std::string> layers;  ///< of the image, topmost first
};

Status LocalEngine::merge_image(ContainerSpec& spec, const image::Image& image, std::vector<std::string>& args) const {
  const auto& config = image.config;
  args = TRY_PLAIN(arguments_of(spec, config));
  spec.env = merge_environment(config.env, spec.env);
  for (const auto& [key, value] : config.labels)
    if (spec.labels.emplace(key, value).second) spec.image_labels.push_back(key);
  if (spec.working_dir.empty()) spec.working_dir = config.working_dir;
  if (!spec.working_dir.empty()) spec.working_dir = clean_path(spec.working_dir);
  if (spec.user.empty()) spec.user = config.user;
  if (spec.stop_signal.empty()) spec.stop_signal = config.stop_signal;
  spec.healthcheck = merge_healthcheck(spec.healthcheck, config.healthcheck);
  for (const auto& port : config.exposed_ports)
    if (std::find(spec.exposed_ports.begin(), spec.exposed_ports.end(), port) == spec.exposed_ports.end()) spec.exposed_ports.push_back(port);
  for (const auto& path : config.volumes) {
    // The path comes from the image: cleaned, it can name nothing but a place inside the container.
    std::string target = clean_path(path);
    if (target == "/" || has_target(spec, target)) continue;
    MountSpec mount;
    mount.type = MountType::volume;
    mount.target = target;
    mount.origin = "image";
    spec.mounts.push_back(std::move(mount));
  }
  return publish_exposed_ports(spec);
}

Status LocalEngine::adopt_volumes_from(ContainerSpec& spec) {
  for (const auto& source : spec.volumes_from) {
    auto halves = split_once(source, ':');
    if (halves.found && halves.after != "ro" && halves.after != "rw" && halves.after != "z")
      return Error(ErrorKind::invalid, concat("volumes_from: invalid mode: ", halves.after));
    auto found = registry_.find(halves.before);
    // The body is wrong, not the path: a client must not take it for a missing image.
    if (!found.ok()) return std::move(found).error().in("volumes_from").with_kind(ErrorKind::invalid);
    auto other = std::move(*found);
    for (const auto& point : other->snapshot()->info.mounts) {
      if (point.type == MountType::tmpfs || has_target(spec, point.destination)) continue;
      MountSpec mount;
      mount.type = point.type;
      mount.source = point.type == MountType::volume ? point.name : point.source;
      mount.target = point.destination;
      mount.read_only = !point.read_write || halves.after == "ro";
      mount.propagation = point.type == MountType::bind ? point.propagation : "";
      const auto& asked = other->snapshot()->info.spec.mounts;
      auto same = std::find_if(asked.begin(), asked.end(), [&](const MountSpec& one) { return one.target == point.destination; });
      if (same != asked.end()) {
        mount.subpath = same->subpath;
        mount.within = same->within;
        mount.without_owners = same->without_owners;
      }
      mount.origin = "volumes-from";
      spec.mounts.push_back(std::move(mount));
    }
  }
  return {};
}

Status LocalEngine::fill_volume(const std::string& contents, const MountPoint& point, const std::string& target, const std::vector<std::string>& layers) {
  auto folder = TRY(linux::open(contents, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), concat("volume ", point.name));
  TRY(copy_from_layers(layers, target, folder.get()), concat("volume ", point.name));
  return {};
}

Result<MountPoint> LocalEngine::resolve_volume(const Caller& caller, const MountSpec& mount, state::Transaction& transaction, MadeVolumes& made) {
  MountPoint point;
  point.type = MountType::volume;
  point.driver = "local";
  point.anonymous = mount.source.empty();
  point.name = point.anonymous ? random_id() : mount.source;
  point.source = volume_dir(point.name) + "/_data";
  auto existing = store_->get("volume/" + point.name);
  if (existing.ok()) {
    transaction.require(existing->key, existing->revision);  // an anonymous one may be on its way out with its container
    // Made by `volume create` and never used: docker fills it now.
    auto volume = TRY_PLAIN(load_volume(point.name));
    TRY_PLAIN(permit_volume(caller, Verb::volume_inspect, volume));
    const auto contents = contents_of(volume);
    const bool may_fill = !mount.no_copy && mount.subpath.empty() && !is_file_system(volume) && volume_users()[point.name].empty();
    if (may_fill && TRY(linux::list_dir(contents), concat("volume ", point.name)).empty()) TRY_PLAIN(fill_volume(contents, point, mount.target, made.layers));
    return point;
  }
  if (existing.error().kind() != ErrorKind::not_found) return std::move(existing).error();
  VolumeSpec wanted;
  wanted.name = point.name;
  wanted.options = mount.driver_options;
  TRY(check_volume_spec(wanted), concat("create ", point.name));
  TRY_PLAIN(make_volume_dir(point.name, "_data"));
  made.names.push_back(point.name);
  TRY(limit_volume(wanted), concat("create ", point.name));
  // docker's rule: a new volume begins with what the image has at that place.
  VolumeInfo volume;
  volume.name = point.name;
  volume.mountpoint = point.source;
  volume.created = now_ns();
  volume.labels = mount.labels;
  TRY_PLAIN(put_in_scope_of(caller, Verb::container_create, point.name, volume.labels));
  volume.options = mount.driver_options;
  volume.anonymous = point.anonymous;
  if (volume.anonymous) volume.labels.emplace("com.docker.volume.anonymous", "");
  const auto contents = contents_of(volume);
  const bool may_fill = !mount.no_copy && mount.subpath.empty() && !is_file_system(volume);
  if (may_fill && TRY(linux::list_dir(contents), concat("volume ", point.name)).empty()) TRY_PLAIN(fill_volume(contents, point, mount.target, made.layers));
  transaction.require_absent("volume/" + point.name).put("volume/" + point.name, to_text(volume));
  return point;
}

Status LocalEngine::resolve_mounts(const Caller& caller, Record& record, state::Transaction& transaction, MadeVolumes& made) {
  auto& spec = record.info.spec;
  std::map<std::string, std::string> named_here;  // one volume may be mounted twice by one container
  for (auto& mount : spec.mounts) {
    mount.target = clean_path(mount.target);
    MountPoint point;
    if (mount.type == MountType::volume && named_here.contains(mount.source)) {
      point.type = MountType::volume;
      point.driver = "local";
      point.name = mount.source;
      point.source = named_here[mount.source];
    } else if (mount.type == MountType::volume) {
      point = TRY_PLAIN(resolve_volume(caller, mount, transaction, made));
      if (!point.anonymous) named_here[point.name] = point.source;
    } else if (mount.type == MountType::bind) {
      point.type = MountType::bind;
      point.source = clean_path(mount.source);
      if (!mount.within.empty()) {
        auto granted = open_within(mount.within, point.source);
        if (!granted.ok()) return std::move(granted).error().in(concat("mount ", mount.target));
      } else if (!TRY_PLAIN(linux::exists(point.source))) {
        if (!mount.create_source)
          return Error(ErrorKind::invalid, concat("invalid mount config for type \"bind\": bind source path does not exist: ", mount.source));
        TRY(linux::make_dirs(point.source, 0755), concat("mount ", mount.target, ": make the missing source ", point.source));
      }
      point.propagation = mount.propagation.empty() ? "rprivate" : mount.propagation;
    } else {
      point.type = MountType::tmpfs;
    }
    point.destination = mount.target;
    point.read_write = !mount.read_only && std::find(mount.options.begin(), mount.options.end(), "ro") == mount.options.end();
    point.mode = join(mount.options, ",");
    record.info.mounts.push_back(std::move(point));
  }
  return {};
}

Status LocalEngine::make_container_dirs(const std::string& id, std::int64_t size_bytes) {
  const std::string dir = container_dir(id);
  // 0700: ids on disk are the container's own, so a setuid file in its layer would be root's for whoever could reach it.
  TRY_PLAIN(linux::mkdir(dir, 0700));
  TRY_PLAIN(linux::mkdir(dir + "/upper", 0755));
  TRY_PLAIN(linux::mkdir(dir + "/work", 0700));
  if (size_bytes == 0) return {};
  // Both: overlayfs makes files in the one and renames them into the other, which no project may be left by.
  TRY(size_limits_.limit({dir + "/upper", dir + "/work"}, size_bytes), "storage option size");
  return {};
}

namespace {
// "container:ID" for "container:NAME": the partner may be renamed before the next start.
Result<std::string> mode_by_id(const std::string& mode, Registry& registry) {
  const std::string name = container_of_mode(mode);
  if (name.empty()) return mode;
  auto partner = registry.find(name);
  if (partner.ok()) return concat("container:", (*partner)->id);
  return std::move(partner).error().with_kind(ErrorKind::invalid);  // the body is wrong, not the path: a client must not take it for a missing image
}
}  // namespace

/// Why limits that are asked for cannot be kept; "" when they can, or none is.
std::string LocalEngine::missing_limits(const ResourceSpec& resources) const {
  if (options_.has_cgroups) return "";
  const auto asked = asked_limits(resources);
  if (asked.empty()) return "";
  return concat("no cgroups are delegated to this user: limits of ", join(asked, ", "), " cannot be kept");
}

Result<CreateResult> LocalEngine::create(const Caller& caller, ContainerSpec spec) {
  for (auto& mount : spec.mounts) {
    mount.within.clear();
    mount.without_owners = mount.of_step = false;
  }
  return create_from(caller, std::move(spec), Chooser::caller);
}

Result<CreateResult> LocalEngine::create_step(const Caller& caller, StepSpec step) {
  for (const auto& made : step.mounts) {
    MountSpec mount;
    mount.source = made.source;
    mount.target = made.target;
    mount.read_only = made.read_only;
    mount.origin = "mounts";
    mount.of_step = true;
    step.container.mounts.push_back(std::move(mount));
  }
  return create_from(caller, std::move(step.container), Chooser::builder);
}

Result<CreateResult> LocalEngine::create_from(const Caller& caller, ContainerSpec spec, Chooser of_image) {
  TRY_PLAIN(permit_verb(caller, Verb::container_create, spec.name));
  fill_log_defaults(spec, *settings());
  TRY_PLAIN(check_spec(spec, host_));
  if (!spec.name.empty()) {
    if (spec.name[0] == '/') spec.name.erase(0, 1);
    TRY_PLAIN(check_name("container", spec.name));
  }

  std::shared_lock uses(uses_mutex_);  // image and volumes must not be removed between here and the record
  image::Image image = TRY_PLAIN(images_->admit(spec.image));
  TRY_PLAIN(check_platform(spec.platform, spec.image, image));

  Record record;
  auto& info = record.info;
  info.id = random_id();
  info.creator = creator_of(caller);
  info.image_id = image.id.text();
  info.created = now_ns();
  info.state = State::created;
  info.spec = std::move(spec);
  TRY_PLAIN(put_in_scope_of(caller, Verb::container_create, info.spec.name, info.spec.labels));
  TRY_PLAIN(settle_networks(info.spec));
  if (info.spec.privileged && info.spec.userns_mode.empty()) info.spec.userns_mode = "host";  // the devices and mounts it is for do not exist in a user namespace
  TRY_PLAIN(merge_image(info.spec, image, info.args));
  TRY_PLAIN(settle_links(info.spec));
  for (auto* mode : {&info.spec.network.mode, &info.spec.pid_mode, &info.spec.ipc_mode}) *mode = TRY_PLAIN(mode_by_id(*mode, registry_));
  TRY_PLAIN(adopt_volumes_from(info.spec));
  TRY_PLAIN(check_spec(info.spec, host_));  // what the image added must hold too
  TRY_PLAIN(bound_creation(caller, info, of_image == Chooser::caller ? &image : nullptr));
  if (auto missing = missing_limits(info.spec.resources); !missing.empty()) {
    if (options_.missing_limits == MissingLimits::refuse)
      return Error(ErrorKind::unsupported, missing).with_hint("`caisson doctor` says how a user gets cgroups; rootless.missing-limits = \"warn\" runs containers without their limits");
    info.warnings.push_back(concat(missing, "; the container runs without"));
  }
  if (info.spec.network.mode == "host" && (!info.spec.ports.empty()))
    info.warnings.emplace_back("Published ports are discarded when using host network mode");

  bool named_by_user = !info.spec.name.empty();
  for (int attempt = 0;; ++attempt) {
    info.name = named_by_user ? info.spec.name : random_name();
    auto reserved = registry_.reserve_name(info.name, info.id);
    if (reserved.ok()) break;
    constexpr int most_attempts = 20;
    if (named_by_user || attempt == most_attempts) return std::move(reserved).error();
  }
  Undo give_name_back([&] { registry_.release_name(info.name, info.id); });

  bool joins = !container_of_mode(info.spec.network.mode).empty() || !container_of_mode(info.spec.pid_mode).empty() ||
               !container_of_mode(info.spec.ipc_mode).empty();
  if (info.spec.userns_mode != "host" && !joins) {
    // Taken already here, so that start needs no transaction of its own for it. When none is free, start says so.
    auto range = choose_range(info.id, info.spec);
    if (range.ok()) info.first_host_id = *range;
  }
  Undo give_range_back([&] {
    pool_.forget(info.id);
    ranges_.release(info.first_host_id);
  });

  // Two creates that make the same volume take turns, so that the second finds what the first has recorded.
  std::unique_lock volume_turn(volume_creation_mutex_, std::defer_lock);
  bool has_volumes = std::any_of(info.spec.mounts.begin(), info.spec.mounts.end(), [](const auto& mount) { return mount.type == MountType::volume; });
  if (has_volumes) volume_turn.lock();
  state::Transaction transaction;
  MadeVolumes made;
  Undo remove_volumes([&] {
    for (const auto& name : made.names) ignore(SizeLimits::remove_tree(volume_dir(name), "_data"));  // a stray folder is removed at the next start too
  });
  made.layers = TRY_PLAIN(images_->lowerdirs(image.id));
  auto resolved = resolve_mounts(caller, record, transaction, made);
  // "Not found" as an answer to create means to docker's client that the image is missing, and it would pull it: a volume's device is not meant.
  if (!resolved.ok() && resolved.error().kind() == ErrorKind::not_found && resolved.error().error_number() != 0) resolved = std::move(resolved).error().with_kind(ErrorKind::io);
  TRY(std::move(resolved), "create");
  Undo remove_dirs([&] { ignore(SizeLimits::remove_tree(container_dir(info.id), "upper")); });  // the same
  TRY(make_container_dirs(info.id, info.spec.storage_size_bytes), "create the container's folders");
  crash_point("create:folders");

  transaction.require_absent(container_key(info.id)).require_absent(name_key(info.name));
  transaction.put(container_key(info.id), to_text(record)).put(name_key(info.name), caisson::to_text(json::value(info.id)));
  TRY(store_->commit(transaction), "create the container's record");
  crash_point("create:committed");
  for (Undo* undo : {&remove_dirs, &remove_volumes, &give_range_back, &give_name_back}) undo->release();

  CreateResult result{info.id, info.name, info.warnings};
  policy::Labels scope;
  ignore(put_in_scope(role_of(caller), scope));  // nothing there contradicts it
  for (const auto& name : made.names) publish_object("volume", "create", name, {{"driver", "local"}}, scope);
  publish(record, "create");
  auto container = std::make_shared<Container>(std::move(record), *store_);
  registry_.add(container, result.name);
  return result;
}

Status LocalEngine::rename(const Caller& caller, const std::string& name, const std::string& new_name) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_rename, name));
  std::string wanted = new_name.starts_with('/') ? new_name.substr(1) : new_name;
  TRY_PLAIN(check_name("container", wanted));
  std::lock_guard lock(container->operation);
  if (container->removed) return Error(ErrorKind::not_found, concat("No such container: ", name));
  std::string old_name = container->snapshot()->info.name;
  if (old_name == wanted) return Error(ErrorKind::invalid, "Renaming a container with the same name as its current name");
  TRY_PLAIN(registry_.reserve_name(wanted, container->id));
  Undo give_name_back([&] { registry_.release_name(wanted, container->id); });
  state::Transaction transaction;
  transaction.require_absent(name_key(wanted)).put(name_key(wanted), caisson::to_text(json::value(container->id))).erase(name_key(old_name));
  TRY(container->change_with(std::move(transaction), [&](Record& record) { record.info.name = record.info.spec.name = wanted; }), "rename");
  give_name_back.release();
  registry_.release_name(old_name, container->id);
  if (auto record = container->snapshot(); !record->info.endpoints.empty()) names_.put(container->id, wanted, record->info.spec.network, record->info.endpoints);
  publish(*container->snapshot(), "rename", {{"oldName", "/" + old_name}});
  return {};
}

}  // namespace caisson::engine
