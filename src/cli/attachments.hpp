// What `image sbom`, `image attached` and `image verify --attestation` do with what is attached to an image where it lies.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "cli/parse.hpp"
#include "cli/places.hpp"
#include "cli/session.hpp"
#include "transport/location.hpp"
#include "trust/key.hpp"

namespace caisson::cli {

/// Where attachments can be: a registry, which a plain name means here, or a layout. Errors: invalid.
Result<transport::Location> attachable_location(std::string_view text);

inline constexpr std::string_view spdx_type = "application/spdx+json";
inline constexpr std::string_view slsa_predicate = "https://slsa.dev/provenance/v1";

/// Something that is said of an image.
struct Attachment {
  std::string predicate_type;
  std::string predicate;    ///< JSON
  std::string media_type;   ///< of the predicate as a document of its own; "": unsigned it travels as an in-toto statement
  std::string title;        ///< a file's name
  TimestampNs created = 0;  ///< 0: nothing is said of it
};
/// As a document attached to the manifest `subject`; with a private key also as a signed attestation. Prints what each is called.
/// `key`: null: it is not signed. Errors: those of the place.
Status attach_document(Session& session, transport::Place& place, const Digest& subject, const Attachment& attachment, const trust::PrivateKey* key);
/// The key that a flag names, read once, before anything else is done; none without the flag. `invocation`: may have --passphrase-file.
/// Errors: invalid (more keys than one), those of the key.
Result<std::optional<trust::PrivateKey>> attestation_key(Session& session, const Invocation& invocation, std::string_view flag);

/// The bill of materials that is attached; with --key only one that a signed attestation holds.
Result<int> show_attached_sbom(Session& session, const Invocation& invocation);

/// image verify --attestation.
Result<int> verify_attestation(Session& session, const Invocation& invocation);

}  // namespace caisson::cli
