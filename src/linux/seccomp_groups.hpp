// What the allow-lists of our own unprivileged processes have in common, and how such a list becomes a filter.
#pragma once

#include <initializer_list>
#include <span>

#include "linux/seccomp.hpp"

namespace caisson::linux::detail {

/// Calls that are allowed when the conditions hold.
struct AllowedCalls {
  const char* reason;  ///< read by people; the filter has no place for it
  std::initializer_list<const char*> names;
  std::initializer_list<SeccompCondition> conditions;
};

/// `own`, and what every such process needs: memory that is never executable, threads, signals, time, random numbers, identity. Everything
/// else gives EPERM.
SeccompFilterSpec allow_list(std::span<const AllowedCalls> own);

}  // namespace caisson::linux::detail
