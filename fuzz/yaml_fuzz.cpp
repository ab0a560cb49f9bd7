// Fuzzes YAML: what is read can be written as JSON and read again, and a refusal names a line.
#include "base/yaml.hpp"
#include "fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  auto value = parse_yaml(fuzz::text_of(data, size), "input");
  if (!value.ok()) {
    fuzz::demand(value.error().text().starts_with("input: line "), "a refusal names its line");
    return 0;
  }
  fuzz::demand(json::serialize(*value).size() <= 8 * size + 16, "what is read is not larger than what was written, but for escapes");
  return 0;
}
