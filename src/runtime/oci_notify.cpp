// sd_notify through the container's border: the service inside says READY=1, the service manager outside hears it.
#include <array>

#include "base/environment.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/service_manager.hpp"
#include "linux/socket.hpp"
#include "linux/tree.hpp"
#include "runtime/oci_session.hpp"

namespace caisson::runtime {

namespace {

std::string host_socket() {
  const char* path = environment("NOTIFY_SOCKET");
  return path == nullptr ? "" : path;
}

}  // namespace

bool NotifyProxy::add_to(Spec& spec, const std::string& folder) {
  if (host_socket().empty()) return false;
  Mount mount;
  mount.destination = "/run/notify";
  mount.type = "bind";
  mount.source = folder;
  mount.options = {"bind", "ro", "nosuid", "noexec", "nodev"};
  spec.mounts.push_back(std::move(mount));
  std::erase_if(spec.process.env, [](const std::string& entry) { return entry.starts_with("NOTIFY_SOCKET="); });
  spec.process.env.emplace_back("NOTIFY_SOCKET=/run/notify/notify.sock");
  return true;
}

Status NotifyProxy::make_folder(const std::string& folder) { return linux::make_dirs(folder, 0755); }

Result<std::optional<NotifyProxy>> NotifyProxy::listen(const std::string& folder) {
  std::string host = host_socket();
  if (host.empty() || !linux::exists(folder).value_or(false)) return std::optional<NotifyProxy>();
  const std::string path = concat(folder, "/notify.sock");
  if (auto removed = linux::unlink(path); !removed && removed.error().kind() != ErrorKind::not_found)
    return std::move(removed).error();
  auto socket = TRY(linux::unix_bind_datagram(path, 0777), "notify socket");
  TRY_PLAIN(linux::set_nonblocking(socket.get(), true));
  return std::optional<NotifyProxy>(NotifyProxy(std::move(socket), std::move(host)));
}

Result<bool> NotifyProxy::forward(pid_t main_pid) {
  std::array<char, 4096> buffer{};
  while (true) {
    auto got = linux::recv(socket_.get(), buffer);
    if (!got && linux::would_block(got.error())) return false;
    const std::size_t size = TRY(std::move(got), "notify socket");
    for (auto line : split(std::string_view(buffer.data(), size), '\n'))
      if (line == "READY=1") {
        // Nothing else of a container is believed: its MAINPID would be a number of another pid namespace.
        auto manager = TRY(linux::connect_service_manager(host_), "NOTIFY_SOCKET");
        TRY(linux::send_message(manager.get(), concat("READY=1\nMAINPID=", main_pid)), "NOTIFY_SOCKET");
        return true;
      }
  }
}

Status NotifyProxy::wait_until_ready(const UniqueFd& pidfd, pid_t main_pid) {
  while (true) {
    if (TRY_PLAIN(forward(main_pid))) return {};
    std::array<linux::PollEntry, 2> entries{};
    entries[0] = {socket_.get(), POLLIN, 0};
    entries[1] = {pidfd.get(), POLLIN, 0};
    (void)TRY_PLAIN(linux::poll(entries, -1));
    if (entries[0].revents == 0 && entries[1].revents != 0) return {};
  }
}

}  // namespace caisson::runtime
