// Putting it together.
#include "registry/service.hpp"

#include "base/log.hpp"
#include "base/strings.hpp"
#include "image/image_store.hpp"
#include "image/registry_hosts.hpp"
#include "linux/file.hpp"
#include "registry/bucket_storage.hpp"
#include "registry/s3_keys.hpp"

namespace caisson::registry {

namespace {

Result<AccessOptions> prepare_access(const Config& config) {
  AccessOptions access;
  access.realm = config.realm;
  access.rules = config.rules;
  if (!config.htpasswd_file.empty()) {
    const auto text = TRY(linux::read_file(config.htpasswd_file), "htpasswd");
    access.htpasswd = std::make_unique<Htpasswd>(TRY(Htpasswd::parse(text), config.htpasswd_file));
  }
  if (config.token) {
    auto& token = access.token.emplace();
    token.realm = config.token->realm;
    token.service = config.token->service;
    token.issuer = config.token->issuer;
    for (const auto& file : config.token->key_files) {
      const auto text = TRY(linux::read_file(file), "token key");
      auto key = TRY(PublicKey::parse(text), file);
      if (key.kind() != KeyKind::rsa && key.kind() != KeyKind::p256) return Error(ErrorKind::invalid, concat(file, ": tokens are signed with RSA or P-256, not with ", to_string(key.kind())));
      token.keys.push_back(std::move(key));
    }
  }
  return access;
}

Result<Upstream> prepare_upstream(const ProxyConfig& proxy, const Config& config, const image::FetchOptions& fetch) {
  image::RegistryOptions registry;
  registry.insecure = config.insecure;
  registry.hosts_dir = config.hosts_dir;
  image::FetchSession session;
  session.endpoints = TRY_PLAIN(image::endpoints_of(proxy.upstream, registry));
  session.user_agent = "caisson-registry/" CAISSON_VERSION;
  session.credentials.username = proxy.username;
  if (!proxy.password_file.empty()) session.credentials.password = trim(TRY_PLAIN(linux::read_file(proxy.password_file)));
  Upstream upstream;
  upstream.prefix = proxy.prefix;
  upstream.name = proxy.upstream;
  upstream.fresh_ns = proxy.fresh_ns;
  upstream.session = TRY_PLAIN(image::RegistrySession::open(fetch, session));
  return upstream;
}

Result<EventTarget> prepare_target(const EventConfig& event, const image::FetchOptions& fetch) {
  image::FetchSession session;
  image::RegistryEndpoint endpoint;
  endpoint.url = event.url;
  endpoint.headers = event.headers;
  session.endpoints.push_back(std::move(endpoint));
  session.user_agent = "caisson-registry/" CAISSON_VERSION;
  std::shared_ptr<image::RegistrySession> opened = TRY_PLAIN(image::RegistrySession::open(fetch, session));  // shared: std::function wants to be copied
  EventTarget target;
  target.name = event.name;
  target.actions = event.actions;
  target.deliver = [opened](const std::string& envelope) -> Status {
    image::FetchRequest request;
    request.task = image::FetchTask::post;
    request.media_type = "application/vnd.docker.distribution.events.v1+json";
    request.body = envelope;
    TRY_PLAIN(opened->ask(std::move(request), Cancel{}));
    return {};
  };
  return target;
}

}  // namespace

Result<std::unique_ptr<S3Client>> prepare_bucket(const Config& config, std::uint32_t helper_id) {
  if (!config.s3) return std::unique_ptr<S3Client>();
  auto settings = s3_settings(*config.s3);
  settings.keys = TRY_PLAIN(read_s3_keys(*config.s3));
  image::FetchSession session;
  image::RegistryEndpoint endpoint;
  endpoint.url = TRY_PLAIN(s3_base_url(settings));
  if (!config.s3->ca_file.empty()) endpoint.ca_pem = TRY(linux::read_file(config.s3->ca_file), "certificates of the storage");
  session.endpoints.push_back(std::move(endpoint));
  session.user_agent = "caisson-registry/" CAISSON_VERSION;
  std::shared_ptr<image::RegistrySession> opened = TRY_PLAIN(image::RegistrySession::open({config.fetch_path, helper_id}, session));  // shared: std::function wants to be copied
  auto send = [opened](image::FetchRequest request, int fd) -> Result<image::FetchReply> {
    auto reply = TRY_PLAIN(opened->call(std::move(request), fd, {}, {}));
    if (!reply.ok) return image::error_of(reply);
    return reply;
  };
  return S3Client::create(std::move(settings), std::move(send));
}

Result<Prepared> prepare(const Config& config, std::uint32_t helper_id) {
  Prepared out;
  out.bucket = TRY(prepare_bucket(config, helper_id), "storage");
  out.access = TRY_PLAIN(prepare_access(config));
  const image::FetchOptions fetch{config.fetch_path, helper_id};
  for (const auto& proxy : config.proxies) out.upstreams.push_back(TRY(prepare_upstream(proxy, config, fetch), concat("proxy ", proxy.prefix)));
  for (const auto& event : config.events) out.event_targets.push_back(TRY(prepare_target(event, fetch), concat("events ", event.name)));
  return out;
}

Result<state::OpenedStore> open_records(const Config& config, int wait_ms) {
  auto opened = TRY(state::open_sqlite_store({.path = config.root + "/registry.db", .wait_ms = wait_ms}), "open the registry's records");
  for (const auto& repair : opened.repairs) log(LogLevel::warning, "open", "registry.db", repair);
  return opened;
}

Result<std::unique_ptr<Service>> Service::open(const Config& config, state::OpenedStore records, Prepared prepared) {
  std::unique_ptr<Service> service(new Service(config));
  service->store_ = std::move(records.store);
  service->content_ = TRY_PLAIN(image::ContentStore::open(config.root));
  TRY(service->content_->clear_staging(), "remove what an earlier process was making");
  if (config.s3 && !prepared.bucket) return Error(ErrorKind::internal, "the storage was not prepared");
  service->storage_ = config.s3 ? bucket_storage(*service->content_, std::move(prepared.bucket), {config.s3->cache_bytes, config.s3->redirects}) : folder_storage(*service->content_);
  service->catalog_ = TRY_PLAIN(Catalog::open(*service->store_, *service->storage_, {config.total_quota_bytes, config.repository_quota_bytes, config.quotas}));
  TRY(service->catalog_->join_storage(), "storage");
  service->uploads_ = TRY_PLAIN(Uploads::open(config.root + "/uploads", *service->store_, *service->storage_));
  service->access_ = std::make_unique<Access>(std::move(prepared.access));
  service->proxies_ = std::make_unique<Proxies>(*service->catalog_, *service->storage_, service->metrics_, std::move(prepared.upstreams));
  service->events_ = TRY_PLAIN(EventSink::open(*service->store_, service->metrics_, config.listen.front(), std::move(prepared.event_targets)));
  const ApiOptions options{config.is_read_only, config.logs_requests};
  service->api_ = std::make_unique<Api>(
      Parts{*service->catalog_, *service->storage_, *service->uploads_, *service->access_, service->metrics_, *service->events_, *service->proxies_}, options);
  return service;
}

Result<CleanUp> Service::clean_up(const Catalog::CleanUpOptions& options) {
  const auto expired = TRY_PLAIN(uploads_->expire(config_.upload_age_ns));
  auto done = TRY_PLAIN(catalog_->clean_up(options));
  TRY(content_->remove_stale_partials(config_.upload_age_ns), "remove downloads that were given up");
  done.uploads = expired;
  ++metrics_.clean_ups;
  metrics_.cleaned_bytes += done.bytes;
  return done;
}

Gauges Service::gauges() {
  auto usage = catalog_->usage();
  Gauges gauges;
  gauges.repository_bytes = std::move(usage.by_repository);
  gauges.blob_bytes = usage.total_bytes;
  gauges.uploads = uploads_->count();
  gauges.waiting_events = events_->waiting();
  return gauges;
}

}  // namespace caisson::registry
