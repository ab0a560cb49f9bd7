// xz by liblzma and bzip2 by libbz2, streaming with fixed memory.
#include "image/wrappings.hpp"

#include <bzlib.h>
#include <lzma.h>

#include <vector>

#include "base/strings.hpp"
#include "image/peeked_source.hpp"

namespace caisson::image {

namespace {

constexpr std::size_t output_bytes = 1 << 18;
/// A dictionary may be up to 4 GiB, and is taken from this process: `xz -9` needs 65 MiB. The bound is that of zstd's window (inflate.cpp).
constexpr std::uint64_t most_xz_memory_bytes = 128U << 20U;

constexpr std::string_view xz_magic("\xfd"
                                    "7zXZ\0",
                                    6);
constexpr std::string_view bzip2_magic = "BZh";

class Plain final : public ByteSource {
 public:
  explicit Plain(PeekedSource input) : input_(std::move(input)) {}
  Result<std::string_view> next() override { return input_.next(); }

 private:
  PeekedSource input_;
};

class XzSource final : public ByteSource {
 public:
  explicit XzSource(PeekedSource input) : input_(std::move(input)), output_(output_bytes) {}
  ~XzSource() override { lzma_end(&stream_); }
  XzSource(const XzSource&) = delete;
  XzSource& operator=(const XzSource&) = delete;
  Status begin() {
    // CONCATENATED: several files one after the other, with zeros between them, are one (xz(1)); UNSUPPORTED_CHECK: nothing is taken unverified.
    const auto code = lzma_stream_decoder(&stream_, most_xz_memory_bytes, LZMA_CONCATENATED | LZMA_TELL_UNSUPPORTED_CHECK);
    return code == LZMA_OK ? Status() : problem(code);
  }
  Result<std::string_view> next() override;

 private:
  static Error problem(lzma_ret code) {
    switch (code) {
      case LZMA_MEM_ERROR: return {ErrorKind::unavailable, "xz: out of memory"};
      case LZMA_MEMLIMIT_ERROR: return {ErrorKind::unsupported, concat("xz: unpacking needs more than ", most_xz_memory_bytes >> 20U, " MiB of memory")};
      case LZMA_OPTIONS_ERROR: return {ErrorKind::unsupported, "xz: a filter that liblzma does not know"};
      case LZMA_UNSUPPORTED_CHECK: return {ErrorKind::unsupported, "xz: a checksum that liblzma does not know"};
      case LZMA_FORMAT_ERROR: return {ErrorKind::corrupt, "xz: bytes behind the end that are no xz file"};
      case LZMA_BUF_ERROR: return {ErrorKind::corrupt, "xz: unexpected end of data"};
      default: return {ErrorKind::corrupt, "xz: damaged data"};
    }
  }

  PeekedSource input_;
  std::vector<std::uint8_t> output_;
  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool input_ended_ = false;
  bool finished_ = false;
};

Result<std::string_view> XzSource::next() {
  if (finished_) return std::string_view();
  stream_.next_out = output_.data();
  stream_.avail_out = output_.size();
  while (stream_.avail_out > 0) {
    if (stream_.avail_in == 0 && !input_ended_) {
      auto piece = TRY_PLAIN(input_.next());
      input_ended_ = piece.empty();
      stream_.next_in = reinterpret_cast<const std::uint8_t*>(piece.data());
      stream_.avail_in = piece.size();
    }
    const auto code = lzma_code(&stream_, input_ended_ ? LZMA_FINISH : LZMA_RUN);
    if (code == LZMA_STREAM_END) {
      finished_ = true;
      break;
    }
    if (code != LZMA_OK) return problem(code);
  }
  return std::string_view(reinterpret_cast<const char*>(output_.data()), output_.size() - stream_.avail_out);
}

class Bzip2Source final : public ByteSource {
 public:
  explicit Bzip2Source(PeekedSource input) : input_(std::move(input)), output_(output_bytes) {}
  ~Bzip2Source() override {
    if (begun_) BZ2_bzDecompressEnd(&stream_);
  }
  Bzip2Source(const Bzip2Source&) = delete;
  Bzip2Source& operator=(const Bzip2Source&) = delete;
  /// Also for each further file: the decoder does not begin another one by itself.
  Status begin() {
    if (begun_) BZ2_bzDecompressEnd(&stream_);
    const bz_stream last = stream_;
    stream_ = {};
    stream_.next_in = last.next_in;
    stream_.avail_in = last.avail_in;
    begun_ = BZ2_bzDecompressInit(&stream_, 0, 0) == BZ_OK;
    return begun_ ? Status() : Status(Error(ErrorKind::unavailable, "bzip2: out of memory"));
  }
  Result<std::string_view> next() override;

 private:
  /// False at the input's end.
  Result<bool> refill() {
    auto piece = TRY_PLAIN(input_.next());
    stream_.next_in = const_cast<char*>(piece.data());  // bzlib.h does not say const
    stream_.avail_in = static_cast<unsigned int>(piece.size());
    return !piece.empty();
  }

  PeekedSource input_;
  std::vector<char> output_;
  bz_stream stream_{};
  bool begun_ = false;
  bool file_done_ = false;
  bool finished_ = false;
};

Result<std::string_view> Bzip2Source::next() {
  if (finished_) return std::string_view();
  stream_.next_out = output_.data();
  stream_.avail_out = static_cast<unsigned int>(output_.size());
  while (stream_.avail_out > 0) {
    if (stream_.avail_in == 0 && !TRY_PLAIN(refill())) {
      if (!file_done_) return Error(ErrorKind::corrupt, "bzip2: unexpected end of data");
      finished_ = true;
      break;
    }
    if (file_done_) {  // more behind the end: another file (bzip2(1)), whose begin() keeps next_in but not next_out
      char* const out = stream_.next_out;
      const unsigned int room = stream_.avail_out;
      TRY_PLAIN(begin());
      stream_.next_out = out;
      stream_.avail_out = room;
      file_done_ = false;
    }
    const int code = BZ2_bzDecompress(&stream_);
    if (code == BZ_STREAM_END) file_done_ = true;
    else if (code == BZ_MEM_ERROR) return Error(ErrorKind::unavailable, "bzip2: out of memory");
    else if (code != BZ_OK) return Error(ErrorKind::corrupt, code == BZ_DATA_ERROR_MAGIC ? "bzip2: bytes behind the end that are no bzip2 file" : "bzip2: damaged data");
  }
  return std::string_view(output_.data(), output_.size() - stream_.avail_out);
}

}  // namespace

std::string_view wrapping_of(std::string_view first_bytes) {
  if (first_bytes.starts_with(xz_magic)) return "xz";
  // "BZh", the block size, then a block's mark or that of an empty file: three letters alone may begin any text.
  const bool is_bzip2 = first_bytes.size() >= wrapping_magic_bytes && first_bytes.starts_with(bzip2_magic) && first_bytes[3] >= '1' && first_bytes[3] <= '9' &&
                        (first_bytes.substr(4, 2) == "1A" || first_bytes.substr(4, 2) == "\x17\x72");
  return is_bzip2 ? "bzip2" : "";
}

Result<std::unique_ptr<ByteSource>> unwrap(ByteSource& input) {
  PeekedSource peeked(input);
  TRY_PLAIN(peeked.peek(wrapping_magic_bytes));
  const auto wrapping = wrapping_of(peeked.head());
  if (wrapping == "xz") {
    auto source = std::make_unique<XzSource>(std::move(peeked));
    TRY_PLAIN(source->begin());
    return std::unique_ptr<ByteSource>(std::move(source));
  }
  if (wrapping == "bzip2") {
    auto source = std::make_unique<Bzip2Source>(std::move(peeked));
    TRY_PLAIN(source->begin());
    return std::unique_ptr<ByteSource>(std::move(source));
  }
  return std::unique_ptr<ByteSource>(std::make_unique<Plain>(std::move(peeked)));
}

}  // namespace caisson::image
