// OpenPGP messages, verified by gpgv in a process that can reach nothing.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace caisson::trust {

/// The text that a message holds and one of the keyrings' keys signed. `keyrings`: exported public keys, binary or in ASCII armor.
/// gpgv runs as nobody in namespaces of its own without a network, confined to reading system files.
/// Errors: denied (no good signature by these keys), invalid (a keyring is none), unavailable (gpgv is not installed), io.
Result<std::string> verify_openpgp(const std::vector<std::string>& keyrings, std::string_view message);

/// RFC 9580, 6: the bytes inside ASCII armor; what is not armored is given back as it is. Pure. Errors: invalid.
Result<std::string> take_armor_off(std::string_view text);

/// Whether gpgv's status lines say that exactly one signature was made, that it is good, and that its key had neither expired nor been
/// revoked. Pure; the lines are those of GnuPG's doc/DETAILS.
bool is_good_status(std::string_view lines);

}  // namespace caisson::trust
