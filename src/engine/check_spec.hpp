// What a container specification must be before anything is made of it. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "engine/types.hpp"

namespace caisson::engine {

/// What this host offers, for checks against it.
struct HostLimits {
  std::uint32_t cpus = 1;
  std::uint64_t memory_bytes = 0;
};

/// Errors: invalid, naming the field or in docker's words where clients show them; unsupported for what this engine lacks.
Status check_spec(const ContainerSpec& spec, const HostLimits& host);
/// The part that update() shares.
Status check_resources(const ResourceSpec& resources, const HostLimits& host);
Status check_restart_policy(const RestartPolicy& policy, bool auto_remove);

/// An absolute path without empty parts, "." and "..", by its text alone: no link is followed.
std::string clean_path(std::string_view path);

/// "container:web" → "web"; "" for any other mode.
std::string container_of_mode(const std::string& mode);

}  // namespace caisson::engine
