// Pull, push, login, search and distribution as clients ask for them, over an engine that only remembers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "api/api.hpp"
#include "api/fake_builder.hpp"
#include "api/fake_engine.hpp"
#include "base/json.hpp"
#include "base/strings.hpp"

namespace caisson::api {
namespace {

using testing::Contains;
using testing::HasSubstr;

class Registry : public testing::Test {
 protected:
  FakeEngine engine;
  FakeBuilder builder;
  wire::Handler handler = create_api(engine, builder, ApiOptions{});

  FakeExchange call(std::string method, std::string_view target, std::string body = "", wire::Headers headers = {}) {
    FakeExchange exchange(std::move(method), target, std::move(body), std::move(headers));
    handler(exchange);
    return exchange;
  }
  static std::string credentials(std::string_view text) { return base64_encode(text); }
};

TEST_F(Registry, a_pull_takes_tag_or_digest_and_the_credentials_of_the_header) {
  auto answer = call("POST", "/images/create?fromImage=docker.io/library/alpine&tag=3", "", {{"X-Registry-Auth", credentials(R"({"username":"u","password":"p"})")}});
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(engine.calls, Contains("pull docker.io/library/alpine:3 as u"));
  EXPECT_THAT(answer.answer, HasSubstr(R"({"status":"Pulling from library/alpine","id":"latest"})"));
  EXPECT_THAT(answer.answer, HasSubstr(R"("progressDetail":{"current":5,"total":10})"));
  std::string digest = "sha256:" + std::string(64, 'a');
  call("POST", "/images/create?fromImage=localhost:5000/x&tag=" + digest);
  EXPECT_THAT(engine.calls, Contains("pull localhost:5000/x@" + digest + " as "));
  call("POST", "/images/create?fromImage=localhost:5000/x:1");
  EXPECT_THAT(engine.calls, Contains("pull localhost:5000/x:1 as "));
}

TEST_F(Registry, a_pull_without_a_tag_means_all_of_them) {
  call("POST", "/images/create?fromImage=localhost:5000/x");
  EXPECT_THAT(engine.calls, Contains("pull localhost:5000/x all as "));
}

TEST_F(Registry, a_verification_takes_the_policys_words_or_asks_the_policy) {
  auto answer = call("POST", "/caisson/v1/images/localhost:5000/team/x:1/verify", "", {{"X-Registry-Auth", credentials(R"({"username":"u","password":"p"})")}});
  EXPECT_EQ(answer.status, 200) << answer.answer;
  EXPECT_EQ(engine.verify_request.reference, "localhost:5000/team/x:1");
  EXPECT_EQ(engine.verify_request.credentials.username, "u");
  EXPECT_FALSE(engine.verify_request.requirements.has_value());
  EXPECT_THAT(answer.answer, HasSubstr(R"("scope":"docker r.example")"));
  const std::string wish = R"({"requirements":[{"type":"sigstoreSigned","keyData":"QQ=="}],"anyIdentity":true})";
  EXPECT_EQ(call("POST", "/caisson/v1/images/x/verify", wish, {{"Content-Type", "application/json"}}).status, 200);
  ASSERT_TRUE(engine.verify_request.requirements.has_value());
  EXPECT_EQ(engine.verify_request.requirements->at(0).identity.kind, trust::IdentityKind::any);
  EXPECT_EQ(call("POST", "/caisson/v1/images/x/verify", R"({"requirements":[{"type":"x"}]})", {{"Content-Type", "application/json"}}).status, 400);
  engine.verify_outcome = Error(ErrorKind::denied, "no signature");
  EXPECT_EQ(call("POST", "/caisson/v1/images/x/verify").status, 403);
}

TEST_F(Registry, a_signature_comes_with_its_format_and_no_key) {
  const std::string target = "/caisson/v1/images/localhost:5000/x@sha256:" + std::string(64, 'a') + "/signatures";
  auto answer = call("POST", target, R"({"format":"cosign","document":"QQ==","signature":"Qg=="})", {{"Content-Type", "application/json"}});
  EXPECT_EQ(answer.status, 201) << answer.answer;
  EXPECT_EQ(engine.sign_request.reference, "localhost:5000/x@sha256:" + std::string(64, 'a'));
  EXPECT_EQ(engine.sign_request.signature.document, "A");
  EXPECT_EQ(engine.sign_request.signature.signature, "B");
  for (const char* body : {"{}", R"({"format":"OpenPGP","document":"QQ==","signature":""})", R"({"format":"cosign","document":"*","signature":""})", R"({"format":5})"})
    EXPECT_EQ(call("POST", target, body, {{"Content-Type", "application/json"}}).status, 400) << body;
}

TEST_F(Registry, credentials_that_cannot_be_read_are_none) {
  for (const char* header : {"", "e30=", "!!", "W10="}) call("POST", "/images/create?fromImage=x&tag=1", "", {{"X-Registry-Auth", header}});
  EXPECT_EQ(std::count(engine.calls.begin(), engine.calls.end(), "pull x:1 as "), 4);
  call("POST", "/images/create?fromImage=y&tag=1", "", {{"X-Registry-Auth", credentials(R"({"auth":"dTpw"})")}});
  EXPECT_THAT(engine.calls, Contains("pull y:1 as u"));
}

TEST_F(Registry, errors_before_the_first_line_have_dockers_status_and_later_ones_are_lines) {
  engine.stream_status = Error(ErrorKind::not_found, "manifest for x:1 not found");
  EXPECT_EQ(call("POST", "/images/create?fromImage=x&tag=1").status, 404);
  engine.stream_status = Error(ErrorKind::unavailable, "no such host");
  EXPECT_EQ(call("POST", "/images/create?fromImage=x&tag=1").status, 500);
  engine.stream_status = Error(ErrorKind::denied, "no basic auth credentials");
  EXPECT_EQ(call("POST", "/images/create?fromImage=x&tag=1").status, 500);
  engine.stream_status = {};
  engine.next_status = Error(ErrorKind::corrupt, "another digest");
  auto answer = call("POST", "/images/create?fromImage=x&tag=1");
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.answer, HasSubstr(R"("error":"another digest")"));
}

TEST_F(Registry, a_push_ends_with_what_the_registry_has_now) {
  auto answer = call("POST", "/images/localhost:5000/t/al/push?tag=1");
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(engine.calls, Contains("push localhost:5000/t/al:1"));
  EXPECT_THAT(answer.answer, HasSubstr(R"("aux":{"Tag":"latest","Digest":"sha256:)"));
  call("POST", "/images/localhost:5000/t/al/push");
  EXPECT_THAT(engine.calls, Contains("push localhost:5000/t/al all"));
}

TEST_F(Registry, a_compression_that_is_named_is_of_all_layers_unless_it_is_not_forced) {
  for (const auto& [query, said] : {std::pair("compression=zstd", "\"zstd\" usual all"), std::pair("compression=gzip&compression-level=9&force-compression=0", "\"gzip\" 9 new"),
                                    std::pair("compression-level=3", "\"\" 3 new")}) {
    EXPECT_EQ(call("POST", concat("/images/al/push?tag=1&", query)).status, 200);
    EXPECT_THAT(engine.calls, Contains(concat("push al:1 as ", said)));
    EXPECT_EQ(call("GET", concat("/images/alpine/get?", query)).answer, concat("tar of alpine as ", said));
    EXPECT_EQ(call("GET", concat("/images/get?names=alpine&", query)).answer, concat("tar of alpine as ", said));
  }
  EXPECT_EQ(call("POST", "/images/al/push?tag=1&compression-level=much").status, 400);
}

TEST_F(Registry, a_login_answers_with_the_token_or_401) {
  const std::string body = R"({"username":"u","password":"p","serveraddress":"r.example"})";
  auto good = call("POST", "/auth", body, {{"Content-Type", "application/json"}});
  EXPECT_EQ(good.status, 200);
  EXPECT_THAT(good.answer, HasSubstr(R"({"IdentityToken":"refresh","Status":"Login Succeeded"})"));
  EXPECT_THAT(engine.calls, Contains("login u r.example"));
  engine.next_status = Error(ErrorKind::denied, "unauthorized");
  EXPECT_EQ(call("POST", "/auth", body, {{"Content-Type", "application/json"}}).status, 401);
  engine.next_status = Error(ErrorKind::unavailable, "no such host");
  EXPECT_EQ(call("POST", "/auth", body, {{"Content-Type", "application/json"}}).status, 500);
}

TEST_F(Registry, a_search_is_limited_and_filtered) {
  EXPECT_THAT(call("GET", "/images/search?term=alp").answer, HasSubstr(R"("name":"alpine")"));
  EXPECT_THAT(engine.calls, Contains("search alp 25"));
  EXPECT_EQ(call("GET", R"(/images/search?term=alp&filters={"is-official":["false"]})").answer, "[]\n");
  EXPECT_EQ(call("GET", R"(/images/search?term=alp&filters={"stars":["8"]})").answer, "[]\n");
  EXPECT_EQ(call("GET", "/images/search?term=alp&limit=101").status, 400);
  EXPECT_EQ(call("GET", "/images/search").status, 400);
}

TEST_F(Registry, distribution_tells_descriptor_and_platforms) {
  auto answer = call("GET", "/distribution/localhost:5000/t/al:1/json");
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(engine.calls, Contains("distribution localhost:5000/t/al:1"));
  EXPECT_THAT(answer.answer, HasSubstr(R"("Platforms":[{"architecture":"amd64","os":"linux"}])"));
}

}  // namespace
}  // namespace caisson::api
