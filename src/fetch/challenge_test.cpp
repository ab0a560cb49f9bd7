// The small texts of registries, as they are, as they may be, and as nobody should send them.
#include "fetch/challenge.hpp"

#include <gtest/gtest.h>

#include "fetch/authorizer.hpp"
#include "fetch/registry.hpp"

namespace caisson::fetch {
namespace {

TEST(challenges, docker_hubs_is_read) {
  auto found = parse_challenges(R"(Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/alpine:pull")");
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].scheme, "bearer");
  EXPECT_EQ(found[0].get("realm"), "https://auth.docker.io/token");
  EXPECT_EQ(found[0].get("service"), "registry.docker.io");
  EXPECT_EQ(found[0].get("scope"), "repository:library/alpine:pull");
  EXPECT_EQ(found[0].get("error"), "");
}

TEST(challenges, several_may_stand_in_one_header) {
  auto found = parse_challenges(R"(Basic realm="a, \"b\"" , BEARER realm=https://x/t, Service = "s",Negotiate)");
  ASSERT_EQ(found.size(), 3U);
  EXPECT_EQ(found[0].get("realm"), "a, \"b\"");
  EXPECT_EQ(found[1].scheme, "bearer");
  EXPECT_EQ(found[1].get("realm"), "https://x/t");
  EXPECT_EQ(found[1].get("service"), "s");
  EXPECT_EQ(found[2].scheme, "negotiate");
}

TEST(challenges, nonsense_gives_none) {
  for (const char* text : {"", ",,,", "\"", "=\"\"", "()"}) EXPECT_TRUE(parse_challenges(text).empty()) << text;
  auto open_quote = parse_challenges("Bearer realm=\"no end");
  ASSERT_EQ(open_quote.size(), 1U);
  EXPECT_EQ(open_quote[0].get("realm"), "no end");
}

TEST(content_range, says_what_came) {
  auto range = parse_content_range("bytes 100-199/200");
  ASSERT_TRUE(range.has_value());
  EXPECT_EQ(range->first, 100U);
  EXPECT_EQ(range->last, 199U);
  EXPECT_EQ(range->total, 200U);
  EXPECT_FALSE(parse_content_range("bytes 0-9/*")->total.has_value());
  for (const char* text : {"", "bytes */200", "bytes 9-0/10", "bytes 0-10/10", "0-9/10", "bytes 0-9", "bytes -1-9/10", "bytes 0-99999999999999999999/1"})
    EXPECT_FALSE(parse_content_range(text).has_value()) << text;
}

TEST(upload_range, is_how_much_the_registry_has) {
  EXPECT_EQ(parse_upload_range("0-1023"), 1024U);
  EXPECT_EQ(parse_upload_range("bytes=0-1"), 2U);
  // distribution 2.8 says this of an upload of which nothing came yet
  EXPECT_EQ(parse_upload_range("0-0"), 0U);
  for (const char* text : {"", "5-9", "0-", "0-18446744073709551615", "x"}) EXPECT_EQ(parse_upload_range(text), 0U) << text;
}

TEST(retry_after, seconds_are_understood_and_dates_are_not) {
  EXPECT_EQ(parse_retry_after(" 7 "), 7U);
  EXPECT_FALSE(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT").has_value());
  EXPECT_FALSE(parse_retry_after("-1").has_value());
}

TEST(urls, are_cut_into_what_matters) {
  auto url = parse_url("HTTPS://Host:5000/v2/x?y=1#z");
  ASSERT_TRUE(url.ok()) << url.error().text();
  EXPECT_EQ(url->text(), "https://Host:5000/v2/x?y=1");
  EXPECT_EQ(url->host_without_port(), "Host");
  EXPECT_EQ(parse_url("http://[::1]:80")->host_without_port(), "[::1]");
  EXPECT_EQ(parse_url("http://h")->path, "/");
}

TEST(urls, that_could_mislead_are_refused) {
  for (const char* text : {"", "ftp://h/", "file:///etc/passwd", "//h/x", "http://", "http:///x", "http://user@h/", "https://h\\@evil/", "http://h/a b", "http://h/\r\nX: y"})
    EXPECT_FALSE(parse_url(text).ok()) << text;
}

TEST(locations, are_resolved_against_the_request) {
  auto base = *parse_url("https://r:5000/v2/a/blobs/uploads/?mount=x");
  EXPECT_EQ(resolve_location(base, "/v2/a/blobs/uploads/1?s=2")->text(), "https://r:5000/v2/a/blobs/uploads/1?s=2");
  EXPECT_EQ(resolve_location(base, "http://other/u")->text(), "http://other/u");
  EXPECT_EQ(resolve_location(base, "//other/u")->text(), "https://other/u");
  EXPECT_EQ(resolve_location(base, "1?s=2")->text(), "https://r:5000/v2/a/blobs/uploads/1?s=2");
  EXPECT_EQ(resolve_location(base, "?s=2")->text(), "https://r:5000/v2/a/blobs/uploads/?s=2");
  EXPECT_FALSE(resolve_location(base, "").ok());
  EXPECT_FALSE(resolve_location(base, "gopher://x/").ok());
}

TEST(links, lead_to_the_next_page) {
  EXPECT_EQ(next_link(R"(</v2/a/tags/list?n=2&last=b>; rel="next")"), "/v2/a/tags/list?n=2&last=b");
  EXPECT_EQ(next_link(R"(</x>; rel="prev")"), "");
  EXPECT_EQ(next_link("garbage"), "");
}

TEST(registry_errors, become_dockers_words) {
  auto error = parse_registry_error(R"({"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"1"}}]})");
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code, "MANIFEST_UNKNOWN");
  EXPECT_EQ(error->text, "manifest unknown: manifest unknown");
}

TEST(registry_errors, cannot_write_on_the_users_terminal) {
  auto error = parse_registry_error("{\"errors\":[{\"code\":\"DENIED\",\"message\":\"\\u001b[2J" + std::string(5000, 'x') + "\"}]}");
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->text.find('\x1b'), std::string::npos);
  EXPECT_LE(error->text.size(), 500U);
}

TEST(registry_errors, other_bodies_are_none) {
  for (const char* text : {"", "<html>", "[]", "{}", R"({"errors":[]})", R"({"errors":{}})", R"({"errors":[1]})", R"({"errors":[{"code":1}]})"})
    EXPECT_FALSE(parse_registry_error(text).has_value()) << text;
}

TEST(token_answers, have_a_token_under_either_name) {
  EXPECT_EQ(parse_token_answer(R"({"token":"a","expires_in":60})")->token, "a");
  auto answer = parse_token_answer(R"({"access_token":"b","refresh_token":"r"})");
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->token, "b");
  EXPECT_EQ(answer->refresh_token, "r");
}

TEST(token_answers, that_would_end_the_header_are_refused) {
  for (const char* text : {"", "{}", R"({"token":""})", R"({"token":"a\r\nX-Other: b"})", R"({"token":"a b"})", R"({"token":5})"})
    EXPECT_FALSE(parse_token_answer(text).ok()) << text;
}

TEST(percent_encoding, leaves_only_what_is_safe_everywhere) { EXPECT_EQ(percent_encode("a-b_c.d~e:/?&= \xff"), "a-b_c.d~e%3A%2F%3F%26%3D%20%FF"); }

}  // namespace
}  // namespace caisson::fetch
