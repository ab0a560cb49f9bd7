// An engine without root (docs/adr/0018): the supervisor, which stays in the host's namespaces, and what the engine inside asks of it.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "app/daemon_options.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "image/registry_session.hpp"
#include "linux/mount.hpp"
#include "linux/socket.hpp"
#include "network/network.hpp"

namespace caisson::app {

/// What travels between the two, as base/codec writes it; one message each.
enum class HostTask : std::uint8_t {
  is_of_host,      ///< `pid`: is it of the host?
  bind_port,       ///< `protocol`, `address`, `port`: a socket
  is_subnet_free,  ///< `address` with its prefix: does no route of the host touch it?
  start_fetch,     ///< caisson-fetch: its channel, its pidfd and its number
  end_fetch,       ///< `pid`: of one that was started so
};
struct HostRequest {
  HostTask task = HostTask::is_of_host;
  std::int32_t pid = 0;
  network::Protocol protocol = network::Protocol::tcp;
  std::string address;       ///< "0.0.0.0", "::"; "172.30.0.0/16"
  std::uint16_t port = 0;
};
template <class C>
void visit(C& c, HostRequest& r) {
  c(r.task);
  c(r.pid);
  c(r.protocol);
  c(r.address);
  c(r.port);
}
struct HostAnswer {
  bool is_yes = false;  ///< done, or what was asked is so
  std::int32_t pid = 0;
  ErrorKind kind = ErrorKind::io;
  std::int32_t error_number = 0;
  std::string text;
  std::string hint;
};
template <class C>
void visit(C& c, HostAnswer& a) {
  c(a.is_yes);
  c(a.pid);
  c(a.kind);
  c(a.error_number);
  c(a.text);
  c(a.hint);
}

/// What the engine cannot do from inside its namespaces. Thread-safe.
class HostSide : public std::enable_shared_from_this<HostSide> {
 public:
  /// Whether this process is the engine that a supervisor has started.
  static bool is_there();
  /// "NAME=VALUE", for the engine's environment.
  static std::string variable(int channel);
  /// Errors: invalid (the variable names no channel, or this is no user namespace).
  static Result<std::shared_ptr<HostSide>> open();

  /// A socket of the host's network namespace, bound as network::bind_host_port() does it. Errors: of that, and unavailable.
  Result<UniqueFd> bind_port(network::Protocol protocol, const linux::SocketAddress& address);
  /// Whether the process is in the supervisor's user and PID namespace. False also for one that has ended. Errors: unavailable.
  Result<bool> is_of_host(pid_t pid);
  /// Whether no route of the host touches it. Errors: unavailable.
  Result<bool> is_subnet_free(const linux::Ipv4Prefix& subnet);
  /// caisson-fetch in the host's network, without a right over anything. Only the supervisor may end it. Errors: of the start, and unavailable.
  Result<image::FetchProcess> start_fetch();

 private:
  explicit HostSide(UniqueFd channel) : channel_(std::move(channel)) {}
  struct Reply {
    HostAnswer answer;
    std::vector<UniqueFd> fds;
  };
  Result<Reply> ask(HostRequest request);
  Status end_fetch(std::int32_t pid);
  std::mutex mutex_;
  UniqueFd channel_;
};

/// The ids that the engine has inside: 0 is the user, 1 to 65535 are of the subordinate ranges. Pure.
/// Errors: not_found (no ranges), invalid (too few ids), with the command that gives them.
Result<linux::IdMap> rootless_id_map(const std::string& subuid, const std::string& subgid, const std::string& user, std::uint32_t uid, std::uint32_t gid);

/// Makes the namespaces, or finds those of an earlier daemon whose containers live on; starts the engine in them as root of the user namespace, and
/// serves it until it ends. Namespaces and uplink go with the last container. Returns the exit code. Precondition: this process has one thread.
int supervise(const DaemonOptions& options, const std::vector<std::string>& arguments);

}  // namespace caisson::app
