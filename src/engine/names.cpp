// Names of containers at 127.0.0.11: who is served by the embedded DNS server, and until when.
#include <algorithm>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/local_engine.hpp"
#include "engine/network_files.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"

namespace caisson::engine {

std::string LocalEngine::host_resolver_text() const {
  auto text = linux::read_file(options_.resolv_conf_path);
  return text.ok() ? *text : "";  // a host without one: docker's defaults apply
}

Result<network::DnsServer*> LocalEngine::dns_server() {
  if (!dns_) dns_ = TRY(make_dns_(names_), "the embedded DNS server");
  return dns_.get();
}

Status LocalEngine::serve_names(const ContainerInfo& info, int netns_fd) {
  names_.put(info.id, info.name, info.spec.network, info.endpoints);
  if (!has_embedded_dns(info.endpoints)) return {};
  const bool has_way_out = std::any_of(info.endpoints.begin(), info.endpoints.end(), [](const auto& endpoint) { return !endpoint.gateway.empty(); });
  auto config = TRY_PLAIN(dns_config(host_resolver_text(), info.spec, has_way_out));
  std::lock_guard lock(dns_mutex_);
  auto* server = TRY_PLAIN(dns_server());
  if (named_.contains(info.id)) return server->update(info.id, std::move(config));
  TRY_PLAIN(server->serve(info.id, netns_fd, std::move(config)));
  named_.insert(info.id);
  return {};
}

void LocalEngine::forget_names(const std::string& id) {
  names_.erase(id);
  std::lock_guard lock(dns_mutex_);
  if (named_.erase(id) == 0) return;
  auto forgotten = dns_->forget(id);
  if (!forgotten.ok()) log_error("names", concat("container ", id), forgotten.error());
}

void LocalEngine::recover_names() {
  for (const auto& container : registry_.all()) {
    auto record = container->snapshot();
    const auto& info = record->info;
    if (info.endpoints.empty() || info.pid == 0) continue;
    auto serve = [&]() -> Status {
      auto namespace_fd = TRY_PLAIN(linux::open_namespace(info.pid, "net"));
      return serve_names(info, namespace_fd.get());
    };
    auto served = serve();
    if (!served.ok()) note_repair(concat("container ", info.id.substr(0, 12), " (", info.name, "): names are not answered until it starts again: ", served.error().text()));
  }
}

}  // namespace caisson::engine
