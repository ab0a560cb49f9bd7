// Fuzzes build files: whatever the text, it is a plan or a refusal, in bounded work.
#include "bake/bake.hpp"
#include "fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  auto text = fuzz::text_of(data, size);
  for (const char* name : {"f.hcl", "f.json", "f.yaml"}) {
    bake::Request request;
    request.files.push_back({name, std::string(text)});
    request.overrides = {"*.args.A=1"};
    auto plan = bake::plan(request);
    if (!plan.ok()) {
      fuzz::demand(!plan.error().text().empty(), "a refusal says why");
      continue;
    }
    fuzz::demand(!bake::plan_json(*plan).empty(), "a plan can be shown");
  }
  return 0;
}
