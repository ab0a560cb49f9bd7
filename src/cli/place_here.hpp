// Taking apart the archive in an answer's body, into a folder of the caller's.
#pragma once

#include <string>

#include "base/result.hpp"
#include "wire/http_client.hpp"

namespace caisson::cli {

/// The archive comes from a container or an image and may be hostile: every name is resolved against the open `folder`, never against "/". What is placed
/// belongs to the caller. `first_name`: replaces the first part of every name; "": nothing is renamed. Errors: those of image::place_archive.
Status place_here(wire::Client& client, const std::string& folder, const std::string& first_name = {});

}  // namespace caisson::cli
