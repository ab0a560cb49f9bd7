// Files from the network, for ADD: read by a process that owns nothing.
#pragma once

#include <string>

#include "base/cancel.hpp"
#include "base/result.hpp"

namespace caisson::build {

/// Writes what http:// or https:// `url` gives to target_fd (borrowed). Redirects are followed to these two only.
/// Errors: io, naming the URL; unavailable (cancelled, or no curl on this host).
Status fetch_url(const std::string& url, int target_fd, Cancel cancel);

}  // namespace caisson::build
