// Stopping all processes of a cgroup at once, for pause and for a kill that nothing escapes.
#include <fcntl.h>
#include <signal.h>

#include <array>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/backoff.hpp"
#include "linux/cgroup.hpp"
#include "linux/cgroup_files.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"

namespace caisson::linux {

namespace {

Error gone(const std::string& directory) {
  return {ErrorKind::not_found, concat("cgroup ", directory, " does not exist"), ESRCH};
}

Status write_state(const std::string& directory, const char* file, std::string_view value) {
  auto done = write_kernel_file(concat(directory, '/', file), value);
  if (done) return done;
  const int reason = done.error().error_number();
  if (reason == ENOENT || reason == ENODEV) return gone(directory);
  return Error::from_errno(reason, concat("cgroup: write \"", value, "\" to ", file));
}

/// The value of a key in cgroup.events, read through an open descriptor so that poll and read speak of the same file.
Result<bool> event_is_set(int events_fd, std::string_view key) {
  std::array<char, 256> buffer{};
  const std::size_t got = TRY_PLAIN(pread(events_fd, buffer, 0));
  for (std::string_view line : split(std::string_view(buffer.data(), got), '\n')) {
    const Halves pair = split_once(line, ' ');
    if (pair.before == key) return pair.after == "1";
  }
  return false;
}

Status freeze_v2(const std::string& directory, int timeout_ms) {
  auto events = linux::open(directory + "/cgroup.events", O_RDONLY);
  if (!events) return gone(directory);
  TRY_PLAIN(write_state(directory, "cgroup.freeze", "1"));
  const std::int64_t deadline = monotonic_ns() + std::int64_t{timeout_ms} * 1'000'000;
  while (!TRY(event_is_set(events->get(), "frozen"), "freeze")) {
    const auto left_ms = static_cast<int>((deadline - monotonic_ns()) / 1'000'000);
    PollEntry entry{};
    entry.fd = events->get();
    entry.events = POLLPRI;
    if (left_ms <= 0 || TRY(poll(std::span(&entry, 1), left_ms), "freeze") == 0)
      return Error(ErrorKind::timeout, concat("cgroup ", directory, " did not freeze within ", timeout_ms, " ms"), ETIMEDOUT);
  }
  return {};
}

/// v1 can stay FREEZING while processes fork or sleep uninterruptibly; asking again, and now and then thawing first, is the
/// known way through (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst).
Status freeze_v1(const std::string& directory, int timeout_ms) {
  detail::Backoff backoff(timeout_ms);
  for (int attempt = 1;; ++attempt) {
    if (attempt % 25 == 0) TRY_PLAIN(write_state(directory, "freezer.state", "THAWED"));
    TRY_PLAIN(write_state(directory, "freezer.state", "FROZEN"));
    const auto state = detail::read_cgroup_line(directory, "freezer.state");
    if (!state) return gone(directory);
    if (trim(*state) == "FROZEN") return {};
    if (!backoff.wait())
      return Error(ErrorKind::timeout, concat("cgroup ", directory, " did not freeze within ", timeout_ms, " ms"), ETIMEDOUT);
  }
}

}  // namespace

Status Cgroup::freeze(int timeout_ms) {
  Status done;
  if (v2_directory() != nullptr) done = freeze_v2(*v2_directory(), timeout_ms);
  else if (const std::string* directory = v1_directory("freezer"); directory != nullptr) done = freeze_v1(*directory, timeout_ms);
  else return detail::missing_controller("freezer");
  if (!done) ignore(thaw());  // a failed freeze must not leave half of it frozen; the first error is the one to report
  return done;
}

Status Cgroup::thaw() {
  if (v2_directory() != nullptr) return write_state(*v2_directory(), "cgroup.freeze", "0");
  const std::string* directory = v1_directory("freezer");
  if (directory == nullptr) return detail::missing_controller("freezer");
  return write_state(*directory, "freezer.state", "THAWED");
}

Result<FreezeState> Cgroup::freeze_state() const {
  if (v2_directory() != nullptr) {
    const auto wanted = detail::read_cgroup_line(*v2_directory(), "cgroup.freeze");
    if (!wanted) return gone(*v2_directory());
    if (trim(*wanted) == "0") return FreezeState::thawed;
    const auto events = detail::read_cgroup_pairs(*v2_directory(), "cgroup.events");
    const auto frozen = events.find("frozen");
    return frozen != events.end() && frozen->second == 1 ? FreezeState::frozen : FreezeState::freezing;
  }
  const std::string* directory = v1_directory("freezer");
  if (directory == nullptr) return detail::missing_controller("freezer");
  const auto state = detail::read_cgroup_line(*directory, "freezer.state");
  if (!state) return gone(*directory);
  if (trim(*state) == "THAWED") return FreezeState::thawed;
  return trim(*state) == "FROZEN" ? FreezeState::frozen : FreezeState::freezing;
}

namespace {

/// Sends SIGKILL to all that are listed; the number listed.
Result<std::size_t> kill_listed(const std::string& directory) {
  const auto pids = TRY_PLAIN(detail::read_cgroup_pids(directory, true));
  for (const int pid : pids) {
    const auto sent = kill(pid, SIGKILL);
    if (!sent && sent.error().error_number() != ESRCH) return sent.error();
  }
  return pids.size();
}

}  // namespace

Status Cgroup::kill_all() {
  if (v2_directory() != nullptr) {
    auto done = write_kernel_file(*v2_directory() + "/cgroup.kill", "1");
    if (done) return {};
    const int reason = done.error().error_number();
    // No such file: older than 5.14, or the directory is gone and with it everything to kill.
    // EOPNOTSUPP: a threaded cgroup.
    if (reason != ENOENT && reason != EOPNOTSUPP) return Error::from_errno(reason, "kill the processes of the cgroup");
    if (!exists()) return {};
  }
  constexpr int timeout_ms = 10'000;
  detail::Backoff backoff(timeout_ms);
  while (true) {
    // Frozen processes cannot fork while the list is read. One that does not freeze is killed all the same.
    const bool frozen = freeze(200).ok();
    auto listed = kill_listed(process_directory());
    if (frozen) ignore(thaw());  // on every way out: a killed process dies only once it is thawed
    if (!listed) return std::move(listed).error().in("kill the processes of the cgroup");
    if (*listed == 0) return {};
    if (!backoff.wait())
      return Error(ErrorKind::timeout, concat("kill the processes of the cgroup: ", *listed, " still there after ", timeout_ms, " ms"), ETIMEDOUT);
  }
}

}  // namespace caisson::linux
