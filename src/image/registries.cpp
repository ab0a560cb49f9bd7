// Sessions with registries, and the questions that need no store.
#include "image/registries.hpp"

#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

constexpr std::string_view hub_domain = "docker.io";
constexpr std::string_view hub_index = "https://index.docker.io";

bool is_manifest_type(std::string_view type) { return type == media_type::oci_manifest || type == media_type::docker_manifest || is_index_type(type); }

/// What the document itself says it is; "" when it says nothing.
std::string own_media_type(std::string_view text) {
  auto document = parse_json(text, "manifest");
  std::string type;
  if (document.ok() && document->is_object()) ignore(JsonView(*document).read("mediaType", type));  // the parser of the document refuses it
  return type;
}

Result<std::string> checked_media_type(const FetchReply& reply) {
  auto own = own_media_type(reply.body);
  const auto& announced = reply.media_type;
  // CVE-2021-41190: one document must not be a manifest to one reader and an index to another.
  if (is_manifest_type(announced) && !own.empty() && own != announced)
    return Error(ErrorKind::corrupt, concat("its mediaType \"", own, "\" contradicts the registry's Content-Type \"", announced, "\""));
  if (is_manifest_type(announced)) return announced;
  if (announced.starts_with(media_type::docker_schema1))
    return Error(ErrorKind::unsupported, "Docker image manifest version 2, schema 1 is no longer supported");
  if (!own.empty()) return own;
  // Old registries say text/plain, and OCI's mediaType may be missing.
  return std::string(parse_index(reply.body).ok() ? media_type::oci_index : media_type::oci_manifest);
}

/// docker's sentences about what a registry refused.
Error pull_error(const FetchReply& reply, const Reference& reference) {
  if (reply.code == "DENIED")
    return {ErrorKind::not_found, concat("pull access denied for ", reference.familiar_name(), ", repository does not exist or may require 'docker login': ", reply.text)};
  if (reply.code == "NAME_UNKNOWN") return {ErrorKind::not_found, concat("repository ", reference.familiar_name(), " not found: ", reply.text)};
  if (reply.kind == ErrorKind::not_found) return {ErrorKind::not_found, concat("manifest for ", reference.familiar(), " not found: ", reply.text)};
  return error_of(reply);
}

std::string user_agent() { return "caisson/" CAISSON_VERSION; }

}  // namespace

Result<Descriptor> choose_platform(const Index& index, const Platform& wanted) {
  const Descriptor* best = nullptr;
  std::vector<std::string> offered;
  for (const auto& entry : index.manifests) {
    // BuildKit files its provenance beside the images, under a platform nobody has.
    if (entry.platform && entry.platform->os == "unknown") continue;
    if (entry.platform) offered.push_back(platform_text(*entry.platform));
    if (entry.platform && !platform_matches(*entry.platform, wanted)) continue;
    // Of several that run here (arm/v6 and arm/v7 on a v7) the highest is the one made for this machine.
    if (best == nullptr || (best->platform && entry.platform && entry.platform->variant > best->platform->variant)) best = &entry;
  }
  if (best != nullptr) return *best;
  const auto shown = platform_text(wanted);
  return Error(ErrorKind::not_found, concat("no matching manifest for ", shown, " in the manifest list entries (it offers: ", join(offered, ", "), ")"));
}

Result<FetchedManifest> fetch_manifest(RegistrySession& session, const Reference& reference, const std::string& tag_or_digest, const Cancel& cancel) {
  FetchRequest request;
  request.task = FetchTask::manifest;
  request.repository = reference.path;
  request.name = tag_or_digest;
  auto reply = TRY_PLAIN(session.call(std::move(request), -1, {}, std::array{cancel.fd}));
  if (!reply.ok) return pull_error(reply, reference);
  auto step = [&] { return concat("manifest of ", reference.familiar_name(), " ", tag_or_digest); };
  FetchedManifest manifest;
  manifest.media_type = TRY(checked_media_type(reply), step());
  auto asked = Digest::parse(tag_or_digest);
  auto announced = Digest::parse(reply.digest);
  manifest.digest = digest_of(reply.body, asked.ok() ? asked->kind() : DigestAlgorithm::sha256);
  if (asked.ok() && manifest.digest != *asked)
    return Error(ErrorKind::corrupt, concat(step(), ": the registry sent something else, with digest ", manifest.digest.text()));
  // A registry that answers in another algorithm than it was asked in (distribution 2.8 with sha512) tells nothing.
  if (announced.ok() && announced->kind() == manifest.digest.kind() && *announced != manifest.digest)
    return Error(ErrorKind::corrupt, concat(step(), ": the registry announced the digest ", announced->text(), " and sent something else, with digest ", manifest.digest.text()));
  manifest.text = std::move(reply.body);
  manifest.etag = std::move(reply.etag);
  return manifest;
}

Result<FoundManifest> find_manifest(RegistrySession& session, const Reference& reference, FetchedManifest top, const Platform& wanted, const Cancel& cancel) {
  constexpr int most_index_depth = 3;
  FoundManifest found{std::move(top), {}};
  found.digests.push_back(found.manifest.digest);
  for (int depth = 0; is_index_type(found.manifest.media_type); ++depth) {
    const auto step = concat("index ", found.manifest.digest.text());
    if (depth == most_index_depth) return Error(ErrorKind::invalid, concat(step, ": indexes nested too deep"));
    auto chosen = TRY_PLAIN(choose_platform(TRY(parse_index(found.manifest.text), step), wanted));
    auto next = TRY(fetch_manifest(session, reference, chosen.digest.text(), cancel), step);
    if (next.text.size() != chosen.size_bytes)
      return Error(ErrorKind::corrupt, concat(step, ": manifest ", chosen.digest.text(), " has ", next.text.size(), " bytes, not ", chosen.size_bytes));
    found.manifest = std::move(next);
    found.digests.insert(found.digests.begin(), found.manifest.digest);
  }
  return found;
}

Result<std::string> fetch_small_blob(RegistrySession& session, const Descriptor& descriptor, const Cancel& cancel, std::size_t most_bytes) {
  const auto step = concat("blob ", descriptor.digest.text());
  if (descriptor.size_bytes > most_bytes) return Error(ErrorKind::invalid, concat(step, " is announced with ", descriptor.size_bytes, " bytes: no document is so large"));
  auto file = TRY(linux::memfd_create("caisson-document"), step);
  FetchRequest request;
  request.task = FetchTask::blob;
  request.name = descriptor.digest.text();
  request.size_bytes = descriptor.size_bytes;
  auto reply = TRY_PLAIN(session.call(std::move(request), file.get(), {}, std::array{cancel.fd}));
  if (!reply.ok) return error_of(reply);
  TRY(linux::lseek(file.get(), 0, SEEK_SET), step);
  auto text = TRY(linux::read_all(file.get(), most_bytes), step);
  auto digest = digest_of(text, descriptor.digest.kind());
  if (digest != descriptor.digest) return Error(ErrorKind::corrupt, concat(step, ": the registry sent something else, with digest ", digest.text()));
  return text;
}

Result<std::string> domain_of_server(std::string_view server) {
  for (std::string_view scheme : {"https://", "http://"})
    if (server.starts_with(scheme)) server.remove_prefix(scheme.size());
  auto host = std::string(split_once(server, '/').before);
  if (host.empty() || host == "index.docker.io" || host == "registry-1.docker.io") return std::string(hub_domain);
  // The reference parser knows what a host may look like; "x" makes it a reference. One without a dot is a host here, too.
  auto reference = parse_reference(concat(host, host.find_first_of(".:") == std::string::npos && host != "localhost" ? ":443" : "", "/x"));
  if (!reference.ok()) return Error(ErrorKind::invalid, concat("invalid registry address \"", server, "\""));
  return host;
}

Result<std::unique_ptr<RegistrySession>> Registries::open_session(FetchSession session) const {
  session.patience = options_.patience;
  session.user_agent = user_agent();
  return RegistrySession::open(fetch_, session);
}

Result<FetchSession> Registries::session_for(const Reference& repository, const std::string& actions, const RegistryCredentials& credentials) const {
  FetchSession session;
  session.repository = repository.path;
  session.actions = actions;
  session.endpoints = TRY(endpoints_of(repository.domain, options_), concat("registry ", repository.domain));
  // Whoever writes asks what the registry itself has: a mirror knows an older state.
  if (actions.find("push") != std::string::npos) std::erase_if(session.endpoints, [](const RegistryEndpoint& endpoint) { return !endpoint.is_origin; });
  session.credentials = credentials;
  return session;
}

Result<std::unique_ptr<RegistrySession>> Registries::open(const Reference& repository, const std::string& actions, const RegistryCredentials& credentials) const {
  return open_session(TRY_PLAIN(session_for(repository, actions, credentials)));
}

Result<FetchProcess> Registries::start_impatient(const Reference& repository, const RegistryCredentials& credentials) const {
  auto session = TRY_PLAIN(session_for(repository, "pull", credentials));
  session.user_agent = user_agent();
  session.patience = options_.patience;
  auto at_most = [](std::uint32_t& value, std::uint32_t limit) { value = std::min(value, limit); };
  at_most(session.patience.connect_timeout_ms, 5'000);
  at_most(session.patience.mirror_connect_timeout_ms, 2'000);
  at_most(session.patience.stall_timeout_ms, 8'000);
  at_most(session.patience.attempts, 3);
  at_most(session.patience.longest_pause_ms, 1'000);
  return start_fetch_process(fetch_, session);
}

Result<std::string> Registries::login(const std::string& server, const RegistryCredentials& credentials, const Cancel& cancel) const {
  const auto domain = TRY_PLAIN(domain_of_server(server));
  FetchSession session;
  session.endpoints = TRY(endpoints_of(domain, options_), concat("registry ", domain));
  session.credentials = credentials;
  auto opened = TRY_PLAIN(open_session(std::move(session)));
  FetchRequest request;
  request.task = FetchTask::login;
  return std::move(TRY_PLAIN(opened->ask(std::move(request), cancel)).body);
}

Result<std::string> Registries::get_document(const std::string& url, const Cancel& cancel) const {
  const auto host_at = url.find("://");
  const bool is_web = url.starts_with("https://") || url.starts_with("http://");
  const auto path_at = is_web ? url.find('/', host_at + 3) : std::string::npos;
  if (path_at == std::string::npos) return Error(ErrorKind::invalid, concat("\"", url, "\" is no http or https URL of a document"));
  FetchSession session;
  session.endpoints.emplace_back();
  session.endpoints.back().url = url.substr(0, path_at);
  auto opened = TRY_PLAIN(open_session(std::move(session)));
  FetchRequest request;
  request.task = FetchTask::search;
  request.name = url.substr(path_at);
  return std::move(TRY(opened->ask(std::move(request), cancel), url).body);
}

namespace {
std::string encode_query(std::string_view text) {
  std::string out;
  for (char c : text) {
    const auto byte = static_cast<std::uint8_t>(c);
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    if (is_plain) out += c;
    else out += concat("%", to_hex(std::array{byte}));
  }
  return out;
}
}  // namespace

static Status from_json(const JsonView& view, SearchHit& out) {
  TRY_PLAIN(view.read("name", out.name));
  TRY_PLAIN(view.read("description", out.description));
  TRY_PLAIN(view.read("star_count", out.stars));
  TRY_PLAIN(view.read("is_official", out.is_official));
  return view.read("is_automated", out.is_automated);
}

Result<std::vector<SearchHit>> parse_search(std::string_view body) {
  auto document = parse_json(body, "the registry's answer");
  if (!document.ok()) return std::move(document).error().with_kind(ErrorKind::corrupt);
  std::vector<SearchHit> hits;
  auto status = JsonView(*document).read("results", hits);
  if (!status.ok()) return std::move(status).error().with_kind(ErrorKind::corrupt).in("the registry's answer");
  return hits;
}

Result<std::vector<SearchHit>> Registries::search(const SearchRequest& request, const Cancel& cancel) const {
  // "host:5000/term" asks that host's old index; everything else Docker Hub's.
  std::string domain(hub_domain);
  std::string term = request.term;
  auto halves = split_once(request.term, '/');
  if (halves.found && (halves.before.find_first_of(".:") != std::string_view::npos || halves.before == "localhost")) {
    domain = TRY_PLAIN(domain_of_server(halves.before));
    term = halves.after;
  }
  FetchSession session;
  session.credentials = request.credentials;
  for (auto& endpoint : TRY(endpoints_of(domain, options_), concat("registry ", domain))) {
    if (!endpoint.is_origin) continue;
    endpoint.url = domain == hub_domain ? std::string(hub_index) : endpoint.url.substr(0, endpoint.url.rfind("/v2"));
    session.endpoints.push_back(std::move(endpoint));
  }
  auto opened = TRY_PLAIN(open_session(std::move(session)));
  FetchRequest fetch;
  fetch.task = FetchTask::search;
  fetch.name = concat("/v1/search?q=", encode_query(term), "&n=", request.limit);
  auto hits = TRY_PLAIN(parse_search(TRY_PLAIN(opened->ask(std::move(fetch), cancel)).body));
  if (hits.size() > request.limit) hits.resize(request.limit);
  return hits;
}

Result<DistributionInfo> Registries::inspect(const std::string& text, const RegistryCredentials& credentials, const Cancel& cancel) const {
  auto reference = TRY_PLAIN(parse_reference(text));
  auto session = TRY_PLAIN(open(reference, "pull", credentials));
  auto manifest = TRY_PLAIN(fetch_manifest(*session, reference, reference.digest ? reference.digest->text() : reference.tag, cancel));
  DistributionInfo info;
  info.descriptor.media_type = manifest.media_type;
  info.descriptor.digest = manifest.digest;
  info.descriptor.size_bytes = manifest.text.size();
  if (is_index_type(manifest.media_type)) {
    for (auto& entry : TRY_PLAIN(parse_index(manifest.text)).manifests)
      if (entry.platform) info.platforms.push_back(std::move(*entry.platform));
    return info;
  }
  auto parsed = TRY_PLAIN(parse_manifest(manifest.text));
  // The platform of a single image stands in its config, which is a blob.
  auto config = TRY_PLAIN(fetch_small_blob(*session, parsed.config, cancel));
  auto image = TRY_PLAIN(parse_image_config(config));
  info.platforms.push_back({image.os, image.architecture, image.variant});
  return info;
}

}  // namespace caisson::image
