// The documents come from the daemon (provenance) and from the image as its registry has it (bill of materials).
#include "cli/build_attestations.hpp"

#include "base/json.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "cli/attachments.hpp"
#include "cli/image_inventory.hpp"
#include "cli/places.hpp"
#include "transport/checked_blob.hpp"

namespace caisson::cli {

namespace {

/// buildx's "true", "false", "mode=min" and "mode=max".
Status take_provenance(AttestationFlags& out, std::string_view text, std::string_view flag) {
  for (auto field : split(text, ',')) {
    const auto halves = split_once(field, '=');
    const auto value = halves.before == "mode" && halves.found ? halves.after : field;
    if (value == "true" || value == "min") out.provenance = "min";
    else if (value == "max") out.provenance = "max";
    else if (value == "false") out.provenance.clear();
    else return Error(ErrorKind::invalid, concat(flag, ": \"", field, "\" is neither true, false, mode=min nor mode=max"));
  }
  return {};
}

Status take_sbom(AttestationFlags& out, std::string_view text, std::string_view flag) {
  if (text.starts_with("generator=")) return Error(ErrorKind::unsupported, concat(flag, ": packages are read by caisson itself; there is no ", text));
  const auto wanted = parse_bool(text);
  if (!wanted) return Error(ErrorKind::invalid, concat(flag, ": \"", text, "\" is neither true nor false"));
  out.sbom = *wanted;
  return {};
}

Status take_attest(AttestationFlags& out, const std::string& text) {
  std::string type;
  std::string mode = "min";
  std::string sbom = "true";
  for (auto field : split(text, ',')) {
    const auto halves = split_once(field, '=');
    if (halves.before == "type") type = halves.after;
    else if (halves.before == "mode") mode = halves.after;
    else if (halves.before == "disabled") {
      const auto disabled = parse_bool(halves.after);
      if (!disabled) return Error(ErrorKind::invalid, concat("--attest ", text, ": disabled is true or false"));
      if (*disabled) mode = sbom = "false";
    } else if (halves.before == "generator") sbom = field;
    else return Error(ErrorKind::invalid, concat("--attest ", text, ": unexpected key '", halves.before, "'"));
  }
  if (type == "provenance") return take_provenance(out, mode, "--attest");
  if (type == "sbom") return take_sbom(out, sbom, "--attest");
  return Error(ErrorKind::invalid, concat("--attest ", text, ": type is sbom or provenance"));
}

}  // namespace

Result<AttestationFlags> parse_attestation_flags(Session& session, const Invocation& invocation) {
  AttestationFlags out;
  for (const auto& text : invocation.list("attest")) TRY_PLAIN(take_attest(out, text));
  if (invocation.has("provenance")) TRY_PLAIN(take_provenance(out, invocation.text("provenance"), "--provenance"));
  if (invocation.has("sbom")) TRY_PLAIN(take_sbom(out, invocation.text("sbom"), "--sbom"));
  if (out.any()) out.key = TRY_PLAIN(attestation_key(session, invocation, "attestation-key"));
  return out;
}

Status attach_attestations(Session& session, const Invocation& invocation, const AttestationFlags& flags, const std::string& tag, const std::vector<BuiltImage>& images) {
  const auto* key = flags.key ? &*flags.key : nullptr;
  auto places = TRY_PLAIN(Places::create(session, invocation));
  const auto location = TRY_PLAIN(transport::parse_location(concat("docker://", tag)));
  const auto source = TRY_PLAIN(places.open_source(location, "pull,push"));
  for (const auto& built : images) {
    // One image alone is what its name means, whatever it is for.
    const auto platform = built.platform.empty() ? image::Platform() : TRY_PLAIN(image::parse_platform(built.platform));
    if (flags.sbom) TRY_PLAIN(attach_inventory(session, places, {source, location, platform}, key));
    if (built.provenance.empty()) continue;
    const auto found = TRY_PLAIN(transport::resolve_image(source.place(), source.name, platform));
    Attachment provenance;
    provenance.predicate_type = slsa_predicate;
    provenance.predicate = built.provenance;
    provenance.title = "provenance.intoto.json";
    provenance.created = now_ns();
    TRY_PLAIN(attach_document(session, source.place(), found.digest, provenance, key));
  }
  return {};
}

}  // namespace caisson::cli
