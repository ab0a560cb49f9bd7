// passwd(5) and group(5), read without libc's NSS, which would load libraries and trust the file.
#include "engine/user_lookup.hpp"

#include <algorithm>
#include <optional>

#include "base/strings.hpp"

namespace caisson::engine {

namespace {
constexpr std::uint32_t largest_id = 0x7fffffff;  // docker's bound; -1 means "unchanged" to setresuid(2)

struct PasswdEntry {
  std::string_view name;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::string_view home;
};
struct GroupEntry {
  std::string_view name;
  std::uint32_t gid = 0;
  std::string_view members;
};

std::optional<std::uint32_t> id_of(std::string_view text) {
  auto number = parse_integer<std::uint32_t>(text);
  if (!number.ok() || *number > largest_id) return std::nullopt;
  return *number;
}

std::optional<PasswdEntry> parse_passwd_line(std::string_view line) {
  auto columns = split(line, ':');
  if (columns.size() < 4 || columns[0].empty()) return std::nullopt;
  auto uid = id_of(columns[2]);
  auto gid = id_of(columns[3]);
  if (!uid || !gid) return std::nullopt;
  return PasswdEntry{columns[0], *uid, *gid, columns.size() > 5 ? columns[5] : std::string_view{}};
}

std::optional<GroupEntry> parse_group_line(std::string_view line) {
  auto columns = split(line, ':');
  if (columns.size() < 3 || columns[0].empty()) return std::nullopt;
  auto gid = id_of(columns[2]);
  if (!gid) return std::nullopt;
  return GroupEntry{columns[0], *gid, columns.size() > 3 ? columns[3] : std::string_view{}};
}

/// Calls `visit(line)` until it returns true.
template <class Visit>
void for_each_line(std::string_view text, Visit visit) {
  while (!text.empty()) {
    auto halves = split_once(text, '\n');
    if (visit(trim(halves.before))) return;
    text = halves.after;
  }
}

std::optional<PasswdEntry> find_passwd(std::string_view text, std::string_view name, std::optional<std::uint32_t> uid) {
  std::optional<PasswdEntry> by_name;
  std::optional<PasswdEntry> by_uid;
  for_each_line(text, [&](std::string_view line) {
    auto entry = parse_passwd_line(line);
    if (!entry) return false;
    if (entry->name == name) by_name = entry;
    if (uid && entry->uid == *uid && !by_uid) by_uid = entry;
    return by_name.has_value();
  });
  return by_name ? by_name : by_uid;
}

Result<std::uint32_t> find_group(std::string_view text, std::string_view name) {
  std::optional<std::uint32_t> gid;
  for_each_line(text, [&](std::string_view line) {
    auto entry = parse_group_line(line);
    if (entry && entry->name == name) gid = entry->gid;
    return gid.has_value();
  });
  if (!gid) gid = id_of(name);
  if (!gid) return Error(ErrorKind::invalid, concat("unable to find group ", name, ": no matching entries in group file"));
  return *gid;
}

bool lists_member(std::string_view members, std::string_view name) {
  auto names = split(members, ',');
  return std::any_of(names.begin(), names.end(), [&](std::string_view member) { return trim(member) == name; });
}
}  // namespace

Result<ResolvedUser> resolve_user(std::string_view user, std::span<const std::string> groups, const AccountFiles& files) {
  auto halves = split_once(user, ':');
  if (halves.found && halves.after.empty()) return Error(ErrorKind::invalid, concat("user \"", user, "\": the group after ':' is empty"));
  std::string_view name = halves.before.empty() ? std::string_view("0") : halves.before;
  auto number = id_of(name);
  auto entry = find_passwd(files.passwd, name, number);
  if (!entry && !number)
    return Error(ErrorKind::invalid, concat("unable to find user ", name, ": no matching entries in passwd file"));

  ResolvedUser result;
  result.uid = entry ? entry->uid : *number;
  result.gid = entry ? entry->gid : 0;
  if (entry && entry->home.starts_with('/')) result.home = entry->home;
  if (entry) result.name = entry->name;
  if (halves.found) {
    result.gid = TRY_PLAIN(find_group(files.group, halves.after));
  } else if (entry) {
    for_each_line(files.group, [&](std::string_view line) {
      auto group = parse_group_line(line);
      if (group && lists_member(group->members, entry->name)) result.additional_gids.push_back(group->gid);
      return false;
    });
  }
  for (const auto& group : groups) result.additional_gids.push_back(TRY_PLAIN(find_group(files.group, group)));
  std::sort(result.additional_gids.begin(), result.additional_gids.end());
  result.additional_gids.erase(std::unique(result.additional_gids.begin(), result.additional_gids.end()), result.additional_gids.end());
  constexpr std::size_t most_groups = 65536;  // NGROUPS_MAX; a hostile group file must not ask for more
  if (result.additional_gids.size() > most_groups) result.additional_gids.resize(most_groups);
  return result;
}

}  // namespace caisson::engine
