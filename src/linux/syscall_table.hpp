// Names and numbers of system calls per architecture, for seccomp profiles, which name calls in words.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace caisson::linux {

enum class SyscallArch : std::uint8_t { x86_64, x32, i386, aarch64, arm, riscv64 };

/// x32 shares AUDIT_ARCH_X86_64 and sets this bit in its numbers (asm/unistd.h).
inline constexpr std::uint32_t x32_bit = 0x40000000;

/// 32-bit arm's private calls (cacheflush, set_tls …) start here, far above all others (arch/arm/include/uapi/asm/unistd.h).
inline constexpr std::uint32_t arm_private_base = 0x0f0000;

/// One call in the table: who asks for its number on several architectures looks it up once.
struct SyscallRow;
const SyscallRow* find_syscall(std::string_view name);  ///< null when no architecture here has it
std::optional<std::uint32_t> syscall_number(SyscallArch arch, const SyscallRow& row);

/// The number of `name` on `arch` (x32: with its bit); nothing when that architecture has no such call or we do not know it.
std::optional<std::uint32_t> syscall_number(SyscallArch arch, std::string_view name);
/// The other direction, for messages; empty when unknown.
std::string_view syscall_name(SyscallArch arch, std::uint32_t number);
/// True when any architecture of Linux that profiles speak of has a call of that name, in the table or not.
bool is_known_syscall(std::string_view name);

}  // namespace caisson::linux
