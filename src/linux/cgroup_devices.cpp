// The device rules of cgroup v2: an eBPF program, built by hand, that says yes or no to each open and mknod.
#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "linux/cgroup.hpp"
#include "linux/cgroup_plan.hpp"
#include "linux/syscall.hpp"

namespace caisson::linux {

namespace {

constexpr std::uint32_t access_of(char letter) {
  switch (letter) {
    case 'm': return BPF_DEVCG_ACC_MKNOD;
    case 'r': return BPF_DEVCG_ACC_READ;
    case 'w': return BPF_DEVCG_ACC_WRITE;
    default: return 0;
  }
}
constexpr std::uint32_t full_access = BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE;

std::uint32_t access_bits(const std::string& letters) {
  std::uint32_t bits = 0;
  for (const char letter : letters) bits |= access_of(letter);
  return letters.empty() ? full_access : bits;
}

/// Instructions as the kernel's struct bpf_insn: opcode 8, registers 4+4, offset 16, immediate 32.
class Program {
 public:
  void load_field(int target, std::int16_t offset) { add(BPF_LDX | BPF_MEM | BPF_W, target, 1, offset, 0); }
  void move(int target, int source) { add(BPF_ALU64 | BPF_MOV | BPF_X, target, source, 0, 0); }
  void set(int target, std::int32_t value) { add(BPF_ALU64 | BPF_MOV | BPF_K, target, 0, 0, value); }
  void mask(int target, std::int32_t value) { add(BPF_ALU | BPF_AND | BPF_K, target, 0, 0, value); }
  void shift_right(int target, std::int32_t bits) { add(BPF_ALU | BPF_RSH | BPF_K, target, 0, 0, bits); }
  /// A jump whose distance is not known yet; returns its place for land().
  std::size_t jump_unless_equal(int reg, std::int32_t value) {
    add(BPF_JMP32 | BPF_JNE | BPF_K, reg, 0, 0, value);
    return code_.size() - 1;
  }
  std::size_t jump_if_equal(int reg, std::int32_t value) {
    add(BPF_JMP32 | BPF_JEQ | BPF_K, reg, 0, 0, value);
    return code_.size() - 1;
  }
  void land(std::size_t jump) {
    const auto distance = static_cast<std::uint16_t>(code_.size() - jump - 1);
    code_[jump] = (code_[jump] & ~0xffff0000ULL) | std::uint64_t{distance} << 16U;
  }
  void answer(bool allow) {
    set(0, allow ? 1 : 0);
    add(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
  }
  std::vector<std::uint64_t> take() { return std::move(code_); }

 private:
  void add(unsigned opcode, int target, int source, std::int16_t offset, std::int32_t immediate) {
    code_.push_back(std::uint64_t{opcode & 0xffU} | std::uint64_t{static_cast<unsigned>(target)} << 8U |
                    std::uint64_t{static_cast<unsigned>(source)} << 12U |
                    std::uint64_t{static_cast<std::uint16_t>(offset)} << 16U |
                    std::uint64_t{static_cast<std::uint32_t>(immediate)} << 32U);
  }
  std::vector<std::uint64_t> code_;
};

constexpr int type_register = 2;
constexpr int access_register = 3;  // the asked bits that no rule has decided yet
constexpr int major_register = 4;
constexpr int minor_register = 5;
constexpr int scratch_register = 6;

/// One rule. Returns true when it decides everything, so that nothing behind it could run (the verifier refuses such code).
bool add_rule(Program& program, const CgroupDeviceRule& rule) {
  const std::uint32_t access = rule.type == 'a' ? full_access : access_bits(rule.access);
  if (access == 0) return false;
  std::vector<std::size_t> misses;
  if (rule.type != 'a') {
    const int type = rule.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR;
    misses.push_back(program.jump_unless_equal(type_register, type));
    if (rule.major) misses.push_back(program.jump_unless_equal(major_register, static_cast<std::int32_t>(*rule.major)));
    if (rule.minor) misses.push_back(program.jump_unless_equal(minor_register, static_cast<std::int32_t>(*rule.minor)));
  }
  if (access == full_access) {
    program.answer(rule.allow);
  } else if (rule.allow) {
    program.mask(access_register, static_cast<std::int32_t>(~access & full_access));
    misses.push_back(program.jump_unless_equal(access_register, 0));
    program.answer(true);
  } else {
    program.move(scratch_register, access_register);
    program.mask(scratch_register, static_cast<std::int32_t>(access));
    misses.push_back(program.jump_if_equal(scratch_register, 0));
    program.answer(false);
  }
  for (const std::size_t miss : misses) program.land(miss);
  return misses.empty();
}

}  // namespace

std::vector<std::uint64_t> build_device_filter(const std::vector<CgroupDeviceRule>& rules) {
  Program program;
  // struct bpf_cgroup_dev_ctx: access_type (type in the low half, access bits in the high), major, minor.
  program.load_field(type_register, 0);
  program.move(access_register, type_register);
  program.mask(type_register, 0xffff);
  program.shift_right(access_register, 16);
  program.load_field(major_register, 4);
  program.load_field(minor_register, 8);
  // v1 edits a list in order, so the last rule about a device and an access wins: walk backwards, and let each asked bit
  // be decided by the first rule met. Rules with fewer than all bits then add up, as they do on v1.
  for (std::size_t i = rules.size(); i > 0; --i)
    if (add_rule(program, rules[i - 1])) return program.take();
  program.answer(false);
  return program.take();
}

namespace {

long bpf(int command, union ::bpf_attr& attr) {
  return detail::call_raw("bpf", [&] { return ::syscall(SYS_bpf, command, &attr, sizeof attr); });
}

Result<UniqueFd> load_program(const std::vector<std::uint64_t>& code) {
  static constexpr char license[] = "Apache-2.0";
  std::string log;
  union ::bpf_attr attr;
  std::memset(&attr, 0, sizeof attr);
  attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
  attr.insns = reinterpret_cast<std::uintptr_t>(code.data());
  attr.insn_cnt = static_cast<std::uint32_t>(code.size());
  attr.license = reinterpret_cast<std::uintptr_t>(license);
  std::memcpy(attr.prog_name, "caisson_devices", sizeof "caisson_devices");
  long fd = bpf(BPF_PROG_LOAD, attr);
  if (fd >= 0) return UniqueFd(static_cast<int>(fd));
  const auto reason = static_cast<int>(-fd);
  if (reason == EINVAL || reason == EACCES) {
    // Again with the verifier's words; it is quicker without them.
    log.resize(65536);
    attr.log_level = 1;
    attr.log_buf = reinterpret_cast<std::uintptr_t>(log.data());
    attr.log_size = static_cast<std::uint32_t>(log.size());
    fd = bpf(BPF_PROG_LOAD, attr);
    if (fd >= 0) return UniqueFd(static_cast<int>(fd));
    log.resize(std::strlen(log.c_str()));
  }
  return Error::from_errno(reason, concat("load the device filter", log.empty() ? "" : ": ", trim(log)));
}

struct Attached {
  std::vector<std::uint32_t> ids;
  std::uint32_t flags = 0;
};
Result<Attached> attached_programs(int cgroup_dir_fd) {
  std::array<std::uint32_t, 64> ids{};
  union ::bpf_attr attr;
  std::memset(&attr, 0, sizeof attr);
  attr.query.target_fd = static_cast<std::uint32_t>(cgroup_dir_fd);
  attr.query.attach_type = BPF_CGROUP_DEVICE;
  attr.query.prog_ids = reinterpret_cast<std::uintptr_t>(ids.data());
  attr.query.prog_cnt = ids.size();
  const long done = bpf(BPF_PROG_QUERY, attr);
  if (done < 0) return Error::from_errno(static_cast<int>(-done), "list device filters");
  Attached out;
  out.ids.assign(ids.begin(), ids.begin() + attr.query.prog_cnt);
  out.flags = attr.query.attach_flags;
  return out;
}

Status detach(int cgroup_dir_fd, std::uint32_t id) {
  union ::bpf_attr attr;
  std::memset(&attr, 0, sizeof attr);
  attr.prog_id = id;
  const long fd = bpf(BPF_PROG_GET_FD_BY_ID, attr);
  if (fd < 0) return Error::from_errno(static_cast<int>(-fd), "open the old device filter");
  const UniqueFd program(static_cast<int>(fd));
  std::memset(&attr, 0, sizeof attr);
  attr.target_fd = static_cast<std::uint32_t>(cgroup_dir_fd);
  attr.attach_bpf_fd = static_cast<std::uint32_t>(program.get());
  attr.attach_type = BPF_CGROUP_DEVICE;
  const long done = bpf(BPF_PROG_DETACH, attr);
  if (done < 0) return Error::from_errno(static_cast<int>(-done), "detach the old device filter");
  return {};
}

}  // namespace

Status detail::check_device_rules(const std::vector<CgroupDeviceRule>& rules) {
  for (const CgroupDeviceRule& rule : rules) {
    if (rule.type != 'a' && rule.type != 'b' && rule.type != 'c')
      return Error(ErrorKind::invalid, concat("device rule: type \"", rule.type, "\" is not a, b or c"), EINVAL);
    for (const char letter : rule.access)
      if (access_of(letter) == 0) return Error(ErrorKind::invalid, concat("device rule: access \"", rule.access, "\" is not of r, w, m"), EINVAL);
    for (const auto& number : {rule.major, rule.minor})
      if (number && (*number < 0 || *number > INT32_MAX))
        return Error(ErrorKind::invalid, concat("device rule: number ", *number, " does not exist"), EINVAL);
  }
  return {};
}

Status attach_device_filter(int cgroup_dir_fd, const std::vector<CgroupDeviceRule>& rules) {
  TRY_PLAIN(detail::check_device_rules(rules));
  const UniqueFd program = TRY_PLAIN(load_program(build_device_filter(rules)));
  const Attached before = TRY_PLAIN(attached_programs(cgroup_dir_fd));
  union ::bpf_attr attr;
  std::memset(&attr, 0, sizeof attr);
  attr.target_fd = static_cast<std::uint32_t>(cgroup_dir_fd);
  attr.attach_bpf_fd = static_cast<std::uint32_t>(program.get());
  attr.attach_type = BPF_CGROUP_DEVICE;
  // Several programs must all say yes: the new one is in force before the old one goes.
  attr.attach_flags = before.ids.empty() ? BPF_F_ALLOW_MULTI : before.flags;
  const long done = bpf(BPF_PROG_ATTACH, attr);
  if (done < 0) return Error::from_errno(static_cast<int>(-done), "attach the device filter");
  if ((attr.attach_flags & BPF_F_ALLOW_MULTI) == 0) return {};  // without it, attaching has replaced the old one
  for (const std::uint32_t id : before.ids) TRY_PLAIN(detach(cgroup_dir_fd, id));
  return {};
}

}  // namespace caisson::linux
