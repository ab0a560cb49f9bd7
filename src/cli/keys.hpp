// Key files that users name on the command line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/signature.hpp"
#include "cli/parse.hpp"
#include "cli/session.hpp"
#include "trust/key.hpp"

namespace caisson::cli {

/// Asks for a passphrase when the key has one and --passphrase-file gives none. Errors: invalid, not_found, denied.
Result<trust::PrivateKey> read_private_key(Session& session, const std::string& path, const Invocation& invocation);
Result<std::vector<PublicKey>> read_public_keys(const std::vector<std::string>& paths);

}  // namespace caisson::cli
