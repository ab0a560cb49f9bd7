// Devices by name: specifications of the Container Device Interface (cncf-tags/container-device-interface, SPEC.md) → changes of a plan.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "engine/types.hpp"
#include "runtime/spec.hpp"

namespace caisson::engine {

/// What one device (or every device of a kind) changes in a container.
struct CdiEdits {
  std::vector<std::string> env;
  std::vector<DeviceSpec> devices;
  std::vector<runtime::Mount> mounts;
  runtime::Hooks hooks;
  std::vector<std::uint32_t> additional_gids;
};
struct CdiSpec {
  std::string kind;  ///< "vendor.com/class"
  std::map<std::string, CdiEdits> devices;
  CdiEdits common;
};

enum class CdiFormat : std::uint8_t { json, yaml };
/// Errors: invalid, naming the line or the field.
Result<CdiSpec> parse_cdi_spec(std::string_view text, CdiFormat format);

/// The names that device requests mean: their own for driver "cdi", "nvidia.com/gpu=…" for the capability "gpu". Errors: invalid, in docker's words
/// ("could not select device driver …").
Result<std::vector<std::string>> cdi_names(const std::vector<DeviceRequest>& requests, const std::map<std::string, CdiSpec>& specs);

/// Every *.json and *.yaml below `dirs`, by kind; a later folder's devices win. Each device's edits hold those that its file has for all. Files that cannot be read as specifications are told in `broken`.
std::map<std::string, CdiSpec> read_cdi_specs(const std::vector<std::string>& dirs, std::vector<std::string>& broken);

/// The edits of these devices in order. Errors: invalid ("CDI device injection failed: unresolvable CDI devices …").
Result<CdiEdits> collect_cdi_edits(const std::vector<std::string>& names, const std::map<std::string, CdiSpec>& specs, const std::vector<std::string>& broken);

/// Everything but the devices, which the caller looks up like any others.
void apply_cdi_edits(const CdiEdits& edits, runtime::Spec& plan);

}  // namespace caisson::engine
