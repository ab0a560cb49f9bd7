// The generated table of system calls and its look-ups.
#include "linux/syscall_table.hpp"

#include <algorithm>
#include <cstddef>
#include <iterator>

namespace caisson::linux {

struct SyscallRow {  // numbers: -1 = not there
  std::string_view name;
  std::int16_t x86_64;
  std::int16_t x32;
  std::int16_t i386;
  std::int16_t aarch64;
  std::int32_t arm;
  std::int16_t riscv64;
};

namespace {

constexpr SyscallRow table[] = {
#include "linux/syscall_table.inc"
};

constexpr bool is_sorted_by_name() {
  for (std::size_t i = 1; i < std::size(table); ++i)
    if (!(table[i - 1].name < table[i].name)) return false;
  return true;
}
static_assert(is_sorted_by_name(), "the look-up below is a binary search");

int number_in(const SyscallRow& row, SyscallArch arch) {
  switch (arch) {
    case SyscallArch::x86_64: return row.x86_64;
    case SyscallArch::x32: return row.x32;
    case SyscallArch::i386: return row.i386;
    case SyscallArch::aarch64: return row.aarch64;
    case SyscallArch::arm: return row.arm;
    case SyscallArch::riscv64: return row.riscv64;
  }
  return -1;
}

// Calls of architectures whose tables we do not carry. Profiles written for all of Docker's platforms name them; they are
// no reason for a warning.
constexpr std::string_view other_platforms[] = {"multiplexer",
                                                "rtas",
                                                "s390_guarded_storage",
                                                "s390_pci_mmio_read",
                                                "s390_pci_mmio_write",
                                                "s390_runtime_instr",
                                                "s390_sthyi",
                                                "spu_create",
                                                "spu_run",
                                                "subpage_prot",
                                                "swapcontext",
                                                "switch_endian",
                                                "sys_debug_setcontext",
                                                "sysmips",
                                                "timerfd"};

}  // namespace

const SyscallRow* find_syscall(std::string_view name) {
  const auto* found = std::lower_bound(std::begin(table), std::end(table), name,
                                       [](const SyscallRow& row, std::string_view wanted) { return row.name < wanted; });
  return found != std::end(table) && found->name == name ? found : nullptr;
}

std::optional<std::uint32_t> syscall_number(SyscallArch arch, const SyscallRow& row) {
  const int number = number_in(row, arch);
  if (number < 0) return std::nullopt;
  return static_cast<std::uint32_t>(number) | (arch == SyscallArch::x32 ? x32_bit : 0);
}

std::optional<std::uint32_t> syscall_number(SyscallArch arch, std::string_view name) {
  const SyscallRow* row = find_syscall(name);
  return row == nullptr ? std::nullopt : syscall_number(arch, *row);
}

std::string_view syscall_name(SyscallArch arch, std::uint32_t number) {
  if (arch == SyscallArch::x32) {
    if ((number & x32_bit) == 0) return {};
    number &= ~x32_bit;
  }
  for (const SyscallRow& row : table) {
    int candidate = number_in(row, arch);
    if (candidate >= 0 && static_cast<std::uint32_t>(candidate) == number) return row.name;
  }
  return {};
}

bool is_known_syscall(std::string_view name) {
  return find_syscall(name) != nullptr ||
         std::find(std::begin(other_platforms), std::end(other_platforms), name) != std::end(other_platforms);
}

}  // namespace caisson::linux
