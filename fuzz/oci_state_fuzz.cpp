// Fuzzes the OCI command line's own record of a container (state.json): what reads can be written and read again without a change.
#include "fuzz/fuzz.hpp"
#include "runtime/oci_state.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  auto state = runtime::read_oci_state(fuzz::text_of(data, size));
  if (!state.ok()) {
    fuzz::demand(!state.error().text().empty(), "a refusal says why");
    return 0;
  }
  fuzz::demand(runtime::OciStore::check_id(state->id).ok(), "an id that reads is a good one");
  const std::string written = runtime::write_oci_state(*state);
  auto again = runtime::read_oci_state(written);
  fuzz::demand(again.ok(), "what was written reads");
  fuzz::demand(runtime::write_oci_state(*again) == written, "writing is stable");
  return 0;
}
