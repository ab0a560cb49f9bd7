// Fuzzes what signers write: simple signing documents, bundles and their statements, notation's envelopes and their certificates, OpenPGP armor.
#include "fuzz/fuzz.hpp"
#include "trust/bundle.hpp"
#include "trust/judge.hpp"
#include "trust/notation.hpp"
#include "trust/openpgp.hpp"
#include "trust/simple_signing.hpp"

namespace {

using namespace caisson;

// RFC 8410, 10.1: a key whose other half nobody here has.
constexpr std::string_view somebodys_key = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";

/// Whatever the bytes are, nobody's key has signed them.
void demand_refusal(trust::RequirementKind kind, trust::SignatureFormat format, std::string_view text) {
  trust::Requirement requirement;
  requirement.kind = kind;
  requirement.keys.push_back({"", std::string(somebodys_key)});
  requirement.identities = {"*"};
  requirement.identity.kind = trust::IdentityKind::any;
  const trust::Requirements requirements{requirement};
  trust::Subject subject;
  subject.digests.push_back(sha256_of("image"));
  auto no_gpg = [](const std::vector<std::string>&, std::string_view) -> Result<std::string> { return Error(ErrorKind::denied, "nobody"); };
  auto verdict = trust::judge({"default", &requirements}, "policy", subject, {{format, std::string(text), std::string(text)}}, no_gpg, 1);
  fuzz::demand(!verdict.ok(), "no key has signed this");
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = fuzz::text_of(data, size);
  if (auto document = trust::parse_simple_signing(text, trust::cosign_type); document.ok()) {
    auto again = trust::parse_simple_signing(trust::write_simple_signing(*document), trust::cosign_type);
    fuzz::demand(again.ok() && again->manifest == document->manifest, "what was read is written");
  }
  if (auto bundle = trust::parse_bundle(text); bundle.ok()) ignore(trust::parse_statement(bundle->payload));
  if (auto envelope = trust::parse_envelope(text); envelope.ok()) {
    std::vector<PublicKey> keys;
    keys.push_back(PublicKey::parse(somebodys_key).value());
    fuzz::demand(!trust::verify_attestation(*envelope, keys, {sha256_of("image")}).ok(), "no key has signed this");
  }
  ignore(trust::parse_statement(text));
  ignore(trust::parse_notation(text));
  ignore(trust::take_armor_off(text));
  (void)trust::is_good_status(text);
  ignore(trust::verify_chain({std::string(text)}, text, 1));
  demand_refusal(trust::RequirementKind::sigstore_signed, trust::SignatureFormat::cosign, text);
  demand_refusal(trust::RequirementKind::sigstore_signed, trust::SignatureFormat::bundle, text);
  demand_refusal(trust::RequirementKind::notation_signed, trust::SignatureFormat::notation, text);
  return 0;
}
