// Writing zstd:chunked: frames that begin where files do, then the table that says where.
#include "image/chunked_layer.hpp"

#include <zstd.h>

#include <algorithm>
#include <memory>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "image/tar_reader.hpp"

namespace caisson::image {

namespace {

/// Large enough to be compressed well, small enough to be had soon by a slow line.
constexpr std::size_t piece_bytes = 1 << 18;
constexpr std::size_t most_between_files_bytes = 16 << 20;
constexpr std::uint32_t skippable_magic = 0x184D2A50;
constexpr std::string_view footer_magic = "GNUlInUx";

void put_number(std::string& out, std::uint64_t number, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(number >> (8 * i) & 0xFF);
}

/// Keeps what TarReader has been given until it is known what it was.
class Recorder final : public ByteSource {
 public:
  explicit Recorder(ByteSource& input) : input_(input) {}
  Result<std::string_view> next() override {
    auto piece = TRY_PLAIN(input_.next());
    pending_.erase(0, taken_);
    begin_ += taken_;
    taken_ = 0;
    // Names and what stands before them are bounded; what follows an archive's end is not.
    if (pending_.size() > most_between_files_bytes) return Error(ErrorKind::unsupported, "a layer with too much behind its archive's end");
    pending_ += piece;
    return piece;
  }
  /// What was read since the last call, up to this place of the tar. Valid until the next call of any kind.
  std::string_view take_until(std::uint64_t position) {
    const auto from = taken_;
    taken_ = static_cast<std::size_t>(position - begin_);
    return std::string_view(pending_).substr(from, taken_ - from);
  }
  [[nodiscard]] std::uint64_t end() const { return begin_ + pending_.size(); }

 private:
  ByteSource& input_;
  std::string pending_;
  std::uint64_t begin_ = 0;
  std::size_t taken_ = 0;
};

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};

class Writer {
 public:
  explicit Writer(const std::function<Status(std::string_view)>& sink) : sink_(sink), context_(ZSTD_createCCtx()) {}

  Status begin(int level) {
    if (context_ == nullptr) return Error(ErrorKind::unavailable, "zstd: out of memory");
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, level);
    return {};
  }
  Status write(std::string_view bytes) {
    at_ += bytes.size();
    return sink_(bytes);
  }
  /// One frame of its own; nothing for nothing.
  Status frame(std::string_view bytes) {
    if (bytes.empty()) return {};
    return write(TRY_PLAIN(compressed(bytes)));
  }
  Status skippable(std::string_view payload) {
    std::string head;
    put_number(head, skippable_magic, 4);
    put_number(head, payload.size(), 4);
    TRY_PLAIN(write(head));
    return write(payload);
  }
  Result<std::string_view> compressed(std::string_view bytes) {
    output_.resize(ZSTD_compressBound(bytes.size()));
    const auto size = ZSTD_compress2(context_.get(), output_.data(), output_.size(), bytes.data(), bytes.size());
    if (ZSTD_isError(size) != 0) return Error(ErrorKind::internal, concat("zstd: ", ZSTD_getErrorName(size)));
    return std::string_view(output_).substr(0, size);
  }
  [[nodiscard]] std::uint64_t at() const { return at_; }

 private:
  const std::function<Status(std::string_view)>& sink_;
  std::unique_ptr<ZSTD_CCtx, FreeContext> context_;
  std::string output_;
  std::uint64_t at_ = 0;
};

std::string_view type_name(TarType type) {
  switch (type) {
    case TarType::file: return "reg";
    case TarType::hard_link: return "hardlink";
    case TarType::symlink: return "symlink";
    case TarType::char_device: return "char";
    case TarType::block_device: return "block";
    case TarType::directory: return "dir";
    case TarType::fifo: return "fifo";
  }
  return "reg";
}

struct Piece {
  std::uint64_t file_offset = 0;
  std::uint64_t size_bytes = 0;
  std::uint64_t blob_offset = 0;
  std::string digest;
};

/// A table's text, entry by entry.
class TableText {
 public:
  Status add(const TarEntry& entry, const std::vector<Piece>& pieces, std::uint64_t end, const std::string& digest) {
    json::object out;
    out["type"] = type_name(entry.type);
    out["name"] = entry.name;
    if (!entry.link_target.empty()) out["linkName"] = entry.link_target;
    out["mode"] = entry.mode;
    if (entry.type == TarType::file) out["size"] = entry.size_bytes;
    out["uid"] = entry.uid;
    out["gid"] = entry.gid;
    constexpr std::int64_t second = 1'000'000'000;
    out["modtime"] = entry.mtime_s == 0 ? std::string("1970-01-01T00:00:00Z") : to_rfc3339(entry.mtime_s * second);
    if (entry.type == TarType::char_device || entry.type == TarType::block_device) {
      out["devMajor"] = entry.device_major;
      out["devMinor"] = entry.device_minor;
    }
    if (!entry.xattrs.empty()) {
      json::object xattrs;
      for (const auto& [name, value] : entry.xattrs) xattrs[name] = base64_encode(value);
      out["xattrs"] = std::move(xattrs);
    }
    if (!pieces.empty()) {
      out["digest"] = digest;
      out["offset"] = pieces.front().blob_offset;
      out["endOffset"] = end;
      if (pieces.size() > 1) {
        out["chunkSize"] = pieces.front().size_bytes;
        out["chunkDigest"] = pieces.front().digest;
      }
    }
    TRY_PLAIN(append(out));
    for (std::size_t i = 1; i < pieces.size(); ++i) {
      json::object chunk;
      chunk["type"] = "chunk";
      chunk["name"] = entry.name;
      chunk["offset"] = pieces[i].blob_offset;
      chunk["chunkSize"] = pieces[i].size_bytes;
      chunk["chunkOffset"] = pieces[i].file_offset;
      chunk["chunkDigest"] = pieces[i].digest;
      TRY_PLAIN(append(chunk));
    }
    return {};
  }
  std::string finish() {
    text_ += "]}";
    return std::move(text_);
  }

 private:
  Status append(const json::object& entry) {
    if (!is_first_) text_ += ',';
    is_first_ = false;
    text_ += to_text(entry);
    if (text_.size() > most_decoded_toc_bytes) return Error(ErrorKind::unsupported, "a layer with more names than a table of contents may have");
    return {};
  }
  std::string text_ = "{\"version\":1,\"entries\":[";
  bool is_first_ = true;
};

/// The contents of the current entry, a frame per piece.
Status write_contents(TarReader& tar, Recorder& recorder, Writer& writer, std::vector<Piece>& pieces, Hasher& whole) {
  std::string content;
  std::uint64_t offset = 0;
  auto flush = [&]() -> Status {
    if (content.empty()) return {};
    pieces.push_back({offset, content.size(), writer.at(), sha256_of(content).text()});
    TRY_PLAIN(writer.frame(content));
    offset += content.size();
    content.clear();
    return {};
  };
  for (;;) {
    if (TRY_PLAIN(tar.read()).bytes.empty()) break;
    auto bytes = recorder.take_until(tar.position());
    whole.update(bytes);
    while (!bytes.empty()) {
      const auto take = bytes.substr(0, piece_bytes - content.size());
      content += take;
      bytes.remove_prefix(take.size());
      if (content.size() == piece_bytes) TRY_PLAIN(flush());
    }
  }
  return flush();
}

}  // namespace

Result<ChunkedLayer> write_chunked(ByteSource& source, int level, const std::function<Status(std::string_view)>& sink) {
  Writer writer(sink);
  TRY_PLAIN(writer.begin(level));
  Recorder recorder(source);
  TarReader tar(recorder);
  TarEntry entry;
  TableText table;
  while (TRY_PLAIN(tar.next(entry))) {
    if (entry.is_sparse) return Error(ErrorKind::unsupported, concat("\"", entry.name, "\" is a sparse file, for which zstd:chunked has no word"));
    TRY_PLAIN(writer.frame(recorder.take_until(tar.position())));
    std::vector<Piece> pieces;
    Hasher whole;
    if (entry.type == TarType::file && entry.size_bytes > 0) TRY_PLAIN(write_contents(tar, recorder, writer, pieces, whole));
    TRY(table.add(entry, pieces, writer.at(), whole.finish().text()), concat("entry \"", entry.name, "\""));
  }
  TRY_PLAIN(writer.frame(recorder.take_until(recorder.end())));
  ChunkedLayer out;
  const auto text = table.finish();
  out.decoded_toc_bytes = text.size();
  const std::string packed(TRY_PLAIN(writer.compressed(text)));
  if (packed.size() > most_toc_bytes) return Error(ErrorKind::unsupported, "a layer with more names than a table of contents may have");
  out.toc.format = TocFormat::zstd_chunked;
  out.toc.digest = sha256_of(packed);
  constexpr std::uint64_t skippable_head_bytes = 8;
  out.toc.offset = writer.at() + skippable_head_bytes;
  out.toc.size_bytes = packed.size();
  TRY_PLAIN(writer.skippable(packed));
  std::string footer;
  for (std::uint64_t number : {out.toc.offset, out.toc.size_bytes, out.decoded_toc_bytes, std::uint64_t{1}, std::uint64_t{0}, std::uint64_t{0}, std::uint64_t{0}}) put_number(footer, number, 8);
  footer += footer_magic;
  TRY_PLAIN(writer.skippable(footer));
  out.blob_bytes = writer.at();
  return out;
}

std::map<std::string, std::string> chunked_annotations(const ChunkedLayer& layer) {
  return {{toc_annotation::chunked_digest, layer.toc.digest.text()}, {toc_annotation::chunked_position, concat(layer.toc.offset, ":", layer.toc.size_bytes, ":", layer.decoded_toc_bytes, ":1")}};
}

}  // namespace caisson::image
