// Names and numbers of system calls per architecture, for seccomp profiles, which name calls in words.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace caisson::linux {

enum class SyscallArch : std::uint8_t { x86_64, x32, i386, aarch64 };

/// x32 shares AUDIT_ARCH_X86_64 and sets this bit in its numbers (asm/unistd.h).
inline constexpr std::uint32_t x32_bit = 0x40000000;

/// The number of `name` on `arch` (x32: with its bit); nothing when that architecture has no such call or we do not know it.
std::optional<std::uint32_t> syscall_number(SyscallArch arch, std::string_view name);
/// The other direction, for messages; empty when unknown.
std::string_view syscall_name(SyscallArch arch, std::uint32_t number);
/// True when any architecture of Linux that profiles speak of has a call of that name.
bool is_known_syscall(std::string_view name);

}  // namespace caisson::linux
