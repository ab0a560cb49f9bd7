// Tests of the pure parsers: references, tar, compression, manifests, change lines.
#include <bzlib.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lzma.h>
#include <zstd.h>

#include <random>

#include "image/changes.hpp"
#include "image/layer_tree.hpp"
#include "image/manifest.hpp"
#include "image/tar_header.hpp"
#include "image/tar_reader.hpp"
#include "image/test_support.hpp"
#include "image/wrappings.hpp"

namespace caisson::image {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace testing_support;

TEST(reference, names_are_normalised_as_docker_does) {
  struct Case {
    const char* text;
    const char* canonical;
    const char* familiar;
  };
  const std::string digest = "sha256:" + std::string(64, 'a');
  for (const auto& c : {Case{"alpine", "docker.io/library/alpine:latest", "alpine:latest"}, Case{"alpine:3.19", "docker.io/library/alpine:3.19", "alpine:3.19"},
                        Case{"a/b", "docker.io/a/b:latest", "a/b:latest"}, Case{"localhost/b", "localhost/b:latest", "localhost/b:latest"},
                        Case{"localhost:5000/a/b:1", "localhost:5000/a/b:1", "localhost:5000/a/b:1"}, Case{"index.docker.io/x/y", "docker.io/x/y:latest", "x/y:latest"},
                        Case{"Host/x", "Host/x:latest", "Host/x:latest"}, Case{"docker.io/library/x", "docker.io/library/x:latest", "x:latest"},
                        Case{"docker.io/library/x/y", "docker.io/library/x/y:latest", "library/x/y:latest"}, Case{"a__b/c--d.e:V_1", "docker.io/a__b/c--d.e:V_1", "a__b/c--d.e:V_1"},
                        Case{"[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"}}) {
    auto reference = parse_reference(c.text);
    ASSERT_TRUE(reference.ok()) << c.text;
    EXPECT_EQ(reference->canonical(), c.canonical);
    EXPECT_EQ(reference->familiar(), c.familiar);
    EXPECT_EQ(parse_reference(reference->canonical())->canonical(), c.canonical);
    EXPECT_EQ(parse_reference(reference->familiar())->canonical(), c.canonical);
  }
  auto with_digest = parse_reference("alpine@" + digest);
  ASSERT_TRUE(with_digest.ok());
  EXPECT_EQ(with_digest->tag, "");
  EXPECT_EQ(with_digest->canonical(), "docker.io/library/alpine@" + digest);
  EXPECT_EQ(parse_reference("alpine:1@" + digest)->familiar(), "alpine:1@" + digest);
}

TEST(reference, broken_ones_are_refused_in_dockers_words) {
  for (const std::string& bad : std::vector<std::string>{"", ":", ":tag", "a:", "a:b c", "-a", "a-", "a..b", "a___b", "a/", "/a", "a//b", "a@sha256:short", "a@", "a b",
                                "ho_st.x/a:1", "host:port/a", "a:" + std::string(129, 't'), std::string("a\0b", 3), "../a", "a/../b", "[::1/x", "x:-t"})
    EXPECT_THAT(parse_reference(bad).ok() ? "accepted" : parse_reference(bad).error().text(), HasSubstr("invalid reference format")) << bad;
  EXPECT_THAT(parse_reference("Alpine").error().text(), HasSubstr("repository name must be lowercase"));
  EXPECT_THAT(parse_reference(std::string(64, 'a')).error().text(), HasSubstr("cannot specify 64-byte hexadecimal strings"));
  EXPECT_THAT(parse_reference(std::string(300, 'a')).error().text(), HasSubstr("must not be more than 255"));
}

TEST(reference, random_bytes_neither_crash_nor_parse_to_something_unstable) {
  auto seed = std::random_device{}();
  SCOPED_TRACE(concat("seed ", seed));
  std::mt19937 random(seed);
  constexpr std::string_view alphabet = "aB0._-/:@[]\n sha256";
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (std::size_t n = random() % 24; n > 0; --n) text += alphabet[random() % alphabet.size()];
    auto reference = parse_reference(text);
    if (!reference.ok()) continue;
    auto again = parse_reference(reference->canonical());
    ASSERT_TRUE(again.ok()) << text;
    EXPECT_EQ(again->canonical(), reference->canonical()) << text;
  }
}

/// Everything a reader says about an archive, in one text.
Result<std::string> describe(std::string_view archive, std::size_t piece_bytes = 1 << 18, TarLimits limits = {}) {
  MemorySource source(archive, piece_bytes);
  TarReader reader(source, limits);
  std::string out;
  TarEntry entry;
  while (TRY_PLAIN(reader.next(entry))) {
    out += concat(static_cast<int>(entry.type), " ", entry.name, " ", entry.link_target, " ", entry.mode, " ", entry.uid, ":", entry.gid, " ", entry.size_bytes, " ", entry.mtime_s,
                  ".", entry.mtime_ns, " ", entry.device_major, ":", entry.device_minor);
    for (const auto& [key, value] : entry.xattrs) out += concat(" ", key, "=", value);
    out += " ";
    for (;;) {
      auto piece = TRY_PLAIN(reader.read());
      if (piece.bytes.empty()) break;
      out += entry.is_sparse ? concat("@", piece.offset, "=", piece.bytes) : std::string(piece.bytes);
    }
    out += "\n";
  }
  return out;
}

TEST(tar, what_is_written_is_read_back_whatever_the_pieces) {
  TarMaker tar;
  auto odd = TarMaker::make(TarType::file, std::string(150, 'n') + "/" + std::string(120, 'm'), 04755);
  odd.uid = 3'000'000;
  odd.gid = 1ULL << 40;
  odd.mtime_s = -5;
  odd.mtime_ns = 250'000'000;
  odd.xattrs["security.capability"] = std::string("\1\0\0\2\n=", 6);
  tar.dir("d/").file("d/f", std::string(1500, 'c')).add(odd, "odd").symlink("l", std::string(200, 't')).hard_link("h", "d/f").device("c", TarType::char_device, 10, 200);
  tar.add(TarMaker::make(TarType::fifo, "p", 0600)).file("empty");
  auto bytes = tar.done();
  auto whole = describe(bytes);
  ASSERT_TRUE(whole.ok()) << whole.error().text();
  EXPECT_THAT(*whole, HasSubstr("3000000:1099511627776 3 -5.250000000 0:0 security.capability="));
  EXPECT_THAT(*whole, HasSubstr("10:200"));
  for (std::size_t piece : {1U, 7U, 511U, 513U, 4096U}) EXPECT_EQ(*describe(bytes, piece), *whole) << piece;
  EXPECT_EQ(bytes.size() % 512, 0U);
}

TEST(tar, old_flavours_are_read) {
  // GNU long name and link, base-256 size, star's shorter prefix, V7's trailing slash.
  std::string gnu = bent_header({{0, "././@LongLink"}, {124, "00000000310"}, {257, std::string("ustar  \0", 8)}}, 'L') + std::string(200, 'x') + std::string(312, '\0') +
                    bent_header({{0, "short"}, {257, std::string("ustar  \0", 8)}});
  EXPECT_THAT(*describe(gnu), HasSubstr(std::string(200, 'x')));
  std::string big(12, '\0');
  big[0] = static_cast<char>(0x80);
  big[11] = 3;
  EXPECT_THAT(*describe(bent_header({{124, big}}) + "abc" + std::string(509, '\0')), HasSubstr(" 3 0.0 0:0 abc"));
  EXPECT_THAT(*describe(bent_header({{0, "dir/"}, {257, std::string(8, '\0')}}, '\0')), HasSubstr(concat(static_cast<int>(TarType::directory), " dir/")));
  EXPECT_THAT(*describe(bent_header({{345, "pre/fix"}})), HasSubstr("pre/fix/bent"));
  EXPECT_THAT(*describe(bent_header({{345, "pre"}, {476, "99999999999"}, {508, std::string("tar\0", 4)}})), HasSubstr("pre/bent"));
}

TEST(tar, all_four_sparse_formats_are_read) {
  auto octal = [](std::size_t number) {
    char text[13];
    std::snprintf(text, sizeof text, "%011zo", number);
    return std::string(text, 11);
  };
  std::string gnu = bent_header({{124, octal(6)}, {257, std::string("ustar  \0", 8)}, {386, octal(512)}, {398, octal(3)}, {410, octal(1024)}, {422, octal(3)}, {483, octal(2000)}}, 'S') +
                    "abcdef" + std::string(506, '\0');
  EXPECT_THAT(*describe(gnu), HasSubstr(" 2000 0.0 0:0 @512=abc@1024=def"));
  auto pax = [&](const std::string& records, const std::string& data) {
    std::string text;
    for (auto record : split(records, ';')) {
      std::size_t length = record.size() + 3;
      while (concat(length).size() + record.size() + 2 != length) ++length;
      text += concat(length, " ", record, "\n");
    }
    std::string padded = text + std::string((512 - text.size() % 512) % 512, '\0');
    return bent_header({{124, octal(text.size())}}, 'x') + padded + bent_header({{124, octal(data.size())}}) + data + std::string((512 - data.size() % 512) % 512, '\0');
  };
  auto v00 = describe(pax("GNU.sparse.size=2000;GNU.sparse.numblocks=2;GNU.sparse.offset=512;GNU.sparse.numbytes=3;GNU.sparse.offset=1024;GNU.sparse.numbytes=3", "abcdef"));
  ASSERT_TRUE(v00.ok()) << v00.error().text();
  EXPECT_THAT(*v00, HasSubstr("@512=abc@1024=def"));
  EXPECT_THAT(*describe(pax("GNU.sparse.size=2000;GNU.sparse.map=512,3,1024,3;GNU.sparse.name=real", "abcdef")), HasSubstr("real  420 0:0 2000 0.0 0:0 @512=abc@1024=def"));
  std::string map = "2\n512\n3\n1024\n3\n";
  auto v10 = describe(pax("GNU.sparse.major=1;GNU.sparse.minor=0;GNU.sparse.realsize=2000", map + std::string(512 - map.size(), '\0') + "abcdef"));
  ASSERT_TRUE(v10.ok()) << v10.error().text();
  EXPECT_THAT(*v10, HasSubstr("2000 0.0 0:0 @512=abc@1024=def"));
  for (const auto& bad : {"GNU.sparse.size=2000;GNU.sparse.map=512,3,100,3", "GNU.sparse.size=10;GNU.sparse.map=0,3,8,3", "GNU.sparse.size=2000;GNU.sparse.map=0,6,1", "GNU.sparse.size=2000;GNU.sparse.map=0,5",
                          "GNU.sparse.major=2;GNU.sparse.size=1", "GNU.sparse.size=99999999999999999999;GNU.sparse.map=0,6", "GNU.sparse.numbytes=1", "GNU.sparse.size=9223372036854775808;GNU.sparse.map=0,6"})
    EXPECT_FALSE(describe(pax(bad, "abcdef")).ok()) << bad;
}

TEST(tar, hostile_archives_are_refused) {
  auto refuse = [](const std::string& bytes, const char* words) {
    auto result = describe(bytes);
    EXPECT_THAT(result.ok() ? "accepted: " + *result : result.error().text(), HasSubstr(words));
  };
  refuse("this is no tar", "unexpected end of data");
  refuse(std::string(512, 'x'), "not a tar archive");
  refuse(bent_header({{124, "77777777777"}}), "unexpected end of data");
  std::string negative(12, '\xff');
  refuse(bent_header({{124, negative}}), "negative");
  refuse(bent_header({{108, std::string(8, '\xff')}}), "negative");
  refuse(bent_header({{100, "00x0644"}}), "not a number");
  std::string huge = "\x80" + std::string(3, '\0') + std::string(8, '\x7f');
  refuse(bent_header({{124, huge}}), "");
  refuse(bent_header({{0, std::string(1, '\0')}}), "without a name");
  refuse(bent_header({}, '2'), "link without a target");
  refuse(bent_header({}, 'M'), "not supported");
  refuse(bent_header({{329, "0777777"}}, '3'), "out of range");
  refuse(bent_header({{124, "00077777777"}}, 'x'), "longer than the limit");
  refuse(bent_header({{124, "00077777777"}}, 'L'), "longer than the limit");
  auto pax = [](std::string records, char type = 'x') {
    char size[16];
    std::snprintf(size, sizeof size, "%011zo", records.size());
    records.resize((records.size() + 511) / 512 * 512, '\0');
    return bent_header({{124, size}}, type) + records;
  };
  refuse(pax("5 a=\n9 cut"), "malformed PAX");
  refuse(pax("999 a=b\n"), "malformed PAX");
  refuse(pax("-5 a=b\n"), "malformed PAX");
  refuse(pax("7 ab=c"), "malformed PAX");
  refuse(pax("6 a=b\n"), "ends between an extension record");
  refuse(pax("13 path=a/b\nx"), "malformed PAX");
  refuse(pax("11 size=-1\n") + bent_header({}), "not a valid number");
  refuse(pax("28 size=9223372036854775807\n") + bent_header({}), "out of range");
  refuse(pax("12 size=7000\n") + bent_header({}), "malformed PAX");
  refuse(pax("13 size=7000\n") + bent_header({}), "unexpected end of data");
  refuse(pax(std::string("11 path=a\0\n", 11)) + bent_header({}), "NUL");
  refuse(pax("13 path=evil\n", 'g') + bent_header({}), "global PAX header may not set");
  refuse(pax("10 size=1\n", 'g') + bent_header({}), "global PAX header may not set");
  std::string chain;
  for (int i = 0; i < 20; ++i) chain += pax("6 a=b\n");
  refuse(chain + bent_header({}), "too many extension records");
  refuse(bent_header({}) + std::string(512, '\0') + bent_header({}), "behind a lone zero block");
  TarMaker many;
  for (int i = 0; i < 5; ++i) many.file(concat(i));
  EXPECT_THAT(describe(many.done(), 512, TarLimits{.entries = 3}).error().text(), HasSubstr("more than 3 entries"));
  TarMaker deep;
  deep.file(std::string(5000, 'a'));
  refuse(deep.done(), "longer than 4095");
}

TEST(tar, random_damage_never_reads_outside_and_always_ends) {
  TarMaker tar;
  tar.dir("d").file("d/f", std::string(3000, 'c')).symlink(std::string(300, 's'), "t").file("last", "x");
  auto good = tar.done();
  auto seed = std::random_device{}();
  SCOPED_TRACE(concat("seed ", seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 3000; ++round) {
    auto bytes = good;
    for (std::size_t n = 1 + random() % 6; n > 0; --n) bytes[random() % bytes.size()] = static_cast<char>(random());
    // Repair the checksums so that the damage gets past them.
    for (std::size_t at = 0; at + 512 <= bytes.size(); at += 512) {
      if (random() % 2 == 0) continue;
      unsigned sum = 0;
      for (std::size_t i = 0; i < 512; ++i) sum += i >= 148 && i < 156 ? 32U : static_cast<unsigned char>(bytes[at + i]);
      char digits[8];
      std::snprintf(digits, sizeof digits, "%06o", sum & 0777777);
      bytes.replace(at + 148, 7, digits, 7);
    }
    bytes.resize(random() % 4 == 0 ? random() % bytes.size() : bytes.size());
    auto result = describe(bytes, 1 + random() % 1000);
    EXPECT_TRUE(result.ok() || !result.error().text().empty());
  }
}

std::string zstd(std::string_view bytes) {
  std::string out(ZSTD_compressBound(bytes.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), bytes.data(), bytes.size(), 3));
  return out;
}

Result<std::string> inflate_all(std::string_view bytes, std::size_t piece_bytes) {
  MemorySource source(bytes, piece_bytes);
  auto inflater = TRY_PLAIN(open_inflater(source));
  std::string out;
  for (;;) {
    auto piece = TRY_PLAIN(inflater->next());
    if (piece.empty()) return out;
    out += piece;
  }
}

TEST(inflate, members_frames_and_padding_are_decoded_in_any_pieces) {
  std::string text;
  for (unsigned int i = 0; i < 200000; ++i) text += static_cast<char>('a' + i * i % 23);
  std::string skippable("\x51\x2a\x4d\x18\x03\x00\x00\x00zzz", 11);
  for (std::size_t piece : {1U, 100U, 1U << 18U}) {
    EXPECT_EQ(*inflate_all(text, piece), text);
    EXPECT_EQ(*inflate_all(gzip(text), piece), text);
    EXPECT_EQ(*inflate_all(gzip(text) + gzip("") + gzip("tail") + std::string(1000, '\0'), piece), text + "tail");
    EXPECT_EQ(*inflate_all(zstd(text), piece), text);
    EXPECT_EQ(*inflate_all(skippable + zstd(text) + skippable + zstd("tail"), piece), text + "tail");
    EXPECT_EQ(*inflate_all("", piece), "");
    EXPECT_EQ(*inflate_all("ab", piece), "ab");
  }
}

TEST(inflate, damage_is_an_error_and_not_a_shorter_text) {
  std::string text(100000, 'q');
  for (auto make : {gzip, zstd}) {
    auto good = make(text);
    EXPECT_EQ(inflate_all(good.substr(0, good.size() - 1), 100).error().kind(), ErrorKind::corrupt);
    EXPECT_EQ(inflate_all(good.substr(0, good.size() / 2), 100).error().kind(), ErrorKind::corrupt);
  }
  auto bad = gzip(text);
  bad[bad.size() - 6] = static_cast<char>(bad[bad.size() - 6] ^ 0x55);  // in the CRC
  EXPECT_EQ(inflate_all(bad, 100).error().kind(), ErrorKind::corrupt);
  EXPECT_THAT(inflate_all(gzip(text) + "garbage", 100).error().text(), HasSubstr("behind the end"));
  EXPECT_THAT(inflate_all("BZh91AY", 100).error().text(), HasSubstr("bzip2")) << "no layer is compressed so";
}

std::string xz(std::string_view bytes) {
  std::string out(lzma_stream_buffer_bound(bytes.size()), '\0');
  std::size_t size = 0;
  EXPECT_EQ(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, nullptr, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(),
                                    reinterpret_cast<std::uint8_t*>(out.data()), &size, out.size()),
            LZMA_OK);
  out.resize(size);
  return out;
}

std::string bzip2(std::string_view bytes) {
  std::string out(bytes.size() + bytes.size() / 100 + 600, '\0');
  auto size = static_cast<unsigned int>(out.size());
  std::string input(bytes);
  EXPECT_EQ(BZ2_bzBuffToBuffCompress(out.data(), &size, input.data(), static_cast<unsigned int>(input.size()), 9, 0, 0), BZ_OK);
  out.resize(size);
  return out;
}

Result<std::string> unwrap_all(std::string_view bytes, std::size_t piece_bytes) {
  MemorySource memory(bytes, piece_bytes);
  auto source = TRY_PLAIN(unwrap(memory));
  std::string out;
  for (;;) {
    auto piece = TRY_PLAIN(source->next());
    if (piece.empty()) return out;
    out += piece;
  }
}

TEST(wrappings, files_one_behind_the_other_are_unwrapped_in_any_pieces) {
  std::string text;
  for (unsigned int i = 0; i < 700000; ++i) text += static_cast<char>('a' + i * i % 23);
  for (std::size_t piece : {1U, 100U, 1U << 18U}) {
    EXPECT_EQ(*unwrap_all(xz(text), piece), text);
    EXPECT_EQ(*unwrap_all(xz(text) + std::string(8, '\0') + xz("") + xz("tail"), piece), text + "tail");
    EXPECT_EQ(*unwrap_all(bzip2(text), piece), text);
    EXPECT_EQ(*unwrap_all(bzip2(text) + bzip2("") + bzip2("tail"), piece), text + "tail");
    EXPECT_EQ(*unwrap_all(xz(""), piece), "");
    EXPECT_EQ(*unwrap_all(bzip2(""), piece), "");
    for (const std::string& other : {text, gzip("x"), std::string(), std::string("BZhistory of a text"), std::string("BZh9")}) EXPECT_EQ(*unwrap_all(other, piece), other);
  }
}

TEST(wrappings, damage_is_an_error_and_not_a_shorter_text) {
  std::string text;
  for (unsigned int i = 0; i < 100000; ++i) text += static_cast<char>('a' + i * i % 23);
  for (auto make : {xz, bzip2}) {
    auto good = make(text);
    for (auto size : {good.size() - 1, good.size() / 2, std::size_t{12}}) EXPECT_EQ(unwrap_all(good.substr(0, size), 100).error().kind(), ErrorKind::corrupt) << size;
    auto bad = good;
    bad[bad.size() / 2] = static_cast<char>(bad[bad.size() / 2] ^ 0x55);
    EXPECT_EQ(unwrap_all(bad, 100).error().kind(), ErrorKind::corrupt);
    EXPECT_FALSE(unwrap_all(good + "garbage", 100).ok());
  }
}

TEST(wrappings, an_xz_file_that_wants_too_much_memory_is_refused) {
  lzma_options_lzma options;
  ASSERT_EQ(lzma_lzma_preset(&options, 0), 0);
  options.dict_size = 1U << 30U;
  options.mode = LZMA_MODE_FAST;
  options.mf = LZMA_MF_HC3;
  // The header alone says it; making such a file would take the memory that the bound is about.
  std::string good = xz("x");
  std::string header = good.substr(0, 12);
  lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, nullptr}};
  lzma_block block{};
  block.version = 0;
  block.check = LZMA_CHECK_CRC64;
  block.filters = filters;
  block.compressed_size = LZMA_VLI_UNKNOWN;
  block.uncompressed_size = LZMA_VLI_UNKNOWN;
  ASSERT_EQ(lzma_block_header_size(&block), LZMA_OK);
  std::string encoded(block.header_size, '\0');
  ASSERT_EQ(lzma_block_header_encode(&block, reinterpret_cast<std::uint8_t*>(encoded.data())), LZMA_OK);
  auto refused = unwrap_all(header + encoded + std::string(100, '\0'), 100);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::unsupported);
  EXPECT_THAT(refused.error().text(), HasSubstr("128 MiB"));
}

TEST(manifest, texts_are_read_back_as_written) {
  Manifest manifest;
  manifest.media_type = media_type::oci_manifest;
  manifest.config = {std::string(media_type::oci_config), sha256_of("c"), 1, {}, {}, {}};
  manifest.layers.push_back({layer_media_type(Compression::gzip), sha256_of("l"), 2, {{"k", "v"}}, {}, {}});
  manifest.annotations["a"] = "b";
  auto read = parse_manifest(write_manifest(manifest));
  ASSERT_TRUE(read.ok()) << read.error().text();
  EXPECT_EQ(write_manifest(*read), write_manifest(manifest));
  ImageConfig config;
  config.architecture = "amd64";
  config.created = 1'700'000'000'000'000'000;
  config.diff_ids = {sha256_of("l")};
  config.config.env = {"A=b"};
  config.config.exposed_ports = {"80/tcp"};
  config.config.healthcheck = Healthcheck{{"CMD", "x"}, 1, 2, 3, 4};
  config.on_build = {"RUN x"};
  config.history.push_back({config.created, "by", "author", "comment", true});
  auto again = parse_image_config(write_image_config(config));
  ASSERT_TRUE(again.ok()) << again.error().text();
  EXPECT_EQ(write_image_config(*again), write_image_config(config));
}

TEST(manifest, broken_documents_name_the_field) {
  auto digest = sha256_of("x").text();
  auto error = [](const auto& result) { return result.ok() ? std::string("accepted") : result.error().text(); };
  EXPECT_THAT(error(parse_manifest("{")), HasSubstr("line 1"));
  EXPECT_THAT(error(parse_manifest(R"({"schemaVersion":1})")), HasSubstr("schema 1"));
  EXPECT_THAT(error(parse_manifest(R"({"schemaVersion":2})")), HasSubstr("config is missing"));
  EXPECT_THAT(error(parse_manifest(R"({"layers":[],"manifests":[]})")), HasSubstr("both"));
  EXPECT_THAT(error(parse_manifest(concat(R"({"config":{"digest":")", digest, R"("},"layers":[{"digest":"sha256:../../etc"}]})"))), HasSubstr("manifest.layers[0].digest"));
  EXPECT_THAT(error(parse_manifest(concat(R"({"config":{"digest":")", digest, R"(","size":-1},"layers":[]})"))), HasSubstr("config.size"));
  EXPECT_THAT(error(parse_index(R"({"manifests":{}})")), HasSubstr("manifests"));
  EXPECT_THAT(error(parse_index(R"({"manifests":[],"layers":[]})")), HasSubstr("layers"));
  EXPECT_THAT(error(parse_image_config(R"({"config":{"Env":[1]}})")), HasSubstr("config.Env[0]"));
  EXPECT_THAT(error(parse_image_config(R"({"rootfs":{"diff_ids":["nope"]}})")), HasSubstr("diff_ids"));
  EXPECT_THAT(error(parse_image_config(R"({"config":{"Cmd":["a\u0000b"]}})")), HasSubstr("NUL"));
  EXPECT_THAT(error(parse_image_config(R"({"created":"yesterday"})")), HasSubstr("created"));
  EXPECT_THAT(error(parse_archive_manifest(R"([{"Layers":[]}])")), HasSubstr("Config is missing"));
  EXPECT_THAT(error(parse_archive_manifest(R"({})")), HasSubstr("want an array"));
}

TEST(platform, variants_match_as_on_real_machines) {
  auto matches = [](const char* offered, const char* wanted) { return platform_matches(*parse_platform(offered), *parse_platform(wanted)); };
  EXPECT_TRUE(matches("linux/arm64/v8", "linux/arm64"));
  EXPECT_TRUE(matches("linux/amd64", "x86_64"));
  EXPECT_TRUE(matches("linux/arm/v6", "linux/arm/v7"));
  EXPECT_FALSE(matches("linux/arm/v7", "linux/arm/v6"));
  EXPECT_FALSE(matches("linux/arm64", "linux/amd64"));
  EXPECT_FALSE(matches("windows/amd64", "linux/amd64"));
  for (auto bad : {"", "/", "linux/", "linux", "a/b/c/d", "LINUX/amd64", "linux/am d64"}) EXPECT_FALSE(parse_platform(bad).ok()) << bad;
}

TEST(changes, lines_set_what_a_dockerfile_would) {
  ImageConfig image;
  for (auto line : {R"(ENV A=b C="d e" F='$A')", "ENV G $A/${C}/${X:-def}${A:+yes}", "env A=2", R"(CMD ["x", "y z"])", "ENTRYPOINT exec top -b", "EXPOSE 80 53/udp 9000-9002", R"(LABEL l="1 2" m=3)",
                    "USER user:group", R"(VOLUME ["/a b", "/c"])", "VOLUME /d /c", "WORKDIR /srv", "WORKDIR ../x/./y", "STOPSIGNAL SIGQUIT", "ONBUILD RUN x",
                    "HEALTHCHECK --interval=5s --retries=2 CMD curl -f http://localhost"}) {
    auto status = apply_change(line, image);
    ASSERT_TRUE(status.ok()) << line << ": " << status.error().text();
  }
  const auto& config = image.config;
  EXPECT_THAT(config.env, ElementsAre("A=2", "C=d e", "F=$A", "G=b/d e/defyes"));
  EXPECT_THAT(config.cmd, ElementsAre("x", "y z"));
  EXPECT_THAT(config.entrypoint, ElementsAre("/bin/sh", "-c", "exec top -b"));
  EXPECT_THAT(config.exposed_ports, ElementsAre("80/tcp", "53/udp", "9000/tcp", "9001/tcp", "9002/tcp"));
  EXPECT_EQ(config.labels.at("l"), "1 2");
  EXPECT_EQ(config.user, "user:group");
  EXPECT_THAT(config.volumes, ElementsAre("/a b", "/c", "/d"));
  EXPECT_EQ(config.working_dir, "/x/y");
  EXPECT_EQ(config.stop_signal, "SIGQUIT");
  EXPECT_THAT(image.on_build, ElementsAre("RUN x"));
  EXPECT_THAT(config.healthcheck->test, ElementsAre("CMD-SHELL", "curl -f http://localhost"));
  EXPECT_EQ(config.healthcheck->interval_ns, 5'000'000'000);
}

TEST(changes, broken_lines_are_refused) {
  ImageConfig image;
  for (auto line : {"", "RUN x", "FROM y", "CMD", "ENV A", "ENV =b", R"(ENV A="open)", "EXPOSE 0", "EXPOSE 70000", "EXPOSE 9-8", "EXPOSE 1/icmp", "USER", "USER a b", "STOPSIGNAL a b", R"(VOLUME [""])",
                    "HEALTHCHECK RUN x", "HEALTHCHECK --interval=1us CMD x", "HEALTHCHECK --what=1 CMD x", "HEALTHCHECK CMD", "ENV A=${B!}", "CMD a\nRUN b", "LABEL a=b c"})
    EXPECT_FALSE(apply_change(line, image).ok()) << line;
  EXPECT_THAT(apply_change("RUN x", image).error().text(), HasSubstr("RUN is not a valid change command"));
}

TEST(layer_names, are_cleaned_and_never_lead_out) {
  EXPECT_THAT(*clean_components("./a//b/./c/"), ElementsAre("a", "b", "c"));
  EXPECT_THAT(*clean_components("/etc/passwd"), ElementsAre("etc", "passwd"));
  EXPECT_THAT(*clean_components("a/../b"), ElementsAre("b"));
  EXPECT_TRUE(clean_components("./")->empty());
  for (auto bad : {"..", "../x", "a/../../x", "/../x", "./.."}) EXPECT_FALSE(clean_components(bad).ok()) << bad;
  EXPECT_FALSE(clean_components(std::string(256, 'a')).ok());
  std::string deep;
  for (int i = 0; i < 300; ++i) deep += "d/";
  EXPECT_FALSE(clean_components(deep).ok());
}

}  // namespace
}  // namespace caisson::image
