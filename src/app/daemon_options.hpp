// Where the daemon keeps things and whom it serves: flags, then caisson.toml, then defaults.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/log.hpp"
#include "base/result.hpp"
#include "engine/engine.hpp"
#include "engine/local.hpp"
#include "image/image_store.hpp"
#include "image/registry_hosts.hpp"
#include "linux/cgroup.hpp"
#include "network/network.hpp"
#include "wire/tls.hpp"

namespace caisson::app {

/// What carries packets between the network namespace of an engine without root and the host.
enum class RootlessNetwork : std::uint8_t { automatic, pasta, slirp4netns, none };

struct DaemonOptions {
  std::string root;
  std::string exec_root;
  std::vector<std::string> hosts;       ///< "unix:///run/caisson.sock", "tcp://127.0.0.1:2375"
  std::string group = "caisson";        ///< of the socket; root's when there is no such group
  bool group_is_given = false;
  std::string pidfile;
  std::string runtime_path;             ///< caisson-runtime
  std::string worker_path;              ///< caisson-worker
  std::string cgroup_parent = "/caisson";
  linux::CgroupDriver cgroup_driver = linux::CgroupDriver::cgroupfs;
  policy::RolePointer tcp_role = policy::built_in("viewer");
  std::string roles_path = "/etc/caisson/roles.toml";
  bool roles_is_given = false;         ///< then it must be there
  std::optional<std::string> audit_log; ///< none: audit.log below `root`; "": no log
  network::Options network;
  engine::Settings settings;
  std::vector<std::string> cdi_spec_dirs;  ///< empty: the usual two
  wire::TlsFiles tls{"", "", "", false};
  bool use_tls = false;
  bool allow_plain_tcp = false;         ///< without TLS beyond loopback
  std::uint32_t start_pool = 4;         ///< namespaces kept ready per kind of network
  image::RegistryOptions registry;
  image::SnapshotForm snapshot_form = image::SnapshotForm::automatic;
  std::uint64_t store_quota_bytes = 0;  ///< 0: none, or the next
  std::uint32_t store_quota_percent = 0;  ///< of the file system that holds `root`
  std::uint64_t build_cache_bytes = 20ULL << 30U;  ///< of steps and cache mounts
  std::string signature_policy;         ///< "": the usual places
  std::string signature_places = "/etc/containers/registries.d";
  std::string home;                     ///< of the user who runs it; "" as a service
  LogOptions log;
  bool rootless = false;                ///< an ordinary user's: the supervisor, or the engine in its namespaces
  RootlessNetwork rootless_network = RootlessNetwork::automatic;
  engine::MissingLimits missing_limits = engine::MissingLimits::warn;
  bool cgroup_is_given = false;         ///< --cgroup-parent or --cgroup-driver was
  std::map<std::string, std::string> given;  ///< every setting that was named, by its flag, as text
};

enum class Wish { serve, show_help, show_version };
struct ParsedArguments {
  Wish wish = Wish::serve;
  DaemonOptions options;
};

/// What the environment says: for tests, nothing is read from it behind the parser's back.
struct Surroundings {
  bool is_root = true;
  std::string home;
  std::string runtime_dir;   ///< $XDG_RUNTIME_DIR
  std::string data_home;     ///< $XDG_DATA_HOME
  std::string config_home;   ///< $XDG_CONFIG_HOME
  std::string own_folder;    ///< of the running binary
};

/// `arguments` without the program's name. Errors: invalid, naming the flag or the file's key; not_found (a --config that is missing).
Result<ParsedArguments> parse_arguments(const std::vector<std::string>& arguments, const Surroundings& surroundings);

/// Flags of settings that differ between the two and cannot change while the daemon runs.
std::vector<std::string> differences_that_need_a_restart(const DaemonOptions& running, const DaemonOptions& wanted);

/// Text of --help: every flag and its key in caisson.toml.
std::string help_text();

}  // namespace caisson::app
