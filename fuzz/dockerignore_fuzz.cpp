// Fuzzes .dockerignore and variables: the first line is a path, the rest are patterns; the same bytes are also expanded as a word.
#include "dockerfile/expand.hpp"
#include "dockerfile/ignore.hpp"
#include "fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  auto text = fuzz::text_of(data, size);
  auto path = dockerfile::clean_path(text.substr(0, text.find('\n')));
  auto list = dockerfile::IgnoreList::parse(text.substr(std::min(text.find('\n'), text.size())));
  if (list.ok()) {
    bool excluded = list->excludes(path);
    if (list->excludes_all_below(path)) fuzz::demand(excluded && list->excludes(path + "/x/y"), "a folder left out whole takes everything with it");
  }
  dockerfile::Expander expander([](std::string_view name) { return name == "a" ? std::optional<std::string>("one two") : std::nullopt; });
  auto word = expander.word(text);
  auto words = expander.words(text);
  fuzz::demand(word.ok() == words.ok(), "a text expands as a word and as a list, or not at all");
  if (expander.body(text).ok() && word.ok()) fuzz::demand(word->size() <= (2U << 20), "the result is bounded");
  return 0;
}
