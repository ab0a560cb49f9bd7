// layer_toc: the table of contents that eStargz and zstd:chunked layers carry: where it lies, what it says, and how it compares with the layer's tar.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/codec.hpp"
#include "base/digest.hpp"
#include "base/result.hpp"
#include "image/byte_source.hpp"
#include "image/manifest.hpp"
#include "image/tar.hpp"

namespace caisson::image {

enum class TocFormat : std::uint8_t {
  estargz,       ///< gzip members; the table is a file in the last tar member, found by a footer of 51 bytes
  zstd_chunked,  ///< zstd frames; the table is a skippable frame, found by an annotation of the layer's descriptor
};
std::string_view to_string(TocFormat format);

namespace toc_annotation {
inline constexpr const char* estargz_digest = "containerd.io/snapshot/stargz/toc.digest";
inline constexpr const char* chunked_digest = "io.github.containers.zstd-chunked.manifest-checksum";
inline constexpr const char* chunked_position = "io.github.containers.zstd-chunked.manifest-position";
/// As containers/storage before 1.41 wrote them (Debian 12's podman, buildah and skopeo).
inline constexpr const char* old_chunked_digest = "io.containers.zstd-chunked.manifest-checksum";
inline constexpr const char* old_chunked_position = "io.containers.zstd-chunked.manifest-position";
}  // namespace toc_annotation

/// Where a table lies in its blob, and the digest that the image's manifest binds it by.
struct TocPlace {
  TocFormat format = TocFormat::zstd_chunked;
  Digest digest;                    ///< estargz: of the decoded table; zstd_chunked: of the bytes as they lie in the blob
  std::uint64_t offset = 0;         ///< of the table in the blob; its end is where contents end, too
  std::uint64_t size_bytes = 0;     ///< as it lies there
};
template <class C>
void visit(C& c, TocPlace& p) {
  std::string digest = p.digest.text();
  c(p.format);
  c(digest);
  if (auto parsed = Digest::parse(digest); parsed.ok()) p.digest = std::move(*parsed);
  c(p.offset);
  c(p.size_bytes);
}

/// Larger tables are refused: their layers come as a whole.
inline constexpr std::size_t most_toc_bytes = 64 << 20;
inline constexpr std::size_t most_decoded_toc_bytes = 128 << 20;
inline constexpr std::size_t most_toc_entries = 1 << 20;
inline constexpr std::size_t most_toc_chunks = 1 << 20;
/// Of one chunk's contents: it is decoded in memory. eStargz makes 4 MiB, zstd:chunked about 64 KiB.
inline constexpr std::uint64_t most_chunk_bytes = 16 << 20;
/// eStargz's end of a blob; it says where the table begins.
inline constexpr std::size_t estargz_footer_bytes = 51;

/// What the annotations of a layer say about a table. Nothing: there is none, or none that the manifest binds by a digest. Of an estargz one `offset` and
/// `size_bytes` are still to be read from the footer. Errors: invalid (annotations that contradict the blob's size).
Result<std::optional<TocPlace>> toc_of(const Descriptor& layer);
/// Takes the place of an eStargz table from the blob's last estargz_footer_bytes. Errors: invalid.
Status read_estargz_footer(std::string_view footer, std::uint64_t blob_bytes, TocPlace& place);

/// One piece of a file that can be had by itself.
struct TocChunk {
  std::uint64_t file_offset = 0;
  std::uint64_t size_bytes = 0;    ///< of the contents
  std::uint64_t blob_offset = 0;   ///< where a gzip member or zstd frame begins
  std::uint64_t blob_bytes = 0;    ///< up to where the next one begins; 0: nothing but zeros, which lie nowhere
  std::uint64_t inner_offset = 0;  ///< decoded bytes before the contents
  std::array<std::uint8_t, 32> sha256{};  ///< of the contents; unused for zeros
  bool operator==(const TocChunk&) const = default;
  [[nodiscard]] bool is_zeros() const { return blob_bytes == 0; }
};

struct TocEntry {
  TarEntry tar;                  ///< never sparse
  std::vector<TocChunk> chunks;  ///< of a file that is not empty: all of it, in order
};
struct LayerToc {
  std::vector<TocEntry> entries;  ///< in the order of the tar
};

/// The table's JSON from its bytes as they lie in the blob, checked against the digest of `place`. Errors: corrupt (digest, compression), invalid (too large).
Result<std::string> decode_toc(std::string_view raw, const TocPlace& place);
/// Errors: invalid, naming the entry: unknown types, pieces that do not cover their file or lie behind `place.offset`, a piece without a digest of its own, more
/// than the bounds above. Names are not judged here: what makes a tree of them does (unpack.hpp).
Result<LayerToc> parse_toc(std::string_view json_text, const TocPlace& place);

/// The table as a tar in which the contents of files are zeros: what unpacks tars makes the layer's tree of it. Yields also where that tar would have each piece.
class TocArchive final : public ByteSource {
 public:
  explicit TocArchive(const LayerToc& toc);
  ~TocArchive() override;
  TocArchive(const TocArchive&) = delete;
  TocArchive& operator=(const TocArchive&) = delete;
  Result<std::string_view> next() override;
  [[nodiscard]] std::uint64_t bytes() const;
  /// Pieces with `file_offset` from the beginning of the archive, ascending. Complete when next() has said the end.
  [[nodiscard]] const std::vector<TocChunk>& chunks() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Reads all of a layer's decoded tar and holds every entry and every piece against the table. Errors: corrupt, naming the entry and what differs; those of `tar`.
Status compare_with_toc(const LayerToc& toc, TocFormat format, ByteSource& tar);

}  // namespace caisson::image

namespace caisson {
template <>
inline constexpr bool is_encoded_as_it_lies<image::TocChunk> = true;
}
