// Our own requests about signatures: judge an image in its registry, add a signature that a client has made.
#include "api/credentials.hpp"
#include "api/handlers.hpp"
#include "base/json_array.hpp"
#include "base/strings.hpp"

namespace caisson::api {

namespace {

Result<trust::SignatureFormat> format_of(const JsonView& body) {
  std::string name;
  TRY_PLAIN(body.read("format", name));
  for (auto format : {trust::SignatureFormat::cosign, trust::SignatureFormat::bundle, trust::SignatureFormat::notation})
    if (name == trust::to_string(format)) return format;
  return body.error(concat("format \"", name, "\": want cosign, bundle or notation"));
}

Result<std::string> read_base64(const JsonView& body, std::string_view key) {
  std::string text;
  TRY_PLAIN(body.read(key, text));
  return TRY(base64_decode(text), key);
}

/// A refusal is an answer like any other here: the client asked for it.
Status reply_failure(Request& request, const Error& error) {
  const int status = error.kind() == ErrorKind::denied ? 403 : registry_status(error.kind());
  return request.reply_error(status, error.text(), error.hint());
}

}  // namespace

/// Native: {"requirements": [as in policy.json], "anyIdentity": whether the name under which it was signed counts for nothing} or nothing → {"digest", "policy", "scope", "reasons", "signatures"}; 403: it does not pass.
Status verify_image(Request& request) {
  image::VerifyRequest verify;
  verify.reference = request.name;
  verify.credentials = credentials_of(request);
  auto document = TRY_PLAIN(request.read_optional_json());
  auto requirements = TRY_PLAIN(JsonView(document).at("requirements"));
  if (requirements.is_set()) verify.requirements = TRY_PLAIN(trust::parse_requirements(to_text(requirements.raw()), "requirements"));
  bool any_identity = false;
  TRY_PLAIN(JsonView(document).read("anyIdentity", any_identity));
  if (any_identity && verify.requirements)
    for (auto& requirement : *verify.requirements) requirement.identity.kind = trust::IdentityKind::any;
  auto report = request.engine.verify_image(request.caller, verify, request.exchange.cancel());
  if (!report.ok()) return reply_failure(request, report.error());
  return request.reply_json(200, json::object{{"digest", report->digest.text()}, {"policy", report->where}, {"scope", report->scope},
                                              {"reasons", texts(report->reasons)}, {"signatures", report->signatures}});
}

/// Native: {"format", "document", "signature"} (both base64) → {"digest"} of the manifest that carries it.
Status attach_signature(Request& request) {
  auto document = TRY_PLAIN(request.read_json());
  JsonView body(document);
  image::SignRequest sign;
  sign.reference = request.name;
  sign.credentials = credentials_of(request);
  sign.signature.format = TRY_PLAIN(format_of(body));
  sign.signature.document = TRY_PLAIN(read_base64(body, "document"));
  sign.signature.signature = TRY_PLAIN(read_base64(body, "signature"));
  auto made = request.engine.attach_signature(request.caller, sign, request.exchange.cancel());
  if (!made.ok()) return reply_failure(request, made.error());
  return request.reply_json(201, json::object{{"digest", made->text()}});
}

}  // namespace caisson::api
