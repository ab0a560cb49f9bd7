// dockerd's networks and the labels of its volumes: what libnetwork and the volume store keep in BoltDB files (libnetwork, network.go
// MarshalJSON; moby, volume/service/db.go; measured with 20.10).
#include <algorithm>
#include <array>
#include <set>

#include "base/strings.hpp"
#include "cli/bolt.hpp"
#include "cli/docker_folder.hpp"
#include "linux/file.hpp"

namespace caisson::cli {

namespace {

constexpr std::size_t most_database_bytes = 256U << 20U;

// Documents that lie in documents as text.
Result<json::value> parse_inner(const JsonView& parent, std::string_view key) {
  std::string text;
  TRY_PLAIN(parent.read(key, text));
  if (text.empty()) return json::value();
  return parse_json(text, parent.path().empty() ? std::string(key) : concat(parent.path(), ".", key));
}

struct Pool {
  std::string subnet;
  std::string gateway;
};
// What dockerd chose: "ipamV4Info" stands beside "ipamV4Config", element by element.
Result<std::vector<Pool>> chosen_pools(const JsonView& network, std::string_view key) {
  std::vector<Pool> pools;
  auto document = TRY_PLAIN(parse_inner(network, key));
  TRY_PLAIN(JsonView(document, std::string(key)).for_each_element([&](const JsonView& entry) -> Status {
    auto data = TRY_PLAIN(parse_inner(entry, "IPAMData"));
    JsonView view(data, "IPAMData");
    Pool pool;
    TRY_PLAIN(view.read("Pool", pool.subnet));
    TRY_PLAIN(view.read("Gateway", pool.gateway));
    pool.gateway = split_once(pool.gateway, '/').before;
    pools.push_back(std::move(pool));
    return {};
  }));
  return pools;
}

// A subnet that dockerd chose is asked for by name from now on: the containers' addresses stay what others know them by.
Status add_subnets(const JsonView& network, std::string_view family, json::array& configs) {
  auto pools = TRY_PLAIN(chosen_pools(network, concat("ipam", family, "Info")));
  const std::string key = concat("ipam", family, "Config");
  auto document = TRY_PLAIN(parse_inner(network, key));
  std::size_t at = 0;
  return JsonView(document, key).for_each_element([&](const JsonView& entry) -> Status {
    const Pool chosen = at < pools.size() ? pools[at] : Pool{};
    ++at;
    Pool asked;
    std::string range;
    std::map<std::string, std::string> reserved;
    TRY_PLAIN(entry.read("PreferredPool", asked.subnet));
    TRY_PLAIN(entry.read("Gateway", asked.gateway));
    TRY_PLAIN(entry.read("SubPool", range));
    TRY_PLAIN(entry.read("AuxAddresses", reserved));
    if (asked.subnet.empty()) asked = chosen;
    json::object config;
    for (auto [name, value] : {std::pair("Subnet", &asked.subnet), std::pair("IPRange", &range), std::pair("Gateway", &asked.gateway)})
      if (!value->empty()) config[name] = *value;
    if (!reserved.empty()) config["AuxiliaryAddresses"] = json::value_from(reserved);
    if (!config.empty()) configs.push_back(std::move(config));
    return {};
  });
}

Result<std::string> refusal_of(const JsonView& network, const std::string& name, const std::string& driver) {
  std::string scope;
  std::map<std::string, bool> flags;
  TRY_PLAIN(network.read("scope", scope));
  for (const char* key : {"ingress", "configOnly", "inDelete"}) TRY_PLAIN(network.read(key, flags[key]));
  if ((!scope.empty() && scope != "local") || flags["ingress"] || name == "docker_gwbridge" || driver == "overlay") return std::string("it belongs to a swarm");
  if (flags["configOnly"]) return std::string("it only holds settings for other networks");
  if (flags["inDelete"]) return std::string("dockerd was removing it");
  return std::string();
}

// The whole file, which no dockerd writes to meanwhile: read_docker_folder holds its lock. "": there is none.
Result<std::string> read_database(const std::string& path) {
  if (!TRY_PLAIN(linux::exists(path))) return std::string();
  return TRY(linux::read_file(path, most_database_bytes), concat("read ", path));
}

}  // namespace

Result<DockerNetwork> parse_docker_network(std::string_view record, const std::string& what) {
  constexpr std::size_t counter_bytes = 8;  // libkv's count of changes
  if (record.size() < counter_bytes) return Error(ErrorKind::corrupt, concat(what, ": the record is cut off"));
  auto document = TRY_PLAIN(parse_json(record.substr(counter_bytes), what));
  JsonView view(document, what);
  DockerNetwork network;
  TRY_PLAIN(view.read("name", network.name));
  TRY_PLAIN(view.read("id", network.id));
  TRY_PLAIN(view.read("networkType", network.driver));
  TRY_PLAIN(view.read("created", network.created));
  if (network.name.empty()) return Error(ErrorKind::corrupt, concat(what, ": a network without a name"));
  network.refusal = TRY_PLAIN(refusal_of(view, network.name, network.driver));
  std::map<std::string, std::string> options;
  std::map<std::string, std::string> labels;
  TRY_PLAIN(TRY_PLAIN(view.at("generic")).read("com.docker.network.generic", options));
  TRY_PLAIN(view.read("labels", labels));
  if (network.driver == "bridge") {
    auto named = options.find("com.docker.network.bridge.name");
    network.bridge = named != options.end() ? named->second : concat("br-", network.id.substr(0, 12));
  }
  json::object ipam;
  std::string ipam_driver;
  std::map<std::string, std::string> ipam_options;
  json::array configs;
  TRY_PLAIN(view.read("ipamType", ipam_driver));
  TRY_PLAIN(view.read("ipamOptions", ipam_options));
  TRY(add_subnets(view, "V4", configs), what);
  TRY(add_subnets(view, "V6", configs), what);
  ipam["Driver"] = ipam_driver;
  ipam["Options"] = json::value_from(ipam_options);
  ipam["Config"] = std::move(configs);
  network.request = {{"Name", network.name}, {"CheckDuplicate", true}, {"Driver", network.driver}, {"IPAM", std::move(ipam)}, {"Options", json::value_from(options)}, {"Labels", json::value_from(labels)}};
  for (auto [ours, theirs] : {std::pair("Internal", "internal"), std::pair("Attachable", "attachable"), std::pair("EnableIPv6", "enableIPv6")}) {
    bool is_set = false;
    TRY_PLAIN(view.read(theirs, is_set));
    network.request[ours] = is_set;
  }
  return network;
}

Result<std::vector<DockerNetwork>> read_docker_networks(const std::string& root) {
  constexpr std::string_view prefix = "docker/network/v1.0/network/";
  std::vector<DockerNetwork> networks;
  const std::string path = concat(root, "/network/files/local-kv.db");
  const std::string bytes = TRY_PLAIN(read_database(path));
  if (bytes.empty()) return networks;
  auto database = TRY_PLAIN(BoltDatabase::open(bytes, path));
  TRY_PLAIN(database.for_each("libnetwork", [&](std::string_view key, std::string_view value) -> Status {
    if (!key.starts_with(prefix) || key.size() == prefix.size()) return {};  // the folder itself, or something else
    auto network = TRY_PLAIN(parse_docker_network(value, concat(path, ": network ", key.substr(prefix.size(), 12))));
    const bool is_builtin = network.name == "bridge" || network.name == "host" || network.name == "none";
    if (!is_builtin) networks.push_back(std::move(network));
    return {};
  }));
  // RFC 3339 without trailing zeros sorts by time but within one second, where any order will do.
  std::sort(networks.begin(), networks.end(), [](const auto& a, const auto& b) { return std::tie(a.created, a.id) < std::tie(b.created, b.id); });
  std::set<std::string> names;
  for (auto& network : networks)
    if (network.refusal.empty() && !names.insert(network.name).second) network.refusal = "another network has the same name";
  return networks;
}

Result<std::map<std::string, std::map<std::string, std::string>>> read_volume_labels(const std::string& root) {
  std::map<std::string, std::map<std::string, std::string>> labels;
  const std::string path = concat(root, "/volumes/metadata.db");
  const std::string bytes = TRY_PLAIN(read_database(path));
  if (bytes.empty()) return labels;
  auto database = TRY_PLAIN(BoltDatabase::open(bytes, path));
  TRY_PLAIN(database.for_each("volumes", [&](std::string_view key, std::string_view value) -> Status {
    auto document = TRY_PLAIN(parse_json(value, concat(path, ": volume ", key)));
    return JsonView(document, concat(path, ": volume ", key)).read("Labels", labels[std::string(key)]);
  }));
  return labels;
}

}  // namespace caisson::cli
