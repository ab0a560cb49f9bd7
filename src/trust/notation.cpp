// Notary Project signature specification 1.1, JWS envelope (RFC 7515, flattened JSON serialisation).
#include "trust/notation.hpp"

#include <algorithm>
#include <optional>

#include "base/strings.hpp"
#include "base/openssl.hpp"
#include "trust/strict_json.hpp"

namespace caisson::trust {

namespace {

constexpr std::string_view payload_type = "application/vnd.cncf.notary.payload.v1+json";
constexpr std::string_view scheme_key = "io.cncf.notary.signingScheme";
constexpr std::string_view time_key = "io.cncf.notary.signingTime";
constexpr std::string_view expiry_key = "io.cncf.notary.expiry";
constexpr std::string_view x509_scheme = "notary.x509";

std::string base64url(std::string_view bytes) {
  auto text = base64_encode(bytes);
  std::replace(text.begin(), text.end(), '+', '-');
  std::replace(text.begin(), text.end(), '/', '_');
  while (text.ends_with('=')) text.pop_back();
  return text;
}

struct Part {
  std::string written;
  std::string bytes;
};
Result<Part> needed_part(const JsonView& object, std::string_view key) {
  auto member = TRY_PLAIN(object.at(key));
  if (!member.is_set()) return member.error("is missing");
  Part part;
  TRY_PLAIN(member.read(part.written));
  auto bytes = base64_decode(part.written);
  if (!bytes.ok()) return member.error("is not base64");
  part.bytes = std::move(*bytes);
  return part;
}

Status read_time(const JsonView& header, std::string_view key, TimestampNs& out) {
  std::string text;
  TRY_PLAIN(header.read(key, text));
  if (!text.empty()) out = TRY(parse_rfc3339(text), key);
  return {};
}

/// Every header that must be understood is understood, and those that the specification makes critical are.
Status check_critical(const JsonView& header, bool has_expiry) {
  std::vector<std::string> critical;
  TRY_PLAIN(header.read("crit", critical));
  for (const auto& name : critical)
    if (name != scheme_key && name != expiry_key) return Error(ErrorKind::unsupported, concat("protected header: the critical member \"", name, "\" is not known here"));
  auto names = [&](std::string_view name) { return std::find(critical.begin(), critical.end(), name) != critical.end(); };
  if (!names(scheme_key)) return header.error(concat("crit does not list ", scheme_key));
  if (has_expiry && !names(expiry_key)) return header.error(concat("crit does not list ", expiry_key));
  return {};
}

Status read_protected(std::string_view text, NotationEnvelope& out) {
  auto document = TRY_PLAIN(parse_strict_json(text, "protected header"));
  JsonView header(document, "protected header");
  std::string type;
  std::string scheme;
  TRY_PLAIN(header.read("alg", out.algorithm));
  TRY_PLAIN(header.read("cty", type));
  TRY_PLAIN(header.read(scheme_key, scheme));
  if (type != payload_type) return header.error(concat("cty is \"", type, "\", not \"", payload_type, "\""));
  if (scheme != x509_scheme) return Error(ErrorKind::unsupported, concat("protected header: the signing scheme \"", scheme, "\" is not supported, only ", x509_scheme));
  TRY_PLAIN(read_time(header, time_key, out.signing_time));
  TRY_PLAIN(read_time(header, expiry_key, out.expiry));
  return check_critical(header, out.expiry != 0);
}

Status read_payload(std::string_view text, NotationEnvelope& out) {
  auto document = TRY_PLAIN(parse_strict_json(text, "payload"));
  auto target = TRY_PLAIN(JsonView(document, "payload").at("targetArtifact"));
  if (!target.is_set()) return target.error("is missing");
  std::string digest;
  TRY_PLAIN(target.read("digest", digest));
  auto parsed = Digest::parse(digest);
  if (!parsed.ok()) return target.error(concat("digest: ", parsed.error().text()));
  out.target = std::move(*parsed);
  TRY_PLAIN(target.read("mediaType", out.target_media_type));
  return target.read("size", out.target_bytes);
}

struct Choice {
  std::string_view name;
  SignatureAlgorithm algorithm;
};
/// "Signature Algorithm Requirements": the key decides, by its kind and size.
std::optional<Choice> algorithm_of(KeyKind kind, unsigned bits) {
  switch (kind) {
    case KeyKind::p256: return Choice{"ES256", SignatureAlgorithm::es256};
    case KeyKind::p384: return Choice{"ES384", SignatureAlgorithm::es384};
    case KeyKind::p521: return Choice{"ES512", SignatureAlgorithm::es512};
    case KeyKind::rsa:
      if (bits == 2048) return Choice{"PS256", SignatureAlgorithm::ps256};
      if (bits == 3072) return Choice{"PS384", SignatureAlgorithm::ps384};
      if (bits == 4096) return Choice{"PS512", SignatureAlgorithm::ps512};
      return std::nullopt;
    case KeyKind::ed25519: break;
  }
  return std::nullopt;
}

Error no_algorithm(KeyKind kind, unsigned bits) {
  return {ErrorKind::denied, concat("notation signs with RSA of 2048, 3072 or 4096 bits, P-256, P-384 or P-521, not with ", to_string(kind), " of ", bits, " bits")};
}

}  // namespace

Result<NotationEnvelope> parse_notation(std::string_view text) {
  auto document = TRY_PLAIN(parse_strict_json(text, "envelope"));
  JsonView view(document, "envelope");
  TRY_PLAIN(refuse_unknown(view, {"payload", "protected", "header", "signature"}));
  auto payload = TRY_PLAIN(needed_part(view, "payload"));
  auto head = TRY_PLAIN(needed_part(view, "protected"));
  auto signature = TRY_PLAIN(needed_part(view, "signature"));
  NotationEnvelope out;
  out.signed_text = concat(head.written, ".", payload.written);
  out.signature = std::move(signature.bytes);
  TRY_PLAIN(read_protected(head.bytes, out));
  TRY_PLAIN(read_payload(payload.bytes, out));
  auto chain = TRY_PLAIN(TRY_PLAIN(view.at("header")).at("x5c"));
  TRY_PLAIN(chain.for_each_element([&](const JsonView& element) -> Status {
    std::string encoded;
    TRY_PLAIN(element.read(encoded));
    auto der = base64_decode(encoded);
    if (!der.ok()) return element.error("is not base64");
    out.chain.push_back(std::move(*der));
    return {};
  }));
  if (out.chain.empty()) return view.error("header.x5c is missing");
  return out;
}

Result<NotationSigner> verify_notation(const NotationEnvelope& envelope, const NotationTrust& trust, TimestampNs now) {
  auto signer = TRY_PLAIN(verify_chain(envelope.chain, trust.roots_pem, now));
  bool is_somebody = false;
  for (const auto& identity : trust.identities) is_somebody = TRY_PLAIN(matches_identity(signer.subject, identity)) || is_somebody;
  if (!is_somebody) return Error(ErrorKind::denied, "the certificate's subject is none of the trusted identities");
  auto key = TRY_PLAIN(PublicKey::parse(signer.pem));
  auto choice = algorithm_of(key.kind(), key.bits());
  if (!choice) return no_algorithm(key.kind(), key.bits());
  if (envelope.algorithm != choice->name)
    return Error(ErrorKind::denied, concat("the header says ", envelope.algorithm, ", and the certificate's key makes ", choice->name));
  if (!key.verifies(choice->algorithm, envelope.signed_text, envelope.signature)) return Error(ErrorKind::denied, "the signature is not the certificate's over this envelope");
  if (envelope.expiry != 0 && envelope.expiry <= now) return Error(ErrorKind::denied, concat("the signature expired at ", to_rfc3339(envelope.expiry)));
  NotationSigner out;
  out.subject = std::move(signer.subject);
  out.valid_until = envelope.expiry != 0 ? std::min(envelope.expiry, signer.valid_until) : signer.valid_until;
  return out;
}

Result<std::string> write_notation(const PrivateKey& key, std::string_view chain_pem, const NotationTarget& target, TimestampNs now, TimestampNs expiry) {
  auto chain = TRY(certificates_of_pem(chain_pem), "certificate chain");
  auto certified = TRY_PLAIN(PublicKey::parse(chain_pem));
  auto own = TRY_PLAIN(PublicKey::parse(TRY_PLAIN(key.public_pem())));
  if (certified.info_der() != own.info_der()) return Error(ErrorKind::invalid, "the first certificate of the chain is not this key's");
  auto choice = algorithm_of(key.kind(), key.bits());
  if (!choice) return no_algorithm(key.kind(), key.bits());
  json::object head;
  head["alg"] = choice->name;
  head["cty"] = payload_type;
  json::array critical{json::value(scheme_key)};
  if (expiry != 0) critical.emplace_back(expiry_key);
  head["crit"] = std::move(critical);
  // Whole seconds: the specification's time has no fraction.
  head[scheme_key] = x509_scheme;
  head[time_key] = concat(std::string_view(to_rfc3339(now)).substr(0, 19), "Z");
  if (expiry != 0) head[expiry_key] = concat(std::string_view(to_rfc3339(expiry)).substr(0, 19), "Z");
  json::object artifact{{"mediaType", target.media_type}, {"digest", target.digest.text()}, {"size", target.size_bytes}};
  const auto head_text = base64url(to_text(head));
  const auto payload_text = base64url(to_text(json::object{{"targetArtifact", std::move(artifact)}}));
  auto signature = TRY_PLAIN(key.sign(choice->algorithm, concat(head_text, ".", payload_text)));
  json::array certificates;
  for (const auto& der : chain) certificates.emplace_back(base64_encode(der));
  json::object out;
  out["payload"] = payload_text;
  out["protected"] = head_text;
  out["header"] = json::object{{"x5c", std::move(certificates)}, {"io.cncf.notary.signingAgent", "caisson/" CAISSON_VERSION}};
  out["signature"] = base64url(signature);
  return to_text(out);
}

}  // namespace caisson::trust
