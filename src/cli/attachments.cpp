// image attached, image sbom --attach and --attached, image verify --attestation: from this process, as the other commands on places.
#include "cli/attachments.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "base/json_array.hpp"
#include "base/strings.hpp"
#include "cli/keys.hpp"
#include "cli/listing.hpp"
#include "cli/save_stream.hpp"
#include "cli/travel_commands.hpp"
#include "image/signatures.hpp"
#include "linux/file.hpp"
#include "linux/sysinfo.hpp"
#include "transport/attach.hpp"
#include "transport/checked_blob.hpp"
#include "trust/bundle.hpp"

namespace caisson::cli {

namespace {

constexpr std::string_view statement_type = "application/vnd.in-toto+json";
constexpr std::string_view predicate_annotation = "in-toto.io/predicate-type";  // BuildKit's
constexpr std::string_view created_annotation = "org.opencontainers.image.created";
constexpr std::string_view title_annotation = "org.opencontainers.image.title";
constexpr std::size_t most_document_bytes = 64 << 20;  // a signed document is base64 of base64 in JSON
constexpr std::size_t most_shown_depth = 8;

constexpr std::array attached_columns = {Column{"Digest", "DIGEST"}, Column{"Type", "TYPE"}, Column{"Size", "SIZE"}, Column{"Subject", "ATTACHED TO"}, Column{"Predicate", "PREDICATE"}, Column{"Created", "CREATED"}};

/// cosign's short names of predicates (attest --type).
constexpr std::array<std::pair<std::string_view, std::string_view>, 9> predicates{{{"spdx", trust::spdx_predicate},
                                                                                  {"spdxjson", trust::spdx_predicate},
                                                                                  {"cyclonedx", "https://cyclonedx.org/bom"},
                                                                                  {"slsaprovenance", "https://slsa.dev/provenance/v0.2"},
                                                                                  {"slsaprovenance02", "https://slsa.dev/provenance/v0.2"},
                                                                                  {"slsaprovenance1", slsa_predicate},
                                                                                  {"link", "https://in-toto.io/Link/v1"},
                                                                                  {"vuln", "https://cosign.sigstore.dev/attestation/vuln/v1"},
                                                                                  {"openvex", "https://openvex.dev/ns"}}};

Result<std::string> predicate_of(std::string_view text) {
  for (const auto& [name, uri] : predicates)
    if (name == text) return std::string(uri);
  if (text.find("://") != std::string_view::npos) return std::string(text);
  return Error(ErrorKind::invalid, concat("\"", text, "\" is no kind of attestation")).with_hint("spdx, cyclonedx, slsaprovenance1, vuln, openvex, or a predicate's URI");
}

std::string annotation(const image::Descriptor& descriptor, std::string_view name) {
  auto found = descriptor.annotations.find(std::string(name));
  return found == descriptor.annotations.end() ? std::string() : found->second;
}

/// An image that is named in a registry or layout, with all digests that something may be attached to.
struct Named {
  Places::Source source;
  image::FoundManifest image;
  [[nodiscard]] transport::Place& place() const { return source.place(); }
};

Result<Named> open_named(Places& places, const Invocation& invocation) {
  const auto location = TRY_PLAIN(attachable_location(invocation.word(0)));
  Named out;
  out.source = TRY_PLAIN(places.open_source(location));
  const auto wanted = invocation.text("platform");
  const auto platform = wanted.empty() ? image::platform_of_machine(TRY_PLAIN(linux::uname()).machine) : TRY_PLAIN(image::parse_platform(wanted));
  out.image = TRY_PLAIN(transport::find_image(out.place(), out.source.name, platform));
  return out;
}

class Lister {
 public:
  explicit Lister(transport::Place& place) : place_(place) {}

  Status list(const Digest& subject, std::size_t depth) {
    for (const auto& entry : TRY_PLAIN(place_.referrers(subject))) {
      if (!seen_.insert(entry.digest).second) continue;
      Row row;
      row.fields["Digest"] = entry.digest.text();
      row.fields["Type"] = entry.artifact_type;
      row.fields["Size"] = human_size(entry.size_bytes);
      row.fields["Subject"] = subject.text();
      row.fields["Predicate"] = annotation(entry, trust::bundle_predicate_annotation);
      row.fields["Created"] = annotation(entry, created_annotation);
      rows_.push_back(std::move(row));
      if (depth < most_shown_depth) TRY_PLAIN(list(entry.digest, depth + 1));
    }
    return {};
  }
  [[nodiscard]] std::vector<Row>& rows() { return rows_; }

 private:
  transport::Place& place_;
  std::set<Digest> seen_;
  std::vector<Row> rows_;
};

/// Attestations of an image: bundles among its referrers, envelopes under cosign's ".att" tag.
class Attestations {
 public:
  Attestations(Named& named, const transport::Spool& spool, std::string predicate_type) : named_(named), spool_(spool), predicate_type_(std::move(predicate_type)) {}

  /// Those that one of the keys signed. Errors: denied, saying why the others do not count.
  Result<std::vector<trust::Attestation>> verified_by(const std::vector<PublicKey>& keys) {
    for (const auto& digest : named_.image.digests) {
      TRY_PLAIN(among_referrers(digest, keys));
      TRY_PLAIN(under_the_tag(digest, keys));
    }
    if (!good_.empty()) return std::move(good_);
    const auto what = concat(named_.place().name(), "@", named_.image.manifest.digest.text(), ": ");
    if (refused_.empty()) return Error(ErrorKind::denied, concat(what, "no attestation of ", predicate_type_));
    return Error(ErrorKind::denied, concat(what, "no attestation of ", predicate_type_, " counts: ", join(refused_, "; ")));
  }

 private:
  Status among_referrers(const Digest& subject, const std::vector<PublicKey>& keys) {
    for (const auto& entry : TRY_PLAIN(named_.place().referrers(subject))) {
      const auto predicate = annotation(entry, trust::bundle_predicate_annotation);
      if (entry.artifact_type != trust::media_type::bundle || (!predicate.empty() && predicate != predicate_type_)) continue;
      for (const auto& layer : TRY_PLAIN(transport::attached_manifest(named_.place(), entry)).layers)
        if (layer.media_type == trust::media_type::bundle) TRY_PLAIN(take(entry.digest, layer, keys, trust::parse_bundle));
    }
    return {};
  }

  Status under_the_tag(const Digest& subject, const std::vector<PublicKey>& keys) {
    auto found = named_.place().manifest(image::tag_of(subject, ".att"));
    if (!found.ok() && found.error().kind() == ErrorKind::not_found) return {};
    const auto document = TRY_PLAIN(std::move(found));
    for (const auto& layer : TRY(image::parse_manifest(document.text), named_.place().name()).layers)
      if (layer.media_type == trust::media_type::dsse) TRY_PLAIN(take(layer.digest, layer, keys, trust::parse_envelope));
    return {};
  }

  Status take(const Digest& name, const image::Descriptor& blob, const std::vector<PublicKey>& keys, Result<trust::Bundle> (*parse)(std::string_view)) {
    const auto text = TRY_PLAIN(transport::read_blob(named_.place(), blob, spool_, most_document_bytes));
    auto verify = [&]() -> Result<trust::Attestation> { return trust::verify_attestation(TRY_PLAIN(parse(text)), keys, named_.image.digests); };
    auto attestation = verify();
    if (!attestation.ok()) refused_.push_back(concat(name.text(), ": ", attestation.error().text()));
    else if (attestation->statement.predicate_type == predicate_type_) good_.push_back(std::move(*attestation));
    return {};
  }

  Named& named_;
  const transport::Spool& spool_;
  std::string predicate_type_;
  std::vector<trust::Attestation> good_;
  std::vector<std::string> refused_;
};

Status write_document(Session& session, const Invocation& invocation, std::string_view text) {
  const std::string output(invocation.text("output"));
  if (!output.empty()) return write_output_file(output, text);
  session.out().write(text);
  return {};
}

}  // namespace

Result<transport::Location> attachable_location(std::string_view text) {
  auto location = TRY_PLAIN(transport::parse_location(text));
  if (location.kind == transport::Kind::registry || location.kind == transport::Kind::layout) return location;
  return Error(ErrorKind::invalid, concat(text, ": only in registries and layouts something is attached to images")).with_hint("push the image, and name it as host/path:tag");
}

Result<std::optional<trust::PrivateKey>> attestation_key(Session& session, const Invocation& invocation, std::string_view flag) {
  const auto paths = invocation.list(flag);
  if (paths.size() > 1) return Error(ErrorKind::invalid, concat("--", flag, ": an attestation is signed with one key"));
  if (paths.empty()) return std::optional<trust::PrivateKey>();
  return std::optional(TRY_PLAIN(read_private_key(session, paths.front(), invocation)));
}

Status attach_document(Session& session, transport::Place& place, const Digest& subject, const Attachment& attachment, const trust::PrivateKey* key) {
  const auto manifest = TRY_PLAIN(place.manifest(subject.text()));
  const auto name = place.repository() ? place.repository()->repository() : std::string();
  const auto statement = TRY_PLAIN(trust::write_statement(subject, name, attachment.predicate_type, attachment.predicate));
  const bool is_plain = !attachment.media_type.empty();
  image::Artifact artifact;
  artifact.artifact_type = is_plain ? attachment.media_type : statement_type;
  artifact.blobs.push_back({artifact.artifact_type, is_plain ? attachment.predicate : statement, {{std::string(title_annotation), attachment.title}}});
  if (!is_plain) artifact.blobs.back().annotations[std::string(predicate_annotation)] = artifact.annotations[std::string(predicate_annotation)] = attachment.predicate_type;
  if (attachment.created > 0) artifact.annotations[std::string(created_annotation)] = concat(std::string_view(to_rfc3339(attachment.created)).substr(0, 19), "Z");
  artifact.subject.emplace();
  artifact.subject->media_type = manifest.media_type;
  artifact.subject->digest = manifest.digest;
  artifact.subject->size_bytes = manifest.text.size();
  const auto made = TRY(transport::attach(place, artifact), "attach the document");
  session.out().line(concat(place.name(), "@", made.digest.text()));
  if (key == nullptr) return {};
  trust::FoundSignature attestation{trust::SignatureFormat::bundle, TRY_PLAIN(trust::write_bundle(*key, statement)), ""};
  const auto attested = TRY(transport::attach(place, TRY_PLAIN(image::signature_artifact(*artifact.subject, attestation))), "attach the attestation");
  session.out().line(concat(place.name(), "@", attested.digest.text()));
  return {};
}

Result<int> show_attached_sbom(Session& session, const Invocation& invocation) {
  auto places = TRY_PLAIN(Places::create(session, invocation));
  auto named = TRY_PLAIN(open_named(places, invocation));
  const auto spool = TRY_PLAIN(transport::Spool::open(places.spool_folder()));
  if (invocation.has("key")) {
    auto found = TRY_PLAIN(Attestations(named, spool, std::string(trust::spdx_predicate)).verified_by(TRY_PLAIN(read_public_keys(invocation.list("key")))));
    session.err().line(concat("signed by ", found.back().signer));
    TRY_PLAIN(write_document(session, invocation, concat(found.back().statement.predicate, "\n")));
    return 0;
  }
  std::vector<image::Descriptor> documents;
  for (const auto& digest : named.image.digests)
    for (auto& entry : TRY_PLAIN(named.place().referrers(digest)))
      if (entry.artifact_type == spdx_type) documents.push_back(std::move(entry));
  const auto image = concat(named.place().name(), "@", named.image.manifest.digest.text());
  if (documents.empty()) return Error(ErrorKind::not_found, concat(image, ": no bill of materials is attached")).with_hint("make and attach one with: caisson image sbom --attach");
  const auto& newest = *std::max_element(documents.begin(), documents.end(), [](const auto& a, const auto& b) { return annotation(a, created_annotation) < annotation(b, created_annotation); });
  if (documents.size() > 1) session.err().line(concat(documents.size(), " documents are attached; this is the newest, ", newest.digest.text()));
  const auto manifest = TRY_PLAIN(transport::attached_manifest(named.place(), newest));
  const auto blob = std::find_if(manifest.layers.begin(), manifest.layers.end(), [](const auto& layer) { return layer.media_type == spdx_type; });
  if (blob == manifest.layers.end()) return Error(ErrorKind::invalid, concat(image, ": ", newest.digest.text(), " holds no document of type ", spdx_type));
  TRY_PLAIN(write_document(session, invocation, TRY_PLAIN(transport::read_blob(named.place(), *blob, spool, most_document_bytes))));
  return 0;
}

Result<int> list_attached(Session& session, const Invocation& invocation) {
  auto places = TRY_PLAIN(Places::create(session, invocation));
  auto named = TRY_PLAIN(open_named(places, invocation));
  Lister lister(named.place());
  for (const auto& digest : named.image.digests) TRY_PLAIN(lister.list(digest, 0));
  const bool is_full = invocation.flag("no-trunc");
  for (auto& row : lister.rows())
    for (const char* field : {"Digest", "Subject"})
      if (!is_full && invocation.text("format") != "json") row.fields[field] = short_id(row.fields[field].get_string());
  ListFormat list;
  list.columns = attached_columns;
  list.table = "{{.Digest}}\t{{.Type}}\t{{.Size}}\t{{.Subject}}\t{{.Predicate}}";
  list.format = invocation.text("format");
  TRY_PLAIN(print_list(session.out(), list, lister.rows()));
  return 0;
}

Result<int> verify_attestation(Session& session, const Invocation& invocation) {
  if (invocation.has("ca")) return Error(ErrorKind::invalid, "--attestation is about keys; --ca is not");
  if (!invocation.has("key")) return Error(ErrorKind::invalid, "--attestation needs --key: whose it has to be");
  const auto predicate_type = TRY(predicate_of(invocation.text("attestation")), "--attestation");
  const auto keys = TRY_PLAIN(read_public_keys(invocation.list("key")));
  auto places = TRY_PLAIN(Places::create(session, invocation));
  auto named = TRY_PLAIN(open_named(places, invocation));
  const auto spool = TRY_PLAIN(transport::Spool::open(places.spool_folder()));
  const auto found = TRY_PLAIN(Attestations(named, spool, predicate_type).verified_by(keys));
  const auto image = concat(named.place().name(), "@", named.image.manifest.digest.text());
  if (invocation.text("format") == "json") {
    json::array list;
    for (const auto& attestation : found)
      list.push_back(json::object{{"signer", attestation.signer}, {"predicateType", attestation.statement.predicate_type}, {"predicate", TRY_PLAIN(parse_json(attestation.statement.predicate, "predicate"))}});
    session.out().line(to_text(json::object{{"image", image}, {"attestations", std::move(list)}}));
    return 0;
  }
  session.out().line(concat(image, " has an attestation of ", predicate_type));
  for (const auto& attestation : found) session.out().line(concat("  signed by ", attestation.signer));
  return 0;
}

}  // namespace caisson::cli
