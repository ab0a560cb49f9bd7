// seccomp filters: a profile in words is compiled to classic BPF (pure), and a compiled program is loaded (one system call).
#pragma once

#include <linux/filter.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/codec.hpp"
#include "base/result.hpp"
#include "linux/syscall_table.hpp"

namespace caisson {
/// For base/codec.hpp: compiled programs travel to the launcher and lie in caches.
template <class C>
void visit(C& c, sock_filter& instruction) {
  c(instruction.code);
  c(instruction.jt);
  c(instruction.jf);
  c(instruction.k);
}
template <>
inline constexpr bool is_encoded_as_it_lies<sock_filter> = true;
}  // namespace caisson

namespace caisson::linux {

enum class SeccompAction : std::uint8_t { kill_process, kill_thread, trap, error, trace, allow, log, notify };
/// "SCMP_ACT_ERRNO" …, the words of the OCI runtime specification. Errors: invalid, naming the word.
Result<SeccompAction> parse_seccomp_action(std::string_view word);

enum class SeccompOperator : std::uint8_t { not_equal, less, less_equal, equal, greater_equal, greater, masked_equal };
/// "SCMP_CMP_EQ" …. Errors: invalid, naming the word.
Result<SeccompOperator> parse_seccomp_operator(std::string_view word);

/// A comparison of one argument, unsigned. On 32-bit architectures the low words are compared.
struct SeccompCondition {
  std::uint32_t index = 0;  ///< 0…5
  SeccompOperator op = SeccompOperator::equal;
  std::uint64_t value = 0;      ///< masked_equal: the mask
  std::uint64_t value_two = 0;  ///< masked_equal: what the masked argument is compared with
  bool operator==(const SeccompCondition&) const = default;
};

struct SeccompFilterRule {
  std::vector<std::string> names;
  SeccompAction action = SeccompAction::allow;
  std::optional<std::uint32_t> errno_value;  ///< only with error (default EPERM) and trace (default EPERM, the tracer's message)
  /// All must hold. When an index occurs twice, each condition is a rule of its own (any may hold), as the OCI
  /// runtimes do it.
  std::vector<SeccompCondition> conditions;
};

/// A profile as the OCI runtime specification means it.
struct SeccompFilterSpec {
  SeccompAction default_action = SeccompAction::error;
  std::optional<std::uint32_t> default_errno;
  std::vector<std::string> architectures;  ///< "SCMP_ARCH_X86_64"; the native one is always included
  std::vector<std::string> flags;          ///< "SECCOMP_FILTER_FLAG_LOG"
  std::vector<SeccompFilterRule> rules;
};

struct SeccompProgram {
  std::vector<sock_filter> filter;
  std::uint32_t flags = 0;            ///< SECCOMP_FILTER_FLAG_… for seccomp(2)
  bool needs_listener = false;        ///< a rule notifies: load with flags | SECCOMP_FILTER_FLAG_NEW_LISTENER (already in `flags`)
  std::vector<std::string> warnings;  ///< one sentence per call or architecture that had to be skipped
};
template <class C>
void visit(C& c, SeccompProgram& p) {
  c(p.filter);
  c(p.flags);
  c(p.needs_listener);
  c(p.warnings);
}

/// Changes whenever the compiler's output for the same profile may change; part of the key of any cache of programs.
inline constexpr std::uint32_t seccomp_compiler_version = 3;

/// The architecture this program was built for.
SyscallArch native_architecture();

/// Compiles a profile for a kernel of architecture `native` (x86_64, aarch64 or riscv64). Pure.
///  * Per architecture the numbers form sorted runs, decided by a tree that halves the numbers; argument rules are its leaves.
///  * Architectures: x86_64 with x32 and i386, aarch64 with arm, riscv64; others in a profile cannot occur on such a kernel.
///  * An unconditional rule wins over conditional ones of the same call; conditional ones are tried in the profile's order.
///  * A number above the newest call the profile names gives ENOSYS when the default action refuses (an old profile must
///    not break a new libc, which tries a new call and falls back on ENOSYS but not on EPERM). So do x32 numbers when x32 is
///    not among the architectures, whatever the default is.
///  * A call from an architecture that is not in the profile kills the process.
///  * Names unknown to us are skipped with a warning.
/// Errors: invalid (naming rule and field), unsupported (more than 4096 instructions, architecture words we do not know).
Result<SeccompProgram> compile_seccomp(const SeccompFilterSpec& spec, SyscallArch native = native_architecture());

/// Whether a program that was read from somewhere is one that compile_seccomp could have made: only the instructions it uses, loads
/// inside seccomp_data, jumps forward and inside the program, a return at the end, flags it knows.
bool is_seccomp_program(const SeccompProgram& program);

/// Installs the program for the calling thread. Returns the listener's descriptor when the program needs one, else an empty
/// UniqueFd-to-be of -1. Privilege: CAP_SYS_ADMIN in the user namespace, or no_new_privs set before. Allocates nothing.
/// Kernel 3.17; flags LOG 4.14, SPEC_ALLOW 4.17, NEW_LISTENER 5.0, WAIT_KILLABLE_RECV 5.19. On failure: -errno.
int load_seccomp_raw(const sock_filter* filter, std::size_t count, std::uint32_t flags) noexcept;

/// The words of those among `flags` that the running kernel does not know, for the message about a load that failed with EINVAL.
std::vector<std::string> seccomp_flags_unknown_here(std::uint32_t flags);

/// load_seccomp_raw with a Result, for everything that is not a freshly cloned child.
/// Errors: denied (neither privilege nor no_new_privs), invalid (a flag this kernel does not know), io.
Result<int> load_seccomp(const SeccompProgram& program);

}  // namespace caisson::linux
