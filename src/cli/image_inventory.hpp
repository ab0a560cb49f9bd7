// A bill of materials attached to an image, for `image sbom --attach` and `build --sbom`.
#pragma once

#include "base/result.hpp"
#include "cli/places.hpp"
#include "cli/session.hpp"
#include "image/manifest.hpp"
#include "transport/location.hpp"
#include "trust/key.hpp"

namespace caisson::cli {

struct InventoryWish {
  const Places::Source& source;         ///< opened for "pull,push"
  const transport::Location& location;
  image::Platform platform;
};
/// Reads what is installed and attaches it as SPDX. Prints what it is called. The document. Errors: as attach_document, and of reading the image.
Result<std::string> attach_inventory(Session& session, Places& places, const InventoryWish& wish, const trust::PrivateKey* key);

}  // namespace caisson::cli
