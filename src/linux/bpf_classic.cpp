// Classic BPF, assembled backwards.
#include "linux/bpf_classic.hpp"

#include <algorithm>
#include <string>

#include "base/strings.hpp"

namespace caisson::linux {
namespace {
constexpr std::size_t farthest_conditional_jump = 255;  // jt and jf are bytes
}

BpfAssembler::Label BpfAssembler::emit(std::uint16_t code, std::uint32_t k, std::uint8_t jt, std::uint8_t jf) {
  reversed_.push_back(sock_filter{code, jt, jf, k});
  return reversed_.size() - 1;
}

std::size_t BpfAssembler::distance(Label target) const { return reversed_.size() - 1 - target; }

BpfAssembler::Label BpfAssembler::ret(std::uint32_t value) {
  auto known = returns_.find(value);
  if (known != returns_.end()) return known->second;
  Label label = emit(BPF_RET | BPF_K, value);
  returns_.emplace(value, label);
  return label;
}

BpfAssembler::Label BpfAssembler::within_reach(Label target, std::size_t later) {
  auto stand_in = nearest_.find(target);
  Label nearest = stand_in != nearest_.end() ? stand_in->second : target;
  if (distance(nearest) + later <= farthest_conditional_jump) return nearest;
  const sock_filter& instruction = reversed_[target];
  Label fresh = instruction.code == (BPF_RET | BPF_K) ? emit(BPF_RET | BPF_K, instruction.k)
                                                      : emit(BPF_JMP | BPF_JA, static_cast<std::uint32_t>(distance(nearest)));
  nearest_[target] = fresh;
  return fresh;
}

BpfAssembler::Label BpfAssembler::jump_if(std::uint16_t comparison, std::uint32_t k, Label yes, Label no) {
  if (yes == no) return yes;
  // Making the second target reachable may put one instruction between the first and the jump, hence `later` 1.
  Label near_yes = within_reach(yes, 1);
  Label near_no = within_reach(no, 0);
  return emit(static_cast<std::uint16_t>(BPF_JMP | BPF_K | comparison), k, static_cast<std::uint8_t>(distance(near_yes)),
              static_cast<std::uint8_t>(distance(near_no)));
}

void BpfAssembler::fall_through_to(Label next) {
  if (next + 1 == reversed_.size()) return;
  emit(BPF_JMP | BPF_JA, static_cast<std::uint32_t>(distance(next)));
}

BpfAssembler::Label BpfAssembler::load(std::uint32_t offset, Label next) {
  fall_through_to(next);
  return emit(BPF_LD | BPF_W | BPF_ABS, offset);
}

BpfAssembler::Label BpfAssembler::mask(std::uint32_t mask, Label next) {
  fall_through_to(next);
  return emit(BPF_ALU | BPF_AND | BPF_K, mask);
}

Result<std::vector<sock_filter>> BpfAssembler::finish(Label entry) && {
  fall_through_to(entry);
  if (reversed_.size() > bpf_max_instructions)
    return Error(ErrorKind::unsupported, concat("the filter needs ", reversed_.size(),
                                                " BPF instructions, the kernel accepts at most ", bpf_max_instructions));
  std::reverse(reversed_.begin(), reversed_.end());
  return std::move(reversed_);
}

namespace {
bool is_sound_instruction(const sock_filter& instruction, std::size_t instructions_behind, std::size_t data_size) {
  switch (instruction.code) {
    case BPF_LD | BPF_W | BPF_ABS: return instruction.k % 4 == 0 && instruction.k < data_size;
    case BPF_ALU | BPF_AND | BPF_K: return true;
    case BPF_RET | BPF_K: return true;
    case BPF_JMP | BPF_JA: return instruction.k < instructions_behind;
    case BPF_JMP | BPF_K | BPF_JEQ:
    case BPF_JMP | BPF_K | BPF_JGT:
    case BPF_JMP | BPF_K | BPF_JGE:
    case BPF_JMP | BPF_K | BPF_JSET: return instruction.jt < instructions_behind && instruction.jf < instructions_behind;
    default: return false;
  }
}
}  // namespace

bool is_sound_filter(std::span<const sock_filter> filter, std::size_t data_size) {
  if (filter.empty() || filter.size() > bpf_max_instructions || filter.back().code != (BPF_RET | BPF_K)) return false;
  for (std::size_t i = 0; i < filter.size(); ++i)
    if (!is_sound_instruction(filter[i], filter.size() - 1 - i, data_size)) return false;
  return true;
}

}  // namespace caisson::linux
