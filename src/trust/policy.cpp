// Which part of a policy holds for an image, and which names a signature may carry.
#include "trust/policy.hpp"

#include "base/strings.hpp"

namespace caisson::trust {

namespace {

/// A signed name, expanded; a bare one keeps neither tag nor digest, where a user's would mean "latest".
Result<Reference> parse_claimed(std::string_view text) {
  auto reference = TRY_PLAIN(parse_reference(text));
  const bool has_tag = split_last(split_once(text, '@').before, '/').after.find(':') != std::string_view::npos ||
                       (text.find('/') == std::string_view::npos && split_once(text, '@').before.find(':') != std::string_view::npos);
  if (!has_tag) reference.tag.clear();
  return reference;
}

bool is_bare(const Reference& reference) { return reference.tag.empty() && !reference.digest; }

Error wrong_name(std::string_view claimed, std::string_view want) { return {ErrorKind::denied, concat("it was signed as \"", claimed, "\", not as ", want)}; }

Status match_repo_digest_or_exact(const Reference& wanted, const Reference& signed_as, std::string_view claimed) {
  // A digest says by itself which content is meant; a tag is the signer's to give.
  if (wanted.digest && wanted.tag.empty()) {
    if (signed_as.repository() != wanted.repository()) return wrong_name(claimed, wanted.repository());
    return {};
  }
  if (is_bare(signed_as) || signed_as.canonical() != wanted.canonical()) return wrong_name(claimed, wanted.canonical());
  return {};
}

/// `name` with `prefix` at a boundary of it replaced; nothing when it does not begin so.
std::optional<std::string> remapped(std::string_view name, std::string_view prefix, std::string_view signed_prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  const auto rest = name.substr(prefix.size());
  // A port is part of the host: "example.com" is no prefix of "example.com:5000/x", and a tag may follow a whole repository only.
  const bool is_host = prefix.find('/') == std::string_view::npos;
  if (!rest.empty() && rest[0] != '/' && (is_host || (rest[0] != ':' && rest[0] != '@'))) return std::nullopt;
  return concat(signed_prefix, rest);
}

}  // namespace

std::vector<std::string> scopes_of(const Reference& reference) {
  std::vector<std::string> out;
  Reference full = reference;
  if (full.digest) full.tag.clear();
  out.push_back(full.canonical());
  std::string name = reference.repository();
  for (;;) {
    out.push_back(name);
    auto slash = name.rfind('/');
    if (slash == std::string::npos) break;
    name.resize(slash);
  }
  std::string_view host = split_once(name, ':').before;
  for (auto dot = host.find('.'); dot != std::string_view::npos; dot = host.find('.')) {
    host = host.substr(dot + 1);
    out.push_back(concat("*.", host));
  }
  return out;
}

Chosen choose(const Policy& policy, std::string_view transport, const std::optional<Reference>& reference) {
  auto scopes = policy.transports.find(std::string(transport));
  if (scopes != policy.transports.end()) {
    auto candidates = reference ? scopes_of(*reference) : std::vector<std::string>();
    for (const auto& candidate : candidates)
      if (auto found = scopes->second.find(candidate); found != scopes->second.end()) return {concat(transport, " ", candidate), &found->second};
    if (auto found = scopes->second.find(""); found != scopes->second.end()) return {concat(transport, " \"\""), &found->second};
  }
  return {"default", &policy.fallback};
}

Status check_identity(const Identity& identity, const Reference& wanted, std::string_view claimed) {
  if (identity.kind == IdentityKind::any) return {};
  auto signed_as = parse_claimed(claimed);
  if (!signed_as.ok()) return Error(ErrorKind::denied, concat("it was signed as \"", claimed, "\", which is no image's name"));
  switch (identity.kind) {
    case IdentityKind::any: return {};
    case IdentityKind::match_repo_digest_or_exact: return match_repo_digest_or_exact(wanted, *signed_as, claimed);
    case IdentityKind::match_exact:
      if (is_bare(wanted) || is_bare(*signed_as) || signed_as->canonical() != wanted.canonical()) return wrong_name(claimed, wanted.canonical());
      return {};
    case IdentityKind::match_repository:
      if (signed_as->repository() != wanted.repository()) return wrong_name(claimed, wanted.repository());
      return {};
    case IdentityKind::exact_reference: {
      auto exact = TRY_PLAIN(parse_claimed(identity.reference));
      if (is_bare(*signed_as) || signed_as->canonical() != exact.canonical()) return wrong_name(claimed, exact.canonical());
      return {};
    }
    case IdentityKind::exact_repository:
      if (signed_as->repository() != identity.reference) return wrong_name(claimed, identity.reference);
      return {};
    case IdentityKind::remap: {
      auto mapped = remapped(wanted.canonical(), identity.reference, identity.signed_prefix);
      if (!mapped) return match_repo_digest_or_exact(wanted, *signed_as, claimed);
      return match_repo_digest_or_exact(TRY_PLAIN(parse_claimed(*mapped)), *signed_as, claimed);
    }
  }
  return Error(ErrorKind::internal, "an identity of no kind");
}

}  // namespace caisson::trust
