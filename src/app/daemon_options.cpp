// One table names every setting, so that a flag and its key in the file cannot drift apart.
#include "app/daemon_options.hpp"

#include <algorithm>
#include <functional>

#include "base/strings.hpp"
#include "base/toml.hpp"
#include "engine/log_drivers.hpp"
#include "linux/file.hpp"

namespace caisson::app {

namespace {
constexpr const char* default_config_path = "/etc/caisson/caisson.toml";

struct Setting {
  std::string_view flag;       ///< "--root"
  std::string_view key;        ///< "network.bridge" in caisson.toml; "": flag only
  std::string_view argument;   ///< shown in the help
  std::string_view help;
  Status (*apply)(DaemonOptions&, const std::string&);
};

Status set_level(DaemonOptions& options, const std::string& value) {
  static constexpr std::pair<std::string_view, LogLevel> levels[] = {
      {"debug", LogLevel::debug}, {"info", LogLevel::info}, {"warning", LogLevel::warning}, {"warn", LogLevel::warning}, {"error", LogLevel::error}};
  for (const auto& [name, level] : levels) {
    if (name != value) continue;
    options.log.level = level;
    return {};
  }
  return Error(ErrorKind::invalid, concat("\"", value, "\" is no log level")).with_hint("use debug, info, warning or error");
}

Status set_format(DaemonOptions& options, const std::string& value) {
  if (value != "text" && value != "json") return Error(ErrorKind::invalid, concat("\"", value, "\" is no log format")).with_hint("use text or json");
  options.log.as_json = value == "json";
  return {};
}

Status set_role(DaemonOptions& options, const std::string& value) {
  options.tcp_role = policy::built_in(value);
  if (!options.tcp_role) return Error(ErrorKind::invalid, concat("\"", value, "\" is no role")).with_hint("use none, viewer, operator, user or admin");
  return {};
}

Status set_roles(DaemonOptions& options, const std::string& value) {
  options.roles_path = value;
  options.roles_is_given = true;
  return {};
}

Status set_audit_log(DaemonOptions& options, const std::string& value) {
  options.audit_log = value == "none" ? "" : value;
  return {};
}

Status set_snapshot_form(DaemonOptions& options, const std::string& value) {
  if (value == "auto") options.snapshot_form = image::SnapshotForm::automatic;
  else if (value == "directory") options.snapshot_form = image::SnapshotForm::directory;
  else if (value == "erofs") options.snapshot_form = image::SnapshotForm::erofs;
  else return Error(ErrorKind::invalid, concat("\"", value, "\" is no form of layers")).with_hint("use auto, directory or erofs");
  return {};
}

Status set_store_quota(DaemonOptions& options, const std::string& value) {
  options.store_quota_bytes = 0;
  options.store_quota_percent = 0;
  if (value.ends_with('%')) {
    options.store_quota_percent = TRY_PLAIN(parse_integer<std::uint32_t>(std::string_view(value).substr(0, value.size() - 1)));
    if (options.store_quota_percent < 1 || options.store_quota_percent > 100) return Error(ErrorKind::invalid, "must be 1% to 100%");
    return {};
  }
  options.store_quota_bytes = static_cast<std::uint64_t>(TRY_PLAIN(parse_size_bytes(value)));
  return {};
}

Status set_build_cache(DaemonOptions& options, const std::string& value) {
  options.build_cache_bytes = static_cast<std::uint64_t>(TRY_PLAIN(parse_size_bytes(value)));
  return {};
}

Status set_group(DaemonOptions& options, const std::string& value) {
  options.group = value;
  options.group_is_given = true;
  return {};
}

Status set_network_enabled(DaemonOptions& options, const std::string& value) {
  if (value != "true" && value != "false") return Error(ErrorKind::invalid, concat("\"", value, "\" is neither true nor false"));
  options.network.enabled = value == "true";
  return {};
}

Status set_mtu(DaemonOptions& options, const std::string& value) {
  constexpr std::uint32_t smallest_mtu = 68;  // RFC 791
  constexpr std::uint32_t largest_mtu = 65535;
  options.network.mtu = TRY_PLAIN(parse_integer<std::uint32_t>(value));
  if (options.network.mtu != 0 && (options.network.mtu < smallest_mtu || options.network.mtu > largest_mtu))
    return Error(ErrorKind::invalid, "must be 68 to 65535, or 0 for the host's");
  return {};
}

Status set_subnet(DaemonOptions& options, const std::string& value) {
  // "A.B.C.D/N"; the network module checks the numbers, but a daemon that cannot use what it was told must not start.
  auto halves = split_once(value, '/');
  auto parts = split(halves.before, '.');
  bool good = halves.found && parts.size() == 4;
  for (auto part : parts) {
    auto number = parse_integer<std::uint32_t>(part);
    good = good && number.ok() && *number <= 255;
  }
  auto bits = parse_integer<std::uint32_t>(halves.after);
  good = good && bits.ok() && *bits >= 8 && *bits <= 30;
  if (!good) return Error(ErrorKind::invalid, concat("\"", value, "\" is no IPv4 subnet")).with_hint("write it as 10.88.0.0/16");
  options.network.subnet = value;
  return {};
}

Status set_pids_limit(DaemonOptions& options, const std::string& value) {
  auto limit = TRY_PLAIN(parse_integer<std::int64_t>(value));
  if (limit > 0) options.settings.default_pids_limit = limit;
  else options.settings.default_pids_limit.reset();
  return {};
}

Status set_start_pool(DaemonOptions& options, const std::string& value) {
  constexpr std::uint32_t most = 64;  // each holds a range of ids and an address
  options.start_pool = TRY_PLAIN(parse_integer<std::uint32_t>(value));
  if (options.start_pool > most) return Error(ErrorKind::invalid, concat("must be 0 to ", most));
  return {};
}

Status set_rootless_network(DaemonOptions& options, const std::string& value) {
  static constexpr std::pair<std::string_view, RootlessNetwork> names[] = {
      {"auto", RootlessNetwork::automatic}, {"pasta", RootlessNetwork::pasta}, {"slirp4netns", RootlessNetwork::slirp4netns}, {"none", RootlessNetwork::none}};
  for (const auto& [name, network] : names) {
    if (name != value) continue;
    options.rootless_network = network;
    return {};
  }
  return Error(ErrorKind::invalid, concat("\"", value, "\" is not auto, pasta, slirp4netns or none"));
}

Status set_missing_limits(DaemonOptions& options, const std::string& value) {
  if (value != "warn" && value != "refuse") return Error(ErrorKind::invalid, concat("\"", value, "\" is not warn or refuse"));
  options.missing_limits = value == "refuse" ? engine::MissingLimits::refuse : engine::MissingLimits::warn;
  return {};
}

/// "key=value", as docker's --log-opt has it.
Status set_log_option(DaemonOptions& options, const std::string& value) {
  auto halves = split_once(value, '=');
  if (!halves.found || halves.before.empty()) return Error(ErrorKind::invalid, concat("\"", value, "\": want KEY=VALUE"));
  options.settings.log_options[std::string(halves.before)] = halves.after;
  return {};
}

Status set_bool(bool& out, const std::string& value) {
  if (value != "true" && value != "false") return Error(ErrorKind::invalid, concat("\"", value, "\" is neither true nor false"));
  out = value == "true";
  return {};
}

Status set_debug(DaemonOptions& options, const std::string& value) {
  TRY_PLAIN(set_bool(options.settings.debug, value));
  if (options.settings.debug) options.log.level = LogLevel::debug;
  return {};
}

Status set_tls(DaemonOptions& options, const std::string& value) {
  TRY_PLAIN(set_bool(options.use_tls, value));
  return {};
}

Status set_tls_verify(DaemonOptions& options, const std::string& value) {
  TRY_PLAIN(set_bool(options.tls.verify, value));
  if (options.tls.verify) options.use_tls = true;
  return {};
}

Status add_mirror(DaemonOptions& options, const std::string& value) {
  TRY_PLAIN(image::check_mirror(value));
  options.registry.mirrors.push_back(value);
  return {};
}

Status add_insecure(DaemonOptions& options, const std::string& value) {
  TRY_PLAIN(image::check_insecure(value));
  options.registry.insecure.push_back(value);
  return {};
}

Status set_downloads(DaemonOptions& options, const std::string& value) {
  constexpr std::uint32_t most = 32;
  options.registry.concurrent_downloads = TRY_PLAIN(parse_integer<std::uint32_t>(value));
  if (options.registry.concurrent_downloads < 1 || options.registry.concurrent_downloads > most) return Error(ErrorKind::invalid, concat("must be 1 to ", most));
  return {};
}

Status set_attempts(DaemonOptions& options, const std::string& value) {
  constexpr std::uint32_t most = 100;
  options.registry.patience.attempts = TRY_PLAIN(parse_integer<std::uint32_t>(value));
  if (options.registry.patience.attempts < 1 || options.registry.patience.attempts > most) return Error(ErrorKind::invalid, concat("must be 1 to ", most));
  return {};
}

Status set_stall_timeout(DaemonOptions& options, const std::string& value) {
  constexpr std::uint32_t most_s = 3600;
  auto seconds = TRY_PLAIN(parse_integer<std::uint32_t>(value));
  if (seconds < 1 || seconds > most_s) return Error(ErrorKind::invalid, concat("must be 1 to ", most_s, " seconds"));
  options.registry.patience.stall_timeout_ms = seconds * 1000;
  return {};
}

#define CAISSON_TEXT(FIELD)                                  \
  [](DaemonOptions& options, const std::string& value) -> Status { \
    options.FIELD = value;                                   \
    return {};                                               \
  }

const Setting settings[] = {
    {"--root", "root", "DIR", "state: images, containers, volumes (default /var/lib/caisson)", CAISSON_TEXT(root)},
    {"--exec-root", "exec-root", "DIR", "what lasts until the next boot: sockets, exit codes (default /run/caisson)", CAISSON_TEXT(exec_root)},
    {"--host", "hosts", "URL", "where to listen; repeatable; unix:///PATH or tcp://127.0.0.1:PORT (default unix:///run/caisson.sock)",
     [](DaemonOptions& options, const std::string& value) -> Status {
       options.hosts.push_back(value);
       return {};
     }},
    {"--group", "group", "NAME", "group that may open the unix socket: with the role user, unless --roles says otherwise (default caisson, where it exists)", set_group},
    {"--roles", "roles", "FILE", "who may do what, in TOML; read again on SIGHUP (default /etc/caisson/roles.toml, which may be missing)", set_roles},
    {"--audit-log", "audit-log", "FILE", "a line of JSON for every change that somebody asks for, allowed or denied; none: no log (default audit.log below --root)", set_audit_log},
    {"--tcp-role", "tcp-role", "ROLE", "what callers over TCP without a certificate may do, where --roles says nothing of them: none, viewer, operator, user, admin (default viewer)", set_role},
    {"--pidfile", "pidfile", "FILE", "write the daemon's pid there", CAISSON_TEXT(pidfile)},
    {"--runtime", "runtime", "FILE", "caisson-runtime (default beside caissond, else /usr/lib/caisson)", CAISSON_TEXT(runtime_path)},
    {"--worker", "worker", "FILE", "caisson-worker (default beside caissond, else /usr/lib/caisson)", CAISSON_TEXT(worker_path)},
    {"--fetch", "fetch", "FILE", "caisson-fetch (default beside caissond, else /usr/lib/caisson)", CAISSON_TEXT(registry.fetch_path)},
    {"--signature-policy", "trust.policy", "FILE", "which signatures images need, as containers-policy.json(5) says it (default /etc/caisson/policy.json, else containers' own places)",
     CAISSON_TEXT(signature_policy)},
    {"--signature-places", "trust.places", "DIR", "where OpenPGP signatures lie, as containers-registries.d(5) says it (default /etc/containers/registries.d)", CAISSON_TEXT(signature_places)},
    {"--registry-mirror", "registry.mirrors", "URL", "asked before Docker Hub; repeatable, in order", add_mirror},
    {"--insecure-registry", "registry.insecure", "HOST", "a registry without a known certificate or without TLS, or an IPv4 network of such; repeatable (127.0.0.0/8 always is)", add_insecure},
    {"--registry-hosts", "registry.hosts-dir", "DIR", "certificates and mirrors per registry in containerd's layout: HOST/hosts.toml, HOST/*.crt (default /etc/caisson/certs.d)",
     CAISSON_TEXT(registry.hosts_dir)},
    {"--max-concurrent-downloads", "registry.concurrent-downloads", "N", "layers of one pull that are fetched at the same time (default 3)", set_downloads},
    {"--registry-attempts", "registry.attempts", "N", "attempts in a row without progress before a registry is given up (default 5)", set_attempts},
    {"--registry-stall-timeout", "registry.stall-timeout", "SECONDS", "a connection on which nothing comes for so long is given up (default 30)", set_stall_timeout},
    {"--snapshot-form", "snapshot-form", "FORM", "how layers to come are kept: directory, erofs (the tar and an index of it, Linux 6.12) or auto: erofs where it can be mounted (default auto)", set_snapshot_form},
    {"--store-quota", "store-quota", "SIZE", "what images, layers and downloads may take on the disk together: 50GB, or 40% of the file system; 0: no bound (default 0)", set_store_quota},
    {"--build-cache", "build-cache", "SIZE", "what steps and cache mounts of builds may take together; what was used longest ago goes first (default 20GB)", set_build_cache},
    {"--cgroup-parent", "cgroup-parent", "PATH", "cgroup of all containers; relative: below the daemon's own (default /caisson)",
     [](DaemonOptions& options, const std::string& value) -> Status {
       options.cgroup_parent = value;
       options.cgroup_is_given = true;
       return {};
     }},
    {"--cgroup-driver", "cgroup-driver", "NAME", "who makes containers' cgroups: cgroupfs (the daemon) or systemd (as scopes; default cgroupfs)",
     [](DaemonOptions& options, const std::string& value) -> Status {
       if (value != "cgroupfs" && value != "systemd") return Error(ErrorKind::invalid, concat("\"", value, "\" is not cgroupfs or systemd"));
       options.cgroup_driver = value == "systemd" ? linux::CgroupDriver::systemd : linux::CgroupDriver::cgroupfs;
       options.cgroup_is_given = true;
       return {};
     }},
    {"--bridge", "network.bridge", "NAME", "bridge interface of the default network (default caisson0)", CAISSON_TEXT(network.bridge_interface)},
    {"--subnet", "network.subnet", "CIDR", "its addresses (default: a free one)", set_subnet},
    {"--bip", "", "CIDR", "the same, for those who know it from dockerd", set_subnet},
    {"--nft-table", "network.nft-table", "NAME", "nftables table of published ports (default caisson)", CAISSON_TEXT(network.nft_table)},
    {"--mtu", "network.mtu", "BYTES", "of the bridge; 0: as the host's default route", set_mtu},
    {"--network", "network.enabled", "BOOL", "false: no bridge, containers have no network of their own beyond lo", set_network_enabled},
    {"--published-sources", "network.published-sources", "CIDR", "who may reach published ports from outside; repeatable (default everybody)",
     [](DaemonOptions& options, const std::string& value) -> Status {
       options.network.published.allowed_sources.push_back(value);
       return {};
     }},
    {"--published-interfaces", "network.published-interfaces", "NAME", "through which interfaces of the host, likewise; either suffices",
     [](DaemonOptions& options, const std::string& value) -> Status {
       options.network.published.allowed_interfaces.push_back(value);
       return {};
     }},
    {"--log-max-size", "logs.max-size", "SIZE", "a container's log file is rotated at that size (default 10m)",
     [](DaemonOptions& options, const std::string& value) { return set_log_option(options, concat("max-size=", value)); }},
    {"--log-max-file", "logs.max-file", "N", "log files kept per container (default 3)",
     [](DaemonOptions& options, const std::string& value) { return set_log_option(options, concat("max-file=", value)); }},
    {"--log-driver", "logs.driver", "NAME", "log driver of containers that ask for none: json-file, local, syslog, journald, none (default json-file)", CAISSON_TEXT(settings.log_driver)},
    {"--log-opt", "logs.options", "KEY=VALUE", "option of that driver; repeatable", set_log_option},
    {"--label", "labels", "KEY=VALUE", "label of this host, shown by `info`; repeatable",
     [](DaemonOptions& options, const std::string& value) -> Status {
       options.settings.labels.push_back(value);
       return {};
     }},
    {"--tls", "tls.enabled", "BOOL", "TCP speaks TLS; clients need no certificate (default false)", set_tls},
    {"--tlsverify", "tls.verify", "BOOL", "TCP speaks TLS, and a client with a certificate of the CA is admin, unless --roles says otherwise (default false)", set_tls_verify},
    {"--tlscacert", "tls.ca", "FILE", "CA that signs clients (default /etc/caisson/tls/ca.pem)", CAISSON_TEXT(tls.ca)},
    {"--tlscert", "tls.certificate", "FILE", "the daemon's certificate (default /etc/caisson/tls/cert.pem)", CAISSON_TEXT(tls.certificate)},
    {"--tlskey", "tls.key", "FILE", "its key (default /etc/caisson/tls/key.pem)", CAISSON_TEXT(tls.key)},
    {"--allow-plain-tcp", "allow-plain-tcp", "BOOL", "serve TCP without TLS beyond loopback too: whoever reaches the port has --tcp-role (default false)",
     [](DaemonOptions& options, const std::string& value) { return set_bool(options.allow_plain_tcp, value); }},
    {"--cdi-spec-dir", "cdi-spec-dirs", "DIR", "folder with CDI specifications of devices; repeatable (default /etc/cdi and /var/run/cdi)",
     [](DaemonOptions& options, const std::string& value) -> Status {
       options.cdi_spec_dirs.push_back(value);
       return {};
     }},
    {"--debug", "debug", "BOOL", "log level debug, and say so in `info` (default false)", set_debug},
    {"--default-pids-limit", "containers.pids-limit", "N", "processes per container that asks for no limit; 0: unlimited (default 4096)", set_pids_limit},
    {"--start-pool", "start.pool", "N", "namespaces kept ready for the next containers, per kind of network in use; 0: none (default 4)", set_start_pool},
    {"--rootless-network", "rootless.network", "NAME", "without root, what leads to the host's network: pasta, slirp4netns, none, or auto: the first of them that is installed (default auto)", set_rootless_network},
    {"--missing-limits", "rootless.missing-limits", "WORD", "what becomes of a limit where this user has no cgroups: warn, and run without it, or refuse the container (default warn)", set_missing_limits},
    {"--log-level", "log-level", "LEVEL", "debug, info, warning, error (default info)", set_level},
    {"--log-format", "log-format", "FORMAT", "text or json (default text)", set_format},
};
#undef CAISSON_TEXT

bool is_list(const Setting& setting) {
  constexpr std::string_view lists[] = {"hosts", "labels", "logs.options", "cdi-spec-dirs", "registry.mirrors", "registry.insecure",
                                         "network.published-sources", "network.published-interfaces"};
  return std::find(std::begin(lists), std::end(lists), setting.key) != std::end(lists);
}

/// Read again on SIGHUP; everything else is fixed at the start.
constexpr std::string_view reloadable[] = {"--roles", "--tcp-role", "--log-driver", "--log-opt", "--log-max-size", "--log-max-file", "--label", "--debug", "--log-level", "--log-format", "--default-pids-limit"};

Status apply_setting(const Setting& setting, DaemonOptions& options, const std::string& value) {
  options.given[std::string(setting.flag)] += value + "\n";
  return setting.apply(options, value);
}

Status apply_value(const Setting& setting, DaemonOptions& options, std::string_view where, const toml::node& node) {
  auto set = [&](const std::string& value) -> Status {
    auto status = apply_setting(setting, options, value);
    if (!status.ok()) return std::move(status).error().in(concat(where, ": ", setting.key));
    return {};
  };
  if (const auto* text = node.as_string()) return set(text->get());
  if (const auto* number = node.as_integer()) return set(concat(number->get()));
  if (const auto* flag = node.as_boolean()) return set(flag->get() ? "true" : "false");
  if (const auto* list = node.as_array(); list != nullptr && is_list(setting)) {
    for (const auto& item : *list) {
      const auto* text = item.as_string();
      if (text == nullptr) return Error(ErrorKind::invalid, concat(where, ": ", setting.key, ": want a list of texts"));
      TRY_PLAIN(set(text->get()));
    }
    return {};
  }
  return Error(ErrorKind::invalid, concat(where, ": ", setting.key, ": want one text, number or true/false"));
}

Status apply_table(const toml::table& table, const std::string& prefix, const std::string& where, const std::vector<std::string_view>& given, DaemonOptions& options) {
  for (const auto& [name, node] : table) {
    std::string key = prefix + std::string(name.str());
    if (const auto* inner = node.as_table()) {
      TRY_PLAIN(apply_table(*inner, key + ".", where, given, options));
      continue;
    }
    const auto* setting = std::find_if(std::begin(settings), std::end(settings), [&](const Setting& known) { return !known.key.empty() && known.key == key; });
    if (setting == std::end(settings))
      return Error(ErrorKind::invalid, concat(where, ": ", key, ": unknown key")).with_hint("`caissond --help` lists all keys");
    if (std::find(given.begin(), given.end(), setting->flag) != given.end()) continue;  // the flag wins
    TRY_PLAIN(apply_value(*setting, options, where, node));
  }
  return {};
}

Status read_config(const std::string& path, bool is_given, const std::vector<std::string_view>& given, DaemonOptions& options) {
  auto text = linux::read_file(path);
  if (!text.ok() && text.error().kind() == ErrorKind::not_found && !is_given) return {};
  if (!text.ok()) return std::move(text).error().in(concat("configuration ", path));
  const auto table = TRY(parse_toml(*text), path);
  return apply_table(table, "", path, given, options);
}

std::string beside_or_installed(const Surroundings& surroundings, const std::string& name) {
  std::string beside = surroundings.own_folder + "/" + name;
  return linux::exists(beside).value_or(false) ? beside : "/usr/lib/caisson/" + name;
}

/// Of an ordinary user; root's is /etc/caisson.
std::string config_folder(const Surroundings& surroundings) {
  return concat(surroundings.config_home.empty() ? surroundings.home + "/.config" : surroundings.config_home, "/caisson");
}

Status fill_defaults(DaemonOptions& options, const Surroundings& surroundings) {
  options.rootless = !surroundings.is_root;
  if (options.rootless && !options.roles_is_given) options.roles_path = config_folder(surroundings) + "/roles.toml";
  std::string runtime_dir = surroundings.runtime_dir;
  if (options.rootless && runtime_dir.empty() && (options.exec_root.empty() || options.hosts.empty()))
    return Error(ErrorKind::invalid, "XDG_RUNTIME_DIR is not set").with_hint("log in through a session that sets it, or give --exec-root and --host");
  std::string data_home = !surroundings.data_home.empty() ? surroundings.data_home : surroundings.home + "/.local/share";
  if (options.root.empty()) options.root = options.rootless ? data_home + "/caisson" : "/var/lib/caisson";
  if (options.exec_root.empty()) options.exec_root = options.rootless ? runtime_dir + "/caisson" : "/run/caisson";
  if (options.hosts.empty()) options.hosts.push_back(concat("unix://", options.rootless ? runtime_dir + "/caisson.sock" : "/run/caisson.sock"));
  if (options.runtime_path.empty()) options.runtime_path = beside_or_installed(surroundings, "caisson-runtime");
  if (options.worker_path.empty()) options.worker_path = beside_or_installed(surroundings, "caisson-worker");
  if (options.registry.fetch_path.empty()) options.registry.fetch_path = beside_or_installed(surroundings, "caisson-fetch");
  options.home = surroundings.home;
  if (!options.signature_policy.empty() && !options.signature_policy.starts_with('/'))
    return Error(ErrorKind::invalid, concat("--signature-policy ", options.signature_policy, ": must be an absolute path"));
  if (options.tls.ca.empty() && options.tls.verify) options.tls.ca = "/etc/caisson/tls/ca.pem";
  if (options.tls.certificate.empty()) options.tls.certificate = "/etc/caisson/tls/cert.pem";
  if (options.tls.key.empty()) options.tls.key = "/etc/caisson/tls/key.pem";
  TRY(engine::check_log_driver(options.settings.log_driver, options.settings.log_options), "--log-driver");
  for (const auto& [name, path] : {std::pair{"--root", &options.root}, std::pair{"--exec-root", &options.exec_root}})
    if (!path->starts_with('/')) return Error(ErrorKind::invalid, concat(name, " ", *path, ": must be an absolute path"));
  return {};
}

const Setting* find_flag(std::string_view flag) {
  if (flag == "-H") flag = "--host";
  if (flag == "-l") flag = "--log-level";
  if (flag == "-G") flag = "--group";
  if (flag == "-p") flag = "--pidfile";
  if (flag == "-D") flag = "--debug";
  const auto* found = std::find_if(std::begin(settings), std::end(settings), [&](const Setting& setting) { return setting.flag == flag; });
  return found == std::end(settings) ? nullptr : found;
}
}  // namespace

Result<ParsedArguments> parse_arguments(const std::vector<std::string>& arguments, const Surroundings& surroundings) {
  ParsedArguments parsed;
  std::string config_path = surroundings.is_root ? default_config_path : config_folder(surroundings) + "/caisson.toml";
  bool config_is_given = false;
  std::vector<std::string_view> given;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    auto halves = split_once(arguments[i], '=');
    std::string_view flag = halves.before;
    if (flag == "--help" || flag == "-h") {
      parsed.wish = Wish::show_help;
      return parsed;
    }
    if (flag == "--version" || flag == "-v") {
      parsed.wish = Wish::show_version;
      return parsed;
    }
    const auto* setting = find_flag(flag);
    bool is_config = flag == "--config";
    if (setting == nullptr && !is_config)
      return Error(ErrorKind::invalid, concat("unknown flag: ", flag)).with_hint("`caissond --help` lists all flags");
    std::string value(halves.after);
    // As in docker, a flag of true or false needs no value behind it.
    const bool is_followed = i + 1 < arguments.size() && (arguments[i + 1] == "true" || arguments[i + 1] == "false");
    if (!halves.found && !is_config && setting->argument == "BOOL" && !is_followed) {
      value = "true";
    } else if (!halves.found) {
      if (++i == arguments.size()) return Error(ErrorKind::invalid, concat("flag needs an argument: ", flag));
      value = arguments[i];
    }
    if (is_config) {
      config_path = value;
      config_is_given = true;
      continue;
    }
    given.push_back(setting->flag);
    auto status = apply_setting(*setting, parsed.options, value);
    if (!status.ok()) return std::move(status).error().in(flag);
  }
  TRY_PLAIN(read_config(config_path, config_is_given, given, parsed.options));
  TRY_PLAIN(fill_defaults(parsed.options, surroundings));
  return parsed;
}

std::vector<std::string> differences_that_need_a_restart(const DaemonOptions& running, const DaemonOptions& wanted) {
  std::vector<std::string> flags;
  for (const auto& setting : settings) {
    if (std::find(std::begin(reloadable), std::end(reloadable), setting.flag) != std::end(reloadable)) continue;
    auto text = [&](const DaemonOptions& options) {
      auto found = options.given.find(std::string(setting.flag));
      return found == options.given.end() ? std::string() : found->second;
    };
    if (text(running) != text(wanted)) flags.emplace_back(setting.flag);
  }
  return flags;
}

std::string help_text() {
  std::string text = "Usage: caissond [FLAGS]\n\nThe Caisson container engine. Settings that should last stand in /etc/caisson/caisson.toml.\n"
      "An ordinary user's engine keeps its own under ~/.config/caisson, ~/.local/share/caisson and $XDG_RUNTIME_DIR (docs/how-to/rootless.md).\n\nFlags:\n";
  constexpr std::size_t column = 34;
  auto line = [&](std::string flag, std::string_view help, std::string_view key) {
    flag.resize(std::max(column, flag.size() + 2), ' ');
    text += concat("  ", flag, help, key.empty() ? "" : concat(" [", key, "]"), "\n");
  };
  line("--config FILE", "the configuration file (default /etc/caisson/caisson.toml, which may be missing)", "");
  for (const auto& setting : settings)
    line(concat(setting.flag == "--host" ? "-H, " : "", setting.flag, " ", setting.argument), setting.help, setting.key);
  line("--version", "show the version and end", "");
  line("--help", "show this and end", "");
  return text + "\nIn [brackets]: the key in caisson.toml; \"network.bridge\" is `bridge` in the table [network]. Flags win.\n";
}

}  // namespace caisson::app
