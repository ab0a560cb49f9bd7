// Finding the daemon, and starting it when nobody answers.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "cli/output.hpp"
#include "cli/parse.hpp"
#include "wire/tls.hpp"

namespace caisson::cli {

struct Endpoint {
  std::string address;     ///< "unix:///run/caisson.sock", "tcp://host:port"
  bool may_start = false;  ///< it is our own default, or a unix socket given together with --root or --exec-root
  bool is_rootless = false;
  std::optional<wire::TlsFiles> tls;  ///< for tcp://
};

/// The context whose daemon is meant, "" for none: none beside -H; else --context, else DOCKER_CONTEXT ("default" is none); else the one
/// that `context use` chose, unless CAISSON_HOST, --root or --exec-root say where the daemon is. Errors: io, invalid (our settings file).
Result<std::string> chosen_context(const Invocation& global);

/// -H, else the chosen context, else CAISSON_HOST, else /run/caisson.sock for root and for whom it lets in, else $XDG_RUNTIME_DIR/caisson.sock.
/// Errors: a context that is not there; invalid for -H together with --context.
Result<Endpoint> choose_endpoint(const Invocation& global);

/// Starts the daemon and returns when its socket answers: through systemd where that runs and has a unit, so that the daemon
/// does not live in the user's session (not when --root or --exec-root ask for an engine of one's own); else the caissond
/// beside this binary, detached, logging to EXEC-ROOT/caissond.log.
/// Errors: not_found (no caissond), unavailable with the end of its log, timeout.
Status start_daemon(const Endpoint& endpoint, const Invocation& global, Output& err);

/// "Cannot connect to the Caisson daemon at X. Is the daemon running?" with the reason and a hint.
Error cannot_connect(const Endpoint& endpoint, const Error& reason);

/// The absolute path of another program of ours, "caissond" or "caisson-registry". Errors: not_found, naming where it was looked for.
Result<std::string> find_own_binary(std::string_view name);
/// Its arguments, argv[0] included, for these global flags.
std::vector<std::string> daemon_arguments(const std::string& binary, const Endpoint& endpoint, const Invocation& global);

}  // namespace caisson::cli
