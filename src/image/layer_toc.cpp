// Tables of contents of layers: hostile JSON becomes tar entries, and those are held against the tar.
#include "image/layer_toc.hpp"

#include <algorithm>
#include <map>
#include <memory>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "image/inflate.hpp"
#include "image/layer_tree.hpp"
#include "image/tar_reader.hpp"
#include "image/tar_writer.hpp"

namespace caisson::image {

namespace {

constexpr std::string_view estargz_toc_name = "stargz.index.json";

/// An entry of the table's JSON. Both formats name these members alike.
struct RawEntry {
  std::string type;
  std::string name;
  std::string link_name;
  std::string modtime;
  std::int64_t mode = 0;
  std::uint64_t uid = 0;
  std::uint64_t gid = 0;
  std::uint64_t size = 0;
  std::uint64_t dev_major = 0;
  std::uint64_t dev_minor = 0;
  std::map<std::string, std::string> xattrs;  // base64
  std::string digest;
  std::uint64_t offset = 0;
  std::uint64_t end_offset = 0;
  std::uint64_t inner_offset = 0;
  std::uint64_t chunk_offset = 0;
  std::uint64_t chunk_size = 0;
  std::string chunk_digest;
  std::string chunk_type;
};

Status from_json(const JsonView& view, RawEntry& out) {
  TRY_PLAIN(view.read("type", out.type));
  TRY_PLAIN(view.read("name", out.name));
  TRY_PLAIN(view.read("linkName", out.link_name));
  TRY_PLAIN(view.read("modtime", out.modtime));
  TRY_PLAIN(view.read("mode", out.mode));
  TRY_PLAIN(view.read("uid", out.uid));
  TRY_PLAIN(view.read("gid", out.gid));
  TRY_PLAIN(view.read("size", out.size));
  TRY_PLAIN(view.read("devMajor", out.dev_major));
  TRY_PLAIN(view.read("devMinor", out.dev_minor));
  TRY_PLAIN(view.read("xattrs", out.xattrs));
  TRY_PLAIN(view.read("digest", out.digest));
  TRY_PLAIN(view.read("offset", out.offset));
  TRY_PLAIN(view.read("endOffset", out.end_offset));
  TRY_PLAIN(view.read("innerOffset", out.inner_offset));
  TRY_PLAIN(view.read("chunkOffset", out.chunk_offset));
  TRY_PLAIN(view.read("chunkSize", out.chunk_size));
  TRY_PLAIN(view.read("chunkDigest", out.chunk_digest));
  return view.read("chunkType", out.chunk_type);
}

Error invalid(std::string text) { return {ErrorKind::invalid, std::move(text)}; }

Result<TarType> type_of(std::string_view name) {
  if (name == "reg") return TarType::file;
  if (name == "dir") return TarType::directory;
  if (name == "symlink") return TarType::symlink;
  if (name == "hardlink") return TarType::hard_link;
  if (name == "char") return TarType::char_device;
  if (name == "block") return TarType::block_device;
  if (name == "fifo") return TarType::fifo;
  return invalid(concat("the type \"", name, "\" is not known"));
}

Result<std::array<std::uint8_t, 32>> sha256_bytes(std::string_view text) {
  const auto digest = TRY(Digest::parse(text), "digest of a piece");
  if (digest.kind() != DigestAlgorithm::sha256) return invalid(concat("a piece is named by ", digest.algorithm(), ", not by sha256"));
  std::array<std::uint8_t, 32> out{};
  auto value = [](char c) { return static_cast<std::uint8_t>(c <= '9' ? c - '0' : c - 'a' + 10); };
  for (std::size_t i = 0; i < out.size(); ++i) out.at(i) = static_cast<std::uint8_t>(value(digest.hex()[2 * i]) << 4 | value(digest.hex()[2 * i + 1]));
  return out;
}

bool has_no_nul(std::string_view text) { return text.find('\0') == std::string_view::npos; }

Result<TarEntry> tar_entry_of(const RawEntry& raw) {
  TarEntry out;
  out.type = TRY_PLAIN(type_of(raw.type));
  if (raw.name.size() > TarLimits{}.name_bytes || raw.link_name.size() > TarLimits{}.name_bytes) return invalid("a name longer than a path can be");
  if (!has_no_nul(raw.name) || !has_no_nul(raw.link_name)) return invalid("a name with a NUL in it");
  if (raw.name.empty()) return invalid("an entry without a name");
  out.name = raw.name;
  const bool is_link = out.type == TarType::symlink || out.type == TarType::hard_link;
  if (is_link && raw.link_name.empty()) return invalid("a link to nothing");
  if (is_link) out.link_target = raw.link_name;
  out.mode = static_cast<std::uint32_t>(raw.mode) & 07777;
  out.uid = raw.uid;
  out.gid = raw.gid;
  if (out.type == TarType::file) out.size_bytes = raw.size;
  if (!raw.modtime.empty()) {
    constexpr std::int64_t second = 1'000'000'000;
    const auto time = TRY(parse_rfc3339(raw.modtime), "modtime");
    out.mtime_s = time / second - (time % second < 0 ? 1 : 0);
    out.mtime_ns = static_cast<std::uint32_t>(time - out.mtime_s * second);
  }
  constexpr std::uint64_t most_major = (1 << 12) - 1;
  constexpr std::uint64_t most_minor = (1 << 20) - 1;
  if (raw.dev_major > most_major || raw.dev_minor > most_minor) return invalid("a device number that no device has");
  if (out.type == TarType::char_device || out.type == TarType::block_device) {
    out.device_major = static_cast<std::uint32_t>(raw.dev_major);
    out.device_minor = static_cast<std::uint32_t>(raw.dev_minor);
  }
  for (const auto& [name, value] : raw.xattrs) {
    if (name.empty() || !has_no_nul(name) || name.find('=') != std::string::npos) return invalid("an attribute whose name cannot be");
    out.xattrs.emplace(name, TRY(base64_decode(value), concat("attribute ", name)));
  }
  return out;
}

/// Where pieces end: at the next place that anything begins or ends at.
class Offsets {
 public:
  explicit Offsets(std::uint64_t end) : end_(end) { all_.push_back(end); }
  void add(std::uint64_t offset) {
    if (offset > 0 && offset < end_) all_.push_back(offset);
  }
  void sort() {
    std::sort(all_.begin(), all_.end());
    all_.erase(std::unique(all_.begin(), all_.end()), all_.end());
  }
  [[nodiscard]] Result<std::uint64_t> after(std::uint64_t offset) const {
    const auto found = std::upper_bound(all_.begin(), all_.end(), offset);
    if (found == all_.end()) return invalid(concat("a piece at ", offset, ", behind the contents of the layer"));
    return *found;
  }

 private:
  std::uint64_t end_;
  std::vector<std::uint64_t> all_;
};

/// `raws`: a file's entry and the entries of its further pieces.
Result<std::vector<TocChunk>> chunks_of(const std::vector<const RawEntry*>& raws, const Offsets& offsets) {
  const auto& file = *raws.front();
  std::vector<TocChunk> out;
  if (file.size == 0) {
    if (raws.size() > 1) return invalid("an empty file in pieces");
    return out;
  }
  std::uint64_t covered = 0;
  for (std::size_t i = 0; i < raws.size(); ++i) {
    const auto& raw = *raws[i];
    if (raw.chunk_offset != covered) return invalid(concat("a piece at ", raw.chunk_offset, " of the file, where one at ", covered, " must be"));
    const auto rest = (i + 1 < raws.size() ? raws[i + 1]->chunk_offset : file.size);
    if (rest <= covered || rest > file.size) return invalid("pieces that do not follow each other");
    TocChunk chunk;
    chunk.file_offset = covered;
    chunk.size_bytes = rest - covered;
    if (raw.chunk_size != 0 && raw.chunk_size != chunk.size_bytes) return invalid(concat("a piece of ", raw.chunk_size, " bytes, where one of ", chunk.size_bytes, " must be"));
    covered = rest;
    if (raw.chunk_type == "zeros") {
      out.push_back(chunk);
      continue;
    }
    if (!raw.chunk_type.empty()) return invalid(concat("a piece of the unknown type \"", raw.chunk_type, "\""));
    if (chunk.size_bytes > most_chunk_bytes) return invalid(concat("a piece of ", chunk.size_bytes, " bytes; ", most_chunk_bytes, " are the most that come lazily"));
    const auto& digest = raw.chunk_digest.empty() && raws.size() == 1 ? raw.digest : raw.chunk_digest;
    if (digest.empty()) return invalid("a piece without a digest");
    chunk.sha256 = TRY_PLAIN(sha256_bytes(digest));
    chunk.blob_offset = raw.offset;
    if (raw.inner_offset > most_chunk_bytes) return invalid("a piece too far inside of another one");
    chunk.inner_offset = raw.inner_offset;
    // Nothing becomes much larger by being compressed: what is behind that is not asked for.
    const auto decoded = chunk.inner_offset + chunk.size_bytes;
    constexpr std::uint64_t slack_bytes = 64 << 10;
    chunk.blob_bytes = std::min(TRY_PLAIN(offsets.after(raw.offset)) - raw.offset, decoded + decoded / 8 + slack_bytes);
    out.push_back(chunk);
  }
  return out;
}

/// Reads a source that must not have more than so many bytes.
Result<std::string> read_bounded(ByteSource& source, std::size_t most_bytes) {
  std::string out;
  for (;;) {
    const auto piece = TRY_PLAIN(source.next());
    if (piece.empty()) return out;
    if (out.size() + piece.size() > most_bytes) return invalid(concat("a table of more than ", most_bytes, " bytes"));
    out += piece;
  }
}

Result<std::string> table_in_tar(ByteSource& source) {
  TarReader tar(source);
  TarEntry entry;
  std::string out;
  bool is_found = false;
  while (TRY_PLAIN(tar.next(entry))) {
    if (entry.name != estargz_toc_name || entry.type != TarType::file || entry.is_sparse || is_found) return invalid(concat("\"", entry.name, "\" is where the table must be alone"));
    if (entry.size_bytes > most_decoded_toc_bytes) return invalid(concat("a table of more than ", most_decoded_toc_bytes, " bytes"));
    is_found = true;
    for (;;) {
      const auto piece = TRY_PLAIN(tar.read());
      if (piece.bytes.empty()) break;
      out += piece.bytes;
    }
  }
  if (!is_found) return invalid("no table where the footer says that it lies");
  return out;
}

std::string clean_name(std::string_view name) {
  auto parts = clean_components(name);
  return parts.ok() ? join(*parts, "/") : std::string(name);
}

}  // namespace

std::string_view to_string(TocFormat format) { return format == TocFormat::estargz ? "estargz" : "zstd:chunked"; }

Result<std::optional<TocPlace>> toc_of(const Descriptor& layer) {
  auto annotation = [&](const char* name) {
    const auto found = layer.annotations.find(name);
    return found == layer.annotations.end() ? std::string() : found->second;
  };
  TocPlace place;
  if (const auto digest = annotation(toc_annotation::estargz_digest); !digest.empty()) {
    place.format = TocFormat::estargz;
    place.digest = TRY(Digest::parse(digest), toc_annotation::estargz_digest);
    return std::optional(place);
  }
  const bool is_old = annotation(toc_annotation::chunked_digest).empty();
  const auto digest = annotation(is_old ? toc_annotation::old_chunked_digest : toc_annotation::chunked_digest);
  const auto position = annotation(is_old ? toc_annotation::old_chunked_position : toc_annotation::chunked_position);
  if (digest.empty() || position.empty()) return std::optional<TocPlace>();
  place.digest = TRY(Digest::parse(digest), toc_annotation::chunked_digest);
  const auto numbers = split(position, ':');
  if (numbers.size() != 4) return invalid(concat(toc_annotation::chunked_position, ": \"", position, "\" is not OFFSET:LENGTH:DECODED:TYPE"));
  place.offset = TRY(parse_integer<std::uint64_t>(numbers[0]), toc_annotation::chunked_position);
  place.size_bytes = TRY(parse_integer<std::uint64_t>(numbers[1]), toc_annotation::chunked_position);
  if (numbers[3] != "1") return invalid(concat(toc_annotation::chunked_position, ": a table of the unknown type ", numbers[3]));
  if (place.size_bytes == 0 || place.size_bytes > layer.size_bytes || place.offset > layer.size_bytes - place.size_bytes)
    return invalid(concat(toc_annotation::chunked_position, ": ", position, " is not inside the layer's ", layer.size_bytes, " bytes"));
  if (place.size_bytes > most_toc_bytes) return invalid(concat("a table of ", place.size_bytes, " bytes; ", most_toc_bytes, " are the most that are read"));
  return std::optional(place);
}

/// RFC 1952: a member of nothing with one subfield "SG" of 22 bytes: 16 hex digits and a word.
Status read_estargz_footer(std::string_view footer, std::uint64_t blob_bytes, TocPlace& place) {
  constexpr std::string_view word = "STARGZ";
  constexpr std::size_t extra_at = 12;
  constexpr std::size_t offset_at = extra_at + 4;
  constexpr std::size_t digits = 16;
  const auto is_footer = footer.size() == estargz_footer_bytes && footer.starts_with("\x1f\x8b\x08\x04") && footer.substr(10, 2) == std::string_view("\x1a\0", 2) &&
                         footer.substr(extra_at, 4) == std::string_view("SG\x16\0", 4) && footer.substr(offset_at + digits, word.size()) == word;
  if (!is_footer) return invalid("its end is not an eStargz footer");
  std::uint64_t offset = 0;
  for (char c : footer.substr(offset_at, digits)) {
    const bool is_digit = c >= '0' && c <= '9';
    if (!is_digit && (c < 'a' || c > 'f')) return invalid("the footer's offset is no number");
    offset = offset << 4 | static_cast<std::uint64_t>(is_digit ? c - '0' : c - 'a' + 10);
  }
  if (blob_bytes < estargz_footer_bytes || offset == 0 || offset >= blob_bytes - estargz_footer_bytes) return invalid("the footer points behind the layer's end");
  place.offset = offset;
  place.size_bytes = blob_bytes - estargz_footer_bytes - offset;
  if (place.size_bytes > most_toc_bytes) return invalid(concat("a table of ", place.size_bytes, " bytes; ", most_toc_bytes, " are the most that are read"));
  return {};
}

Result<std::string> decode_toc(std::string_view raw, const TocPlace& place) {
  auto check = [&](std::string_view bytes) -> Status {
    const auto got = digest_of(bytes, place.digest.kind());
    if (got != place.digest) return Error(ErrorKind::corrupt, concat("the table has the digest ", got.text(), ", the image's manifest says ", place.digest.text()));
    return {};
  };
  if (place.format == TocFormat::zstd_chunked) TRY_PLAIN(check(raw));
  MemorySource source(raw);
  auto inflater = TRY(open_inflater(source), "table");
  const auto wanted = place.format == TocFormat::estargz ? Compression::gzip : Compression::zstd;
  if (inflater->compression() != wanted) return Error(ErrorKind::corrupt, concat("the table is compressed with ", to_string(inflater->compression()), ", not with ", to_string(wanted)));
  auto text = place.format == TocFormat::estargz ? TRY(table_in_tar(*inflater), "table") : TRY(read_bounded(*inflater, most_decoded_toc_bytes), "table");
  if (place.format == TocFormat::estargz) TRY_PLAIN(check(text));
  return text;
}

Result<LayerToc> parse_toc(std::string_view json_text, const TocPlace& place) {
  const auto document = TRY_PLAIN(parse_json(json_text, "table"));
  const JsonView view(document);
  std::int64_t version = 0;
  TRY(view.read("version", version), "table");
  if (version != 1) return invalid(concat("a table of the unknown version ", version));
  std::vector<RawEntry> raws;
  const auto entries = TRY(view.at("entries"), "table");
  TRY(entries.for_each_element([&](const JsonView& element) -> Status {
    if (raws.size() == most_toc_entries + most_toc_chunks) return invalid("more entries than a table may have");
    return element.read(raws.emplace_back());
  }), "table");
  Offsets offsets(place.offset);
  for (const auto& raw : raws) {
    offsets.add(raw.offset);
    offsets.add(raw.end_offset);
  }
  offsets.sort();
  LayerToc toc;
  std::size_t chunks = 0;
  for (std::size_t i = 0; i < raws.size();) {
    const auto& raw = raws[i];
    const auto step = concat("entry \"", raw.name, "\" of the table");
    if (raw.type == "chunk") return invalid(concat(step, ": a piece of no file"));
    if (toc.entries.size() == most_toc_entries) return invalid("more entries than a table may have");
    auto& entry = toc.entries.emplace_back();
    entry.tar = TRY(tar_entry_of(raw), step);
    std::vector<const RawEntry*> pieces{&raw};
    for (++i; i < raws.size() && raws[i].type == "chunk"; ++i) {
      if (raws[i].name != raw.name) return invalid(concat(step, ": followed by a piece of \"", raws[i].name, "\""));
      pieces.push_back(&raws[i]);
    }
    if (entry.tar.type == TarType::file) entry.chunks = TRY(chunks_of(pieces, offsets), step);
    else if (pieces.size() > 1) return invalid(concat(step, ": is no file, and has pieces"));
    chunks += entry.chunks.size();
    if (chunks > most_toc_chunks) return invalid("more pieces than a table may have");
  }
  return toc;
}

struct TocArchive::State {
  explicit State(const LayerToc& of) : toc(of), writer([this](std::string_view bytes) -> Status {
      if (!is_dropping) pending += bytes;
      return {};
    }) {}
  const LayerToc& toc;
  bool is_dropping = false;
  std::string pending;
  TarWriter writer;
  std::string zeros = std::string(1 << 18, '\0');
  std::size_t next_entry = 0;
  std::uint64_t left = 0;
  std::uint64_t bytes = 0;
  bool is_finished = false;
  std::vector<TocChunk> chunks;
};

TocArchive::TocArchive(const LayerToc& toc) : state_(std::make_unique<State>(toc)) {}
TocArchive::~TocArchive() = default;
std::uint64_t TocArchive::bytes() const { return state_->bytes; }
const std::vector<TocChunk>& TocArchive::chunks() const { return state_->chunks; }

Result<std::string_view> TocArchive::next() {
  auto& s = *state_;
  if (s.left > 0) {
    const auto piece = std::string_view(s.zeros).substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(s.left, s.zeros.size())));
    s.is_dropping = true;
    TRY_PLAIN(s.writer.write(piece));
    s.is_dropping = false;
    s.left -= piece.size();
    s.bytes += piece.size();
    return piece;
  }
  if (s.is_finished) return std::string_view();
  s.pending.clear();
  if (s.next_entry == s.toc.entries.size()) {
    TRY_PLAIN(s.writer.finish());
    s.is_finished = true;
  } else {
    const auto& entry = s.toc.entries[s.next_entry++];
    TRY_PLAIN(s.writer.begin(entry.tar));
    s.left = entry.tar.size_bytes;
    for (auto chunk : entry.chunks) {
      chunk.file_offset += s.bytes + s.pending.size();
      s.chunks.push_back(chunk);
    }
  }
  s.bytes += s.pending.size();
  return std::string_view(s.pending);
}

namespace {

Error differs(const TarEntry& entry, std::string_view what) {
  return {ErrorKind::corrupt, concat("\"", entry.name, "\": its ", what, " is not what the table of contents promised")};
}

Status compare_entry(const TarEntry& promised, const TarEntry& real) {
  if (promised.type != real.type) return differs(real, "type");
  if (real.type != TarType::symlink && promised.mode != real.mode) return differs(real, "mode");
  if (promised.uid != real.uid || promised.gid != real.gid) return differs(real, "owner");
  if (promised.mtime_s != real.mtime_s) return differs(real, "time");
  if (real.is_sparse || (real.type == TarType::file && promised.size_bytes != real.size_bytes)) return differs(real, "size");
  if (real.type == TarType::symlink && promised.link_target != real.link_target) return differs(real, "target");
  if (real.type == TarType::hard_link && clean_name(promised.link_target) != clean_name(real.link_target)) return differs(real, "target");
  const bool is_device = real.type == TarType::char_device || real.type == TarType::block_device;
  if (is_device && (promised.device_major != real.device_major || promised.device_minor != real.device_minor)) return differs(real, "device number");
  if (promised.xattrs != real.xattrs) return differs(real, "set of attributes");
  return {};
}

Status compare_contents(const TocEntry& promised, const TarEntry& real, TarReader& tar) {
  auto chunk = promised.chunks.begin();
  Hasher hasher;
  std::uint64_t hashed = 0;
  bool is_zero = true;
  for (;;) {
    auto bytes = TRY_PLAIN(tar.read()).bytes;
    if (bytes.empty()) break;
    while (!bytes.empty()) {
      if (chunk == promised.chunks.end()) return differs(real, "size");
      const auto take = bytes.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), chunk->size_bytes - hashed)));
      bytes.remove_prefix(take.size());
      hashed += take.size();
      if (chunk->is_zeros()) is_zero = is_zero && take.find_first_not_of('\0') == std::string_view::npos;
      else hasher.update(take);
      if (hashed < chunk->size_bytes) continue;
      const bool is_same = chunk->is_zeros() ? is_zero : hasher.finish() == Digest::from_hash(DigestAlgorithm::sha256, chunk->sha256);
      if (!is_same) return differs(real, concat("content from byte ", chunk->file_offset, " on"));
      hasher = Hasher();
      hashed = 0;
      is_zero = true;
      ++chunk;
    }
  }
  if (chunk != promised.chunks.end()) return differs(real, "size");
  return {};
}

}  // namespace

Status compare_with_toc(const LayerToc& toc, TocFormat format, ByteSource& source) {
  TarReader tar(source);
  TarEntry real;
  auto promised = toc.entries.begin();
  while (TRY_PLAIN(tar.next(real))) {
    const auto name = clean_name(real.name);
    // The table is a file of an eStargz layer, and does not tell about itself.
    if (format == TocFormat::estargz && name == estargz_toc_name && promised == toc.entries.end()) continue;
    if (promised == toc.entries.end()) return Error(ErrorKind::corrupt, concat("\"", real.name, "\" is in the layer, and not in its table of contents"));
    if (clean_name(promised->tar.name) != name)
      return Error(ErrorKind::corrupt, concat("\"", real.name, "\" is in the layer where its table of contents promised \"", promised->tar.name, "\""));
    TRY_PLAIN(compare_entry(promised->tar, real));
    if (real.type == TarType::file) TRY_PLAIN(compare_contents(*promised, real, tar));
    ++promised;
  }
  if (promised != toc.entries.end()) return Error(ErrorKind::corrupt, concat("\"", promised->tar.name, "\" is promised by the table of contents, and not in the layer"));
  return {};
}

}  // namespace caisson::image
