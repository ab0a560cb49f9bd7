// References to images in Docker's grammar, [domain/]path[:tag][@digest], and the parts of it that registries see.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/digest.hpp"
#include "base/result.hpp"

namespace caisson {

inline constexpr std::size_t most_repository_bytes = 255;

/// "library/alpine": parts of [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*, separated by slashes. The length is not looked at.
bool is_repository_path(std::string_view text);
/// "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}".
bool is_tag(std::string_view text);

/// A parsed reference: "alpine", "localhost:5000/a/b:1", "x@sha256:…".
struct Reference {
  std::string domain;      ///< "docker.io"
  std::string path;        ///< "library/alpine"
  std::string tag;         ///< "latest" when neither tag nor digest was given
  std::optional<Digest> digest;
  [[nodiscard]] std::string canonical() const;  ///< "docker.io/library/alpine:latest"
  [[nodiscard]] std::string familiar() const;   ///< "alpine:latest"
  [[nodiscard]] std::string familiar_name() const;  ///< "alpine"
  [[nodiscard]] std::string repository() const { return domain + "/" + path; }
};
/// Errors: invalid, in docker's words ("invalid reference format").
Result<Reference> parse_reference(std::string_view text);

}  // namespace caisson
