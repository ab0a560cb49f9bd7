// Which capabilities a container's root has: the default set with its reasons, and --cap-add / --cap-drop / --privileged.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace caisson::engine {

/// Every capability name the kernel's headers know (capabilities(7)), "CAP_CHOWN" first, in bit order.
std::span<const std::string_view> all_capabilities();

/// What an ordinary container gets.
std::span<const std::string_view> default_capabilities();

/// "net_admin" and "CAP_NET_ADMIN" → "CAP_NET_ADMIN"; "all" → "ALL". Errors: invalid (docker's words for an unknown name).
Result<std::string> normalize_capability(std::string_view name);

/// The default set, minus `drop`, plus `add`; "ALL" in either works as in docker: dropping ALL starts from nothing, adding ALL
/// starts from everything, and the single names of the other list then apply. Result in bit order. Errors: invalid.
Result<std::vector<std::string>> resolve_capabilities(std::span<const std::string> add, std::span<const std::string> drop, bool privileged);

}  // namespace caisson::engine
