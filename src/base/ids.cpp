// Random identifiers.
#include "base/ids.hpp"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "base/strings.hpp"

namespace caisson {

namespace {
/// One getrandom(2) (arc4random_buf(3), glibc 2.36). Not std::random_device: its constructor executes CPUID, which a virtual machine traps;
/// measured at 2 % of the daemon's whole work per container.
void fill_random(std::span<std::uint8_t> bytes) { arc4random_buf(bytes.data(), bytes.size()); }
}  // namespace

std::string random_id() {
  for (;;) {
    std::array<std::uint8_t, 32> bytes{};
    fill_random(bytes);
    std::string id = to_hex(bytes);
    if (std::string_view(id).substr(0, 12).find_first_not_of("0123456789") != std::string_view::npos) return id;
  }
}

Status check_name(std::string_view kind, std::string_view name) {
  auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  bool good = name.size() >= 2 && name.size() <= 255 && alphanumeric(name[0]);
  for (char c : name) good = good && (alphanumeric(c) || c == '_' || c == '.' || c == '-');
  if (good) return {};
  return Error(ErrorKind::invalid, concat("Invalid ", kind, " name (", name, "), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"));
}

std::string random_name() {
  static constexpr const char* moods[] = {"agile", "amber", "brave", "brisk", "calm", "clever", "crisp", "deep", "eager", "early",
      "fair", "fleet", "gentle", "glad", "golden", "hardy", "keen", "kind", "lively", "lucid", "merry", "mild", "nimble", "noble",
      "polite", "proud", "quick", "quiet", "ready", "sharp", "silver", "steady", "sunny", "swift", "tidy", "vivid", "warm", "wise"};
  static constexpr const char* animals[] = {"auk", "badger", "beaver", "bison", "crane", "curlew", "dolphin", "eider", "falcon",
      "finch", "gannet", "heron", "ibis", "jackdaw", "kestrel", "lark", "lynx", "marten", "newt", "orca", "osprey", "otter", "owl",
      "petrel", "plover", "puffin", "raven", "robin", "seal", "shrike", "sparrow", "stoat", "swan", "tern", "turtle", "walrus",
      "wren", "yak"};
  std::array<std::uint8_t, 4> bytes{};
  fill_random(bytes);
  return concat(moods[bytes[0] % std::size(moods)], "_", animals[bytes[1] % std::size(animals)], "_",
                to_hex(std::span(bytes).subspan(2)).substr(0, 3));
}

}  // namespace caisson
