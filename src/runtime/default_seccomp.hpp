// The built-in seccomp profile of containers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "linux/seccomp.hpp"
#include "runtime/spec.hpp"

namespace caisson::runtime {

/// An allow-list for a container that holds the bounding capabilities `capabilities` ("CAP_SYS_ADMIN", …): calls that only
/// make sense with a capability are there only with it. Everything else gives EPERM; clone3 gives ENOSYS without
/// CAP_SYS_ADMIN, so that libc falls back to clone, whose flags a filter can see. Architectures: the native one and, on
/// x86_64, i386 (without socketcall, which would hide the address family). Pure.
/// With nesting, an engine may run in the container: namespaces and mounts for whoever has the right to make them in a user namespace.
enum class Nesting : std::uint8_t { no, yes };
SeccompProfile default_seccomp(const std::vector<std::string>& capabilities, Nesting nesting = Nesting::no);

/// Translates a profile as written in config.json for linux::compile_seccomp. Pure.
/// Errors: invalid, naming the rule and the word (unknown action or operator, bad index).
Result<linux::SeccompFilterSpec> to_filter_spec(const SeccompProfile& profile);

}  // namespace caisson::runtime
