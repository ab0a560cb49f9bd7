// The parts of an image reference that registries see: the path of a repository, and a tag.
#pragma once

#include <cstddef>
#include <string_view>

namespace caisson::image {

inline constexpr std::size_t most_repository_bytes = 255;

/// "library/alpine": parts of [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*, separated by slashes. The length is not looked at.
bool is_repository_path(std::string_view text);
/// "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}".
bool is_tag(std::string_view text);

}  // namespace caisson::image
