// Fuzzes /etc/subuid: whatever stands in it, the map made of it is one that the kernel takes.
#include "fuzz/fuzz.hpp"
#include "linux/idmap.hpp"
#include "linux/subordinate_ids.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  constexpr std::uint32_t own_id = 1000;
  constexpr std::uint32_t most = 65535;
  const auto ranges = linux::subordinate_ids(fuzz::text_of(data, size), "anna", own_id);
  const auto map = linux::map_of_user(own_id, ranges, most);
  fuzz::demand(linux::id_map_text(map).ok(), "no overlap, no empty line, not too many lines");
  fuzz::demand(map.front() == linux::IdMapping{0, own_id, 1}, "0 is the user");
  std::uint64_t next = 0;
  for (const auto& mapping : map) {
    fuzz::demand(mapping.inside == next, "no id is left out");
    next += mapping.count;
  }
  fuzz::demand(next <= std::uint64_t{most} + 1, "no more ids than are wanted");
  return 0;
}
