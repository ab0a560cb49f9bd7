// Fuzzes `-p`: every binding that comes out has a container port, and a refusal names the text.
#include "fuzz/fuzz.hpp"
#include "network/network.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  auto bindings = network::parse_publish(fuzz::text_of(data, size));
  if (!bindings.ok()) {
    fuzz::demand(!bindings.error().text().empty(), "a refusal says why");
    return 0;
  }
  fuzz::demand(!bindings->empty(), "something was published");
  for (const auto& binding : *bindings) fuzz::demand(binding.container_port != 0, "a container port is never 0");
  return 0;
}
