// Capabilities: names, sets, and dropping them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace caisson::linux {

/// The highest capability this build knows by name: CAP_CHECKPOINT_RESTORE (5.9).
inline constexpr int max_known_capability = 40;

/// A set of capability numbers.
struct CapabilitySet {
  std::uint64_t bits = 0;
  CapabilitySet() = default;
  explicit CapabilitySet(std::uint64_t mask) : bits(mask) {}
  CapabilitySet(std::initializer_list<int> numbers) {
    for (int number : numbers) add(number);
  }
  CapabilitySet& add(int number) {
    bits |= 1ULL << static_cast<unsigned>(number);
    return *this;
  }
  CapabilitySet& remove(int number) {
    bits &= ~(1ULL << static_cast<unsigned>(number));
    return *this;
  }
  [[nodiscard]] bool contains(int number) const { return (bits >> static_cast<unsigned>(number) & 1U) != 0; }
  bool operator==(const CapabilitySet&) const = default;
};

/// "CAP_NET_ADMIN", "net_admin" or "cap_net_admin" → number. Errors: invalid, naming the text.
Result<int> capability_by_name(std::string_view name);
/// "CAP_NET_ADMIN"; "CAP_63" style for numbers beyond the table.
std::string capability_name(int number);
/// All names of a set, ascending by number.
std::vector<std::string> capability_names(CapabilitySet set);
/// Errors: invalid, naming the first unknown one.
Result<CapabilitySet> parse_capabilities(std::span<const std::string> names);

/// The highest capability the running kernel has (/proc/sys/kernel/cap_last_cap).
Result<int> last_capability();
/// All capabilities up to last_capability().
Result<CapabilitySet> all_capabilities();

struct CapabilityState {
  CapabilitySet effective;
  CapabilitySet permitted;
  CapabilitySet inheritable;
};
/// Of this thread.
Result<CapabilityState> capget();
/// Of this thread. Errors: denied when a set is not within the permitted one.
Status capset(const CapabilityState& state);
/// Removes from the bounding set for good. Privilege: CAP_SETPCAP.
Status drop_bounding(CapabilitySet dropped);
Result<CapabilitySet> bounding_set();
/// One of it. Errors: invalid (EINVAL) when the kernel knows no capability of that number.
Result<bool> in_bounding_set(int number);
Status clear_ambient();
/// Each must be permitted and inheritable.
Status raise_ambient(CapabilitySet raised);

}  // namespace caisson::linux
