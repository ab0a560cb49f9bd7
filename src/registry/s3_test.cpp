// What is sent to S3 and how its answers are read: AWS's published examples of signatures, lists, faults that pass and faults that stay.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/digest.hpp"
#include "registry/fake_bucket.hpp"
#include "registry/s3_answers.hpp"
#include "registry/s3_client.hpp"
#include "registry/s3_keys.hpp"
#include "registry/s3_signature.hpp"

namespace caisson::registry {
namespace {

using ::testing::HasSubstr;

// S3 API reference, "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk", the examples.
const S3Keys example_keys{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", ""};
const TimestampNs example_time = parse_rfc3339("2013-05-24T00:00:00Z").value();

S3Request example(std::string method, std::string path) {
  S3Request request;
  request.method = std::move(method);
  request.host = "examplebucket.s3.amazonaws.com";
  request.path = std::move(path);
  request.payload_hash = sha256_of("").hex();
  return request;
}

std::string signature_of(const S3Request& request) {
  for (const auto& [name, value] : sign_headers(request, example_keys, "us-east-1", example_time))
    if (name == "Authorization") return std::string(split_last(value, '=').after);
  return {};
}

TEST(s3_signature, is_amazons_in_its_examples) {
  auto get = example("GET", "/test.txt");
  get.headers.emplace_back("range", "bytes=0-9");
  EXPECT_EQ(signature_of(get), "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
  auto put = example("PUT", "/test$file.text");
  put.headers = {{"date", "Fri, 24 May 2013 00:00:00 GMT"}, {"x-amz-storage-class", "REDUCED_REDUNDANCY"}};
  put.payload_hash = sha256_of("Welcome to Amazon S3.").hex();
  EXPECT_EQ(signature_of(put), "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
  auto lifecycle = example("GET", "/");
  lifecycle.query.emplace_back("lifecycle", "");
  EXPECT_EQ(signature_of(lifecycle), "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
  auto list = example("GET", "/");
  list.query = {{"prefix", "J"}, {"max-keys", "2"}};
  EXPECT_EQ(signature_of(list), "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

// "Authenticating Requests: Using Query Parameters", its example.
TEST(s3_signature, of_a_query_is_amazons_in_its_example) {
  EXPECT_THAT(sign_query(example("GET", "/test.txt"), example_keys, "us-east-1", example_time, 86400),
              ::testing::EndsWith("&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"));
}

TEST(s3_signature, covers_what_is_sent_as_it_is_sent) {
  EXPECT_EQ(s3_encode("a b/ü@:+~", true), "a%20b/%C3%BC%40%3A%2B~");
  EXPECT_EQ(s3_encode("a/b", false), "a%2Fb");
  EXPECT_EQ(s3_query({{"b", "2 3"}, {"a", ""}}), "a=&b=2%203");
  auto keys = example_keys;
  keys.session_token = "temporary";
  const auto headers = sign_headers(example("GET", "/x"), keys, "eu-central-1", example_time);
  EXPECT_THAT(headers, ::testing::Contains(std::pair<std::string, std::string>("x-amz-security-token", "temporary")));
  EXPECT_THAT(headers.back().second, HasSubstr("SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"));
  EXPECT_THAT(headers.back().second, HasSubstr("/20130524/eu-central-1/s3/aws4_request,"));
}

TEST(s3_answers, are_read_with_their_entities_and_namespaces) {
  auto page = parse_s3_page(R"(<?xml version="1.0" encoding="UTF-8"?>
    <s:ListBucketResult xmlns:s='http://s3.amazonaws.com/doc/2006-03-01/'><!-- x --><IsTruncated>true</IsTruncated><NextContinuationToken>t&amp;&#x74;</NextContinuationToken>
    <Contents><Key>a&lt;b</Key><LastModified>2024-05-06T07:08:09.123Z</LastModified><Size>5</Size><Owner/></Contents></s:ListBucketResult>)");
  ASSERT_TRUE(page.ok()) << page.error().text();
  EXPECT_EQ(page->next, "t&t");
  ASSERT_EQ(page->objects.size(), 1U);
  EXPECT_EQ(page->objects[0].key, "a<b");
  EXPECT_EQ(page->objects[0].size_bytes, 5U);
  EXPECT_EQ(page->objects[0].written, parse_rfc3339("2024-05-06T07:08:09.123Z").value());
  EXPECT_EQ(parse_s3_fault("<Error><Code>SlowDown</Code><Message>Reduce</Message></Error>").code, "SlowDown");
  EXPECT_EQ(parse_s3_fault("<html>no</html>").code, "");
}

TEST(s3_answers, that_are_none_are_refused) {
  for (const char* text : {"", "<", "<a>", "<a></b>", "<a/><b/>", "<!DOCTYPE x [<!ENTITY e 'e'>]><ListBucketResult>&e;</ListBucketResult>", "<ListBucketResult>&e;</ListBucketResult>",
                           "<ListBucketResult>&#0;</ListBucketResult>", "<ListBucketResult>&#xD800;</ListBucketResult>", "<ListBucketResult>&#x110000;</ListBucketResult>",
                           "<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>", "<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
                           "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", "<Error/>", "<a b=c/>"})
    EXPECT_FALSE(parse_s3_page(text).ok()) << text;
  std::string deep;
  for (int i = 0; i < 10'000; ++i) deep += "<a>";
  EXPECT_FALSE(parse_s3_page(deep).ok());
}

TEST(s3_keys, come_from_the_section_that_is_named) {
  const char* text = "# x\n[default]\naws_access_key_id = A\naws_secret_access_key=B=\n\n[ other ]\naws_access_key_id=C\naws_secret_access_key = D\naws_session_token = E\nregion = x\n";
  EXPECT_EQ(parse_s3_keys(text, "default")->secret_key, "B=");
  EXPECT_EQ(parse_s3_keys(text, "other")->access_key, "C");
  EXPECT_EQ(parse_s3_keys(text, "other")->session_token, "E");
  EXPECT_THAT(parse_s3_keys(text, "third").error().text(), HasSubstr("[third]"));
  const auto refused = parse_s3_keys("[default]\nsecret", "default");
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().text(), ::testing::Not(HasSubstr("secret")));
}

TEST(s3_addresses, put_the_bucket_where_the_service_wants_it) {
  S3Settings settings;
  settings.endpoint = "https://s3.example:9000";
  settings.bucket = "images";
  EXPECT_EQ(s3_base_url(settings).value(), "https://s3.example:9000");
  settings.path_style = false;
  EXPECT_EQ(s3_base_url(settings).value(), "https://images.s3.example:9000");
  for (const char* endpoint : {"", "s3.example", "ftp://s3.example", "https://", "https://a/b", "https://user@host", "https://a?b"}) {
    settings.endpoint = endpoint;
    EXPECT_FALSE(s3_base_url(settings).ok()) << endpoint;
  }
  settings.endpoint = "https://s3.example";
  for (const char* bucket : {"", "ab", "A-B-C", "a/b", "a_b"}) {
    settings.bucket = bucket;
    EXPECT_FALSE(s3_base_url(settings).ok()) << bucket;
  }
}

class Client : public ::testing::Test {
 protected:
  void SetUp() override {
    settings.endpoint = "http://127.0.0.1:9000";
    settings.bucket = "bucket";
    settings.prefix = "p/";
    settings.keys = example_keys;
    settings.part_bytes = 10;
    client = S3Client::create(settings, bucket.send(), {3, 1, 2}).value();
    file = linux::memfd_create("test").value();
  }
  S3Settings settings;
  FakeBucket bucket;
  std::unique_ptr<S3Client> client;
  UniqueFd file;
};

image::FetchReply status_reply(std::uint32_t status, std::string body = "") {
  image::FetchReply reply;
  reply.ok = true;
  reply.status = status;
  reply.body = std::move(body);
  return reply;
}

TEST_F(Client, keeps_objects_below_its_prefix_and_lists_all_pages) {
  for (const char* key : {"a/1", "a/2", "a/3", "a/4", "b/1"}) ASSERT_TRUE(client->put(key, key).ok());
  EXPECT_TRUE(bucket.objects.count("p/a/1"));
  EXPECT_EQ(client->list("a/")->size(), 4U);
  EXPECT_TRUE(*client->has("b/1"));
  EXPECT_EQ(**client->get("b/1"), "b/1");
  ASSERT_TRUE(client->remove("b/1").ok());
  EXPECT_FALSE(*client->has("b/1"));
  EXPECT_FALSE(client->get("b/1")->has_value());
  EXPECT_THAT(client->presigned_url("a/1", 60), ::testing::StartsWith("http://127.0.0.1:9000/bucket/p/a/1?X-Amz-Algorithm=AWS4-HMAC-SHA256&"));
}

TEST_F(Client, what_is_large_travels_in_parts_and_a_range_comes_alone) {
  const std::string bytes = "0123456789abcdefghijABCDE";
  ASSERT_TRUE(linux::write_all(file.get(), bytes).ok());
  ASSERT_TRUE(client->put_file("big", file.get(), bytes.size()).ok());
  EXPECT_EQ(bucket.objects["p/big"], bytes);
  EXPECT_EQ(bucket.count("PUT", "partNumber="), 3U);
  EXPECT_TRUE(bucket.uploads.empty());
  auto part = linux::memfd_create("part").value();
  ASSERT_TRUE(client->get_file("big", part.get(), 8, 4, false).ok());
  std::string got(4, '\0');
  ASSERT_TRUE(linux::pread(part.get(), got, 0).ok());
  EXPECT_EQ(got, "89ab");
}

TEST_F(Client, an_upload_that_fails_is_given_up_and_leftovers_are_too) {
  ASSERT_TRUE(linux::write_all(file.get(), "0123456789abcdefghij").ok());
  bucket.fault = [](const image::FetchRequest& request) -> std::optional<Result<image::FetchReply>> {
    if (request.name.find("partNumber=2") == std::string::npos) return std::nullopt;
    return Result<image::FetchReply>(status_reply(403, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"));
  };
  const auto refused = client->put_file("big", file.get(), 20);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind(), ErrorKind::denied);
  EXPECT_THAT(refused.error().text(), HasSubstr("bucket bucket at http://127.0.0.1:9000: PUT p/big: status 403 AccessDenied: no"));
  EXPECT_TRUE(bucket.uploads.empty());
  EXPECT_TRUE(bucket.objects.empty());
  bucket.uploads["p/blobs/x killed"];
  bucket.uploads["other/y theirs"];
  EXPECT_EQ(client->abort_leftovers("blobs/").value(), 1U);
  EXPECT_EQ(bucket.uploads.size(), 1U);
}

TEST_F(Client, faults_that_pass_are_waited_for_and_others_are_not) {
  int faults = 0;
  bucket.fault = [&](const image::FetchRequest&) -> std::optional<Result<image::FetchReply>> {
    ++faults;
    if (faults == 1) return Result<image::FetchReply>(status_reply(503, "<Error><Code>SlowDown</Code></Error>"));
    if (faults == 2) return Result<image::FetchReply>(Error(ErrorKind::unavailable, "cut"));
    return std::nullopt;
  };
  ASSERT_TRUE(client->put("a", "a").ok());
  EXPECT_EQ(faults, 3);
  bucket.fault = [&](const image::FetchRequest&) { return std::optional(Result<image::FetchReply>(status_reply(503))); };
  bucket.seen.clear();
  EXPECT_EQ(client->put("a", "a").error().kind(), ErrorKind::timeout);
  EXPECT_EQ(bucket.seen.size(), 3U);
  bucket.fault = [&](const image::FetchRequest&) { return std::optional(Result<image::FetchReply>(status_reply(403, "<Error><Code>SignatureDoesNotMatch</Code></Error>"))); };
  bucket.seen.clear();
  const auto refused = client->get("a");
  EXPECT_EQ(refused.error().kind(), ErrorKind::denied);
  EXPECT_THAT(refused.error().hint(), HasSubstr("keys"));
  EXPECT_EQ(bucket.seen.size(), 1U);
}

TEST_F(Client, a_completion_that_ends_with_an_error_or_whose_answer_was_lost_is_told_apart) {
  ASSERT_TRUE(linux::write_all(file.get(), "0123456789abcdefghij").ok());
  auto on_completion = [&](auto act) {
    bucket.fault = [act](const image::FetchRequest& request) -> std::optional<Result<image::FetchReply>> {
      if (request.method != "POST" || request.name.find("uploadId=") == std::string::npos) return std::nullopt;
      return act();
    };
  };
  on_completion([] { return std::optional(Result<image::FetchReply>(status_reply(200, "<Error><Code>InternalError</Code></Error>"))); });
  EXPECT_FALSE(client->put_file("big", file.get(), 20).ok());
  on_completion([&] {
    bucket.objects["p/big"] = "0123456789abcdefghij";
    return std::optional(Result<image::FetchReply>(status_reply(404, "<Error><Code>NoSuchUpload</Code></Error>")));
  });
  EXPECT_TRUE(client->put_file("big", file.get(), 20).ok());
}

}  // namespace
}  // namespace caisson::registry
