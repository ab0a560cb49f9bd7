// Pieces of a fixed size, each a gzip member or a zstd frame of its own: both formats say that several of them are their contents one after the other.
#include "image/compress.hpp"

#include <libdeflate.h>
#include <zstd.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/strings.hpp"

namespace caisson::image {

namespace {

constexpr std::size_t slots_per_thread = 2;  // one in work, one that waits: nobody waits for whoever reads and writes

/// One thread's.
class PieceCompressor {
 public:
  PieceCompressor() = default;
  PieceCompressor(const PieceCompressor&) = delete;
  PieceCompressor& operator=(const PieceCompressor&) = delete;
  virtual ~PieceCompressor() = default;
  virtual Status compress(std::string_view piece, std::string& out) = 0;
};

/// libdeflate's header has no time and no operating system (RFC 1952: 0 and 255), which is what keeps it the same everywhere.
class GzipPieces final : public PieceCompressor {
 public:
  explicit GzipPieces(int level) : compressor_(libdeflate_alloc_compressor(level), libdeflate_free_compressor) {}
  [[nodiscard]] bool has_memory() const { return compressor_ != nullptr; }
  Status compress(std::string_view piece, std::string& out) override {
    out.resize(libdeflate_gzip_compress_bound(compressor_.get(), piece.size()));
    const auto size = libdeflate_gzip_compress(compressor_.get(), piece.data(), piece.size(), out.data(), out.size());
    if (size == 0) return Error(ErrorKind::internal, "libdeflate: a piece did not fit where it must");
    out.resize(size);
    return {};
  }

 private:
  std::unique_ptr<libdeflate_compressor, void (*)(libdeflate_compressor*)> compressor_;
};

/// Frames by one thread each: libzstd's own threads give other bytes than none.
class ZstdPieces final : public PieceCompressor {
 public:
  explicit ZstdPieces(int level) : context_(ZSTD_createCCtx(), ZSTD_freeCCtx) {
    if (context_ != nullptr) ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, level);
  }
  [[nodiscard]] bool has_memory() const { return context_ != nullptr; }
  Status compress(std::string_view piece, std::string& out) override {
    out.resize(ZSTD_compressBound(piece.size()));
    const auto size = ZSTD_compress2(context_.get(), out.data(), out.size(), piece.data(), piece.size());
    if (ZSTD_isError(size) != 0) return Error(ErrorKind::unavailable, concat("zstd: ", ZSTD_getErrorName(size)));
    out.resize(size);
    return {};
  }

 private:
  std::unique_ptr<ZSTD_CCtx, std::size_t (*)(ZSTD_CCtx*)> context_;
};

template <typename Pieces>
Result<std::unique_ptr<PieceCompressor>> make_pieces(int level) {
  auto pieces = std::make_unique<Pieces>(level);
  if (!pieces->has_memory()) return Error(ErrorKind::unavailable, "no memory to compress with");
  return std::unique_ptr<PieceCompressor>(std::move(pieces));
}

Result<std::unique_ptr<PieceCompressor>> make_compressor(const CompressionJob& job) {
  return job.form == LayerForm::gzip ? make_pieces<GzipPieces>(job.level) : make_pieces<ZstdPieces>(job.level);
}

struct Piece {
  std::string bytes;
  std::string compressed;
  Status status;
  bool is_done = false;
};

/// Pieces on their way: taken in by one thread, compressed by whoever is free (that one too, before it waits), given back in order.
class Workshop {
 public:
  Workshop() = default;
  Workshop(const Workshop&) = delete;
  Workshop& operator=(const Workshop&) = delete;
  ~Workshop() {
    {
      std::lock_guard lock(mutex_);
      is_closing_ = true;
    }
    changed_.notify_all();
    for (auto& thread : helpers_) thread.join();
  }

  Status begin(const CompressionJob& job) {
    own_ = TRY_PLAIN(make_compressor(job));
    for (std::size_t i = 1; i < job.threads; ++i) {
      auto compressor = TRY_PLAIN(make_compressor(job));
      try {
        helpers_.emplace_back([this, owned = std::move(compressor)] { help(*owned); });
      } catch (const std::system_error&) {
        break;  // fewer threads take longer, and give the same bytes
      }
    }
    most_pieces_ = (helpers_.size() + 1) * slots_per_thread;
    return {};
  }
  [[nodiscard]] bool is_full() const { return order_.size() == most_pieces_; }
  [[nodiscard]] bool is_empty() const { return order_.empty(); }
  /// One that was written, to be used again, or a new one.
  std::unique_ptr<Piece> spare() {
    if (spares_.empty()) return std::make_unique<Piece>();
    auto piece = std::move(spares_.back());
    spares_.pop_back();
    piece->bytes.clear();
    piece->is_done = false;
    return piece;
  }
  void add(std::unique_ptr<Piece> piece) {
    {
      std::lock_guard lock(mutex_);
      waiting_.push_back(piece.get());
    }
    changed_.notify_all();
    order_.push_back(std::move(piece));
  }
  /// Precondition: not empty.
  Status write_oldest(const std::function<Status(std::string_view)>& sink) {
    auto piece = std::move(order_.front());
    order_.pop_front();
    std::unique_lock lock(mutex_);
    while (!piece->is_done) {
      if (!work_on_one(lock, *own_)) changed_.wait(lock);
    }
    lock.unlock();
    TRY_PLAIN(std::move(piece->status));
    TRY_PLAIN(sink(piece->compressed));
    spares_.push_back(std::move(piece));
    return {};
  }

 private:
  /// False: none waits. The lock is given up while it works.
  bool work_on_one(std::unique_lock<std::mutex>& lock, PieceCompressor& compressor) {
    if (waiting_.empty()) return false;
    auto* piece = waiting_.front();
    waiting_.pop_front();
    lock.unlock();
    auto status = compressor.compress(piece->bytes, piece->compressed);
    lock.lock();
    piece->status = std::move(status);
    piece->is_done = true;
    changed_.notify_all();
    return true;
  }
  void help(PieceCompressor& compressor) {
    std::unique_lock lock(mutex_);
    while (!is_closing_)
      if (!work_on_one(lock, compressor)) changed_.wait(lock);
  }

  std::unique_ptr<PieceCompressor> own_;
  std::size_t most_pieces_ = 1;
  std::deque<std::unique_ptr<Piece>> order_;     // of the thread that reads and writes
  std::vector<std::unique_ptr<Piece>> spares_;   // likewise
  std::mutex mutex_;                             // of what follows, and of what is in the pieces that wait
  std::condition_variable changed_;
  std::deque<Piece*> waiting_;
  bool is_closing_ = false;
  std::vector<std::thread> helpers_;
};

}  // namespace

std::size_t piece_bytes_of(LayerForm form) {
  // gzip looks back 32 KiB and codes each block by itself: from 1 MiB on larger pieces give nothing. zstd looks back 2 MiB at its usual level: 4 MiB cost
  // some 1 % of the size.
  constexpr std::size_t gzip_bytes = 1 << 20;
  constexpr std::size_t zstd_bytes = 4 << 20;
  return form == LayerForm::gzip ? gzip_bytes : zstd_bytes;
}

Status write_compressed(ByteSource& tar, const CompressionJob& job, const std::function<Status(std::string_view)>& sink) {
  std::string_view got;
  if (job.form == LayerForm::uncompressed) {
    while (!(got = TRY_PLAIN(tar.next())).empty()) TRY_PLAIN(sink(got));
    return {};
  }
  const auto piece_bytes = piece_bytes_of(job.form);
  Workshop workshop;
  TRY_PLAIN(workshop.begin(job));
  bool is_first = true;
  for (bool has_ended = false; !has_ended; is_first = false) {
    if (workshop.is_full()) TRY_PLAIN(workshop.write_oldest(sink));
    auto piece = workshop.spare();
    piece->bytes.reserve(piece_bytes);
    while (piece->bytes.size() < piece_bytes) {
      if (got.empty()) got = TRY_PLAIN(tar.next());
      if (got.empty()) break;
      const auto taken = got.substr(0, piece_bytes - piece->bytes.size());
      piece->bytes += taken;
      got.remove_prefix(taken.size());
    }
    has_ended = piece->bytes.size() < piece_bytes;
    // Nothing at all is one member that holds nothing; behind the last whole piece there is none.
    if (!piece->bytes.empty() || is_first) workshop.add(std::move(piece));
  }
  while (!workshop.is_empty()) TRY_PLAIN(workshop.write_oldest(sink));
  return {};
}

}  // namespace caisson::image
