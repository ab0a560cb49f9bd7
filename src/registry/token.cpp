// RFC 7515, RFC 7519 and Docker's "Token Authentication Implementation".
#include "registry/token.hpp"

#include <algorithm>

#include "base/strings.hpp"

namespace caisson::registry {

static Status from_json(const JsonView& view, Grant& out) {
  TRY_PLAIN(view.read("type", out.type));
  TRY_PLAIN(view.read("name", out.name));
  return view.read("actions", out.actions);
}

namespace {

constexpr std::size_t most_token_bytes = 32 << 10;
constexpr std::int64_t leeway_ns = 60'000'000'000;  // clocks of two machines

Error bad(std::string_view why) { return {ErrorKind::denied, concat("invalid token: ", why)}; }

Result<json::value> part(std::string_view text, std::string_view what) {
  auto bytes = base64_decode(text);
  if (!bytes.ok()) return bad(concat(what, " is not base64"));
  auto document = parse_json(*bytes, what);
  if (!document.ok() || !document->is_object()) return bad(concat(what, " is no JSON object"));
  return document;
}

/// Numbers of seconds may have fractions (RFC 7519, 2: NumericDate).
Result<std::optional<TimestampNs>> time_of(const JsonView& claims, std::string_view name) {
  std::optional<double> seconds;
  if (!claims.read(name, seconds).ok()) return bad(concat("\"", name, "\" is no number"));
  if (!seconds) return std::optional<TimestampNs>();
  if (!(*seconds >= 0 && *seconds < 9e9)) return bad(concat("\"", name, "\" is out of range"));
  return std::optional<TimestampNs>(static_cast<TimestampNs>(*seconds * 1e9));
}

Status check_times(const JsonView& claims, TimestampNs now) {
  auto expires = TRY_PLAIN(time_of(claims, "exp"));
  auto not_before = TRY_PLAIN(time_of(claims, "nbf"));
  if (!expires) return bad("it does not say when it expires");
  if (now > *expires + leeway_ns) return bad("it has expired");
  if (not_before && now + leeway_ns < *not_before) return bad("it is not valid yet");
  return {};
}

Status check_audience(const JsonView& claims, const std::string& service) {
  auto audience = TRY_PLAIN(claims.at("aud"));
  std::vector<std::string> names;
  std::string name;
  if (audience.read(names).ok()) {
    if (std::find(names.begin(), names.end(), service) != names.end()) return {};
  } else if (audience.read(name).ok() && name == service) {
    return {};
  }
  return bad("it is meant for another service");
}

}  // namespace

Result<Token> verify_token(std::string_view text, const TokenRules& rules, TimestampNs now) {
  if (text.size() > most_token_bytes) return bad("it is too long");
  const auto pieces = split(text, '.');
  if (pieces.size() != 3) return bad("it has not three parts");
  auto header = TRY_PLAIN(part(pieces[0], "the header"));
  std::string algorithm;
  if (!JsonView(header).read("alg", algorithm).ok()) return bad("the header's \"alg\" is no text");
  if (header.as_object().contains("crit")) return bad("it has critical extensions");  // RFC 7515, 4.1.11
  auto signature = base64_decode(pieces[2]);
  if (!signature.ok()) return bad("the signature is not base64");
  const auto message = text.substr(0, pieces[0].size() + 1 + pieces[1].size());
  // The key says which algorithm counts, never the header: "none" and confusion of algorithms end here.
  const bool is_signed = std::any_of(rules.keys.begin(), rules.keys.end(), [&](const PublicKey& key) {
    const bool is_rsa = key.kind() == KeyKind::rsa;
    return algorithm == (is_rsa ? "RS256" : "ES256") && key.verifies(is_rsa ? SignatureAlgorithm::rs256 : SignatureAlgorithm::es256, message, *signature);
  });
  if (!is_signed) return bad("no known key has signed it");
  auto body = TRY_PLAIN(part(pieces[1], "the claims"));
  JsonView claims(body);
  std::string issuer;
  if (!claims.read("iss", issuer).ok() || issuer != rules.issuer) return bad("it comes from another issuer");
  TRY_PLAIN(check_audience(claims, rules.service));
  TRY_PLAIN(check_times(claims, now));
  Token token;
  if (!claims.read("sub", token.subject).ok() || !claims.read("access", token.grants).ok()) return bad("its claims are malformed");
  return token;
}

}  // namespace caisson::registry
