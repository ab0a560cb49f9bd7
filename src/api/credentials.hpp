// Credentials of registries as Docker's clients write them in headers and bodies.
#pragma once

#include "api/request.hpp"
#include "base/json.hpp"
#include "base/result.hpp"
#include "image/image_store.hpp"

namespace caisson::api {

/// {"username","password"} or {"auth"} or a token. Errors: invalid, naming the field.
Status read_credentials(const JsonView& view, image::RegistryCredentials& out);
/// X-Registry-Auth: base64 of a JSON object. One that cannot be read is treated as none, as docker does: an old client sent garbage.
image::RegistryCredentials credentials_of(const Request& request);
/// Docker answers 500 for whatever a registry, or the way to it, did wrong; clients tell "missing" by 404.
int registry_status(ErrorKind kind);

}  // namespace caisson::api
