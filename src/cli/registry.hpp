// Pulling and pushing, as several commands do them.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "cli/request.hpp"
#include "cli/session.hpp"
#include "image/image_store.hpp"

namespace caisson::cli {

/// X-Registry-Auth with the credentials that are kept for the registry of `reference`. Errors: io, invalid (the file they are in).
Result<wire::Headers> auth_headers(Session& session, const image::Reference& reference);

/// X-Registry-Config with the credentials of every registry that the file names: the daemon needs those of base images and caches, which only the
/// Dockerfile knows. Warns of what cannot be read. Errors: io, invalid (the file as a whole).
Result<wire::Headers> all_auth_headers(Session& session);

/// In which compression layers are to leave the store; what is wrong with it, the daemon says.
struct LayerCompression {
  std::string format;           ///< "": what the daemon does by itself
  std::string level;            ///< "": the format's usual one
  bool is_of_all_layers = true; ///< else of those that lie without compression
};
void add_compression(Query& query, const LayerCompression& compression);

struct PushWish {
  std::string name;                 ///< as typed
  bool all_tags = false;
  bool is_quiet = false;
  std::vector<std::string> images;  ///< ids of what goes under that name, several as one image of several platforms; none: what has the name
  LayerCompression compression;
  json::object annotations;         ///< of the index of several platforms, as the daemon's `annotations` has them
};
/// Pushes with the credentials kept for that registry, and shows the progress on standard error. Returns the digest of the last manifest.
/// Errors: those of the daemon.
Result<std::string> push(Session& session, const PushWish& wish);

struct PullWish {
  std::string name;       ///< as typed
  std::string platform;
  bool all_tags = false;
  bool is_quiet = false;
  bool is_lazy = false;   ///< as soon as the image can be used
};
/// Asks the daemon to pull, with the credentials kept for that registry, and shows the progress on standard error.
Status pull(Session& session, const PullWish& wish);

}  // namespace caisson::cli
