// Device paths of a specification → numbers, by asking the host's /dev.
#pragma once

#include "base/result.hpp"
#include "engine/spec_builder.hpp"

namespace caisson::engine {

/// A folder stands for all devices below it. Privileged containers get every device of the host. Errors: invalid, naming the
/// device ("error gathering device information while adding custom device \"/dev/x\": no such file or directory").
Result<ResolvedDevices> resolve_devices(const ContainerSpec& spec);

/// For an engine that may make no nodes: those of `devices` that have another name inside than on the host leave `nodes`, which the runtime binds from
/// where they are on the host, and come back as binds.
std::vector<runtime::Mount> bind_renamed_devices(const std::vector<DeviceSpec>& devices, std::vector<runtime::Device>& nodes);

/// "c 1:3 rwm", "a *:* rwm", "b 8:* r". Errors: invalid.
Result<runtime::DeviceRule> parse_device_rule(std::string_view text);

}  // namespace caisson::engine
