// A docker container's own files as the body of "create": what dockerd filled in at run time becomes what a user would have asked for.
#include <algorithm>
#include <array>
#include <set>

#include "base/strings.hpp"
#include "cli/docker_folder.hpp"

namespace caisson::cli {

namespace {

constexpr std::size_t short_id_digits = 12;

// "/target" of "source:/target:options".
std::string bind_target(std::string_view bind) {
  auto parts = split(bind, ':');
  return std::string(parts.size() > 1 ? parts[1] : parts[0]);
}

json::array& array_at(json::object& object, std::string_view key) {
  auto& value = object[key];
  return value.is_array() ? value.get_array() : value.emplace_array();
}

// An anonymous volume has a name by now, which must come along, or its data is lost.
Status name_volumes(const DockerContainer& container, json::object& config, json::object& host) {
  std::set<std::string> bound;
  for (const auto& bind : array_at(host, "Binds"))
    if (bind.is_string()) bound.insert(bind_target(std::string_view(bind.get_string())));
  std::map<std::string, json::object*> mounts;
  for (auto& mount : array_at(host, "Mounts"))
    if (auto* object = mount.if_object()) {
      const auto* target = object->if_contains("Target");
      if (target != nullptr && target->is_string()) mounts[std::string(target->get_string())] = object;
    }
  host.erase("VolumesFrom");  // its volumes are among the mount points
  JsonView points(container.mount_points, "MountPoints");
  return points.for_each_member([&](std::string_view target, const JsonView& point) -> Status {
    std::string type;
    std::string name;
    bool is_writable = true;
    TRY_PLAIN(point.read("Type", type));
    TRY_PLAIN(point.read("Name", name));
    TRY_PLAIN(point.read("RW", is_writable));
    if (type != "volume" || name.empty()) return {};
    std::string key(target);
    if (auto mount = mounts.find(key); mount != mounts.end()) {
      (*mount->second)["Source"] = name;
      return {};
    }
    if (bound.contains(key)) return {};
    array_at(host, "Binds").emplace_back(concat(name, ":", target, is_writable ? "" : ":ro"));
    if (auto* volumes = config["Volumes"].if_object()) volumes->erase(target);
    return {};
  });
}

using Names = std::map<std::string, std::string>;
constexpr std::string_view container_prefix = "container:";
constexpr std::array<std::string_view, 3> shared_modes = {"NetworkMode", "IpcMode", "PidMode"};

std::string renamed(const std::string& id, const Names& names) {
  auto found = names.find(id);
  return found == names.end() ? id : found->second;
}

// A user may have named a partner or a network by its id, which is another here.
std::string renamed_mode(const std::string& mode, const Names& names) {
  return mode.starts_with(container_prefix) ? concat(container_prefix, renamed(mode.substr(container_prefix.size()), names)) : renamed(mode, names);
}

std::string text_at(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : "";
}

bool has_network(const JsonView& networks, std::string_view name) {
  auto found = networks.at(name);
  return found.ok() && found->is_set();
}

// One that was taken off the network it was made in must not come back into it: then another one of its own leads.
Status settle_mode(const DockerContainer& container, json::object& host) {
  JsonView networks(container.networks, "Networks");
  std::string mode = text_at(host, "NetworkMode");
  if (mode == "default" || mode.empty()) mode = "bridge";
  if (mode == "host" || mode == "none" || mode.starts_with(container_prefix) || !networks.is_set() || has_network(networks, mode)) return {};
  std::string first;
  TRY_PLAIN(networks.for_each_member([&](std::string_view name, const JsonView&) -> Status {
    if (first.empty()) first = name;
    return {};
  }));
  if (!first.empty()) host["NetworkMode"] = first;
  return {};
}

// What the user asked of each network; addresses that dockerd chose are chosen anew.
Result<json::object> endpoints_of(const DockerContainer& container) {
  json::object endpoints;
  JsonView networks(container.networks, "Networks");
  TRY_PLAIN(networks.for_each_member([&](std::string_view name, const JsonView& endpoint) -> Status {
    if (name == "bridge" || name == "host" || name == "none") return {};
    json::object kept;
    for (std::string_view key : {"IPAMConfig", "Links", "DriverOpts"})
      if (JsonView value = TRY_PLAIN(endpoint.at(key)); value.is_set()) kept[key] = value.raw();
    std::vector<std::string> aliases;
    TRY_PLAIN(endpoint.read("Aliases", aliases));
    std::erase(aliases, container.id.substr(0, short_id_digits));  // dockerd adds it by itself
    if (!aliases.empty()) kept["Aliases"] = json::value_from(aliases);
    endpoints[name] = std::move(kept);
    return {};
  }));
  return endpoints;
}

}  // namespace

Result<json::object> create_body_of(const DockerContainer& container, const std::map<std::string, std::string>& names, const std::string& image) {
  json::object body = container.config;
  json::object host = container.host_config;
  body["Image"] = image;
  const auto* hostname = body.if_contains("Hostname");
  if (hostname != nullptr && hostname->is_string() && hostname->get_string() == container.id.substr(0, short_id_digits)) body.erase("Hostname");
  TRY_PLAIN(name_volumes(container, body, host));
  host.erase("ContainerIDFile");
  host.erase("ConsoleSize");
  // dockerd's names of its own runtimes; the engine has another.
  const auto* runtime = host.if_contains("Runtime");
  if (runtime != nullptr && runtime->is_string() && (runtime->get_string() == "runc" || runtime->get_string() == "io.containerd.runc.v2")) host.erase("Runtime");
  for (std::string_view key : shared_modes)
    if (auto mode = text_at(host, key); !mode.empty()) host[key] = renamed_mode(mode, names);
  TRY_PLAIN(settle_mode(container, host));
  json::object endpoints = TRY_PLAIN(endpoints_of(container));
  body["HostConfig"] = std::move(host);
  if (!endpoints.empty()) body["NetworkingConfig"] = json::object{{"EndpointsConfig", std::move(endpoints)}};
  return body;
}

std::vector<std::string> partners_of(const DockerContainer& container, const std::map<std::string, std::string>& names) {
  std::vector<std::string> partners;
  auto add = [&](std::string_view name) { partners.push_back(renamed(std::string(name.starts_with('/') ? name.substr(1) : name), names)); };
  for (std::string_view key : shared_modes)
    if (auto mode = text_at(container.host_config, key); mode.starts_with(container_prefix)) add(std::string_view(mode).substr(container_prefix.size()));
  const auto* links = container.host_config.if_contains("Links");
  if (links == nullptr || !links->is_array()) return partners;
  for (const auto& link : links->get_array())
    if (link.is_string()) add(split_once(std::string_view(link.get_string()), ':').before);
  return partners;
}

}  // namespace caisson::cli
