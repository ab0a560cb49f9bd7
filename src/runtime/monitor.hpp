// The monitor: one small process per container that holds its stdio, log and exit status, so that the daemon may die.
#pragma once

#include "base/unique_fd.hpp"
#include "runtime/monitor_stream.hpp"
#include "runtime/protocol.hpp"

namespace caisson::runtime {

/// What the launcher hands to a monitor it has forked.
struct MonitorStart {
  MonitorBody body;
  UniqueFd control;                ///< the daemon's first connection
  UniqueFd user_namespace;
  UniqueFd network_namespace;
  std::vector<UniqueFd> clients;   ///< beside body.clients
  LaunchPlan plan;                 ///< start only
  // adopt only
  UniqueFd pidfd;
  UniqueFd input;
  UniqueFd output;                 ///< or the terminal's master
  UniqueFd error;
  int init_fd = -1;                ///< our own binary
  std::shared_ptr<const linux::CgroupLayout> layout;
};

/// Starts the container and serves it to its end. Returns the exit code of the monitor process.
int run_monitor(MonitorStart start);
/// Takes over a container whose monitor is gone.
int run_adopting_monitor(MonitorStart start);

}  // namespace caisson::runtime
