// Telling the service manager that started us how far we are: sd_notify(3), without its library.
#pragma once

#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::linux {

/// A connected datagram socket to `address`, what NOTIFY_SOCKET says: a path, or "@name" in the abstract namespace. Each message sent on it is one
/// notification. Errors: invalid (a name that is too long), those of connect(2).
Result<UniqueFd> connect_service_manager(const std::string& address);

}  // namespace caisson::linux
