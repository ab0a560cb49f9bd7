// One call to inflate() after the other, into a growing text.
#include "image/zlib_text.hpp"

#include <zlib.h>

#include <array>

#include "base/strings.hpp"

namespace caisson::image {

namespace {

class Stream {
 public:
  Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() {
    if (begun_) inflateEnd(&raw_);
  }
  bool begin() { return begun_ = inflateInit(&raw_) == Z_OK; }
  z_stream& raw() { return raw_; }

 private:
  z_stream raw_{};
  bool begun_ = false;
};

}  // namespace

bool is_zlib(std::string_view bytes) {
  if (bytes.size() < 2) return false;
  // RFC 1950, section 2.2: deflate with a window of 32 KiB, and a check of the two bytes.
  const auto first = static_cast<unsigned char>(bytes[0]);
  const auto second = static_cast<unsigned char>(bytes[1]);
  return first == 0x78 && (first * 256U + second) % 31 == 0;
}

Result<std::string> inflate_zlib(std::string_view bytes, std::size_t limit_bytes) {
  Stream stream;
  if (!stream.begin()) return Error(ErrorKind::unavailable, "zlib: out of memory");
  auto& raw = stream.raw();
  raw.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));  // zlib.h does not say const
  raw.avail_in = static_cast<uInt>(bytes.size());
  std::array<char, 1 << 16> buffer;
  std::string out;
  for (;;) {
    raw.next_out = reinterpret_cast<Bytef*>(buffer.data());
    raw.avail_out = static_cast<uInt>(buffer.size());
    const int code = inflate(&raw, Z_NO_FLUSH);
    if (code != Z_OK && code != Z_STREAM_END) return Error(ErrorKind::corrupt, concat("zlib: ", raw.msg != nullptr ? raw.msg : "unexpected end of data"));
    const auto got = buffer.size() - raw.avail_out;
    if (out.size() + got > limit_bytes) return Error(ErrorKind::unsupported, concat("zlib: more than ", limit_bytes, " bytes"));
    out.append(buffer.data(), got);
    if (code != Z_STREAM_END) continue;
    if (raw.avail_in != 0) return Error(ErrorKind::corrupt, "zlib: bytes behind the end");
    return out;
  }
}

}  // namespace caisson::image
