// Locations, lists of what to synchronise, layouts and copies between them; registries are tests/e2e/test_copy.py's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"
#include "transport/attach.hpp"
#include "transport/copier.hpp"
#include "transport/layout_place.hpp"
#include "transport/location.hpp"
#include "transport/sync.hpp"

namespace caisson::transport {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::string some_digest = "sha256:" + std::string(64, 'a');

TEST(Location, words_mean_what_they_mean_to_skopeo) {
  auto plain = *parse_location("localhost:5000/a/b:1");
  EXPECT_EQ(plain.kind, Kind::registry);
  EXPECT_EQ(plain.reference.canonical(), "localhost:5000/a/b:1");
  EXPECT_EQ(parse_location("docker://alpine")->reference.canonical(), "docker.io/library/alpine:latest");
  auto by_digest = *parse_location("alpine:3@" + some_digest);
  EXPECT_EQ(name_in(by_digest), some_digest);

  auto layout = *parse_location("oci:/srv/a:b/c:3.20");
  EXPECT_EQ(layout.kind, Kind::layout);
  EXPECT_EQ(layout.path, "/srv/a:b/c");
  EXPECT_EQ(name_in(layout), "3.20");
  EXPECT_EQ(parse_location("oci:/srv/a:b/c")->path, "/srv/a:b/c");
  EXPECT_EQ(name_in(*parse_location("oci:x@" + some_digest)), some_digest);

  auto archive = *parse_location("docker-archive:a.tar:localhost:5000/x:2");
  EXPECT_EQ(archive.kind, Kind::docker_archive);
  EXPECT_EQ(archive.path, "a.tar");
  EXPECT_EQ(archive.reference.canonical(), "localhost:5000/x:2");
  EXPECT_EQ(parse_location("oci-archive:a.tar:v1")->kind, Kind::oci_archive);
  EXPECT_EQ(parse_location("local:web")->reference.familiar(), "web:latest");
}

TEST(Location, what_names_nothing_is_refused) {
  for (const char* text : {"", "oci:", "oci-archive::x", "docker-archive:", "docker-archive:a:-", "local:", "Alpine", "docker://"}) EXPECT_FALSE(parse_location(text).ok()) << text;
}

TEST(SyncList, lines_yaml_and_toml_say_the_same) {
  auto lines = parse_sync_list("# ours\ndocker.io/library/alpine:3.*\nlocalhost:5000/app@" + some_digest + " # pinned\n\n", SyncFormat::lines);
  ASSERT_TRUE(lines.ok()) << lines.error().text();
  ASSERT_EQ(lines->size(), 2U);
  EXPECT_EQ((*lines)[0].from, "docker.io/library/alpine");
  EXPECT_THAT((*lines)[0].tags, ElementsAre("3.*"));
  EXPECT_EQ((*lines)[1].from, "localhost:5000/app");
  EXPECT_EQ((*lines)[1].digest, some_digest);

  auto yaml = parse_sync_list("images:\n  - from: docker.io/library/alpine\n    tags: [\"3.*\", edge]\n    except: [\"*-rc*\"]\n    to: base/alpine\n  - localhost:5000/app:1\n", SyncFormat::yaml);
  auto toml = parse_sync_list("images = [{from = \"docker.io/library/alpine\", tags = [\"3.*\", \"edge\"], except = [\"*-rc*\"], to = \"base/alpine\"}, \"localhost:5000/app:1\"]", SyncFormat::toml);
  ASSERT_TRUE(yaml.ok()) << yaml.error().text();
  ASSERT_TRUE(toml.ok()) << toml.error().text();
  for (const auto* list : {&*yaml, &*toml}) {
    ASSERT_EQ(list->size(), 2U);
    EXPECT_THAT(list->at(0).tags, ElementsAre("3.*", "edge"));
    EXPECT_THAT(list->at(0).except, ElementsAre("*-rc*"));
    EXPECT_EQ(list->at(0).to, "base/alpine");
    EXPECT_EQ(list->at(1).from, "localhost:5000/app");
    EXPECT_THAT(list->at(1).tags, ElementsAre("1"));
  }
}

TEST(SyncList, mistakes_are_named) {
  auto error = [](std::string_view text, SyncFormat format) {
    auto list = parse_sync_list(text, format);
    return list.ok() ? std::string("accepted") : list.error().text();
  };
  EXPECT_THAT(error("alpine\n:x\n", SyncFormat::lines), HasSubstr("line 2"));
  EXPECT_THAT(error("images:\n  - from: a\n    tag: [b]\n", SyncFormat::yaml), HasSubstr("images[0].tag: is not known"));
  EXPECT_THAT(error("images:\n  - tags: [b]\n", SyncFormat::yaml), HasSubstr("from is missing"));
  EXPECT_THAT(error("images:\n  - from: a:1\n    tags: [b]\n", SyncFormat::yaml), HasSubstr("tags beside it"));
  EXPECT_THAT(error("[other]\n", SyncFormat::toml), HasSubstr("other: is not known"));
  EXPECT_THAT(error("a@sha256:12\n", SyncFormat::lines), HasSubstr("line 1"));
}

TEST(SyncList, patterns_choose_tags_and_plain_names_need_not_be_listed) {
  SyncEntry entry;
  entry.tags = {"3.*", "edge"};
  entry.except = {"*-rc?"};
  EXPECT_TRUE(needs_listing(entry));
  EXPECT_THAT(*select_tags(entry, {"2.1", "3.1", "3.2-rc1", "latest"}), ElementsAre("3.1", "edge"));
  entry.tags = {"edge"};
  EXPECT_FALSE(needs_listing(entry));
  EXPECT_THAT(*select_tags({}, {"a", "b"}), ElementsAre("a", "b"));
  entry.tags = {"[a"};
  EXPECT_FALSE(select_tags(entry, {"a"}).ok());
}

TEST(SyncTarget, is_a_registry_with_a_path_or_a_folder) {
  auto registry = *parse_sync_target("localhost:5000/mirror/");
  EXPECT_EQ(*target_of(registry, "library/alpine"), "localhost:5000/mirror/library/alpine");
  EXPECT_EQ(*target_of(*parse_sync_target("localhost:5000"), "app"), "localhost:5000/app");
  EXPECT_EQ(*target_of(*parse_sync_target("oci:/srv/images"), "library/alpine"), "/srv/images/library/alpine");
  EXPECT_FALSE(target_of(*parse_sync_target("oci:/srv/images"), "../etc").ok());
  for (const char* text : {"", "oci:", "mirror", "Bad host"}) EXPECT_FALSE(parse_sync_target(text).ok()) << text;
}

/// A folder of layouts, and images to put into them.
class Layouts : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/caisson-transport-XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    folder_ = name;
  }
  void TearDown() override { ignore(linux::remove_tree(folder_)); }

  std::unique_ptr<LayoutPlace> layout(const std::string& name) { return std::move(*LayoutPlace::open(concat(folder_, "/", name), LayoutPlace::Mode::write)); }
  static image::Descriptor put(LayoutPlace& place, const std::string& bytes, std::string_view type) {
    image::Descriptor out;
    out.media_type = type;
    out.digest = sha256_of(bytes);
    out.size_bytes = bytes.size();
    EXPECT_TRUE(linux::write_file(place.blob_path(out.digest), bytes).ok());
    return out;
  }
  static image::FetchedManifest image_of(LayoutPlace& place, const std::string& layer) {
    image::Manifest manifest;
    manifest.media_type = image::media_type::oci_manifest;
    manifest.config = put(place, "{\"config\":\"" + layer + "\"}", image::media_type::oci_config);
    manifest.layers.push_back(put(place, layer, image::media_type::oci_layer));
    image::FetchedManifest out;
    out.text = image::write_manifest(manifest);
    out.media_type = manifest.media_type;
    out.digest = sha256_of(out.text);
    return out;
  }
  static image::FetchedManifest index_of(const std::vector<std::pair<image::FetchedManifest, std::string>>& images) {
    image::Index index;
    for (const auto& [manifest, architecture] : images) {
      image::Descriptor entry;
      entry.media_type = manifest.media_type;
      entry.digest = manifest.digest;
      entry.size_bytes = manifest.text.size();
      entry.platform = image::Platform{"linux", architecture, ""};
      index.manifests.push_back(std::move(entry));
    }
    image::FetchedManifest out;
    out.text = image::write_index(index);
    out.media_type = image::media_type::oci_index;
    out.digest = sha256_of(out.text);
    return out;
  }
  Result<Digest> copy(LayoutPlace& from, LayoutPlace& to, const std::string& name, const CopyOptions& options) {
    auto spool = TRY_PLAIN(Spool::open(to.spool_folder()));
    Holders holders;
    Copier copier(from, to, spool, holders, options, {});
    auto manifest = TRY_PLAIN(copier.resolve(name));
    TRY_PLAIN(copier.copy(manifest, name));
    TRY_PLAIN(copier.copy_signatures(manifest));
    TRY_PLAIN(copier.copy_referrers(manifest));
    spool.leave();
    traffic_ = copier.traffic();
    return manifest.digest;
  }
  std::string folder_;
  Traffic traffic_;
};

TEST_F(Layouts, an_index_travels_whole_or_one_image_of_it) {
  auto from = layout("from");
  auto amd64 = image_of(*from, "for amd64");
  auto arm64 = image_of(*from, "for arm64");
  ASSERT_TRUE(from->put_manifest(amd64, std::nullopt).ok());
  ASSERT_TRUE(from->put_manifest(arm64, std::nullopt).ok());
  auto index = index_of({{amd64, "amd64"}, {arm64, "arm64"}});
  ASSERT_TRUE(from->put_manifest(index, "1").ok());

  auto whole = layout("whole");
  CopyOptions all;
  all.all_platforms = true;
  auto digest = copy(*from, *whole, "1", all);
  ASSERT_TRUE(digest.ok()) << digest.error().text();
  EXPECT_EQ(*digest, index.digest);
  EXPECT_EQ(whole->manifest(arm64.digest.text())->text, arm64.text);
  EXPECT_EQ(traffic_.blobs, 4U);
  EXPECT_FALSE(*linux::exists(whole->spool_folder()));
  ASSERT_TRUE(copy(*from, *whole, "1", all).ok());
  EXPECT_EQ(traffic_.blobs, 0U);
  EXPECT_EQ(traffic_.there, 4U);

  auto one = layout("one");
  CopyOptions arm;
  arm.platform = {"linux", "arm64", ""};
  EXPECT_EQ(*copy(*from, *one, "1", arm), arm64.digest);
  EXPECT_EQ(traffic_.blobs, 2U);
  arm.platform.architecture = "s390x";
  EXPECT_THAT(copy(*from, *one, "1", arm).error().text(), HasSubstr("no matching manifest for linux/s390x"));
}

TEST_F(Layouts, a_tag_moves_and_the_other_entries_stay) {
  auto place = layout("x");
  auto one = image_of(*place, "one");
  auto two = image_of(*place, "two");
  ASSERT_TRUE(place->put_manifest(one, "a").ok());
  ASSERT_TRUE(place->put_manifest(one, "b").ok());
  ASSERT_TRUE(place->put_manifest(two, "a").ok());
  EXPECT_THAT(*place->tags(), ElementsAre("a", "b"));
  EXPECT_EQ(place->manifest("a")->digest, two.digest);
  EXPECT_EQ(place->manifest("b")->digest, one.digest);
  EXPECT_THAT(place->manifest("").error().text(), HasSubstr("holds 2 images"));
  EXPECT_EQ(place->manifest("c").error().kind(), ErrorKind::not_found);
}

TEST_F(Layouts, blobs_and_manifests_that_are_not_what_they_are_called_stay_behind) {
  auto from = layout("from");
  auto to = layout("to");
  auto manifest = image_of(*from, "layer");
  ASSERT_TRUE(from->put_manifest(manifest, "1").ok());
  const auto layer = sha256_of("layer");
  ASSERT_TRUE(linux::write_file(from->blob_path(layer), "LAYER").ok());
  auto refused = copy(*from, *to, "1", {});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::corrupt);
  EXPECT_THAT(refused.error().text(), HasSubstr(layer.text()));
  EXPECT_THAT(*to->tags(), IsEmpty());
  EXPECT_FALSE(*linux::exists(to->blob_path(layer)));

  ASSERT_TRUE(linux::write_file(from->blob_path(manifest.digest), "{}").ok());
  EXPECT_THAT(from->manifest("1").error().text(), HasSubstr("holds something else"));
  ASSERT_TRUE(linux::unlink(from->blob_path(layer)).ok());
  ASSERT_TRUE(linux::symlinkat("/etc/passwd", AT_FDCWD, from->blob_path(layer)).ok());
  image::Descriptor blob;
  blob.digest = layer;
  EXPECT_FALSE(from->open_blob(blob).ok());
}

TEST_F(Layouts, signatures_travel_with_their_image_when_asked_to) {
  auto from = layout("from");
  auto manifest = image_of(*from, "layer");
  ASSERT_TRUE(from->put_manifest(manifest, "1").ok());
  const auto tag = concat("sha256-", manifest.digest.hex(), ".sig");
  ASSERT_TRUE(from->put_manifest(image_of(*from, "signature"), tag).ok());
  auto without = layout("without");
  ASSERT_TRUE(copy(*from, *without, "1", {}).ok());
  EXPECT_THAT(*without->tags(), ElementsAre("1"));
  auto with = layout("with");
  CopyOptions options;
  options.signatures = true;
  ASSERT_TRUE(copy(*from, *with, "1", options).ok());
  EXPECT_THAT(*with->tags(), ElementsAre("1", tag));
}

/// A document attached to a manifest.
image::Descriptor attach_to(LayoutPlace& place, const image::FetchedManifest& subject, const std::string& text) {
  image::Artifact artifact;
  artifact.artifact_type = "application/x.note";
  artifact.blobs.push_back({"text/plain", text, {}});
  artifact.subject.emplace();
  artifact.subject->media_type = subject.media_type;
  artifact.subject->digest = subject.digest;
  artifact.subject->size_bytes = subject.text.size();
  return attach(place, artifact).value();
}

TEST_F(Layouts, what_is_attached_travels_with_its_image_when_asked_to_and_only_what_is_missing) {
  auto from = layout("from");
  auto manifest = image_of(*from, "layer");
  ASSERT_TRUE(from->put_manifest(manifest, "1").ok());
  const auto note = attach_to(*from, manifest, "note");
  const auto reply = attach_to(*from, *from->manifest(note.digest.text()), "a note on the note");
  EXPECT_EQ(from->manifest("")->digest, manifest.digest);  // attachments are no images
  EXPECT_EQ(from->referrers(manifest.digest)->front().artifact_type, "application/x.note");

  auto without = layout("without");
  ASSERT_TRUE(copy(*from, *without, "1", {}).ok());
  EXPECT_THAT(*without->referrers(manifest.digest), IsEmpty());
  auto with = layout("with");
  CopyOptions options;
  options.referrers = true;
  ASSERT_TRUE(copy(*from, *with, "1", options).ok());
  EXPECT_EQ(with->manifest(note.digest.text())->text, from->manifest(note.digest.text())->text);
  ASSERT_EQ(with->referrers(note.digest)->size(), 1U);
  EXPECT_EQ(with->referrers(note.digest)->front().digest, reply.digest);
  const auto later = attach_to(*from, manifest, "later");
  ASSERT_TRUE(copy(*from, *with, "1", options).ok());
  EXPECT_EQ(traffic_.blobs, 1U);
  EXPECT_EQ(traffic_.manifests, 2U);  // the image's is written again
  EXPECT_EQ(with->referrers(manifest.digest)->size(), 2U);
  EXPECT_EQ(attach_to(*from, manifest, "later").digest, later.digest);
  EXPECT_EQ(from->referrers(manifest.digest)->size(), 2U);
}

/// A place whose lists of referrers are somebody's lie.
class LyingPlace final : public Place {
 public:
  LyingPlace(LayoutPlace& real, std::map<Digest, std::vector<image::Descriptor>> lists) : real_(real), lists_(std::move(lists)) {}
  [[nodiscard]] std::string name() const override { return "lying"; }
  Result<image::FetchedManifest> manifest(const std::string& wanted) override { return real_.manifest(wanted); }
  Result<std::vector<std::string>> tags() override { return real_.tags(); }
  Result<UniqueFd> open_blob(const image::Descriptor& blob) override { return real_.open_blob(blob); }
  Status fetch_blob(const image::Descriptor& blob, int fd, std::uint64_t offset, const OnBytes& on_bytes) override { return real_.fetch_blob(blob, fd, offset, on_bytes); }
  Result<bool> has_blob(const image::Descriptor& blob) override { return real_.has_blob(blob); }
  Result<bool> mount_blob(const image::Descriptor& blob, const std::string& from_path) override { return real_.mount_blob(blob, from_path); }
  Status put_blob(const image::Descriptor& blob, const ReadyBlob& ready, const OnBytes& on_bytes) override { return real_.put_blob(blob, ready, on_bytes); }
  Status put_manifest(const image::FetchedManifest& manifest, const std::optional<std::string>& tag) override { return real_.put_manifest(manifest, tag); }
  Result<std::vector<image::Descriptor>> referrers(const Digest& subject) override { return lists_[subject]; }
  Status put_referrer(const image::FetchedManifest& manifest, const image::Attachment& attachment) override { return real_.put_referrer(manifest, attachment); }

 private:
  LayoutPlace& real_;
  std::map<Digest, std::vector<image::Descriptor>> lists_;
};

TEST_F(Layouts, lists_of_attachments_that_lie_lead_nowhere) {
  auto from = layout("from");
  auto manifest = image_of(*from, "layer");
  ASSERT_TRUE(from->put_manifest(manifest, "1").ok());
  const auto note = attach_to(*from, manifest, "note");
  const auto other = attach_to(*from, image_of(*from, "another image"), "elsewhere");
  auto refusal_of = [&](std::map<Digest, std::vector<image::Descriptor>> lists) {
    LyingPlace lying(*from, std::move(lists));
    auto to = layout("to");
    auto spool = Spool::open(folder_ + "/spool").value();
    Holders holders;
    CopyOptions options;
    options.referrers = true;
    Copier copier(lying, *to, spool, holders, options, {});
    auto copied = copier.copy_referrers(manifest);
    return copied.ok() ? std::string() : copied.error().text();
  };
  EXPECT_EQ(refusal_of({{manifest.digest, {note}}}), "");
  EXPECT_THAT(refusal_of({{manifest.digest, {note}}, {note.digest, {note}}}), HasSubstr("in a circle"));
  EXPECT_THAT(refusal_of({{manifest.digest, {other}}}), HasSubstr("is listed as attached to"));
  EXPECT_THAT(refusal_of({{manifest.digest, {note, note}}}), HasSubstr("in a circle"));
  EXPECT_THAT(refusal_of({{manifest.digest, std::vector<image::Descriptor>(image::most_referrers, note)}}), HasSubstr("256 attachments or more"));
}

TEST_F(Layouts, a_folder_of_layouts_is_brought_to_another_and_one_failure_stops_nobody) {
  auto good = layout("from/team/app");
  ASSERT_TRUE(good->put_manifest(image_of(*good, "good"), "1").ok());
  auto bad = layout("from/broken");
  ASSERT_TRUE(bad->put_manifest(image_of(*bad, "bad"), "1").ok());
  ASSERT_TRUE(linux::unlink(bad->blob_path(sha256_of("bad"))).ok());
  EXPECT_THAT(*find_layouts(folder_ + "/from"), ElementsAre("broken", "team/app"));

  SyncRequest request;
  request.source_folder = folder_ + "/from";
  request.target = *parse_sync_target("oci:" + folder_ + "/to");
  SyncSurroundings surroundings;
  surroundings.spool_folder = folder_ + "/spool";
  std::vector<std::string> lines;
  surroundings.on_outcome = [&](const SyncOutcome& outcome) { lines.push_back(concat(static_cast<int>(outcome.kind), " ", outcome.to, outcome.error ? outcome.error->text() : "")); };
  request.is_dry_run = true;
  auto rehearsal = run_sync(request, surroundings);
  ASSERT_TRUE(rehearsal.ok());
  EXPECT_EQ(rehearsal->copied, 2U);
  EXPECT_FALSE(*linux::exists(folder_ + "/to"));

  request.is_dry_run = false;
  auto done = run_sync(request, surroundings);
  ASSERT_TRUE(done.ok());
  EXPECT_EQ(done->copied, 1U);
  EXPECT_EQ(done->failed, 1U);
  EXPECT_EQ(LayoutPlace::open(folder_ + "/to/team/app", LayoutPlace::Mode::read).value()->manifest("1")->digest, good->manifest("1")->digest);
  EXPECT_EQ(run_sync(request, surroundings)->unchanged, 1U);
}

}  // namespace
}  // namespace caisson::transport
