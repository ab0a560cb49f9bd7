// The namespaces of an engine without root: made once, held by a process that does nothing else, and joined by every daemon that comes after.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "linux/mount.hpp"
#include "linux/process.hpp"

namespace caisson::app {

/// A process beyond the reuse of its number.
struct KnownProcess {
  std::int32_t pid = 0;
  std::uint64_t start_time = 0;  ///< process_start_time
};
template <class C>
void visit(C& c, KnownProcess& p) {
  c(p.pid);
  c(p.start_time);
}
/// Of one that lives: nothing when it has ended, or its number is another's by now.
std::optional<UniqueFd> open_known(const KnownProcess& process);

/// What is written down for the next daemon (below exec-root, which does not outlive a boot).
struct SpaceRecord {
  KnownProcess holder;
  std::string user_namespace;  ///< "user:[4026533000]"
  std::string uplink_program;  ///< "": none
  KnownProcess uplink;
  KnownProcess engine;
};
template <class C>
void visit(C& c, SpaceRecord& r) {
  c(r.holder);
  c(r.user_namespace);
  c(r.uplink_program);
  c(r.uplink);
  c(r.engine);
}

struct Space {
  SpaceRecord record;
  UniqueFd holder;  ///< pidfd
};

/// Starts the holder in a new user, mount and network namespace: mounts there get what the host mounts later and give nothing back, /sys is that of the
/// network namespace, and `resolv_conf`, when it is not empty, lies over /etc/resolv.conf.
/// Errors: denied (user namespaces are forbidden, or the map is), not_found (newuidmap), unavailable, each with what mends it.
/// Precondition: this process has one thread.
Result<Space> make_space(const linux::IdMap& map, const std::string& resolv_conf);
/// Nothing when it is gone.
std::optional<Space> find_space(const SpaceRecord& record);
/// For a process that is about to become the engine: into the namespaces, as their root without further groups.
Status join_space(const Space& space);

}  // namespace caisson::app
