// gzip by zlib.
#include "image/deflate.hpp"

#include <zlib.h>

#include "linux/file.hpp"

namespace caisson::image {
namespace {

constexpr std::size_t block_bytes = 64 << 10;
constexpr int gzip_format = 15 + 16;  // zlib.h, windowBits

class GzipDeflater final : public Deflater {
 public:
  explicit GzipDeflater(std::string extra) : extra_(std::move(extra)) {}
  GzipDeflater(const GzipDeflater&) = delete;
  GzipDeflater& operator=(const GzipDeflater&) = delete;
  ~GzipDeflater() override {
    if (is_open_) ::deflateEnd(&stream_);
  }
  Status open(int level) {
    if (::deflateInit2(&stream_, level, Z_DEFLATED, gzip_format, 8, Z_DEFAULT_STRATEGY) != Z_OK) return Error(ErrorKind::io, "zlib: not enough memory", ENOMEM);
    is_open_ = true;
    header_.os = 3;  // Unix
    header_.extra = extra_.empty() ? Z_NULL : reinterpret_cast<Bytef*>(extra_.data());
    header_.extra_len = static_cast<uInt>(extra_.size());
    if (::deflateSetHeader(&stream_, &header_) != Z_OK) return Error(ErrorKind::internal, "zlib refuses the header");
    return {};
  }

  Status write(std::string_view piece, int out_fd) override {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(piece.data()));  // zlib.h does not say const
    stream_.avail_in = static_cast<uInt>(piece.size());
    return run(Z_NO_FLUSH, out_fd);
  }
  Status finish(int out_fd) override { return run(Z_FINISH, out_fd); }

 private:
  Status run(int flush, int out_fd) {
    do {
      stream_.next_out = reinterpret_cast<Bytef*>(buffer_.data());
      stream_.avail_out = static_cast<uInt>(buffer_.size());
      if (::deflate(&stream_, flush) == Z_STREAM_ERROR) return Error(ErrorKind::internal, "zlib has lost its state");
      TRY_PLAIN(linux::write_all(out_fd, std::string_view(buffer_.data(), buffer_.size() - stream_.avail_out)));
    } while (stream_.avail_out == 0);
    return {};
  }

  z_stream stream_{};
  gz_header header_{};
  std::string extra_;
  std::string buffer_ = std::string(block_bytes, '\0');
  bool is_open_ = false;
};

}  // namespace

Result<std::unique_ptr<Deflater>> open_gzip_deflater(int level, std::string extra) {
  auto deflater = std::make_unique<GzipDeflater>(std::move(extra));
  TRY_PLAIN(deflater->open(level));
  return std::unique_ptr<Deflater>(std::move(deflater));
}

}  // namespace caisson::image
