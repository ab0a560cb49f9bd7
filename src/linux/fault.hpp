// The fault hook: lets a test make the Nth call of a named system call wrapper fail with a chosen errno.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

namespace caisson::linux {

namespace fault {
/// True while any fault or counter is set. The only thing an unset hook costs is one relaxed load of this flag.
extern std::atomic<bool> armed;  // a global on purpose: a hook handed through every call would change every signature

/// Async-signal-safe and allocation-free, so that children between clone and exec may call it.
int check_slow(const char* name) noexcept;

/// The errno that the call of wrapper `name` must fail with now; 0: go on. Every wrapper begins with it.
inline int check(const char* name) noexcept {
  return armed.load(std::memory_order_relaxed) ? check_slow(name) : 0;
}

/// Reads "name:errno:nth[,name:errno:nth…]" ("openat2:ENOSPC:3"; name "*" matches every wrapper but eventfd_signal, which the kernel cannot fail) and arms it for the
/// life of the process. Builds with CAISSON_FAULTS do this with $CAISSON_FAULT before main. Returns false when the text
/// is malformed or there are too many faults; then nothing of it is armed.
bool arm_from_text(std::string_view text);
}  // namespace fault

enum class FaultRepeat : std::uint8_t { once, always };

/// While it lives, call number `nth` (from 1, counted from construction, in all threads) of wrapper `name` fails with
/// `error_number`; with FaultRepeat::always every later one too. Name "*" counts all wrappers: a fault walk first counts
/// the calls of an operation with ScopedCallCount and then fails each in turn.
/// Precondition: at most 8 faults and counters at a time.
class ScopedFault {
 public:
  ScopedFault(std::string_view name, int error_number, std::uint32_t nth = 1, FaultRepeat repeat = FaultRepeat::once);
  ~ScopedFault();
  ScopedFault(const ScopedFault&) = delete;
  ScopedFault& operator=(const ScopedFault&) = delete;
  /// Whether a call has failed because of it.
  [[nodiscard]] bool fired() const;
  /// The name of the wrapper that failed first; empty when none has.
  [[nodiscard]] std::string fired_name() const;

 private:
  int slot_;
};

/// Counts the calls of wrapper `name` ("*": of all wrappers) while it lives.
class ScopedCallCount {
 public:
  explicit ScopedCallCount(std::string_view name = "*");
  ~ScopedCallCount();
  ScopedCallCount(const ScopedCallCount&) = delete;
  ScopedCallCount& operator=(const ScopedCallCount&) = delete;
  [[nodiscard]] std::uint32_t value() const;

 private:
  int slot_;
};

}  // namespace caisson::linux
