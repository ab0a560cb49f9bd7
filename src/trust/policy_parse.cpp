// policy.json: reading it strictly, and writing it.
#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "trust/policy.hpp"
#include "trust/strict_json.hpp"

namespace caisson::trust {

namespace {

constexpr std::array<std::pair<RequirementKind, std::string_view>, 6> requirement_names{{
    {RequirementKind::accept, "insecureAcceptAnything"},
    {RequirementKind::reject, "reject"},
    {RequirementKind::signed_by, "signedBy"},
    {RequirementKind::signed_base_layer, "signedBaseLayer"},
    {RequirementKind::sigstore_signed, "sigstoreSigned"},
    {RequirementKind::notation_signed, "notationSigned"},
}};

constexpr std::array<std::pair<IdentityKind, std::string_view>, 6> identity_names{{
    {IdentityKind::match_repo_digest_or_exact, "matchRepoDigestOrExact"},
    {IdentityKind::match_exact, "matchExact"},
    {IdentityKind::match_repository, "matchRepository"},
    {IdentityKind::exact_reference, "exactReference"},
    {IdentityKind::exact_repository, "exactRepository"},
    {IdentityKind::remap, "remapIdentity"},
}};

template <typename Table>
auto find_name(const Table& table, std::string_view name) {
  return std::find_if(table.begin(), table.end(), [&](const auto& entry) { return entry.second == name; });
}

Result<std::string> needed_text(const JsonView& object, std::string_view key) {
  auto member = TRY_PLAIN(object.at(key));
  std::string text;
  TRY_PLAIN(member.read(text));
  if (text.empty()) return member.error("is missing or empty");
  return text;
}

/// The name without a tag or digest, whose expanded form is the same: "docker.io/library/x", not "x".
Status check_repository(const JsonView& view, std::string_view text) {
  auto reference = parse_reference(text);
  if (!reference.ok() || reference->digest || !(reference->repository() == text)) return view.error(concat("\"", text, "\" is no full repository name, such as docker.io/library/alpine"));
  return {};
}

/// containers: "a host name, or a repository namespace, or a repository", without tag or digest.
Status check_prefix(const JsonView& view, std::string_view text) {
  auto reference = parse_reference(concat(text, "/x"));
  if (text.empty() || !reference.ok() || reference->repository() != concat(text, "/x")) return view.error(concat("\"", text, "\" is neither a host nor a namespace nor a repository"));
  return {};
}

Result<Identity> read_identity(const JsonView& view) {
  Identity out;
  auto type = TRY_PLAIN(needed_text(view, "type"));
  auto found = find_name(identity_names, type);
  if (found == identity_names.end()) return view.error(concat("type \"", type, "\" is not known"));
  out.kind = found->first;
  switch (out.kind) {
    case IdentityKind::exact_reference: {
      TRY_PLAIN(refuse_unknown(view, {"type", "dockerReference"}));
      out.reference = TRY_PLAIN(needed_text(view, "dockerReference"));
      auto reference = parse_reference(out.reference);
      const bool has_suffix = out.reference.find('@') != std::string::npos || split_last(out.reference, '/').after.find(':') != std::string_view::npos;
      if (!reference.ok() || !has_suffix) return view.error(concat("dockerReference \"", out.reference, "\" is no reference with a tag or digest"));
      return out;
    }
    case IdentityKind::exact_repository:
      TRY_PLAIN(refuse_unknown(view, {"type", "dockerRepository"}));
      out.reference = TRY_PLAIN(needed_text(view, "dockerRepository"));
      TRY_PLAIN(check_repository(view, out.reference));
      return out;
    case IdentityKind::remap:
      TRY_PLAIN(refuse_unknown(view, {"type", "prefix", "signedPrefix"}));
      out.reference = TRY_PLAIN(needed_text(view, "prefix"));
      out.signed_prefix = TRY_PLAIN(needed_text(view, "signedPrefix"));
      TRY_PLAIN(check_prefix(view, out.reference));
      TRY_PLAIN(check_prefix(view, out.signed_prefix));
      return out;
    default: TRY_PLAIN(refuse_unknown(view, {"type"})); return out;
  }
}

/// Exactly one of NAMEPath, NAMEPaths, NAMEData, NAMEDatas.
Result<std::vector<KeySource>> read_keys(const JsonView& view, std::string_view name) {
  std::vector<KeySource> out;
  std::size_t ways = 0;
  auto add = [&](std::string_view text, bool is_path) -> Status {
    if (is_path) {
      if (text.empty() || text[0] != '/') return view.error(concat("\"", text, "\" is no absolute path"));
      out.push_back({std::string(text), ""});
      return {};
    }
    auto bytes = base64_decode(text);
    if (!bytes.ok() || bytes->empty()) return view.error(concat(name, "Data is not base64"));
    out.push_back({"", std::move(*bytes)});
    return {};
  };
  for (bool is_path : {true, false}) {
    const auto singular = concat(name, is_path ? "Path" : "Data");
    auto one = TRY_PLAIN(view.at(singular));
    if (one.is_set()) {
      ++ways;
      std::string text;
      TRY_PLAIN(one.read(text));
      TRY_PLAIN(add(text, is_path));
    }
    auto several = TRY_PLAIN(view.at(concat(singular, "s")));
    if (several.is_set()) {
      ++ways;
      std::vector<std::string> list;
      TRY_PLAIN(several.read(list));
      for (const auto& text : list) TRY_PLAIN(add(text, is_path));
    }
  }
  if (ways != 1 || out.empty()) return view.error(concat("want exactly one of ", name, "Path, ", name, "Paths, ", name, "Data and ", name, "Datas"));
  return out;
}

Status read_signed_identity(const JsonView& view, Requirement& out) {
  auto identity = TRY_PLAIN(view.at("signedIdentity"));
  if (identity.is_set()) out.identity = TRY_PLAIN(read_identity(identity));
  return {};
}

/// Fulcio's certificates live minutes and need a transparency log's word that the signature was made in them.
Status refuse_keyless(const JsonView& view) {
  for (std::string_view key : {"fulcio", "pki", "rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"})
    if (TRY_PLAIN(view.at(key)).is_set())
      return Error(ErrorKind::unsupported, concat(view.path(), ".", key, ": keyless signatures are not verified by this version; use keyPath with the signer's public key"));
  return {};
}

Result<Requirement> read_requirement(const JsonView& view) {
  auto type = TRY_PLAIN(needed_text(view, "type"));
  auto found = find_name(requirement_names, type);
  if (found == requirement_names.end()) return view.error(concat("type \"", type, "\" is not known"));
  Requirement out;
  out.kind = found->first;
  switch (out.kind) {
    case RequirementKind::accept:
    case RequirementKind::reject: TRY_PLAIN(refuse_unknown(view, {"type"})); return out;
    case RequirementKind::signed_base_layer:
      TRY_PLAIN(refuse_unknown(view, {"type", "baseLayerIdentity"}));
      (void)TRY_PLAIN(read_identity(TRY_PLAIN(view.at("baseLayerIdentity"))));
      return out;
    case RequirementKind::signed_by: {
      TRY_PLAIN(refuse_unknown(view, {"type", "keyType", "keyPath", "keyPaths", "keyData", "signedIdentity"}));
      auto key_type = TRY_PLAIN(needed_text(view, "keyType"));
      if (key_type != "GPGKeys") return view.error(concat("keyType \"", key_type, "\" is not supported, only GPGKeys"));
      out.keys = TRY_PLAIN(read_keys(view, "key"));
      TRY_PLAIN(read_signed_identity(view, out));
      return out;
    }
    case RequirementKind::sigstore_signed:
      TRY_PLAIN(refuse_keyless(view));
      TRY_PLAIN(refuse_unknown(view, {"type", "keyPath", "keyPaths", "keyData", "keyDatas", "signedIdentity"}));
      out.keys = TRY_PLAIN(read_keys(view, "key"));
      TRY_PLAIN(read_signed_identity(view, out));
      return out;
    case RequirementKind::notation_signed:
      TRY_PLAIN(refuse_unknown(view, {"type", "caPath", "caPaths", "caData", "caDatas", "trustedIdentities"}));
      out.keys = TRY_PLAIN(read_keys(view, "ca"));
      TRY_PLAIN(view.read("trustedIdentities", out.identities));
      if (out.identities.empty()) return view.error("trustedIdentities is missing; want \"*\" or \"x509.subject: C=…, ST=…, O=…\"");
      return out;
  }
  return out;
}

Result<Requirements> read_requirements(const JsonView& view) {
  if (!view.is_set() || !view.raw().is_array()) return view.error("want a list of requirements");
  Requirements out;
  TRY_PLAIN(view.for_each_element([&](const JsonView& element) -> Status {
    out.push_back(TRY_PLAIN(read_requirement(element)));
    return {};
  }));
  if (out.empty()) return view.error("an empty list is no policy; say insecureAcceptAnything or reject");
  return out;
}

void write_keys(json::object& out, std::string_view name, const std::vector<KeySource>& keys) {
  json::array paths;
  json::array datas;
  for (const auto& key : keys) (key.path.empty() ? datas : paths).emplace_back(key.path.empty() ? base64_encode(key.data) : key.path);
  if (paths.size() == 1) out[concat(name, "Path")] = paths[0];
  else if (!paths.empty()) out[concat(name, "Paths")] = std::move(paths);
  if (datas.size() == 1) out[concat(name, "Data")] = datas[0];
  else if (!datas.empty()) out[concat(name, "Datas")] = std::move(datas);
}

json::object write_identity(const Identity& identity) {
  json::object out;
  for (const auto& [kind, name] : identity_names)
    if (kind == identity.kind) out["type"] = name;
  if (identity.kind == IdentityKind::exact_reference) out["dockerReference"] = identity.reference;
  if (identity.kind == IdentityKind::exact_repository) out["dockerRepository"] = identity.reference;
  if (identity.kind == IdentityKind::remap) {
    out["prefix"] = identity.reference;
    out["signedPrefix"] = identity.signed_prefix;
  }
  return out;
}

json::object write_requirement(const Requirement& requirement) {
  json::object out;
  out["type"] = to_string(requirement.kind);
  const bool is_default_identity = requirement.identity.kind == IdentityKind::match_repo_digest_or_exact || requirement.identity.kind == IdentityKind::any;
  switch (requirement.kind) {
    case RequirementKind::signed_by:
      out["keyType"] = "GPGKeys";
      [[fallthrough]];
    case RequirementKind::sigstore_signed:
      write_keys(out, "key", requirement.keys);
      if (!is_default_identity) out["signedIdentity"] = write_identity(requirement.identity);
      break;
    case RequirementKind::notation_signed: {
      write_keys(out, "ca", requirement.keys);
      json::array identities;
      for (const auto& identity : requirement.identities) identities.emplace_back(identity);
      out["trustedIdentities"] = std::move(identities);
      break;
    }
    case RequirementKind::signed_base_layer: out["baseLayerIdentity"] = json::object{{"type", "matchRepoDigestOrExact"}}; break;
    default: break;
  }
  return out;
}

}  // namespace

std::string_view to_string(RequirementKind kind) {
  for (const auto& [known, name] : requirement_names)
    if (known == kind) return name;
  return "";
}

Result<Policy> parse_policy(std::string_view text, std::string_view what) {
  auto document = TRY_PLAIN(parse_strict_json(text, what));
  JsonView view(document, std::string(what));
  TRY_PLAIN(refuse_unknown(view, {"default", "transports"}));
  Policy out;
  out.fallback = TRY_PLAIN(read_requirements(TRY_PLAIN(view.at("default"))));
  auto transports = TRY_PLAIN(view.at("transports"));
  TRY_PLAIN(transports.for_each_member([&](std::string_view transport, const JsonView& scopes) -> Status {
    auto& into = out.transports[std::string(transport)];
    return scopes.for_each_member([&](std::string_view scope, const JsonView& requirements) -> Status {
      into[std::string(scope)] = TRY_PLAIN(read_requirements(requirements));
      return {};
    });
  }));
  return out;
}

Result<Requirements> parse_requirements(std::string_view text, std::string_view what) {
  auto document = TRY_PLAIN(parse_strict_json(text, what));
  return read_requirements(JsonView(document, std::string(what)));
}

json::array to_json(const Requirements& requirements) {
  json::array out;
  for (const auto& requirement : requirements) out.push_back(write_requirement(requirement));
  return out;
}

std::string write_policy(const Policy& policy) {
  json::object transports;
  for (const auto& [transport, scopes] : policy.transports) {
    json::object out;
    for (const auto& [scope, requirements] : scopes) out[scope] = to_json(requirements);
    transports[transport] = std::move(out);
  }
  json::object out{{"default", to_json(policy.fallback)}};
  if (!transports.empty()) out["transports"] = std::move(transports);
  return to_text(out);
}

}  // namespace caisson::trust
