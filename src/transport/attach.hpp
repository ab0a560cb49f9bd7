// Attaching a document to an image at a place, and reading what is attached there.
#pragma once

#include <string>

#include "base/result.hpp"
#include "image/artifacts.hpp"
#include "transport/place.hpp"
#include "transport/spool.hpp"

namespace caisson::transport {

/// Sends what the place lacks of the artifact's blobs, then its manifest, listed as attached to its subject. The manifest's descriptor.
/// Errors: those of the place.
Result<image::Descriptor> attach(Place& place, const image::Artifact& artifact);

/// The manifest of an artifact that a list of referrers names. Errors: those of the place, corrupt, invalid (an index).
Result<image::Manifest> attached_manifest(Place& place, const image::Descriptor& listed);

/// The bytes of a blob, checked; nothing of it stays in the spool. Errors: those of the place, corrupt, invalid (larger than `most_bytes`).
Result<std::string> read_blob(Place& place, const image::Descriptor& blob, const Spool& spool, std::size_t most_bytes);

}  // namespace caisson::transport
