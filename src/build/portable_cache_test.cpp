// Tests of what a cache says about itself, and of how builds are remembered.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.hpp"
#include "build/history.hpp"
#include "build/portable_cache.hpp"
#include "engine/fake_parts.hpp"
#include "linux/file.hpp"
#include "linux/testing.hpp"
#include "linux/tree.hpp"
#include "state/store.hpp"

namespace caisson::build {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::string key_a(64, 'a');
const std::string key_b(64, 'b');

TEST(cache_records, survive_being_written_in_any_order) {
  CacheRecord copy{key_b, "COPY \"x\" /", sha256_of("layer")};
  CacheRecord empty{key_a, "RUN true", std::nullopt};
  auto text = write_cache_records({copy, empty});
  EXPECT_EQ(text, write_cache_records({empty, copy}));
  auto read = parse_cache_records(text);
  ASSERT_TRUE(read.ok()) << read.error().text();
  ASSERT_EQ(read->size(), 2U);
  EXPECT_EQ((*read)[0].key, key_a);
  EXPECT_EQ((*read)[0].layer, std::nullopt);
  EXPECT_EQ((*read)[1].text, "COPY \"x\" /");
  EXPECT_EQ((*read)[1].layer, sha256_of("layer"));
}

TEST(cache_records, that_are_wrong_are_refused_with_the_field) {
  auto refusal = [](const std::string& text) {
    auto read = parse_cache_records(text);
    return read.ok() ? std::string("taken") : read.error().text();
  };
  EXPECT_THAT(refusal("x"), HasSubstr("build cache"));
  EXPECT_THAT(refusal(R"({"steps":7})"), HasSubstr("steps"));
  EXPECT_THAT(refusal(R"({"steps":[{"key":"../x"}]})"), HasSubstr("\"../x\" is no digest of a step"));
  EXPECT_THAT(refusal(concat(R"({"steps":[{"key":")", key_a, R"(","layer":"sha256:1"}]})")), HasSubstr("layer"));
  EXPECT_THAT(refusal(concat(R"({"steps":[{"key":")", key_a, R"("},{"key":")", key_a, R"("}]})")), HasSubstr("is there twice"));
}

/// A store whose image has the layers and annotations that a test gave it.
class OfferingImages final : public engine::fake::FakeImages {
 public:
  using FakeImages::FakeImages;
  image::LayerList offered;
  std::vector<std::size_t> brought;
  bool is_here = true;
  Result<image::LayerList> list_layers(const image::LayersRequest& request, Cancel) override {
    if (!request.is_remote && !is_here) return Error(ErrorKind::not_found, "No such image");
    auto list = offered;
    list.is_remote = request.is_remote;
    return list;
  }
  Result<image::MadeLayer> bring_layer(const image::LayerList& list, std::size_t index, const image::RegistryCredentials&, const image::ProgressSink&, Cancel) override {
    brought.push_back(index);
    image::MadeLayer layer;
    layer.diff_id = list.layers.at(index).diff_id;
    return layer;
  }
};

class imported_cache : public testing::Test {
 protected:
  const linux::TemporaryFolder folder_;
  OfferingImages images_{folder_.path()};
  ImportedCache cache_{images_};
  void offer(std::vector<CacheRecord> records, std::vector<Digest> layers) {
    images_.offered.annotations[std::string(cache_annotation)] = write_cache_records(std::move(records));
    for (auto& digest : layers) images_.offered.layers.push_back({digest, digest, 1, "application/vnd.oci.image.layer.v1.tar+gzip"});
  }
};

TEST_F(imported_cache, brings_only_the_layer_that_is_asked_for) {
  offer({{key_a, "RUN a", sha256_of("two")}, {key_b, "RUN b", std::nullopt}}, {sha256_of("one"), sha256_of("two")});
  auto added = cache_.add({"x", false, false}, {}, "linux/amd64", {});
  ASSERT_TRUE(added.ok()) << added.error().text();
  EXPECT_EQ(*added, 2U);
  EXPECT_THAT(images_.brought, IsEmpty());
  auto brought = cache_.bring(key_a, {});
  ASSERT_TRUE(brought.ok() && *brought);
  EXPECT_EQ((*brought)->diff_id, sha256_of("two"));
  EXPECT_THAT(images_.brought, ElementsAre(1U));
  auto empty = cache_.bring(key_b, {});
  ASSERT_TRUE(empty.ok() && *empty);
  EXPECT_TRUE((*empty)->is_empty);
  auto other = cache_.bring(std::string(64, 'c'), {});
  ASSERT_TRUE(other.ok());
  EXPECT_FALSE(*other);
}

TEST_F(imported_cache, looks_in_the_registry_for_what_is_not_here_and_was_not_said_to_be) {
  offer({{key_b, "RUN b", std::nullopt}}, {});
  images_.is_here = false;
  EXPECT_EQ(cache_.add({"x", true, false}, {}, "linux/amd64", {}).error().kind(), ErrorKind::not_found);
  auto added = cache_.add({"x", false, false}, {}, "linux/amd64", {});
  ASSERT_TRUE(added.ok());
  EXPECT_EQ(*added, 1U);
}

TEST_F(imported_cache, an_image_that_tells_of_a_layer_it_has_not_is_refused) {
  offer({{key_a, "RUN a", sha256_of("two")}}, {sha256_of("one")});
  auto added = cache_.add({"x", false, false}, {}, "linux/amd64", {});
  ASSERT_FALSE(added.ok());
  EXPECT_EQ(added.error().kind(), ErrorKind::invalid);
  images_.offered.annotations.clear();
  EXPECT_EQ(*cache_.add({"x", false, false}, {}, "linux/amd64", {}), 0U) << "an image without a cache offers nothing";
}

class history : public testing::Test {
 protected:
  const linux::TemporaryFolder folder_;
  std::unique_ptr<state::Store> store_ = std::move(state::open_sqlite_store({.path = folder_ / "state.db"})->store);
  History history_{*store_, logs()};
  std::string logs() { return folder_ / "logs"; }
  void SetUp() override {
    ASSERT_TRUE(linux::mkdir(logs(), 0700).ok());
    ASSERT_TRUE(history_.open().ok());
  }
  std::string built(const std::string& name, bool is_good = true) {
    BuildRecord wanted;
    wanted.name = name;
    auto recording = history_.begin(wanted);
    EXPECT_TRUE(recording.ok()) << recording.error().text();
    Event step;
    step.text = "FROM x";
    step.step = step.steps = 1;
    (*recording)->take(step);
    step.kind = EventKind::cached;
    (*recording)->take(step);
    BuildOutcome outcome;
    outcome.image.id = sha256_of("image");
    (*recording)->finish(is_good ? Result<BuildOutcome>(outcome) : Result<BuildOutcome>(Error(ErrorKind::invalid, "no good")), false);
    return history_.records().front().id;
  }
  std::string log(const std::string& name) {
    auto file = history_.open_log(name);
    return file.ok() ? linux::read_all(file->get()).value_or("") : file.error().text();
  }
};

TEST_F(history, tells_how_builds_ended_and_what_they_said) {
  auto good = built("good");
  auto bad = built("bad", false);
  auto records = history_.records();
  ASSERT_EQ(records.size(), 2U);
  EXPECT_EQ(records[0].id, bad) << "newest first";
  EXPECT_EQ(records[0].status, BuildStatus::failed);
  EXPECT_EQ(records[0].error, "no good");
  EXPECT_EQ(records[1].status, BuildStatus::completed);
  EXPECT_EQ(records[1].image, sha256_of("image").text());
  EXPECT_EQ(records[1].steps, 1U);
  EXPECT_EQ(records[1].cached, 1U);
  EXPECT_EQ(log("^1"), "Step 1/1 : FROM x\n ---> Using cache\n");
  EXPECT_EQ(log(bad.substr(0, 10)), "Step 1/1 : FROM x\n ---> Using cache\nno good\n");
  EXPECT_EQ(history_.find("^2").error().kind(), ErrorKind::not_found);
  EXPECT_EQ(history_.find("../x").error().kind(), ErrorKind::not_found);
  EXPECT_TRUE(history_.remove(good).ok());
  EXPECT_EQ(linux::list_dir(logs())->size(), 1U) << "its output goes with it";
}

TEST_F(history, what_a_dead_daemon_was_building_has_failed) {
  BuildRecord wanted;
  wanted.name = "cut";
  auto recording = history_.begin(wanted);
  ASSERT_TRUE(recording.ok());
  auto id = history_.records().front().id;
  EXPECT_EQ(history_.remove(id).error().kind(), ErrorKind::conflict);
  ASSERT_TRUE(linux::write_file(logs() + "/stray", "x").ok());
  History next(*store_, logs());
  ASSERT_TRUE(next.open().ok());
  auto record = next.find(id);
  ASSERT_TRUE(record.ok());
  EXPECT_EQ(record->status, BuildStatus::failed);
  EXPECT_THAT(record->error, HasSubstr("the daemon ended"));
  EXPECT_FALSE(*linux::exists(logs() + "/stray"));
}

TEST_F(history, endless_output_ends_and_what_was_lost_is_counted) {
  BuildRecord wanted;
  auto recording = history_.begin(wanted);
  ASSERT_TRUE(recording.ok());
  Event output;
  output.kind = EventKind::output;
  output.text = std::string(1U << 20U, 'x');
  for (int i = 0; i < 10; ++i) (*recording)->take(output);
  (*recording)->finish(BuildOutcome{}, false);
  auto record = history_.records().front();
  EXPECT_EQ(record.log_bytes, 8U << 20U);
  EXPECT_EQ(record.lost_bytes, 2U << 20U);
}

TEST_F(history, the_oldest_make_room) {
  auto first = built("first");
  for (int i = 0; i < 100; ++i) built("more");
  EXPECT_EQ(history_.records().size(), 100U);
  EXPECT_EQ(history_.find(first).error().kind(), ErrorKind::not_found);
}

}  // namespace
}  // namespace caisson::build
