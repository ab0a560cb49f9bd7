// Lines of /etc/subuid, and the id map that a user can make of them.
#include "linux/subordinate_ids.hpp"

#include <algorithm>
#include <limits>
#include <optional>

#include "base/strings.hpp"

namespace caisson::linux {

namespace {

std::optional<IdRange> parse_range(std::string_view first, std::string_view count) {
  auto begin = parse_integer<std::uint32_t>(trim(first));
  auto size = parse_integer<std::uint32_t>(trim(count));
  if (!begin.ok() || !size.ok() || *size == 0) return std::nullopt;
  constexpr std::uint64_t no_id = std::numeric_limits<std::uint32_t>::max();
  if (std::uint64_t{*begin} + *size > no_id) return std::nullopt;
  return IdRange{*begin, *size};
}

bool overlap(const IdMapping& mapping, const IdRange& range) {
  return std::uint64_t{mapping.outside} < std::uint64_t{range.first} + range.count && std::uint64_t{range.first} < std::uint64_t{mapping.outside} + mapping.count;
}

}  // namespace

std::string user_name(std::string_view passwd, std::uint32_t id) {
  const auto number = concat(id);
  for (auto line : split(passwd, '\n')) {
    const auto columns = split(line, ':');
    if (columns.size() > 3 && columns[2] == number) return std::string(columns[0]);
  }
  return "";
}

std::vector<IdRange> subordinate_ids(std::string_view text, std::string_view name, std::uint32_t id) {
  std::vector<IdRange> out;
  for (std::string_view line : split(text, '\n')) {
    const auto columns = split(line, ':');
    if (columns.size() != 3) continue;
    const auto number = parse_integer<std::uint32_t>(columns[0]);
    const bool is_ours = (!name.empty() && columns[0] == name) || (number.ok() && *number == id);
    if (!is_ours) continue;
    if (auto range = parse_range(columns[1], columns[2])) out.push_back(*range);
  }
  return out;
}

std::uint64_t count_ids(const std::vector<IdRange>& ranges) {
  std::uint64_t count = 0;
  for (const auto& range : ranges) count += range.count;
  return count;
}

std::vector<IdMapping> map_of_user(std::uint32_t own_id, const std::vector<IdRange>& ranges, std::uint32_t most) {
  constexpr std::size_t most_lines = 340;  // user_namespaces(7)
  std::vector<IdMapping> out{{0, own_id, 1}};
  std::uint32_t inside = 1;
  for (const auto& range : ranges) {
    if (inside > most || out.size() == most_lines) break;
    if (std::any_of(out.begin(), out.end(), [&](const IdMapping& taken) { return overlap(taken, range); })) continue;
    const std::uint32_t count = std::min(range.count, most - inside + 1);
    out.push_back({inside, range.first, count});
    inside += count;
  }
  return out;
}

}  // namespace caisson::linux
