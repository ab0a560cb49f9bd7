// What clients ask of registries: pull, push, login, search, distribution.
#include <algorithm>

#include "api/credentials.hpp"
#include "api/handlers.hpp"
#include "api/json_out.hpp"
#include "api/progress_stream.hpp"
#include "api/transfer.hpp"
#include "base/strings.hpp"

namespace caisson::api {

namespace {

constexpr std::int64_t most_search_hits = 100;
constexpr std::int64_t usual_search_hits = 25;

}  // namespace

int registry_status(ErrorKind kind) { return kind == ErrorKind::not_found || kind == ErrorKind::invalid ? http_status(kind) : 500; }

image::RegistryCredentials credentials_of(const Request& request) {
  image::RegistryCredentials credentials;
  auto text = base64_decode(request.exchange.header("X-Registry-Auth"));
  if (!text.ok() || text->empty()) return credentials;
  auto document = parse_json(*text, "X-Registry-Auth");
  if (!document.ok() || !document->is_object() || !read_credentials(JsonView(*document), credentials).ok()) return {};
  return credentials;
}

Status read_credentials(const JsonView& view, image::RegistryCredentials& out) {
  TRY_PLAIN(view.read("username", out.username));
  TRY_PLAIN(view.read("password", out.password));
  TRY_PLAIN(view.read("identitytoken", out.identity_token));
  TRY_PLAIN(view.read("registrytoken", out.registry_token));
  // The older form: base64 of "user:password".
  std::string auth;
  TRY_PLAIN(view.read("auth", auth));
  if (auth.empty() || !out.username.empty()) return {};
  auto decoded = base64_decode(auth);
  if (!decoded.ok()) return view.error("auth is not base64");
  auto halves = split_once(*decoded, ':');
  out.username = halves.before;
  out.password = halves.after;
  return {};
}

Status pull_image(Request& request) {
  image::PullRequest pull;
  const std::string name = request.query.text("fromImage");
  const std::string tag = request.query.text("tag");
  pull.reference = tag.empty() ? name : concat(name, tag.find(':') == std::string::npos ? ":" : "@", tag);
  auto reference = TRY_PLAIN(image::parse_reference(pull.reference));
  // A name without tag and digest means all of them in the API; the command line adds "latest" itself.
  auto last = std::string_view(name).substr(name.find_last_of('/') == std::string::npos ? 0 : name.find_last_of('/'));
  pull.all_tags = tag.empty() && !reference.digest && last.find(':') == std::string_view::npos;
  pull.platform = request.query.text("platform");
  pull.is_lazy = request.query.flag("lazy");  // ours
  pull.credentials = credentials_of(request);
  ProgressStream progress(request, registry_status);
  auto pulled = request.engine.pull_images(request.caller, pull, progress.sink(), request.exchange.cancel());
  return progress.finish(pulled.ok() ? Status() : Status(std::move(pulled).error()));
}

Status push_image(Request& request) {
  image::PushRequest push;
  const std::string tag = request.query.text("tag");
  push.reference = tag.empty() ? request.name : concat(request.name, ":", tag);
  push.all_tags = tag.empty();
  push.images = request.query.all("image");  // ours: what a build made, several platforms as one image
  push.annotations = TRY_PLAIN(read_index_annotations(request.query));
  push.compression = TRY_PLAIN(read_compression(request.query));
  push.credentials = credentials_of(request);
  TRY_PLAIN(request.read_optional_json());  // old clients send the credentials in the body, too
  ProgressStream progress(request, registry_status);
  auto outcome = [&]() -> Status {
    for (const auto& pushed : TRY_PLAIN(request.engine.push_image(request.caller, push, progress.sink(), request.exchange.cancel())))
      progress.send(json::object{{"progressDetail", json::object{}},
                                 {"aux", json::object{{"Tag", pushed.tag}, {"Digest", pushed.digest.text()}, {"Size", pushed.size_bytes}}}});
    return {};
  }();
  return progress.finish(outcome);
}

Status login(Request& request) {
  auto document = TRY_PLAIN(request.read_json());
  JsonView view(document);
  image::RegistryCredentials credentials;
  std::string server;
  TRY_PLAIN(read_credentials(view, credentials));
  TRY_PLAIN(view.read("serveraddress", server));
  auto token = request.engine.login(request.caller, server, credentials, request.exchange.cancel());
  if (!token.ok()) {
    const auto& error = token.error();
    return request.reply_error(error.kind() == ErrorKind::denied ? 401 : registry_status(error.kind()), error.text(), error.hint());
  }
  return request.reply_json(200, json::object{{"IdentityToken", *token}, {"Status", "Login Succeeded"}});
}

Status search_images(Request& request) {
  image::SearchRequest search;
  search.term = request.query.text("term");
  if (search.term.empty()) return Error(ErrorKind::invalid, "query parameter term is missing");
  auto limit = TRY_PLAIN(request.query.integer("limit")).value_or(usual_search_hits);
  if (limit < 0 || limit > most_search_hits) return Error(ErrorKind::invalid, concat("Limit ", limit, " is outside the range of [1, ", most_search_hits, "]"));
  search.limit = static_cast<std::uint32_t>(limit == 0 ? usual_search_hits : limit);
  search.credentials = credentials_of(request);
  auto filters = TRY_PLAIN(Filters::parse(request.query.text("filters"), {"is-automated", "is-official", "stars"}));
  auto official = TRY_PLAIN(filters.boolean("is-official"));
  auto automated = TRY_PLAIN(filters.boolean("is-automated"));
  std::int64_t stars = 0;
  for (const auto& text : filters.get("stars")) stars = std::max(stars, TRY(parse_integer<std::int64_t>(text), "invalid filter 'stars'"));
  auto hits = request.engine.search_images(request.caller, search, request.exchange.cancel());
  if (!hits.ok()) return request.reply_error(registry_status(hits.error().kind()), hits.error().text(), hits.error().hint());
  json::array out;
  for (const auto& hit : *hits) {
    if ((official && *official != hit.is_official) || (automated && *automated != hit.is_automated) || hit.stars < stars) continue;
    out.push_back(json::object{{"star_count", hit.stars},
                               {"is_official", hit.is_official},
                               {"name", hit.name},
                               {"is_automated", hit.is_automated},
                               {"description", hit.description}});
  }
  return request.reply_json(200, out);
}

Status inspect_distribution(Request& request) {
  auto info = request.engine.inspect_distribution(request.caller, request.name, credentials_of(request), request.exchange.cancel());
  if (!info.ok()) {
    const auto& error = info.error();
    const int status = error.kind() == ErrorKind::denied ? 401 : registry_status(error.kind());
    return request.reply_error(status, error.text(), error.hint());
  }
  json::array platforms;
  for (const auto& platform : info->platforms) {
    json::object item{{"architecture", platform.architecture}, {"os", platform.os}};
    if (!platform.variant.empty()) item["variant"] = platform.variant;
    platforms.push_back(std::move(item));
  }
  return request.reply_json(200, json::object{{"Descriptor", json::object{{"mediaType", info->descriptor.media_type},
                                                                         {"digest", info->descriptor.digest.text()},
                                                                         {"size", info->descriptor.size_bytes}}},
                                              {"Platforms", std::move(platforms)}});
}

}  // namespace caisson::api
