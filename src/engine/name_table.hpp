// NameTable: what containers are called on their user-defined networks, for the embedded DNS server.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/types.hpp"
#include "network/dns_server.hpp"

namespace caisson::engine {

/// Thread-safe. Names are compared in lower case. A query costs a few look-ups, however many containers there are.
class NameTable final : public network::NameSource {
 public:
  /// What `container_id` is called from now on; the default bridge, where docker has no names, is left out. `endpoints` are those of
  /// `spec.network.endpoints` that are up.
  void put(const std::string& container_id, const std::string& name, const NetworkSpec& spec, const std::vector<network::Endpoint>& endpoints);
  void erase(const std::string& container_id);

  network::NameAddresses addresses_of(const std::string& container_id, std::string_view name) override;
  std::string name_of(const std::string& container_id, const network::IpAddress& address) override;

 private:
  /// One container on one network.
  struct Member {
    std::string network_id;
    std::string network_name;
    std::string container_name;
    std::vector<std::string> names;            ///< lower case
    std::map<std::string, std::string, std::less<>> links;  ///< lower case: a name that this container alone knows → another's
    network::NameAddresses addresses;
  };
  struct Names {
    std::multimap<std::string, std::string, std::less<>> containers;  ///< name → container id
    std::map<network::IpAddress, std::string> by_address;             ///< → container name
  };

  // mutex_ is held.
  void remove(const std::string& container_id);
  void collect(const Member& asker, std::string_view name, network::NameAddresses& found) const;

  std::mutex mutex_;
  std::map<std::string, std::vector<Member>> members_;  ///< by container id
  std::map<std::string, Names> networks_;               ///< by network id
};

/// Whether the embedded DNS server serves a container that has these endpoints: docker's rule, on any network but the default bridge.
bool has_embedded_dns(const std::vector<network::Endpoint>& endpoints);

}  // namespace caisson::engine
