// The engine of this host, put together from a store, images, networks and a runtime.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.hpp"
#include "engine/check_spec.hpp"
#include "engine/engine.hpp"
#include "image/image_store.hpp"
#include "image/registries.hpp"
#include "image/worker.hpp"
#include "linux/cgroup.hpp"
#include "network/dns_server.hpp"
#include "network/network.hpp"
#include "runtime/runtime.hpp"
#include "state/store.hpp"

namespace caisson::engine {

/// What is done with a limit that cannot be kept.
enum class MissingLimits : std::uint8_t { warn, refuse };

struct LocalOptions {
  std::string root;                 ///< exists, 0700: containers/, volumes/ below
  std::string exec_root;            ///< exists, 0711: containers/<id> while it runs; gone after a reboot
  std::string cgroup_parent = "/caisson";  ///< relative: below our own cgroup; with systemd "/a/b" means the slice a-b.slice
  std::optional<linux::SystemdManager> systemd;  ///< set: containers get scopes of this manager instead of directories of ours
  bool rootless = false;            ///< we are root of a user namespace, an ordinary user's or a container's, whose ids are all that containers can have
  std::uint32_t shared_ids = 65536; ///< how many those are, from 0 on
  bool has_cgroups = true;          ///< false: none can be made here (a user was delegated none, a container cannot write its own), so containers have none and cannot be limited
  MissingLimits missing_limits = MissingLimits::warn;  ///< what a limit means then
  /// Whether a process is one of the host's own, in no container: asked of who can see the host's namespaces. Empty: by comparing with ours.
  std::function<Result<bool>(pid_t)> is_of_host;
  std::vector<std::string> sockets; ///< paths of the API's unix sockets: a container that mounts one speaks to us as itself
  std::string audit_log;            ///< "": none is kept
  bool loads_apparmor = false;      ///< the default profile, where AppArmor is on
  bool hears_refusals = false;      ///< the kernel's audit records
  Settings settings;                ///< what reload() can change later
  std::size_t start_pool = 0;       ///< namespaces kept ready per kind of network, once one of the kind was asked for; 0: none
  image::WorkerOptions worker;      ///< the process that reads and writes containers' files
  std::string resolv_conf_path = "/etc/resolv.conf";      ///< the host's resolver file
  std::string journal_socket = "/run/systemd/journal/socket";
  std::vector<std::string> cdi_spec_dirs = {"/etc/cdi", "/var/run/cdi"};  ///< the later ones win
  Cancel ending;                    ///< fires when the daemon is told to end: nobody waits for a container's end any more. Outlives the engine
};

/// What the engine stands on; owned by it from now on.
struct LocalParts {
  std::unique_ptr<state::Store> store;
  std::unique_ptr<image::Registries> registries;  ///< null: none can be spoken to; used by `images`, too
  std::unique_ptr<image::ImageStore> images;
  std::unique_ptr<network::NetworkManager> network;
  /// Called when the first container needs the embedded DNS server.
  std::function<Result<std::unique_ptr<network::DnsServer>>(network::NameSource&)> make_dns = network::DnsServer::create;
  /// Called once, with the observer that must get the runtime's events.
  std::function<Result<std::unique_ptr<runtime::Runtime>>(runtime::RuntimeObserver&)> make_runtime;
  std::vector<std::string> repairs;  ///< what opening the store had to repair
};

/// Opens the engine and recovers: every container of an earlier daemon is found again, what was half made is repaired, what leaked
/// is freed; each repair is logged and kept for info(). Errors: io, corrupt, unavailable.
Result<std::unique_ptr<Engine>> open_local_engine(LocalOptions options, LocalParts parts);

}  // namespace caisson::engine
