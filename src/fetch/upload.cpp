// Blobs and manifests to a registry: nothing travels that it has, and a lost connection goes on where it stopped.
#include <algorithm>
#include <optional>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "fetch/registry.hpp"

namespace caisson::fetch {

namespace {
constexpr std::int64_t progress_step_ns = 100'000'000;
bool takes_pushes(const image::RegistryEndpoint& endpoint) { return endpoint.is_origin && endpoint.can_push; }
}  // namespace

Status Registry::has_blob(const Request& request, Ticket& ticket, Reply& reply) {
  return try_each(takes_pushes, [&](Endpoint& endpoint) -> Status {
    HttpRequest http;
    http.method = "HEAD";
    http.url = url(endpoint, concat("blobs/", request.name));
    auto answer = TRY_PLAIN(send_patiently(endpoint, http, ticket));
    reply.found = answer.status == 200;
    if (answer.status == 200 || answer.status == 404) return {};
    return error_of(answer, "Head", http.url, reply);
  }, ticket);
}

/// The answer: 201 mounted, 202 an upload was begun instead. `source`: "" begins an upload outright.
Result<HttpReply> Registry::ask_to_mount(Endpoint& endpoint, const std::string& digest, const std::string& source, Ticket& ticket) {
  HttpRequest http;
  http.method = "POST";
  http.follows_redirects = false;
  http.url = url(endpoint, "blobs/uploads/");
  if (!source.empty()) {
    endpoint.authorizer->add_scope(concat("repository:", source, ":pull"));
    http.url += concat("?mount=", percent_encode(digest), "&from=", percent_encode(source));
  }
  return send_patiently(endpoint, http, ticket);
}

Status Registry::mount(const Request& request, Ticket& ticket, Reply& reply) {
  return try_each(takes_pushes, [&](Endpoint& endpoint) -> Status {
    for (const auto& source : request.mount_from) {
      auto answer = TRY_PLAIN(ask_to_mount(endpoint, request.name, source, ticket));
      if (answer.status == 201) {
        reply.mounted_from = source;
        return {};
      }
      if (answer.status != 202 || answer.header("location").empty()) continue;
      // The registry offers an upload in its place; nobody will go on with it.
      HttpRequest drop;
      drop.method = "DELETE";
      drop.follows_redirects = false;
      drop.url = TRY_PLAIN(resolve_location(TRY_PLAIN(parse_url(url(endpoint, "blobs/uploads/"))), answer.header("location"))).text();
      ignore(send(endpoint, drop, ticket));  // registries end such uploads by age, too
    }
    return {};
  }, ticket);
}

/// Mounts from the first repository that has it; else the address of a new upload.
Result<Url> Registry::begin_upload(Endpoint& endpoint, const Request& request, Ticket& ticket, Reply& reply) {
  std::vector<std::string> sources = request.mount_from;
  sources.emplace_back();  // last: without
  for (const auto& source : sources) {
    auto answer = TRY_PLAIN(ask_to_mount(endpoint, request.name, source, ticket));
    if (answer.status == 201 && !source.empty()) {
      reply.mounted_from = source;
      return Url{};
    }
    // A mount that is refused is not an error: the bytes travel instead.
    if (answer.status != 202 && !source.empty()) continue;
    const auto asked = url(endpoint, "blobs/uploads/");
    if (answer.status != 202) return error_of(answer, "Post", asked, reply);
    return resolve_location(TRY_PLAIN(parse_url(asked)), answer.header("location"));
  }
  return Error(ErrorKind::internal, "no upload was begun");
}

/// PATCHes until the registry has all bytes; returns where to close the upload.
Result<Url> Registry::send_content(Endpoint& endpoint, const Request& request, int fd, Url location, Ticket& ticket) {
  std::uint64_t offset = 0;
  std::int64_t reported_at_ns = 0;
  for (std::uint32_t failures = 0; offset < request.size_bytes;) {
    HttpRequest http;
    http.method = "PATCH";
    http.url = location.text();
    http.follows_redirects = false;
    http.headers = {"Content-Type: application/octet-stream", concat("Content-Range: ", offset, "-", request.size_bytes - 1)};
    http.upload_fd = fd;
    http.upload_offset = offset;
    http.upload_bytes = request.size_bytes - offset;
    http.on_sent = [&](std::uint64_t sent) {
      const auto now = monotonic_ns();
      if (!ticket.on_progress || now - reported_at_ns < progress_step_ns) return;
      reported_at_ns = now;
      ticket.on_progress(offset + sent);
    };
    auto answer = send(endpoint, http, ticket);
    Reply said;
    if (answer.ok() && (answer->status == 202 || answer->status == 201 || answer->status == 204))
      return resolve_location(TRY_PLAIN(parse_url(http.url)), answer->header("location"));
    if (answer.ok() && !is_passing(answer->status) && answer->status != 416) return error_of(*answer, "Patch", http.url, said);
    if (++failures >= session_.patience.attempts || ticket.is_cancelled()) return answer.ok() ? Result<Url>(error_of(*answer, "Patch", http.url, said)) : Result<Url>(std::move(answer).error());
    if (!ticket.pause(pause_ms(failures, answer.ok() ? &*answer : nullptr))) return Error(ErrorKind::unavailable, "cancelled");
    // What has it got? Where it cannot say, a new upload is begun by the caller.
    HttpRequest ask;
    ask.url = location.text();
    ask.follows_redirects = false;
    auto state = TRY_PLAIN(send_patiently(endpoint, ask, ticket));
    if (state.status != 204) return error_of(state, "Get", ask.url, said).with_kind(ErrorKind::conflict);
    const auto has = std::min(parse_upload_range(state.header("range")), request.size_bytes);
    if (has > offset) failures = 0;
    offset = has;
    if (!state.header("location").empty()) location = TRY_PLAIN(resolve_location(location, state.header("location")));
  }
  return location;
}

Status Registry::upload(const Request& request, int fd, Ticket& ticket, Reply& reply) {
  if (fd < 0) return mount(request, ticket, reply);
  auto outcome = try_each(takes_pushes, [&](Endpoint& endpoint) -> Status {
    for (int round = 0;; ++round) {
      auto location = TRY_PLAIN(begin_upload(endpoint, request, ticket, reply));
      if (!reply.mounted_from.empty()) return {};
      auto sent = send_content(endpoint, request, fd, std::move(location), ticket);
      if (!sent.ok() && sent.error().kind() == ErrorKind::conflict && round == 0 && !ticket.is_cancelled()) continue;
      auto closing = TRY_PLAIN(std::move(sent));
      HttpRequest http;
      http.method = "PUT";
      http.follows_redirects = false;
      http.url = concat(closing.text(), closing.path.find('?') == std::string::npos ? "?" : "&", "digest=", percent_encode(request.name));
      http.headers = {"Content-Type: application/octet-stream"};
      auto answer = send_patiently(endpoint, http, ticket);
      if (answer.ok() && answer->status == 201) return {};
      // The answer may have been lost after the work was done.
      Reply there;
      if (has_blob(request, ticket, there).ok() && there.found) return {};
      auto error = answer.ok() ? error_of(*answer, "Put", http.url, reply) : Error(answer.error());
      // An upload that the registry has lost, or put together wrongly after a cut, is worth one from the start.
      const bool is_lost = !answer.ok() || answer->status == 404 || answer->status == 416 || reply.code == "DIGEST_INVALID";
      if (round > 0 || ticket.is_cancelled() || !is_lost) return error;
    }
  }, ticket);
  if (!outcome.ok()) return std::move(outcome).error().in(concat("blob ", request.name));
  if (ticket.on_progress) ticket.on_progress(request.size_bytes);
  return {};
}

Status Registry::put_manifest(const Request& request, Ticket& ticket, Reply& reply) {
  return try_each(takes_pushes, [&](Endpoint& endpoint) -> Status {
    HttpRequest http;
    http.method = "PUT";
    http.follows_redirects = false;
    http.url = url(endpoint, concat("manifests/", request.name));
    http.headers = {concat("Content-Type: ", request.media_type)};
    if (!request.if_match.empty()) http.headers.push_back(concat("If-Match: ", request.if_match));
    http.body = request.body;
    auto answer = TRY_PLAIN(send_patiently(endpoint, http, ticket));
    if (answer.status == 412) return Error(ErrorKind::conflict, concat("manifest ", request.name, " was changed meanwhile"));
    if (answer.status != 201 && answer.status != 202) return error_of(answer, "Put", http.url, reply);
    reply.digest = answer.header("docker-content-digest");
    reply.subject = answer.header("oci-subject");
    return {};
  }, ticket);
}

}  // namespace caisson::fetch
