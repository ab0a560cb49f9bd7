// The table behind the fault hook: fixed slots of atomics, because children between clone and exec read it.
#include "linux/fault.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "base/environment.hpp"
#include "base/result.hpp"
#include "base/strings.hpp"

namespace caisson::linux {

namespace fault {
std::atomic<bool> armed{false};
}

namespace {

struct Slot {
  std::atomic<bool> active{false};
  std::atomic<std::uint32_t> readers{0};  ///< threads that compare with it; it is not given to another fault under their eyes
  std::array<char, 32> name{};
  int error_number = 0;  ///< 0: counts only
  std::uint32_t nth = 0;
  bool always = false;
  std::atomic<std::uint32_t> seen{0};
  std::atomic<const char*> fired_name{nullptr};  ///< wrappers pass literals
};

std::array<Slot, 8> slots;
std::mutex slots_mutex;  // taken by tests that arm and disarm, never by check_slow

/// Sequentially consistent with arm(): whoever is counted sees that a slot is free, or is seen by who takes it.
class Reading {
 public:
  explicit Reading(Slot& slot) noexcept : slot_(slot) { slot_.readers.fetch_add(1); }
  ~Reading() { slot_.readers.fetch_sub(1); }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;

 private:
  Slot& slot_;
};

/// The kernel takes a count of one for any descriptor that is an eventfd (eventfd(2)): a failure of it would test what cannot be.
constexpr const char* never_fails = "eventfd_signal";

bool matches(const Slot& slot, const char* name) {
  if (slot.name[0] == '*') return std::strcmp(name, never_fails) != 0;
  return std::strcmp(slot.name.data(), name) == 0;
}

int arm(std::string_view name, int error_number, std::uint32_t nth, bool always) {
  const std::lock_guard lock(slots_mutex);
  for (std::size_t i = 0; i < slots.size(); ++i) {
    Slot& slot = slots[i];
    if (slot.active.load(std::memory_order_relaxed) || slot.readers.load() != 0) continue;
    if (name.empty() || name.size() >= slot.name.size()) return -1;
    slot.name.fill('\0');
    std::memcpy(slot.name.data(), name.data(), name.size());
    slot.error_number = error_number;
    slot.nth = nth;
    slot.always = always;
    slot.seen.store(0, std::memory_order_relaxed);
    slot.fired_name.store(nullptr, std::memory_order_relaxed);
    slot.active.store(true);
    fault::armed.store(true, std::memory_order_relaxed);
    return static_cast<int>(i);
  }
  return -1;
}

void disarm(int index) {
  const std::lock_guard lock(slots_mutex);
  slots[static_cast<std::size_t>(index)].active.store(false);
  bool any = false;
  for (const Slot& slot : slots) any = any || slot.active.load(std::memory_order_relaxed);
  fault::armed.store(any, std::memory_order_relaxed);
}

int arm_or_abort(std::string_view name, int error_number, std::uint32_t nth, bool always) {
  const int index = arm(name, error_number, nth, always);
  if (index < 0) std::abort();  // a test's mistake (more than 8, or a name too long), never user input
  return index;
}

Slot& slot_at(int index) { return slots[static_cast<std::size_t>(index)]; }

int errno_by_name(std::string_view name) {
  for (int number = 1; number < 134; ++number) {
    const char* known = strerrorname_np(number);
    if (known != nullptr && name == known) return number;
  }
  const auto number = parse_integer<int>(name);
  return number && *number > 0 ? *number : 0;
}

}  // namespace

namespace fault {

int check_slow(const char* name) noexcept {
  int failure = 0;
  for (Slot& slot : slots) {
    if (!slot.active.load(std::memory_order_relaxed)) continue;
    const Reading reading(slot);
    if (!slot.active.load() || !matches(slot, name)) continue;
    const std::uint32_t count = slot.seen.fetch_add(1, std::memory_order_relaxed) + 1;
    if (slot.error_number == 0 || failure != 0) continue;
    if (count == slot.nth || (slot.always && count > slot.nth)) {
      const char* none = nullptr;
      slot.fired_name.compare_exchange_strong(none, name, std::memory_order_relaxed);
      failure = slot.error_number;
    }
  }
  return failure;
}

bool arm_from_text(std::string_view text) {
  std::array<int, 8> armed_slots{};
  std::size_t count = 0;
  bool good = true;
  for (std::string_view piece : split(text, ',')) {
    const auto parts = split(piece, ':');
    const int number = parts.size() == 3 ? errno_by_name(parts[1]) : 0;
    const auto nth = parts.size() == 3 ? parse_integer<std::uint32_t>(parts[2]) : Result<std::uint32_t>(0U);
    const int index = number != 0 && nth && *nth > 0 ? arm(parts[0], number, *nth, false) : -1;
    if (index < 0) {
      good = false;
      break;
    }
    armed_slots[count++] = index;
  }
  if (!good)
    for (std::size_t i = 0; i < count; ++i) disarm(armed_slots[i]);
  return good;
}

}  // namespace fault

ScopedFault::ScopedFault(std::string_view name, int error_number, std::uint32_t nth, FaultRepeat repeat)
    : slot_(arm_or_abort(name, error_number, nth, repeat == FaultRepeat::always)) {}
ScopedFault::~ScopedFault() { disarm(slot_); }
bool ScopedFault::fired() const { return slot_at(slot_).fired_name.load() != nullptr; }
std::string ScopedFault::fired_name() const {
  const char* name = slot_at(slot_).fired_name.load();
  return name == nullptr ? std::string() : std::string(name);
}

ScopedCallCount::ScopedCallCount(std::string_view name) : slot_(arm_or_abort(name, 0, 0, false)) {}
ScopedCallCount::~ScopedCallCount() { disarm(slot_); }
std::uint32_t ScopedCallCount::value() const { return slot_at(slot_).seen.load(); }

#ifdef CAISSON_FAULTS
namespace {
/// Arms $CAISSON_FAULT before main, so that whole programs can be walked through their failures from outside.
[[maybe_unused]] const bool armed_from_environment = [] {
  const char* text = environment("CAISSON_FAULT");
  if (text == nullptr || *text == '\0') return false;
  if (fault::arm_from_text(text)) return true;
  constexpr std::string_view complaint = "CAISSON_FAULT is malformed: expected name:errno:nth[,…]\n";
  std::fwrite(complaint.data(), 1, complaint.size(), stderr);
  std::abort();  // a silent typo would make a fault test pass without its fault
}();
}  // namespace
#endif

}  // namespace caisson::linux
