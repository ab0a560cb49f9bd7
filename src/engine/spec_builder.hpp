// From what a container shall be to what the kernel will be asked for: a pure plan, tested against golden files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "engine/types.hpp"
#include "engine/user_lookup.hpp"
#include "linux/mount.hpp"
#include "runtime/spec.hpp"

namespace caisson::engine {

/// Device numbers of what the spec names by path; looked up before, so that the builder touches no file.
struct ResolvedDevices {
  std::vector<runtime::Device> nodes;
  std::vector<runtime::DeviceRule> rules;
  runtime::BlockIoLimits block_io;
};

/// Everything the plan needs besides the record itself.
struct SpecInput {
  const ContainerInfo& info;        ///< spec merged, args and mounts resolved
  ResolvedUser user;
  linux::IdMap id_map;              ///< empty: the host's user namespace
  ResolvedDevices devices;
  std::string cgroups_path;
  std::string pid_namespace_path;   ///< of the container to join; "" otherwise
  std::string ipc_namespace_path;
  std::optional<runtime::SeccompProfile> seccomp;  ///< none: unconfined
  std::vector<std::string> link_env;               ///< of --link; the container's own settings go before them
  std::optional<std::int64_t> default_pids_limit;
  std::string default_apparmor;                    ///< the profile of a container that names none and is not privileged; "": none
  std::vector<std::string> unmappable_sources;     ///< bind sources whose file system cannot map ids
  bool can_hand_over_cgroup = false;               ///< the container has one of its own on v2 (a delegated v1 hierarchy is a way out: release_agent)
  bool host_has_mqueue = true;                     ///< /dev/mqueue, for whoever shares the host's ipc namespace
};

/// Errors: invalid, naming the field. Precondition: check_spec() accepted info.spec.
Result<runtime::Spec> build_spec(const SpecInput& input);

/// Limits as the runtime wants them; also for update.
runtime::Resources build_resources(const ResourceSpec& spec);
/// The controllers whose limits it asks for: "memory", "cpu", "cpuset", "pids", "blkio".
std::vector<std::string> asked_limits(const ResourceSpec& spec);

/// The environment of the first process: docker's defaults, links, then spec.env, then HOME.
std::vector<std::string> build_environment(const ContainerSpec& spec, const std::string& id, const ResolvedUser& user, const std::vector<std::string>& link_env = {});
/// `changes` over `base`: "K=V" sets, "K" alone removes.
std::vector<std::string> merge_environment(std::vector<std::string> base, const std::vector<std::string>& changes);

/// A profile in docker's format (archMap, includes, excludes) or in the OCI's, cut down to what applies to these capabilities.
/// Errors: invalid, naming the field.
Result<runtime::SeccompProfile> seccomp_from_text(const std::string& text, const std::vector<std::string>& capabilities);

/// Docker's two lists, each entry with its reason in the source.
std::vector<std::string> default_masked_paths();
std::vector<std::string> default_readonly_paths();
/// Those of this container: its own, the default's, or none (privileged; nesting, because the kernel lets nobody mount a fresh /proc who cannot see all of
/// the one around it: mount_too_revealing in fs/namespace.c).
std::vector<std::string> masked_paths_of(const ContainerSpec& spec);
std::vector<std::string> readonly_paths_of(const ContainerSpec& spec);

/// The process of an exec in a container that was built from `input`.
Result<runtime::Process> build_exec_process(const SpecInput& input, const ExecSpec& exec);

namespace detail {
/// All mounts in the order in which they are made.
Result<std::vector<runtime::Mount>> build_mounts(const SpecInput& input);
}  // namespace detail

}  // namespace caisson::engine
