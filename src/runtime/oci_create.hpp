// From flags and a bundle to a container whose process waits for start, or runs: what create and run share.
#pragma once

#include <optional>
#include <string>

#include "runtime/launch.hpp"
#include "runtime/oci_commands.hpp"
#include "runtime/oci_session.hpp"

namespace caisson::runtime {

/// Where the container's root may write to our own binary, which is what a child is until it execs, that must not be reachable
/// (CVE-2019-5736). Makes us the same program from a read-only clone of its mount, or a sealed copy in memory; returns when we are that.
Status protect_binary();
/// Whether it may: as the host's root (Spec::may_be_host_root), or as the ordinary user whose file it is.
bool container_may_own_binary(const Spec& spec);

/// How many descriptors from 3 on the container gets: `before` and those of --preserve-fds. To be asked before we open any ourselves.
/// Errors: invalid, in runc's words for one that is not open.
Result<unsigned int> preserved_descriptors(const OciArguments& arguments, unsigned int before);

struct Bundle {
  std::string path;    ///< absolute
  std::string config;  ///< the text
  Spec spec;
  std::optional<linux::SeccompProgram> filter;  ///< of linux.seccomp, which `spec` may then lack
};
/// Of --bundle and --config, with the binary protected where the container's root may be the host's. Errors: not_found, invalid.
Result<Bundle> load_bundle(const OciArguments& arguments, const SeccompCache& filters);

struct Created {
  OciState state;
  Launching launching;
  Spec spec;
  bool waits = false;  ///< behind the exec fifo
  std::optional<NotifyProxy> notify;
};
enum class CreateFor : std::uint8_t { create, run };
/// Makes the container. On failure nothing of it is left; when we are killed on the way, a record is left by which
/// `delete --force` finds everything.
Result<Created> create_container(OciContext& context, CreateFor purpose);

/// A record for a container that is about to be made, written before anything else is.
/// Errors: conflict ("container with given ID already exists", "container's cgroup is not empty: …").
Status begin_record(const OciContext& context, OciState& state, const std::string& config);
/// The path that linux::Cgroup takes for the configuration's cgroupsPath, which names the driver too; empty: none of its own.
/// Errors: invalid (a path of the other driver), unavailable (no systemd).
Result<std::string> choose_cgroup(const Spec& spec, const std::string& id, linux::CgroupDriver driver, const linux::CgroupLayout& layout,
                                  bool is_rootless);
/// Where sd_notify's socket for the container lives.
std::string notify_folder(const OciStore& store, const std::string& id);

}  // namespace caisson::runtime
