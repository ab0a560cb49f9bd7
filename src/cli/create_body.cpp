// The create body put together; the parts with a grammar are in files of their own.
#include "cli/create_body.hpp"

#include <algorithm>
#include <array>

#include "base/json_array.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"

namespace caisson::cli {

json::value list_or_null(const std::vector<std::string>& values) {
  if (values.empty()) return nullptr;
  json::array out;
  for (const auto& value : values) out.emplace_back(value);
  return out;
}

Error bad_value(std::string_view flag, std::string_view value, std::string_view why) {
  // The flags with a letter among those that are checked here; docker names both spellings.
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 3> letters = {{{"attach", "-a, "}, {"env", "-e, "}, {"label", "-l, "}}};
  std::string_view letter;
  for (const auto& [name, text] : letters)
    if (name == flag) letter = text;
  return {ErrorKind::invalid, concat("invalid argument \"", value, "\" for \"", letter, "--", flag, "\" flag: ", why)};
}

namespace {

struct Attached {
  bool standard_in = false;
  bool standard_out = true;
  bool standard_error = true;
};

Result<Attached> choose_streams(const Invocation& invocation, bool detach) {
  Attached attached;
  auto wanted = invocation.list("attach");
  if (detach) {
    if (!wanted.empty()) return Error(ErrorKind::invalid, "conflicting options: cannot specify both --attach and --detach");
    return Attached{false, false, false};
  }
  attached.standard_in = invocation.flag("interactive");
  if (wanted.empty()) return attached;
  attached = {false, false, false};
  for (const auto& stream : wanted) {
    std::string name = lower(stream);
    if (name == "stdin") attached.standard_in = true;
    else if (name == "stdout") attached.standard_out = true;
    else if (name == "stderr") attached.standard_error = true;
    else return bad_value("attach", stream, "valid streams are STDIN, STDOUT and STDERR");
  }
  return attached;
}

// A namespace mode that is one of `fixed`, empty, or container:NAME.
Status check_mode(std::string_view flag, std::string_view kind, std::string_view value, std::initializer_list<std::string_view> fixed, bool container) {
  if (value.empty() || std::find(fixed.begin(), fixed.end(), value) != fixed.end()) return {};
  if (container && value.starts_with("container:") && value.size() > 10) return {};
  return Error(ErrorKind::invalid, concat("--", flag, ": invalid ", kind, " mode"));
}

void add_resources(json::object& host, const Invocation& invocation) {
  host["CpuShares"] = invocation.integer("cpu-shares");
  host["Memory"] = invocation.bytes("memory");
  host["NanoCpus"] = invocation.nano_cpus("cpus");
  host["CpuPeriod"] = invocation.integer("cpu-period");
  host["CpuQuota"] = invocation.integer("cpu-quota");
  host["CpuRealtimePeriod"] = invocation.integer("cpu-rt-period");
  host["CpuRealtimeRuntime"] = invocation.integer("cpu-rt-runtime");
  host["CpusetCpus"] = invocation.text("cpuset-cpus");
  host["CpusetMems"] = invocation.text("cpuset-mems");
  host["BlkioWeight"] = invocation.integer("blkio-weight");
  host["MemoryReservation"] = invocation.bytes("memory-reservation");
  host["MemorySwap"] = invocation.bytes("memory-swap");
  host["PidsLimit"] = invocation.integer("pids-limit");
  host["CpuCount"] = 0;  // this and the next three: Windows only, sent as zeros
  host["CpuPercent"] = 0;
  host["IOMaximumIOps"] = 0;
  host["IOMaximumBandwidth"] = 0;
}

Status add_device_limits(json::object& host, const Invocation& invocation) {
  host["BlkioWeightDevice"] = TRY_PLAIN(parse_device_rates("blkio-weight-device", invocation.list("blkio-weight-device"), "Weight", false));
  host["BlkioDeviceReadBps"] = TRY_PLAIN(parse_device_rates("device-read-bps", invocation.list("device-read-bps"), "Rate", true));
  host["BlkioDeviceWriteBps"] = TRY_PLAIN(parse_device_rates("device-write-bps", invocation.list("device-write-bps"), "Rate", true));
  host["BlkioDeviceReadIOps"] = TRY_PLAIN(parse_device_rates("device-read-iops", invocation.list("device-read-iops"), "Rate", false));
  host["BlkioDeviceWriteIOps"] = TRY_PLAIN(parse_device_rates("device-write-iops", invocation.list("device-write-iops"), "Rate", false));
  json::array requests;
  host["Devices"] = TRY_PLAIN(parse_devices(invocation.list("device"), requests));
  if (invocation.has("gpus")) requests.emplace_back(TRY_PLAIN(parse_gpus(invocation.text("gpus"))));
  host["DeviceRequests"] = requests.empty() ? json::value() : json::value(requests);
  host["DeviceCgroupRules"] = list_or_null(invocation.list("device-cgroup-rule"));
  return {};
}

Status add_namespaces(json::object& host, const Invocation& invocation) {
  TRY_PLAIN(check_mode("pid", "PID", invocation.text("pid"), {"host"}, true));
  TRY_PLAIN(check_mode("uts", "UTS", invocation.text("uts"), {"host"}, false));
  TRY_PLAIN(check_mode("userns", "USER", invocation.text("userns"), {"host"}, false));
  TRY_PLAIN(check_mode("cgroupns", "CGROUP", invocation.text("cgroupns"), {"host", "private"}, false));
  host["PidMode"] = invocation.text("pid");
  host["IpcMode"] = invocation.text("ipc");  // the daemon checks it: docker's client does not
  host["UTSMode"] = invocation.text("uts");
  host["UsernsMode"] = invocation.text("userns");
  host["CgroupnsMode"] = invocation.text("cgroupns");
  host["Cgroup"] = "";
  host["CgroupParent"] = invocation.text("cgroup-parent");
  return {};
}

Status add_security(json::object& host, const Invocation& invocation) {
  bool unmasked = false;
  host["SecurityOpt"] = TRY_PLAIN(parse_security_options(invocation.list("security-opt"), unmasked));
  host["MaskedPaths"] = unmasked ? json::value(json::array()) : json::value();
  host["ReadonlyPaths"] = unmasked ? json::value(json::array()) : json::value();
  host["CapAdd"] = normalise_capabilities(invocation.list("cap-add"));
  host["CapDrop"] = normalise_capabilities(invocation.list("cap-drop"));
  host["Privileged"] = invocation.flag("privileged");
  host["ReadonlyRootfs"] = invocation.flag("read-only");
  host["GroupAdd"] = list_or_null(invocation.list("group-add"));
  return {};
}

Status check_addresses(const Invocation& invocation) {
  for (const auto& server : invocation.list("dns")) {
    bool plausible = !server.empty() && server.find_first_not_of("0123456789abcdefABCDEF.:%") == std::string::npos &&
                     (server.find('.') != std::string::npos || server.find(':') != std::string::npos);
    if (!plausible) return bad_value("dns", server, concat("IP address is not correctly formatted: ", server));
  }
  for (const auto& link : invocation.list("link"))
    if (std::count(link.begin(), link.end(), ':') > 1) return bad_value("link", link, concat("bad format for links: ", link));
  return {};
}

// "name:address" or "name=address", the address perhaps in brackets, to docker's "name:address".
Result<json::value> extra_hosts(const Invocation& invocation) {
  json::array out;
  for (const auto& entry : invocation.list("add-host")) {
    std::size_t at = entry.find_first_of("=:");
    if (at == std::string::npos || at == 0) return bad_value("add-host", entry, concat("bad format for add-host: \"", entry, "\""));
    std::string_view address = std::string_view(entry).substr(at + 1);
    if (address.size() > 1 && address.front() == '[' && address.back() == ']') address = address.substr(1, address.size() - 2);
    bool plausible = address == "host-gateway" || (!address.empty() && address.find_first_not_of("0123456789abcdefABCDEF.:%") == std::string_view::npos);
    if (!plausible) return bad_value("add-host", entry, concat("invalid IP address in add-host: \"", address, "\""));
    out.emplace_back(concat(std::string_view(entry).substr(0, at), ":", address));
  }
  return out.empty() ? json::value() : json::value(out);
}

Status add_logging(json::object& host, const Invocation& invocation) {
  auto options = invocation.list("log-opt");
  if (invocation.text("log-driver") == "none" && !options.empty()) return Error(ErrorKind::invalid, "invalid logging opts for driver none");
  host["LogConfig"] = json::object{{"Type", invocation.text("log-driver")}, {"Config", to_map(options)}};
  return {};
}

Status add_storage(json::object& body, json::object& host, const Invocation& invocation) {
  std::string folder = TRY(linux::getcwd(), "find the working folder");
  VolumeFlags volumes = TRY_PLAIN(parse_volumes(invocation.list("volume"), folder));
  body["Volumes"] = volumes.anonymous;
  host["Binds"] = volumes.binds.empty() ? json::value() : json::value(volumes.binds);
  host["VolumesFrom"] = list_or_null(invocation.list("volumes-from"));
  host["VolumeDriver"] = invocation.text("volume-driver");
  json::array mounts;
  for (const auto& spec : invocation.list("mount")) mounts.emplace_back(TRY_PLAIN(parse_mount(spec)));
  if (!mounts.empty()) host["Mounts"] = mounts;
  json::object tmpfs;
  for (const auto& spec : invocation.list("tmpfs")) {
    auto halves = split_once(spec, ':');
    tmpfs[halves.before] = halves.after;
  }
  if (!tmpfs.empty()) host["Tmpfs"] = tmpfs;
  auto storage = invocation.list("storage-opt");
  for (const auto& option : storage)
    if (option.find('=') == std::string::npos) return Error(ErrorKind::invalid, "invalid storage option");
  if (!storage.empty()) host["StorageOpt"] = to_map(storage);
  return {};
}

Status add_misc(json::object& host, const Invocation& invocation) {
  host["ContainerIDFile"] = invocation.text("cidfile");
  host["AutoRemove"] = invocation.flag("rm");
  host["RestartPolicy"] = TRY_PLAIN(parse_restart_policy(invocation.text("restart")));
  if (invocation.flag("rm") && invocation.text("restart") != "no" && !invocation.text("restart").empty())
    return Error(ErrorKind::invalid, "conflicting options: cannot specify both --restart and --rm");
  host["ConsoleSize"] = json::array{0, 0};
  std::int64_t swappiness = invocation.integer("memory-swappiness");
  if (swappiness != -1 && (swappiness < 0 || swappiness > 100))
    return Error(ErrorKind::invalid, concat("invalid value: ", swappiness, ". Valid memory swappiness range is 0-100"));
  host["MemorySwappiness"] = swappiness;
  host["OomKillDisable"] = invocation.flag("oom-kill-disable");
  host["OomScoreAdj"] = invocation.integer("oom-score-adj");
  host["ShmSize"] = invocation.bytes("shm-size");
  host["Ulimits"] = TRY_PLAIN(parse_ulimits(invocation.list("ulimit")));
  host["Isolation"] = invocation.text("isolation");
  if (invocation.has("runtime")) host["Runtime"] = invocation.text("runtime");
  if (invocation.has("init")) host["Init"] = invocation.flag("init");
  auto sysctls = invocation.list("sysctl");
  for (const auto& setting : sysctls)
    if (setting.find('=') == std::string::npos) return bad_value("sysctl", setting, concat("sysctl '", setting, "' is not allowed"));
  if (!sysctls.empty()) host["Sysctls"] = to_map(sysctls);
  if (invocation.has("annotation")) host["Annotations"] = to_map(invocation.list("annotation"));
  return {};
}

Status add_network(json::object& body, json::object& host, const Invocation& invocation) {
  TRY_PLAIN(check_addresses(invocation));
  PortMaps ports = TRY_PLAIN(parse_ports(invocation.list("publish"), invocation.list("expose")));
  if (!ports.exposed.empty()) body["ExposedPorts"] = ports.exposed;
  host["PortBindings"] = ports.bindings;
  host["PublishAllPorts"] = invocation.flag("publish-all");
  std::string mode;
  json::object endpoints = TRY_PLAIN(parse_networks(invocation, mode));
  host["NetworkMode"] = mode;
  host["Links"] = list_or_null(invocation.list("link"));
  host["Dns"] = texts(invocation.list("dns"));
  host["DnsOptions"] = texts(invocation.list("dns-option"));
  json::array search;
  for (const auto& domain : invocation.list("dns-search")) search.emplace_back(domain == "." ? std::string(".") : domain);
  host["DnsSearch"] = search;
  host["ExtraHosts"] = TRY_PLAIN(extra_hosts(invocation));
  body["NetworkingConfig"] = json::object{{"EndpointsConfig", endpoints}};
  return {};
}

}  // namespace

Result<CreateRequest> build_create(const Invocation& invocation, bool detach) {
  CreateRequest request;
  request.name = invocation.text("name");
  request.platform = invocation.text("platform");
  Attached attached = TRY_PLAIN(choose_streams(invocation, detach));
  json::object& body = request.body;
  body["Hostname"] = invocation.text("hostname");
  body["Domainname"] = invocation.text("domainname");
  body["User"] = invocation.text("user");
  body["AttachStdin"] = attached.standard_in;
  body["AttachStdout"] = attached.standard_out;
  body["AttachStderr"] = attached.standard_error;
  body["Tty"] = invocation.flag("tty");
  body["OpenStdin"] = invocation.flag("interactive");
  body["StdinOnce"] = invocation.flag("interactive") && attached.standard_in;
  json::array environment = TRY_PLAIN(collect_environment(invocation.list("env-file"), invocation.list("env")));
  body["Env"] = environment.empty() ? json::value() : json::value(environment);
  const auto& words = invocation.words();
  body["Cmd"] = list_or_null({words.begin() + 1, words.end()});
  body["Image"] = words[0];
  body["WorkingDir"] = invocation.text("workdir");
  body["Entrypoint"] = invocation.has("entrypoint") ? json::value(json::array{invocation.text("entrypoint")}) : json::value();
  body["OnBuild"] = nullptr;
  body["Labels"] = TRY_PLAIN(collect_labels(invocation.list("label-file"), invocation.list("label")));
  if (invocation.has("stop-signal")) body["StopSignal"] = invocation.text("stop-signal");
  if (invocation.has("stop-timeout")) body["StopTimeout"] = invocation.integer("stop-timeout");
  json::object health = TRY_PLAIN(parse_health(invocation));
  if (!health.empty()) body["Healthcheck"] = health;

  json::object host;
  TRY_PLAIN(add_storage(body, host, invocation));
  TRY_PLAIN(add_logging(host, invocation));
  TRY_PLAIN(add_network(body, host, invocation));
  TRY_PLAIN(add_security(host, invocation));
  TRY_PLAIN(add_namespaces(host, invocation));
  add_resources(host, invocation);
  TRY_PLAIN(add_device_limits(host, invocation));
  TRY_PLAIN(add_misc(host, invocation));
  body["HostConfig"] = std::move(host);
  return request;
}

Result<json::object> build_update(const Invocation& invocation) {
  json::object body;
  add_resources(body, invocation);
  body["CgroupParent"] = "";
  for (std::string_view unset : {"BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps",
                                 "Devices", "DeviceCgroupRules", "DeviceRequests", "MemorySwappiness", "OomKillDisable", "Ulimits"})
    body[unset] = nullptr;
  json::object restart{{"Name", ""}, {"MaximumRetryCount", 0}};
  if (invocation.has("restart")) restart = TRY_PLAIN(parse_restart_policy(invocation.text("restart")));
  body["RestartPolicy"] = restart;
  return body;
}

Result<json::object> build_exec(const Invocation& invocation) {
  bool detach = invocation.flag("detach");
  json::object body;
  body["User"] = invocation.text("user");
  body["Privileged"] = invocation.flag("privileged");
  body["Tty"] = invocation.flag("tty");
  body["AttachStdin"] = !detach && invocation.flag("interactive");
  body["AttachStderr"] = !detach;
  body["AttachStdout"] = !detach;
  body["Detach"] = detach;
  body["DetachKeys"] = invocation.text("detach-keys");
  json::array environment = TRY_PLAIN(collect_environment(invocation.list("env-file"), invocation.list("env")));
  body["Env"] = environment.empty() ? json::value() : json::value(environment);
  body["WorkingDir"] = invocation.text("workdir");
  const auto& words = invocation.words();
  body["Cmd"] = list_or_null({words.begin() + 1, words.end()});
  return body;
}

}  // namespace caisson::cli
