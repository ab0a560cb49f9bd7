// A registry whose blobs lie in a bucket: what clients see, what is in the bucket when they were answered, and what a lost folder leaves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "registry/bucket_storage.hpp"
#include "registry/fake_bucket.hpp"
#include "registry/test_support.hpp"

namespace caisson::registry {
namespace {

using ::testing::HasSubstr;

constexpr const char* oci_manifest = "application/vnd.oci.image.manifest.v1+json";

class InBucket : public RegistryTest {
 protected:
  void SetUp() override {
    config.s3.emplace();
    config.s3->endpoint = "http://127.0.0.1:9000";
    config.s3->bucket = "bucket";
    config.s3->prefix = "r/";
    std::string pattern = "/tmp/caisson-registry-test-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    config.root = pattern;
    start();
  }
  void start() {
    prepare_bucket();
    reopen();
  }
  void prepare_bucket() {
    S3Settings settings;
    settings.endpoint = config.s3->endpoint;
    settings.bucket = config.s3->bucket;
    settings.prefix = config.s3->prefix;
    settings.keys = {"A", "B", ""};
    prepared.bucket = S3Client::create(settings, bucket.send(), {2, 1, 1}).value();
  }
  /// As on another machine, after this one burnt.
  void lose_folder() {
    close();
    ASSERT_TRUE(linux::remove_tree(config.root).ok());
    ASSERT_TRUE(linux::mkdir(config.root, 0700).ok());
  }
  static std::string object_of(const std::string& digest) { return concat("r/blobs/sha256/", digest.substr(7, 2), "/", digest.substr(7)); }
  static constexpr std::int64_t no_grace = -1;

  FakeBucket bucket;
};

TEST_F(InBucket, what_is_pushed_is_in_the_bucket_and_comes_back) {
  const auto manifest = push_manifest("team/app", "1");
  const auto layer = sha256_of("layer").text();
  EXPECT_EQ(bucket.objects.at(object_of(layer)), "layer");
  EXPECT_TRUE(bucket.objects.count(object_of(manifest)));
  EXPECT_TRUE(bucket.objects.count("r/records/manifest/team/app@" + manifest));
  EXPECT_TRUE(bucket.objects.count("r/records/tag/team/app:1"));
  EXPECT_EQ(call("GET", "/v2/team/app/blobs/" + layer).body, "layer");
  EXPECT_EQ(call("GET", "/v2/team/app/manifests/1").header("Docker-Content-Digest"), manifest);
  EXPECT_EQ(call("HEAD", "/v2/team/app/blobs/" + layer).status, 200);
  EXPECT_EQ(bucket.count("GET", "/blobs/"), 0U);  // it was in the cache
  auto mounted = call("POST", concat("/v2/other/blobs/uploads/?mount=", layer, "&from=team/app"));
  EXPECT_EQ(mounted.status, 201);
}

TEST_F(InBucket, the_cache_is_bounded_and_what_left_it_comes_from_the_bucket) {
  config.s3->cache_bytes = 8;
  start();
  const auto first = push_blob("a", "first");
  const auto second = push_blob("a", "second");
  EXPECT_EQ(files_in("/content/blobs/sha256"), 1U);
  EXPECT_EQ(call("GET", "/v2/a/blobs/" + first).body, "first");
  EXPECT_EQ(bucket.count("GET", "/blobs/"), 1U);
  EXPECT_EQ(call("GET", "/v2/a/blobs/" + second, "", {{"Range", "bytes=1-3"}}).body, "eco");
  bucket.objects[object_of(first)] = "FIRST";
  EXPECT_EQ(call("GET", "/v2/a/blobs/" + first).status, 500);
  bucket.objects.erase(object_of(first));
  EXPECT_EQ(call("GET", "/v2/a/blobs/" + first).status, 500);
  EXPECT_EQ(files_in("/partial"), 0U);
}

TEST_F(InBucket, a_part_of_a_large_blob_comes_alone) {
  config.s3->cache_bytes = 0;
  start();
  const auto digest = push_blob("a", std::string(9 << 20, 'x') + "end");
  EXPECT_EQ(call("GET", "/v2/a/blobs/" + digest, "", {{"Range", "bytes=-4"}}).body, "xend");
  EXPECT_EQ(files_in("/content/blobs/sha256"), 0U);
}

TEST_F(InBucket, clients_may_be_sent_to_the_bucket) {
  config.s3->redirects = true;
  start();
  const auto digest = push_blob("a", "hello");
  auto answer = call("GET", "/v2/a/blobs/" + digest);
  EXPECT_EQ(answer.status, 307);
  EXPECT_THAT(answer.header("Location"), ::testing::StartsWith("http://127.0.0.1:9000/bucket/" + object_of(digest) + "?X-Amz-Algorithm="));
  EXPECT_EQ(call("HEAD", "/v2/a/blobs/" + digest).status, 200);
}

TEST_F(InBucket, a_clean_up_removes_what_nothing_leads_to_from_the_bucket_too) {
  const auto kept = push_manifest("a", "1");
  const auto loose = push_blob("a", "loose");
  const auto gone = push_manifest("b", "1");
  ASSERT_EQ(call("DELETE", "/v2/b/manifests/" + gone).status, 202);
  bucket.uploads["r/blobs/sha256/ab/abc killed"];
  auto done = clean_up(no_grace);
  EXPECT_EQ(done.blobs, 1U);
  EXPECT_FALSE(bucket.objects.count(object_of(loose)));
  EXPECT_TRUE(bucket.objects.count(object_of(kept)));
  EXPECT_TRUE(bucket.uploads.empty());
  EXPECT_EQ(call("GET", "/v2/a/blobs/" + loose).status, 404);
  push_blob("a", "loose");
  EXPECT_TRUE(bucket.objects.count(object_of(loose)));
}

TEST_F(InBucket, what_is_wanted_again_before_it_is_removed_stays_and_what_is_pinned_does_not_go) {
  close();
  auto local = image::ContentStore::open(config.root).value();
  prepare_bucket();
  auto storage = bucket_storage(*local, std::move(prepared.bucket), {});
  const auto digest = sha256_of("wanted");
  ASSERT_TRUE(storage->put("wanted", digest).ok());
  ASSERT_TRUE(*storage->discard(digest));
  EXPECT_TRUE(*storage->has(digest));
  ASSERT_TRUE(storage->remove_discarded().ok());
  EXPECT_TRUE(bucket.objects.count(object_of(digest.text())));
  {
    image::Pins pins(*local);
    pins.add_blob(digest);
    EXPECT_FALSE(*storage->discard(digest));
  }
  ASSERT_TRUE(*storage->discard(digest));
  ASSERT_TRUE(storage->remove_discarded().ok());
  EXPECT_FALSE(bucket.objects.count(object_of(digest.text())));
  EXPECT_FALSE(*storage->has(digest));
}

TEST_F(InBucket, a_lost_folder_is_made_anew_from_the_bucket) {
  const auto first = push_manifest("team/app", "1");
  push_manifest("team/app", "gone");
  ASSERT_EQ(call("DELETE", "/v2/team/app/manifests/gone").status, 202);
  const auto config_digest = sha256_of("config").text();
  const auto attached = concat(R"({"schemaVersion":2,"mediaType":")", oci_manifest, R"(","artifactType":"application/x","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":")",
                               config_digest, R"(","size":6},"layers":[],"subject":{"mediaType":")", oci_manifest, R"(","digest":")", first, R"(","size":1}})");
  ASSERT_EQ(call("PUT", "/v2/team/app/manifests/" + sha256_of(attached).text(), attached, {{"Content-Type", oci_manifest}}).status, 201);
  lose_folder();
  start();
  EXPECT_EQ(call("GET", "/v2/team/app/tags/list").json().at("tags").as_array().size(), 1U);
  EXPECT_EQ(call("GET", "/v2/team/app/manifests/1").header("Docker-Content-Digest"), first);
  EXPECT_EQ(call("GET", "/v2/team/app/blobs/" + sha256_of("layer").text()).body, "layer");
  EXPECT_EQ(call("GET", "/v2/team/app/referrers/" + first).json().at("manifests").as_array().size(), 1U);
  EXPECT_EQ(clean_up(no_grace).blobs, 0U);
}

TEST_F(InBucket, another_registrys_bucket_is_refused) {
  push_manifest("a", "1");
  close();
  bucket.objects["r/records/owner"] = R"({"instance":"somebody"})";
  prepare_bucket();
  auto opened = Service::open(config, std::move(*open_records(config, 0)), std::move(prepared));
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().kind(), ErrorKind::conflict);
  EXPECT_THAT(opened.error().text(), HasSubstr("belongs to another registry"));
}

TEST_F(InBucket, what_a_folder_holds_is_brought_to_an_empty_bucket) {
  lose_folder();
  bucket.objects.clear();
  const auto s3 = std::exchange(config.s3, std::nullopt);
  reopen();
  const auto manifest = push_manifest("a", "1");
  EXPECT_TRUE(bucket.objects.empty());
  config.s3 = s3;
  start();
  EXPECT_TRUE(bucket.objects.count(object_of(manifest)));
  EXPECT_TRUE(bucket.objects.count(object_of(sha256_of("layer").text())));
  lose_folder();
  start();
  EXPECT_EQ(call("GET", "/v2/a/manifests/1").status, 200);
}

TEST_F(InBucket, a_push_is_not_acknowledged_before_the_bucket_has_it) {
  const auto digest = sha256_of("hello").text();
  auto location = call("POST", "/v2/a/blobs/uploads/").header("Location");
  ASSERT_EQ(call("PATCH", location, "hello").status, 202);
  bucket.fault = [](const image::FetchRequest& request) -> std::optional<Result<image::FetchReply>> {
    if (request.method != "PUT") return std::nullopt;
    return Result<image::FetchReply>(Error(ErrorKind::unavailable, "cut"));
  };
  EXPECT_EQ(call("PUT", concat(location, "?digest=", digest)).status, 504);
  EXPECT_EQ(call("GET", "/v2/a/blobs/" + digest).status, 404);
  bucket.fault = nullptr;
  EXPECT_EQ(call("PUT", concat(location, "?digest=", digest)).status, 201);
  EXPECT_EQ(call("GET", "/v2/a/blobs/" + digest).body, "hello");
}

TEST_F(InBucket, a_bucket_that_refuses_is_our_failure_and_not_the_clients) {
  auto text = image_manifest("a", "config", {"layer"});
  bucket.fault = [](const image::FetchRequest& request) -> std::optional<Result<image::FetchReply>> {
    if (request.name.find("/records/") == std::string::npos) return std::nullopt;
    image::FetchReply reply;
    reply.ok = true;
    reply.status = 404;
    reply.body = "<Error><Code>NoSuchBucket</Code></Error>";
    return Result<image::FetchReply>(std::move(reply));
  };
  EXPECT_EQ(call("PUT", "/v2/a/manifests/1", text, {{"Content-Type", oci_manifest}}).status, 500);
}

TEST_F(InBucket, a_tag_that_the_bucket_missed_is_brought_later) {
  bucket.fault = [](const image::FetchRequest& request) -> std::optional<Result<image::FetchReply>> {
    if (request.name.find("/records/tag") == std::string::npos) return std::nullopt;
    return Result<image::FetchReply>(Error(ErrorKind::unavailable, "cut"));
  };
  auto text = image_manifest("a", "config", {"layer"});
  EXPECT_EQ(call("PUT", "/v2/a/manifests/1", text, {{"Content-Type", oci_manifest}}).status, 504);
  bucket.fault = nullptr;
  start();  // as after a crash
  lose_folder();
  start();
  EXPECT_EQ(call("GET", "/v2/a/manifests/1").status, 200);
}

}  // namespace
}  // namespace caisson::registry
