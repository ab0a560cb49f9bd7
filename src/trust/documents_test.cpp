// The signed documents: simple signing, bundles with their statements, notation's envelopes.
#include <gtest/gtest.h>

#include "trust/bundle.hpp"
#include "trust/notation.hpp"
#include "trust/simple_signing.hpp"
#include "trust/test_support.hpp"

namespace caisson::trust {
namespace {

using namespace testing_support;

const std::string a_digest = "sha256:" + std::string(64, 'a');

TEST(simple_signing, is_written_as_cosign_writes_it) {
  EXPECT_EQ(write_simple_signing({digest_of_digit('a'), "localhost:5000/x"}),
            R"({"critical":{"identity":{"docker-reference":"localhost:5000/x"},"image":{"docker-manifest-digest":")" + a_digest +
                R"("},"type":"cosign container image signature"},"optional":null})");
}

TEST(simple_signing, is_read_with_what_tools_add_to_optional) {
  for (const char* optional : {"null", "{}", R"({"creator":"x","timestamp":1,"more":{"a":[1]}})"}) {
    auto document = parse_simple_signing(R"({"critical":{"type":"atomic container signature","image":{"docker-manifest-digest":")" + a_digest +
                                             R"("},"identity":{"docker-reference":"a/b:1"}},"optional":)" + optional + "}",
                                         gpg_type);
    ASSERT_TRUE(document.ok()) << document.error().text();
    EXPECT_EQ(document->docker_reference, "a/b:1");
    EXPECT_EQ(document->manifest.text(), a_digest);
  }
}

TEST(simple_signing, that_is_not_exactly_so_is_refused) {
  const std::string image = R"("image":{"docker-manifest-digest":")" + a_digest + R"("})";
  const std::string identity = R"("identity":{"docker-reference":"x"})";
  const std::string type = R"("type":"cosign container image signature")";
  auto critical = [](const std::string& members) { return R"({"critical":{)" + members + R"(},"optional":null})"; };
  ASSERT_TRUE(parse_simple_signing(critical(type + "," + image + "," + identity), cosign_type).ok());
  for (const auto& text : {std::string(), std::string("[]"), std::string("null"), std::string("{}"), critical(""), critical(type + "," + image), critical(type + "," + identity),
                           critical(image + "," + identity), critical(type + "," + image + "," + identity + R"(,"more":1)"), critical(type + "," + type + "," + image + "," + identity),
                           critical(type + "," + image + "," + image + "," + identity), critical(type + R"(,"image":{"docker-manifest-digest":"sha256:abc"},)" + identity),
                           critical(type + R"(,"image":{},)" + identity), critical(type + R"(,"image":"x",)" + identity), critical(type + "," + image + R"(,"identity":{"docker-reference":5})"),
                           critical(type + "," + image + R"(,"identity":{"docker-reference":"x","y":1})"), critical(R"("type":"atomic container signature",)" + image + "," + identity),
                           R"({"critical":{)" + type + "," + image + "," + identity + R"(},"optional":5})",
                           R"({"critical":{)" + type + "," + image + "," + identity + R"(},"optional":null,"third":1})",
                           // The same name, written with an escape.
                           critical(type + R"(,"typ\u0065":"x",)" + image + "," + identity)})
    EXPECT_FALSE(parse_simple_signing(text, cosign_type).ok()) << text;
}

TEST(dsse, encodes_lengths_and_texts_as_the_protocol_says) {
  EXPECT_EQ(dsse_encoding("http://example.com/HelloWorld", "hello world"), "DSSEv1 29 http://example.com/HelloWorld 11 hello world");  // the protocol's example
  EXPECT_EQ(dsse_encoding("", ""), "DSSEv1 0  0 ");
}

TEST(bundles, carry_a_statement_and_the_signature_over_its_encoding) {
  auto key = *PrivateKey::generate(KeyKind::p256);
  auto statement = write_statement(digest_of_digit('a'), "r.example/x", sign_predicate, "");
  ASSERT_TRUE(statement.ok());
  auto text = write_bundle(key, *statement);
  ASSERT_TRUE(text.ok()) << text.error().text();
  auto bundle = parse_bundle(*text);
  ASSERT_TRUE(bundle.ok()) << bundle.error().text();
  EXPECT_EQ(bundle->payload, *statement);
  EXPECT_FALSE(bundle->is_keyless);
  auto public_key = *PublicKey::parse(*key.public_pem());
  EXPECT_EQ(bundle->key_hint, key_hint(public_key));
  EXPECT_TRUE(verifies_sigstore(public_key, dsse_encoding(bundle->payload_type, bundle->payload), bundle->signature));
  EXPECT_FALSE(verifies_sigstore(public_key, bundle->payload, bundle->signature));
  auto read = parse_statement(bundle->payload);
  ASSERT_TRUE(read.ok()) << read.error().text();
  ASSERT_EQ(read->subjects.size(), 1U);
  EXPECT_EQ(read->subjects[0].name, "r.example/x");
  EXPECT_EQ(read->subjects[0].digest.at("sha256"), std::string(64, 'a'));
  EXPECT_EQ(read->predicate_type, sign_predicate);
}

TEST(attestations, count_for_the_key_that_made_them_and_the_image_they_are_about) {
  auto key = *PrivateKey::generate(KeyKind::p256);
  auto other = *PrivateKey::generate(KeyKind::ed25519);
  auto keys_of = [](const PrivateKey& one) {
    std::vector<PublicKey> keys;
    keys.push_back(*PublicKey::parse(*one.public_pem()));
    return keys;
  };
  const auto statement = *write_statement(digest_of_digit('a'), "r.example/x", spdx_predicate, R"({"spdxVersion":"SPDX-2.3"})");
  const auto bundle = *parse_bundle(*write_bundle(key, statement));
  auto good = verify_attestation(bundle, keys_of(key), {digest_of_digit('b'), digest_of_digit('a')});
  ASSERT_TRUE(good.ok()) << good.error().text();
  EXPECT_EQ(good->statement.predicate_type, spdx_predicate);
  EXPECT_EQ(good->statement.predicate, R"({"spdxVersion":"SPDX-2.3"})");
  EXPECT_EQ(verify_attestation(bundle, keys_of(other), {digest_of_digit('a')}).error().text(), "none of the keys made it");
  EXPECT_EQ(verify_attestation(bundle, {}, {digest_of_digit('a')}).error().text(), "none of the keys made it");
  EXPECT_EQ(verify_attestation(bundle, keys_of(key), {digest_of_digit('b')}).error().text(), "it is about another image");
  auto bent = bundle;
  bent.payload[10] ^= 1;
  EXPECT_FALSE(verify_attestation(bent, keys_of(key), {digest_of_digit('a')}).ok());
  // Under cosign's tag the envelope stands alone.
  const auto envelope = parse_envelope(concat(R"({"payloadType":"application/vnd.in-toto+json","payload":")", base64_encode(statement), R"(","signatures":[{"keyid":"","sig":")",
                                              base64_encode(bundle.signature), R"("}]})"));
  ASSERT_TRUE(envelope.ok()) << envelope.error().text();
  EXPECT_TRUE(verify_attestation(*envelope, keys_of(key), {digest_of_digit('a')}).ok());
  EXPECT_FALSE(parse_envelope("{}").ok());
}

TEST(bundles, that_are_not_understood_are_refused) {
  const std::string type = R"("mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json")";
  const std::string key = R"("verificationMaterial":{"publicKey":{"hint":"h"}})";
  const std::string envelope = R"("dsseEnvelope":{"payload":"e30=","payloadType":"t","signatures":[{"sig":"AA=="}]})";
  ASSERT_TRUE(parse_bundle("{" + type + "," + key + "," + envelope + "}").ok());
  auto keyless = parse_bundle("{" + type + R"(,"verificationMaterial":{"certificate":{"rawBytes":"AA=="}},)" + envelope + "}");
  ASSERT_TRUE(keyless.ok());
  EXPECT_TRUE(keyless->is_keyless);
  for (const auto& text :
       {std::string("{}"), std::string("["), "{" + key + "," + envelope + "}", "{" + type + "," + envelope + "}", "{" + type + "," + key + "}",
        R"({"mediaType":"application/vnd.dev.sigstore.bundle+json;version=0.2",)" + key + "," + envelope + "}", "{" + type + "," + key + "," + key + "," + envelope + "}",
        "{" + type + R"(,"verificationMaterial":{"publicKey":{"hint":"h"},"certificate":{}},)" + envelope + "}", "{" + type + R"(,"verificationMaterial":{},)" + envelope + "}",
        "{" + type + "," + key + R"(,"dsseEnvelope":{"payload":"e30=","payloadType":"t","signatures":[]}})",
        "{" + type + "," + key + R"(,"dsseEnvelope":{"payload":"e30=","payloadType":"t","signatures":[{"sig":"AA=="},{"sig":"AA=="}]}})",
        "{" + type + "," + key + R"(,"dsseEnvelope":{"payload":"e30=","payloadType":"t","signatures":[{"sig":"*"}]}})",
        "{" + type + "," + key + R"(,"dsseEnvelope":{"payloadType":"t","signatures":[{"sig":"AA=="}]}})",
        "{" + type + "," + key + R"(,"messageSignature":{"messageDigest":{},"signature":"AA=="}})"})
    EXPECT_FALSE(parse_bundle(text).ok()) << text;
  for (const char* text : {"{}", R"({"_type":"x","subject":[{}],"predicateType":"p"})", R"({"_type":"https://in-toto.io/Statement/v1","predicateType":"p"})",
                           R"({"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":5}}],"predicateType":"p"})",
                           R"({"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"x"}]})"})
    EXPECT_FALSE(parse_statement(text).ok()) << text;
}

NotationTarget a_target() { return {"application/vnd.oci.image.manifest.v1+json", digest_of_digit('a'), 7}; }

TEST(notation, signs_with_every_kind_of_key_that_it_knows) {
  for (auto kind : {KeyKind::rsa, KeyKind::p256, KeyKind::p384, KeyKind::p521}) {
    auto pki = make_pki(kind);
    auto text = write_notation(pki.key, pki.chain(), a_target(), test_now, test_now + hour_ns);
    ASSERT_TRUE(text.ok()) << text.error().text();
    auto envelope = parse_notation(*text);
    ASSERT_TRUE(envelope.ok()) << envelope.error().text();
    EXPECT_EQ(envelope->target, digest_of_digit('a'));
    EXPECT_EQ(envelope->target_bytes, 7U);
    EXPECT_EQ(envelope->signing_time, test_now);
    auto signer = verify_notation(*envelope, {pki.root, {"x509.subject: C=XX, ST=Y, O=example"}}, test_now);
    ASSERT_TRUE(signer.ok()) << to_string(kind) << signer.error().text();
    EXPECT_EQ(signer->valid_until, test_now + hour_ns);
    EXPECT_EQ(signer->subject.at("CN"), "signer");
  }
  auto pki = make_pki(KeyKind::ed25519);
  EXPECT_FALSE(write_notation(pki.key, pki.chain(), a_target(), test_now, 0).ok());
}

TEST(notation, is_believed_from_trusted_identities_before_its_expiry_only) {
  auto pki = make_pki();
  auto envelope = *parse_notation(*write_notation(pki.key, pki.chain(), a_target(), test_now, test_now + hour_ns));
  EXPECT_TRUE(verify_notation(envelope, {pki.root, {"x509.subject: C=no, O=no", "*"}}, test_now).ok());
  EXPECT_FALSE(verify_notation(envelope, {pki.root, {"x509.subject: C=XX, ST=Y, O=other"}}, test_now).ok());
  EXPECT_FALSE(verify_notation(envelope, {pki.root, {}}, test_now).ok());
  EXPECT_FALSE(verify_notation(envelope, {pki.root, {"*", "nonsense"}}, test_now).ok());
  EXPECT_FALSE(verify_notation(envelope, {pki.root, {"*"}}, test_now + hour_ns).ok());
  EXPECT_FALSE(verify_notation(envelope, {make_pki().root, {"*"}}, test_now).ok());
  EXPECT_FALSE(verify_notation(envelope, {"", {"*"}}, test_now).ok());
  EXPECT_FALSE(verify_notation(envelope, {pki.root, {"*"}}, std::int64_t{1'950'000'000} * 1'000'000'000).ok());  // the certificates have ended
}

TEST(notation, follows_the_key_and_not_the_header) {
  auto pki = make_pki();
  auto envelope = *parse_notation(*write_notation(pki.key, pki.chain(), a_target(), test_now, 0));
  envelope.algorithm = "PS256";
  EXPECT_FALSE(verify_notation(envelope, {pki.root, {"*"}}, test_now).ok());
  envelope.algorithm = "none";
  EXPECT_FALSE(verify_notation(envelope, {pki.root, {"*"}}, test_now).ok());
  envelope.algorithm = "ES256";
  EXPECT_TRUE(verify_notation(envelope, {pki.root, {"*"}}, test_now).ok());
  envelope.signed_text += "x";
  EXPECT_FALSE(verify_notation(envelope, {pki.root, {"*"}}, test_now).ok());
}

TEST(notation, does_not_sign_under_a_certificate_of_another_key) {
  auto pki = make_pki();
  EXPECT_FALSE(write_notation(pki.key, make_pki().chain(), a_target(), test_now, 0).ok());
  EXPECT_FALSE(write_notation(pki.key, "", a_target(), test_now, 0).ok());
}

TEST(certificates, that_may_not_sign_are_refused) {
  auto refusal = [](const CertificateWish& wish) {
    auto pki = make_pki(KeyKind::p256, wish);
    auto chain = certificates_of_pem(pki.chain());
    auto signer = verify_chain(*chain, pki.root, test_now);
    return signer.ok() ? std::string() : signer.error().text();
  };
  EXPECT_EQ(refusal({}), "");
  CertificateWish wish;
  wish.extended_key_usage = "";
  EXPECT_NE(refusal(wish).find("code signing"), std::string::npos);
  wish.extended_key_usage = "serverAuth";
  EXPECT_NE(refusal(wish).find("code signing"), std::string::npos);
  wish.extended_key_usage = "codeSigning,serverAuth";
  EXPECT_NE(refusal(wish).find("code signing"), std::string::npos);
  wish = {};
  wish.key_usage = "digitalSignature";
  EXPECT_NE(refusal(wish).find("key usage"), std::string::npos);
  wish.key_usage = "critical,keyEncipherment";
  EXPECT_NE(refusal(wish).find("key usage"), std::string::npos);
  wish.key_usage = "";
  EXPECT_NE(refusal(wish).find("key usage"), std::string::npos);
  wish = {};
  wish.ends_s = 1'750'000'000;
  EXPECT_NE(refusal(wish).find("expired"), std::string::npos);
  wish = {};
  wish.begins_s = 1'850'000'000;
  EXPECT_NE(refusal(wish).find("not yet valid"), std::string::npos);
  wish = {};
  wish.uses_sha1 = true;
  EXPECT_NE(refusal(wish), "");
  wish = {};
  wish.is_authority = true;
  wish.key_usage = "critical,digitalSignature,keyCertSign";
  EXPECT_NE(refusal(wish), "");
}

TEST(certificates, need_a_chain_of_authorities) {
  auto pki = make_pki();
  // A signer that plays the authority for another: its own certificate does not allow that.
  auto key = *PrivateKey::generate(KeyKind::p256);
  auto below = make_certificate({}, key, pki.key, pki.signer);
  auto chain = certificates_of_pem(below + pki.signer + pki.root);
  EXPECT_FALSE(verify_chain(*chain, pki.root, test_now).ok());
  EXPECT_FALSE(verify_chain({}, pki.root, test_now).ok());
  EXPECT_FALSE(verify_chain({"x"}, pki.root, test_now).ok());
  EXPECT_FALSE(verify_chain(std::vector<std::string>(17, "x"), pki.root, test_now).ok());
  // Without the root in the envelope the trust store's own closes the chain.
  auto alone = certificates_of_pem(pki.signer);
  EXPECT_TRUE(verify_chain(*alone, pki.root, test_now).ok());
}

std::string b64(const std::string& text) { return base64_encode(text); }

TEST(notation, envelopes_that_are_not_understood_are_refused) {
  const std::string payload = R"({"targetArtifact":{"mediaType":"m","digest":")" + a_digest + R"(","size":1}})";
  auto head = [](const std::string& more) {
    return R"({"alg":"ES256","cty":"application/vnd.cncf.notary.payload.v1+json","crit":["io.cncf.notary.signingScheme"],"io.cncf.notary.signingScheme":"notary.x509")" + more + "}";
  };
  auto envelope = [](const std::string& head_text, const std::string& payload_text, const std::string& more = "") {
    return R"({"payload":")" + b64(payload_text) + R"(","protected":")" + b64(head_text) + R"(","header":{"x5c":["AAAA"]},"signature":"AAAA")" + more + "}";
  };
  ASSERT_TRUE(parse_notation(envelope(head(""), payload)).ok()) << parse_notation(envelope(head(""), payload)).error().text();
  for (const auto& text : std::vector<std::string>{
        "{}", "[]", envelope(head(""), payload, R"(,"more":1)"), envelope(head(""), "{}"), envelope(head(""), R"({"targetArtifact":{"digest":"x"}})"),
        envelope(head(R"(,"alg":"none")"), payload),  // twice
        envelope(R"({"alg":"ES256"})", payload), envelope(head(R"(,"io.cncf.notary.expiry":"2027-01-01T00:00:00Z")"), payload),  // not critical
        envelope(head(R"(,"io.cncf.notary.signingTime":"yesterday")"), payload),
        envelope(R"({"alg":"ES256","cty":"application/vnd.cncf.notary.payload.v1+json","crit":["io.cncf.notary.signingScheme","new"],"io.cncf.notary.signingScheme":"notary.x509"})", payload),
        envelope(R"({"alg":"ES256","cty":"application/vnd.cncf.notary.payload.v1+json","crit":[],"io.cncf.notary.signingScheme":"notary.x509"})", payload),
        envelope(R"({"alg":"ES256","cty":"x","crit":["io.cncf.notary.signingScheme"],"io.cncf.notary.signingScheme":"notary.x509"})", payload),
        envelope(R"({"alg":"ES256","cty":"application/vnd.cncf.notary.payload.v1+json","crit":["io.cncf.notary.signingScheme"],"io.cncf.notary.signingScheme":"notary.x509.signingAuthority"})", payload),
        R"({"payload":"*","protected":"e30","header":{"x5c":["AAAA"]},"signature":"AAAA"})", R"({"payload":")" + b64(payload) + R"(","protected":")" + b64(head("")) + R"(","signature":"AAAA"})"})
    EXPECT_FALSE(parse_notation(text).ok()) << text;
}

TEST(identities, are_parts_of_the_subject) {
  const std::map<std::string, std::string> subject{{"C", "US"}, {"ST", "WA"}, {"O", "example"}, {"CN", "x"}};
  EXPECT_TRUE(*matches_identity(subject, "*"));
  EXPECT_TRUE(*matches_identity(subject, "x509.subject: C=US, ST=WA, O=example"));
  EXPECT_TRUE(*matches_identity(subject, "x509.subject:O=example"));
  EXPECT_FALSE(*matches_identity(subject, "x509.subject: C=US, O=exampl"));
  EXPECT_FALSE(*matches_identity(subject, "x509.subject: OU=y"));
  for (const char* text : {"", "C=US", "x509.subject:", "x509.subject: C", "x509.subject: C=US,,O=x", "x509.subject: O=a\\,b"}) EXPECT_FALSE(matches_identity(subject, text).ok()) << text;
}

}  // namespace
}  // namespace caisson::trust
