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
/// The name that --context or $DOCKER_CONTEXT gives; "" for none, also when it is "default".
std::string context_name(const Invocation& global);

/// The context that `caisson context use` chose; "" for none. It is kept in caisson.json beside docker's config.json: the contexts are shared with
/// docker, but docker's current one mostly names dockerd, and a client must not change engines because the other one did.
Result<std::string> current_context(const Invocation& global);
/// "" or "default": none.
Status set_current_context(const Invocation& global, const std::string& name);

/// A stored context and the keys beside it. Errors: not_found, in docker's words; invalid.
Result<Context> read_context(const Invocation& global, const std::string& name);

}  // namespace caisson::cli
