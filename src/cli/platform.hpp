// Platforms: of the daemon, and --platform on images that are here already.
#pragma once

#include <string>
#include <string_view>

#include "cli/session.hpp"

namespace caisson::cli {

/// Every image here is for one platform: "os/machine" or "os/machine/variant" must be it. "" fits all.
/// Errors: not_found, in docker's words; those of the daemon.
Status check_platform(Session& session, std::string_view image, std::string_view platform);

/// What the daemon's machine runs: "linux/amd64". Errors: those of the daemon.
Result<std::string> daemon_platform(Session& session);

}  // namespace caisson::cli
