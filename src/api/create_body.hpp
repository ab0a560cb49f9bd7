// Docker's create and update bodies → the engine's specification. Every field is understood or refused by name; what
// Docker does not know is ignored.
#pragma once

#include <optional>

#include "base/json.hpp"
#include "engine/types.hpp"

namespace caisson::api {

/// `body`: the document of POST /containers/create. Errors: invalid, unsupported; each names the field.
Result<engine::ContainerSpec> read_create_body(const json::value& body);
/// `body`: the document of POST /containers/{id}/update. Errors: invalid, unsupported.
Result<engine::UpdateSpec> read_update_body(const json::value& body);

/// `body`: the document of POST /commit, a container's configuration that may be absent (null). Errors: invalid.
Result<std::optional<image::ContainerConfig>> read_commit_body(const json::value& body);

/// An endpoint's settings: of NetworkingConfig.EndpointsConfig, and of POST /networks/{id}/connect. Errors: invalid.
Result<engine::EndpointSpec> read_endpoint(const JsonView& endpoint, std::string network);

/// "vol:/data:ro,z" or "/host:/data" of HostConfig.Binds. Errors: invalid, in Docker's words.
Result<engine::MountSpec> parse_bind(std::string_view text);
/// One line of HostConfig.SecurityOpt into `spec`. Errors: invalid, unsupported.
Status apply_security_option(std::string_view option, engine::ContainerSpec& spec);
/// "80", "80/tcp", "53/udp". Errors: invalid.
struct PortKey {
  std::uint16_t port = 0;
  network::Protocol protocol = network::Protocol::tcp;
};
Result<PortKey> parse_port_key(std::string_view text);
/// "ctrl-p,ctrl-q" → two bytes. Errors: invalid ("Invalid escape keys (x) provided").
Result<std::string> parse_detach_keys(std::string_view text);

}  // namespace caisson::api
