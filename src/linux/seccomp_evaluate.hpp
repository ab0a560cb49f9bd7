// What a seccomp filter would answer, without loading it: for tests and for "why was this call refused?".
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <initializer_list>
#include <span>

#include "linux/seccomp.hpp"

struct seccomp_data;

namespace caisson::linux {

/// What run_filter gives for a program that the kernel would not accept (runs off its end, unknown instruction).
inline constexpr std::uint32_t broken_filter = 0xdeadbeef;

/// The SECCOMP_RET_… value of the program for one call.
std::uint32_t run_filter(std::span<const sock_filter> program, const seccomp_data& data);

struct SeccompVerdict {
  SeccompAction action = SeccompAction::kill_process;
  std::uint32_t data = 0;  ///< the errno of SeccompAction::error
  bool operator==(const SeccompVerdict&) const = default;
};

/// The program's verdict on call `number` of `arch` (x32 numbers with their bit) with these arguments (the rest is 0).
/// Precondition: the program came from compile_seccomp.
SeccompVerdict evaluate_seccomp(std::span<const sock_filter> program, SyscallArch arch, std::uint32_t number,
                                std::initializer_list<std::uint64_t> arguments = {});

}  // namespace caisson::linux
