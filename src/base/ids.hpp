// Random identifiers and the grammar of names.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson {

/// 64 lower-case hex digits from the kernel's random source, never all decimal in the first 12 (docker's rule: a short id
/// must not look like a number). For containers, networks and execs.
std::string random_id();

/// "[a-zA-Z0-9][a-zA-Z0-9_.-]+": names of containers, volumes and networks. `kind` is used in the error text.
/// Errors: invalid.
Status check_name(std::string_view kind, std::string_view name);

/// A readable name such as "brave_otter", chosen at random.
std::string random_name();

}  // namespace caisson
