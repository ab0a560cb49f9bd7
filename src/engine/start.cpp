// start: namespaces, network, files, plan, launch; then the record. What fails is undone in reverse order by the context's guards.
#include <algorithm>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/account_files.hpp"
#include "engine/cdi.hpp"
#include "engine/devices.hpp"
#include "engine/local_engine.hpp"
#include "engine/network_files.hpp"
#include "engine/start_context.hpp"
#include "linux/cgroup.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/mount_api.hpp"
#include "linux/process.hpp"
#include "linux/sysinfo.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {

namespace {
bool shares_network(const ContainerSpec& spec) { return spec.network.mode == "host" || !container_of_mode(spec.network.mode).empty(); }

/// The host's resolver file, or systemd-resolved's list of real servers where the host's file only names its stub.
std::string reachable_resolver_text(const std::string& host_text) {
  if (!has_only_loopback_nameservers(host_text)) return host_text;
  auto upstream = linux::read_file("/run/systemd/resolve/resolv.conf");
  return upstream.ok() ? *upstream : host_text;
}

int exit_code_of_failed_start(const Error& error, bool was_launched) {
  constexpr int not_found = 127;
  constexpr int not_executable = 126;
  constexpr int other = 128;  // docker's code for a container that never ran
  if (!was_launched) return other;
  if (error.kind() == ErrorKind::not_found) return not_found;
  if (error.kind() == ErrorKind::denied) return not_executable;
  return other;
}
}  // namespace

LocalEngine::StartContext::~StartContext() {
  if (committed) return;
  // Failures here leave traces that the next start of the daemon removes; the first error is the one to report.
  engine.forget_names(id);
  if (connecting) ignore(engine.network_->disconnect(id));
  if (link) engine.network_->give_back(*link);
  if (made_run_dir) ignore(linux::remove_tree(engine.run_dir(id)));
  if (made_run_dir) engine.release_volumes(id, volume_names(record.info));
}

Result<LocalEngine::Joined> LocalEngine::resolve_joins(const ContainerSpec& spec) {
  Joined joined;
  auto join_one = [&](const std::string& mode, std::string_view what, std::string& name_of_namespace) -> Status {
    std::string name = container_of_mode(mode);
    if (name.empty()) return {};
    auto other = TRY(registry_.find(name), concat("join the ", what, " namespace"));
    auto record = other->snapshot();
    if (record->info.state != State::running && record->info.state != State::paused)
      return Error(ErrorKind::conflict, concat("cannot join ", what, " of a non running container: ", other->id));
    if (joined.pid != 0 && joined.first_host_id != record->info.first_host_id)
      return Error(ErrorKind::invalid, "the containers to join have different user namespaces");
    joined.pid = record->info.pid;
    joined.first_host_id = record->info.first_host_id;
    name_of_namespace = concat("/proc/", record->info.pid, "/ns/", what);
    return {};
  };
  TRY_PLAIN(join_one(spec.pid_mode, "pid", joined.pid_path));
  TRY_PLAIN(join_one(spec.ipc_mode, "ipc", joined.ipc_path));
  TRY_PLAIN(join_one(spec.network.mode, "net", joined.net_path));
  return joined;
}

Status LocalEngine::open_namespaces(StartContext& context, const ContainerSpec& spec, const Joined& joined) {
  bool wants_user_namespace = spec.userns_mode != "host" && joined.pid == 0;
  bool wants_network = !shares_network(spec);
  if (joined.first_host_id != 0) {
    // A namespace obeys the user namespace that owns it; so whoever joins one lives in the same user namespace, and so does a network of
    // its own.
    context.user_namespace = TRY(linux::open_namespace(joined.pid, "user"), "join a container");
    context.id_map = ranges_.map_of(joined.first_host_id);
  } else if (wants_user_namespace) {
    context.id_map = ranges_.map_of(context.first_host_id);
  }
  if (!joined.net_path.empty()) context.network_namespace = TRY(linux::open_namespace(joined.pid, "net"), "join a container");
  if (wants_user_namespace && wants_network) {
    if (auto ready = pool_.take(context.id)) {
      context.user_namespace = std::move(ready->user);
      context.network_namespace = std::move(ready->network);
      context.link = std::move(ready->link);
      context.network_is_ready = true;
      return {};
    }
  }
  if (wants_user_namespace || wants_network) {
    int owner = context.user_namespace ? context.user_namespace.get() : -1;
    auto pair = TRY(runtime_->make_namespaces(context.id_map, wants_network, owner), "make namespaces");
    if (wants_user_namespace) context.user_namespace = std::move(pair.user);
    if (wants_network) context.network_namespace = std::move(pair.network);
  }
  return {};
}

Status LocalEngine::plug_in(Container& container, StartContext& context) {
  const auto& spec = context.record.info.spec;
  if (shares_network(spec)) return {};
  if (spec.network.mode != "none") return connect_networks(container, context);
  if (context.network_is_ready) return {};
  return network_->bring_up_loopback(context.network_namespace.get());
}

Status LocalEngine::connect_networks(Container& container, StartContext& context) {
  auto& networking = context.record.info.spec.network;
  if (networking.endpoints.empty()) {
    // Disconnected from all of them while it was stopped: docker goes back to the one it was created with.
    networking.endpoints.emplace_back().network = networking.mode;
  }
  context.connecting = true;
  for (auto& wanted : networking.endpoints) TRY_PLAIN(connect_one(container, context, wanted));
  context.endpoints = network_->endpoints_of(container.id);
  return {};
}

Status LocalEngine::connect_one(Container& container, StartContext& context, EndpointSpec& wanted) {
  network::ConnectRequest request = connect_request(container.id, context.record.info.spec, wanted);
  request.netns_fd = context.network_namespace.get();
  request.ready = std::exchange(context.link, std::nullopt);  // pool_kind() gives one to those alone whose first network is the bridge
  auto endpoint = network_->connect(request);
  if (!endpoint.ok() && request.ready) {
    // Whatever the reason: the namespace may have a link already, so the plain way begins with a new one.
    request.ready.reset();
    auto pair = TRY(runtime_->make_namespaces(context.id_map, true, -1), "make namespaces");
    context.user_namespace = std::move(pair.user);
    context.network_namespace = std::move(pair.network);
    request.netns_fd = context.network_namespace.get();
    endpoint = network_->connect(request);
  }
  if (!endpoint.ok() && (endpoint.error().kind() == ErrorKind::unavailable || (request.ipv4 && wanted.network == "bridge"))) {
    pool_.drain();  // the last address, or the one that is wanted, may be among those kept ready
    endpoint = network_->connect(request);
  }
  if (!endpoint.ok() && endpoint.error().kind() == ErrorKind::conflict && wait_for_released_ports()) endpoint = network_->connect(request);
  if (!endpoint.ok()) return std::move(endpoint).error();
  wanted.network_id = endpoint->network_id;
  wanted.network = endpoint->network_name;
  return {};
}

Status LocalEngine::write_network_files(const ContainerInfo& info) {
  if (info.hosts_path.empty()) return {};  // the joined container's are used
  std::string hostname = info.spec.hostname.empty() ? info.id.substr(0, 12) : info.spec.hostname;
  TRY_PLAIN(linux::write_file(info.hostname_path, hostname + "\n"));
  TRY_PLAIN(linux::write_file(info.hosts_path, hosts_text(info.spec, hostname, info.endpoints, link_lines(info.spec))));
  // Not systemd-resolved's stub on loopback: the container asks for itself, unless the embedded server asks the stub for it.
  const bool embedded = has_embedded_dns(info.endpoints);
  const std::string host_text = host_resolver_text();
  return linux::write_file(info.resolv_conf_path, resolv_conf_text(embedded ? host_text : reachable_resolver_text(host_text), info.spec, embedded));
}

std::vector<std::string> LocalEngine::find_unmappable_sources(const ContainerInfo& info, int user_namespace) const {
  std::vector<std::string> sources;
  if (options_.rootless) return sources;  // nothing is mapped, and ids mean in the container what they mean to us
  for (const auto& point : info.mounts) {
    // Volumes lie in a folder of ours, which can map ids; others are elsewhere.
    if (point.type == MountType::tmpfs || (point.type == MountType::volume && point.source == volume_dir(point.name) + "/_data")) continue;
    auto tree = linux::open_tree(AT_FDCWD, point.source, OPEN_TREE_CLONE);
    if (!tree.ok()) continue;  // the runtime will report it, with the mount's name
    if (!linux::idmap_mount(tree->get(), user_namespace).ok()) sources.push_back(point.source);
  }
  return sources;
}

Result<ResolvedUser> LocalEngine::resolve_container_user(const ContainerInfo& info, const std::string& user, const std::vector<std::string>& groups) {
  auto image_id = TRY_PLAIN(Digest::parse(info.image_id));
  auto layers = TRY_PLAIN(images_->lowerdirs(image_id));
  layers.insert(layers.begin(), container_dir(info.id) + "/upper");
  return resolve_user(user, groups, read_account_files(layers));
}

Result<runtime::Spec> LocalEngine::plan(const ContainerInfo& info, const StartContext& context) {
  auto capabilities = TRY_PLAIN(resolve_capabilities(info.spec.cap_add, info.spec.cap_drop, info.spec.privileged));
  SpecInput input{.info = info};
  input.default_apparmor = apparmor_default_;
  input.user = TRY_PLAIN(resolve_container_user(info, info.spec.user, info.spec.groups));
  input.id_map = context.id_map;
  std::vector<std::string> broken;
  auto cdi_specs = info.spec.device_requests.empty() ? std::map<std::string, CdiSpec>{} : read_cdi_specs(options_.cdi_spec_dirs, broken);
  auto edits = TRY_PLAIN(collect_cdi_edits(TRY_PLAIN(cdi_names(info.spec.device_requests, cdi_specs)), cdi_specs, broken));
  ContainerSpec with_devices = info.spec;
  with_devices.devices.insert(with_devices.devices.end(), edits.devices.begin(), edits.devices.end());
  input.devices = TRY_PLAIN(resolve_devices(with_devices));
  input.cgroups_path = context.record.cgroups_path;
  input.pid_namespace_path = context.joined_pid_path;
  input.ipc_namespace_path = context.joined_ipc_path;
  input.link_env = link_settings(info);
  input.default_pids_limit = settings()->default_pids_limit;
  input.unmappable_sources = context.unmappable_sources;
  if (info.spec.nesting && options_.has_cgroups) input.can_hand_over_cgroup = TRY(linux::detect_cgroup_layout(), "cgroups").mode == linux::CgroupMode::unified;
  if (info.spec.ipc_mode == "host") input.host_has_mqueue = TRY_PLAIN(linux::exists("/dev/mqueue"));
  input.seccomp = TRY_PLAIN(seccomp_of(info.spec, capabilities));
  const auto device_binds = options_.rootless ? bind_renamed_devices(with_devices.devices, input.devices.nodes) : std::vector<runtime::Mount>();
  auto plan = TRY_PLAIN(build_spec(input));
  plan.mounts.insert(plan.mounts.end(), device_binds.begin(), device_binds.end());
  // In the engine's own user namespace only its ids exist, and the kernel takes no range that goes beyond them.
  if (auto range = plan.sysctl.find("net.ipv4.ping_group_range"); options_.rootless && context.id_map.empty() && range != plan.sysctl.end() && !info.spec.sysctls.contains(range->first))
    range->second = concat("0 ", options_.shared_ids - 1);
  apply_cdi_edits(edits, plan);
  return plan;
}

Status LocalEngine::take_id_range(Container& container, StartContext& context, const Joined& joined) {
  std::uint32_t held = context.record.info.first_host_id;
  std::uint32_t wanted = joined.first_host_id;
  bool own = context.record.info.spec.userns_mode != "host" && joined.pid == 0;
  if (own) wanted = held != 0 ? held : TRY_PLAIN(choose_range(container.id, context.record.info.spec));
  context.first_host_id = wanted;
  if (wanted == held) return {};
  if (!own) ranges_.share(wanted);
  // Written before anything runs in it, so that a crash cannot make a range that is in use look free.
  context.record.info.first_host_id = wanted;
  auto saved = container.change([&](Record& record) { record.info.first_host_id = wanted; });
  ranges_.release(held);
  return saved;
}

/// The container with what its volumes really show; the record keeps the volumes' own folders.
ContainerInfo LocalEngine::shown_with_sources(const ContainerInfo& info, const StartContext& context) {
  ContainerInfo shown = info;
  apply_volume_sources(shown, context.volumes);
  return shown;
}

Status LocalEngine::prepare_start(Container& container, StartContext& context) {
  auto& record = context.record;
  auto& info = record.info;
  fill_derived(info);
  info.warnings.clear();
  record.cgroups_path = cgroups_path_of(record);

  TRY_PLAIN(check_links_run(info));
  auto joined = TRY_PLAIN(resolve_joins(info.spec));
  context.joined_pid_path = joined.pid_path;
  context.joined_ipc_path = joined.ipc_path;
  TRY_PLAIN(take_id_range(container, context, joined));

  auto image_id = TRY_PLAIN(Digest::parse(info.image_id));
  context.lowerdirs = TRY_PLAIN(images_->lowerdirs(image_id));
  if (!info.hosts_path.empty()) context.lowerdirs.push_back(mount_points_dir());
  if (info.started_at != 0) {
    // What the kernel keeps in the work folder of an earlier mount may forbid the next one ("volatile", overlayfs.rst).
    TRY_PLAIN(linux::remove_tree(info.work_dir));
    TRY_PLAIN(linux::mkdir(info.work_dir, 0700));
    if (info.spec.storage_size_bytes > 0) TRY_PLAIN(SizeLimits::join(info.work_dir, info.upper_dir));
  }
  TRY_PLAIN(open_namespaces(context, info.spec, joined));
  // From here on a crash is noticed by the run folder: recover() looks into every one.
  if (!linux::mkdir(run_dir(container.id), 0700).ok()) TRY_PLAIN(linux::make_dirs(run_dir(container.id), 0700));  // it, or its parent, may be there or not
  context.made_run_dir = true;
  crash_point("start:run_dir");
  // A network by that name may be another's by now; the one of the last connect was judged then.
  if (auto role = role_of_creator(info.creator)) TRY_PLAIN(check_networks(*role, container.id.substr(0, 12), info.spec.network));
  TRY_PLAIN(plug_in(container, context));
  info.endpoints = context.endpoints;
  crash_point("start:connected");
  if (!info.endpoints.empty()) TRY(serve_names(info, context.network_namespace.get()), "serve names");
  TRY_PLAIN(write_network_files(info));
  {
    std::lock_guard turn(volume_creation_mutex_);
    context.volumes = TRY_PLAIN(open_volume_sources(info, volume_loader()));
  }
  if (context.user_namespace) context.unmappable_sources = find_unmappable_sources(shown_with_sources(info, context), context.user_namespace.get());
  for (const auto& source : context.unmappable_sources)
    info.warnings.push_back(concat("mount ", source, ": its file system cannot map user ids; files of host users belong to nobody inside"));
  return {};
}

Status LocalEngine::launch(Container& container, StartContext& context) {
  auto& record = context.record;
  auto& info = record.info;
  runtime::StartRequest request;
  request.id = container.id;
  request.spec = TRY_PLAIN(plan(shown_with_sources(info, context), context));
  linux::Overlay rootfs;
  rootfs.lowerdirs = context.lowerdirs;
  rootfs.upperdir = info.upper_dir;
  rootfs.workdir = info.work_dir;
  rootfs.is_volatile = info.spec.auto_remove;
  request.rootfs = std::move(rootfs);
  request.run_dir = run_dir(container.id);
  request.log = log_policy_of(record);
  request.open_stdin = info.spec.open_stdin;
  request.stdin_once = info.spec.stdin_once;
  request.use_init = info.spec.init.value_or(false);
  request.user_namespace = std::move(context.user_namespace);
  request.network_namespace = std::move(context.network_namespace);
  request.attached = container.take_clients();

  TRY_PLAIN(begin_shipping(record, LogShippers::Start::checked));
  container.begin_start();
  context.was_launched = true;
  TimestampNs started_at = now_ns();  // before the program runs: it may end before this thread goes on
  auto started = runtime_->start(std::move(request));
  if (!started.ok()) {
    shippers_.end(container.id);
    container.finish_start();
    return std::move(started).error();
  }
  tell_learning(container.id, started->pid);
  crash_point("start:launched");
  context.committed = true;
  for (auto& warning : started->warnings) {
    log(LogLevel::warning, "start", concat("container ", container.id.substr(0, 12)), warning);
    info.warnings.push_back(std::move(warning));
  }
  auto saved = container.change([&](Record& next) {
    next = record;
    next.info.name = next.info.spec.name = container.snapshot()->info.name;
    next.info.state = State::running;
    next.info.pid = started->pid;
    next.start_time = started->start_time;
    next.info.started_at = started_at;
    next.info.finished_at = 0;
    next.info.exit_code = 0;
    next.info.exit_status_lost = false;
    next.info.error.clear();
    next.info.oom_killed = false;
    next.info.stopped_by_user = false;
    next.info.first_host_id = context.first_host_id;
    next.info.endpoints = context.endpoints;
    if (probe_command(next.info.spec).empty()) {
      next.info.health.reset();
    } else {
      // The results of earlier runs stay to be read, as docker has it.
      auto& health = next.info.health ? *next.info.health : next.info.health.emplace();
      health.status = HealthStatus::starting;
      health.failing_streak = 0;
    }
    next.boot_id = boot_id_;
  });
  // It runs, whatever the store says: recover() would find it by its run folder. The record is written again at the next change.
  if (!saved.ok()) log_error("start", concat("container ", container.id), saved.error());
  crash_point("start:recorded");
  tell_linking(container.id);
  return {};
}

void LocalEngine::record_failed_start(Container& container, const Error& error, bool was_launched) {
  auto saved = container.change([&](Record& record) {
    record.info.exit_code = exit_code_of_failed_start(error, was_launched);
    record.info.error = error.text();
    if (record.info.state == State::restarting) record.info.state = State::exited;
  });
  if (!saved.ok()) log_error("start", concat("container ", container.id), saved.error());
}

Status LocalEngine::start_locked(const Pointer& container) {
  if (container->teardown_pending) TRY(teardown_locked(*container), "clear away the last run");
  StartContext context(*this, container->id);
  context.record = *container->snapshot();
  auto status = prepare_start(*container, context);
  if (status.ok()) status = launch(*container, context);
  if (!status.ok()) {
    record_failed_start(*container, status.error(), context.was_launched);
    return status;
  }
  publish_endpoints("connect", context.endpoints, container->id);
  publish(*container->snapshot(), "start");
  begin_probes(*container->snapshot());
  refill_later();
  if (auto early_exit = container->finish_start()) handle_exit(container, *early_exit);
  return {};
}

Result<Engine::Changed> LocalEngine::start(const Caller& caller, const std::string& name) {
  auto container = TRY_PLAIN(find_for(caller, Verb::container_start, name));
  std::lock_guard lock(container->operation);
  if (container->removed) return Error(ErrorKind::not_found, concat("No such container: ", name));
  auto before = container->snapshot();
  auto state = before->info.state;
  if (state == State::running) return Changed::already;
  if (state == State::paused) return Error(ErrorKind::conflict, "cannot start a paused container, try unpause instead");
  if (state == State::dead || state == State::removing)
    return Error(ErrorKind::conflict, "container is marked for removal and cannot be started");
  container->forget_restarts();
  auto status = start_locked(container);
  if (status.ok()) return Changed::yes;
  if (before->info.spec.auto_remove) {
    auto garbage = forget(container, [](Record&) {});
    if (garbage.ok()) collect_later(std::move(*garbage));
    else log_error("start", concat("container ", container->id), garbage.error());
  }
  return std::move(status).error().in(concat("start container ", container->id.substr(0, 12)));
}

}  // namespace caisson::engine
