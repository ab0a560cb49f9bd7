// From a request to its handler, and from an answer to bytes.
#include "registry/api.hpp"

#include "base/log.hpp"
#include "base/strings.hpp"

namespace caisson::registry {

namespace {

constexpr std::size_t most_query_parameters = 200;  // PUT of a manifest takes many tags

Answer wrong_method(std::string_view allowed) { return refuse(405, code::unsupported, concat("the method is not supported here; it takes ", allowed)).with("Allow", std::string(allowed)); }

bool changes_something(std::string_view method) { return method != "GET" && method != "HEAD"; }

}  // namespace

std::string blob_location(std::string_view repository, std::string_view digest) { return concat("/v2/", repository, "/blobs/", digest); }

std::string_view Api::Request::parameter(std::string_view name) const {
  for (const auto& [key, value] : query)
    if (key == name) return value;
  return {};
}

std::optional<Answer> Api::check_right(const Request& request, Right right) {
  if (parts_.access.may(request.caller, right, request.route.repository)) return std::nullopt;
  return parts_.access.refusal(request.caller, right, request.route.repository);
}

Result<Answer> Api::dispatch(Request& request) {
  const auto& exchange = request.exchange;
  if (request.route.target == Target::none) return refuse(404, code::unsupported, concat(exchange.path(), " is no address of this API"));
  auto caller = parts_.access.identify(exchange.header("Authorization"));
  if (!caller.ok()) return parts_.access.challenge("", "invalid_token", caller.error().text());
  request.caller = std::move(*caller);
  if (!request.route.is_good_name) return refuse(400, code::name_invalid, concat("\"", request.route.repository, "\" is no repository name"));
  request.query = wire::parse_query(exchange.query());
  if (request.query.size() > most_query_parameters) return refuse(400, code::unsupported, "the query has too many parameters");
  if (changes_something(exchange.method()) && parts_.proxies.is_proxied(request.route.repository))
    return refuse(405, code::unsupported, concat("repository ", request.route.repository, " is a copy of another registry's: push there"));
  if (options_.is_read_only && changes_something(exchange.method())) return refuse(405, code::unsupported, "this registry is read-only");
  return route(request);
}

Result<Answer> Api::route(Request& request) {
  const auto& method = request.exchange.method();
  const bool reads = method == "GET" || method == "HEAD";
  auto with_right = [&](Right right, Result<Answer> (Api::*handler)(Request&)) -> Result<Answer> {
    if (auto refusal = check_right(request, right)) return std::move(*refusal);
    return (this->*handler)(request);
  };
  switch (request.route.target) {
    case Target::none: break;
    case Target::base: {
      if (!reads) return wrong_method("GET");
      if (!parts_.access.is_open() && !request.caller.is_known) return parts_.access.refusal(request.caller, Right::pull, "");
      return answer_json(json::object());
    }
    case Target::catalog: return reads ? with_right(Right::list, &Api::list_repositories) : wrong_method("GET");
    case Target::tags: return reads ? with_right(Right::pull, &Api::list_tags) : wrong_method("GET");
    case Target::referrers: return reads ? with_right(Right::pull, &Api::list_referrers) : wrong_method("GET");
    case Target::blob:
      if (reads) return with_right(Right::pull, &Api::get_blob);
      return method == "DELETE" ? with_right(Right::remove, &Api::delete_blob) : wrong_method("GET, HEAD, DELETE");
    case Target::manifest:
      if (reads) return with_right(Right::pull, &Api::get_manifest);
      if (method == "PUT") return with_right(Right::push, &Api::put_manifest);
      return method == "DELETE" ? with_right(Right::remove, &Api::delete_manifest) : wrong_method("GET, HEAD, PUT, DELETE");
    case Target::uploads: return method == "POST" ? with_right(Right::push, &Api::begin_upload) : wrong_method("POST");
    case Target::upload:
      if (reads) return with_right(Right::push, &Api::upload_status);
      if (method == "PATCH") return with_right(Right::push, &Api::patch_upload);
      if (method == "PUT") return with_right(Right::push, &Api::put_upload);
      return method == "DELETE" ? with_right(Right::push, &Api::cancel_upload) : wrong_method("GET, PATCH, PUT, DELETE");
  }
  return Error(ErrorKind::internal, "an address without a handler");
}

void Api::send(wire::Exchange& exchange, Answer answer) {
  answer.with("Docker-Distribution-Api-Version", "registry/2.0").with("X-Content-Type-Options", "nosniff");
  // A client that is gone needs no answer; the connection's end is the server's business.
  if (answer.file || answer.only_tells_size) ignore(exchange.respond_file(answer.status, answer.headers, answer.file.get(), answer.offset, answer.size_bytes));
  else ignore(exchange.respond(answer.status, answer.headers, answer.body));
}

void Api::handle(wire::Exchange& exchange) {
  const auto begin = monotonic_ns();
  Request request{exchange, parse_route(exchange.path()), {}, {}};
  auto result = dispatch(request);
  const bool is_ours = !result.ok();  // a failure, not a refusal
  if (is_ours) log_error(exchange.method(), exchange.path(), result.error());
  Answer answer = is_ours ? answer_of(result.error()) : std::move(*result);
  const int status = answer.status;
  const auto sent_bytes = exchange.method() == "HEAD" ? 0 : answer.file ? answer.size_bytes : answer.body.size();
  const auto problem = std::move(answer.problem);
  send(exchange, std::move(answer));
  parts_.metrics.count_request(exchange.method(), status, sent_bytes, monotonic_ns() - begin);
  if (options_.logs_requests)
    log(LogLevel::info, exchange.method(), exchange.path(), concat(status, " ", sent_bytes, " bytes to ", exchange.peer().address, " ", request.caller.name, problem.empty() ? "" : " ", problem));
}

void Api::tell(const Request& request, std::string_view action, const Digest& digest, std::uint64_t size_bytes, std::string_view media_type, std::string_view tag,
               std::string_view from) {
  if (!parts_.events.is_wanted(action)) return;
  const auto& exchange = request.exchange;
  Event event;
  event.action = action;
  event.repository = request.route.repository;
  event.digest = digest.text();
  event.size_bytes = size_bytes;
  event.media_type = media_type;
  event.tag = tag;
  event.from_repository = from;
  event.actor = request.caller.name;
  event.host = exchange.header("Host");
  event.address = exchange.peer().address;
  event.method = exchange.method();
  event.user_agent = exchange.header("User-Agent");
  parts_.events.add(std::move(event));
}

}  // namespace caisson::registry
