// caissond: puts the engine together and serves it until SIGTERM or SIGINT. Containers go on running without it.
#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <thread>

#include "api/api.hpp"
#include "app/confine.hpp"
#include "app/daemon_options.hpp"
#include "app/rootless.hpp"
#include "base/environment.hpp"
#include "base/log.hpp"
#include "base/strings.hpp"
#include "build/builder.hpp"
#include "engine/id_ranges.hpp"
#include "engine/local.hpp"
#include "image/image_store.hpp"
#include "image/registries.hpp"
#include "linux/capabilities.hpp"
#include "linux/child_clone.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/process.hpp"
#include "linux/service_manager.hpp"
#include "linux/socket.hpp"
#include "linux/stream_socket.hpp"
#include "linux/tree.hpp"
#include "network/network.hpp"
#include "runtime/oci_runtime.hpp"
#include "state/store.hpp"
#include "wire/http_server.hpp"

namespace caisson::app {

namespace {
constexpr mode_t socket_mode = 0660;
constexpr std::uint32_t first_worker_id = 0x70000000;        // range 0 of the containers' ranges (engine/id_ranges.hpp)
constexpr std::uint32_t fetch_id = first_worker_id + 65534;  // "nobody" of that range, of which no file is ever made
constexpr std::uint32_t least_ids = 65535;                   // images use 0 to 65534 (nobody); 65535 is no id in 16 bits
constexpr std::uint32_t nobody = 65534;                      // of the one range that an engine without root has

Surroundings read_surroundings() {
  Surroundings surroundings;
  // Inside its namespaces an ordinary user's engine is root, and still an ordinary user's: it says the same of itself as its supervisor.
  surroundings.is_root = linux::geteuid() == 0 && !HostSide::is_there();
  surroundings.home = environment_text("HOME");
  surroundings.runtime_dir = environment_text("XDG_RUNTIME_DIR");
  surroundings.data_home = environment_text("XDG_DATA_HOME");
  surroundings.config_home = environment_text("XDG_CONFIG_HOME");
  auto self = linux::readlinkat(AT_FDCWD, "/proc/self/exe");
  if (self.ok()) surroundings.own_folder = split_last(*self, '/').before;
  return surroundings;
}

/// The group's number from /etc/group; no getgrnam, which would bring NSS into a static binary.
Result<std::optional<gid_t>> find_group(const std::string& name, bool is_required) {
  if (auto number = parse_integer<gid_t>(name); number.ok()) return std::optional<gid_t>(*number);
  auto text = linux::read_file("/etc/group");
  if (text.ok()) {
    for (auto line : split(*text, '\n')) {
      auto columns = split(line, ':');
      if (columns.size() < 3 || columns[0] != name) continue;
      return std::optional<gid_t>(TRY(parse_integer<gid_t>(columns[2]), concat("/etc/group: ", name)));
    }
  }
  if (is_required)
    return Error(ErrorKind::not_found, concat("group ", name, ": not in /etc/group"))
        .with_hint(concat("make it with: groupadd ", name));
  return std::optional<gid_t>();
}

bool is_loopback(std::string_view address) {
  return address.starts_with("127.") || address.starts_with("[::1]:") || address.starts_with("localhost:");
}

/// A certificate of the CA is what makes a client somebody; without one, only this host may come, unless the administrator says so.
Status check_tcp_exposure(const std::string& host, const std::string& address, const DaemonOptions& options) {
  if (is_loopback(address) || options.use_tls || options.allow_plain_tcp) return {};
  return Error(ErrorKind::denied, concat(host, ": TCP without TLS is served on loopback only"))
      .with_hint(
          "use --tlsverify with --tlscacert, --tlscert and --tlskey, reach the unix socket through ssh, or say --allow-plain-tcp if "
          "the network is trusted");
}

/// `outside`: of an engine without root, whose own network namespace is not where clients come.
Result<UniqueFd> listen_on_address(const std::string& address, HostSide* outside) {
  if (outside == nullptr) return wire::listen_tcp(address);
  const auto endpoint = TRY(linux::parse_ip_endpoint(address), "listen");
  auto socket = TRY_PLAIN(outside->bind_port(network::Protocol::tcp, TRY_PLAIN(linux::SocketAddress::parse(endpoint.address, endpoint.port))));
  TRY(linux::listen(socket.get()), "listen");
  return socket;
}

Status listen_on_tcp(wire::Server& server, const std::string& host, const DaemonOptions& options, HostSide* outside) {
  std::string address = host.substr(std::string_view("tcp://").size());
  TRY_PLAIN(check_tcp_exposure(host, address, options));
  if (address.starts_with("localhost:")) address.replace(0, std::string_view("localhost").size(), "127.0.0.1");
  if (!options.use_tls) return server.add_listener(TRY(listen_on_address(address, outside), host));
  auto context = TRY(wire::TlsContext::create_server(options.tls), host);
  return server.add_tls_listener(TRY(listen_on_address(address, outside), host), std::move(context));
}

/// "unix:///run/caisson.sock", "/run/caisson.sock" → the path; "" for anything else.
std::string unix_path(std::string_view host) {
  constexpr std::string_view scheme = "unix://";
  if (host.starts_with(scheme)) host.remove_prefix(scheme.size());
  return std::string(host.starts_with('/') ? host : "");
}

Status listen_on(wire::Server& server, const std::string& host, const DaemonOptions& options, HostSide* outside) {
  if (const std::string path = unix_path(host); !path.empty()) {
    auto group = TRY_PLAIN(find_group(options.group, options.group_is_given));
    return server.add_listener(TRY_PLAIN(wire::listen_unix(path, socket_mode, options.rootless ? std::nullopt : group)));
  }
  if (host.starts_with("tcp://")) return listen_on_tcp(server, host, options, outside);
  return Error(ErrorKind::invalid, concat(host, ": want unix:///PATH or tcp://ADDRESS:PORT"));
}

/// The roles' file into the settings. A file that cannot be read or understood is an error: without it, people would have more rights, or fewer.
Status load_roles(DaemonOptions& options) {
  auto text = linux::read_file(options.roles_path);
  if (!text.ok() && (options.roles_is_given || text.error().kind() != ErrorKind::not_found))
    return std::move(text).error().in(concat("roles ", options.roles_path));
  if (!text.ok()) {
    options.settings.policy = std::make_shared<const policy::Policy>(linux::geteuid(), options.tcp_role);
    return {};
  }
  const policy::Accounts accounts{linux::read_file("/etc/passwd").value_or(""), linux::read_file("/etc/group").value_or("")};
  auto policy = TRY_PLAIN(policy::Policy::parse(*text, options.roles_path, accounts, linux::geteuid(), options.tcp_role));
  for (const auto& warning : policy.warnings()) log(LogLevel::warning, "roles", options.roles_path, warning);
  options.settings.policy = std::make_shared<const policy::Policy>(std::move(policy));
  return {};
}

Status make_folders(const DaemonOptions& options) {
  // 0700: files of containers lie below with ids and modes of their own (a setuid file would be root's).
  TRY(linux::make_dirs(options.root, 0700), concat("folder ", options.root));
  TRY(linux::make_dirs(options.exec_root, 0711), concat("folder ", options.exec_root));
  return {};
}

/// A process with few threads that allocate little: more arenas would only keep freed memory.
void limit_allocator() {
  mallopt(M_ARENA_MAX, 2);
  mallopt(M_TRIM_THRESHOLD, 64 << 10);
  mallopt(M_MMAP_THRESHOLD, 64 << 10);
}

/// Every container costs some descriptors; the usual soft limit of 1024 is for programs that use select(2).
void raise_descriptor_limit() {
  auto limit = linux::get_limit(0, RLIMIT_NOFILE);
  if (!limit.ok()) return;
  limit->soft = limit->hard;
  ignore(linux::set_limit(0, RLIMIT_NOFILE, *limit));  // without it fewer containers fit, and those that do not say so
}

void notify_service_manager(const std::string& address, std::string_view state) {
  if (address.empty()) return;
  auto socket = linux::connect_service_manager(address);
  auto sent = socket.ok() ? linux::send(socket->get(), state) : Result<std::size_t>(std::move(socket).error());
  if (!sent.ok()) log_error("notify", "service manager", sent.error());
}

/// In bytes; 0: none.
Result<std::uint64_t> store_quota(const DaemonOptions& options) {
  if (options.store_quota_percent == 0) return options.store_quota_bytes;
  const auto status = TRY_PLAIN(linux::statfs(options.root));
  return static_cast<std::uint64_t>(status.f_blocks) / 100 * options.store_quota_percent * static_cast<std::uint64_t>(status.f_bsize);
}

/// The engine owns store and images; the builder works on them beside it, and goes first.
struct Assembled {
  std::shared_ptr<HostSide> host;  ///< of an engine without root
  std::unique_ptr<engine::Engine> engine;
  std::unique_ptr<build::Builder> builder;
};

/// A new network namespace begins without it.
Status bring_up_loopback(network::NetworkManager& network) {
  auto own = TRY_PLAIN(linux::open_namespace(0, "net"));
  return network.bring_up_loopback(own.get());
}

/// Without root: scopes of the user's systemd where it has cgroup v2 for us, else a delegated folder that was named, else none. In a container: what it lets
/// us write.
Status choose_cgroups(const DaemonOptions& options, engine::LocalOptions& local) {
  bool by_systemd = options.cgroup_driver == linux::CgroupDriver::systemd;
  const auto layout = TRY(linux::detect_cgroup_layout(), "cgroups");
  if (options.rootless && !options.cgroup_is_given && layout.mode == linux::CgroupMode::unified)
    by_systemd = linux::exists(environment_text("XDG_RUNTIME_DIR") + "/systemd/private").value_or(false);
  if (by_systemd) {
    local.systemd = TRY_PLAIN(linux::own_systemd_manager());
    return {};
  }
  local.has_cgroups = linux::may_make_cgroup(layout, options.cgroup_parent);
  if (!local.has_cgroups) {
    log(LogLevel::warning, "cgroups", options.cgroup_parent, options.rootless
        ? "none are delegated to this user: containers cannot be limited, paused or measured (see `caisson doctor`)"
        : "cannot be made here: containers cannot be limited, paused or measured (see `caisson doctor`)");
    return {};
  }
  // Of a place relative to our own cgroup its owner has decided.
  if (auto left = options.cgroup_parent.starts_with('/') ? linux::leave_cgroup_root(layout) : Status{}; !left.ok())
    log(LogLevel::warning, "cgroups", "/", concat("containers get no limits: ", left.error().text()));
  return {};
}

/// How many ids from 0 on a user namespace has that is not the host's.
Result<std::uint32_t> ids_of_own_namespace() {
  std::uint32_t least = engine::IdRanges::size;
  for (const char* file : {"/proc/self/uid_map", "/proc/self/gid_map"}) {
    const auto map = TRY_PLAIN(linux::parse_id_map(TRY_PLAIN(linux::read_kernel_file(file))));
    least = std::min(least, linux::ids_from_zero(map));
  }
  if (least >= least_ids) return least;
  return Error(ErrorKind::unavailable, concat("the user namespace of this engine has the ids 0 to ", static_cast<std::int64_t>(least) - 1, " only, and images use those up to ", least_ids - 1))
      .with_hint("give the container around it, or this user, more ids");
}

/// Root that may not do what every start of a container takes: better said once and now.
Status check_rights(const DaemonOptions& options) {
  const auto held = TRY_PLAIN(linux::capget()).effective;
  static constexpr std::string_view needed[] = {"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"};  // the last to look into namespaces
  std::string missing, mend;
  for (const auto name : needed) {
    if (held.contains(TRY_PLAIN(linux::capability_by_name(concat("CAP_", name)))) || (name == "NET_ADMIN" && !options.network.enabled)) continue;
    missing += concat(missing.empty() ? "" : ", ", "CAP_", name);
    mend += concat(" --cap-add ", name);
  }
  if (missing.empty()) return {};
  return Error(ErrorKind::denied, concat("root lacks ", missing, " here, without which no container can be given namespaces, mounts and a network"))
      .with_hint(concat("this seems to be a container: start it with --security-opt nesting", mend, ", or run caissond in it as an ordinary user (docs/how-to/engine-in-a-container.md)"));
}

Result<Assembled> assemble(const DaemonOptions& options, std::shared_ptr<runtime::LauncherStarter> starter, Cancel ending) {
  const bool lacks_host = options.rootless || !linux::in_initial_user_namespace();  // root in a container's user namespace has no more than an ordinary user in his
  const std::uint32_t worker_id = lacks_host ? 0 : first_worker_id;  // workers of one without root have its own range
  std::shared_ptr<HostSide> host;
  if (options.rootless) host = TRY(HostSide::open(), "rootless");
  engine::LocalParts parts;
  auto opened = TRY(state::open_sqlite_store({.path = options.root + "/state.db"}), "open the state");
  parts.store = std::move(opened.store);
  parts.repairs = std::move(opened.repairs);
  image::ImageOptions images;
  images.root = options.root;
  images.worker_path = options.worker_path;
  images.worker_first_id = worker_id;
  images.snapshot_form = options.snapshot_form;
  // Only the host's root may mount a file as EROFS.
  if (lacks_host && images.snapshot_form == image::SnapshotForm::automatic) images.snapshot_form = image::SnapshotForm::directory;
  images.quota_bytes = TRY(store_quota(options), "--store-quota");
  image::FetchOptions fetch;
  fetch.host_id = lacks_host ? nobody : fetch_id;
  if (host) fetch.start_elsewhere = [host] { return host->start_fetch(); };
  parts.registries = std::make_unique<image::Registries>(options.registry, std::move(fetch));
  images.registries = parts.registries.get();
  images.trust.policy = {options.signature_policy, trust::usual_policy_places(options.home)};
  images.trust.lookaside_folder = options.signature_places;
  parts.images = TRY(image::open_image_store(*parts.store, images), "open the images");
  auto network_options = options.network;
  if (host) {
    network_options.bind_on_host = [host](network::Protocol protocol, const linux::SocketAddress& address) {
      return host->bind_port(protocol, address);
    };
    network_options.is_free_on_host = [host](const linux::Ipv4Prefix& subnet) { return host->is_subnet_free(subnet); };
  }
  parts.network = TRY(network::create_network_manager(*parts.store, network_options), "set up networks");
  if (host) TRY(bring_up_loopback(*parts.network), "set up networks");
  parts.make_runtime = [starter = std::move(starter)](runtime::RuntimeObserver& observer) {
    return runtime::create_oci_runtime({.starter = starter}, observer);
  };
  engine::LocalOptions local;
  local.root = options.root;
  local.exec_root = options.exec_root;
  local.cgroup_parent = options.cgroup_parent;
  TRY_PLAIN(choose_cgroups(options, local));
  local.rootless = lacks_host;
  if (lacks_host) local.shared_ids = TRY_PLAIN(ids_of_own_namespace());
  local.loads_apparmor = local.hears_refusals = !lacks_host;
  local.missing_limits = options.missing_limits;
  if (host) local.is_of_host = [host](pid_t pid) { return host->is_of_host(pid); };
  local.settings = options.settings;
  for (const auto& host : options.hosts)
    if (auto path = unix_path(host); !path.empty()) local.sockets.push_back(path);
  local.audit_log = options.audit_log.value_or(options.root + "/audit.log");
  if (!options.cdi_spec_dirs.empty()) local.cdi_spec_dirs = options.cdi_spec_dirs;
  local.start_pool = options.start_pool;
  local.ending = ending;
  local.worker = {options.worker_path, worker_id};
  auto& store = *parts.store;
  auto& image_store = *parts.images;
  build::BuilderOptions builder;
  builder.root = options.root;
  builder.exec_root = options.exec_root;
  builder.worker = {options.worker_path, worker_id};
  builder.cache_limit_bytes = options.build_cache_bytes;
  Assembled out;
  out.host = std::move(host);
  out.engine = TRY_PLAIN(engine::open_local_engine(std::move(local), std::move(parts)));
  out.builder = TRY_PLAIN(build::open_builder(std::move(builder), *out.engine, image_store, store));
  return out;
}

class PidFile {
 public:
  static Result<PidFile> create(const std::string& path, int pid) {
    if (!path.empty()) TRY(linux::write_file_atomic(path, concat(pid, "\n"), 0644, linux::Durability::none), concat("pid file ", path));
    return PidFile(path);
  }
  PidFile(PidFile&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  PidFile& operator=(PidFile&&) = delete;
  PidFile(const PidFile&) = delete;
  PidFile& operator=(const PidFile&) = delete;
  ~PidFile() {
    if (!path_.empty()) ignore(linux::unlink(path_));  // a stale one is harmless: the state's lock decides
  }

 private:
  explicit PidFile(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

/// SIGHUP: the configuration is read again. What is wrong is said and changes nothing.
void reload(engine::Engine& engine, DaemonOptions& options, const std::vector<std::string>& arguments) {
  auto parsed = parse_arguments(arguments, read_surroundings());
  if (!parsed.ok()) return log_error("reload", "configuration", parsed.error());
  auto& wanted = parsed->options;
  auto roles = load_roles(wanted);
  if (!roles.ok()) return log_error("reload", "roles", roles.error());
  engine::Caller daemon = engine::engine_itself();
  daemon.source = "signal";
  daemon.who = "signal";
  auto outcome = engine.reload(daemon, wanted.settings);
  if (!outcome.ok()) return log_error("reload", "configuration", outcome.error());
  configure_log(wanted.log);
  options.settings = wanted.settings;
  options.log = wanted.log;
  log(LogLevel::info, "reload", "configuration", "log and container defaults, labels and debug are in force");
  for (const auto& flag : differences_that_need_a_restart(options, wanted))
    log(LogLevel::warning, "reload", flag,
        "has changed, which a restart of the daemon takes into force; containers go on running through it");
}

Status serve(DaemonOptions options, const std::vector<std::string>& arguments) {
  // Blocked before the first thread exists, so that they arrive at the signalfd only.
  linux::SignalSet endings{SIGTERM, SIGINT, SIGHUP};
  TRY(linux::signal_mask(SIG_BLOCK, endings), "signals");
  auto signals = TRY(linux::signalfd(endings), "signals");
  TRY(linux::ignore_signal(SIGPIPE), "signals");
  std::string notify_socket = environment_text("NOTIFY_SOCKET");
  auto inherited = TRY(wire::inherited_listeners(linux::getpid()), "sockets of the service manager");

  TRY_PLAIN(check_rights(options));
  // Containers may be given more than the daemon needs: who starts them keeps it.
  auto starter = TRY_PLAIN(runtime::LauncherStarter::start(options.runtime_path));
  TRY(confine_daemon(), "give up rights");

  TRY_PLAIN(make_folders(options));
  TRY_PLAIN(load_roles(options));
  auto end_of_serving = TRY(linux::eventfd(), "serve");
  auto assembled = TRY_PLAIN(assemble(options, starter, Cancel{end_of_serving.get()}));
  auto pid_file = TRY_PLAIN(PidFile::create(options.pidfile, options.rootless ? linux::getppid() : linux::getpid()));  // a supervisor is what was started

  api::ApiOptions api_options;
  api_options.unix_source = options.hosts.front();
  auto server = wire::create_server(api::create_api(*assembled.engine, *assembled.builder, api_options), wire::ServerOptions{});
  bool has_inherited = !inherited.empty();
  for (auto& listener : inherited) TRY(server->add_listener(std::move(listener)), "listen");
  if (!has_inherited)
    for (const auto& host : options.hosts) TRY(listen_on(*server, host, options, assembled.host.get()), "listen");

  Status served;
  Status ending;
  std::thread serving([&] { served = server->run(); });
  malloc_trim(0);  // opening and recovering needed more than serving does
  linux::release_program_text();
  log(LogLevel::info, "serve", join(options.hosts, " "), concat("caissond ", CAISSON_VERSION, " is ready"));
  notify_service_manager(notify_socket, "READY=1");
  for (;;) {
    std::array<linux::PollEntry, 2> entries{linux::PollEntry{signals.get(), POLLIN, 0}, linux::PollEntry{starter->pidfd(), POLLIN, 0}};
    auto ready = linux::poll(entries, -1);
    if (ready.ok() && entries[1].revents != 0) {
      ending = Error(ErrorKind::unavailable,
                     "the process that starts launchers has been killed, and this one has no right to start another")
                   .with_hint("start the daemon again; containers go on running");
      break;
    }
    auto event =
        ready.ok() ? linux::signalfd_take(signals.get()) : Result<std::optional<linux::SignalEvent>>(std::move(ready).error());
    if (!event.ok()) {
      log_error("serve", "", event.error());
      break;
    }
    if (*event && (*event)->signal != SIGHUP) break;
    if (!*event) continue;
    notify_service_manager(notify_socket, "RELOADING=1");
    reload(*assembled.engine, options, arguments);
    notify_service_manager(notify_socket, "READY=1");
  }
  log(LogLevel::info, "serve", "", "ending; containers go on running");
  notify_service_manager(notify_socket, "STOPPING=1");
  constexpr int grace_ms = 2000;  // attached clients and followers would hold on for ever
  ignore(linux::eventfd_signal(end_of_serving.get()));  // fails only for a bad descriptor
  server->stop(grace_ms);
  serving.join();
  return ending.ok() ? std::move(served) : std::move(ending);
}

int report(const Error& error) {
  std::string text = concat("caissond: ", error.text(), "\n");
  if (!error.hint().empty()) text += concat("hint: ", error.hint(), "\n");
  std::fputs(text.c_str(), stderr);
  return 1;
}

int run(const std::vector<std::string>& arguments) {
  auto surroundings = read_surroundings();
  auto parsed = parse_arguments(arguments, surroundings);
  if (!parsed.ok()) return report(parsed.error());
  if (parsed->wish == Wish::show_help) {
    std::fputs(help_text().c_str(), stdout);
    return 0;
  }
  if (parsed->wish == Wish::show_version) {
    std::puts("caissond version " CAISSON_VERSION);
    return 0;
  }
  configure_log(parsed->options.log);
  if (parsed->options.rootless && !HostSide::is_there()) return supervise(parsed->options, arguments);
  if (parsed->options.rootless) ignore(linux::set_thread_name("caissond"));  // its supervisor executed it by /proc/self/exe
  limit_allocator();
  raise_descriptor_limit();
  linux::umask(022);  // folders of containers get exact modes; a stricter mask would lock their users out of "/"
  auto served = serve(parsed->options, arguments);
  return served.ok() ? 0 : report(served.error());
}
}  // namespace

}  // namespace caisson::app

int main(int argc, char** argv) { return caisson::app::run(std::vector<std::string>(argv + 1, argv + argc)); }
