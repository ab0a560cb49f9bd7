// What goes to a registry as an artifact, and the names under which others look for it.
#include "image/artifacts.hpp"

#include <gtest/gtest.h>

#include "base/strings.hpp"

namespace caisson::image {
namespace {

const Digest some_digest = *Digest::parse("sha256:" + std::string(64, 'a'));

TEST(artifact, becomes_a_manifest_that_names_its_subject_and_its_type) {
  Artifact artifact;
  artifact.artifact_type = "application/spdx+json";
  artifact.blobs.push_back({"application/spdx+json", "{}x", {{"title", "sbom"}}});
  artifact.annotations["org.opencontainers.image.created"] = "2026-01-01T00:00:00Z";
  artifact.subject.emplace();
  artifact.subject->media_type = media_type::oci_manifest;
  artifact.subject->digest = some_digest;
  artifact.subject->size_bytes = 7;
  auto manifest = parse_manifest(write_artifact(artifact));
  ASSERT_TRUE(manifest.ok()) << manifest.error().text();
  EXPECT_EQ(manifest->artifact_type, "application/spdx+json");
  // The empty document has a digest that every client knows (image-spec 1.1, "guidance for an empty descriptor").
  EXPECT_EQ(manifest->config.digest.text(), "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
  EXPECT_EQ(manifest->config.media_type, media_type::oci_empty);
  ASSERT_EQ(manifest->layers.size(), 1U);
  EXPECT_EQ(manifest->layers[0].digest, sha256_of("{}x"));
  EXPECT_EQ(manifest->layers[0].size_bytes, 3U);
  EXPECT_EQ(manifest->layers[0].annotations.at("title"), "sbom");
  ASSERT_TRUE(manifest->subject.has_value());
  EXPECT_EQ(manifest->subject->digest, some_digest);
  EXPECT_EQ(manifest->subject->size_bytes, 7U);
  EXPECT_EQ(manifest->annotations.size(), 1U);
}

TEST(artifact, without_a_subject_is_named_by_its_config) {
  Artifact artifact;
  artifact.config = {std::string(media_type::oci_config), "{\"x\":1}", {}};
  auto text = write_artifact(artifact);
  EXPECT_EQ(text.find("subject"), std::string::npos);
  EXPECT_EQ(text.find("artifactType"), std::string::npos);
  EXPECT_EQ(parse_manifest(text)->config.media_type, media_type::oci_config);
}

TEST(attachments, are_described_as_lists_of_referrers_tell_them) {
  Artifact artifact;
  artifact.config = {"application/x.config", "{}", {}};
  artifact.annotations["a"] = "b";
  artifact.subject.emplace();
  artifact.subject->media_type = media_type::oci_manifest;
  artifact.subject->digest = some_digest;
  const auto described = describe_attachment(made_manifest(artifact));
  ASSERT_TRUE(described.ok()) << described.error().text();
  EXPECT_EQ(described->descriptor.artifact_type, "application/x.config");  // what has no type of its own has its config's
  EXPECT_EQ(described->descriptor.annotations.at("a"), "b");
  EXPECT_EQ(described->descriptor.digest, sha256_of(write_artifact(artifact)));
  EXPECT_EQ(described->subject->digest, some_digest);
  Index index;
  index.media_type = media_type::oci_index;
  index.artifact_type = "application/y";
  FetchedManifest document;
  document.text = write_index(index);
  document.media_type = media_type::oci_index;
  EXPECT_EQ(describe_attachment(document)->descriptor.artifact_type, "application/y");
  EXPECT_FALSE(describe_attachment(document)->subject.has_value());
}

TEST(tags, of_signatures_and_referrers_are_those_of_the_specifications) {
  EXPECT_EQ(signature_tag(some_digest), concat("sha256-", std::string(64, 'a'), ".sig"));
  EXPECT_EQ(referrers_tag(some_digest), concat("sha256-", std::string(64, 'a')));
  auto longer = *Digest::parse("sha512:" + std::string(128, 'b'));
  EXPECT_EQ(referrers_tag(longer), concat("sha512-", std::string(64, 'b')));
}

TEST(indexes, keep_what_they_say_of_referrers) {
  Index index;
  Descriptor entry;
  entry.media_type = media_type::oci_manifest;
  entry.digest = some_digest;
  entry.size_bytes = 3;
  entry.artifact_type = "application/x";
  entry.annotations["a"] = "b";
  index.manifests.push_back(entry);
  auto read = parse_index(write_index(index));
  ASSERT_TRUE(read.ok()) << read.error().text();
  EXPECT_EQ(read->manifests[0].artifact_type, "application/x");
  EXPECT_EQ(read->manifests[0].annotations.at("a"), "b");
}

}  // namespace
}  // namespace caisson::image
