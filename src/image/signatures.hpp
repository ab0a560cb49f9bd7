// The signatures of an image in its registry: where each kind of tool keeps them, found and added.
#pragma once

#include <string>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "image/artifacts.hpp"
#include "image/image_store.hpp"
#include "image/registries.hpp"
#include "trust/judge.hpp"
#include "trust/lookaside.hpp"

namespace caisson::image {

/// Whose signatures, and which: bounded in number and size, because whoever can push can attach.
struct SignatureSearch {
  Reference reference;
  std::vector<Digest> digests;  ///< the image's manifest, and the indexes that led to it
  trust::Wants wants;
  std::string lookaside_folder;  ///< registries.d, for OpenPGP; "": nowhere
};
/// Cosign's tag, bundles and notation's envelopes among the referrers, OpenPGP messages of the lookaside. Nothing is judged here.
/// Errors: the registry's; one that answers "not found" simply has none.
Result<std::vector<trust::FoundSignature>> find_signatures(const Registries& registries, RegistrySession& session, const SignatureSearch& search, const Cancel& cancel);

/// The referrer that carries a bundle or notation's envelope, attached to `subject` as of now. Errors: invalid (another format, or none of its format).
Result<Artifact> signature_artifact(const Descriptor& subject, const trust::FoundSignature& signature);

/// Adds `signature` to `subject` (a manifest or index of `repository`): to cosign's tag, beside those that are there, or as a referrer.
/// `session` must be open for "pull,push". Errors: invalid (OpenPGP, a document that is none of its format), the registry's.
Result<Descriptor> attach_signature(RegistrySession& session, const Reference& repository, const Descriptor& subject, const trust::FoundSignature& signature, const Cancel& cancel);

}  // namespace caisson::image
