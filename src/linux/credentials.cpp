// Ids, prctl switches, limits, scheduling and host names: what a process is and may, one call each.
#include <grp.h>
#include <linux/keyctl.h>
#include <linux/prctl.h>
#include <sys/fsuid.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <utility>

#include "linux/process.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

using detail::status;
using detail::value;

// The system calls themselves, not glibc's functions: those change every thread of the process by signals, and our
// callers are single threads that act for a container.
Status setresuid(std::uint32_t real, std::uint32_t effective, std::uint32_t saved) {
  return status("setresuid", [&] { return ::syscall(SYS_setresuid, real, effective, saved); }, real);
}
Status setresgid(std::uint32_t real, std::uint32_t effective, std::uint32_t saved) {
  return status("setresgid", [&] { return ::syscall(SYS_setresgid, real, effective, saved); }, real);
}
Status setgroups(std::span<const std::uint32_t> groups) {
  return status("setgroups", [&] { return ::syscall(SYS_setgroups, groups.size(), groups.data()); });
}
Result<std::vector<std::uint32_t>> getgroups() {
  while (true) {
    const int count = TRY_PLAIN(value<int>("getgroups", [&] { return ::getgroups(0, nullptr); }));
    std::vector<std::uint32_t> out(static_cast<std::size_t>(count));
    auto got = value<std::size_t>("getgroups", [&] { return ::getgroups(count, out.data()); });
    if (!got && got.error().error_number() == EINVAL) continue;  // grew in between
    out.resize(TRY_PLAIN(std::move(got)));
    return out;
  }
}

namespace {
/// setfsuid and setfsgid never fail visibly; a second call with an impossible id tells what is in force.
Result<std::uint32_t> set_fs_id(const char* name, long call, std::uint32_t id) {
  if (const int injected = fault::check(name); injected != 0) return Error::from_errno(injected, name);
  const auto old = static_cast<std::uint32_t>(::syscall(call, id));
  const auto now = static_cast<std::uint32_t>(::syscall(call, static_cast<std::uint32_t>(-1)));
  if (now != id) return detail::failure(EPERM, name, id);
  return old;
}
}  // namespace
Result<std::uint32_t> setfsuid(std::uint32_t uid) { return set_fs_id("setfsuid", SYS_setfsuid, uid); }
Result<std::uint32_t> setfsgid(std::uint32_t gid) { return set_fs_id("setfsgid", SYS_setfsgid, gid); }

Result<ScopedFsIds> ScopedFsIds::create(std::uint32_t uid, std::uint32_t gid) {
  // Group first: without fsuid 0 the capabilities on files, CAP_CHOWN and the like, are gone.
  const std::uint32_t old_gid = TRY_PLAIN(setfsgid(gid));
  auto old_uid = setfsuid(uid);
  if (!old_uid) {
    ignore(setfsgid(old_gid));  // back to what it was; the first error is the one to report
    return std::move(old_uid).error();
  }
  return ScopedFsIds(*old_uid, old_gid);
}
ScopedFsIds::ScopedFsIds(ScopedFsIds&& other) noexcept
    : old_uid_(other.old_uid_), old_gid_(other.old_gid_), active_(std::exchange(other.active_, false)) {}
ScopedFsIds::~ScopedFsIds() {
  if (!active_) return;
  ::syscall(SYS_setfsuid, old_uid_);
  ::syscall(SYS_setfsgid, old_gid_);
}

namespace {
Status prctl_status(const char* what, int option, unsigned long argument) {
  return status("prctl", [&] { return ::prctl(option, argument, 0UL, 0UL, 0UL); }, what);
}
}  // namespace
Status set_dumpable(bool dumpable) { return prctl_status("PR_SET_DUMPABLE", PR_SET_DUMPABLE, dumpable ? 1 : 0); }
Status set_parent_death_signal(int signal) {
  return prctl_status("PR_SET_PDEATHSIG", PR_SET_PDEATHSIG, static_cast<unsigned long>(signal));
}
Status set_no_new_privileges() { return prctl_status("PR_SET_NO_NEW_PRIVS", PR_SET_NO_NEW_PRIVS, 1); }
Status set_child_subreaper(bool on) { return prctl_status("PR_SET_CHILD_SUBREAPER", PR_SET_CHILD_SUBREAPER, on ? 1 : 0); }
Status set_thread_name(PathArg name) {
  return prctl_status("PR_SET_NAME", PR_SET_NAME, reinterpret_cast<unsigned long>(name.c_str()));
}
Status set_keep_capabilities(bool on) { return prctl_status("PR_SET_KEEPCAPS", PR_SET_KEEPCAPS, on ? 1 : 0); }
Status setsid() {
  return status("setsid", [&] { return ::setsid(); });
}
Status setpgid(int pid, int group) {
  return status("setpgid", [&] { return ::setpgid(pid, group); });
}
Status join_new_session_keyring() {
  return status("keyctl", [&] { return ::syscall(SYS_keyctl, abi::keyctl_join_session_keyring, nullptr); },
                "KEYCTL_JOIN_SESSION_KEYRING");
}

Result<ResourceLimit> get_limit(int pid, int resource) {
  struct ::rlimit native {};
  TRY_PLAIN(status("prlimit", [&] { return ::syscall(SYS_prlimit64, pid, resource, nullptr, &native); }, "resource ", resource));
  ResourceLimit out;
  out.soft = native.rlim_cur;
  out.hard = native.rlim_max;
  return out;
}
Status set_limit(int pid, int resource, const ResourceLimit& limit) {
  struct ::rlimit native {};
  native.rlim_cur = limit.soft;
  native.rlim_max = limit.hard;
  return status("prlimit", [&] { return ::syscall(SYS_prlimit64, pid, resource, &native, nullptr); }, "resource ", resource);
}
Result<int> limit_by_name(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, int>, 16> table{{
      {"as", 9},     {"core", 4},    {"cpu", 0},        {"data", 2},   {"fsize", 1},  {"locks", 10},
      {"memlock", 8}, {"msgqueue", 12}, {"nice", 13},    {"nofile", 7}, {"nproc", 6},  {"rss", 5},
      {"rtprio", 14}, {"rttime", 15}, {"sigpending", 11}, {"stack", 3},
  }};
  std::string key = lower(name);
  if (key.starts_with("rlimit_")) key.erase(0, 7);
  for (const auto& [known, number] : table)
    if (key == known) return number;
  return Error(ErrorKind::invalid, concat("\"", name, "\" is not a resource limit"));
}

Status sched_setattr(int pid, const abi::SchedAttr& attr) {
  abi::SchedAttr copy = attr;
  copy.size = sizeof copy;
  return status("sched_setattr", [&] { return ::syscall(SYS_sched_setattr, pid, &copy, 0); });
}
namespace {
constexpr std::size_t word_bits = 8 * sizeof(unsigned long);
}
Result<std::vector<int>> sched_getaffinity(int pid) {
  // The kernel refuses a mask smaller than its own: EINVAL, then twice as large.
  for (std::size_t words = 16;; words *= 2) {
    std::vector<unsigned long> mask(words);
    auto got = value<std::size_t>("sched_getaffinity", [&] {
      return ::syscall(SYS_sched_getaffinity, pid, words * sizeof(unsigned long), mask.data());
    });
    if (!got && got.error().error_number() == EINVAL && words < 4096) continue;
    const std::size_t bytes = TRY_PLAIN(std::move(got));
    std::vector<int> out;
    for (std::size_t bit = 0; bit < bytes * 8; ++bit)
      if ((mask[bit / word_bits] >> (bit % word_bits) & 1UL) != 0) out.push_back(static_cast<int>(bit));
    return out;
  }
}
Status sched_setaffinity(int pid, std::span<const int> cpus) {
  std::vector<unsigned long> mask;
  for (const int cpu : cpus) {
    if (cpu < 0 || cpu > 1'000'000) return Error(ErrorKind::invalid, concat("CPU ", cpu, " does not exist"), EINVAL);
    const auto bit = static_cast<std::size_t>(cpu);
    if (mask.size() <= bit / word_bits) mask.resize(bit / word_bits + 1);
    mask[bit / word_bits] |= 1UL << (bit % word_bits);
  }
  return status("sched_setaffinity",
                [&] { return ::syscall(SYS_sched_setaffinity, pid, mask.size() * sizeof(unsigned long), mask.data()); });
}
Status ioprio_set(int pid, int io_class, int level) {
  return status("ioprio_set", [&] {
    return ::syscall(SYS_ioprio_set, abi::ioprio_who_process, pid, (io_class << abi::ioprio_class_shift) | level);
  });
}
Result<unsigned long> personality(unsigned long persona) {
  return value<unsigned long>("personality", [&] { return ::personality(persona); });
}
Status sethostname(std::string_view name) {
  return status("sethostname", [&] { return ::sethostname(name.data(), name.size()); }, name);
}
Status setdomainname(std::string_view name) {
  return status("setdomainname", [&] { return ::setdomainname(name.data(), name.size()); }, name);
}

}  // namespace caisson::linux
