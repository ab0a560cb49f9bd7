// Fuzzes our decoder of DEFLATE and gzip beside zlib's: the same bytes, the same end, and a refusal exactly where zlib refuses.
#include "fuzz/fuzz.hpp"
#include "image/deflate_test_support.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  using namespace image::testing_support;
  // The first byte chooses the size of the pieces; what follows is read as DEFLATE alone, and in gzip's header and trailer if it has them.
  if (size < 2) return 0;
  const std::size_t piece_bytes = data[0] < 128 ? data[0] + 1U : std::size_t{1} << (data[0] % 17U);
  const auto bytes = fuzz::text_of(data + 1, size - 1);
  const auto ours = decode_by_us(bytes, piece_bytes);
  const auto zlibs = decode_by_zlib(bytes, -15);
  fuzz::demand(ours.verdict == zlibs.verdict, "a stream ends, is refused or goes on as zlib says");
  fuzz::demand(ours.why == zlibs.why, "a refusal has zlib's words");
  fuzz::demand(ours == zlibs, "a stream has the same bytes and the same end");
  if (bytes.starts_with("\x1f\x8b"))
    fuzz::demand(decode_gzip_by_us(bytes, piece_bytes) == decode_gzip_by_zlib(bytes), "members are read as zlib reads them");
  return 0;
}
