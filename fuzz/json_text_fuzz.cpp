// Fuzzes the search for a member's text: in a document that parses, what it finds is what the parser finds there.
#include "base/json.hpp"
#include "base/json_text.hpp"
#include "fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  const auto text = fuzz::text_of(data, size);
  constexpr std::string_view path[] = {"linux", "seccomp"};
  const auto found = find_member_text(text, path);
  if (!found) return 0;
  fuzz::demand(found->data() >= text.data() && found->data() + found->size() <= text.data() + text.size(), "a part of the document");
  const auto document = parse_json(text, "document");
  if (!document.ok()) return 0;
  const auto part = parse_json(*found, "part");
  fuzz::demand(part.ok(), "a part of what parses parses");
  fuzz::demand(*part == document->at("linux").at("seccomp"), "it is the member that the parser finds");
  return 0;
}
