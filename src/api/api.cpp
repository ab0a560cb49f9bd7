// The table of routes, and what happens to every request.
#include "api/api.hpp"

#include <array>

#include "api/handlers.hpp"
#include "api/router.hpp"
#include "base/log.hpp"
#include "base/strings.hpp"

namespace caisson::api {

namespace {

constexpr std::array routes{
    Route{"HEAD", "/_ping", ping},
    Route{"GET", "/_ping", ping},
    Route{"GET", "/version", show_version},
    Route{"GET", "/info", show_info},
    Route{"GET", "/events", stream_events},
    Route{"GET", "/system/df", show_disk_usage},
    Route{"POST", "/auth", login},
    Route{"GET", "/plugins", list_plugins},
    Route{"GET", "/plugins/privileges", refuse_plugin},
    Route{"POST", "/plugins/pull", refuse_plugin},
    Route{"POST", "/plugins/create", refuse_plugin},
    Route{"GET", "/plugins/{name}/json", no_such_plugin},
    Route{"POST", "/plugins/{name}/enable", no_such_plugin},
    Route{"POST", "/plugins/{name}/disable", no_such_plugin},
    Route{"POST", "/plugins/{name}/upgrade", no_such_plugin},
    Route{"POST", "/plugins/{name}/push", no_such_plugin},
    Route{"POST", "/plugins/{name}/set", no_such_plugin},
    Route{"DELETE", "/plugins/{name}", no_such_plugin},

    Route{"POST", "/containers/create", create_container},
    Route{"POST", "/containers/prune", prune_containers},
    Route{"GET", "/containers/json", list_containers},
    Route{"GET", "/containers/{name}/json", inspect_container},
    Route{"GET", "/containers/{name}/logs", stream_logs},
    Route{"GET", "/containers/{name}/stats", stream_stats},
    Route{"GET", "/containers/{name}/top", top_container},
    Route{"POST", "/containers/{name}/start", start_container},
    Route{"POST", "/containers/{name}/stop", stop_container},
    Route{"POST", "/containers/{name}/restart", restart_container},
    Route{"POST", "/containers/{name}/kill", kill_container},
    Route{"POST", "/containers/{name}/pause", pause_container},
    Route{"POST", "/containers/{name}/unpause", unpause_container},
    Route{"POST", "/containers/{name}/wait", wait_container},
    Route{"POST", "/containers/{name}/attach", attach_container},
    Route{"POST", "/containers/{name}/resize", resize_container},
    Route{"POST", "/containers/{name}/rename", rename_container},
    Route{"POST", "/containers/{name}/update", update_container},
    Route{"POST", "/containers/{name}/exec", create_exec},
    Route{"DELETE", "/containers/{name}", remove_container},
    Route{"HEAD", "/containers/{name}/archive", stat_archive},
    Route{"GET", "/containers/{name}/archive", get_archive},
    Route{"PUT", "/containers/{name}/archive", put_archive},
    Route{"GET", "/containers/{name}/export", export_container},
    Route{"GET", "/containers/{name}/changes", show_changes},
    Route{"GET", "/containers/{name}/attach/ws", attach_websocket},
    Route{"POST", "/commit", commit_container},

    Route{"POST", "/exec/{name}/start", start_exec},
    Route{"POST", "/exec/{name}/resize", resize_exec},
    Route{"GET", "/exec/{name}/json", inspect_exec},

    Route{"GET", "/images/json", list_images},
    Route{"GET", "/images/get", save_images},
    Route{"GET", "/images/search", search_images},
    Route{"POST", "/images/load", load_images},
    Route{"POST", "/images/create", create_image},
    Route{"POST", "/images/prune", prune_images},
    Route{"GET", "/images/{name}/json", inspect_image},
    Route{"GET", "/images/{name}/history", show_history},
    Route{"GET", "/images/{name}/get", save_one_image},
    Route{"POST", "/images/{name}/tag", tag_image},
    Route{"POST", "/images/{name}/push", push_image},
    Route{"DELETE", "/images/{name}", remove_image},
    Route{"GET", "/distribution/{name}/json", inspect_distribution},
    Route{"POST", "/build", build_image},
    Route{"POST", "/build/prune", prune_build_cache},

    Route{"GET", "/volumes", list_volumes},
    Route{"POST", "/volumes/create", create_volume},
    Route{"POST", "/volumes/prune", prune_volumes},
    Route{"GET", "/volumes/{name}", inspect_volume},
    Route{"DELETE", "/volumes/{name}", remove_volume},

    Route{"GET", "/networks", list_networks},
    Route{"POST", "/networks/create", create_network},
    Route{"POST", "/networks/prune", prune_networks},
    Route{"POST", "/networks/{name}/connect", connect_network},
    Route{"POST", "/networks/{name}/disconnect", disconnect_network},
    Route{"GET", "/networks/{name}", inspect_network},
    Route{"DELETE", "/networks/{name}", remove_network},

    Route{"GET", "/swarm", refuse_swarm},
    Route{"GET", "/swarm/unlockkey", refuse_swarm},
    Route{"POST", "/swarm/init", found_no_swarm},
    Route{"POST", "/swarm/join", found_no_swarm},
    Route{"POST", "/swarm/leave", leave_no_swarm},
    Route{"POST", "/swarm/update", refuse_swarm},
    Route{"POST", "/swarm/unlock", refuse_swarm},
    Route{"GET", "/nodes", refuse_swarm},
    Route{"GET", "/nodes/{name}", refuse_swarm},
    Route{"POST", "/nodes/{name}/update", refuse_swarm},
    Route{"DELETE", "/nodes/{name}", refuse_swarm},
    Route{"GET", "/services", refuse_swarm},
    Route{"GET", "/services/{name}", refuse_swarm},
    Route{"POST", "/services/{name}", refuse_swarm},
    Route{"DELETE", "/services/{name}", refuse_swarm},
    Route{"GET", "/tasks", refuse_swarm},
    Route{"GET", "/tasks/{name}", refuse_swarm},
    Route{"GET", "/secrets", refuse_swarm},
    Route{"GET", "/secrets/{name}", refuse_swarm},
    Route{"POST", "/secrets/{name}", refuse_swarm},
    Route{"DELETE", "/secrets/{name}", refuse_swarm},
    Route{"GET", "/configs", refuse_swarm},
    Route{"GET", "/configs/{name}", refuse_swarm},
    Route{"POST", "/configs/{name}", refuse_swarm},
    Route{"DELETE", "/configs/{name}", refuse_swarm},

    Route{"POST", "/session", no_buildkit},
    Route{"POST", "/grpc", no_buildkit},

    Route{"GET", "/caisson/v1/identity", show_identity},
    Route{"GET", "/caisson/v1/containers/{name}/security", explain_container},
    Route{"POST", "/caisson/v1/containers/{name}/learning", begin_learning},
    Route{"GET", "/caisson/v1/containers/{name}/learning", show_learned},
    Route{"DELETE", "/caisson/v1/containers/{name}/learning", end_learning},
    Route{"GET", "/caisson/v1/cache-mounts", list_cache_mounts},
    Route{"DELETE", "/caisson/v1/cache-mounts", remove_cache_mount},
    Route{"GET", "/caisson/v1/cache-mounts/archive", export_cache_mount},
    Route{"POST", "/caisson/v1/cache-mounts/archive", import_cache_mount},
    Route{"GET", "/caisson/v1/builds", list_builds},
    Route{"POST", "/caisson/v1/builds/agents", lend_agent},
    Route{"POST", "/caisson/v1/builds/context", list_missing_files},
    Route{"GET", "/caisson/v1/builds/{name}/logs", show_build_log},
    Route{"GET", "/caisson/v1/builds/{name}", inspect_build},
    Route{"DELETE", "/caisson/v1/builds/{name}", remove_build},
    Route{"POST", "/caisson/v1/images/bootstrap", bootstrap_image},
    Route{"POST", "/caisson/v1/images/{name}/verify", verify_image},
    Route{"POST", "/caisson/v1/images/{name}/signatures", attach_signature},
};

/// The token of "Authorization: Bearer TOKEN" (RFC 6750); "" without one.
std::string bearer_token(const wire::Exchange& exchange) {
  constexpr std::string_view scheme = "bearer ";
  const std::string_view header = exchange.header("Authorization");
  if (lower(header.substr(0, scheme.size())) != scheme) return "";
  return std::string(trim(header.substr(scheme.size())));
}

engine::Connection connection_of(const wire::Exchange& exchange, const ApiOptions& options) {
  const auto& peer = exchange.peer();
  engine::Connection connection;
  connection.peer.is_unix = peer.is_unix;
  connection.peer.uid = peer.uid;
  connection.peer.gid = peer.gid;
  connection.peer.groups = peer.groups;
  connection.peer.address = peer.address;
  connection.peer.is_verified = peer.is_verified;
  if (peer.is_verified && peer.certificate) connection.peer.certificate = peer.certificate->text();
  connection.peer.token = bearer_token(exchange);
  connection.pid = peer.pid;
  connection.pidfd = peer.pidfd.get();
  connection.source = peer.is_unix ? options.unix_source : concat(peer.is_verified ? "tls:" : "tcp:", peer.address);
  return connection;
}

/// A page on the web whose name was rebound to 127.0.0.1 still sends its own name as Host; an address or "localhost"
/// cannot be rebound. Unix sockets take any Host (docker sends api.moby.localhost).
bool is_safe_host(const wire::Exchange& exchange) {
  if (exchange.peer().is_unix || exchange.peer().is_verified) return true;  // no page on the web has the certificate
  std::string host = lower(exchange.header("Host"));
  if (host.starts_with('[')) return true;
  host = host.substr(0, host.find(':'));
  return host == "localhost" || host.ends_with(".localhost") || host.find_first_not_of("0123456789.") == std::string::npos;
}

/// Our own faults are logged where they stop; a client's mistakes and departures are its own business.
void log_failure(const Request& request, const Error& error) {
  if (http_status(error.kind()) != 500 || request.exchange.answered()) return;
  log_error(concat(request.exchange.method(), " ", request.exchange.path()), request.name, error);
}

void serve(engine::Engine& engine, build::Builder& builder, const ApiOptions& options, wire::Exchange& exchange) {
  Request request{exchange, engine, builder, engine.identify(connection_of(exchange, options)), Version{}, "", Query(exchange.query())};
  auto outcome = [&]() -> Status {
    if (!is_safe_host(exchange)) return request.reply_error(403, "the Host header names neither an address nor localhost");
    const std::string& raw = exchange.path();
    if (raw.find("//") != std::string::npos) {
      std::string clean = raw;
      for (auto at = clean.find("//"); at != std::string::npos; at = clean.find("//", at)) clean.erase(at, 1);
      auto headers = common_headers();
      headers.emplace_back("Location", exchange.query().empty() ? clean : concat(clean, "?", exchange.query()));
      return exchange.respond(301, headers, "");
    }
    auto versioned = split_version(raw);
    if (!versioned.ok()) return request.reply_error(versioned.error());
    if (versioned->version) request.version = *versioned->version;
    auto found = match(routes, exchange.method(), versioned->path);
    if (!found) return request.reply_error(404, "page not found");
    request.name = found->name;
    return found->route->handle(request);
  }();
  if (outcome.ok()) return;
  log_failure(request, outcome.error());
  if (!exchange.answered()) ignore(request.reply_error(outcome.error()));  // a client that is gone needs no answer
}

}  // namespace

std::span<const Route> all_routes() { return routes; }

wire::Handler create_api(engine::Engine& engine, build::Builder& builder, ApiOptions options) {
  return [&engine, &builder, options = std::move(options)](wire::Exchange& exchange) { serve(engine, builder, options, exchange); };
}

}  // namespace caisson::api
