// Credentials of registries as Docker's clients write them in headers and bodies.
#pragma once

#include "base/json.hpp"
#include "base/result.hpp"
#include "image/image_store.hpp"

namespace caisson::api {

/// {"username","password"} or {"auth"} or a token. Errors: invalid, naming the field.
Status read_credentials(const JsonView& view, image::RegistryCredentials& out);

}  // namespace caisson::api
