// The Dockerfile lines that `import --change` and `commit --change` take: they set defaults of the image's containers.
#pragma once

#include <string_view>

#include "base/result.hpp"
#include "image/manifest.hpp"

namespace caisson::image {

/// Applies one line ("ENV A=b c=d", "CMD [\"bash\"]", "EXPOSE 80/tcp"). Words know quotes, backslashes and $NAME, ${NAME},
/// ${NAME:-word}, ${NAME:+word} of the environment set so far. Errors: invalid, in docker's words where it has some.
Status apply_change(std::string_view line, ImageConfig& image);

}  // namespace caisson::image
