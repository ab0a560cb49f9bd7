// The create body: the container's own configuration, and how the parts come together.
#include "api/create_body.hpp"

#include <algorithm>

#include "api/host_config.hpp"
#include "base/strings.hpp"
#include "linux/rtnetlink.hpp"

namespace caisson::api {

namespace {

/// Go's strslice: a list of strings, or one string.
Status read_words(const JsonView& view, std::optional<std::vector<std::string>>& out) {
  if (!view.is_set()) return {};
  if (const auto* word = view.raw().if_string()) {
    out = std::vector<std::string>{std::string(*word)};
    return {};
  }
  return view.read(out);
}

/// {"80/tcp": {}} → its keys. The values say nothing.
Status read_set(const JsonView& view, std::vector<std::string>& out) {
  return view.for_each_member([&](std::string_view key, const JsonView& /*empty object*/) -> Status {
    out.emplace_back(key);
    return {};
  });
}

Status read_healthcheck(const JsonView& view, std::optional<image::Healthcheck>& out) {
  if (!view.is_set()) return {};
  image::Healthcheck check;
  TRY_PLAIN(view.read("Test", check.test));
  TRY_PLAIN(view.read("Interval", check.interval_ns));
  TRY_PLAIN(view.read("Timeout", check.timeout_ns));
  TRY_PLAIN(view.read("StartPeriod", check.start_period_ns));
  TRY_PLAIN(view.read("StartInterval", check.start_interval_ns));
  TRY_PLAIN(view.read("Retries", check.retries));
  for (auto [name, value] : {std::pair{"Interval", check.interval_ns}, {"Timeout", check.timeout_ns}, {"StartPeriod", check.start_period_ns}, {"StartInterval", check.start_interval_ns}})
    if (value != 0 && value < 1'000'000) return Error(ErrorKind::invalid, concat(name, " in Healthcheck cannot be less than 1ms"));
  if (check.retries < 0) return Error(ErrorKind::invalid, "Retries in Healthcheck cannot be negative");
  // All empty: the image's own check holds.
  const bool says_something = !check.test.empty() || check.interval_ns != 0 || check.timeout_ns != 0 || check.start_period_ns != 0 ||
                              check.start_interval_ns != 0 || check.retries != 0;
  if (says_something) out = check;
  return {};
}

Status read_config(const JsonView& body, engine::ContainerSpec& spec) {
  TRY_PLAIN(body.read("Image", spec.image));
  TRY_PLAIN(body.read("Hostname", spec.hostname));
  TRY_PLAIN(body.read("Domainname", spec.domainname));
  TRY_PLAIN(body.read("User", spec.user));
  TRY_PLAIN(body.read("AttachStdin", spec.attach_stdin));
  TRY_PLAIN(body.read("AttachStdout", spec.attach_stdout));
  TRY_PLAIN(body.read("AttachStderr", spec.attach_stderr));
  TRY_PLAIN(body.read("Tty", spec.tty));
  TRY_PLAIN(body.read("OpenStdin", spec.open_stdin));
  TRY_PLAIN(body.read("StdinOnce", spec.stdin_once));
  TRY_PLAIN(body.read("Env", spec.env));
  TRY_PLAIN(read_words(TRY_PLAIN(body.at("Cmd")), spec.cmd));
  TRY_PLAIN(read_words(TRY_PLAIN(body.at("Entrypoint")), spec.entrypoint));
  TRY_PLAIN(body.read("WorkingDir", spec.working_dir));
  TRY_PLAIN(body.read("Labels", spec.labels));
  TRY_PLAIN(body.read("StopSignal", spec.stop_signal));
  TRY_PLAIN(body.read("StopTimeout", spec.stop_timeout_s));
  TRY_PLAIN(read_healthcheck(TRY_PLAIN(body.at("Healthcheck")), spec.healthcheck));
  TRY_PLAIN(body.read("Shell", spec.shell));
  TRY_PLAIN(read_set(TRY_PLAIN(body.at("ExposedPorts")), spec.exposed_ports));
  for (const auto& port : spec.exposed_ports) TRY(parse_port_key(split_once(port, '-').before), concat("ExposedPorts: ", port));
  return {};
}

/// `Volumes: {"/v": {}}`: anonymous volumes. A target that Binds or Mounts name already is theirs (compose sends both).
Status read_anonymous_volumes(const JsonView& body, engine::ContainerSpec& spec) {
  std::vector<std::string> targets;
  TRY_PLAIN(read_set(TRY_PLAIN(body.at("Volumes")), targets));
  for (auto& target : targets) {
    const bool taken = std::any_of(spec.mounts.begin(), spec.mounts.end(), [&](const auto& mount) { return mount.target == target; });
    if (taken) continue;
    engine::MountSpec mount;
    // "/host:/target" once meant a bind here; clients of today never send it.
    if (target.find(':') != std::string::npos) return body.error(concat("Volumes: \"", target, "\" is not a path in the container"));
    mount.type = engine::MountType::volume;
    mount.target = std::move(target);
    mount.origin = "volumes";
    spec.mounts.push_back(std::move(mount));
  }
  return {};
}

/// The endpoints of the networks it shall join; "default" means bridge. The mode's own stands first, the others follow as they come.
Status read_networking(const JsonView& body, engine::ContainerSpec& spec) {
  std::string mac;
  TRY_PLAIN(body.read("MacAddress", mac));
  JsonView config = TRY_PLAIN(body.at("NetworkingConfig"));
  JsonView endpoints = TRY_PLAIN(config.at("EndpointsConfig"));
  TRY_PLAIN(endpoints.for_each_member([&](std::string_view key, const JsonView& endpoint) -> Status {
    spec.network.endpoints.push_back(TRY_PLAIN(read_endpoint(endpoint, key == "default" ? "bridge" : std::string(key))));
    return {};
  }));
  if (mac.empty()) return {};
  // Before 1.44 the MAC was the container's; it is that of the network of the mode.
  auto& all = spec.network.endpoints;
  auto own = std::find_if(all.begin(), all.end(), [&](const auto& endpoint) { return endpoint.network == spec.network.mode; });
  if (own == all.end()) own = all.insert(all.begin(), engine::EndpointSpec{.network = spec.network.mode});
  if (own->mac.empty()) own->mac = mac;
  return {};
}

}  // namespace

Result<std::optional<image::ContainerConfig>> read_commit_body(const json::value& document) {
  JsonView body(document);
  if (!body.is_set()) return std::optional<image::ContainerConfig>();
  engine::ContainerSpec spec;
  TRY_PLAIN(read_config(body, spec));
  image::ContainerConfig config;
  config.user = spec.user;
  config.exposed_ports = spec.exposed_ports;
  config.env = spec.env;
  config.entrypoint = spec.entrypoint.value_or(std::vector<std::string>{});
  config.cmd = spec.cmd.value_or(std::vector<std::string>{});
  TRY_PLAIN(read_set(TRY_PLAIN(body.at("Volumes")), config.volumes));
  config.working_dir = spec.working_dir;
  config.labels = spec.labels;
  config.stop_signal = spec.stop_signal;
  TRY_PLAIN(body.read("Shell", config.shell));
  config.healthcheck = spec.healthcheck;
  return std::optional<image::ContainerConfig>(std::move(config));
}

Result<engine::EndpointSpec> read_endpoint(const JsonView& endpoint, std::string network) {
  engine::EndpointSpec spec;
  spec.network = std::move(network);
  JsonView ipam = TRY_PLAIN(endpoint.at("IPAMConfig"));
  TRY_PLAIN(ipam.read("IPv4Address", spec.ipv4));
  TRY_PLAIN(ipam.read("IPv6Address", spec.ipv6));
  TRY_PLAIN(ipam.read("LinkLocalIPs", spec.link_local));
  if (!spec.ipv4.empty()) TRY(linux::parse_ipv4(spec.ipv4), concat(ipam.path(), ".IPv4Address"));
  if (!spec.ipv6.empty()) TRY(linux::parse_ipv6(spec.ipv6), concat(ipam.path(), ".IPv6Address"));
  TRY_PLAIN(endpoint.read("Links", spec.links));
  TRY_PLAIN(endpoint.read("Aliases", spec.aliases));
  TRY_PLAIN(endpoint.read("MacAddress", spec.mac));
  if (!spec.mac.empty()) TRY(linux::parse_mac(spec.mac), concat(endpoint.path(), ".MacAddress"));
  TRY_PLAIN(endpoint.read("DriverOpts", spec.driver_options));
  TRY_PLAIN(endpoint.read("GwPriority", spec.gateway_priority));
  return spec;
}

Result<PortKey> parse_port_key(std::string_view text) {
  auto halves = split_once(text, '/');
  auto port = parse_integer<std::uint16_t>(halves.before);
  if (!port.ok() || *port == 0) return Error(ErrorKind::invalid, concat("invalid port specification: \"", text, "\""));
  const std::string protocol = halves.found ? lower(halves.after) : "tcp";
  auto known = network::parse_protocol(protocol);
  if (!known.ok()) return Error(ErrorKind::invalid, concat("invalid proto: ", protocol));
  return PortKey{*port, *known};
}

Result<std::string> parse_detach_keys(std::string_view text) {
  std::string keys;
  if (text.empty()) return keys;
  for (auto word : split(text, ',')) {
    const auto refuse = [&] { return Error(ErrorKind::invalid, concat("Invalid escape keys (", text, ") provided: unknown character: '", word, "'")); };
    if (word.size() == 1) {
      keys += word;
      continue;
    }
    if (word.size() != 6 || !word.starts_with("ctrl-")) return refuse();
    const char key = word[5];
    // ctrl-@ is 0, ctrl-a 1 … ctrl-z 26, then [ \ ] ^ _ (ASCII's control column).
    if (key >= 'a' && key <= 'z')
      keys += static_cast<char>(key - 'a' + 1);
    else if (key == '@')
      keys += '\0';
    else if (key >= '[' && key <= '_')
      keys += static_cast<char>(key - '@');
    else
      return refuse();
  }
  return keys;
}

Result<engine::ContainerSpec> read_create_body(const json::value& document) {
  JsonView body(document);
  engine::ContainerSpec spec;
  if (!document.is_object()) return Error(ErrorKind::invalid, "request body: want an object");
  TRY_PLAIN(read_config(body, spec));
  JsonView host = TRY_PLAIN(body.at("HostConfig"));
  TRY_PLAIN(read_host_config(host, spec));
  TRY_PLAIN(read_anonymous_volumes(body, spec));
  bool network_disabled = false;
  TRY_PLAIN(body.read("NetworkDisabled", network_disabled));
  if (network_disabled) spec.network.mode = "none";
  TRY_PLAIN(read_networking(body, spec));
  // What inspect gives back as it came: Docker shows the request's own HostConfig.
  if (host.is_set()) spec.client_data = to_text(host.raw());
  return spec;
}

Result<engine::UpdateSpec> read_update_body(const json::value& document) {
  JsonView body(document);
  if (!document.is_object()) return Error(ErrorKind::invalid, "request body: want an object");
  engine::UpdateSpec update;
  TRY_PLAIN(read_resources(body, update.resources));
  // Zero means unchanged here; at create it means none.
  if (update.resources.pids_limit && *update.resources.pids_limit == 0) update.resources.pids_limit.reset();
  engine::RestartPolicy policy;
  const bool has_policy = TRY_PLAIN(read_restart_policy(TRY_PLAIN(body.at("RestartPolicy")), policy));
  if (has_policy) update.restart = policy;
  return update;
}

}  // namespace caisson::api
