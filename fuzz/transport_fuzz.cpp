// Fuzzes what people and files say about copies: locations and lists of what to synchronise.
#include <string>

#include "fuzz/fuzz.hpp"
#include "transport/location.hpp"
#include "transport/sync_plan.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  using namespace caisson::transport;
  const auto text = fuzz::text_of(data, size);
  auto location = parse_location(text);
  if (location.ok()) {
    auto again = parse_location(to_text(*location));
    fuzz::demand(again.ok() && to_text(*again) == to_text(*location), "a location that is written and read again is the same");
  }
  for (auto format : {SyncFormat::lines, SyncFormat::yaml, SyncFormat::toml}) {
    auto list = parse_sync_list(text, format);
    if (!list.ok()) continue;
    for (const auto& entry : *list) ignore(select_tags(entry, {"1.0", "latest"}));
  }
  auto target = parse_sync_target(text);
  if (target.ok()) ignore(target_of(*target, "library/alpine"));
  return 0;
}
