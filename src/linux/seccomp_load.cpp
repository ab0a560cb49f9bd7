// seccomp(2), the system call.
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/strings.hpp"
#include "linux/seccomp.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

int load_seccomp_raw(const sock_filter* filter, std::size_t count, std::uint32_t flags) noexcept {
  sock_fprog program{};
  program.len = static_cast<unsigned short>(count);
  program.filter = const_cast<sock_filter*>(filter);  // the kernel copies it; its struct just has no const
  return static_cast<int>(
      detail::call_raw("seccomp", [&] { return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program); }));
}

std::vector<std::string> seccomp_flags_unknown_here(std::uint32_t flags) {
  struct Flag {
    std::string_view word;
    std::uint32_t value;
    std::uint32_t needs;  ///< the kernel refuses the flag without this one
  };
  constexpr Flag words[] = {
      {"SECCOMP_FILTER_FLAG_TSYNC", SECCOMP_FILTER_FLAG_TSYNC, 0},
      {"SECCOMP_FILTER_FLAG_LOG", SECCOMP_FILTER_FLAG_LOG, 0},
      {"SECCOMP_FILTER_FLAG_SPEC_ALLOW", SECCOMP_FILTER_FLAG_SPEC_ALLOW, 0},
      {"SECCOMP_FILTER_FLAG_NEW_LISTENER", SECCOMP_FILTER_FLAG_NEW_LISTENER, 0},
      {"SECCOMP_FILTER_FLAG_TSYNC_ESRCH", SECCOMP_FILTER_FLAG_TSYNC_ESRCH, 0},
      {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, SECCOMP_FILTER_FLAG_NEW_LISTENER},
  };
  std::vector<std::string> unknown;
  for (const auto& flag : words) {
    // Without a program a flag that is known gets as far as EFAULT (seccomp(2), "ERRORS"); nothing is installed.
    const auto probe = [&] { return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flag.value | flag.needs, nullptr); };
    if ((flags & flag.value) != 0 && detail::call_raw("seccomp", probe) == -EINVAL) unknown.emplace_back(flag.word);
    flags &= ~flag.value;
  }
  if (flags != 0) unknown.push_back(concat("flag ", flags));
  return unknown;
}

Result<int> load_seccomp(const SeccompProgram& program) {
  int result = load_seccomp_raw(program.filter.data(), program.filter.size(), program.flags);
  if (result < 0) return Error::from_errno(-result, concat("seccomp(SET_MODE_FILTER, ", program.filter.size(), " instructions)"));
  return program.needs_listener ? result : -1;
}

}  // namespace caisson::linux
