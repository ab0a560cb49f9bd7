// containers-signature(5), "The cryptographic signature's payload".
#include "trust/simple_signing.hpp"

#include "base/strings.hpp"
#include "trust/strict_json.hpp"

namespace caisson::trust {

namespace {

Result<std::string> needed_text(const JsonView& object, std::string_view key) {
  auto member = TRY_PLAIN(object.at(key));
  if (!member.is_set()) return member.error("is missing");
  std::string text;
  TRY_PLAIN(member.read(text));
  return text;
}

}  // namespace

Result<SimpleSigning> parse_simple_signing(std::string_view text, std::string_view type) {
  auto document = TRY_PLAIN(parse_strict_json(text, "signed document"));
  JsonView view(document, "signed document");
  TRY_PLAIN(refuse_unknown(view, {"critical", "optional"}));
  auto optional = TRY_PLAIN(view.at("optional"));
  if (optional.is_set() && !optional.raw().is_object()) return optional.error("want an object");
  auto critical = TRY_PLAIN(view.at("critical"));
  TRY_PLAIN(refuse_unknown(critical, {"type", "image", "identity"}));
  auto said = TRY_PLAIN(needed_text(critical, "type"));
  if (said != type) return critical.error(concat("type is \"", said, "\", not \"", type, "\""));
  auto image = TRY_PLAIN(critical.at("image"));
  TRY_PLAIN(refuse_unknown(image, {"docker-manifest-digest"}));
  auto identity = TRY_PLAIN(critical.at("identity"));
  TRY_PLAIN(refuse_unknown(identity, {"docker-reference"}));
  SimpleSigning out;
  auto digest = Digest::parse(TRY_PLAIN(needed_text(image, "docker-manifest-digest")));
  if (!digest.ok()) return image.error(concat("docker-manifest-digest: ", digest.error().text()));
  out.manifest = std::move(*digest);
  out.docker_reference = TRY_PLAIN(needed_text(identity, "docker-reference"));
  return out;
}

std::string write_simple_signing(const SimpleSigning& document) {
  json::object critical;
  critical["identity"] = json::object{{"docker-reference", document.docker_reference}};
  critical["image"] = json::object{{"docker-manifest-digest", document.manifest.text()}};
  critical["type"] = cosign_type;
  json::object out;
  out["critical"] = std::move(critical);
  out["optional"] = nullptr;
  return to_text(out);
}

}  // namespace caisson::trust
