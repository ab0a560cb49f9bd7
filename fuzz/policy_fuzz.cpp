// Fuzzes policy.json and registries.d: what is read is written the same, and for every image some part of it holds.
#include "fuzz/fuzz.hpp"
#include "trust/lookaside.hpp"
#include "trust/policy.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  const auto text = fuzz::text_of(data, size);
  const auto reference = parse_reference("r.example:5000/team/app:1").value();
  ignore(trust::find_lookaside({{"fuzz", std::string(text)}}, reference));
  auto policy = trust::parse_policy(text, "policy");
  if (!policy.ok()) return 0;
  auto again = trust::parse_policy(trust::write_policy(*policy), "policy");
  fuzz::demand(again.ok(), "what was read is written");
  fuzz::demand(trust::write_policy(*again) == trust::write_policy(*policy), "and read the same");
  auto chosen = trust::choose(*policy, "docker", reference);
  fuzz::demand(chosen.requirements != nullptr && !chosen.requirements->empty(), "there is always a requirement");
  for (const auto& requirement : *chosen.requirements) ignore(trust::check_identity(requirement.identity, reference, "r.example:5000/team/app:1"));
  return 0;
}
