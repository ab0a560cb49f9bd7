// Fuzzes image references: what parses has a canonical form that parses to itself.
#include "base/reference.hpp"
#include "fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  auto reference = parse_reference(fuzz::text_of(data, size));
  if (!reference.ok()) return 0;
  auto canonical = parse_reference(reference->canonical());
  fuzz::demand(canonical.ok() && canonical->canonical() == reference->canonical(), "the canonical form stands for itself");
  auto familiar = parse_reference(reference->familiar());
  fuzz::demand(familiar.ok() && familiar->canonical() == reference->canonical(), "the familiar form means the same");
  return 0;
}
