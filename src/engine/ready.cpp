// Namespaces kept ready for the next starts: who may have them, how they are made, and how they are given back.
#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/capabilities.hpp"
#include "engine/local_engine.hpp"

namespace caisson::engine {

std::optional<NamespacePool::Kind> LocalEngine::pool_kind(const ContainerSpec& spec) {
  const bool joins = !container_of_mode(spec.pid_mode).empty() || !container_of_mode(spec.ipc_mode).empty();
  if (spec.userns_mode == "host" || joins) return std::nullopt;
  if (spec.network.mode == "none") return NamespacePool::Kind::isolated;
  if (spec.network.mode == "host" || !container_of_mode(spec.network.mode).empty()) return std::nullopt;
  const auto& endpoints = spec.network.endpoints;
  if (endpoints.empty()) return spec.network.mode == "bridge" ? std::optional(NamespacePool::Kind::bridged) : std::nullopt;
  const EndpointSpec& first = endpoints.front();
  const bool is_plain = first.ipv4.empty() && first.ipv6.empty() && first.mac.empty() && first.link_local.empty() && first.gateway_priority == 0;
  if (first.network == "bridge" && !is_plain) return std::nullopt;
  return first.network == "bridge" ? NamespacePool::Kind::bridged : NamespacePool::Kind::isolated;  // plugged in when it starts
}

NamespacePool::Source LocalEngine::pool_source() {
  NamespacePool::Source source;
  source.make = [this](NamespacePool::Kind kind) { return make_ready_pair(kind); };
  source.unmake = [this](ReadyPair pair) { unmake(std::move(pair)); };
  source.give_back = [this](ReadyPair pair) {
    const std::uint32_t range = pair.first_host_id;
    unmake(std::move(pair));
    ranges_.release(range);
  };
  return source;
}

Result<ReadyPair> LocalEngine::make_ready_pair(NamespacePool::Kind kind) {
  ReadyPair pair;
  pair.first_host_id = TRY_PLAIN(ranges_.allocate());
  auto fill = [&]() -> Status {
    auto made = TRY_PLAIN(runtime_->make_namespaces(ranges_.map_of(pair.first_host_id), true, -1));
    pair.user = std::move(made.user);
    pair.network = std::move(made.network);
    if (kind == NamespacePool::Kind::isolated) return network_->bring_up_loopback(pair.network.get());
    pair.link = TRY_PLAIN(network_->prepare_link(pair.network.get()));
    return {};
  };
  if (auto filled = fill(); !filled.ok()) {
    ranges_.release(pair.first_host_id);
    return std::move(filled).error();
  }
  return pair;
}

void LocalEngine::unmake(ReadyPair pair) {
  if (pair.link) network_->give_back(*pair.link);
}

void LocalEngine::refill_later() {
  if (!pool_.wants_refill()) return;
  // A worker that takes nothing more belongs to an engine that is closing: it wants no pool.
  (void)worker_.post([this] {
    auto filled = pool_.refill();
    if (!filled.ok()) log_error("start", "pool", filled.error());
  });
}

Result<std::uint32_t> LocalEngine::choose_range(const std::string& container_id, const ContainerSpec& spec) {
  if (auto kind = pool_kind(spec))
    if (auto ready = pool_.assign(container_id, *kind)) return *ready;
  auto range = ranges_.allocate();
  if (range.ok()) return range;
  pool_.drain();
  return ranges_.allocate();
}

}  // namespace caisson::engine
