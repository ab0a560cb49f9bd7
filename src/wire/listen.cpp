// Where the server listens: unix and TCP sockets, and descriptors inherited from a service manager.
#include <charconv>

#include "base/strings.hpp"
#include "base/environment.hpp"
#include "linux/file.hpp"
#include "linux/stream_socket.hpp"
#include "wire/http_server.hpp"

namespace caisson::wire {

Result<UniqueFd> listen_unix(const std::string& path, mode_t mode, std::optional<gid_t> group) {
  linux::UnixListenOptions options;
  options.mode = mode;
  options.group = group;
  return linux::listen_unix_socket(path, options);
}

Result<UniqueFd> listen_tcp(const std::string& address) {
  auto endpoint = TRY(linux::parse_ip_endpoint(address), "listen");
  return linux::listen_tcp_socket(endpoint);
}

Result<std::vector<UniqueFd>> inherited_listeners(pid_t own_pid) {
  constexpr int first_fd = 3;  // SD_LISTEN_FDS_START
  std::vector<UniqueFd> listeners;
  const char* pid_text = environment("LISTEN_PID");
  const char* count_text = environment("LISTEN_FDS");
  if (pid_text == nullptr || count_text == nullptr) return listeners;
  const auto pid = TRY(parse_integer<pid_t>(pid_text), "LISTEN_PID");
  if (pid != own_pid) return listeners;  // meant for a parent of ours
  const auto count = TRY(parse_integer<int>(count_text), "LISTEN_FDS");
  if (count < 0 || count > 64) return Error(ErrorKind::invalid, concat("LISTEN_FDS: ", count, " is out of range (0 to 64)"));
  for (int fd = first_fd; fd < first_fd + count; ++fd) {
    TRY(linux::set_close_on_exec(fd, true), concat("inherited socket ", fd));
    listeners.emplace_back(fd);
  }
  forget_environment("LISTEN_PID");
  forget_environment("LISTEN_FDS");
  forget_environment("LISTEN_FDNAMES");
  return listeners;
}

}  // namespace caisson::wire
