// Who asks, and whether the policy lets them: every verb passes here, and every change leaves its line in the audit log.
#include <algorithm>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/liveness.hpp"
#include "engine/local_engine.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"

namespace caisson::engine {

namespace {

/// Whoever works inside a container, or reads its files, has what it has: a role with bounds must not get beyond them by another's container.
bool reaches_inside(Verb verb) {
  switch (verb) {
    case Verb::container_attach:
    case Verb::container_exec:
    case Verb::container_copy_from:
    case Verb::container_copy_to:
    case Verb::container_stat_path:
    case Verb::container_export:
    case Verb::container_commit: return true;
    default: return false;
  }
}

bool in_scope(const policy::Role& role, const policy::Labels& labels, std::string_view project) { return role.scope.is_everything() || role.scope.holds(labels, project); }

std::string project_of(const Record& record, const policy::Labels& labels) { return policy::project_of(labels, record.info.id); }

/// "0::/caisson/<id>/sub", "5:memory:/system.slice/caisson-<id>.scope": the components that look like a container's id.
std::vector<std::string> ids_in_cgroups(std::string_view text) {
  constexpr std::size_t id_digits = 64;
  std::vector<std::string> ids;
  for (auto line : split(text, '\n')) {
    for (auto part : split(line, '/')) {
      if (part.ends_with(".scope")) part.remove_suffix(std::string_view(".scope").size());
      if (part.size() < id_digits) continue;
      part = part.substr(part.size() - id_digits);
      if (part.find_first_not_of("0123456789abcdef") == std::string_view::npos) ids.emplace_back(part);
    }
  }
  return ids;
}

/// Whether a process is in the cgroup that a container's first process is in, or below: anybody can give a cgroup that was delegated to them
/// another's id for its name. Both texts are of /proc/PID/cgroup; the container's own place ends with the component that has its id.
bool is_in_cgroup_of(std::string_view theirs, std::string_view of_container, const std::string& id) {
  for (auto line : split(of_container, '\n')) {
    const auto at = line.find(id);
    if (at == std::string_view::npos) continue;
    const std::string place(line.substr(0, line.find('/', at)));
    for (auto own : split(theirs, '\n'))
      if (own == place || own.starts_with(place + "/")) return true;
  }
  return false;
}

/// Whether a process has another namespace than we, and the same as that other process. False also for what cannot be seen.
bool is_in_namespace_of(pid_t pid, pid_t other, std::string_view kind) {
  auto theirs = linux::readlinkat(AT_FDCWD, concat("/proc/", pid, "/ns/", kind));
  auto others = linux::readlinkat(AT_FDCWD, concat("/proc/", other, "/ns/", kind));
  auto ours = linux::readlinkat(AT_FDCWD, concat("/proc/self/ns/", kind));
  return theirs.ok() && others.ok() && ours.ok() && *theirs == *others && *theirs != *ours;
}

/// Passes on what its reader may see.
class SeenEvents final : public EventStream {
 public:
  SeenEvents(std::unique_ptr<EventStream> all, policy::RolePointer role) : all_(std::move(all)), role_(std::move(role)) {}
  Result<std::optional<Event>> next(Cancel cancel) override {
    for (;;) {
      auto event = TRY_PLAIN(all_->next(cancel));
      if (!event || event->type == "image" || event->type == "daemon" || role_->scope.holds(event->labels, event->project)) return event;
    }
  }

 private:
  std::unique_ptr<EventStream> all_;
  policy::RolePointer role_;
};

}  // namespace

Result<bool> is_in_our_namespaces(pid_t pid) {
  for (const char* kind : {"user", "pid"}) {
    const auto theirs = TRY_PLAIN(linux::readlinkat(AT_FDCWD, concat("/proc/", pid, "/ns/", kind)));
    if (theirs != TRY_PLAIN(linux::readlinkat(AT_FDCWD, concat("/proc/self/ns/", kind)))) return false;
  }
  return true;
}

Caller engine_itself() { return {0, 0, linux::getpid(), "engine", "", policy::built_in("admin")}; }

// ---- who asks -----------------------------------------------------------------------------------------------------

LocalEngine::Pointer LocalEngine::container_of_process(pid_t pid) {
  auto text = linux::read_kernel_file(concat("/proc/", pid, "/cgroup"));
  if (!text.ok()) return nullptr;
  for (const auto& id : ids_in_cgroups(*text)) {
    auto container = registry_.find_id(id);
    const pid_t first = container ? container->snapshot()->info.pid : 0;
    auto own = first != 0 ? linux::read_kernel_file(concat("/proc/", first, "/cgroup")) : Result<std::string>(std::string());
    if (own.ok() && is_in_cgroup_of(*text, *own, id)) return container;
  }
  return nullptr;
}

LocalEngine::Pointer LocalEngine::container_of_peer(const Connection& connection) {
  if (!connection.peer.is_unix) return nullptr;
  // The host's view of the process, held by its descriptor: a container's cgroup is entered and left by nobody without the right to write it.
  if (connection.pidfd >= 0 && connection.pid > 0) {
    auto container = container_of_process(connection.pid);
    if (container && linux::pidfd_send_signal(connection.pidfd, 0).ok()) return container;
  }
  // Without cgroups, and where all containers share our ids, the namespaces tell: those of containers are below ours, and to be seen.
  if (options_.rootless && connection.pidfd >= 0 && connection.pid > 0)
    for (const auto& container : registry_.all()) {
      const pid_t first = container->snapshot()->info.pid;
      const bool is_inside = first != 0 && (is_in_namespace_of(connection.pid, first, "pid") || is_in_namespace_of(connection.pid, first, "user"));
      if (is_inside && linux::pidfd_send_signal(connection.pidfd, 0).ok()) return container;
    }
  return container_of_user(connection.peer.uid);
}

LocalEngine::Pointer LocalEngine::container_of_user(std::uint32_t uid) {
  if (uid < IdRanges::base || uid - IdRanges::base >= std::uint64_t{IdRanges::size} * IdRanges::count) return nullptr;
  for (const auto& container : registry_.all()) {
    const std::uint32_t first = container->snapshot()->info.first_host_id;
    if (first != 0 && uid >= first && uid - first < IdRanges::size) return container;
  }
  return nullptr;
}

Result<bool> LocalEngine::is_of_host(pid_t pid) const { return options_.is_of_host ? options_.is_of_host(pid) : is_in_our_namespaces(pid); }

Caller LocalEngine::identify(const Connection& connection) {
  Caller caller;
  caller.uid = connection.peer.uid;
  caller.gid = connection.peer.gid;
  caller.pid = connection.pid;
  caller.source = connection.source;
  const auto policy = settings()->policy;
  policy::Identity identity;
  if (auto container = container_of_peer(connection)) {
    auto record = container->snapshot();
    identity = policy->judge_container(container->id, project_of(*record, given_labels(record->info.spec)), record->info.creator);
  } else {
    policy::Peer peer = connection.peer;
    if (peer.is_unix) {
      const bool is_there = connection.pidfd >= 0 && connection.pid > 0;
      auto ours = is_there ? is_of_host(connection.pid) : Result<bool>(false);
      // A process that has ended by now could have been any: its number may be another's.
      peer.is_elsewhere = !ours.ok() || !*ours || !linux::pidfd_send_signal(connection.pidfd, 0).ok();
    }
    identity = policy->judge(peer);
  }
  caller.who = std::move(identity.who);
  caller.role = std::move(identity.role);
  return caller;
}

// ---- what they may ------------------------------------------------------------------------------------------------

void LocalEngine::note(const Caller& caller, Verb verb, std::string_view object, std::string_view id, const json::object& asks) const {
  if (caller.who.empty() || !policy::describe(verb).is_audited) return;
  audit_.write({caller, verb, object, id, true, "", asks});
}

Status LocalEngine::refuse(const Caller& caller, Verb verb, std::string_view object, std::string_view id, std::string_view why) const {
  audit_.write({caller, verb, object, id, false, why, {}});
  const auto& info = policy::describe(verb);
  const auto policy = settings()->policy;
  return Error(ErrorKind::denied, concat(info.says, object.empty() ? "" : " ", object, ": ", why))
      .with_hint(concat(caller.who.empty() ? "the caller" : caller.who, " asks for ", info.name, "; ", policy->path().empty() ? "/etc/caisson/roles.toml" : policy->path(), " says who may what"));
}

Status LocalEngine::permit_verb(const Caller& caller, Verb verb, std::string_view object) const {
  const auto& role = role_of(caller);
  if (role.allows(verb)) return {};
  return refuse(caller, verb, object, "", concat(role.text(), " does not allow ", policy::describe(verb).name));
}

Status LocalEngine::authorize(const Caller& caller, Verb verb, std::string_view object) const {
  TRY_PLAIN(permit_verb(caller, verb, object));
  note(caller, verb, object, "");
  return {};
}

Status LocalEngine::permit(const Caller& caller, Verb verb, const Object& object) const {
  TRY_PLAIN(permit_verb(caller, verb, object.name));
  const auto& role = role_of(caller);
  if (!in_scope(role, object.labels, object.project)) {
    std::vector<std::string> wanted;
    for (const auto& [key, value] : role.scope.labels) wanted.push_back(concat(key, "=", value));
    if (!role.scope.project.empty()) wanted.push_back(concat("project ", role.scope.project));
    return refuse(caller, verb, object.name, object.id, concat(role.text(), " is for objects with ", join(wanted, ", ")));
  }
  return {};
}

Status LocalEngine::permit_container(const Caller& caller, Verb verb, const Record& record) const {
  const auto& role = role_of(caller);
  if (!role.scope.is_everything()) {
    const auto labels = given_labels(record.info.spec);
    TRY_PLAIN(permit(caller, verb, {record.info.name, record.info.id, labels, project_of(record, labels)}));
  }
  if (reaches_inside(verb) && role.bounds) {
    auto box = check_box(role, record.info.spec, {.grants = record.info.creator.role == role.name, .step_mounts = record.info.creator.who == caller.who});
    if (!box.ok()) return refuse(caller, verb, record.info.name, record.info.id, concat("the container reaches further than its caller: ", box.error().text()));
  }
  note(caller, verb, record.info.name, record.info.id);
  return {};
}

Status LocalEngine::permit_network(const Caller& caller, Verb verb, const network::Network& network) const {
  const auto& role = role_of(caller);
  // The networks that a role may join are not its own, but it may look at them.
  if (!policy::describe(verb).is_audited && role.allows(verb) && may_join(role, network)) return {};
  TRY_PLAIN(permit(caller, verb, {network.name, network.id, network.labels, policy::project_of(network.labels, "")}));
  note(caller, verb, network.name, network.id);
  return {};
}

Status LocalEngine::permit_volume(const Caller& caller, Verb verb, const VolumeInfo& volume) const {
  TRY_PLAIN(permit(caller, verb, {volume.name, "", volume.labels, policy::project_of(volume.labels, "")}));
  note(caller, verb, volume.name, "");
  return {};
}

Result<LocalEngine::Pointer> LocalEngine::find_for(const Caller& caller, Verb verb, const std::string& name) {
  TRY_PLAIN(permit_verb(caller, verb, name));
  auto container = TRY_PLAIN(find_container(name));
  TRY_PLAIN(permit_container(caller, verb, *container->snapshot()));
  return container;
}

bool LocalEngine::sees(const Caller& caller, const Record& record) const {
  const auto& role = role_of(caller);
  if (role.scope.is_everything()) return true;
  const auto labels = given_labels(record.info.spec);
  return role.scope.holds(labels, project_of(record, labels));
}

bool LocalEngine::sees(const Caller& caller, const network::Network& network) {
  const auto& role = role_of(caller);
  return role.scope.is_everything() || role.scope.holds(network.labels, policy::project_of(network.labels, "")) || may_join(role, network);
}

bool LocalEngine::sees(const Caller& caller, const VolumeInfo& volume) { return in_scope(role_of(caller), volume.labels, policy::project_of(volume.labels, "")); }

Result<std::unique_ptr<EventStream>> LocalEngine::events(const Caller& caller, const EventOptions& options) {
  TRY_PLAIN(authorize(caller, Verb::system_events, ""));
  auto all = TRY_PLAIN(events_->subscribe(options));
  if (role_of(caller).scope.is_everything()) return all;
  return std::unique_ptr<EventStream>(std::make_unique<SeenEvents>(std::move(all), caller.role));
}

// ---- what a container may be --------------------------------------------------------------------------------------

policy::Creator LocalEngine::creator_of(const Caller& caller) {
  const auto& role = role_of(caller);
  policy::Creator creator{caller.who, role.name, role.scope.labels};
  if (!role.scope.project.empty()) creator.labels[std::string(policy::project_label)] = role.scope.project;
  return creator;
}

policy::RolePointer LocalEngine::role_of_creator(const policy::Creator& creator) const {
  if (creator.role.empty()) return nullptr;  // older than roles: an administrator's
  auto known = settings()->policy->find(creator.role);
  if (known && !known->bounds && known->scope.is_everything() && creator.labels.empty()) return nullptr;
  policy::Role role = known ? *known : *policy::built_in("user");
  role.scope = {creator.labels, ""};
  return std::make_shared<const policy::Role>(std::move(role));
}

bool LocalEngine::may_join(const policy::Role& role, const network::Network& network) {
  if (!role.bounds || network.name == "none") return true;
  if (network.name == "host") return std::find(role.bounds->host_namespaces.begin(), role.bounds->host_namespaces.end(), "network") != role.bounds->host_namespaces.end();
  if (policy::matches_any(role.bounds->networks, network.name)) return true;
  return !role.scope.is_everything() && role.scope.holds(network.labels, policy::project_of(network.labels, ""));
}

Status LocalEngine::check_networks(const policy::Role& role, const std::string& object, const NetworkSpec& networks) {
  for (const auto& endpoint : networks.endpoints) {
    auto network = network_->find(endpoint.network);
    if (!network.ok() && network.error().kind() == ErrorKind::not_found) continue;  // the start says so, and judges the one that is there then
    if (!network.ok()) return std::move(network).error();
    if (network->id != endpoint.network_id && !may_join(role, *network)) return Error(ErrorKind::denied, concat(object, object.empty() ? "" : ": ", role.text(), " does not allow the network ", network->name));
  }
  return {};
}

/// Containers whose namespaces, volumes or names it takes part in are in the caller's scope, and in the box that he may have.
Status LocalEngine::check_partners(const policy::Role& role, const ContainerSpec& spec) {
  auto check = [&](std::string_view name, std::string_view what) -> Status {
    auto partner = TRY_PLAIN(find_container(name));
    auto record = partner->snapshot();
    const auto labels = given_labels(record->info.spec);
    if (!in_scope(role, labels, project_of(*record, labels))) return Error(ErrorKind::denied, concat(role.text(), " does not allow ", what, " of container ", name));
    auto box = check_box(role, record->info.spec, {.grants = record->info.creator.role == role.name});
    if (!box.ok()) return std::move(box).error().in(concat(what, " of container ", name));
    return {};
  };
  for (const auto& mode : {spec.network.mode, spec.pid_mode, spec.ipc_mode})
    if (const std::string name = container_of_mode(mode); !name.empty()) TRY_PLAIN(check(name, "namespaces"));
  for (const auto& source : spec.volumes_from) TRY_PLAIN(check(split_once(source, ':').before, "volumes"));
  for (const auto& link : spec.links) TRY_PLAIN(check(split_once(link, ':').before, "a link"));
  return {};
}

/// A bind of our own socket, by whatever path, is the socket in the place where it is: what asks through it is judged as the container.
void LocalEngine::follow_own_socket(ContainerSpec& spec) const {
  for (auto& mount : spec.mounts) {
    if (mount.type != MountType::bind) continue;
    auto there = linux::stat(mount.source);
    if (!there.ok()) continue;
    for (const auto& socket : options_.sockets) {
      auto own = linux::stat(socket);
      if (!own.ok() || own->st_dev != there->st_dev || own->st_ino != there->st_ino) continue;
      mount.source = socket;
      mount.within = split_last(socket, '/').before;
      mount.without_owners = false;  // its group decides who may open it; the container's root is asked by the mount's map
    }
  }
}

Status LocalEngine::put_in_scope_of(const Caller& caller, Verb verb, std::string_view object, policy::Labels& labels) const {
  auto put = put_in_scope(role_of(caller), labels);
  return put.ok() ? std::move(put) : refuse(caller, verb, object, "", put.error().text());
}

Status LocalEngine::bound_creation(const Caller& caller, ContainerInfo& info, const image::Image* image) {
  const auto& role = role_of(caller);
  auto judge = [&]() -> Status {
    if (!role.bounds && role.scope.is_everything()) return {};
    TRY_PLAIN(check_partners(role, info.spec));
    follow_own_socket(info.spec);
    TRY_PLAIN(apply_bounds(role, info.spec));
    if (image != nullptr) TRY_PLAIN(check_image_here(role, info.spec.image, *image));
    return check_networks(role, "", info.spec.network);
  };
  if (auto judged = judge(); !judged.ok()) {
    if (judged.error().kind() != ErrorKind::denied) return judged;
    return refuse(caller, Verb::container_create, info.spec.name, "", judged.error().text());
  }
  note(caller, Verb::container_create, info.spec.name, info.id, asked_of_host(info.spec));
  return {};
}

}  // namespace caisson::engine
