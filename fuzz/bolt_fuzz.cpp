// Fuzzes BoltDB files: whatever they say, only bytes of theirs are handed out, and no more of them than there are.
#include "cli/bolt.hpp"
#include "cli/docker_folder.hpp"
#include "fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  auto bytes = fuzz::text_of(data, size);
  auto database = cli::BoltDatabase::open(bytes, "input");
  if (!database.ok()) return 0;
  std::size_t elements = 0;
  auto is_inside = [&](std::string_view piece) { return piece.data() >= bytes.data() && piece.data() + piece.size() <= bytes.data() + bytes.size(); };
  auto walked = database->for_each("libnetwork", [&](std::string_view key, std::string_view value) -> Status {
    fuzz::demand(is_inside(key) && is_inside(value), "views lie in the file");
    fuzz::demand(++elements <= size / 16, "every element has its place in the file");
    auto network = cli::parse_docker_network(value, "input");
    if (network.ok()) fuzz::demand(!network->name.empty(), "a network has a name");
    return {};
  });
  if (!walked.ok()) fuzz::demand(walked.error().text().starts_with("input: "), "a refusal names the file");
  return 0;
}
