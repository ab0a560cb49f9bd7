// Requirements, one by one. Nothing here asks anybody: what is not among the signatures is not there.
#include "trust/judge.hpp"

#include <algorithm>

#include "base/strings.hpp"
#include "trust/bundle.hpp"
#include "trust/key.hpp"
#include "trust/notation.hpp"
#include "trust/simple_signing.hpp"

namespace caisson::trust {

namespace {

struct Fulfilled {
  std::string reason;
  TimestampNs valid_until = 0;
};

class Judge {
 public:
  Judge(const Subject& subject, const VerifyMessage& verify_message, TimestampNs now) : subject_(subject), verify_message_(verify_message), now_(now) {}

  /// Errors: denied, saying why this signature does not do.
  Result<Fulfilled> fulfils(const Requirement& requirement, const FoundSignature& signature) const {
    switch (signature.format) {
      case SignatureFormat::cosign: return by_cosign(requirement, signature);
      case SignatureFormat::bundle: return by_bundle(requirement, signature);
      case SignatureFormat::notation: return by_notation(requirement, signature);
      case SignatureFormat::gpg: return by_gpg(requirement, signature);
    }
    return Error(ErrorKind::internal, "a signature of no format");
  }

 private:
  [[nodiscard]] Status covers(const Digest& signed_digest) const {
    if (std::find(subject_.digests.begin(), subject_.digests.end(), signed_digest) != subject_.digests.end()) return {};
    return Error(ErrorKind::denied, concat("it is of another image, ", signed_digest.text()));
  }

  [[nodiscard]] Status names(const Requirement& requirement, std::string_view claimed) const {
    if (subject_.reference) return check_identity(requirement.identity, *subject_.reference, claimed);
    if (requirement.identity.kind == IdentityKind::any) return {};
    return Error(ErrorKind::denied, "the image has no name of a registry that it could have been signed under");
  }

  /// The key of the policy that made the signature, or nothing.
  [[nodiscard]] Result<std::string> signer(const Requirement& requirement, std::string_view message, std::string_view signature) const {
    for (const auto& source : requirement.keys) {
      auto key = TRY(PublicKey::parse(source.data), source.path.empty() ? std::string("keyData") : source.path);
      if (verifies_sigstore(key, message, signature)) return concat(to_string(key.kind()), " key ", key_hint(key));
    }
    return Error(ErrorKind::denied, "none of the policy's keys made it");
  }

  [[nodiscard]] Result<Fulfilled> by_cosign(const Requirement& requirement, const FoundSignature& found) const {
    auto who = TRY_PLAIN(signer(requirement, found.document, found.signature));
    auto document = TRY_PLAIN(parse_simple_signing(found.document, cosign_type));
    TRY_PLAIN(covers(document.manifest));
    TRY_PLAIN(names(requirement, document.docker_reference));
    return Fulfilled{concat("cosign signature of ", document.docker_reference, " by ", who), 0};
  }

  [[nodiscard]] Result<Fulfilled> by_bundle(const Requirement& requirement, const FoundSignature& found) const {
    auto bundle = TRY_PLAIN(parse_bundle(found.document));
    if (bundle.is_keyless) return Error(ErrorKind::denied, "it is keyless, and the policy names keys");
    if (bundle.payload_type != media_type::in_toto) return Error(ErrorKind::denied, concat("it holds \"", bundle.payload_type, "\", no in-toto statement"));
    auto who = TRY_PLAIN(signer(requirement, dsse_encoding(bundle.payload_type, bundle.payload), bundle.signature));
    auto statement = TRY_PLAIN(parse_statement(bundle.payload));
    // A signed list of packages, or of weaknesses, is no approval.
    if (statement.predicate_type != sign_predicate) return Error(ErrorKind::denied, concat("it is an attestation (", statement.predicate_type, "), no signature"));
    auto status = Status(Error(ErrorKind::denied, "it names no image"));
    for (const auto& subject : statement.subjects) {
      status = about(requirement, subject);
      if (status.ok()) return Fulfilled{concat("bundle about ", subject.name, " by ", who), 0};
    }
    return std::move(status).error();
  }

  [[nodiscard]] Status about(const Requirement& requirement, const StatementSubject& subject) const {
    const auto hex = subject.digest.find("sha256");
    if (hex == subject.digest.end()) return Error(ErrorKind::denied, "its subject has no SHA-256 digest");
    TRY_PLAIN(covers(TRY_PLAIN(Digest::parse(concat("sha256:", hex->second)))));
    return names(requirement, subject.name);
  }

  [[nodiscard]] Result<Fulfilled> by_notation(const Requirement& requirement, const FoundSignature& found) const {
    auto envelope = TRY_PLAIN(parse_notation(found.document));
    TRY_PLAIN(covers(envelope.target));
    NotationTrust trust;
    for (const auto& key : requirement.keys) trust.roots_pem += concat(key.data, "\n");
    trust.identities = requirement.identities;
    auto who = TRY_PLAIN(verify_notation(envelope, trust, now_));
    auto name = who.subject.find("CN");
    return Fulfilled{concat("notation signature by \"", name == who.subject.end() ? std::string("?") : name->second, "\""), who.valid_until};
  }

  [[nodiscard]] Result<Fulfilled> by_gpg(const Requirement& requirement, const FoundSignature& found) const {
    std::vector<std::string> keyrings;
    for (const auto& key : requirement.keys) keyrings.push_back(key.data);
    auto text = TRY_PLAIN(verify_message_(keyrings, found.document));
    auto document = TRY_PLAIN(parse_simple_signing(text, gpg_type));
    TRY_PLAIN(covers(document.manifest));
    TRY_PLAIN(names(requirement, document.docker_reference));
    return Fulfilled{concat("OpenPGP signature of ", document.docker_reference), 0};
  }

  const Subject& subject_;
  const VerifyMessage& verify_message_;
  TimestampNs now_;
};

bool is_candidate(RequirementKind kind, SignatureFormat format) {
  switch (kind) {
    case RequirementKind::sigstore_signed: return format == SignatureFormat::cosign || format == SignatureFormat::bundle;
    case RequirementKind::notation_signed: return format == SignatureFormat::notation;
    case RequirementKind::signed_by: return format == SignatureFormat::gpg;
    default: return false;
  }
}

Result<Fulfilled> fulfil(const Requirement& requirement, const std::vector<FoundSignature>& signatures, const Judge& judge) {
  if (requirement.kind == RequirementKind::accept) return Fulfilled{"", 0};
  if (requirement.kind == RequirementKind::reject) return Error(ErrorKind::denied, "the policy rejects every image of this scope");
  if (requirement.kind == RequirementKind::signed_base_layer) return Error(ErrorKind::denied, "no image can fulfil it");
  for (const auto& key : requirement.keys)
    if (key.data.empty()) return Error(ErrorKind::denied, concat("its key file ", key.path, " cannot be read"));
  std::vector<std::string> failures;
  for (const auto& signature : signatures) {
    if (!is_candidate(requirement.kind, signature.format)) continue;
    auto fulfilled = judge.fulfils(requirement, signature);
    if (fulfilled.ok()) return fulfilled;
    failures.push_back(concat(to_string(signature.format), " signature: ", fulfilled.error().text()));
  }
  if (failures.empty()) return Error(ErrorKind::denied, "no signature of this kind was found");
  constexpr std::size_t most_told = 4;
  const auto left = failures.size() > most_told ? failures.size() - most_told : 0;
  failures.resize(std::min(failures.size(), most_told));
  return Error(ErrorKind::denied, concat(join(failures, "; "), left == 0 ? "" : concat("; and ", left, " more")));
}

std::string shown(const Subject& subject) {
  const auto digest = subject.digests.empty() ? std::string("?") : subject.digests.front().text();
  if (!subject.reference) return concat("image ", digest, " from ", subject.transport);
  return concat("image ", subject.reference->familiar(), subject.reference->digest ? "" : concat(" (", digest, ")"));
}

}  // namespace

std::string_view to_string(SignatureFormat format) {
  switch (format) {
    case SignatureFormat::cosign: return "cosign";
    case SignatureFormat::bundle: return "bundle";
    case SignatureFormat::notation: return "notation";
    case SignatureFormat::gpg: return "OpenPGP";
  }
  return "";
}

Result<Admission> judge(const Chosen& chosen, std::string_view where, const Subject& subject, const std::vector<FoundSignature>& signatures,
                        const VerifyMessage& verify_message, TimestampNs now) {
  const Judge judge(subject, verify_message, now);
  Admission out;
  out.scope = chosen.scope;
  for (const auto& requirement : *chosen.requirements) {
    auto fulfilled = fulfil(requirement, signatures, judge);
    if (!fulfilled.ok())
      return Error(ErrorKind::denied, concat(shown(subject), " is refused by ", where, ": scope ", chosen.scope, ": ", to_string(requirement.kind), ": ", fulfilled.error().text()));
    out.reasons.push_back(concat(to_string(requirement.kind), fulfilled->reason.empty() ? "" : ": ", fulfilled->reason));
    if (fulfilled->valid_until != 0 && (out.valid_until == 0 || fulfilled->valid_until < out.valid_until)) out.valid_until = fulfilled->valid_until;
  }
  return out;
}

Wants wants_of(const Requirements& requirements) {
  Wants out;
  for (const auto& requirement : requirements) {
    out.sigstore = out.sigstore || requirement.kind == RequirementKind::sigstore_signed;
    out.notation = out.notation || requirement.kind == RequirementKind::notation_signed;
    out.gpg = out.gpg || requirement.kind == RequirementKind::signed_by;
  }
  return out;
}

}  // namespace caisson::trust
