// Fuzzes the records of a build cache that came from elsewhere: what is read is written and read again the same.
#include "build/portable_cache.hpp"
#include "fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  auto records = build::parse_cache_records(fuzz::text_of(data, size));
  if (!records.ok()) return 0;
  auto text = build::write_cache_records(*records);
  auto again = build::parse_cache_records(text);
  fuzz::demand(again.ok() && again->size() == records->size(), "what is read can be written and read");
  fuzz::demand(build::write_cache_records(*again) == text, "the same records give the same text");
  return 0;
}
