// containers-registries.d(5): where the OpenPGP signatures of a registry's images lie.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "base/reference.hpp"
#include "base/result.hpp"

namespace caisson::trust {

/// One file: its text and its name, for errors.
struct LookasideFile {
  std::string name;
  std::string text;
};
/// The base URL for an image: of the narrowest scope that has one ("lookaside", or its old name "sigstore"), or "default-docker"'s; nothing when
/// no file says any. A scope that two files have is an error, as in containers. Pure. Errors: invalid, naming the file.
Result<std::optional<std::string>> find_lookaside(const std::vector<LookasideFile>& files, const Reference& reference);
/// BASE/PATH@ALGORITHM=HEX/signature-NUMBER, counted from 1. Pure.
std::string lookaside_url(std::string_view base, const Reference& reference, const Digest& manifest, std::size_t number);

/// The *.yaml of a folder; none when it is not there. Errors: io, naming the file.
Result<std::vector<LookasideFile>> read_lookaside_files(const std::string& folder);

}  // namespace caisson::trust
