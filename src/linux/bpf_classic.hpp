// An assembler for classic BPF, the language of seccomp filters (seccomp(2), Documentation/networking/filter.rst).
#pragma once

#include <linux/filter.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "base/result.hpp"

namespace caisson::linux {

/// The kernel's BPF_MAXINSNS: a longer program is refused with EINVAL.
inline constexpr std::size_t bpf_max_instructions = 4096;

/// True for a program of the assembler's own instructions that reads only below `data_size` bytes, jumps only forward and inside
/// itself, and cannot run past its end. The kernel asks for no less (net/core/filter.c, bpf_check_classic).
bool is_sound_filter(std::span<const sock_filter> filter, std::size_t data_size);

/// Builds a program from its end to its beginning: jumps of classic BPF only go forward, so a target always exists before
/// the jump to it. Conditional jumps reach 255 instructions; where a target is farther, a copy of its `ret` or an
/// unconditional jump is put within reach.
class BpfAssembler {
 public:
  /// A place in the program, counted from its end.
  using Label = std::size_t;

  /// `return value`. Asked again for the same value, gives the same label.
  Label ret(std::uint32_t value);
  /// `if (A <comparison> k) goto yes; else goto no;` with comparison one of BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET.
  Label jump_if(std::uint16_t comparison, std::uint32_t k, Label yes, Label no);
  /// `A = word at byte offset of the data; goto next;`
  Label load(std::uint32_t offset, Label next);
  /// `A = A & mask; goto next;`
  Label mask(std::uint32_t mask, Label next);

  /// The program in execution order; it begins with the last instruction built.
  /// Errors: unsupported when it is longer than the kernel accepts.
  [[nodiscard]] Result<std::vector<sock_filter>> finish(Label entry) &&;

 private:
  Label emit(std::uint16_t code, std::uint32_t k, std::uint8_t jt = 0, std::uint8_t jf = 0);
  [[nodiscard]] std::size_t distance(Label target) const;
  /// A label with the effect of `target` that an instruction emitted after at most `later` further ones can reach.
  Label within_reach(Label target, std::size_t later);
  /// Makes `next` the instruction that follows the one emitted next.
  void fall_through_to(Label next);

  std::vector<sock_filter> reversed_;
  std::map<std::uint32_t, Label> returns_;  ///< nearest `ret` per value
  std::map<Label, Label> nearest_;          ///< original label → its nearest stand-in
};

}  // namespace caisson::linux
