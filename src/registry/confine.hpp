// How the server gives up its rights: another user, no capability, its own folder, few system calls.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.hpp"

namespace caisson::registry {

struct Identity {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};
/// Whom the server runs as. `user`: "UID[:GID]", a name of /etc/passwd, or "": the owner of `root` when it is there and not the superuser's, else an id
/// that nobody else has. Who is not the superuser stays who they are. Errors: invalid, not_found, denied (the superuser's).
Result<Identity> choose_identity(const std::string& user, const std::string& root);
/// Makes the folder, private to `identity`. An empty one of the superuser's is given away. Errors: denied (it is somebody else's).
Status prepare_root(const std::string& root, const Identity& identity);
/// From the superuser to `identity`, for good. Precondition: one thread. Errors: denied.
Status become(const Identity& identity);
/// Landlock on `root` and the registry's seccomp filter. Precondition: one thread; nothing is to be opened elsewhere afterwards.
Status confine(const std::string& root);

}  // namespace caisson::registry
