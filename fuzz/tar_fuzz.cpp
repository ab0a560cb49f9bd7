// Fuzzes decompression, xz and bzip2 wrappings, and the tar parser: cutting the input into other pieces must not change what is read.
#include <string>

#include "base/strings.hpp"
#include "fuzz/fuzz.hpp"
#include "image/inflate.hpp"
#include "image/tar_reader.hpp"
#include "image/wrappings.hpp"

namespace {

// A bomb of a megabyte of input must not become gigabytes of fuzzing time.
constexpr std::uint64_t most_bytes = 4 << 20;

// Everything the reader says about the archive, as one text; the last line is "end" or the refusal's kind.
std::string read_all(std::string_view bytes, std::size_t piece_bytes) {
  using namespace caisson;
  image::MemorySource memory(bytes, piece_bytes);
  auto unwrapped = image::unwrap(memory);
  if (!unwrapped.ok()) return "refused";
  auto inflater = image::open_inflater(**unwrapped);
  if (!inflater.ok()) return "refused";
  image::TarLimits limits;
  limits.entries = 1000;
  image::TarReader reader(**inflater, limits);
  std::string told;
  std::uint64_t total = 0;
  for (;;) {
    image::TarEntry entry;
    auto more = reader.next(entry);
    if (!more.ok()) return told + "refused";
    if (!*more) return told + "end";
    told += concat(entry.name, "|", entry.link_target, "|", entry.size_bytes, "\n");
    for (;;) {
      auto piece = reader.read();
      if (!piece.ok()) return told + "refused";
      if (piece->bytes.empty()) break;
      total += piece->bytes.size();
      if (total > most_bytes || reader.position() > most_bytes) return told + "too much";
    }
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes = caisson::fuzz::text_of(data, size);
  std::string whole = read_all(bytes, 1 << 18);
  caisson::fuzz::demand(read_all(bytes, 7) == whole, "pieces do not change what is read");
  return 0;
}
