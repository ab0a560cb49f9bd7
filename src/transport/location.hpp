// Where images are copied from and to, as people write it: skopeo's names of transports, and what is behind them. Pure.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "image/image_store.hpp"

namespace caisson::transport {

enum class Kind : std::uint8_t {
  registry,        ///< "host/path:tag", "docker://host/path:tag"
  layout,          ///< "oci:FOLDER[:TAG|@DIGEST]": an OCI layout
  oci_archive,     ///< "oci-archive:FILE[:TAG]": a tar of one
  docker_archive,  ///< "docker-archive:FILE[:NAME[:TAG]]": what docker save writes and docker load reads
  local,           ///< "local:NAME": this engine's images
};

struct Location {
  Kind kind = Kind::registry;
  image::Reference reference;  ///< of a registry, of local, and of a docker-archive that names its image (else its path is empty)
  std::string path;            ///< of a folder or file; of local: the name as it was given, which may be an id
  std::string tag;             ///< of a layout or oci-archive; "" when none was given
  std::optional<Digest> digest;  ///< of a layout, in place of a tag
};

/// Errors: invalid, with what was expected.
Result<Location> parse_location(std::string_view text);
/// The same, as it would be written.
std::string to_text(const Location& location);
/// What a source has in it: a tag or digest; "" for the only image of a layout.
std::string name_in(const Location& location);

}  // namespace caisson::transport
