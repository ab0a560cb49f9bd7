// Links of the default bridge (--link): names and environment variables of other containers, as docker makes them, and taking them off again.
#include <algorithm>

#include "base/log.hpp"
#include "base/strings.hpp"
#include "engine/links.hpp"
#include "engine/liveness.hpp"
#include "engine/local_engine.hpp"
#include "engine/spec_builder.hpp"

namespace caisson::engine {
namespace {

struct LinkedPort {
  std::uint16_t number = 0;
  std::string protocol;
};

/// By number, tcp first of the same number (nat.Sort of dockerd 20.10).
std::vector<LinkedPort> ports_of(const ContainerSpec& spec) {
  std::vector<LinkedPort> ports;
  auto add = [&](std::uint16_t number, std::string_view protocol) {
    if (number == 0 || std::any_of(ports.begin(), ports.end(), [&](const auto& other) { return other.number == number && other.protocol == protocol; })) return;
    ports.push_back({number, std::string(protocol)});
  };
  for (const auto& exposed : spec.exposed_ports) {
    const Halves halves = split_once(exposed, '/');
    add(parse_integer<std::uint16_t>(halves.before).value_or(0), halves.found ? halves.after : std::string_view("tcp"));
  }
  for (const auto& binding : spec.ports) add(binding.container_port, network::to_string(binding.protocol));
  std::sort(ports.begin(), ports.end(), [](const auto& a, const auto& b) {
    if (a.number != b.number) return a.number < b.number;
    return a.protocol == "tcp" && b.protocol != "tcp";
  });
  return ports;
}

/// The last of the ports that follow ports[first] without a gap.
std::size_t end_of_run(const std::vector<LinkedPort>& ports, std::size_t first) {
  std::size_t last = first;
  while (last + 1 < ports.size() && ports[last + 1].number <= ports[first].number + (last + 1 - first)) ++last;
  return last;
}

}  // namespace

Link parse_link(std::string_view text) {
  const Halves halves = split_once(text, ':');
  Link link;
  link.target = halves.before;
  link.alias = halves.found ? halves.after : halves.before;
  // "/db:/web/db", as inspect shows it and clients give it back.
  if (link.target.starts_with('/')) {
    link.target.erase(0, 1);
    link.alias = split_last(link.alias, '/').after;
  }
  return link;
}

std::string link_host_name(const Link& link) {
  const Halves path = split_last(link.alias, '/');
  return std::string(path.found ? path.after : std::string_view(link.alias));
}

std::vector<std::string> link_environment(const std::string& owner, const Link& link, const std::string& address, const ContainerSpec& target) {
  std::string prefix = replace_all(link_host_name(link), "-", "_");
  for (char& c : prefix)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  const auto ports = ports_of(target);
  std::vector<std::string> env;
  auto where = [&](const LinkedPort& port) { return concat(port.protocol, "://", address, ":", port.number); };
  if (!ports.empty()) env.push_back(concat(prefix, "_PORT=", where(ports.front())));
  auto stem_of = [&](const LinkedPort& port, std::uint16_t number) {
    std::string protocol = port.protocol;
    for (char& c : protocol) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    return concat(prefix, "_PORT_", number, "_", protocol);
  };
  for (std::size_t i = 0; i < ports.size(); ++i) {
    const std::size_t last = end_of_run(ports, i);
    if (last <= i + 1) continue;  // two are no run
    const std::string stem = stem_of(ports[i], ports[i].number);
    const std::string end_stem = stem_of(ports[last], ports[i].number);
    env.push_back(concat(stem, "_START=", where(ports[i])));
    env.push_back(concat(stem, "_ADDR=", address));
    env.push_back(concat(stem, "_PROTO=", ports[i].protocol));
    env.push_back(concat(stem, "_PORT_START=", ports[i].number));
    env.push_back(concat(end_stem, "_END=", where(ports[last])));
    env.push_back(concat(end_stem, "_PORT_END=", ports[last].number));
    i = last;
  }
  for (const auto& port : ports) {
    const std::string stem = stem_of(port, port.number);
    env.push_back(concat(stem, "=", where(port)));
    env.push_back(concat(stem, "_ADDR=", address));
    env.push_back(concat(stem, "_PORT=", port.number));
    env.push_back(concat(stem, "_PROTO=", port.protocol));
  }
  env.push_back(concat(prefix, "_NAME=/", owner, "/", link.alias));
  for (const auto& setting : target.env) {
    const Halves halves = split_once(setting, '=');
    if (halves.found && halves.before != "HOME" && halves.before != "PATH") env.push_back(concat(prefix, "_ENV_", setting));
  }
  return env;
}

Status LocalEngine::settle_links(ContainerSpec& spec) {
  std::vector<std::string> settled;
  std::vector<std::string> aliases;
  for (const auto& text : spec.links) {
    if (std::count(text.begin(), text.end(), ':') > 1) return Error(ErrorKind::invalid, concat("bad format for links: ", text));
    const Link link = parse_link(text);
    auto found = registry_.find(link.target);
    // The body is wrong, not the path: a client must not take it for a missing image.
    if (!found.ok()) return std::move(found).error().in(concat("could not get container for ", link.target)).with_kind(ErrorKind::invalid);
    if (link.alias.empty()) return Error(ErrorKind::invalid, concat("bad format for links: ", text));
    // dockerd keeps the first of two links with one alias.
    if (std::find(aliases.begin(), aliases.end(), link.alias) != aliases.end()) continue;
    aliases.push_back(link.alias);
    settled.push_back(concat((*found)->id, ":", link.alias));
    has_links_ = true;
  }
  spec.links = std::move(settled);
  return {};
}

/// Those whose container is still there; links are of the default bridge alone.
std::vector<LocalEngine::LiveLink> LocalEngine::links_of(const ContainerSpec& spec) {
  std::vector<LiveLink> links;
  for (const auto& text : spec.links) {
    LiveLink live;
    live.link = parse_link(text);
    auto found = registry_.find(live.link.target);
    if (!found.ok()) continue;
    live.target = (*found)->snapshot();
    links.push_back(std::move(live));
  }
  return links;
}

Status LocalEngine::check_links_run(const ContainerInfo& info) {
  if (info.spec.network.mode != "bridge") return {};
  for (const auto& [link, target] : links_of(info.spec)) {
    if (!is_alive(target->info.state))
      return Error(ErrorKind::conflict, concat("Cannot link to a non running container: /", target->info.name, " AS /", info.name, "/", link.alias));
    if (endpoint_on(target->info.endpoints, "bridge") == nullptr)
      return Error(ErrorKind::invalid, concat("Cannot link to /", target->info.name, ", as it does not belong to the default network"));
  }
  return {};
}

std::vector<HostsLine> LocalEngine::link_lines(const ContainerSpec& spec) {
  std::vector<HostsLine> lines;
  for (const auto& [link, target] : links_of(spec)) {
    const auto* endpoint = endpoint_on(target->info.endpoints, "bridge");
    if (endpoint == nullptr) continue;
    const std::string alias = link_host_name(link);
    HostsLine line{endpoint->ipv4, {alias, target->info.id.substr(0, 12)}};
    if (target->info.name != alias) line.names.push_back(target->info.name);
    lines.push_back(std::move(line));
  }
  return lines;
}

std::vector<std::string> LocalEngine::link_settings(const ContainerInfo& info) {
  std::vector<std::string> env;
  if (info.spec.network.mode != "bridge") return env;
  for (const auto& [link, target] : links_of(info.spec))
    if (const auto* endpoint = endpoint_on(target->info.endpoints, "bridge"))
      env = merge_environment(std::move(env), link_environment(info.name, link, endpoint->ipv4, target->info.spec));
  return env;
}

std::vector<std::string> LocalEngine::shown_links(const ContainerInfo& info) {
  std::vector<std::string> shown;
  if (info.spec.network.mode != "bridge") return info.spec.links;
  for (const auto& [link, target] : links_of(info.spec)) shown.push_back(concat("/", target->info.name, ":/", info.name, "/", link.alias));
  return shown;
}

std::multimap<std::string, std::string> LocalEngine::link_names() {
  std::multimap<std::string, std::string> names;
  if (!has_links_) return names;
  for (const auto& container : registry_.all()) {
    auto record = container->snapshot();
    if (record->info.spec.network.mode != "bridge") continue;
    for (const auto& [link, target] : links_of(record->info.spec)) names.emplace(target->info.id, concat(record->info.name, "/", link.alias));
  }
  return names;
}

Result<LocalEngine::Pointer> LocalEngine::find_container(std::string_view name) {
  auto found = registry_.find(name);
  if (found.ok() || found.error().kind() != ErrorKind::not_found) return found;
  std::string_view path = name;
  if (path.starts_with('/')) path.remove_prefix(1);
  const Halves halves = split_once(path, '/');
  if (!halves.found) return found;
  auto owner = registry_.find(halves.before);
  if (!owner.ok()) return found;
  for (const auto& [link, target] : links_of((*owner)->snapshot()->info.spec))
    if (link.alias == halves.after) return registry_.find(target->info.id);
  return found;
}

/// docker's `rm --link OWNER/ALIAS`. The owner's program keeps the environment it was started with.
Status LocalEngine::remove_link(const std::string& name) {
  TRY_PLAIN(find_container(name));
  std::string_view path = name;
  if (path.starts_with('/')) path.remove_prefix(1);
  const Halves halves = split_once(path, '/');
  if (!halves.found) return Error(ErrorKind::conflict, "Conflict, cannot remove the default link name of the container");
  auto owner = TRY_PLAIN(registry_.find(halves.before));
  std::lock_guard lock(owner->operation);
  if (owner->removed) return Error(ErrorKind::not_found, concat("No such container: ", name));
  TRY(owner->change([&](Record& record) {
    std::erase_if(record.info.spec.links, [&](const std::string& text) { return parse_link(text).alias == halves.after; });
  }), concat("remove link ", name));
  return refresh_hosts(*owner);
}

Status LocalEngine::refresh_hosts(const Container& container) {
  ContainerInfo info = container.snapshot()->info;
  if (!is_alive(info.state)) return {};
  fill_derived(info);
  return write_network_files(info);
}

void LocalEngine::tell_linking(const std::string& id) {
  if (!has_links_) return;
  for (const auto& container : registry_.all()) {
    auto record = container->snapshot();
    if (!is_alive(record->info.state) || record->info.spec.network.mode != "bridge") continue;
    const auto links = links_of(record->info.spec);
    if (std::none_of(links.begin(), links.end(), [&](const auto& live) { return live.target->info.id == id; })) continue;
    // In the background: whoever links may be busy with a verb of its own.
    (void)worker_.post([this, container] {
      std::lock_guard lock(container->operation);
      if (container->removed) return;
      if (Status written = refresh_hosts(*container); !written.ok()) log_error("links", concat("container ", container->id), written.error());
    });
  }
}

}  // namespace caisson::engine
