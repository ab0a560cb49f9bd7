// What /containers/json and /containers/{id}/json show.
#include <algorithm>

#include "api/create_body.hpp"
#include "api/json_out.hpp"
#include "base/strings.hpp"
#include "engine/spec_builder.hpp"

namespace caisson::api {

namespace {

/// Every field of Docker's HostConfig with the value it has when nobody asked for anything, in Docker's order.
const json::object& default_host_config() {
  static const json::value defaults = json::parse(R"({
    "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "json-file", "Config": {}}, "NetworkMode": "bridge", "PortBindings": {},
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": false, "VolumeDriver": "", "VolumesFrom": null,
    "ConsoleSize": [0, 0], "CapAdd": null, "CapDrop": null, "CgroupnsMode": "private", "Dns": [], "DnsOptions": [], "DnsSearch": [],
    "ExtraHosts": null, "GroupAdd": null, "IpcMode": "private", "Cgroup": "", "Links": null, "OomScoreAdj": 0, "PidMode": "",
    "Privileged": false, "PublishAllPorts": false, "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "",
    "ShmSize": 67108864, "Runtime": "caisson", "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "",
    "BlkioWeight": 0, "BlkioWeightDevice": [], "BlkioDeviceReadBps": [], "BlkioDeviceWriteBps": [], "BlkioDeviceReadIOps": [],
    "BlkioDeviceWriteIOps": [], "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": "",
    "CpusetMems": "", "Devices": [], "DeviceCgroupRules": null, "DeviceRequests": null, "MemoryReservation": 0, "MemorySwap": 0,
    "MemorySwappiness": null, "OomKillDisable": null, "PidsLimit": null, "Ulimits": [], "CpuCount": 0, "CpuPercent": 0,
    "IOMaximumIOps": 0, "IOMaximumBandwidth": 0, "MaskedPaths": [], "ReadonlyPaths": []})");
  return defaults.get_object();
}

/// Shown only when the request named them.
constexpr std::string_view optional_host_fields[] = {"Annotations", "Init", "Mounts", "StorageOpt", "Sysctls", "Tmpfs"};

std::string_view restart_name(engine::RestartCondition condition) {
  switch (condition) {
    case engine::RestartCondition::no: return "no";
    case engine::RestartCondition::always: return "always";
    case engine::RestartCondition::on_failure: return "on-failure";
    case engine::RestartCondition::unless_stopped: return "unless-stopped";
  }
  return "no";
}

template <typename T>
json::value number_or_null(const std::optional<T>& value) {
  if (!value) return nullptr;
  return *value;
}

/// What can change after create, or has a default of ours, comes from the engine and not from the request.
void put_live_fields(json::object& out, const engine::ContainerSpec& spec) {
  const auto& limits = spec.resources;
  out["NetworkMode"] = spec.network.mode;
  out["RestartPolicy"] = json::object{{"Name", restart_name(spec.restart.condition)}, {"MaximumRetryCount", spec.restart.maximum_retry_count}};
  out["AutoRemove"] = spec.auto_remove;
  out["Privileged"] = spec.privileged;
  out["ReadonlyRootfs"] = spec.read_only_rootfs;
  out["PublishAllPorts"] = spec.publish_all_ports;
  out["CpuShares"] = limits.cpu_shares;
  out["Memory"] = limits.memory_bytes;
  out["NanoCpus"] = limits.nano_cpus;
  out["BlkioWeight"] = limits.blkio_weight;
  out["CpuPeriod"] = limits.cpu_period_us;
  out["CpuQuota"] = limits.cpu_quota_us;
  out["CpuRealtimePeriod"] = limits.cpu_realtime_period_us;
  out["CpuRealtimeRuntime"] = limits.cpu_realtime_runtime_us;
  out["CpusetCpus"] = limits.cpuset_cpus;
  out["CpusetMems"] = limits.cpuset_mems;
  out["MemoryReservation"] = limits.memory_reservation_bytes;
  out["MemorySwap"] = limits.memory_swap_bytes;
  out["MemorySwappiness"] = number_or_null(limits.memory_swappiness);
  out["OomKillDisable"] = number_or_null(limits.oom_kill_disable);
  out["PidsLimit"] = number_or_null(limits.pids_limit);
  if (spec.shm_size_bytes > 0) out["ShmSize"] = spec.shm_size_bytes;
  if (!spec.runtime_name.empty()) out["Runtime"] = spec.runtime_name;
  if (!spec.pid_mode.empty()) out["PidMode"] = spec.pid_mode;
  if (!spec.ipc_mode.empty()) out["IpcMode"] = spec.ipc_mode;
  if (!spec.cgroupns_mode.empty()) out["CgroupnsMode"] = spec.cgroupns_mode;
  out["LogConfig"] = json::object{{"Type", spec.log_driver.empty() ? "json-file" : spec.log_driver}, {"Config", text_map(spec.log_options)}};
  out["MaskedPaths"] = texts(engine::masked_paths_of(spec));
  out["ReadonlyPaths"] = texts(engine::readonly_paths_of(spec));
}

json::object host_config_json(const engine::ContainerInfo& info) {
  const auto& spec = info.spec;
  json::object out = default_host_config();
  // The record is ours, so it parses; a damaged one still shows everything the engine knows.
  auto asked = parse_json(spec.client_data.empty() ? "{}" : spec.client_data, "client data");
  if (asked.ok() && asked->is_object()) {
    for (const auto& member : asked->get_object()) {
      const bool known = out.contains(member.key()) || std::find(std::begin(optional_host_fields), std::end(optional_host_fields),
                                                                 std::string_view(member.key())) != std::end(optional_host_fields);
      if (known && !member.value().is_null()) out[member.key()] = member.value();
    }
  }
  put_live_fields(out, spec);
  out["Links"] = texts_or_null(info.links);
  return out;
}

json::object config_json(const engine::ContainerInfo& info) {
  const auto& spec = info.spec;
  json::object out{{"Hostname", spec.hostname.empty() ? info.id.substr(0, 12) : spec.hostname},
                   {"Domainname", spec.domainname},
                   {"User", spec.user},
                   {"AttachStdin", spec.attach_stdin},
                   {"AttachStdout", spec.attach_stdout},
                   {"AttachStderr", spec.attach_stderr}};
  if (!spec.exposed_ports.empty()) out["ExposedPorts"] = text_set(spec.exposed_ports);
  out["Tty"] = spec.tty;
  out["OpenStdin"] = spec.open_stdin;
  out["StdinOnce"] = spec.stdin_once;
  out["Env"] = texts(spec.env);
  out["Cmd"] = spec.cmd && !spec.cmd->empty() ? json::value(texts(*spec.cmd)) : json::value(nullptr);
  if (spec.healthcheck) out["Healthcheck"] = healthcheck_json(spec.healthcheck);
  out["Image"] = spec.image;
  json::object volumes;
  for (const auto& mount : spec.mounts)
    if (mount.type == engine::MountType::volume && mount.origin == "volumes") volumes[mount.target] = json::object();
  out["Volumes"] = volumes.empty() ? json::value(nullptr) : json::value(std::move(volumes));
  out["WorkingDir"] = spec.working_dir;
  out["Entrypoint"] = spec.entrypoint && !spec.entrypoint->empty() ? json::value(texts(*spec.entrypoint)) : json::value(nullptr);
  out["OnBuild"] = nullptr;
  out["Labels"] = text_map(spec.labels);
  if (!spec.shell.empty()) out["Shell"] = texts(spec.shell);
  if (!spec.stop_signal.empty()) out["StopSignal"] = spec.stop_signal;
  if (spec.stop_timeout_s) out["StopTimeout"] = *spec.stop_timeout_s;
  return out;
}

std::string_view status_word(engine::State state) {
  return state == engine::State::creating ? "created" : engine::to_string(state);  // Docker has no word for the time before
}

json::object health_json(const engine::Health& health) {
  json::array log;
  for (const auto& probe : health.log)
    log.push_back(json::object{{"Start", to_rfc3339(probe.start)}, {"End", to_rfc3339(probe.end)}, {"ExitCode", probe.exit_code}, {"Output", probe.output}});
  return json::object{{"Status", engine::to_string(health.status)}, {"FailingStreak", health.failing_streak}, {"Log", std::move(log)}};
}

json::object state_json(const engine::ContainerInfo& info) {
  const bool running = info.state == engine::State::running || info.state == engine::State::paused || info.state == engine::State::restarting;
  json::object out{{"Status", status_word(info.state)},
                   {"Running", running},
                   {"Paused", info.state == engine::State::paused},
                   {"Restarting", info.state == engine::State::restarting},
                   {"OOMKilled", info.oom_killed},
                   {"Dead", info.state == engine::State::dead},
                   {"Pid", info.pid},
                   {"ExitCode", info.exit_code},
                   {"Error", info.error},
                   {"StartedAt", to_rfc3339(info.started_at)},
                   {"FinishedAt", to_rfc3339(info.finished_at)}};
  if (info.health) out["Health"] = health_json(*info.health);
  return out;
}

/// One endpoint publishes a container's ports.
bool publishes_on_ipv6(const std::vector<network::Endpoint>& endpoints) {
  return std::any_of(endpoints.begin(), endpoints.end(), [](const auto& endpoint) { return !endpoint.ports.empty() && !endpoint.ipv6.empty(); });
}

/// Exposed ports that are not published are null; a published one names each address that really listens, so "::" stands beside "0.0.0.0"
/// for endpoints that have IPv6 alone. (Of the others [::1] answers too, which docker has no words for.)
json::object ports_json(const engine::ContainerInfo& info) {
  json::object out;
  if (info.state != engine::State::running && info.state != engine::State::paused) return out;
  for (const auto& port : info.spec.exposed_ports) out[port.find('/') == std::string::npos ? port + "/tcp" : port] = nullptr;
  const bool has_ipv6 = publishes_on_ipv6(info.endpoints);
  for (const auto& binding : info.ports) {
    auto& list = out[port_key(binding)];
    if (!list.is_array()) list = json::array();
    list.get_array().push_back(
        json::object{{"HostIp", binding.host_ip.empty() ? "0.0.0.0" : binding.host_ip}, {"HostPort", concat(binding.host_port)}});
    if (binding.host_ip.empty() && has_ipv6) list.get_array().push_back(json::object{{"HostIp", "::"}, {"HostPort", concat(binding.host_port)}});
  }
  return out;
}

/// By name. What shares a namespace has none of its own; "none" and "host" are networks of that name with nothing in them.
json::object networks_json(const engine::NetworkSpec& spec, const std::vector<network::Endpoint>& endpoints, const std::string& container_id) {
  json::object networks;
  if (spec.mode.starts_with("container:")) return networks;
  if (spec.mode == "none" || spec.mode == "host") networks[spec.mode] = endpoint_json(engine::EndpointSpec{.network = spec.mode}, nullptr, "");
  for (const auto& wanted : spec.endpoints)
    networks[wanted.network] = endpoint_json(wanted, engine::endpoint_on(endpoints, wanted.network), container_id);
  return networks;
}

json::object network_settings_json(const engine::ContainerInfo& info) {
  // The fields of old are those of the default bridge, and empty for containers that are not on it.
  json::object out = endpoint_json(engine::EndpointSpec{.network = "bridge"}, engine::endpoint_on(info.endpoints, "bridge"), "");
  for (auto key : {"IPAMConfig", "Links", "Aliases", "DriverOpts", "NetworkID", "DNSNames", "GwPriority"}) out.erase(key);
  json::object settings{{"Bridge", ""},           {"SandboxID", info.pid != 0 ? info.id : ""}, {"SandboxKey", info.pid != 0 ? concat("/proc/", info.pid, "/ns/net") : ""},
                        {"Ports", ports_json(info)}, {"HairpinMode", false},    {"LinkLocalIPv6Address", ""},
                        {"LinkLocalIPv6PrefixLen", 0}, {"SecondaryIPAddresses", nullptr}, {"SecondaryIPv6Addresses", nullptr}};
  for (auto& member : out) settings[member.key()] = std::move(member.value());
  settings["Networks"] = networks_json(info.spec.network, info.endpoints, info.id);
  return settings;
}

std::string command_line(const std::vector<std::string>& args) {
  std::string line;
  for (const auto& arg : args) {
    if (!line.empty()) line += ' ';
    line += arg.find(' ') == std::string::npos ? arg : concat("'", arg, "'");
  }
  return line;
}

json::array mounts_json(const std::vector<engine::MountPoint>& mounts) {
  json::array out;
  for (const auto& mount : mounts)
    // Docker lists tmpfs mounts only when they came from --mount; its clients cope with both, so all are shown.
    out.push_back(mount_point_json(mount));
  return out;
}

}  // namespace

json::object container_json(const engine::ContainerInfo& info) {
  std::vector<std::string> rest(info.args.begin() + (info.args.empty() ? 0 : 1), info.args.end());
  json::object out{{"Id", info.id},
                   {"Created", to_rfc3339(info.created)},
                   {"Path", info.args.empty() ? "" : info.args.front()},
                   {"Args", texts(rest)},
                   {"State", state_json(info)},
                   {"Image", info.image_id},
                   {"ResolvConfPath", info.resolv_conf_path},
                   {"HostnamePath", info.hostname_path},
                   {"HostsPath", info.hosts_path},
                   {"LogPath", info.log_path},
                   {"Name", slashed(info.name)},
                   {"RestartCount", info.restart_count},
                   {"Driver", "overlay2"},
                   {"Platform", "linux"},
                   {"MountLabel", ""},
                   {"ProcessLabel", ""},
                   {"AppArmorProfile", info.spec.apparmor_profile},
                   {"ExecIDs", texts_or_null(info.exec_ids)},
                   {"HostConfig", host_config_json(info)}};
  out["GraphDriver"] = json::object{{"Data", json::object{{"LowerDir", info.lower_dirs},
                                                          {"MergedDir", info.pid != 0 ? concat("/proc/", info.pid, "/root") : ""},
                                                          {"UpperDir", info.upper_dir},
                                                          {"WorkDir", info.work_dir}}},
                                    {"Name", "overlay2"}};
  if (info.size_rw_bytes) out["SizeRw"] = *info.size_rw_bytes;
  if (info.size_root_fs_bytes) out["SizeRootFs"] = *info.size_root_fs_bytes;
  out["Mounts"] = mounts_json(info.mounts);
  out["Config"] = config_json(info);
  out["NetworkSettings"] = network_settings_json(info);
  return out;
}

json::object container_summary_json(const engine::ContainerSummary& summary) {
  json::array ports;
  std::vector<std::string> published;
  for (const auto& binding : summary.ports) {
    published.push_back(port_key(binding));
    auto add = [&](const std::string& host_ip) {
      ports.push_back(json::object{{"IP", host_ip}, {"PrivatePort", binding.container_port}, {"PublicPort", binding.host_port}, {"Type", protocol_name(binding.protocol)}});
    };
    add(binding.host_ip.empty() ? "0.0.0.0" : binding.host_ip);
    if (binding.host_ip.empty() && publishes_on_ipv6(summary.endpoints)) add("::");
  }
  for (const auto& text : summary.exposed_ports) {
    auto key = parse_port_key(text);
    if (!key.ok()) continue;  // a range from an image's own metadata
    if (std::find(published.begin(), published.end(), concat(key->port, "/", protocol_name(key->protocol))) != published.end()) continue;
    ports.push_back(json::object{{"PrivatePort", key->port}, {"Type", protocol_name(key->protocol)}});
  }
  json::array names{slashed(summary.name)};
  for (const auto& name : summary.link_names) names.emplace_back(slashed(name));
  json::object out{{"Id", summary.id},
                   {"Names", std::move(names)},
                   {"Image", summary.image},
                   {"ImageID", summary.image_id},
                   {"Command", command_line(summary.args)},
                   {"Created", unix_seconds(summary.created)},
                   {"Ports", std::move(ports)}};
  if (summary.size_rw_bytes) out["SizeRw"] = *summary.size_rw_bytes;
  if (summary.size_root_fs_bytes) out["SizeRootFs"] = *summary.size_root_fs_bytes;
  out["Labels"] = text_map(summary.labels);
  out["State"] = status_word(summary.state);
  out["Status"] = summary.status;
  out["HostConfig"] = json::object{{"NetworkMode", summary.network_mode}};
  out["NetworkSettings"] = json::object{{"Networks", networks_json({summary.network_mode, summary.networks}, summary.endpoints, summary.id)}};
  out["Mounts"] = mounts_json(summary.mounts);
  return out;
}

}  // namespace caisson::api
