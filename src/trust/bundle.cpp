// sigstore/protobuf-specs bundle.proto 0.3, DSSE protocol 1.0, in-toto Statement.
#include "trust/bundle.hpp"

#include <algorithm>

#include "base/strings.hpp"
#include "trust/strict_json.hpp"

namespace caisson::trust {

namespace {

Result<std::string> needed_base64(const JsonView& object, std::string_view key) {
  auto member = TRY_PLAIN(object.at(key));
  if (!member.is_set()) return member.error("is missing");
  std::string text;
  TRY_PLAIN(member.read(text));
  auto bytes = base64_decode(text);
  if (!bytes.ok()) return member.error("is not base64");
  return bytes;
}

Status read_material(const JsonView& material, Bundle& out) {
  if (!material.is_set()) return material.error("is missing");
  auto key = TRY_PLAIN(material.at("publicKey"));
  auto certificate = TRY_PLAIN(material.at("certificate"));
  auto chain = TRY_PLAIN(material.at("x509CertificateChain"));
  if (key.is_set() && (certificate.is_set() || chain.is_set())) return material.error("has both a key and a certificate");
  out.is_keyless = certificate.is_set() || chain.is_set();
  if (!key.is_set() && !out.is_keyless) return material.error("has neither publicKey nor certificate");
  if (key.is_set()) TRY_PLAIN(key.read("hint", out.key_hint));
  return {};
}

Status read_envelope(const JsonView& envelope, Bundle& out) {
  TRY_PLAIN(envelope.read("payloadType", out.payload_type));
  out.payload = TRY_PLAIN(needed_base64(envelope, "payload"));
  auto signatures = TRY_PLAIN(envelope.at("signatures"));
  // bundle.proto: "the envelope MUST contain exactly one signature". Cosign writes no more under its tag either.
  if (!signatures.is_set() || !signatures.raw().is_array() || signatures.raw().get_array().size() != 1) return signatures.error("want exactly one signature");
  return signatures.for_each_element([&](const JsonView& signature) -> Status {
    out.signature = TRY_PLAIN(needed_base64(signature, "sig"));
    return {};
  });
}

bool is_about(const StatementSubject& subject, const std::vector<Digest>& digests) {
  return std::any_of(digests.begin(), digests.end(), [&](const Digest& digest) {
    const auto hex = subject.digest.find(std::string(digest.algorithm()));
    return hex != subject.digest.end() && hex->second == digest.hex();
  });
}

}  // namespace

static Status from_json(const JsonView& view, StatementSubject& out) {
  TRY_PLAIN(view.read("name", out.name));
  return view.read("digest", out.digest);
}

Result<Bundle> parse_bundle(std::string_view text) {
  auto document = TRY_PLAIN(parse_strict_json(text, "bundle"));
  JsonView view(document, "bundle");
  std::string type;
  TRY_PLAIN(view.read("mediaType", type));
  if (type != media_type::bundle) return Error(ErrorKind::unsupported, concat("bundle: its mediaType is \"", type, "\"; only ", media_type::bundle, " is read"));
  Bundle out;
  TRY_PLAIN(read_material(TRY_PLAIN(view.at("verificationMaterial")), out));
  auto envelope = TRY_PLAIN(view.at("dsseEnvelope"));
  if (!envelope.is_set()) return Error(ErrorKind::unsupported, "bundle: it holds no DSSE envelope; signatures of bare messages name no image");
  TRY_PLAIN(read_envelope(envelope, out));
  return out;
}

Result<Bundle> parse_envelope(std::string_view text) {
  auto document = TRY_PLAIN(parse_strict_json(text, "envelope"));
  Bundle out;
  TRY_PLAIN(read_envelope(JsonView(document, "envelope"), out));
  return out;
}

Result<Attestation> verify_attestation(const Bundle& bundle, const std::vector<PublicKey>& keys, const std::vector<Digest>& digests) {
  if (bundle.is_keyless) return Error(ErrorKind::denied, "it is keyless, and keys are asked for");
  if (bundle.payload_type != media_type::in_toto) return Error(ErrorKind::denied, concat("it holds \"", bundle.payload_type, "\", no in-toto statement"));
  const auto signed_bytes = dsse_encoding(bundle.payload_type, bundle.payload);
  const auto key = std::find_if(keys.begin(), keys.end(), [&](const PublicKey& candidate) { return verifies_sigstore(candidate, signed_bytes, bundle.signature); });
  if (key == keys.end()) return Error(ErrorKind::denied, "none of the keys made it");
  Attestation out;
  out.statement = TRY_PLAIN(parse_statement(bundle.payload));
  out.signer = concat(to_string(key->kind()), " key ", key_hint(*key));
  const auto& subjects = out.statement.subjects;
  if (std::none_of(subjects.begin(), subjects.end(), [&](const auto& subject) { return is_about(subject, digests); })) return Error(ErrorKind::denied, "it is about another image");
  return out;
}

Result<Statement> parse_statement(std::string_view text) {
  auto document = TRY_PLAIN(parse_strict_json(text, "statement"));
  JsonView view(document, "statement");
  std::string type;
  TRY_PLAIN(view.read("_type", type));
  if (type != statement_type && type != "https://in-toto.io/Statement/v0.1") return view.error(concat("_type \"", type, "\" is no in-toto statement"));
  Statement out;
  TRY_PLAIN(view.read("subject", out.subjects));
  TRY_PLAIN(view.read("predicateType", out.predicate_type));
  if (out.subjects.empty()) return view.error("subject is missing");
  if (out.predicate_type.empty()) return view.error("predicateType is missing");
  auto predicate = TRY_PLAIN(view.at("predicate"));
  if (predicate.is_set()) out.predicate = to_text(predicate.raw());
  return out;
}

std::string dsse_encoding(std::string_view payload_type, std::string_view payload) {
  return concat("DSSEv1 ", payload_type.size(), " ", payload_type, " ", payload.size(), " ", payload);
}

Result<std::string> write_statement(const Digest& manifest, std::string_view name, std::string_view predicate_type, std::string_view predicate) {
  json::object subject;
  if (!name.empty()) subject["name"] = name;
  subject["digest"] = json::object{{manifest.algorithm(), manifest.hex()}};
  json::object out;
  out["_type"] = statement_type;
  out["subject"] = json::array{std::move(subject)};
  out["predicateType"] = predicate_type;
  out["predicate"] = predicate.empty() ? json::value(json::object()) : TRY_PLAIN(parse_json(predicate, "predicate"));
  return to_text(out);
}

Result<std::string> write_bundle(const PrivateKey& key, std::string_view statement) {
  auto public_key = TRY_PLAIN(PublicKey::parse(TRY_PLAIN(key.public_pem())));
  auto signature = TRY_PLAIN(key.sign(sigstore_algorithm(key.kind()), dsse_encoding(media_type::in_toto, statement)));
  json::object envelope;
  envelope["payload"] = base64_encode(statement);
  envelope["payloadType"] = media_type::in_toto;
  envelope["signatures"] = json::array{json::object{{"sig", base64_encode(signature)}}};
  json::object out;
  out["mediaType"] = media_type::bundle;
  out["verificationMaterial"] = json::object{{"publicKey", json::object{{"hint", key_hint(public_key)}}}};
  out["dsseEnvelope"] = std::move(envelope);
  return to_text(out);
}

}  // namespace caisson::trust
