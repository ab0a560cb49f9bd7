// Fuzzes the OCI configuration: what parses can be written and read again without a change.
#include "fuzz/fuzz.hpp"
#include "runtime/spec.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  auto spec = runtime::parse_spec(fuzz::text_of(data, size));
  if (!spec.ok()) {
    fuzz::demand(!spec.error().text().empty(), "a refusal says why");
    return 0;
  }
  std::string written = to_text(runtime::to_json(*spec));
  auto again = runtime::parse_spec(written);
  fuzz::demand(again.ok(), "what was written parses");
  fuzz::demand(to_text(runtime::to_json(*again)) == written, "writing is stable");
  return 0;
}
