// What others than the store have to say about images that are still coming (docs/adr/0017).
#pragma once

#include "base/result.hpp"
#include "image/image_store.hpp"

namespace caisson::image {

/// For whoever needs an image as a whole. Errors: conflict, saying how far it has come; corrupt, when what came is not what had been promised.
Status must_be_here(const Image& image);

}  // namespace caisson::image
