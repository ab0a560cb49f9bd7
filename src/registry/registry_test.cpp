// The API over a real folder, request by request: what clients are told, and what is left behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"
#include "registry/admin.hpp"
#include "registry/test_support.hpp"

namespace caisson::registry {
namespace {

using ::testing::HasSubstr;

constexpr const char* oci_manifest = "application/vnd.oci.image.manifest.v1+json";
constexpr const char* oci_index = "application/vnd.oci.image.index.v1+json";

class registry : public RegistryTest {};

TEST_F(registry, a_blob_is_pushed_in_one_request_and_comes_back) {
  auto digest = sha256_of("hello").text();
  auto put = call("POST", concat("/v2/a/b/blobs/uploads/?digest=", digest), "hello");
  EXPECT_EQ(put.status, 201);
  EXPECT_EQ(put.header("Location"), "/v2/a/b/blobs/" + digest);
  EXPECT_EQ(put.header("Docker-Content-Digest"), digest);
  auto got = call("GET", "/v2/a/b/blobs/" + digest);
  EXPECT_EQ(got.status, 200);
  EXPECT_EQ(got.body, "hello");
  EXPECT_EQ(call("GET", "/v2/other/blobs/" + digest).status, 404);
}

TEST_F(registry, a_wrong_digest_leaves_nothing) {
  auto put = call("POST", concat("/v2/a/blobs/uploads/?digest=", sha256_of("other").text()), "hello");
  EXPECT_EQ(put.status, 400);
  EXPECT_EQ(put.error_code(), "DIGEST_INVALID");
  EXPECT_EQ(files_in("/uploads"), 0U);
  EXPECT_EQ(call("GET", "/v2/a/tags/list").status, 404);
}

TEST_F(registry, chunks_come_in_order_or_not_at_all) {
  auto location = call("POST", "/v2/a/blobs/uploads/").header("Location");
  EXPECT_EQ(call("GET", location).header("Range"), "");
  auto first = call("PATCH", location, "hello ", {{"Content-Range", "0-5"}});
  EXPECT_EQ(first.status, 202);
  EXPECT_EQ(first.header("Range"), "0-5");
  auto again = call("PATCH", location, "hello ", {{"Content-Range", "0-5"}});
  EXPECT_EQ(again.status, 416);
  EXPECT_EQ(again.header("Range"), "0-5");
  EXPECT_EQ(again.header("Location"), location);
  EXPECT_EQ(call("PATCH", location, "abc", {{"Content-Range", "6-9"}}).status, 400);
  auto status = call("GET", location);
  EXPECT_EQ(status.status, 204);
  EXPECT_EQ(status.header("Range"), "0-8");
  EXPECT_EQ(call("PUT", location + "?digest=" + sha256_of("hello abcd").text(), "d", {{"Content-Range", "9-9"}}).status, 201);
  EXPECT_EQ(call("GET", location).status, 404);
}

TEST_F(registry, an_upload_outlives_the_process) {
  auto location = call("POST", "/v2/a/blobs/uploads/").header("Location");
  EXPECT_EQ(call("PATCH", location, "first ").status, 202);
  reopen();
  EXPECT_EQ(call("GET", location).header("Range"), "0-5");
  EXPECT_EQ(call("PATCH", location, "second", {{"Content-Range", "6-11"}}).status, 202);
  EXPECT_EQ(call("PUT", location + "?digest=" + sha256_of("first second").text()).status, 201);
}

TEST_F(registry, sha512_is_told_as_sha512) {
  auto digest = digest_of("hello", DigestAlgorithm::sha512).text();
  auto location = call("POST", "/v2/a/blobs/uploads/").header("Location");
  EXPECT_EQ(call("PATCH", location, "hello").status, 202);
  EXPECT_EQ(call("PUT", location + "?digest=" + digest).header("Docker-Content-Digest"), digest);
  EXPECT_EQ(call("HEAD", "/v2/a/blobs/" + digest).header("Docker-Content-Digest"), digest);
  EXPECT_EQ(call("POST", concat("/v2/b/blobs/uploads/?mount=", digest, "&from=a")).status, 201);
  EXPECT_EQ(call("GET", "/v2/b/blobs/" + digest).body, "hello");
}

TEST_F(registry, a_blob_is_mounted_and_what_is_not_there_is_uploaded) {
  auto digest = push_blob("a", "hello");
  EXPECT_EQ(call("POST", concat("/v2/b/blobs/uploads/?mount=", digest, "&from=a")).status, 201);
  EXPECT_EQ(call("POST", concat("/v2/c/blobs/uploads/?mount=", digest)).status, 201);
  EXPECT_EQ(call("POST", concat("/v2/d/blobs/uploads/?mount=", digest, "&from=nowhere")).status, 202);
  EXPECT_EQ(call("POST", concat("/v2/d/blobs/uploads/?mount=", sha256_of("x").text(), "&from=a")).status, 202);
}

TEST_F(registry, ranges_and_conditions_of_blobs) {
  auto url = "/v2/a/blobs/" + push_blob("a", "0123456789");
  auto part = call("GET", url, "", {{"Range", "bytes=2-4"}});
  EXPECT_EQ(part.status, 206);
  EXPECT_EQ(part.body, "234");
  EXPECT_EQ(part.header("Content-Range"), "bytes 2-4/10");
  EXPECT_EQ(call("GET", url, "", {{"Range", "bytes=-3"}}).body, "789");
  auto beyond = call("GET", url, "", {{"Range", "bytes=10-"}});
  EXPECT_EQ(beyond.status, 416);
  EXPECT_EQ(beyond.header("Content-Range"), "bytes */10");
  auto etag = call("GET", url).header("ETag");
  EXPECT_EQ(call("GET", url, "", {{"If-None-Match", etag}}).status, 304);
  EXPECT_EQ(call("GET", url, "", {{"Range", "bytes=2-4"}, {"If-Range", "\"other\""}}).status, 200);
}

TEST_F(registry, a_manifest_is_kept_byte_for_byte) {
  auto text = image_manifest("a", "config", {"layer"}) + "\n \n";
  auto put = call("PUT", "/v2/a/manifests/v1", text, {{"Content-Type", oci_manifest}});
  EXPECT_EQ(put.status, 201) << put.body;
  auto digest = sha256_of(text).text();
  EXPECT_EQ(put.header("Docker-Content-Digest"), digest);
  EXPECT_EQ(put.header("Location"), "/v2/a/manifests/" + digest);
  for (const auto& reference : {std::string("v1"), digest}) {
    auto got = call("GET", "/v2/a/manifests/" + reference);
    EXPECT_EQ(got.body, text);
    EXPECT_EQ(got.header("Content-Type"), oci_manifest);
  }
  EXPECT_EQ(call("GET", "/v2/a/manifests/v1", "", {{"If-None-Match", concat("\"", digest, "\"")}}).status, 304);
}

TEST_F(registry, manifests_that_lie_are_refused) {
  auto text = image_manifest("a", "config", {"layer"});
  auto refused = [&](std::string_view body, std::string_view type, std::string_view reference = "v1") { return call("PUT", concat("/v2/a/manifests/", reference), body, {{"Content-Type", std::string(type)}}).error_code(); };
  EXPECT_EQ(refused("not json", oci_manifest), "MANIFEST_INVALID");
  EXPECT_EQ(refused(text, oci_index), "MANIFEST_INVALID");
  EXPECT_EQ(refused(text, "application/vnd.docker.distribution.manifest.v1+json"), "MANIFEST_INVALID");
  EXPECT_EQ(refused(text, oci_manifest, sha256_of("x").text()), "DIGEST_INVALID");
  EXPECT_EQ(refused(text, oci_manifest, "sha256:abc"), "DIGEST_INVALID");
  EXPECT_EQ(refused(text, oci_manifest, "-bad"), "MANIFEST_INVALID");
  EXPECT_EQ(refused(std::string((4 << 20) + 1, ' '), oci_manifest), "SIZE_INVALID");
  auto missing = replace_all(text, sha256_of("layer").text(), sha256_of("missing").text());
  EXPECT_EQ(refused(missing, oci_manifest), "MANIFEST_BLOB_UNKNOWN");
  auto longer = replace_all(text, "\"size\":5", "\"size\":6");
  EXPECT_EQ(refused(longer, oci_manifest), "MANIFEST_INVALID");
  auto foreign = replace_all(missing, "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar");
  EXPECT_EQ(call("PUT", "/v2/a/manifests/v2", foreign, {{"Content-Type", oci_manifest}}).status, 201);
}

TEST_F(registry, referrers_are_told_with_type_and_filter) {
  auto subject = push_manifest("a", "v1");
  auto attached = [&](std::string_view type, std::string_view name) {
    auto text = image_manifest("a", "{}", {std::string(name)});
    text.pop_back();
    text += concat(",\"artifactType\":\"", type, "\",\"annotations\":{\"name\":\"", name, "\"},\"subject\":{\"mediaType\":\"", oci_manifest, "\",\"digest\":\"", subject, "\",\"size\":1}}");
    auto put = call("PUT", "/v2/a/manifests/" + sha256_of(text).text(), text, {{"Content-Type", oci_manifest}});
    EXPECT_EQ(put.header("OCI-Subject"), subject);
    return sha256_of(text).text();
  };
  auto one = attached("application/x.one", "one");
  attached("application/x.two", "two");
  auto all = call("GET", "/v2/a/referrers/" + subject);
  EXPECT_EQ(all.header("Content-Type"), oci_index);
  EXPECT_EQ(all.json().at("manifests").as_array().size(), 2U);
  auto filtered = call("GET", concat("/v2/a/referrers/", subject, "?artifactType=application/x.one"));
  EXPECT_EQ(filtered.header("OCI-Filters-Applied"), "artifactType");
  ASSERT_EQ(filtered.json().at("manifests").as_array().size(), 1U);
  const auto entry = filtered.json().at("manifests").at(0);
  EXPECT_EQ(entry.at("digest").as_string(), one);
  EXPECT_EQ(entry.at("annotations").at("name").as_string(), "one");
  EXPECT_EQ(call("GET", "/v2/a/referrers/" + sha256_of("nobody").text()).json().at("manifests").as_array().size(), 0U);
  EXPECT_EQ(call("GET", "/v2/a/referrers/sha256:x").status, 400);
  EXPECT_EQ(call("DELETE", "/v2/a/manifests/" + one).status, 202);
  EXPECT_EQ(call("GET", "/v2/a/referrers/" + subject).json().at("manifests").as_array().size(), 1U);
}

TEST_F(registry, tags_come_in_pages) {
  for (const char* tag : {"c", "a", "B", "b"}) push_manifest("a", tag);
  auto names = [](const Reply& reply) { return to_text(reply.json().at("tags")); };
  EXPECT_EQ(names(call("GET", "/v2/a/tags/list")), R"(["B","a","b","c"])");
  auto page = call("GET", "/v2/a/tags/list?n=2");
  EXPECT_EQ(names(page), R"(["B","a"])");
  EXPECT_EQ(page.header("Link"), "</v2/a/tags/list?last=a&n=2>; rel=\"next\"");
  auto last = call("GET", "/v2/a/tags/list?last=a&n=2");
  EXPECT_EQ(names(last), R"(["b","c"])");
  EXPECT_EQ(last.header("Link"), "");
  auto none = call("GET", "/v2/a/tags/list?n=0");
  EXPECT_EQ(names(none), "[]");
  EXPECT_EQ(none.header("Link"), "");
  EXPECT_EQ(call("GET", "/v2/a/tags/list?n=x").status, 400);
  EXPECT_EQ(call("GET", "/v2/nowhere/tags/list").error_code(), "NAME_UNKNOWN");
  EXPECT_EQ(call("GET", "/v2/_catalog?n=1").body, R"({"repositories":["a"]})");
}

TEST_F(registry, a_manifest_pushed_by_digest_takes_its_tags_along) {
  auto text = image_manifest("a", "config", {"layer"});
  std::string query = "?tag=t0";
  for (int i = 1; i < 12; ++i) query += concat("&tag=t", i);
  auto put = call("PUT", concat("/v2/a/manifests/", sha256_of(text).text(), query), text, {{"Content-Type", oci_manifest}});
  EXPECT_EQ(put.status, 201);
  EXPECT_EQ(put.count("OCI-Tag"), 12U);
  EXPECT_EQ(call("GET", "/v2/a/manifests/t11").body, text);
}

TEST_F(registry, a_tag_is_changed_only_when_it_is_what_the_client_expects) {
  auto first = push_manifest("a", "v1");
  auto text = image_manifest("a", "config2", {"layer"});
  wire::Headers headers{{"Content-Type", oci_manifest}, {"If-None-Match", "*"}};
  EXPECT_EQ(call("PUT", "/v2/a/manifests/v1", text, headers).status, 412);
  headers[1] = {"If-Match", concat("\"", sha256_of("else").text(), "\"")};
  EXPECT_EQ(call("PUT", "/v2/a/manifests/v1", text, headers).status, 412);
  headers[1] = {"If-Match", concat("\"", first, "\"")};
  EXPECT_EQ(call("PUT", "/v2/a/manifests/v1", text, headers).status, 201);
}

TEST_F(registry, deleting_takes_what_was_named) {
  auto digest = push_manifest("a", "v1");
  push_manifest("a", "v2");
  EXPECT_EQ(call("DELETE", "/v2/a/manifests/v1").status, 202);
  EXPECT_EQ(call("DELETE", "/v2/a/manifests/v1").status, 404);
  EXPECT_EQ(call("GET", "/v2/a/manifests/" + digest).status, 200);
  EXPECT_EQ(call("DELETE", "/v2/a/manifests/" + digest).status, 202);
  EXPECT_EQ(call("GET", "/v2/a/manifests/v2").error_code(), "MANIFEST_UNKNOWN");
  EXPECT_EQ(call("GET", "/v2/a/tags/list").body, R"({"name":"a","tags":[]})");
  auto blob = "/v2/a/blobs/" + sha256_of("layer").text();
  EXPECT_EQ(call("DELETE", blob).status, 202);
  EXPECT_EQ(call("DELETE", blob).error_code(), "BLOB_UNKNOWN");
}

TEST_F(registry, names_and_methods_that_are_not_are_refused) {
  EXPECT_EQ(call("GET", "/v2/").status, 200);
  EXPECT_EQ(call("GET", "/v2/A/tags/list").error_code(), "NAME_INVALID");
  EXPECT_EQ(call("GET", "/v2/../x/tags/list").error_code(), "NAME_INVALID");
  EXPECT_EQ(call("GET", "/elsewhere").status, 404);
  EXPECT_EQ(call("POST", "/v2/a/tags/list").status, 405);
  EXPECT_EQ(call("PATCH", "/v2/a/blobs/uploads/nothing", "x").error_code(), "BLOB_UPLOAD_UNKNOWN");
  auto location = call("POST", "/v2/a/blobs/uploads/").header("Location");
  EXPECT_EQ(call("GET", replace_all(location, "/a/", "/b/")).error_code(), "BLOB_UPLOAD_UNKNOWN");
  EXPECT_EQ(call("DELETE", location).status, 204);
  EXPECT_EQ(call("GET", location).status, 404);
}

TEST_F(registry, clean_up_leaves_what_is_used_or_fresh) {
  push_manifest("a", "v1");
  auto orphan = push_blob("a", "orphan");
  EXPECT_EQ(clean_up(3'600'000'000'000).links, 0U);
  EXPECT_EQ(call("GET", "/v2/a/blobs/" + orphan).status, 200);
  auto done = clean_up(0);
  EXPECT_EQ(done.links, 1U);
  EXPECT_EQ(done.blobs, 1U);
  EXPECT_EQ(call("GET", "/v2/a/blobs/" + orphan).status, 404);
  EXPECT_EQ(call("GET", "/v2/a/blobs/" + sha256_of("layer").text()).status, 200);
  EXPECT_EQ(call("DELETE", "/v2/a/manifests/v1").status, 202);
  EXPECT_EQ(clean_up(0, true).manifests, 1U);
  EXPECT_EQ(files_in("/content/blobs/sha256"), 0U);
  EXPECT_EQ(call("GET", "/v2/a/tags/list").error_code(), "NAME_UNKNOWN");
  EXPECT_EQ(service().catalog().usage().total_bytes, 0U);
}

TEST_F(registry, what_is_attached_to_a_tagged_image_is_not_untagged) {
  auto subject = push_manifest("a", "v1");
  auto text = image_manifest("a", "{}", {"signature"});
  text.pop_back();
  text += concat(",\"subject\":{\"mediaType\":\"", oci_manifest, "\",\"digest\":\"", subject, "\",\"size\":1}}");
  EXPECT_EQ(call("PUT", "/v2/a/manifests/" + sha256_of(text).text(), text, {{"Content-Type", oci_manifest}}).status, 201);
  EXPECT_EQ(clean_up(0, true).manifests, 0U);
  EXPECT_EQ(call("DELETE", "/v2/a/manifests/v1").status, 202);
  EXPECT_EQ(clean_up(0, true).manifests, 2U);
}

TEST_F(registry, a_quota_refuses_the_byte_too_many) {
  config.repository_quota_bytes = 100;
  config.total_quota_bytes = 150;
  config.quotas["big/one"] = 1000;
  reopen();
  push_blob("a", std::string(80, 'x'));
  auto refused = call("POST", "/v2/a/blobs/uploads/?digest=" + sha256_of(std::string(21, 'y')).text(), std::string(21, 'y'), {{"Content-Length", "21"}});
  EXPECT_EQ(refused.status, 413);
  EXPECT_EQ(refused.error_code(), "DENIED");
  EXPECT_THAT(refused.body, HasSubstr("repository a may hold at most 100B"));
  EXPECT_EQ(files_in("/uploads"), 0U);
  push_blob("a", std::string(20, 'y'));
  auto total = call("POST", "/v2/big/one/blobs/uploads/?digest=" + sha256_of(std::string(60, 'z')).text(), std::string(60, 'z'), {{"Content-Length", "60"}});
  EXPECT_THAT(total.body, HasSubstr("the registry may hold at most 150B"));
}

TEST_F(registry, administrators_see_and_remove) {
  push_manifest("a", "v1");
  Admin admin(service());
  EXPECT_THAT(admin.answer("GET", "/repositories", "").body, HasSubstr(R"("name":"a","tags":1)"));
  EXPECT_THAT(admin.answer("GET", "/repositories", "name=a").body, HasSubstr(R"("tag":"v1")"));
  EXPECT_EQ(admin.answer("GET", "/repositories", "name=b").status, 404);
  EXPECT_EQ(admin.answer("DELETE", "/items", "name=a%3Av2").status, 404);
  EXPECT_EQ(admin.answer("DELETE", "/items", "name=a").status, 200);
  EXPECT_EQ(call("GET", "/v2/a/manifests/v1").status, 404);
  EXPECT_THAT(admin.answer("GET", "/metrics", "").body, HasSubstr("caisson_registry_requests_total{method=\"PUT\",code=\"201\"}"));
}

}  // namespace
}  // namespace caisson::registry
