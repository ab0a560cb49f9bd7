// Fuzzes the codec between our own processes with the largest message there is: a launch plan.
#include "fuzz/fuzz.hpp"
#include "runtime/plan_codec.hpp"
#include "runtime/plan.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  auto plan = decode<runtime::LaunchPlan>(fuzz::text_of(data, size), "plan");
  if (!plan.ok()) return 0;
  std::string written = encode(*plan);
  auto again = decode<runtime::LaunchPlan>(written, "plan");
  fuzz::demand(again.ok() && encode(*again) == written, "a plan survives the way");
  return 0;
}
