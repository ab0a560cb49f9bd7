// "--user name:group" against an image's /etc/passwd and /etc/group: pure parsing of files that nobody should trust.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace caisson::engine {

/// The texts of the two files; "" when the image has none. Lines that make no sense are skipped, as libc does.
struct AccountFiles {
  std::string passwd;
  std::string group;
};

struct ResolvedUser {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> additional_gids;  ///< sorted, without duplicates
  std::string home = "/";
  std::string name;  ///< "" when the uid has no entry
};

/// `user`: "", "name", "uid", "name:group", "uid:gid"; `groups`: further names or numbers. A number that is also a name means the
/// name. Without ":group" the primary group and the supplementary groups of the name apply. Numbers go to 2^31-1, as in docker.
/// Errors: invalid ("unable to find user bob: no matching entries in passwd file").
Result<ResolvedUser> resolve_user(std::string_view user, std::span<const std::string> groups, const AccountFiles& files);

}  // namespace caisson::engine
