// curl, without rights, in namespaces of its own but for the network.
#include "build/fetch.hpp"

#include <array>
#include <cerrno>

#include "base/strings.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/spawn.hpp"

namespace caisson::build {

namespace {
constexpr std::uint32_t nobody = 65534;
constexpr std::string_view search_path = "/usr/local/bin:/usr/bin:/bin";
}  // namespace

Status fetch_url(const std::string& url, int target_fd, Cancel cancel) {
  auto program = linux::find_program("curl", search_path);
  if (!program.ok()) return Error(ErrorKind::unavailable, concat("ADD ", url, ": there is no curl on this host")).with_hint("install it: apt-get install curl");
  linux::SpawnRequest request;
  request.process.path = *program;
  request.process.argv = {"curl", "--fail", "--silent", "--show-error", "--location", "--proto", "=http,https", "--max-redirs", "10", "--connect-timeout", "30", "--", url};
  request.process.env = {"PATH=/usr/bin:/bin", "HOME=/"};
  request.process.cwd = "/";
  request.process.fds = {{target_fd, 1}};
  request.process.parent_death_signal = SIGKILL;
  request.uid = request.gid = nobody;
  request.namespaces = {.pid = false, .mount = false, .network = false, .ipc = true, .uts = true, .cgroup = false};
  auto child = TRY(linux::spawn_sandboxed(request), concat("fetch ", url));
  std::array<linux::PollEntry, 2> entries{{{child.pidfd.get(), POLLIN, 0}, {cancel.fd, POLLIN, 0}}};
  auto ready = linux::poll(entries, -1);
  if (!ready.ok() || entries[0].revents == 0) {
    linux::kill_and_reap(child.pidfd.get());
    return ready.ok() ? Error(ErrorKind::unavailable, "the build was cancelled", ECANCELED) : std::move(ready).error();
  }
  auto status = TRY_PLAIN(linux::wait_pidfd(child.pidfd.get()));
  if (status.signaled || status.code != 0) return Error(ErrorKind::io, concat("ADD ", url, ": the download failed (curl ended with ", status.code, ")"));
  return {};
}

}  // namespace caisson::build
