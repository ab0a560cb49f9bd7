// Decodes one gzip file from memory by our decoder and by zlib, in turns.
// Usage: inflate FILE ROUNDS. Prints per round and decoder: its name, seconds of CPU, seconds of the clock, bytes of output.
#include <time.h>
#include <zlib.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "image/inflate.hpp"

namespace {

constexpr std::size_t piece_bytes = 1 << 18;  // both give out as much at a time, and are fed as much

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "inflate: %s\n", what.c_str());
  std::exit(125);
}

double seconds(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

std::size_t by_us(std::string_view bytes) {
  caisson::image::MemorySource source(bytes, piece_bytes);
  auto inflater = caisson::image::open_inflater(source);
  if (!inflater.ok()) fail(inflater.error().text());
  for (std::size_t total = 0;;) {
    auto piece = (*inflater)->next();
    if (!piece.ok()) fail(piece.error().text());
    if (piece->empty()) return total;
    total += piece->size();
  }
}

std::size_t by_zlib(std::string_view bytes) {
  constexpr int gzip_only = 15 + 16;  // zlib.h, windowBits
  z_stream stream{};
  if (inflateInit2(&stream, gzip_only) != Z_OK) fail("zlib: out of memory");
  std::vector<unsigned char> output(piece_bytes);
  std::size_t total = 0;
  for (int code = Z_OK; code != Z_STREAM_END;) {
    if (stream.avail_in == 0) {
      const auto piece = bytes.substr(0, piece_bytes);
      bytes.remove_prefix(piece.size());
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(piece.data()));  // zlib.h does not say const
      stream.avail_in = static_cast<uInt>(piece.size());
    }
    stream.next_out = output.data();
    stream.avail_out = static_cast<uInt>(output.size());
    code = inflate(&stream, Z_NO_FLUSH);
    if (code != Z_OK && code != Z_STREAM_END) fail(stream.msg != nullptr ? stream.msg : "zlib: cut off");
    total += output.size() - stream.avail_out;
  }
  inflateEnd(&stream);
  return total;
}

void measure(const char* name, std::size_t (*decode)(std::string_view), std::string_view bytes) {
  const double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), wall = seconds(CLOCK_MONOTONIC);
  const std::size_t total = decode(bytes);
  std::printf("%s %.6f %.6f %zu\n", name, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu, seconds(CLOCK_MONOTONIC) - wall, total);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) fail("usage: inflate FILE ROUNDS");
  std::ifstream file(argv[1], std::ios::binary);
  if (!file) fail(std::string("cannot open ") + argv[1]);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  for (int rounds = std::atoi(argv[2]); rounds > 0; --rounds) {
    measure("caisson", by_us, bytes);
    measure("zlib", by_zlib, bytes);
  }
  return 0;
}
