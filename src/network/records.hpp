// Networks and endpoints as JSON in the store, and their keys.
#pragma once

#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"
#include "network/network.hpp"

namespace caisson::network {

/// network/definition/NAME, network/endpoint/CONTAINER/NETWORK and network/address/NETWORK/ADDRESS (the lease: it names the
/// container, and is written in the same transaction as the endpoint). Builds that knew one endpoint per container wrote
/// network/endpoint/CONTAINER, which is read as well.
inline constexpr std::string_view definition_prefix = "network/definition/";
inline constexpr std::string_view endpoint_prefix = "network/endpoint/";
inline constexpr std::string_view address_prefix = "network/address/";
std::string definition_key(std::string_view name);
std::string endpoint_key(std::string_view container_id, std::string_view network_id);
std::string address_key(std::string_view network_id, std::string_view address);

/// An endpoint with what only this module needs to know.
struct EndpointRecord {
  Endpoint endpoint;
  std::string host_interface;  ///< "veth3f2a91c"; empty for macvlan
  std::int64_t gateway_priority = 0;
  std::int64_t sequence = 0;   ///< in which order a container was connected
  std::string key;             ///< in the store; not stored itself
};

std::string lease_text(std::string_view container_id);
/// The container that lease_text() named. Errors: invalid, naming `key`.
Result<std::string> container_of_lease(std::string_view text, std::string_view key);
std::string to_text(const Network& network);
std::string to_text(const EndpointRecord& record);
/// Errors: corrupt, naming `key` and the field.
Result<Network> network_from_text(std::string_view text, std::string_view key);
Result<EndpointRecord> endpoint_from_text(std::string_view text, std::string_view key);

}  // namespace caisson::network
