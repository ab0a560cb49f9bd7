// policy.json: what is read, which part of it holds, and which names and signatures satisfy it.
#include "trust/policy.hpp"

#include <gtest/gtest.h>

#include "linux/file.hpp"
#include "linux/tree.hpp"
#include "trust/bundle.hpp"
#include "trust/judge.hpp"
#include "trust/notation.hpp"
#include "trust/policy_file.hpp"
#include "trust/simple_signing.hpp"
#include "trust/test_support.hpp"

namespace caisson::trust {
namespace {

using namespace testing_support;
using Texts = std::vector<std::string>;

Reference named(const std::string& text) {
  auto reference = parse_reference(text);
  EXPECT_TRUE(reference.ok()) << text;
  if (reference->digest) reference->tag.clear();
  return *reference;
}

const char* const whole_policy = R"({
  "default": [{"type": "reject"}],
  "transports": {
    "docker": {
      "": [{"type": "insecureAcceptAnything"}],
      "r.example:5000": [{"type": "reject"}],
      "r.example:5000/team": [{"type": "sigstoreSigned", "keyPath": "/k.pub", "signedIdentity": {"type": "matchRepository"}}],
      "r.example:5000/team/app": [{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": ["/a", "/b"]},
                                  {"type": "sigstoreSigned", "keyDatas": ["QQ==", "Qg=="], "signedIdentity": {"type": "exactRepository", "dockerRepository": "docker.io/library/app"}}],
      "r.example:5000/team/app:1": [{"type": "signedBaseLayer", "baseLayerIdentity": {"type": "matchExact"}}],
      "*.example": [{"type": "sigstoreSigned", "keyData": "QQ==", "signedIdentity": {"type": "remapIdentity", "prefix": "a.example/x", "signedPrefix": "b.example/y"}}],
      "n.test/x": [{"type": "notationSigned", "caPath": "/ca.pem", "trustedIdentities": ["x509.subject: C=XX, O=y"]}]
    },
    "docker-archive": {"": [{"type": "insecureAcceptAnything"}]}
  }
})";

TEST(policy, is_read_and_written_whole) {
  auto policy = parse_policy(whole_policy, "policy.json");
  ASSERT_TRUE(policy.ok()) << policy.error().text();
  const auto& docker = policy->transports.at("docker");
  EXPECT_EQ(docker.size(), 7U);
  const auto& app = docker.at("r.example:5000/team/app");
  ASSERT_EQ(app.size(), 2U);
  EXPECT_EQ(app[0].kind, RequirementKind::signed_by);
  EXPECT_EQ(app[0].keys[1].path, "/b");
  EXPECT_EQ(app[1].keys[1].data, "B");
  EXPECT_EQ(app[1].identity.kind, IdentityKind::exact_repository);
  auto again = parse_policy(write_policy(*policy), "policy.json");
  ASSERT_TRUE(again.ok()) << again.error().text();
  EXPECT_EQ(write_policy(*again), write_policy(*policy));
}

TEST(policy, that_is_not_strictly_right_is_refused_by_name) {
  auto with = [](const std::string& requirement) { return R"({"default":[)" + requirement + "]}"; };
  for (const auto& [text, words] : std::vector<std::pair<std::string, std::string>>{
           {"", "JSON"},
           {"{}", "default"},
           {R"({"default":[]})", "empty list"},
           {R"({"default":{}})", "list of requirements"},
           {with("{}"), "type"},
           {with(R"({"type":"signedby"})"), "signedby"},
           {with(R"({"type":"reject","more":1})"), "more"},
           {with(R"({"type":"reject","type":"insecureAcceptAnything"})"), "twice"},
           {R"({"default":[{"type":"reject"}],"default":[{"type":"reject"}]})", "twice"},
           {R"({"default":[{"type":"reject"}],"transport":{}})", "transport"},
           {R"({"default":[{"type":"reject"}],"transports":{"docker":{"x":[]}}})", "docker.x"},
           {R"({"default":[{"type":"reject"}],"transports":{"docker":{"x":[{"type":"reject"}],"x":[{"type":"reject"}]}}})", "twice"},
           {R"({"default":[{"type":"reject"}],"transports":{"docker":[]}})", "docker"},
           {with(R"({"type":"sigstoreSigned"})"), "keyPath"},
           {with(R"({"type":"sigstoreSigned","keyPath":"/a","keyData":"QQ=="})"), "exactly one"},
           {with(R"({"type":"sigstoreSigned","keyPaths":[]})"), "exactly one"},
           {with(R"({"type":"sigstoreSigned","keyPath":"a"})"), "absolute"},
           {with(R"({"type":"sigstoreSigned","keyData":"*"})"), "base64"},
           {with(R"({"type":"sigstoreSigned","keyPath":"/a","signedIdentity":{"type":"any"}})"), "any"},
           {with(R"({"type":"sigstoreSigned","keyPath":"/a","signedIdentity":{"type":"matchExact","dockerReference":"x:1"}})"), "dockerReference"},
           {with(R"({"type":"sigstoreSigned","keyPath":"/a","signedIdentity":{"type":"exactReference","dockerReference":"x"}})"), "no reference with a tag"},
           {with(R"({"type":"sigstoreSigned","keyPath":"/a","signedIdentity":{"type":"exactRepository","dockerRepository":"x"}})"), "full repository name"},
           {with(R"({"type":"sigstoreSigned","keyPath":"/a","signedIdentity":{"type":"exactRepository","dockerRepository":"docker.io/library/x:1"}})"), "full repository name"},
           {with(R"({"type":"sigstoreSigned","keyPath":"/a","signedIdentity":{"type":"remapIdentity","prefix":"a b","signedPrefix":"b"}})"), "neither a host"},
           {with(R"({"type":"sigstoreSigned","keyPath":"/a","signedIdentity":{"type":"remapIdentity","prefix":"a.b"}})"), "signedPrefix"},
           {with(R"({"type":"sigstoreSigned","fulcio":{"caPath":"/a","oidcIssuer":"x","subjectEmail":"y"},"rekorPublicKeyPath":"/r"})"), "keyless"},
           {with(R"({"type":"sigstoreSigned","keyPath":"/a","rekorPublicKeyPath":"/r"})"), "rekorPublicKeyPath"},
           {with(R"({"type":"signedBy","keyPath":"/a"})"), "keyType"},
           {with(R"({"type":"signedBy","keyType":"X509Certificates","keyPath":"/a"})"), "X509Certificates"},
           {with(R"({"type":"signedBy","keyType":"GPGKeys","keyDatas":["QQ=="]})"), "keyDatas"},
           {with(R"({"type":"signedBaseLayer"})"), "baseLayerIdentity"},
           {with(R"({"type":"notationSigned","caPath":"/a"})"), "trustedIdentities"},
       }) {
    auto policy = parse_policy(text, "policy.json");
    ASSERT_FALSE(policy.ok()) << text;
    EXPECT_NE(policy.error().text().find(words), std::string::npos) << text << "\n" << policy.error().text();
    EXPECT_NE(policy.error().text().find("policy.json"), std::string::npos) << policy.error().text();
  }
}

TEST(scopes, go_from_the_image_to_the_host_and_to_the_domains_above) {
  EXPECT_EQ(scopes_of(named("r.sub.example:5000/a/b:1")), (Texts{"r.sub.example:5000/a/b:1", "r.sub.example:5000/a/b", "r.sub.example:5000/a", "r.sub.example:5000", "*.sub.example", "*.example"}));
  EXPECT_EQ(scopes_of(named("alpine")), (Texts{"docker.io/library/alpine:latest", "docker.io/library/alpine", "docker.io/library", "docker.io", "*.io"}));
  EXPECT_EQ(scopes_of(named("x:1@sha256:" + std::string(64, 'a')))[0], "docker.io/library/x@sha256:" + std::string(64, 'a'));
}

TEST(scopes, the_narrowest_of_the_transport_holds) {
  auto policy = *parse_policy(whole_policy, "policy.json");
  auto scope = [&](const std::string& name) { return choose(policy, "docker", named(name)).scope; };
  EXPECT_EQ(scope("r.example:5000/team/app:1"), "docker r.example:5000/team/app:1");
  EXPECT_EQ(scope("r.example:5000/team/app:2"), "docker r.example:5000/team/app");
  EXPECT_EQ(scope("r.example:5000/team/app/deep"), "docker r.example:5000/team/app");
  EXPECT_EQ(scope("r.example:5000/team/application"), "docker r.example:5000/team");
  EXPECT_EQ(scope("r.example:5000/x"), "docker r.example:5000");
  EXPECT_EQ(scope("r.example/x"), "docker *.example");
  EXPECT_EQ(scope("alpine"), "docker \"\"");
  EXPECT_EQ(choose(policy, "docker-archive", {}).scope, "docker-archive \"\"");
  EXPECT_EQ(choose(policy, "oci-archive", {}).scope, "default");
}

TEST(identities, are_compared_in_their_full_form) {
  auto passes = [](IdentityKind kind, const std::string& wanted, const std::string& claimed, const std::string& reference = "", const std::string& prefix = "") {
    return check_identity({kind, reference, prefix}, named(wanted), claimed).ok();
  };
  const std::string digest = "@sha256:" + std::string(64, 'a');
  using enum IdentityKind;
  EXPECT_TRUE(passes(match_repo_digest_or_exact, "alpine:3", "docker.io/library/alpine:3"));
  EXPECT_FALSE(passes(match_repo_digest_or_exact, "alpine:3", "alpine:4"));
  EXPECT_FALSE(passes(match_repo_digest_or_exact, "alpine", "alpine"));  // a bare name is not "latest"
  EXPECT_TRUE(passes(match_repo_digest_or_exact, "alpine" + digest, "alpine:4"));
  EXPECT_TRUE(passes(match_repo_digest_or_exact, "alpine" + digest, "alpine"));
  EXPECT_FALSE(passes(match_repo_digest_or_exact, "alpine" + digest, "busybox:4"));
  EXPECT_TRUE(passes(match_exact, "alpine:3", "alpine:3"));
  EXPECT_FALSE(passes(match_exact, "alpine" + digest, "alpine:3"));
  EXPECT_TRUE(passes(match_repository, "localhost:5000/x:1", "localhost:5000/x"));
  EXPECT_FALSE(passes(match_repository, "localhost:5000/x:1", "localhost/x"));
  EXPECT_TRUE(passes(exact_reference, "anything:9", "r.example/y:1", "r.example/y:1"));
  EXPECT_FALSE(passes(exact_reference, "r.example/y:1", "r.example/y", "r.example/y:1"));
  EXPECT_TRUE(passes(exact_repository, "anything:9", "r.example/y:1", "r.example/y"));
  EXPECT_FALSE(passes(exact_repository, "r.example/y:1", "r.example/z:1", "r.example/y"));
  EXPECT_TRUE(passes(remap, "mirror.example/x/a:1", "origin.example/y/a:1", "mirror.example/x", "origin.example/y"));
  EXPECT_FALSE(passes(remap, "mirror.example/x/a:1", "mirror.example/x/a:1", "mirror.example/x", "origin.example/y"));
  EXPECT_TRUE(passes(remap, "mirror.example/xy/a:1", "mirror.example/xy/a:1", "mirror.example/x", "origin.example/y"));
  EXPECT_TRUE(passes(remap, "mirror.example/x:1", "origin.example/y:1", "mirror.example/x", "origin.example/y"));
  EXPECT_TRUE(passes(remap, "mirror.example:5000/x:1", "mirror.example:5000/x:1", "mirror.example", "origin.example"));  // a port makes another host
  EXPECT_TRUE(passes(remap, "mirror.example/x:1", "origin.example/x:1", "mirror.example", "origin.example"));
  EXPECT_FALSE(passes(match_repository, "x:1", "Not A Name"));
  EXPECT_FALSE(passes(match_repository, "x:1", ""));
  EXPECT_TRUE(passes(any, "x:1", ""));
}

// --- judging ---------------------------------------------------------------------------------------------------

struct Case {
  PrivateKey key = *PrivateKey::generate(KeyKind::p256);
  Subject subject{"docker", named("r.example/x:1"), {digest_of_digit('a'), digest_of_digit('b')}};
  std::vector<FoundSignature> signatures;

  FoundSignature cosign(const PrivateKey& signer, char digit = 'a', const std::string& name = "r.example/x:1") {
    auto payload = write_simple_signing({digest_of_digit(digit), name});
    return {SignatureFormat::cosign, payload, *signer.sign(sigstore_algorithm(signer.kind()), payload)};
  }
  FoundSignature bundle(const PrivateKey& signer, char digit = 'a', const std::string& name = "r.example/x:1", std::string_view predicate = sign_predicate) {
    return {SignatureFormat::bundle, *write_bundle(signer, *write_statement(digest_of_digit(digit), name, predicate, "")), ""};
  }
  Requirement by(const PrivateKey& signer) {
    Requirement out;
    out.kind = RequirementKind::sigstore_signed;
    out.keys.push_back({"", *signer.public_pem()});
    return out;
  }
  std::string outcome(const Requirements& requirements) {
    auto verify = [](const std::vector<std::string>& keyrings, std::string_view message) -> Result<std::string> {
      if (keyrings.at(0) != "ring") return Error(ErrorKind::denied, "not by this ring");
      return std::string(message);
    };
    auto verdict = judge({"docker r.example", &requirements}, "policy.json", subject, signatures, verify, test_now);
    return verdict.ok() ? join(verdict->reasons, " | ") : verdict.error().text();
  }
};

TEST(judgement, accepts_signatures_of_the_image_and_of_the_index_that_names_it) {
  for (char digit : {'a', 'b'}) {
    Case c;
    c.signatures = {c.cosign(c.key, digit)};
    EXPECT_TRUE(c.outcome({c.by(c.key)}).starts_with("sigstoreSigned: cosign signature of r.example/x:1 by P-256 key")) << c.outcome({c.by(c.key)});
    c.signatures = {c.bundle(c.key, digit)};
    EXPECT_TRUE(c.outcome({c.by(c.key)}).starts_with("sigstoreSigned: bundle about r.example/x:1")) << c.outcome({c.by(c.key)});
  }
}

TEST(judgement, refuses_and_names_image_digest_scope_and_requirement) {
  Case c;
  EXPECT_EQ(c.outcome({c.by(c.key)}), "image r.example/x:1 (" + digest_of_digit('a').text() + ") is refused by policy.json: scope docker r.example: sigstoreSigned: no signature of this kind was found");
  const auto other = *PrivateKey::generate(KeyKind::p256);
  auto refused_for = [&](FoundSignature signature, const std::string& words) {
    c.signatures = {std::move(signature)};
    auto outcome = c.outcome({c.by(c.key)});
    EXPECT_NE(outcome.find("is refused"), std::string::npos) << outcome;
    EXPECT_NE(outcome.find(words), std::string::npos) << outcome;
  };
  refused_for(c.cosign(other), "none of the policy's keys");
  refused_for(c.bundle(other), "none of the policy's keys");
  refused_for(c.cosign(c.key, 'c'), "of another image");
  refused_for(c.bundle(c.key, 'c'), "of another image");
  refused_for(c.cosign(c.key, 'a', "r.example/y:1"), "signed as \"r.example/y:1\"");
  refused_for(c.bundle(c.key, 'a', "r.example/y:1"), "signed as \"r.example/y:1\"");
  refused_for(c.bundle(c.key, 'a', ""), "signed as \"\"");
  refused_for(c.bundle(c.key, 'a', "r.example/x:1", "https://spdx.dev/Document"), "attestation");
  auto bent = c.cosign(c.key);
  bent.document.replace(bent.document.find("r.example"), 1, "s");
  refused_for(bent, "none of the policy's keys");
}

TEST(judgement, needs_every_requirement) {
  Case c;
  const auto other = *PrivateKey::generate(KeyKind::ed25519);
  c.signatures = {c.cosign(c.key)};
  EXPECT_NE(c.outcome({c.by(c.key), c.by(other)}).find("refused"), std::string::npos);
  c.signatures.push_back(c.cosign(other));
  EXPECT_EQ(c.outcome({c.by(c.key), c.by(other)}).find("refused"), std::string::npos);
  Requirement reject;
  reject.kind = RequirementKind::reject;
  EXPECT_NE(c.outcome({c.by(c.key), reject}).find("reject: the policy rejects"), std::string::npos);
  Requirement base;
  base.kind = RequirementKind::signed_base_layer;
  EXPECT_NE(c.outcome({base}).find("signedBaseLayer"), std::string::npos);
  Requirement accept;
  accept.kind = RequirementKind::accept;
  EXPECT_EQ(c.outcome({accept}), "insecureAcceptAnything");
}

TEST(judgement, takes_any_of_several_keys_and_no_unreadable_one) {
  Case c;
  const auto other = *PrivateKey::generate(KeyKind::rsa);
  c.signatures = {c.cosign(c.key)};
  auto both = c.by(other);
  both.keys.push_back(c.by(c.key).keys[0]);
  EXPECT_EQ(c.outcome({both}).find("refused"), std::string::npos);
  both.keys.push_back({"/missing.pub", ""});
  EXPECT_NE(c.outcome({both}).find("/missing.pub"), std::string::npos);
  auto nonsense = c.by(c.key);
  nonsense.keys[0] = {"/k.pub", "no key"};
  EXPECT_NE(c.outcome({nonsense}).find("/k.pub"), std::string::npos);
}

TEST(judgement, of_images_without_a_registry_finds_no_name) {
  Case c;
  c.signatures = {c.cosign(c.key)};
  c.subject.transport = "docker-archive";
  c.subject.reference.reset();
  EXPECT_NE(c.outcome({c.by(c.key)}).find("has no name"), std::string::npos);
}

TEST(judgement, believes_openpgp_through_the_verifier_only) {
  Case c;
  auto payload = write_simple_signing({digest_of_digit('a'), "r.example/x:1"});
  c.signatures = {{SignatureFormat::gpg, payload, ""}};
  Requirement by_ring;
  by_ring.kind = RequirementKind::signed_by;
  by_ring.keys.push_back({"", "ring"});
  EXPECT_NE(c.outcome({by_ring}).find("atomic container signature"), std::string::npos);  // cosign's type is another
  c.signatures[0].document = payload.replace(payload.find(cosign_type), cosign_type.size(), gpg_type);
  EXPECT_EQ(c.outcome({by_ring}), "signedBy: OpenPGP signature of r.example/x:1");
  by_ring.keys[0].data = "another";
  EXPECT_NE(c.outcome({by_ring}).find("not by this ring"), std::string::npos);
}

TEST(judgement, of_notation_lasts_as_long_as_the_signature) {
  Case c;
  auto pki = make_pki();
  c.signatures = {{SignatureFormat::notation, *write_notation(pki.key, pki.chain(), {"m", digest_of_digit('a'), 1}, test_now, test_now + hour_ns), ""}};
  Requirement requirement;
  requirement.kind = RequirementKind::notation_signed;
  requirement.keys.push_back({"", pki.root});
  requirement.identities = {"*"};
  Requirements requirements{requirement};
  auto verdict = judge({"default", &requirements}, "p", c.subject, c.signatures, {}, test_now);
  ASSERT_TRUE(verdict.ok()) << verdict.error().text();
  EXPECT_EQ(verdict->valid_until, test_now + hour_ns);
  EXPECT_FALSE(judge({"default", &requirements}, "p", c.subject, c.signatures, {}, test_now + hour_ns).ok());
  requirements[0].keys[0].data = make_pki().root;
  EXPECT_FALSE(judge({"default", &requirements}, "p", c.subject, c.signatures, {}, test_now).ok());
}

TEST(host_policy, changes_its_digest_with_every_file_it_names) {
  char folder[] = "/tmp/caisson-test-policy-XXXXXX";
  ASSERT_NE(::mkdtemp(folder), nullptr);
  const std::string path = std::string(folder) + "/policy.json";
  const std::string key = std::string(folder) + "/k.pub";
  PolicyPlaces places{"", {std::string(folder) + "/absent.json", path}};
  auto none = read_host_policy(places);
  ASSERT_TRUE(none.ok());
  EXPECT_EQ((*none)->path, "");
  EXPECT_TRUE(accepts_anything((*none)->policy));
  ASSERT_TRUE(linux::write_file(path, R"({"default":[{"type":"sigstoreSigned","keyPath":")" + key + R"("}]})").ok());
  auto without_key = read_host_policy(places);
  ASSERT_TRUE(without_key.ok()) << without_key.error().text();
  EXPECT_EQ((*without_key)->path, path);
  EXPECT_FALSE(accepts_anything((*without_key)->policy));
  ASSERT_TRUE(linux::write_file(key, "one").ok());
  auto with_key = read_host_policy(places);
  ASSERT_TRUE(linux::write_file(key, "two").ok());
  auto with_other = read_host_policy(places);
  EXPECT_EQ((*with_other)->policy.fallback[0].keys[0].data, "two");
  EXPECT_NE((*without_key)->digest, (*with_key)->digest);
  EXPECT_NE((*with_key)->digest, (*with_other)->digest);
  ASSERT_TRUE(linux::write_file(path, "{").ok());
  EXPECT_FALSE(read_host_policy(places).ok());
  EXPECT_FALSE(read_host_policy({std::string(folder) + "/absent.json", {}}).ok());  // one that was chosen has to be there
  ignore(linux::remove_tree(folder));  // a folder of /tmp that is left over harms nobody
}

}  // namespace
}  // namespace caisson::trust
