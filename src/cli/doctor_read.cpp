// The probes of `caisson doctor`: the wrappers and checks that the engine itself uses, asked without it.
#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "base/environment.hpp"
#include "cli/daemon.hpp"
#include "cli/doctor.hpp"
#include "cli/policy_places.hpp"
#include "engine/network_files.hpp"
#include "image/fetch_protocol.hpp"
#include "linux/capabilities.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/landlock.hpp"
#include "linux/mount_api.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"
#include "linux/spawn.hpp"
#include "linux/subordinate_ids.hpp"
#include "linux/sysinfo.hpp"
#include "network/firewall.hpp"
#include "runtime/plan.hpp"
#include "trust/judge.hpp"

namespace caisson::cli {

namespace {

constexpr std::string_view program_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr int program_timeout_ms = 10'000;

bool is_there(const std::string& path) { return linux::exists(path).value_or(false); }
bool has_program(std::string_view name) { return linux::find_program(name, program_path).ok(); }
std::string problem_of(const auto& result) { return result.ok() ? "" : std::string(result.error().text()); }
std::string setting(const std::string& path) {
  auto text = linux::read_file(path);
  return text.ok() ? std::string(trim(*text)) : "";
}

Result<linux::ProgramOutput> run(const std::vector<std::string>& argv) {
  linux::RunOptions options;
  options.timeout_ms = program_timeout_ms;
  return linux::run_program(argv, options);
}

// caisson-fetch is the one program of ours that is linked dynamically (libcurl), so it is started: with a channel whose other end is closed it enters its
// sandbox, finds nobody to serve and ends with 0. The loader ends with 127 and says what it lacks (ld.so(8)).
Status try_fetch(const std::string& path) {
  constexpr int loader_failed = 127;
  constexpr std::size_t most_said_bytes = 4096;
  auto channel = TRY_PLAIN(linux::socketpair(linux::UnixType::stream));
  auto said = TRY_PLAIN(linux::pipe2());
  linux::ProcessRequest request;
  request.path = path;
  request.argv = {"caisson-fetch"};
  request.fds = {{channel.second.get(), image::fetch_channel_fd}, {said.write_end.get(), 2}};
  auto child = TRY_PLAIN(linux::spawn_process(request));
  channel = {};
  said.write_end.reset();
  if (!TRY_PLAIN(linux::wait_readable(child.pidfd.get(), program_timeout_ms))) {
    linux::kill_and_reap(child.pidfd.get());
    return Error(ErrorKind::timeout, "it does not end");
  }
  const int code = TRY_PLAIN(linux::wait_pidfd(child.pidfd.get())).exit_code();
  if (code == 0) return {};
  if (code == loader_failed) return Error(ErrorKind::not_found, std::string(trim(TRY_PLAIN(linux::read_all(said.read_end.get(), most_said_bytes)))));
  return Error(ErrorKind::denied, concat("it cannot enter its sandbox (it ended with ", code, ")"));
}

void read_fetch(HostReading& host, const std::string& folder) {
  for (const auto& path : {concat(folder, "/caisson-fetch"), std::string("/usr/lib/caisson/caisson-fetch")}) {
    if (!is_there(path)) continue;
    host.fetch_problem = problem_of(try_fetch(path));
    return;
  }
  host.has_fetch = false;
}

void read_programs(HostReading& host) {
  auto daemon = find_own_binary("caissond");
  if (!daemon.ok()) host.missing_programs.emplace_back("caissond");
  std::string folder = daemon.ok() ? daemon->substr(0, daemon->rfind('/')) : "/usr/bin";
  for (std::string_view name : {"caisson-runtime", "caisson-worker"})
    if (!is_there(concat(folder, "/", name)) && !has_program(name)) host.missing_programs.emplace_back(name);
  read_fetch(host, folder);
}

// An id map of the kind that containers get. As an ordinary user only the own id can be mapped without helpers.
linux::IdMap probe_map(bool is_root, std::uint32_t shared) {
  constexpr std::uint32_t probe_base = 100'000;
  if (shared != 0) return {{{0, 0, shared}}, {{0, 0, shared}}};
  if (is_root) return {{{0, probe_base, 65'536}}, {{0, probe_base, 65'536}}};
  return {{{0, linux::geteuid(), 1}}, {{0, linux::getegid(), 1}}};
}

// The nearest folder that exists: the state folder is made by the daemon's first start.
std::string nearest_folder(std::string path) {
  while (path.size() > 1 && !is_there(path)) path.erase(std::max<std::size_t>(path.rfind('/'), 1));
  return path;
}

Status probe_idmapped_mount(const std::string& folder, int userns_fd) {
  auto tree = TRY_PLAIN(linux::open_tree(AT_FDCWD, folder, OPEN_TREE_CLONE));
  return linux::idmap_mount(tree.get(), userns_fd);
}

/// An ordinary user mounts inside a user namespace of his own (Linux 5.11), so a process that is gone afterwards tries it there.
Status probe_own_overlay() {
  auto child = TRY_PLAIN(linux::fork_with_pidfd(0));
  if (child.pid == 0) {
    auto mount = [] {
      if (!linux::unshare(CLONE_NEWUSER | CLONE_NEWNS).ok()) return false;
      return linux::mount_detached("overlay", {{"lowerdir", "/usr:/etc"}, {"userxattr", ""}}, 0).ok();
    };
    linux::exit_now(mount() ? 0 : 1);
  }
  auto status = TRY_PLAIN(linux::wait_pidfd(child.pidfd.get()));
  if (status.exit_code() == 0) return {};
  return Error(ErrorKind::unsupported, "not in a user namespace, which Linux 5.11 and later allow");
}

/// A container's /proc, as a process without rights over the mounts around it would make it: in namespaces that are gone with it.
Status probe_proc() {
  auto child = TRY_PLAIN(linux::fork_with_pidfd(0));
  if (child.pid == 0) {
    if (!linux::unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID).ok()) linux::exit_now(0);  // another finding's affair
    auto inner = linux::fork_with_pidfd(0);  // the first process of the PID namespace, to which the new /proc belongs
    if (!inner.ok()) linux::exit_now(0);
    if (inner->pid == 0) {
      auto mounted = linux::mount_detached("proc", {}, 0);
      linux::exit_now(mounted.ok() ? 0 : mounted.error().error_number());
    }
    auto status = linux::wait_pidfd(inner->pidfd.get());
    linux::exit_now(status.ok() ? status->exit_code() : 0);
  }
  const int reason = TRY_PLAIN(linux::wait_pidfd(child.pidfd.get())).exit_code();
  return reason == 0 ? Status{} : Error::from_errno(reason, "mount proc");
}

void read_container(HostReading& host) {
  host.proc_problem = problem_of(probe_proc());
  host.is_contained = host.is_root && !linux::in_initial_user_namespace();
  if (!host.is_contained) return;
  if (auto held = linux::capget(); held.ok()) {
    for (const char* name : {"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"})
      if (auto number = linux::capability_by_name(concat("CAP_", name)); number.ok() && !held->effective.contains(*number)) host.missing_rights.emplace_back(name);
  }
  for (const char* file : {"/proc/self/uid_map", "/proc/self/gid_map"})
    if (auto map = linux::parse_id_map(setting(file)); map.ok()) host.own_ids = std::min(host.own_ids, linux::ids_from_zero(*map));
}

void read_kernel(HostReading& host) {
  if (auto name = linux::uname(); name.ok()) host.kernel = name->release;
  if (auto facts = runtime::read_host_facts(); facts.ok()) {
    host.is_privileged = facts->is_privileged;
    host.has_apparmor = facts->has_apparmor;
    host.has_apparmor_parser = has_program("apparmor_parser");
  }
  host.max_user_namespaces = parse_integer<std::uint64_t>(setting("/proc/sys/user/max_user_namespaces")).value_or(0);
  host.denies_unprivileged_namespaces = setting("/proc/sys/kernel/unprivileged_userns_clone") == "0" ||
                                        setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1";
  auto userns = linux::create_user_namespace(probe_map(host.is_root, host.is_contained ? host.own_ids : 0));
  host.user_namespace_problem = problem_of(userns);
  if (!host.is_root) host.overlay_problem = problem_of(probe_own_overlay());
  if (host.is_root) {
    // Two folders that every host has; the mount is attached nowhere and gone with its descriptor.
    host.overlay_problem = problem_of(linux::mount_detached("overlay", {{"lowerdir", "/usr:/etc"}}, 0));
    if (userns.ok() && !host.is_contained) host.idmap_problem = problem_of(probe_idmapped_mount(nearest_folder(host.root), userns->get()));
  }
  host.has_seccomp = setting("/proc/sys/kernel/seccomp/actions_avail").find("errno") != std::string::npos;
  host.landlock_abi = linux::landlock_abi();
  host.has_kvm = is_there("/dev/kvm");
}

void read_cgroups(HostReading& host) {
  auto layout = linux::detect_cgroup_layout();
  host.cgroup_mode = layout.ok() ? layout->mode : linux::CgroupMode::none;
  if (!layout.ok() || host.cgroup_mode == linux::CgroupMode::none) return;
  if (host.is_root) host.may_make_cgroups = linux::may_make_cgroup(*layout, "/caisson");
  for (std::string_view controller : {"cpu", "cpuset", "io", "memory", "pids"}) {
    bool is_mounted = layout->has(controller) || (controller == "io" && layout->has("blkio"));  // v1's name
    if (!is_mounted) host.missing_controllers.emplace_back(controller);
  }
}

void read_firewall(HostReading& host) {
  auto tables = run({"nft", "list", "tables"});
  if (!tables.ok()) host.nft_problem = tables.error().kind() == ErrorKind::not_found ? "not installed" : std::string(tables.error().text());
  else if (tables->status.exit_code() != 0) host.nft_problem = trim(tables->standard_error);
  if (host.nft_problem.empty())
    if (auto chains = network::dropping_forward_chains(); chains.ok()) host.dropping_chains = *chains;
  host.forwards_ipv4 = setting("/proc/sys/net/ipv4/ip_forward") == "1";
  std::string filtered = setting("/proc/sys/net/bridge/bridge-nf-call-iptables");
  host.filters_bridges = filtered == "1";
  if (setting("/etc/ufw/ufw.conf").find("ENABLED=yes") != std::string::npos) host.firewalls.emplace_back("ufw");
  if (is_there("/run/firewalld")) host.firewalls.emplace_back("firewalld");
  if (is_there("/run/docker.pid") || is_there("/var/run/docker.pid")) host.firewalls.emplace_back("dockerd");
}

void read_names(HostReading& host) {
  std::string text = setting("/etc/resolv.conf");
  for (auto line : split(text, '\n')) {
    line = trim(line);
    if (line.starts_with("nameserver")) host.nameservers.emplace_back(trim(line.substr(std::string_view("nameserver").size())));
  }
  host.has_only_loopback_nameservers = engine::has_only_loopback_nameservers(text);
  host.has_resolved_file = is_there("/run/systemd/resolve/resolv.conf");
}

// The type of the file system that holds a folder, when it is one that no overlay can write to.
std::string unfit_file_system(const std::string& folder) {
  auto mounts = linux::read_mountinfo();
  if (!mounts.ok()) return "";
  std::string type;
  std::size_t longest = 0;
  for (const auto& mount : *mounts) {
    std::string point = mount.mount_point == "/" ? "/" : mount.mount_point + "/";
    bool holds_it = concat(folder, "/").starts_with(point);
    if (!holds_it || point.size() < longest) continue;
    longest = point.size();  // of several on one point the last one is on top
    type = mount.type;
  }
  bool is_unfit = type == "overlay" || type == "vfat" || type.starts_with("nfs") || type.starts_with("fuse") || type.starts_with("9p");
  return is_unfit ? type : "";
}

void read_space(HostReading& host) {
  auto status = linux::statfs(nearest_folder(host.root));
  if (!status.ok()) return;
  auto block = static_cast<std::uint64_t>(status->f_bsize);
  host.file_system = unfit_file_system(nearest_folder(host.root));
  host.disk_bytes = status->f_blocks * block;
  host.free_bytes = status->f_bavail * block;
  host.inodes = status->f_files;
  host.free_inodes = status->f_ffree;
}

void read_service(HostReading& host, const Invocation& global) {
  host.has_systemd = is_there("/run/systemd/system");
  host.has_unit = false;
  std::vector<std::string> folders = {"/etc/systemd/system", "/usr/lib/systemd/system", "/usr/local/lib/systemd/system"};
  if (!host.is_root) folders = {environment_text("HOME") + "/.config/systemd/user", "/etc/systemd/user", "/usr/lib/systemd/user", "/usr/local/lib/systemd/user"};
  for (const auto& folder : folders) host.has_unit = host.has_unit || is_there(concat(folder, "/caissond.socket"));
  if (host.has_systemd && host.has_unit) {
    const auto command = host.is_root ? std::vector<std::string>{"systemctl", "is-enabled", "--quiet", "caissond.socket"}
                                      : std::vector<std::string>{"systemctl", "--user", "is-enabled", "--quiet", "caissond.socket"};
    linux::RunOptions options;
    options.env = whole_environment();  // the user's systemd is found by the session's variables
    auto enabled = linux::run_program(command, options);
    host.is_unit_enabled = enabled.ok() && enabled->status.exit_code() == 0;
  }
  auto endpoint = choose_endpoint(global);
  constexpr std::string_view unix_scheme = "unix://";
  if (!endpoint.ok() || !endpoint->address.starts_with(unix_scheme)) return;  // a context that cannot be read is every command's own complaint
  host.socket = endpoint->address.substr(unix_scheme.size());
  auto status = linux::stat(host.socket);
  if (!status.ok()) return;
  constexpr std::uint32_t permission_bits = 07777;
  host.socket_mode = status->st_mode & permission_bits;
  constexpr int may_read_and_write = 6;
  host.may_use_socket = linux::faccessat(AT_FDCWD, host.socket, may_read_and_write).ok();
}

void read_id_maps(HostReading& host) {
  host.has_id_map_helpers = has_program("newuidmap") && has_program("newgidmap");
  for (const char* name : {"newuidmap", "newgidmap"}) {
    auto path = linux::find_program(name, program_path);
    if (!path.ok()) continue;
    auto status = linux::stat(*path);
    constexpr std::uint32_t set_user_id = 04000;
    const bool is_setuid = status.ok() && (status->st_mode & set_user_id) != 0;
    host.may_map_ids = host.may_map_ids && (is_setuid || linux::lgetxattr(*path, "security.capability").ok());
  }
  if (host.is_root) return;
  host.subordinate_ids = std::min(linux::count_ids(linux::subordinate_ids(setting("/etc/subuid"), host.user, linux::geteuid())),
                                  linux::count_ids(linux::subordinate_ids(setting("/etc/subgid"), host.user, linux::geteuid())));
  host.has_subordinate_ids = host.subordinate_ids > 0;
}

// What the user's systemd may hand on to containers: the controllers in the cgroup that it was given (systemd.resource-control(5), Delegate=).
void read_delegation(HostReading& host) {
  if (host.cgroup_mode != linux::CgroupMode::unified) return;
  const auto uid = linux::geteuid();
  const std::string given = setting(concat("/sys/fs/cgroup/user.slice/user-", uid, ".slice/user@", uid, ".service/cgroup.controllers"));
  const auto words = split(given, ' ');
  for (std::string_view controller : {"cpu", "io", "memory", "pids"})
    if (std::find(words.begin(), words.end(), controller) == words.end()) host.missing_delegation.emplace_back(controller);
}

void read_rootless(HostReading& host) {
  host.uplink = has_program("pasta") ? "pasta" : has_program("slirp4netns") ? "slirp4netns" : "";
  constexpr int may_read_and_write = 6;
  host.has_tun = linux::faccessat(AT_FDCWD, "/dev/net/tun", may_read_and_write).ok();
  if (host.is_root) return;
  const std::string folder = environment_text("XDG_RUNTIME_DIR");
  auto status = folder.empty() ? Result<linux::FileStatus>(Error(ErrorKind::not_found, "not set")) : linux::stat(folder);
  host.has_runtime_dir = status.ok() && status->st_uid == linux::geteuid();
  host.has_user_manager = host.has_runtime_dir && is_there(folder + "/systemd/private");
  read_delegation(host);
  host.lingers = is_there(concat("/var/lib/systemd/linger/", host.user));
  host.first_user_port = parse_integer<std::uint32_t>(setting("/proc/sys/net/ipv4/ip_unprivileged_port_start")).value_or(1024);
}

void read_policy(HostReading& host) {
  auto places = daemon_policy_places();
  auto read = places.ok() ? trust::read_host_policy(*places) : Result<std::shared_ptr<const trust::HostPolicy>>(std::move(places).error());
  host.policy_problem = problem_of(read);
  if (!read.ok()) return;
  host.policy = (*read)->path;
  host.accepts_anything = trust::accepts_anything((*read)->policy);
  auto asks_gpg = [](const trust::Requirements& requirements) { return trust::wants_of(requirements).gpg; };
  bool is_asked = asks_gpg((*read)->policy.fallback);
  for (const auto& [transport, scopes] : (*read)->policy.transports)
    for (const auto& [scope, requirements] : scopes) is_asked = is_asked || asks_gpg(requirements);
  host.needs_gpgv = is_asked && !has_program("gpgv");
}

// By the number, because $USER may still be somebody else's after setpriv or su; by $USER for users who do not stand in /etc/passwd.
std::string own_name() {
  const std::string known = linux::user_name(setting("/etc/passwd"), linux::geteuid());
  const std::string user = known.empty() ? environment_text("USER") : known;
  return user.empty() ? concat("uid ", linux::geteuid()) : user;
}

// Where an ordinary user's daemon keeps its state (XDG base directories).
std::string own_state_folder() {
  const std::string data = environment_text("XDG_DATA_HOME");
  return concat(data.empty() ? environment_text("HOME") + "/.local/share" : data, "/caisson");
}

}  // namespace

Result<HostReading> read_host(const Invocation& global) {
  HostReading host;
  host.is_root = linux::geteuid() == 0;
  host.user = host.is_root ? "root" : own_name();
  host.root = global.has("root") ? std::string(global.text("root")) : host.is_root ? "/var/lib/caisson" : own_state_folder();
  host.now = now_ns();
  read_programs(host);
  read_container(host);
  read_kernel(host);
  read_cgroups(host);
  read_firewall(host);
  read_names(host);
  read_space(host);
  read_service(host, global);
  read_id_maps(host);
  read_rootless(host);
  read_policy(host);
  host.has_criu = has_program("criu");
  host.has_mmdebstrap = has_program("mmdebstrap");
  return host;
}

}  // namespace caisson::cli
