// Judging at pull, at load and at use, and remembering what was judged.
#include "image/trust_gate.hpp"

#include <algorithm>

#include "base/strings.hpp"
#include "image/signatures.hpp"
#include "trust/openpgp.hpp"

namespace caisson::image {

namespace {

constexpr std::string_view origins_prefix = "image/origin/";
constexpr std::string_view built_here = "containers-storage";
constexpr std::size_t most_origins = 32;      // of one image: names it was pulled under
constexpr std::size_t most_remembered = 4096;

/// The wrapper's default arguments keep it from being a plain function pointer elsewhere.
Result<std::string> verify_message(const std::vector<std::string>& keyrings, std::string_view message) { return trust::verify_openpgp(keyrings, message); }

/// What was made here of what was let in is accepted unless the policy speaks of it: buildah's rule for what it commits.
trust::Chosen choose_local(const trust::Policy& policy, std::string_view transport) {
  static const trust::Requirements accept = [] {
    trust::Requirement requirement;
    requirement.kind = trust::RequirementKind::accept;
    return trust::Requirements{requirement};
  }();
  if (transport == built_here && policy.transports.count(std::string(built_here)) == 0) return {"containers-storage (made here)", &accept};
  return trust::choose(policy, transport, std::nullopt);
}

trust::Subject subject_of(const Origin& origin) {
  trust::Subject subject;
  subject.transport = origin.transport;
  subject.digests = origin.digests;
  if (origin.reference.empty()) return subject;
  if (auto reference = parse_reference(origin.reference); reference.ok()) subject.reference = std::move(*reference);
  return subject;
}

Status from_json(const JsonView& view, trust::FoundSignature& out) {
  std::uint32_t format = 0;
  std::string document;
  std::string signature;
  TRY_PLAIN(view.read("format", format));
  TRY_PLAIN(view.read("document", document));
  TRY_PLAIN(view.read("signature", signature));
  if (format > static_cast<std::uint32_t>(trust::SignatureFormat::gpg)) return view.error("unknown format");
  out.format = static_cast<trust::SignatureFormat>(format);
  out.document = TRY_PLAIN(base64_decode(document));
  out.signature = TRY_PLAIN(base64_decode(signature));
  return {};
}

Result<Origin> read_origin(const JsonView& view) {
  Origin out;
  TRY_PLAIN(view.read("transport", out.transport));
  TRY_PLAIN(view.read("reference", out.reference));
  std::vector<std::string> digests;
  TRY_PLAIN(view.read("digests", digests));
  for (const auto& text : digests) out.digests.push_back(TRY_PLAIN(Digest::parse(text)));
  auto signatures = TRY_PLAIN(view.at("signatures"));
  TRY_PLAIN(signatures.for_each_element([&](const JsonView& element) -> Status {
    trust::FoundSignature signature;
    TRY_PLAIN(from_json(element, signature));
    out.signatures.push_back(std::move(signature));
    return {};
  }));
  return out;
}

json::object write_origin(const Origin& origin) {
  json::array digests;
  for (const auto& digest : origin.digests) digests.emplace_back(digest.text());
  json::array signatures;
  for (const auto& signature : origin.signatures)
    signatures.push_back(json::object{{"format", static_cast<std::uint32_t>(signature.format)},
                                      {"document", base64_encode(signature.document)},
                                      {"signature", base64_encode(signature.signature)}});
  return {{"transport", origin.transport}, {"reference", origin.reference}, {"digests", std::move(digests)}, {"signatures", std::move(signatures)}};
}

/// Those that the name at hand speaks of: of its repository, when the image was pulled from there.
std::vector<const Origin*> relevant(const std::vector<Origin>& origins, const std::optional<Reference>& name) {
  std::vector<const Origin*> same;
  std::vector<const Origin*> all;
  for (const auto& origin : origins) {
    all.push_back(&origin);
    auto reference = parse_reference(origin.reference);
    if (name && !origin.reference.empty() && reference.ok() && reference->repository() == name->repository()) same.push_back(&origin);
  }
  return same.empty() ? all : same;
}

}  // namespace

Result<Origin> TrustGate::admit_pull(const Registries& registries, RegistrySession& session, const Reference& reference, const std::vector<Digest>& digests,
                                     const Cancel& cancel) const {
  auto host = TRY_PLAIN(trust::read_host_policy(options_.policy));
  auto chosen = trust::choose(host->policy, "docker", reference);
  Origin origin;
  origin.transport = "docker";
  origin.reference = reference.canonical();
  origin.digests = digests;
  const auto wants = trust::wants_of(*chosen.requirements);
  if (wants.any()) origin.signatures = TRY_PLAIN(find_signatures(registries, session, {reference, digests, wants, options_.lookaside_folder}, cancel));
  TRY_PLAIN(trust::judge(chosen, host->where(), subject_of(origin), origin.signatures, verify_message, now_ns()));
  return origin;
}

Result<Origin> TrustGate::admit_local(std::string_view transport, const Digest& manifest) const {
  auto host = TRY_PLAIN(trust::read_host_policy(options_.policy));
  Origin origin;
  origin.transport = transport;
  if (!manifest.empty()) origin.digests.push_back(manifest);
  TRY_PLAIN(trust::judge(choose_local(host->policy, transport), host->where(), subject_of(origin), {}, verify_message, now_ns()));
  return origin;
}

Result<TrustGate::Verdict> TrustGate::verify(const Registries& registries, RegistrySession& session, const Reference& reference, const std::vector<Digest>& digests,
                                             std::optional<trust::Requirements> requirements, const Cancel& cancel) const {
  std::shared_ptr<const trust::HostPolicy> host;  // shared: the policy's owner is whoever read it last, and `chosen` points into it
  trust::Chosen chosen;
  Verdict verdict;
  if (requirements) {
    trust::read_keys(*requirements);
    chosen = {"as asked", &*requirements};
    verdict.where = "the given requirements";
  } else {
    host = TRY_PLAIN(trust::read_host_policy(options_.policy));
    chosen = trust::choose(host->policy, "docker", reference);
    verdict.where = host->where();
  }
  Origin origin{"docker", reference.canonical(), digests, {}};
  const auto wants = trust::wants_of(*chosen.requirements);
  if (wants.any()) origin.signatures = TRY_PLAIN(find_signatures(registries, session, {reference, digests, wants, options_.lookaside_folder}, cancel));
  verdict.signatures = origin.signatures.size();
  verdict.admission = TRY_PLAIN(trust::judge(chosen, verdict.where, subject_of(origin), origin.signatures, verify_message, now_ns()));
  return verdict;
}

Status TrustGate::admit_use(const Digest& id, const std::optional<Reference>& name) {
  auto host = TRY_PLAIN(trust::read_host_policy(options_.policy));
  if (host->path.empty()) return {};
  const auto key = concat(host->digest, " ", id.text(), " ", name ? name->repository() : "");
  if (auto until = remembered(key); until && (*until == 0 || *until > now_ns())) return {};
  return judge_use(*host, id, name);
}

Status TrustGate::judge_use(const trust::HostPolicy& host, const Digest& id, const std::optional<Reference>& name) {
  const auto known = TRY_PLAIN(origins(id));
  const auto key = concat(host.digest, " ", id.text(), " ", name ? name->repository() : "");
  auto candidates = relevant(known, name);
  if (candidates.empty()) {
    // From before origins were recorded, or found again after the state was lost: what the policy says of everything else.
    trust::Subject subject;
    subject.transport = "an unknown place";
    subject.digests.push_back(id);
    auto verdict = trust::judge({"default", &host.policy.fallback}, host.where(), subject, {}, verify_message, now_ns());
    if (!verdict.ok()) return std::move(verdict).error().with_hint("where the image came from is not recorded: pull or load it again");
    remember(key, verdict->valid_until);
    return {};
  }
  std::optional<Error> refusal;
  for (const auto* origin : candidates) {
    auto subject = subject_of(*origin);
    auto chosen = subject.reference ? trust::choose(host.policy, origin->transport, subject.reference) : choose_local(host.policy, origin->transport);
    auto verdict = trust::judge(chosen, host.where(), subject, origin->signatures, verify_message, now_ns());
    if (verdict.ok()) {
      remember(key, verdict->valid_until);
      return {};
    }
    if (refusal) continue;
    const bool has_nothing = origin->signatures.empty() && subject.reference && trust::wants_of(*chosen.requirements).any();
    refusal = std::move(verdict).error().with_hint(has_nothing ? concat("no signatures were kept when it was pulled; pull it again: caisson pull ", subject.reference->familiar()) : "");
  }
  return std::move(*refusal);
}

std::optional<TimestampNs> TrustGate::remembered(const std::string& key) {
  std::lock_guard lock(mutex_);
  auto found = passed_.find(key);
  return found == passed_.end() ? std::nullopt : std::optional(found->second);
}

void TrustGate::remember(const std::string& key, TimestampNs valid_until) {
  std::lock_guard lock(mutex_);
  if (passed_.size() >= most_remembered) passed_.clear();  // they are judged again, which costs a signature's verification
  passed_[key] = valid_until;
}

Result<std::vector<Origin>> TrustGate::origins(const Digest& id) const {
  std::vector<Origin> out;
  const auto key = concat(origins_prefix, id.text());
  auto entry = store_.get(key);
  if (!entry.ok() && entry.error().kind() == ErrorKind::not_found) return out;
  if (!entry.ok()) return std::move(entry).error();
  auto read = [&]() -> Status {
    auto document = TRY_PLAIN(parse_json(entry->value, "record"));
    return JsonView(document).for_each_element([&](const JsonView& element) -> Status {
      out.push_back(TRY_PLAIN(read_origin(element)));
      return {};
    });
  };
  auto status = read();
  if (!status.ok()) return std::move(status).error().with_kind(ErrorKind::corrupt).in(concat("record \"", key, "\" is unreadable"));
  return out;
}

Status TrustGate::put(state::Transaction& transaction, const Digest& id, const Origin& origin) const {
  auto known = TRY_PLAIN(origins(id));
  auto is_same = [&](const Origin& other) { return other.transport == origin.transport && other.reference == origin.reference; };
  known.erase(std::remove_if(known.begin(), known.end(), is_same), known.end());
  known.push_back(origin);
  if (known.size() > most_origins) known.erase(known.begin());
  json::array out;
  for (const auto& one : known) out.push_back(write_origin(one));
  transaction.put(concat(origins_prefix, id.text()), to_text(out));
  return {};
}

void TrustGate::erase(state::Transaction& transaction, const Digest& id) { transaction.erase(concat(origins_prefix, id.text())); }

}  // namespace caisson::image
