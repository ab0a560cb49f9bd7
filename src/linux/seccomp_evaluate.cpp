// An interpreter of the classic BPF instructions that seccomp filters use.
#include "linux/seccomp_evaluate.hpp"

#include <linux/audit.h>
#include <linux/seccomp.h>

#include <cstring>

namespace caisson::linux {
namespace {

std::uint32_t audit_architecture(SyscallArch arch) {
  switch (arch) {
    case SyscallArch::x86_64:
    case SyscallArch::x32: return AUDIT_ARCH_X86_64;
    case SyscallArch::i386: return AUDIT_ARCH_I386;
    case SyscallArch::aarch64: return AUDIT_ARCH_AARCH64;
    case SyscallArch::arm: return AUDIT_ARCH_ARM;
    case SyscallArch::riscv64: return AUDIT_ARCH_RISCV64;
  }
  return 0;
}

SeccompAction action_of(std::uint32_t value) {
  switch (value & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_KILL_THREAD: return SeccompAction::kill_thread;
    case SECCOMP_RET_TRAP: return SeccompAction::trap;
    case SECCOMP_RET_ERRNO: return SeccompAction::error;
    case SECCOMP_RET_USER_NOTIF: return SeccompAction::notify;
    case SECCOMP_RET_TRACE: return SeccompAction::trace;
    case SECCOMP_RET_LOG: return SeccompAction::log;
    case SECCOMP_RET_ALLOW: return SeccompAction::allow;
    default: return SeccompAction::kill_process;  // the kernel treats unknown values as the strictest one
  }
}

}  // namespace

std::uint32_t run_filter(std::span<const sock_filter> program, const seccomp_data& data) {
  std::uint32_t accumulator = 0;
  for (std::size_t i = 0; i < program.size(); ++i) {
    const sock_filter& instruction = program[i];
    const std::uint32_t k = instruction.k;
    auto branch = [&](bool taken) { i += taken ? instruction.jt : instruction.jf; };
    switch (instruction.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (k > sizeof data - sizeof accumulator) return broken_filter;
        std::memcpy(&accumulator, reinterpret_cast<const char*>(&data) + k, sizeof accumulator);
        break;
      case BPF_ALU | BPF_AND | BPF_K: accumulator &= k; break;
      case BPF_JMP | BPF_JA: i += k; break;
      case BPF_JMP | BPF_JEQ | BPF_K: branch(accumulator == k); break;
      case BPF_JMP | BPF_JGT | BPF_K: branch(accumulator > k); break;
      case BPF_JMP | BPF_JGE | BPF_K: branch(accumulator >= k); break;
      case BPF_JMP | BPF_JSET | BPF_K: branch((accumulator & k) != 0); break;
      case BPF_RET | BPF_K: return k;
      default: return broken_filter;
    }
  }
  return broken_filter;
}

SeccompVerdict evaluate_seccomp(std::span<const sock_filter> program, SyscallArch arch, std::uint32_t number,
                                std::initializer_list<std::uint64_t> arguments) {
  seccomp_data data{};
  data.nr = static_cast<int>(number);
  data.arch = audit_architecture(arch);
  std::size_t i = 0;
  for (auto argument : arguments)
    if (i < std::size(data.args)) data.args[i++] = argument;
  std::uint32_t value = run_filter(program, data);
  SeccompVerdict verdict;
  verdict.action = action_of(value);
  verdict.data = value & SECCOMP_RET_DATA;
  return verdict;
}

}  // namespace caisson::linux
