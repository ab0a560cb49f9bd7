// gzip by our own decoder and zstd by libzstd behind one interface, streaming with fixed memory.
#include "image/inflate.hpp"

#include <zstd.h>

#include <string>
#include <vector>

#include "base/strings.hpp"
#include "image/gzip_inflater.hpp"
#include "image/peeked_source.hpp"
#include "image/wrappings.hpp"

namespace caisson::image {

namespace {

constexpr std::size_t output_bytes = 1 << 18;
/// A frame may ask for a window up to this; larger needs `--long` on the sender's side and would take that much memory here.
constexpr int most_zstd_window_log = 27;  // 128 MiB, what `zstd -d` itself accepts unasked

constexpr std::string_view gzip_magic("\x1f\x8b", 2);
constexpr std::string_view zstd_magic("\x28\xb5\x2f\xfd", 4);

bool is_zstd_skippable(std::string_view bytes) {
  return bytes.size() >= 4 && (static_cast<unsigned char>(bytes[0]) & 0xF0) == 0x50 && bytes.substr(1, 3) == "\x2a\x4d\x18";
}

class PlainInflater final : public Inflater {
 public:
  explicit PlainInflater(PeekedSource input) : input_(std::move(input)) {}
  Result<std::string_view> next() override { return input_.next(); }
  [[nodiscard]] Compression compression() const override { return Compression::none; }

 private:
  PeekedSource input_;
};

class ZstdInflater final : public Inflater {
 public:
  explicit ZstdInflater(PeekedSource input) : input_(std::move(input)), output_(output_bytes), context_(ZSTD_createDCtx()) {}
  ~ZstdInflater() override { ZSTD_freeDCtx(context_); }
  ZstdInflater(const ZstdInflater&) = delete;
  ZstdInflater& operator=(const ZstdInflater&) = delete;
  Status begin() {
    if (context_ == nullptr) return Error(ErrorKind::unavailable, "zstd: out of memory");
    ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, most_zstd_window_log);
    return {};
  }
  Result<std::string_view> next() override;
  [[nodiscard]] Compression compression() const override { return Compression::zstd; }

 private:
  PeekedSource input_;
  std::vector<char> output_;
  ZSTD_DCtx* context_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  bool frame_done_ = true;
};

Result<std::string_view> ZstdInflater::next() {
  ZSTD_outBuffer out{output_.data(), output_.size(), 0};
  while (out.pos < out.size) {
    if (in_.pos == in_.size) {
      auto piece = TRY_PLAIN(input_.next());
      in_ = {piece.data(), piece.size(), 0};
      // Even without input, the decoder may hold output of the last block back.
      if (piece.empty()) {
        if (frame_done_) break;
        std::size_t before = out.pos;
        std::size_t code = ZSTD_decompressStream(context_, &out, &in_);
        if (ZSTD_isError(code) != 0) return Error(ErrorKind::corrupt, concat("zstd: ", ZSTD_getErrorName(code)));
        frame_done_ = code == 0;
        if (frame_done_) continue;
        if (out.pos == before) return Error(ErrorKind::corrupt, "zstd: unexpected end of data");
        continue;
      }
    }
    std::size_t code = ZSTD_decompressStream(context_, &out, &in_);
    if (ZSTD_isError(code) != 0) return Error(ErrorKind::corrupt, concat("zstd: ", ZSTD_getErrorName(code)));
    frame_done_ = code == 0;
  }
  return std::string_view(output_.data(), out.pos);
}

}  // namespace

std::string_view to_string(Compression compression) {
  switch (compression) {
    case Compression::none: return "none";
    case Compression::gzip: return "gzip";
    case Compression::zstd: return "zstd";
  }
  return "unknown";
}

Compression detect_compression(std::string_view first_bytes) {
  if (first_bytes.starts_with(gzip_magic)) return Compression::gzip;
  if (first_bytes.starts_with(zstd_magic) || is_zstd_skippable(first_bytes)) return Compression::zstd;
  return Compression::none;
}

Result<std::unique_ptr<Inflater>> open_inflater(ByteSource& input) {
  PeekedSource peeked(input);
  TRY_PLAIN(peeked.peek(wrapping_magic_bytes));
  auto head = peeked.head();
  if (auto name = wrapping_of(head); !name.empty())
    return Error(ErrorKind::unsupported, concat("data is compressed with ", name, ", which layers of images are not")).with_hint("Decompress it first, or recompress with gzip or zstd");
  switch (detect_compression(head)) {
    case Compression::gzip: return std::unique_ptr<Inflater>(std::make_unique<GzipInflater>(std::move(peeked)));
    case Compression::zstd: {
      auto inflater = std::make_unique<ZstdInflater>(std::move(peeked));
      TRY_PLAIN(inflater->begin());
      return std::unique_ptr<Inflater>(std::move(inflater));
    }
    case Compression::none: break;
  }
  return std::unique_ptr<Inflater>(std::make_unique<PlainInflater>(std::move(peeked)));
}

}  // namespace caisson::image
