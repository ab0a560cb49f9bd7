// What a role's bounds say to a container, a volume or a network that somebody asks for. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "base/json.hpp"
#include "base/result.hpp"
#include "engine/types.hpp"

namespace caisson::engine {

/// The labels that people gave it; those of its image are left out.
policy::Labels given_labels(const ContainerSpec& spec);

/// The labels and the project of the role's scope, in what somebody makes. Errors: denied (another value was asked for).
Status put_in_scope(const policy::Role& role, policy::Labels& labels);

/// Whether a container's box reaches further than the role's bounds: privileges, capabilities, namespaces, devices, profiles and what of the
/// host is mounted. Whoever works inside a container has what it has. Errors: denied, naming the role and the first thing beyond it.
struct Passing {
  bool grants = false;       ///< binds that were granted when the container was made: for whoever has the role that it was made with
  bool step_mounts = false;  ///< what the builder mounted: for whom the build was made
};
Status check_box(const policy::Role& role, const ContainerSpec& spec, Passing passing);

/// check_box, and user, ports, log driver and limits, for who makes the container. Limits that were not asked for are filled in, and binds are told beneath which
/// grant they stay. Errors: denied.
Status apply_bounds(const policy::Role& role, ContainerSpec& spec);

/// The same for limits alone, for update(). Errors: denied.
Status bound_resources(const policy::Role& role, ResourceSpec& resources);
/// A program in a container: its privileges and its user, which is the container's when it names none. Errors: denied.
Status check_exec(const policy::Role& role, const ExecSpec& exec, const ContainerSpec& container);
/// `names`: what the image is called here; none: it is not here.
Status check_image(const policy::Role& role, const std::string& reference, const std::vector<std::string>& names);
/// The same for one that is here, with or without a name.
Status check_image_here(const policy::Role& role, const std::string& reference, const image::Image& image);
Status check_volume(const policy::Role& role, const std::map<std::string, std::string>& options);
Status check_network(const policy::Role& role, const network::NetworkRequest& request);

/// What the RUN steps of a build ask for: `step` is the container of one as the request describes it. Errors: denied.
Status apply_build_bounds(const policy::Role& role, ContainerSpec& step, bool may_be_insecure, bool may_use_host_network);

/// What of the host a container asks for, for the audit log; empty for an ordinary one.
json::object asked_of_host(const ContainerSpec& spec);

}  // namespace caisson::engine
