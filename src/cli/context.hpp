// Where a daemon on another machine is and which keys open it: docker's TLS flags and environment, and its contexts.
#pragma once

#include <optional>
#include <string>

#include "base/result.hpp"
#include "cli/parse.hpp"
#include "wire/tls.hpp"

namespace caisson::cli {

/// --config, else $DOCKER_CONFIG, else ~/.docker.
std::string config_folder(const Invocation& global);

/// The TLS settings of --tls, --tlsverify, --tlscacert, --tlscert, --tlskey, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH; nothing without them.
std::optional<wire::TlsFiles> tls_files(const Invocation& global);

struct Context {
  std::string host;
  std::optional<wire::TlsFiles> tls;
};
/// The name that --context or $DOCKER_CONTEXT gives; "" for none, also when it is "default". A context that is only docker's current one is not
/// looked at: it names dockerd.
std::string context_name(const Invocation& global);
/// Reads contexts/meta/<sha256 of the name>/meta.json below the configuration folder, and the keys beside it. Errors: not_found, in docker's words; invalid.
Result<Context> read_context(const Invocation& global, const std::string& name);

}  // namespace caisson::cli
