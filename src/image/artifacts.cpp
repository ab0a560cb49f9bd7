// Artifacts to and from registries, with the fallback for those that list no referrers.
#include "image/artifacts.hpp"

#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

constexpr int most_rounds = 5;  // of updating an index that others update too

Status push_bytes(RegistrySession& session, const Reference& repository, const ArtifactBlob& blob, const Cancel& cancel) {
  const auto digest = sha256_of(blob.bytes);
  FetchRequest ask;
  ask.task = FetchTask::has_blob;
  ask.repository = repository.path;
  ask.name = digest.text();
  if (TRY_PLAIN(session.ask(std::move(ask), cancel)).found) return {};
  const auto step = concat("blob ", digest.text());
  auto file = TRY(linux::memfd_create("caisson-artifact"), step);
  TRY(linux::write_all(file.get(), blob.bytes), step);
  FetchRequest request;
  request.task = FetchTask::upload;
  request.repository = repository.path;
  request.name = digest.text();
  request.size_bytes = blob.bytes.size();
  auto reply = TRY_PLAIN(session.call(std::move(request), file.get(), {}, std::array{cancel.fd}));
  if (!reply.ok) return error_of(reply);
  return {};
}

struct Listed {
  Index index;
  std::string etag;
};

/// The index under the fallback tag; an empty one when there is none.
Result<Listed> fallback_index(RegistrySession& session, const Reference& repository, const Digest& subject, const Cancel& cancel) {
  Listed listed;
  listed.index.media_type = media_type::oci_index;
  auto found = fetch_manifest(session, repository, referrers_tag(subject), cancel);
  if (!found.ok() && found.error().kind() == ErrorKind::not_found) return listed;
  auto manifest = TRY(std::move(found), "referrers");
  listed.index = TRY(parse_index(manifest.text), concat("referrers tag ", referrers_tag(subject)));
  listed.etag = std::move(manifest.etag);
  return listed;
}

/// Read, add, write; and once more when somebody else was quicker. Without entity tags, as in distribution 2.8, the last writer wins.
Status add_to_fallback(RegistrySession& session, const Reference& repository, const Digest& subject, const Descriptor& added, const Cancel& cancel) {
  for (int round = 1;; ++round) {
    auto listed = TRY_PLAIN(fallback_index(session, repository, subject, cancel));
    auto& entries = listed.index.manifests;
    if (std::any_of(entries.begin(), entries.end(), [&](const Descriptor& entry) { return entry.digest == added.digest; })) return {};
    entries.push_back(added);
    FetchRequest request;
    request.task = FetchTask::put_manifest;
    request.repository = repository.path;
    request.name = referrers_tag(subject);
    request.media_type = media_type::oci_index;
    request.body = write_index(listed.index);
    request.if_match = listed.etag;
    auto put = session.ask(std::move(request), cancel);
    if (put.ok()) return {};
    if (put.error().kind() != ErrorKind::conflict || round == most_rounds) return std::move(put).error().in(concat("referrers tag ", referrers_tag(subject)));
  }
}

/// A manifest under a name; where the registry does not say that it lists it, its subject's fallback tag does from now on.
Status put_listed(RegistrySession& session, const Reference& repository, FetchRequest request, const Attachment& attachment, const Cancel& cancel) {
  const auto& made = attachment.descriptor;
  request.task = FetchTask::put_manifest;
  request.repository = repository.path;
  request.media_type = made.media_type;
  auto reply = TRY_PLAIN(session.ask(std::move(request), cancel));
  auto said = Digest::parse(reply.digest);
  if (said.ok() && said->kind() == made.digest.kind() && *said != made.digest)
    return Error(ErrorKind::corrupt, concat("the registry stored the manifest as ", said->text(), ", not as ", made.digest.text()));
  if (attachment.subject && reply.subject.empty()) TRY_PLAIN(add_to_fallback(session, repository, attachment.subject->digest, made, cancel));
  return {};
}

Result<std::vector<Referrer>> from_api(const std::string& body, const std::string& artifact_type) {
  auto index = TRY(parse_index(concat(R"({"manifests":)", body, "}")), "list of referrers");
  std::vector<Referrer> out;
  for (auto& entry : index.manifests) {
    // A registry may leave the filter to us.
    if (!artifact_type.empty() && entry.artifact_type != artifact_type) continue;
    if (out.size() == most_referrers) break;
    out.push_back({std::move(entry)});
  }
  return out;
}

}  // namespace

std::string tag_of(const Digest& subject, std::string_view suffix) {
  constexpr std::size_t most_hex = 64;  // the schema's bounds: a sha512 is cut
  return concat(subject.algorithm(), "-", subject.hex().substr(0, most_hex), suffix);
}
std::string referrers_tag(const Digest& subject) { return tag_of(subject, ""); }
std::string signature_tag(const Digest& subject) { return tag_of(subject, ".sig"); }

Descriptor describe_blob(const ArtifactBlob& blob) {
  Descriptor descriptor;
  descriptor.media_type = blob.media_type;
  descriptor.digest = sha256_of(blob.bytes);
  descriptor.size_bytes = blob.bytes.size();
  descriptor.annotations = blob.annotations;
  return descriptor;
}

std::string write_artifact(const Artifact& artifact) {
  Manifest manifest;
  manifest.media_type = media_type::oci_manifest;
  manifest.artifact_type = artifact.artifact_type;
  manifest.config = describe_blob(artifact.config);
  manifest.layers = artifact.kept;
  for (const auto& blob : artifact.blobs) manifest.layers.push_back(describe_blob(blob));
  manifest.annotations = artifact.annotations;
  manifest.subject = artifact.subject;
  return write_manifest(manifest);
}

FetchedManifest made_manifest(const Artifact& artifact) {
  FetchedManifest made;
  made.text = write_artifact(artifact);
  made.media_type = media_type::oci_manifest;
  made.digest = sha256_of(made.text);
  return made;
}

Result<Attachment> describe_attachment(const FetchedManifest& document) {
  Attachment out;
  out.descriptor.media_type = document.media_type;
  out.descriptor.digest = document.digest;
  out.descriptor.size_bytes = document.text.size();
  const auto step = concat("manifest ", document.digest.text());
  if (is_index_type(document.media_type)) {
    auto index = TRY(parse_index(document.text), step);
    out.descriptor.artifact_type = std::move(index.artifact_type);
    out.descriptor.annotations = std::move(index.annotations);
    out.subject = std::move(index.subject);
    return out;
  }
  auto manifest = TRY(parse_manifest(document.text), step);
  // OCI distribution 1.1, "listing referrers": what has no type of its own has its config's.
  out.descriptor.artifact_type = manifest.artifact_type.empty() ? manifest.config.media_type : manifest.artifact_type;
  out.descriptor.annotations = std::move(manifest.annotations);
  out.subject = std::move(manifest.subject);
  return out;
}

Result<Descriptor> push_artifact(RegistrySession& session, const Reference& repository, const Artifact& artifact, const std::string& tag, const Cancel& cancel) {
  for (const auto& blob : artifact.blobs) TRY_PLAIN(push_bytes(session, repository, blob, cancel));
  TRY_PLAIN(push_bytes(session, repository, artifact.config, cancel));
  const auto document = made_manifest(artifact);
  auto attachment = TRY_PLAIN(describe_attachment(document));
  FetchRequest request;
  request.body = document.text;
  request.name = tag.empty() ? document.digest.text() : tag;
  request.if_match = artifact.replaces;
  TRY_PLAIN(put_listed(session, repository, std::move(request), attachment, cancel));
  return attachment.descriptor;
}

Status put_referrer(RegistrySession& session, const Reference& repository, const FetchedManifest& document, const Attachment& attachment, const Cancel& cancel) {
  FetchRequest request;
  request.body = document.text;
  request.name = document.digest.text();
  return put_listed(session, repository, std::move(request), attachment, cancel);
}

static Result<Attachment> attachment_at(RegistrySession& session, const Reference& repository, const Digest& digest, const Cancel& cancel) {
  return describe_attachment(TRY_PLAIN(fetch_manifest(session, repository, digest.text(), cancel)));
}

Result<std::vector<Referrer>> list_referrers(RegistrySession& session, const Reference& repository, const Digest& subject, const std::string& artifact_type,
                                             const Cancel& cancel) {
  FetchRequest request;
  request.task = FetchTask::referrers;
  request.repository = repository.path;
  request.name = subject.text();
  request.media_type = artifact_type;
  auto reply = TRY(session.ask(std::move(request), cancel), concat("referrers of ", subject.text()));
  if (reply.found) return from_api(reply.body, artifact_type);
  auto listed = TRY_PLAIN(fallback_index(session, repository, subject, cancel));
  std::vector<Referrer> out;
  for (std::size_t i = 0; i < std::min(listed.index.manifests.size(), most_referrers); ++i) {
    Referrer referrer{listed.index.manifests[i]};
    auto described = attachment_at(session, repository, referrer.descriptor.digest, cancel);
    // An entry whose manifest is gone, or is none, is nobody's attachment.
    if (!described.ok() && (described.error().kind() == ErrorKind::not_found || described.error().kind() == ErrorKind::invalid)) continue;
    auto attachment = TRY_PLAIN(std::move(described));
    if (!attachment.subject || attachment.subject->digest != subject) continue;
    referrer.descriptor.artifact_type = attachment.descriptor.artifact_type;
    if (artifact_type.empty() || referrer.descriptor.artifact_type == artifact_type) out.push_back(std::move(referrer));
  }
  return out;
}

Result<FetchedArtifact> fetch_artifact(RegistrySession& session, const Reference& repository, const std::string& tag_or_digest, const Cancel& cancel) {
  FetchedArtifact fetched;
  fetched.document = TRY_PLAIN(fetch_manifest(session, repository, tag_or_digest, cancel));
  fetched.manifest = TRY(parse_manifest(fetched.document.text), concat("manifest ", fetched.document.digest.text()));
  return fetched;
}

}  // namespace caisson::image
