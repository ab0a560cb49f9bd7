// Daemons behind ssh: docker's way of reaching them, a program on the other side that carries one connection over its standard streams.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "wire/http_client.hpp"

namespace caisson::cli {

/// What to run for "ssh://[USER@]HOST[:PORT][/SOCKET]". The other side's caisson is asked first, then its docker, as `system dial-stdio`.
/// Errors: invalid (no host, a password, a query, or a host that ssh would take for an option).
Result<std::vector<std::string>> ssh_command(std::string_view endpoint);

/// One connection by an ssh of its own; what ssh says and asks goes to this terminal. Errors: not_found (no ssh), invalid.
Result<std::unique_ptr<wire::Client>> connect_by_ssh(const std::string& endpoint);

}  // namespace caisson::cli
