// TarReader: a streaming parser of hostile tar archives: V7, ustar, star, GNU (long names, sparse) and PAX.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "image/byte_source.hpp"
#include "image/tar.hpp"

namespace caisson::image {

/// What an archive may ask of us. The defaults let every image through that was seen in the wild, by a factor of ten.
struct TarLimits {
  std::uint64_t entries = 4'000'000;
  std::size_t name_bytes = 4095;           ///< PATH_MAX without its NUL: longer names cannot be opened by anybody
  std::size_t extension_bytes = 1 << 20;   ///< one PAX or GNU long-name record; Go's tar has the same bound
  std::size_t segments = 1 << 16;          ///< of one sparse file
};

/// Yields entries in archive order. Errors of all calls: invalid (the text names the entry), unsupported (a tar feature
/// that images do not use), and those of the source.
class TarReader {
 public:
  explicit TarReader(ByteSource& source, TarLimits limits = {}) : source_(source), limits_(limits) {}

  /// Skips what is left of the last entry and reads the next one. False: the archive has ended; then everything that
  /// follows the end marker has been read and dropped, so that a hash over the source covers all of it.
  Result<bool> next(TarEntry& entry);

  struct Piece {
    std::uint64_t offset = 0;  ///< where in the file these bytes belong
    std::string_view bytes;    ///< a view into the source's buffer, valid until the next call; empty: no more data
  };
  /// The next piece of the current entry's contents.
  Result<Piece> read();

  /// Bytes consumed so far: right after next(), where the entry's data begin (of the decoded archive).
  [[nodiscard]] std::uint64_t position() const { return position_; }

 private:
  using Block = std::array<char, tar_block_bytes>;
  struct Extensions;

  Result<std::string_view> peek();
  void consume(std::size_t bytes);
  Result<bool> read_block(Block& block);
  Status skip(std::uint64_t bytes);
  Result<std::string> read_extension(std::uint64_t size, std::string_view what);
  Result<bool> handle_extension(char type, std::uint64_t size, Extensions& extensions);
  Status parse_header(const Block& block, Extensions& extensions, TarEntry& entry);
  Status read_gnu_sparse(const Block& block, TarEntry& entry);
  /// The GNU.sparse.* records of a PAX header; null where absent.
  struct PaxSparse {
    const std::string* major = nullptr;
    const std::string* map = nullptr;
    const std::string* real_size = nullptr;
    const std::string* size = nullptr;
    std::vector<TarSegment> segments;  ///< format 0.0
  };
  Status apply_pax_sparse(const PaxSparse& sparse, TarEntry& entry);
  Status read_sparse_map_from_data(TarEntry& entry);
  Status check_segments(const TarEntry& entry) const;
  Status check_entry(const TarEntry& entry) const;
  Status finish();

  ByteSource& source_;
  TarLimits limits_;
  std::string_view piece_;  // unread part of the source's last piece
  bool source_ended_ = false;
  std::uint64_t position_ = 0;
  std::uint64_t entries_ = 0;
  std::uint64_t stored_left_ = 0;   // data bytes of the current entry that were not read yet
  std::uint64_t padding_ = 0;       // and the zeros behind them
  std::uint64_t file_offset_ = 0;   // of the next data byte
  std::size_t segment_ = 0;
  std::vector<TarSegment> segments_;
  bool is_sparse_ = false;
  bool ended_ = false;
  std::map<std::string, std::string> global_;  // PAX global records that are honoured
};

}  // namespace caisson::image
