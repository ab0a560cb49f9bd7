// Networks: made, removed and listed; containers connected to them and taken away, running or not.
#include <algorithm>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/check_spec.hpp"
#include "engine/liveness.hpp"
#include "engine/local_engine.hpp"
#include "linux/process.hpp"

namespace caisson::engine {

namespace {
// docker's words (runconfig/errors.go names them as its API's).
Error conflict_with_none() {
  return {ErrorKind::invalid, "container cannot be connected to multiple networks with one of the networks in private (none) mode"};
}
Error conflict_with_host() { return {ErrorKind::invalid, "container cannot be disconnected from host network or connected to host network"}; }
Error conflict_with_shared() {
  return {ErrorKind::invalid, "container sharing network namespace with another container or host cannot be connected to any other network"};
}

bool is_network_mode(const std::string& mode) { return mode != "none" && mode != "host" && container_of_mode(mode).empty(); }

/// Whether a container of this mode may be on a network of this driver.
Status check_connectable(const std::string& mode, const network::Network& network) {
  if (network.driver == "host") return conflict_with_host();
  if (network.driver == "null" || mode == "none") return conflict_with_none();
  if (mode == "host" || !container_of_mode(mode).empty()) return conflict_with_shared();
  return {};
}

auto find_endpoint(std::vector<EndpointSpec>& endpoints, const network::Network& network) {
  return std::find_if(endpoints.begin(), endpoints.end(),
                      [&](const EndpointSpec& endpoint) { return endpoint.network == network.name || endpoint.network == network.id; });
}
}  // namespace

const network::Endpoint* endpoint_on(const std::vector<network::Endpoint>& endpoints, std::string_view network_name) {
  auto found = std::find_if(endpoints.begin(), endpoints.end(), [&](const auto& endpoint) { return endpoint.network_name == network_name; });
  return found == endpoints.end() ? nullptr : &*found;
}

std::vector<network::PortBinding> published_ports(const std::vector<network::Endpoint>& endpoints) {
  std::vector<network::PortBinding> ports;
  for (const auto& endpoint : endpoints) ports.insert(ports.end(), endpoint.ports.begin(), endpoint.ports.end());
  return ports;
}

// ---- what a container is connected to -----------------------------------------------------------------------------

Status LocalEngine::settle_networks(ContainerSpec& spec) {
  auto& networking = spec.network;
  if (networking.mode.empty() || networking.mode == "default") networking.mode = "bridge";
  auto& endpoints = networking.endpoints;
  if (!is_network_mode(networking.mode)) {
    std::erase_if(endpoints, [&](const EndpointSpec& endpoint) { return endpoint.network == networking.mode; });
    if (endpoints.empty()) return {};
    return networking.mode == "none" ? conflict_with_none() : conflict_with_shared();
  }
  std::string main = networking.mode;
  for (auto& endpoint : endpoints) {
    if (endpoint.network.empty() || endpoint.network == "default") endpoint.network = "bridge";
    auto network = network_->find(endpoint.network);
    if (!network.ok()) continue;  // start says so, as docker does
    TRY_PLAIN(check_connectable(networking.mode, *network));
    endpoint.network = network->name;
  }
  if (auto network = network_->find(main); network.ok()) main = network->name;
  auto own = std::find_if(endpoints.begin(), endpoints.end(), [&](const EndpointSpec& endpoint) { return endpoint.network == main; });
  if (own == endpoints.end()) own = endpoints.insert(endpoints.begin(), EndpointSpec{.network = main});
  std::rotate(endpoints.begin(), own, own + 1);
  for (auto endpoint = endpoints.begin(); endpoint != endpoints.end(); ++endpoint)
    if (std::any_of(endpoints.begin(), endpoint, [&](const EndpointSpec& other) { return other.network == endpoint->network; }))
      return Error(ErrorKind::invalid, concat("network ", endpoint->network, " is given twice"));
  return {};
}

network::ConnectRequest LocalEngine::connect_request(const std::string& container_id, const ContainerSpec& spec, const EndpointSpec& wanted) {
  network::ConnectRequest request;
  request.container_id = container_id;
  request.network = wanted.network;
  request.ports = spec.ports;
  if (!wanted.ipv4.empty()) request.ipv4 = wanted.ipv4;
  if (!wanted.ipv6.empty()) request.ipv6 = wanted.ipv6;
  if (!wanted.mac.empty()) request.mac = wanted.mac;
  request.link_local = wanted.link_local;
  request.gateway_priority = wanted.gateway_priority;
  return request;
}

// ---- networks -----------------------------------------------------------------------------------------------------

void LocalEngine::publish_network(std::string action, const network::Network& network, const std::string& container_id) {
  std::map<std::string, std::string> attributes = {{"name", network.name}, {"type", network.driver}};
  if (!container_id.empty()) attributes["container"] = container_id;
  publish_object("network", std::move(action), network.id, std::move(attributes), network.labels);
}

void LocalEngine::publish_endpoints(const std::string& action, const std::vector<network::Endpoint>& endpoints, const std::string& container_id) {
  for (const auto& endpoint : endpoints)
    if (auto network = network_->find(endpoint.network_id); network.ok()) publish_network(action, *network, container_id);
}

Result<NetworkInfo> LocalEngine::inspect_network(const Caller& caller, const std::string& name_or_id) {
  TRY_PLAIN(permit_verb(caller, Verb::network_inspect, name_or_id));
  NetworkInfo info;
  info.network = TRY_PLAIN(network_->find(name_or_id));
  TRY_PLAIN(permit_network(caller, Verb::network_inspect, info.network));
  for (auto& [id, endpoint] : TRY_PLAIN(network_->endpoints())) {
    if (endpoint.network_id != info.network.id) continue;
    auto container = registry_.find_id(id);
    if (container && !sees(caller, *container->snapshot())) continue;
    if (container) info.container_names[id] = container->snapshot()->info.name;
    info.endpoints.emplace_back(id, std::move(endpoint));
  }
  return info;
}

Result<std::vector<NetworkInfo>> LocalEngine::list_networks(const Caller& caller) {
  TRY_PLAIN(authorize(caller, Verb::network_list, ""));
  std::vector<NetworkInfo> infos;
  std::map<std::string, std::size_t> by_id;
  for (auto& network : TRY_PLAIN(network_->list())) {
    if (!sees(caller, network)) continue;
    by_id[network.id] = infos.size();
    infos.emplace_back().network = std::move(network);
  }
  for (auto& [id, endpoint] : TRY_PLAIN(network_->endpoints())) {
    auto place = by_id.find(endpoint.network_id);
    if (place == by_id.end()) continue;  // made since the list was taken, or not to be shown
    auto container = registry_.find_id(id);
    if (container && !sees(caller, *container->snapshot())) continue;
    if (container) infos[place->second].container_names[id] = container->snapshot()->info.name;
    infos[place->second].endpoints.emplace_back(id, std::move(endpoint));
  }
  return infos;
}

Result<network::Network> LocalEngine::create_network(const Caller& caller, const network::NetworkRequest& request) {
  TRY_PLAIN(permit_verb(caller, Verb::network_create, request.name));
  network::NetworkRequest own = request;
  TRY_PLAIN(put_in_scope_of(caller, Verb::network_create, request.name, own.labels));
  if (auto judged = check_network(role_of(caller), own); !judged.ok()) return refuse(caller, Verb::network_create, request.name, "", judged.error().text()).error();
  note(caller, Verb::network_create, request.name, "");
  auto network = TRY_PLAIN(network_->create(own));
  publish_network("create", network, "");
  return network;
}

Status LocalEngine::remove_network(const Caller& caller, const std::string& name_or_id) {
  TRY_PLAIN(permit_verb(caller, Verb::network_remove, name_or_id));
  auto found = TRY_PLAIN(network_->find(name_or_id));
  TRY_PLAIN(permit_network(caller, Verb::network_remove, found));
  auto network = TRY_PLAIN(network_->remove(found.id));
  publish_network("destroy", network, "");
  return {};
}

Result<PruneResult> LocalEngine::prune_networks(const Caller& caller, const NetworkFilter& filter) {
  TRY_PLAIN(authorize(caller, Verb::network_prune, ""));
  PruneResult result;
  for (const auto& info : TRY_PLAIN(list_networks(caller))) {
    const auto& network = info.network;
    if (network::is_predefined(network.name) || !info.endpoints.empty() || (filter && !filter(network))) continue;
    auto removed = remove_network(caller, network.id);
    // Used or gone meanwhile.
    if (!removed.ok() && (removed.error().kind() == ErrorKind::denied || removed.error().kind() == ErrorKind::not_found)) continue;
    TRY_PLAIN(std::move(removed));
    result.deleted.push_back(network.name);
  }
  return result;
}

// ---- connect and disconnect ---------------------------------------------------------------------------------------

/// After a connect or disconnect of a running container: what it is connected to now, in the record and in its /etc/hosts.
Status LocalEngine::refresh_endpoints(Container& container, int netns_fd, const std::function<void(Record&)>& edit) {
  auto endpoints = network_->endpoints_of(container.id);
  auto saved = container.change([&](Record& record) {
    edit(record);
    if (is_alive(record.info.state)) record.info.endpoints = endpoints;
  });
  // It is done, whatever the store says; the record is written again at the next change.
  if (!saved.ok()) log_error("network", concat("container ", container.id), saved.error());
  ContainerInfo info = container.snapshot()->info;
  if (!is_alive(info.state)) return {};
  fill_derived(info);
  TRY(serve_names(info, netns_fd), "serve names");
  return write_network_files(info);
}

Status LocalEngine::connect_running(Container& container, const Record& record, const EndpointSpec& wanted, int netns_fd) {
  auto request = connect_request(container.id, record.info.spec, wanted);
  request.netns_fd = netns_fd;
  auto endpoint = network_->connect(request);
  if (!endpoint.ok() && endpoint.error().kind() == ErrorKind::conflict && wait_for_released_ports()) endpoint = network_->connect(request);
  if (!endpoint.ok()) return std::move(endpoint).error();
  return {};
}

Status LocalEngine::connect_network(const Caller& caller, const std::string& name, EndpointSpec wanted) {
  auto container = TRY_PLAIN(find_for(caller, Verb::network_connect, name));
  auto network = TRY_PLAIN(network_->find(wanted.network));
  if (!may_join(role_of(caller), network))
    return refuse(caller, Verb::network_connect, name, container->id, concat(role_of(caller).text(), " does not allow the network ", network.name));
  std::lock_guard lock(container->operation);
  if (container->removed) return Error(ErrorKind::not_found, concat("No such container: ", name));
  auto record = container->snapshot();
  TRY_PLAIN(check_connectable(record->info.spec.network.mode, network));
  auto endpoints = record->info.spec.network.endpoints;
  if (find_endpoint(endpoints, network) != endpoints.end())
    return Error(ErrorKind::denied, concat("endpoint with name ", record->info.name, " already exists in network ", network.name));
  wanted.network = network.name;
  wanted.network_id = network.id;
  UniqueFd namespace_fd;
  if (is_alive(record->info.state)) {
    namespace_fd = TRY(linux::open_namespace(record->info.pid, "net"), concat("container ", container->id.substr(0, 12)));
    TRY_PLAIN(connect_running(*container, *record, wanted, namespace_fd.get()));
  }
  TRY_PLAIN(refresh_endpoints(*container, namespace_fd.get(), [&](Record& changed) { changed.info.spec.network.endpoints.push_back(wanted); }));
  publish_network("connect", network, container->id);
  return {};
}

Status LocalEngine::disconnect_network(const Caller& caller, const std::string& network_name, const std::string& name, bool force) {
  auto container = TRY_PLAIN(find_for(caller, Verb::network_disconnect, name));
  auto network = TRY_PLAIN(network_->find(network_name));
  std::lock_guard lock(container->operation);
  if (container->removed) return Error(ErrorKind::not_found, concat("No such container: ", name));
  auto record = container->snapshot();
  if (network.driver == "host") return conflict_with_host();
  auto endpoints = record->info.spec.network.endpoints;
  if (find_endpoint(endpoints, network) == endpoints.end())
    return Error(ErrorKind::internal, concat("container ", container->id, " is not connected to network ", network.name));
  UniqueFd namespace_fd;
  if (is_alive(record->info.state)) {
    namespace_fd = TRY(linux::open_namespace(record->info.pid, "net"), concat("container ", container->id.substr(0, 12)));
    auto gone = network_->disconnect_from(container->id, network.id, namespace_fd.get());
    // `force`: the specification forgets a network that the kernel no longer knows.
    if (!gone.ok() && !(force && gone.error().kind() == ErrorKind::not_found)) return gone;
  }
  TRY_PLAIN(refresh_endpoints(*container, namespace_fd.get(), [&](Record& changed) {
    auto& left = changed.info.spec.network.endpoints;
    if (auto found = find_endpoint(left, network); found != left.end()) left.erase(found);
  }));
  publish_network("disconnect", network, container->id);
  return {};
}

}  // namespace caisson::engine
