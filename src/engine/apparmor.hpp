// The AppArmor profile of containers that name none.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson::engine {

inline constexpr std::string_view default_apparmor_name = "caisson-default";

/// The profile's source, each rule with its reason. Needs no file beside it, and is understood by parsers from 3.0 on. Pure.
std::string default_apparmor_text();

/// Loads it into the kernel, in the place of an earlier one, by apparmor_parser(8). False: AppArmor is off here. Privilege: CAP_MAC_ADMIN.
/// Errors: unavailable (no apparmor_parser), invalid, in its words.
Result<bool> load_default_apparmor();

}  // namespace caisson::engine
