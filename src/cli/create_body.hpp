// run's and create's flags to the body of POST /containers/create (API 1.45), field by field as the docker client sends it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "cli/parse.hpp"

namespace caisson::cli {

struct CreateRequest {
  std::string name;
  std::string platform;
  json::object body;
};
/// `detach`: run -d, which attaches nothing. Reads --env-file, --label-file and seccomp profiles.
/// Errors: invalid in docker's words, naming the flag; not_found for a missing file.
Result<CreateRequest> build_create(const Invocation& invocation, bool detach);

/// update's body: docker's Resources, zeros meaning "leave it".
Result<json::object> build_update(const Invocation& invocation);
/// The body of POST /containers/ID/exec. `is_detached`: attaches nothing.
Result<json::object> build_exec(const Invocation& invocation);

// The parts, each with a grammar of its own. Errors: invalid.

/// `invalid argument "VALUE" for "--FLAG" flag: WHY`: how docker refuses a value.
Error bad_value(std::string_view flag, std::string_view value, std::string_view why);

struct PortMaps {
  json::object exposed;   ///< "80/tcp": {}
  json::object bindings;  ///< "80/tcp": [{HostIp, HostPort}]
};
/// -p values (nat.ParsePortSpecs: "[address:][port[-port]:]port[-port][/protocol]") and --expose values.
Result<PortMaps> parse_ports(const std::vector<std::string>& publish, const std::vector<std::string>& expose);

/// One --mount value, a line of comma-separated values.
Result<json::object> parse_mount(std::string_view spec);
struct VolumeFlags {
  json::array binds;
  json::object anonymous;  ///< body.Volumes
};
/// -v values; a relative source ("./x") is made absolute from `working_folder`.
Result<VolumeFlags> parse_volumes(const std::vector<std::string>& specs, const std::string& working_folder);

/// --env-file, then -e; names without "=" take the value from this process's environment.
Result<json::array> collect_environment(const std::vector<std::string>& files, const std::vector<std::string>& values);
Result<json::object> collect_labels(const std::vector<std::string>& files, const std::vector<std::string>& values);
/// "key=value" to a map; a bare key gets "".
json::object to_map(const std::vector<std::string>& values);

/// --network and what belongs to it: EndpointsConfig. `mode` gets HostConfig.NetworkMode.
Result<json::object> parse_networks(const Invocation& invocation, std::string& mode);

Result<json::value> parse_ulimits(const std::vector<std::string>& values);
/// --device values that name a path; those that name a CDI device go to `requests`.
Result<json::array> parse_devices(const std::vector<std::string>& values, json::array& requests);
Result<json::object> parse_gpus(std::string_view value);
Result<json::object> parse_restart_policy(std::string_view value);
/// Empty when no health flag was given.
Result<json::object> parse_health(const Invocation& invocation);
/// --security-opt; a seccomp file is read into the value. `unmasked` is set by systempaths=unconfined.
Result<json::value> parse_security_options(const std::vector<std::string>& values, bool& unmasked);
json::value normalise_capabilities(const std::vector<std::string>& values);
/// "path:number" or "path:size".
Result<json::array> parse_device_rates(std::string_view flag, const std::vector<std::string>& values, std::string_view number_key, bool is_size);

/// Fields of one line of comma-separated values; quotes as in RFC 4180. Errors: invalid.
Result<std::vector<std::string>> parse_csv(std::string_view line);

/// null for an empty list, as Go marshals a nil slice.
json::value list_or_null(const std::vector<std::string>& values);

}  // namespace caisson::cli
