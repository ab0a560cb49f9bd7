// Network namespaces of tests: making one, working in it, and a cable between two.
#pragma once

#include <string>
#include <thread>

#include "base/unique_fd.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/rtnetlink.hpp"
#include "linux/spawn.hpp"

namespace caisson::network::testing_support {

/// Runs `body` on a thread that has entered `netns_fd`.
template <typename Body>
auto inside(int netns_fd, Body body) -> decltype(body()) {
  decltype(body()) result{};
  std::thread([&] {
    if (linux::setns(netns_fd, CLONE_NEWNET)) result = body();
  }).join();
  return result;
}

inline UniqueFd new_netns() {
  UniqueFd fd;
  std::thread([&] {
    if (linux::unshare(CLONE_NEWNET)) fd = linux::open("/proc/thread-self/ns/net", O_RDONLY).value_or(UniqueFd());
  }).join();
  return fd;
}

inline int run(const std::string& script) {
  auto output = linux::run_program({"sh", "-c", script});
  return output ? output->status.exit_code() : -1;
}

inline std::string output_of(const std::string& script) {
  auto output = linux::run_program({"sh", "-c", script});
  return output ? output->standard_output + output->standard_error : output.error().text();
}

/// A veth pair: `name` here, "eth0" in the namespace `peer_fd`.
inline Status connect_by_veth(const std::string& name, int peer_fd) {
  linux::NetlinkBatch batch;
  linux::VethPair pair;
  pair.name = name;
  pair.peer_name = "eth0";
  pair.peer_netns_fd = peer_fd;
  linux::add_veth(batch, pair);
  auto socket = TRY_PLAIN(linux::open_rtnetlink());
  return socket.execute(batch);
}

}  // namespace caisson::network::testing_support
