// Artifacts in registries: manifests that are no image, attached to one as referrers (signatures, SBOMs, provenance) or named by a tag.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "image/manifest.hpp"
#include "image/registries.hpp"

namespace caisson::image {

namespace media_type {
inline constexpr std::string_view oci_empty = "application/vnd.oci.empty.v1+json";  ///< of the document "{}"
}  // namespace media_type

struct ArtifactBlob {
  std::string media_type;
  std::string bytes;
  std::map<std::string, std::string> annotations;
};

/// What goes to a registry as one manifest and its blobs.
struct Artifact {
  std::string artifact_type;
  ArtifactBlob config{std::string(media_type::oci_empty), "{}", {}};
  std::vector<Descriptor> kept;  ///< blobs that the repository has already; they come first
  std::vector<ArtifactBlob> blobs;
  std::map<std::string, std::string> annotations;
  std::optional<Descriptor> subject;  ///< the image or index it is attached to: makes it a referrer
  std::string replaces;               ///< the entity tag of what is under its tag now; "": whatever is there
};

/// What is attached to a manifest, as its registry lists it.
struct Referrer {
  Descriptor descriptor;  ///< its artifact_type is the manifest's own, also where a list is wrong about it
};
/// Whoever can push can attach: reading lists must end.
inline constexpr std::size_t most_referrers = 256;

/// What a manifest or index says of itself: how lists of referrers tell it, and what it is attached to, if it is.
struct Attachment {
  Descriptor descriptor;
  std::optional<Descriptor> subject;
};

/// An artifact's manifest, checked against its digest.
struct FetchedArtifact {
  FetchedManifest document;
  Manifest manifest;
};

/// "sha256-<hex>" and a suffix (cosign has ".sig", ".att", ".sbom"): names of what belongs to a manifest. A longer hash is cut, as the referrers tag schema says.
std::string tag_of(const Digest& subject, std::string_view suffix);
/// The same without a suffix: the tag under which registries that list no referrers keep an index of them. OCI distribution 1.1, "referrers tag schema".
std::string referrers_tag(const Digest& subject);
/// "sha256-<hex>.sig": where cosign keeps the signatures of a manifest.
std::string signature_tag(const Digest& subject);

/// As manifests name it. Pure.
Descriptor describe_blob(const ArtifactBlob& blob);
/// The manifest of an artifact as push_artifact sends it. Pure.
std::string write_artifact(const Artifact& artifact);
/// The same with its digest and type.
FetchedManifest made_manifest(const Artifact& artifact);

/// Errors: those of parse_manifest and parse_index. Pure.
Result<Attachment> describe_attachment(const FetchedManifest& document);

/// Puts a manifest or index, whose blobs are there, by its digest and byte for byte, and sees to it that it is listed as attached to its subject, as
/// push_artifact does. Errors: the registry's, corrupt, conflict.
Status put_referrer(RegistrySession& session, const Reference& repository, const FetchedManifest& document, const Attachment& attachment, const Cancel& cancel);

/// Sends what the registry lacks of the blobs, then the manifest, under `tag` or ("") by its digest. With a subject it is a referrer: where the
/// registry does not list referrers by itself, the index under the fallback tag is updated, again after somebody else's update.
/// `session` must be open for "pull,push". Returns the manifest's descriptor. Errors: the registry's, corrupt, conflict.
Result<Descriptor> push_artifact(RegistrySession& session, const Reference& repository, const Artifact& artifact, const std::string& tag, const Cancel& cancel);

/// What is attached to `subject`, of one artifact type or ("") all; at most most_referrers. From the registry's list, or the fallback tag's index; there, each
/// manifest is read, for the entries are their writers' word (cosign 2.5 writes a wrong artifactType). Errors: the registry's, corrupt.
Result<std::vector<Referrer>> list_referrers(RegistrySession& session, const Reference& repository, const Digest& subject, const std::string& artifact_type,
                                             const Cancel& cancel);

/// Errors: not_found, corrupt (a digest that is not the content's), invalid (an index, no artifact), the registry's.
Result<FetchedArtifact> fetch_artifact(RegistrySession& session, const Reference& repository, const std::string& tag_or_digest, const Cancel& cancel);

}  // namespace caisson::image
