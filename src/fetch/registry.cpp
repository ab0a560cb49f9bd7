// The tasks without bulk data, and what all tasks share: endpoints, authorization, patience.
#include "fetch/registry.hpp"

#include <algorithm>
#include <chrono>
#include <random>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"

namespace caisson::fetch {

namespace {

constexpr std::string_view accepted_manifests =
    "Accept: application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
constexpr int most_challenges = 2;  // a token may have expired, and its successor may be refused
constexpr std::size_t most_tag_pages = 1000;
constexpr std::size_t most_referrer_pages = 64;  // of up to 4 MiB each, and the answer has to fit into a frame

ErrorKind kind_of_status(int status) {
  switch (status) {
    case 400:
    case 413: return ErrorKind::invalid;
    case 401:
    case 403: return ErrorKind::denied;
    case 404: return ErrorKind::not_found;
    case 405: return ErrorKind::unsupported;
    case 408:
    case 504: return ErrorKind::timeout;
    default: return ErrorKind::unavailable;
  }
}

std::string scope_of(const image::FetchSession& session) { return concat("repository:", session.repository, ":", session.actions); }

}  // namespace

bool is_passing(int status) { return status == 408 || status == 429 || status == 500 || (status >= 502 && status <= 504); }

void Ticket::cancel() {
  {
    std::lock_guard lock(mutex_);
    cancelled_ = true;
  }
  changed_.notify_all();
}

bool Ticket::pause(std::uint32_t milliseconds) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::milliseconds(milliseconds), [&] { return cancelled_.load(); });
  return !cancelled_;
}

Registry::Registry(HttpClient& http, image::FetchSession session) : http_(http), session_(std::move(session)) {
  for (const auto& settings : session_.endpoints) {
    auto endpoint = std::make_unique<Endpoint>();
    endpoint->settings = settings;
    endpoint->http.connect_timeout_ms = settings.is_origin ? session_.patience.connect_timeout_ms : session_.patience.mirror_connect_timeout_ms;
    endpoint->http.stall_timeout_ms = session_.patience.stall_timeout_ms;
    endpoint->http.user_agent = session_.user_agent;
    endpoint->http.skip_verify = settings.skip_verify;
    endpoint->http.ca_pem = settings.ca_pem;
    endpoint->http.client_certificate_pem = settings.client_certificate_pem;
    endpoint->http.client_key_pem = settings.client_key_pem;
    std::vector<std::string> scopes;
    if (!session_.repository.empty()) scopes.push_back(scope_of(session_));
    endpoint->authorizer = std::make_unique<Authorizer>(http_, endpoint->http, settings.is_origin ? session_.credentials : image::RegistryCredentials{}, scopes);
    endpoints_.push_back(std::move(endpoint));
  }
}

std::string Registry::url(const Endpoint& endpoint, std::string_view rest) const {
  return concat(endpoint.settings.url, "/", session_.repository, "/", rest);
}

Error Registry::error_of(const HttpReply& answer, const std::string& method, const std::string& url, Reply& reply) {
  if (auto said = parse_registry_error(answer.body)) {
    reply.code = said->code;
    return {kind_of_status(answer.status), said->text};
  }
  // A HEAD's refusal has no body to say why.
  if (method == "Head" && (answer.status == 401 || answer.status == 403)) {
    reply.code = "DENIED";
    return {ErrorKind::denied, "denied: requested access to the resource is denied"};
  }
  if (answer.status == 429) return {ErrorKind::unavailable, "toomanyrequests: the registry asks for fewer requests"};
  return {kind_of_status(answer.status), concat(method, " \"", url, "\": unexpected status ", answer.status)};
}

std::uint32_t Registry::pause_ms(std::uint32_t failures, const HttpReply* reply) const {
  const auto& patience = session_.patience;
  if (reply != nullptr)
    if (auto asked = parse_retry_after(reply->header("retry-after")))
      return static_cast<std::uint32_t>(std::min<std::uint64_t>(std::uint64_t{*asked} * 1000, patience.longest_pause_ms));
  const std::uint64_t full = std::uint64_t{patience.first_pause_ms} << std::min(failures, 10U);
  // Full jitter would sometimes not wait at all; half of it still spreads a herd of clients.
  thread_local std::minstd_rand random(std::random_device{}());
  const std::uint64_t bounded = std::min<std::uint64_t>(full, patience.longest_pause_ms);
  return static_cast<std::uint32_t>(bounded / 2 + random() % (bounded / 2 + 1));
}

Result<HttpReply> Registry::send(Endpoint& endpoint, HttpRequest request, Ticket& ticket) {
  request.cancelled = ticket.flag();
  const auto plain_headers = request.headers;
  // What is one host's secret stays there: a Location may lead elsewhere.
  auto own = parse_url(endpoint.settings.url);
  auto target = TRY_PLAIN(parse_url(request.url));
  const bool is_own_host = own.ok() && own->origin() == target.origin();
  for (int challenges = 0;; ++challenges) {
    request.headers = plain_headers;
    std::string used;
    if (is_own_host) {
      used = endpoint.authorizer->header();
      if (!used.empty()) request.headers.push_back(used);
      for (const auto& [name, value] : endpoint.settings.headers) request.headers.push_back(concat(name, ": ", value));
    }
    auto sent = http_.perform(endpoint.http, request);
    if (is_own_host && sent.ok()) {
      endpoint.has_answered = true;
      endpoint.is_dead = false;
    } else if (is_own_host && !endpoint.has_answered) {
      endpoint.is_dead = true;
    }
    auto reply = TRY_PLAIN(std::move(sent));
    if (reply.status != 401 || !is_own_host || challenges == most_challenges) return reply;
    auto answered = endpoint.authorizer->answer(reply, used, ticket.flag());
    if (!answered.ok()) {
      auto error = std::move(answered).error();
      if (error.text() == "no basic auth credentials") return Error(error.kind(), concat(request.method == "HEAD" ? "Head" : "Get", " \"", request.url, "\": ", error.text()));
      return error;
    }
  }
}

Result<HttpReply> Registry::send_patiently(Endpoint& endpoint, const HttpRequest& request, Ticket& ticket) {
  for (std::uint32_t failures = 0;; ++failures) {
    auto reply = send(endpoint, request, ticket);
    const bool is_lost = !reply.ok() && endpoint.has_answered && (reply.error().kind() == ErrorKind::timeout || reply.error().kind() == ErrorKind::unavailable);
    const bool is_refused = reply.ok() && is_passing(reply->status);
    if ((!is_lost && !is_refused) || ticket.is_cancelled() || failures + 1 >= session_.patience.attempts) return reply;
    // A mirror that is ill is not waited for: the next one is asked.
    if (!endpoint.settings.is_origin) return reply;
    if (!ticket.pause(pause_ms(failures, reply.ok() ? &*reply : nullptr))) return reply;
  }
}

Status Registry::try_each(const std::function<bool(const image::RegistryEndpoint&)>& may, const std::function<Status(Endpoint&)>& attempt, Ticket& ticket) {
  std::vector<Endpoint*> order;
  for (bool is_dead : {false, true})
    for (auto& endpoint : endpoints_)
      if (may(endpoint->settings) && endpoint->is_dead == is_dead) order.push_back(endpoint.get());
  Status outcome = Error(ErrorKind::unsupported, "no endpoint is set up for this");
  for (auto* endpoint : order) {
    outcome = attempt(*endpoint);
    const bool has_decided = endpoint->settings.is_origin && endpoint->has_answered;
    if (outcome.ok() || has_decided || ticket.is_cancelled()) return outcome;
  }
  return outcome;
}

Status Registry::get_manifest(const Request& request, Ticket& ticket, Reply& reply) {
  const bool is_tag = request.name.find(':') == std::string::npos;
  auto may = [&](const image::RegistryEndpoint& endpoint) { return endpoint.can_resolve || !is_tag; };
  return try_each(may, [&](Endpoint& endpoint) -> Status {
    HttpRequest http;
    http.url = url(endpoint, concat("manifests/", request.name));
    http.headers.emplace_back(accepted_manifests);
    http.most_body_bytes = image::most_manifest_bytes;
    auto answer = TRY_PLAIN(send_patiently(endpoint, http, ticket));
    if (answer.status != 200) return error_of(answer, "Get", http.url, reply);
    reply.media_type = trim(split_once(answer.header("content-type"), ';').before);
    reply.digest = answer.header("docker-content-digest");
    reply.etag = answer.header("etag");
    reply.body = std::move(answer.body);
    return {};
  }, ticket);
}

Status Registry::list_tags(Ticket& ticket, Reply& reply) {
  auto may = [](const image::RegistryEndpoint& endpoint) { return endpoint.is_origin; };
  return try_each(may, [&](Endpoint& endpoint) -> Status {
    std::vector<std::string> tags;
    std::string next = url(endpoint, "tags/list");
    for (std::size_t page = 0; !next.empty(); ++page) {
      if (page == most_tag_pages) return Error(ErrorKind::invalid, "the list of tags does not end");
      HttpRequest http;
      http.url = next;
      http.most_body_bytes = image::most_listing_bytes;
      auto answer = TRY_PLAIN(send_patiently(endpoint, http, ticket));
      if (answer.status != 200) return error_of(answer, "Get", http.url, reply);
      auto document = TRY_PLAIN(parse_json(answer.body, "list of tags"));
      std::vector<std::string> more;
      TRY(JsonView(document).read("tags", more), "list of tags");
      tags.insert(tags.end(), more.begin(), more.end());
      const auto link = next_link(answer.header("link"));
      next = link.empty() ? "" : TRY(resolve_location(TRY_PLAIN(parse_url(next)), link), "list of tags").text();
    }
    json::array out;
    for (const auto& tag : tags) out.emplace_back(tag);
    reply.body = to_text(out);
    return {};
  }, ticket);
}

/// The origin alone: a mirror may not know of what was attached an hour ago.
Status Registry::list_referrers(const Request& request, Ticket& ticket, Reply& reply) {
  auto may = [](const image::RegistryEndpoint& endpoint) { return endpoint.is_origin; };
  return try_each(may, [&](Endpoint& endpoint) -> Status {
    json::array descriptors;
    std::string next = url(endpoint, concat("referrers/", request.name));
    if (!request.media_type.empty()) next += concat("?artifactType=", percent_encode(request.media_type));
    for (std::size_t page = 0; !next.empty(); ++page) {
      if (page == most_referrer_pages) return Error(ErrorKind::invalid, "the list of referrers does not end");
      HttpRequest http;
      http.url = next;
      http.headers.emplace_back("Accept: application/vnd.oci.image.index.v1+json");
      http.most_body_bytes = image::most_manifest_bytes;
      auto answer = TRY_PLAIN(send_patiently(endpoint, http, ticket));
      // Registries from before version 1.1 of the specification say so in several ways (distribution 2.8: 404, text/plain).
      const bool is_unknown = answer.status == 404 || answer.status == 405 || answer.status == 501;
      if (page == 0 && (is_unknown || (answer.status == 200 && !answer.header("content-type").starts_with("application/vnd.oci.image.index.v1+json")))) return {};
      if (answer.status != 200) return error_of(answer, "Get", http.url, reply);
      auto document = TRY_PLAIN(parse_json(answer.body, "list of referrers"));
      auto manifests = TRY(JsonView(document).at("manifests"), "list of referrers");
      TRY(manifests.for_each_element([&](const JsonView& descriptor) -> Status {
        descriptors.push_back(descriptor.raw());
        return {};
      }), "list of referrers");
      const auto link = next_link(answer.header("link"));
      next = link.empty() ? "" : TRY(resolve_location(TRY_PLAIN(parse_url(next)), link), "list of referrers").text();
    }
    reply.found = true;
    reply.body = to_text(descriptors);
    return {};
  }, ticket);
}

Status Registry::login(Ticket& ticket, Reply& reply) {
  auto may = [](const image::RegistryEndpoint& endpoint) { return endpoint.is_origin; };
  return try_each(may, [&](Endpoint& endpoint) -> Status {
    HttpRequest http;
    http.url = endpoint.settings.url + "/";
    auto sent = send(endpoint, http, ticket);
    if (!sent.ok() && sent.error().kind() == ErrorKind::denied) {
      reply.code = "UNAUTHORIZED";
      auto reason = std::move(sent).error();
      return Error(reason.kind(), concat("Get \"", http.url, "\": ", reason.text()));
    }
    auto answer = TRY_PLAIN(std::move(sent));
    if (answer.status != 200) {
      auto error = error_of(answer, "Get", http.url, reply);
      return Error(error.kind(), concat("login attempt to ", http.url, " failed with status: ", answer.status, ": ", error.text()));
    }
    reply.body = endpoint.authorizer->refresh_token();
    return {};
  }, ticket);
}

Status Registry::search(const Request& request, Ticket& ticket, Reply& reply) {
  return try_each([](const image::RegistryEndpoint&) { return true; }, [&](Endpoint& endpoint) -> Status {
    HttpRequest http;
    http.url = endpoint.settings.url + request.name;
    http.most_body_bytes = image::most_listing_bytes;
    auto answer = TRY_PLAIN(send_patiently(endpoint, http, ticket));
    if (answer.status != 200) return Error(kind_of_status(answer.status), concat("Unexpected status code ", answer.status));
    reply.body = std::move(answer.body);
    return {};
  }, ticket);
}

Status Registry::post(const Request& request, Ticket& ticket) {
  if (endpoints_.empty()) return Error(ErrorKind::invalid, "there is nobody to post to");
  auto& endpoint = *endpoints_.front();
  HttpRequest http;
  http.method = "POST";
  http.follows_redirects = false;
  http.url = endpoint.settings.url;
  http.headers = {concat("Content-Type: ", request.media_type)};
  http.body = request.body;
  auto answer = TRY_PLAIN(send(endpoint, http, ticket));
  if (answer.status / 100 != 2) return Error(kind_of_status(answer.status), concat("Post \"", http.url, "\": status ", answer.status));
  return {};
}

Status Registry::exchange(const Request& request, int fd, Ticket& ticket, Reply& reply) {
  if (endpoints_.empty()) return Error(ErrorKind::invalid, "there is nobody to ask");
  auto& endpoint = *endpoints_.front();
  HttpRequest http;
  http.method = request.method;
  http.url = concat(endpoint.settings.url, request.name);
  http.headers = request.headers;
  http.body = request.body;
  http.follows_redirects = false;
  http.most_body_bytes = image::most_listing_bytes;
  http.cancelled = ticket.flag();
  std::uint64_t written = 0;
  if (fd >= 0 && request.method == "GET") {
    http.sink = [&](const HttpReply&, std::string_view piece) -> Status {
      if (piece.size() > request.size_bytes - written) return Error(ErrorKind::corrupt, concat("the answer is longer than the ", request.size_bytes, " bytes that were asked for"));
      while (!piece.empty()) {
        const auto count = TRY(linux::pwrite(fd, piece, written), "store the answer");
        written += count;
        piece.remove_prefix(count);
      }
      return {};
    };
  } else if (fd >= 0) {
    http.upload_fd = fd;
    http.upload_offset = request.offset;
    http.upload_bytes = request.size_bytes;
  }
  auto answer = TRY_PLAIN(http_.perform(endpoint.http, http));
  reply.status = static_cast<std::uint32_t>(answer.status);
  reply.headers = std::move(answer.headers);
  reply.body = std::move(answer.body);
  return {};
}

Status Registry::run(const Request& request, int fd, Ticket& ticket, Reply& reply) {
  switch (request.task) {
    case image::FetchTask::manifest: return get_manifest(request, ticket, reply);
    case image::FetchTask::blob: return get_blob(request, fd, ticket, reply);
    case image::FetchTask::tags: return list_tags(ticket, reply);
    case image::FetchTask::has_blob: return has_blob(request, ticket, reply);
    case image::FetchTask::upload: return upload(request, fd, ticket, reply);
    case image::FetchTask::put_manifest: return put_manifest(request, ticket, reply);
    case image::FetchTask::login: return login(ticket, reply);
    case image::FetchTask::search: return search(request, ticket, reply);
    case image::FetchTask::post: return post(request, ticket);
    case image::FetchTask::referrers: return list_referrers(request, ticket, reply);
    case image::FetchTask::exchange: return exchange(request, fd, ticket, reply);
    case image::FetchTask::range: return get_range(request, fd, ticket, reply);
  }
  return Error(ErrorKind::internal, "unknown task");
}

Registry::Reply Registry::serve(const Request& request, int fd, Ticket& ticket) {
  Reply reply;
  auto status = run(request, fd, ticket, reply);
  reply.number = request.number;
  reply.ok = status.ok();
  if (!status.ok()) {
    reply.kind = status.error().kind();
    reply.text = status.error().text();
  }
  return reply;
}

}  // namespace caisson::fetch
