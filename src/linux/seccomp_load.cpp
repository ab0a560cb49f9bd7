// seccomp(2), the system call.
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "linux/seccomp.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

int load_seccomp_raw(const sock_filter* filter, std::size_t count, std::uint32_t flags) noexcept {
  sock_fprog program{};
  program.len = static_cast<unsigned short>(count);
  program.filter = const_cast<sock_filter*>(filter);  // the kernel copies it; its struct just has no const
  return static_cast<int>(detail::call_raw("seccomp", [&] { return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program); }));
}

Result<int> load_seccomp(const SeccompProgram& program) {
  int result = load_seccomp_raw(program.filter.data(), program.filter.size(), program.flags);
  if (result < 0)
    return Error::from_errno(-result, concat("seccomp(SET_MODE_FILTER, ", program.filter.size(), " instructions)"));
  return program.needs_listener ? result : -1;
}

}  // namespace caisson::linux
