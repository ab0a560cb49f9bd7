// HostConfig: everything about a container that is the host's business.
#pragma once

#include "base/json.hpp"
#include "engine/types.hpp"

namespace caisson::api {

Status read_host_config(const JsonView& host, engine::ContainerSpec& spec);
/// Docker's Resources object, which create and update share.
Status read_resources(const JsonView& view, engine::ResourceSpec& resources);
/// False when no policy was named.
Result<bool> read_restart_policy(const JsonView& view, engine::RestartPolicy& policy);

// host_mounts.cpp
/// Binds, Mounts and Tmpfs, in that order.
Status read_mounts(const JsonView& host, std::vector<engine::MountSpec>& mounts);

}  // namespace caisson::api
