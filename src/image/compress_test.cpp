// Layers on their way out: pieces around their borders, the same bytes whoever makes them, and images whose layers leave in another form.
#include "image/compress.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <random>

#include "image/form_records.hpp"
#include "image/test_support.hpp"

namespace caisson::image {
namespace {

using testing::HasSubstr;
using namespace testing_support;

/// Half of it compresses well, half of it not at all.
std::string bytes_of(std::size_t size) {
  std::mt19937_64 random(size);
  std::string out;
  out.reserve(size + 16);
  while (out.size() < size) {
    const auto word = random();
    if ((out.size() >> 12) % 2 == 0) out.append(reinterpret_cast<const char*>(&word), sizeof word);
    else out += "the same again, ";
  }
  out.resize(size);
  return out;
}

std::string compressed(std::string_view bytes, const CompressionJob& job, std::size_t cut = 1 << 18) {
  std::string out;
  MemorySource source(bytes, cut);
  auto status = write_compressed(source, job, [&](std::string_view piece) -> Status {
    out += piece;
    return {};
  });
  EXPECT_TRUE(status.ok()) << status.error().text();
  return out;
}

/// zlib, member after member.
std::string decoded_by_zlib(std::string_view blob) {
  std::string out;
  while (!blob.empty()) {
    z_stream stream{};
    EXPECT_EQ(inflateInit2(&stream, 15 + 16), Z_OK);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(blob.data()));
    stream.avail_in = static_cast<uInt>(blob.size());
    std::string piece(1 << 16, '\0');
    int state = Z_OK;
    while (state == Z_OK) {
      stream.next_out = reinterpret_cast<Bytef*>(piece.data());
      stream.avail_out = static_cast<uInt>(piece.size());
      state = inflate(&stream, Z_NO_FLUSH);
      out.append(piece.data(), piece.size() - stream.avail_out);
    }
    EXPECT_EQ(state, Z_STREAM_END);
    blob.remove_prefix(blob.size() - stream.avail_in);
    inflateEnd(&stream);
    if (state != Z_STREAM_END) break;
  }
  return out;
}

TEST(compression, comes_back_at_every_border_of_a_piece_and_is_the_same_from_any_number_of_threads) {
  for (const auto form : {LayerForm::gzip, LayerForm::zstd}) {
    const auto piece = piece_bytes_of(form);
    for (const std::size_t size : {std::size_t{0}, std::size_t{1}, piece - 1, piece, piece + 1, 2 * piece, 3 * piece + 7}) {
      const auto bytes = bytes_of(size);
      const auto alone = compressed(bytes, {form, 3, 1});
      EXPECT_TRUE(inflated(alone) == bytes) << to_string(form) << " " << size;
      if (form == LayerForm::gzip) {
        EXPECT_TRUE(decoded_by_zlib(alone) == bytes) << size;
      }
      EXPECT_FALSE(alone.empty());
      EXPECT_TRUE(compressed(bytes, {form, 3, 4}) == alone) << to_string(form) << " by four threads, " << size;
      EXPECT_TRUE(compressed(bytes, {form, 3, 2}, 4097) == alone) << to_string(form) << " cut otherwise, " << size;
    }
  }
}

TEST(compression, has_no_time_and_no_system_in_it) {
  const auto two = compressed(bytes_of(piece_bytes_of(LayerForm::gzip) + 1), {LayerForm::gzip, 5, 1});
  // RFC 1952: magic, deflate, no flags, no time, no extra flags, unknown system.
  EXPECT_EQ(two.substr(0, 10), std::string("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", 10));
  const auto level = compressed("x", {LayerForm::gzip, 5, 1});
  EXPECT_EQ(two.size() - level.size(), two.rfind(level.substr(0, 10))) << "the byte behind the piece is a member of its own";
}

TEST(compression, gives_one_result_at_every_level) {
  const auto bytes = bytes_of(3 << 19);
  for (const auto& [form, most] : {std::pair(LayerForm::gzip, 12), std::pair(LayerForm::zstd, 9)})
    for (int level = 1; level <= most; ++level) {
      const auto alone = compressed(bytes, {form, level, 1});
      EXPECT_TRUE(compressed(bytes, {form, level, 3}) == alone) << to_string(form) << " " << level;
      EXPECT_TRUE(inflated(alone) == bytes);
      EXPECT_LT(alone.size(), bytes.size());
    }
}

TEST(compression, leaves_plain_what_is_to_be_plain) { EXPECT_EQ(compressed("a tar", {LayerForm::uncompressed, 0, 2}, 2), "a tar"); }

TEST(compression, ends_with_the_error_of_whoever_reads_or_writes) {
  class Broken final : public ByteSource {
   public:
    Result<std::string_view> next() override {
      if (++calls_ > 40) return Error(ErrorKind::corrupt, "the tar is broken");
      return std::string_view(bytes_);
    }

   private:
    std::string bytes_ = bytes_of(1 << 18);
    int calls_ = 0;
  };
  for (const std::size_t threads : {std::size_t{1}, std::size_t{4}}) {
    Broken broken;
    auto status = write_compressed(broken, {LayerForm::gzip, 1, threads}, [](std::string_view) -> Status { return {}; });
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().text(), "the tar is broken");
    const auto bytes = bytes_of(12 << 20);
    MemorySource source(bytes);
    status = write_compressed(source, {LayerForm::gzip, 1, threads}, [](std::string_view) -> Status { return Error(ErrorKind::io, "the disk is full"); });
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().text(), "the disk is full");
  }
}

std::string refusal(const CompressionWish& wish) {
  auto plan = plan_form(wish, LayerForm::gzip);
  return plan.ok() ? concat(to_string(plan->form), " ", plan->level) : plan.error().text();
}

TEST(forms, are_known_by_name_and_have_their_levels) {
  EXPECT_EQ(refusal({}), "gzip 4");
  EXPECT_EQ(refusal({"", 9, false}), "gzip 9");
  EXPECT_EQ(refusal({"zstd", {}, true}), "zstd 3");
  EXPECT_EQ(refusal({"zstd:chunked", 22, true}), "zstd:chunked 22");
  EXPECT_EQ(refusal({"uncompressed", {}, true}), "uncompressed 0");
  EXPECT_THAT(refusal({"lz4", {}, true}), HasSubstr("\"lz4\": gzip, zstd, zstd:chunked and uncompressed"));
  EXPECT_THAT(refusal({"gzip", 13, true}), HasSubstr("level 13 is out of range: gzip has the levels 1 to 12"));
  EXPECT_THAT(refusal({"zstd", 0, true}), HasSubstr("level 0 is out of range: zstd has the levels 1 to 22"));
  EXPECT_THAT(refusal({"uncompressed", 1, true}), HasSubstr("does not go with"));
}

class LayersThatLeave : public testing::Test {
 protected:
  void SetUp() override {
    if (auto reason = why_not(); !reason.empty()) GTEST_SKIP() << reason;
    fixture_ = std::make_unique<Fixture>();
  }
  std::string saved(const CompressionWish& wish) {
    auto archive = fixture_->save({"test:1"}, "", wish);
    EXPECT_TRUE(archive.ok()) << archive.error().text();
    EXPECT_EQ(fixture_->leftovers(), 0U);
    return archive.ok() ? *archive : "";
  }
  std::unique_ptr<Fixture> fixture_;
};

std::string some_tar() { return TarMaker().dir("srv").file("srv/data", bytes_of(3 << 20)).done(); }

TEST_F(LayersThatLeave, an_archive_in_any_form_is_the_same_image) {
  auto image = fixture_->import(some_tar());
  ASSERT_TRUE(image.ok()) << image.error().text();
  const auto plain = saved({});
  for (const auto& [format, type] : {std::pair("gzip", "layer.v1.tar+gzip"), std::pair("zstd", "layer.v1.tar+zstd"), std::pair("zstd:chunked", "zstd-chunked.manifest-checksum")}) {
    const auto archive = saved({format, {}, true});
    EXPECT_THAT(archive.size(), testing::Lt(plain.size())) << format;
    EXPECT_NE(archive.find(type), std::string::npos) << format;
    EXPECT_TRUE(saved({format, {}, true}) == archive) << format;
    Fixture other;
    auto loaded = other.load(archive);
    ASSERT_TRUE(loaded.ok()) << format << ": " << loaded.error().text();
    EXPECT_EQ(loaded->at(0).id, image->id);
    EXPECT_EQ(loaded->at(0).repo_tags, std::vector<std::string>{"test:1"});
    // What lies compressed goes on so, unless all is to be made anew.
    EXPECT_TRUE(*other.save({"test:1"}, "", {"uncompressed", {}, false}) == archive) << format;
    EXPECT_TRUE(*other.save({"test:1"}, "", {"uncompressed", {}, true}) == plain) << format;
  }
  EXPECT_TRUE(saved({"uncompressed", {}, true}) == plain) << "what is in the form already stays as it is";
}

TEST_F(LayersThatLeave, a_wrong_wish_is_refused_before_anything_is_made) {
  ASSERT_TRUE(fixture_->import(some_tar()).ok());
  for (const auto& wish : {CompressionWish{"lz4", {}, true}, CompressionWish{"gzip", 99, true}, CompressionWish{"", 3, false}}) {
    auto archive = fixture_->save({"test:1"}, "", wish);
    ASSERT_FALSE(archive.ok());
    EXPECT_EQ(archive.error().kind(), ErrorKind::invalid);
  }
}

TEST_F(LayersThatLeave, a_blob_that_is_not_the_layer_any_more_does_not_leave) {
  auto image = fixture_->import(some_tar());
  ASSERT_TRUE(image.ok()) << image.error().text();
  const auto blob = concat(fixture_->root(), "/content/blobs/sha256/", image->diff_ids[0].hex());
  ASSERT_TRUE(std::filesystem::exists(blob));
  {
    auto file = linux::open(blob, O_WRONLY);
    ASSERT_TRUE(file.ok());
    ASSERT_EQ(::pwrite(file->get(), "X", 1, 5000), 1);
  }
  auto archive = fixture_->save({"test:1"}, "", {"gzip", {}, true});
  ASSERT_FALSE(archive.ok());
  EXPECT_EQ(archive.error().kind(), ErrorKind::corrupt);
  EXPECT_THAT(archive.error().text(), HasSubstr(concat("blob ", image->diff_ids[0].text(), " holds sha256:")));
  EXPECT_EQ(fixture_->leftovers(), 0U);
}

TEST_F(LayersThatLeave, what_was_made_is_remembered_as_long_as_the_layer_is_here) {
  auto image = fixture_->import(some_tar());
  ASSERT_TRUE(image.ok()) << image.error().text();
  FormRecords records(fixture_->state());
  const auto& layer = image->diff_ids[0];
  const FormPlan gzip{LayerForm::gzip, 5, false};
  const FormRecord made{sha256_of("a"), 17, {{"k", "v"}}, {}};
  ASSERT_TRUE(records.note(layer, gzip, made, "").ok());
  ASSERT_TRUE(records.note(layer, gzip, made, "r.example/one").ok());
  ASSERT_TRUE(records.note(layer, gzip, made, "r.example/two").ok());
  ASSERT_TRUE(records.note(layer, gzip, made, "r.example/one").ok());
  auto found = records.find(layer, gzip);
  ASSERT_TRUE(found.ok() && *found);
  EXPECT_EQ((*found)->blob, made.blob);
  EXPECT_EQ((*found)->blob_bytes, 17U);
  EXPECT_EQ((*found)->annotations, made.annotations);
  EXPECT_EQ((*found)->repositories, (std::vector<std::string>{"r.example/one", "r.example/two"}));
  EXPECT_FALSE(*records.find(layer, {LayerForm::gzip, 6, false})) << "of another level nothing is known";
  // A new library makes other bytes, which nobody has yet.
  ASSERT_TRUE(records.note(layer, gzip, {sha256_of("b"), 16, {}, {}}, "").ok());
  EXPECT_EQ((*records.find(layer, gzip))->blob, sha256_of("b"));
  EXPECT_TRUE((*records.find(layer, gzip))->repositories.empty());
  ASSERT_TRUE(records.note(sha256_of("a layer that nobody has"), gzip, made, "").ok());
  ASSERT_TRUE((*fixture_)->recover().ok());
  EXPECT_FALSE(*records.find(sha256_of("a layer that nobody has"), gzip));
  EXPECT_TRUE(*records.find(layer, gzip));
  ASSERT_TRUE((*fixture_)->remove("test:1", false, {}).ok());
  EXPECT_FALSE(*records.find(layer, gzip));
}

}  // namespace
}  // namespace caisson::image
