// Tests for tables of contents of layers: made, found, read, refused, and held against the tar.
#include "image/layer_toc.hpp"

#include "image/chunked_layer.hpp"
#include "image/index_form.hpp"
#include "image/inflate.hpp"
#include "image/test_support.hpp"
#include "image/unpack.hpp"

namespace caisson::image {
namespace {

using testing_support::inflated;
using testing_support::TarMaker;

std::string text_of(std::size_t bytes) {
  std::string out;
  for (std::uint64_t state = 1; out.size() < bytes; state = state * 6364136223846793005ULL + 1442695040888963407ULL) out += static_cast<char>('a' + (state >> 60));
  return out;
}

std::string sample_tar() {
  TarMaker tar;
  tar.dir("usr").file("usr/empty").file("usr/small", "hello").file("usr/large", text_of(700'000), 0755);
  auto attributed = TarMaker::make(TarType::file, "usr/ping", 0755);
  attributed.xattrs["user.note"] = std::string("a\0b", 3);
  attributed.uid = 7;
  tar.add(attributed, "x");
  tar.symlink("usr/link", "small").hard_link("usr/hard", "usr/small").file("usr/.wh.gone").device("null", TarType::char_device, 1, 3);
  return tar.done();
}

struct Made {
  std::string blob;
  ChunkedLayer layer;
  std::string raw_table() const { return blob.substr(layer.toc.offset, layer.toc.size_bytes); }
};

Made make(const std::string& tar) {
  Made out;
  MemorySource source(tar, 4097);
  auto made = write_chunked(source, 3, [&](std::string_view bytes) -> Status {
    out.blob += bytes;
    return {};
  });
  EXPECT_TRUE(made.ok()) << made.error().text();
  out.layer = *made;
  return out;
}

LayerToc table_of(const Made& made) {
  auto text = decode_toc(made.raw_table(), made.layer.toc);
  EXPECT_TRUE(text.ok()) << text.error().text();
  auto toc = parse_toc(*text, made.layer.toc);
  EXPECT_TRUE(toc.ok()) << toc.error().text();
  return std::move(*toc);
}

Status compare(const LayerToc& toc, const std::string& tar, TocFormat format = TocFormat::zstd_chunked) {
  MemorySource source(tar);
  return compare_with_toc(toc, format, source);
}

TEST(LayerToc, what_is_made_decodes_to_the_tar_that_it_was_made_of) {
  const auto tar = sample_tar();
  const auto made = make(tar);
  EXPECT_EQ(inflated(made.blob), tar);
  EXPECT_EQ(made.blob.size(), made.layer.blob_bytes);
  EXPECT_EQ(made.blob, make(tar).blob);
}

TEST(LayerToc, every_piece_can_be_had_by_itself) {
  const auto made = make(sample_tar());
  const auto toc = table_of(made);
  std::size_t pieces = 0;
  for (const auto& entry : toc.entries)
    for (const auto& chunk : entry.chunks) {
      const auto content = inflated(std::string_view(made.blob).substr(chunk.blob_offset, chunk.blob_bytes)).substr(0, chunk.size_bytes);
      EXPECT_EQ(sha256_of(content), Digest::from_hash(DigestAlgorithm::sha256, chunk.sha256)) << entry.tar.name;
      ++pieces;
    }
  EXPECT_EQ(pieces, 5U);  // 256 KiB each: three of the large file
}

TEST(LayerToc, annotations_lead_to_the_table) {
  const auto made = make(sample_tar());
  Descriptor layer;
  layer.size_bytes = made.blob.size();
  layer.annotations = chunked_annotations(made.layer);
  auto place = toc_of(layer);
  ASSERT_TRUE(place.ok() && *place);
  EXPECT_EQ((*place)->offset, made.layer.toc.offset);
  EXPECT_EQ((*place)->digest, made.layer.toc.digest);
  layer.size_bytes = 10;
  EXPECT_EQ(toc_of(layer).error().kind(), ErrorKind::invalid);
  layer.annotations.erase(toc_annotation::chunked_digest);
  auto none = toc_of(layer);
  EXPECT_TRUE(none.ok() && !*none);  // a table that the manifest does not bind is none
}

TEST(LayerToc, a_table_with_another_digest_is_refused) {
  const auto made = make(sample_tar());
  auto raw = made.raw_table();
  raw.back() = static_cast<char>(raw.back() ^ 1);
  EXPECT_EQ(decode_toc(raw, made.layer.toc).error().kind(), ErrorKind::corrupt);
}

TEST(LayerToc, the_tree_of_the_table_is_the_tree_of_the_tar) {
  const auto tar = sample_tar();
  auto index = [](ByteSource& source, UnpackedLayer& layer) {
    TarReader reader(source);
    IndexForm form({});
    EXPECT_TRUE(unpack_into(form, reader, layer).ok());
    std::string out;
    EXPECT_TRUE(form.write(1 << 22, [&](std::string_view bytes) -> Status {
      out += bytes;
      return {};
    }).ok());
    return out.size();
  };
  UnpackedLayer of_tar;
  MemorySource source(tar);
  const auto tar_index_bytes = index(source, of_tar);
  const auto toc = table_of(make(tar));
  UnpackedLayer of_table;
  TocArchive archive(toc);
  EXPECT_EQ(index(archive, of_table), tar_index_bytes);
  EXPECT_EQ(of_table.size_bytes, of_tar.size_bytes);
  EXPECT_EQ(of_table.entries, of_tar.entries);
  EXPECT_EQ(of_table.implied_dirs, of_tar.implied_dirs);
}

TEST(LayerToc, tar_and_table_that_agree_are_told_so) { EXPECT_TRUE(compare(table_of(make(sample_tar())), sample_tar()).ok()); }

TEST(LayerToc, any_lie_of_the_table_is_found) {
  const auto tar = sample_tar();
  const auto honest = table_of(make(tar));
  auto lie = [&](std::string_view word, const std::function<void(LayerToc&)>& change) {
    auto toc = honest;
    change(toc);
    auto status = compare(toc, tar);
    ASSERT_FALSE(status.ok()) << word;
    EXPECT_EQ(status.error().kind(), ErrorKind::corrupt);
    EXPECT_NE(status.error().text().find(word), std::string::npos) << status.error().text();
  };
  lie("mode", [](LayerToc& toc) { toc.entries[2].tar.mode |= 04000; });
  lie("owner", [](LayerToc& toc) { toc.entries[2].tar.uid = 5; });
  lie("type", [](LayerToc& toc) { toc.entries[0].tar.type = TarType::fifo; });
  lie("time", [](LayerToc& toc) { toc.entries[2].tar.mtime_s += 1; });
  lie("attributes", [](LayerToc& toc) { toc.entries[4].tar.xattrs.clear(); });
  lie("target", [](LayerToc& toc) { toc.entries[5].tar.link_target = "/etc/shadow"; });
  lie("target", [](LayerToc& toc) { toc.entries[6].tar.link_target = "usr/large"; });
  lie("device", [](LayerToc& toc) { toc.entries[8].tar.device_minor = 1; });
  lie("size", [](LayerToc& toc) { toc.entries[2].tar.size_bytes = 4; });
  lie("content from byte 262144", [](LayerToc& toc) { toc.entries[3].chunks[1].sha256[0] ^= 1; });
  lie("promised", [](LayerToc& toc) { toc.entries[2].tar.name = "usr/other"; });
  lie("not in its table", [](LayerToc& toc) { toc.entries.pop_back(); });
  lie("not in the layer", [](LayerToc& toc) { toc.entries.push_back(toc.entries.back()); });
  lie("content", [](LayerToc& toc) { toc.entries[2].chunks[0].blob_bytes = 0; });  // zeros, says the table
}

TEST(LayerToc, names_of_one_file_may_be_written_in_several_ways) {
  TarMaker tar;
  tar.dir("./usr/").file("./usr/a", "x");
  auto toc = table_of(make(tar.done()));
  TarMaker other;
  other.dir("usr").file("/usr/a", "x");
  EXPECT_TRUE(compare(toc, other.done()).ok());
}

TEST(LayerToc, the_table_of_an_estargz_layer_is_a_file_of_it) {
  TarMaker with;
  with.file("a", "x").file("stargz.index.json", "{}");
  TarMaker without;
  without.file("a", "x");
  const auto toc = table_of(make(without.done()));
  const auto tar = with.done();
  EXPECT_TRUE(compare(toc, tar, TocFormat::estargz).ok());
  EXPECT_FALSE(compare(toc, tar, TocFormat::zstd_chunked).ok());
}

TEST(LayerToc, a_sparse_file_is_refused_by_name) {
  auto entry = TarMaker::make(TarType::file, "disk.img", 0644);
  entry.is_sparse = true;
  entry.size_bytes = 1 << 20;
  entry.segments = {{0, 4}};
  std::string tar;
  TarWriter writer([&](std::string_view bytes) -> Status {
    tar += bytes;
    return {};
  });
  ASSERT_TRUE(writer.begin(entry).ok() && writer.write("abcd").ok() && writer.finish().ok());
  MemorySource source(tar);
  auto made = write_chunked(source, 3, [](std::string_view) -> Status { return {}; });
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().kind(), ErrorKind::unsupported);
  EXPECT_NE(made.error().text().find("disk.img"), std::string::npos);
}

TEST(LayerToc, broken_tables_are_refused) {
  const auto digest = sha256_of("hello").text();
  auto refuse = [&](std::string_view word, std::string entries) {
    TocPlace place;
    place.offset = 1000;
    for (auto at = entries.find("DIGEST"); at != std::string::npos; at = entries.find("DIGEST")) entries.replace(at, 6, digest);
    auto toc = parse_toc(concat(R"({"version":1,"entries":[)", entries, "]}"), place);
    ASSERT_FALSE(toc.ok()) << entries;
    EXPECT_NE(toc.error().text().find(word), std::string::npos) << toc.error().text();
  };
  refuse("behind the contents", R"({"type":"reg","name":"a","size":5,"offset":1000,"digest":"DIGEST"})");
  refuse("without a digest", R"({"type":"reg","name":"a","size":5,"offset":10})");
  refuse("without a digest", R"({"type":"reg","name":"a","size":10,"offset":10,"digest":"DIGEST"},{"type":"chunk","name":"a","chunkOffset":5,"offset":20})");
  refuse("most that come lazily", R"({"type":"reg","name":"a","size":999999999,"offset":10,"digest":"DIGEST"})");
  refuse("must be", R"({"type":"reg","name":"a","size":10,"offset":10,"chunkSize":7,"chunkDigest":"DIGEST"},{"type":"chunk","name":"a","chunkOffset":5,"offset":20})");
  refuse("follow", R"({"type":"reg","name":"a","size":10,"offset":10,"chunkDigest":"DIGEST"},{"type":"chunk","name":"a","chunkOffset":50,"offset":20})");
  refuse("followed by", R"({"type":"reg","name":"a","size":10,"offset":10},{"type":"chunk","name":"b","chunkOffset":5,"offset":20})");
  refuse("no file", R"({"type":"chunk","name":"a","chunkOffset":5,"offset":20})");
  refuse("has pieces", R"({"type":"dir","name":"a"},{"type":"chunk","name":"a"})");
  refuse("not known", R"({"type":"socket","name":"a"})");
  refuse("NUL", R"({"type":"dir","name":"a\u0000b"})");
  refuse("without a name", R"({"type":"dir"})");
  refuse("link to nothing", R"({"type":"symlink","name":"a"})");
  refuse("no device", R"({"type":"char","name":"a","devMajor":5000})");
  refuse("modtime", R"({"type":"dir","name":"a","modtime":"yesterday"})");
  refuse("sha256", R"({"type":"reg","name":"a","size":5,"offset":10,"digest":"md5:00"})");
}

TEST(LayerToc, a_footer_says_where_an_estargz_table_begins) {
  std::string footer("\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0", 16);
  footer += "0000000000001388STARGZ";
  footer.append(13, '\0');
  TocPlace place;
  ASSERT_TRUE(read_estargz_footer(footer, 6000, place).ok());
  EXPECT_EQ(place.offset, 5000U);
  EXPECT_EQ(place.size_bytes, 6000U - 51 - 5000);
  EXPECT_FALSE(read_estargz_footer(footer, 5000, place).ok());
  footer[20] = 'g';
  EXPECT_FALSE(read_estargz_footer(footer, 6000, place).ok());
  EXPECT_FALSE(read_estargz_footer("short", 6000, place).ok());
}

}  // namespace
}  // namespace caisson::image
