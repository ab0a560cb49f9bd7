// What `RUN --mount=…` asks for.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson::dockerfile {

enum class MountKind : std::uint8_t { bind, cache, tmpfs, secret, ssh };
enum class CacheSharing : std::uint8_t { shared, private_, locked };

/// Defaults are filled in, but for a target relative to WORKDIR.
struct RunMount {
  MountKind kind = MountKind::bind;
  std::string target;         ///< "": secret and ssh only, when not given
  std::string source = "/";   ///< bind, cache: a path in `from`
  std::string from;           ///< "": the context (bind) or nothing (cache)
  bool read_only = true;      ///< bind; cache: false
  std::string id;             ///< cache, secret, ssh
  CacheSharing sharing = CacheSharing::shared;
  std::int64_t size_bytes = 0;  ///< tmpfs; 0: unlimited
  std::string environment;      ///< secret: the variable that holds it, "": none
  bool required = false;        ///< secret, ssh
  std::uint32_t mode = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

/// "type=cache,target=/root/.cache,sharing=locked": comma-separated values with CSV's quotes. Errors: invalid, naming the key.
Result<RunMount> parse_mount(std::string_view text);

}  // namespace caisson::dockerfile
