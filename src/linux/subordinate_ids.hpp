// A user's name, and the ranges of ids that he may give to processes of his own: /etc/passwd, /etc/subuid and /etc/subgid (subuid(5)). Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "linux/mount.hpp"

namespace caisson::linux {

/// The name of that user in the text of /etc/passwd; "": it stands elsewhere. No NSS, which a static binary has not.
std::string user_name(std::string_view passwd, std::uint32_t id);

struct IdRange {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  bool operator==(const IdRange&) const = default;
};

/// The ranges of one user in a text of lines "USER:FIRST:COUNT", in its order. USER is a name or a number; an empty `name` fits numbers only.
/// Lines that are for others or say nothing (no number, no id, beyond the last one) are passed over, as newuidmap does it.
std::vector<IdRange> subordinate_ids(std::string_view text, std::string_view name, std::uint32_t id);

/// How many ids they are together.
std::uint64_t count_ids(const std::vector<IdRange>& ranges);

/// The ids of a user namespace of that user: 0 is the user, and from 1 on come the ranges in their order, `most` ids of them at most. Ranges that
/// overlap an earlier one are left out, because the kernel would refuse the whole map.
std::vector<IdMapping> map_of_user(std::uint32_t own_id, const std::vector<IdRange>& ranges, std::uint32_t most);

}  // namespace caisson::linux
