// What `image sbom`, `image attached` and `image verify --attestation` do with what is attached to an image where it lies.
#pragma once

#include <string>
#include <string_view>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "cli/parse.hpp"
#include "cli/places.hpp"
#include "cli/session.hpp"
#include "transport/location.hpp"

namespace caisson::cli {

/// Where attachments can be: a registry, which a plain name means here, or a layout. Errors: invalid.
Result<transport::Location> attachable_location(std::string_view text);

/// A bill of materials as a document attached to the manifest `subject`; with --key also as a signed attestation. Prints what each is called.
Status attach_sbom(Session& session, const Invocation& invocation, transport::Place& place, const Digest& subject, TimestampNs created, const std::string& document);

/// The bill of materials that is attached; with --key only one that a signed attestation holds.
Result<int> show_attached_sbom(Session& session, const Invocation& invocation);

/// image verify --attestation.
Result<int> verify_attestation(Session& session, const Invocation& invocation);

}  // namespace caisson::cli
