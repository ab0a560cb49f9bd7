// config.json to Spec: every field by its JSON path, nothing accepted that cannot be honoured.
#include <algorithm>
#include <array>

#include "runtime/spec.hpp"

namespace caisson::runtime {

namespace {

Error bad_member(const JsonView& view, std::string_view key, std::string_view text) {
  return {ErrorKind::invalid, concat(view.path(), view.path().empty() ? "" : ".", key, ": ", text)};
}

Status read_mappings(const JsonView& view, std::vector<linux::IdMapping>& out) {
  return view.for_each_element([&](const JsonView& element) -> Status {
    linux::IdMapping mapping;
    TRY_PLAIN(element.read("containerID", mapping.inside));
    TRY_PLAIN(element.read("hostID", mapping.outside));
    TRY_PLAIN(element.read("size", mapping.count));
    out.push_back(mapping);
    return {};
  });
}

Status read_id_map(const JsonView& view, linux::IdMap& out) {
  auto uids = TRY_PLAIN(view.at("uidMappings"));
  TRY_PLAIN(read_mappings(uids, out.uids));
  auto gids = TRY_PLAIN(view.at("gidMappings"));
  return read_mappings(gids, out.gids);
}

Status read_character(const JsonView& view, std::string_view key, std::string_view allowed, char& out) {
  auto member = TRY_PLAIN(view.at(key));
  if (!member.is_set()) return {};
  std::string text;
  TRY_PLAIN(member.read(text));
  if (text.size() != 1 || allowed.find(text[0]) == std::string_view::npos)
    return member.error(concat("\"", text, "\" is not one of the letters ", allowed));
  out = text[0];
  return {};
}

}  // namespace

static Status from_json(const JsonView& view, ConsoleSize& out) {
  TRY_PLAIN(view.read("height", out.height));
  return view.read("width", out.width);
}

static Status from_json(const JsonView& view, User& out) {
  TRY_PLAIN(view.read("uid", out.uid));
  TRY_PLAIN(view.read("gid", out.gid));
  TRY_PLAIN(view.read("umask", out.umask));
  return view.read("additionalGids", out.additional_gids);
}

static Status from_json(const JsonView& view, CapabilitySets& out) {
  TRY_PLAIN(view.read("bounding", out.bounding));
  TRY_PLAIN(view.read("effective", out.effective));
  TRY_PLAIN(view.read("permitted", out.permitted));
  TRY_PLAIN(view.read("inheritable", out.inheritable));
  return view.read("ambient", out.ambient);
}

static Status from_json(const JsonView& view, Rlimit& out) {
  TRY_PLAIN(view.read("type", out.type));
  TRY_PLAIN(view.read("soft", out.soft));
  return view.read("hard", out.hard);
}

static Status from_json(const JsonView& view, Scheduler& out) {
  TRY_PLAIN(view.read("policy", out.policy));
  TRY_PLAIN(view.read("nice", out.nice));
  TRY_PLAIN(view.read("priority", out.priority));
  TRY_PLAIN(view.read("flags", out.flags));
  TRY_PLAIN(view.read("runtime", out.runtime_ns));
  TRY_PLAIN(view.read("deadline", out.deadline_ns));
  return view.read("period", out.period_ns);
}

static Status from_json(const JsonView& view, IoPriority& out) {
  TRY_PLAIN(view.read("class", out.io_class));
  return view.read("priority", out.priority);
}

static Status from_json(const JsonView& view, CpuAffinity& out) {
  TRY_PLAIN(view.read("initial", out.initial));
  return view.read("final", out.final);
}

static Status from_json(const JsonView& view, Process& out) {
  TRY_PLAIN(view.read("terminal", out.terminal));
  TRY_PLAIN(view.read("consoleSize", out.console_size));
  TRY_PLAIN(view.read("user", out.user));
  TRY_PLAIN(view.read("args", out.args));
  TRY_PLAIN(view.read("env", out.env));
  TRY_PLAIN(view.read("cwd", out.cwd));
  TRY_PLAIN(view.read("capabilities", out.capabilities));
  TRY_PLAIN(view.read("rlimits", out.rlimits));
  TRY_PLAIN(view.read("noNewPrivileges", out.no_new_privileges));
  TRY_PLAIN(view.read("apparmorProfile", out.apparmor_profile));
  TRY_PLAIN(view.read("selinuxLabel", out.selinux_label));
  TRY_PLAIN(view.read("oomScoreAdj", out.oom_score_adj));
  TRY_PLAIN(view.read("scheduler", out.scheduler));
  TRY_PLAIN(view.read("ioPriority", out.io_priority));
  return view.read("execCPUAffinity", out.exec_cpu_affinity);
}

static Status from_json(const JsonView& view, Root& out) {
  TRY_PLAIN(view.read("path", out.path));
  return view.read("readonly", out.readonly);
}

static Status from_json(const JsonView& view, Mount& out) {
  TRY_PLAIN(view.read("destination", out.destination));
  TRY_PLAIN(view.read("type", out.type));
  TRY_PLAIN(view.read("source", out.source));
  TRY_PLAIN(view.read("options", out.options));
  return read_id_map(view, out.id_map);
}

namespace {
struct NamespaceName {
  std::string_view name;
  NamespaceType type;
};
constexpr std::array<NamespaceName, 8> namespace_names{{{"pid", NamespaceType::pid},
                                                        {"network", NamespaceType::network},
                                                        {"mount", NamespaceType::mount},
                                                        {"ipc", NamespaceType::ipc},
                                                        {"uts", NamespaceType::uts},
                                                        {"user", NamespaceType::user},
                                                        {"cgroup", NamespaceType::cgroup},
                                                        {"time", NamespaceType::time}}};
}  // namespace

std::string_view to_string(NamespaceType type) {
  for (const auto& entry : namespace_names)
    if (entry.type == type) return entry.name;
  return "unknown";
}

static Status from_json(const JsonView& view, Namespace& out) {
  auto type = TRY_PLAIN(view.at("type"));
  std::string name;
  TRY_PLAIN(type.read(name));
  const auto* found =
      std::find_if(namespace_names.begin(), namespace_names.end(), [&](const auto& entry) { return entry.name == name; });
  if (found == namespace_names.end()) return type.error(concat("\"", name, "\" is not a namespace type"));
  out.type = found->type;
  return view.read("path", out.path);
}

static Status from_json(const JsonView& view, Device& out) {
  TRY_PLAIN(view.read("path", out.path));
  out.type = '\0';
  TRY_PLAIN(read_character(view, "type", "cbup", out.type));
  if (out.type == '\0') return bad_member(view, "type", "missing");
  TRY_PLAIN(view.read("major", out.major));
  TRY_PLAIN(view.read("minor", out.minor));
  TRY_PLAIN(view.read("fileMode", out.file_mode));
  TRY_PLAIN(view.read("uid", out.uid));
  return view.read("gid", out.gid);
}

static Status from_json(const JsonView& view, DeviceRule& out) {
  TRY_PLAIN(view.read("allow", out.allow));
  TRY_PLAIN(read_character(view, "type", "acb", out.type));
  TRY_PLAIN(view.read("major", out.major));
  TRY_PLAIN(view.read("minor", out.minor));
  TRY_PLAIN(view.read("access", out.access));
  // -1 and absent both mean "any" in configs found in the wild (containerd writes -1 for hostdevice wildcards).
  if (out.major && *out.major < 0) out.major.reset();
  if (out.minor && *out.minor < 0) out.minor.reset();
  return {};
}

static Status from_json(const JsonView& view, MemoryLimits& out) {
  TRY_PLAIN(view.read("limit", out.limit_bytes));
  TRY_PLAIN(view.read("reservation", out.reservation_bytes));
  TRY_PLAIN(view.read("swap", out.swap_bytes));
  TRY_PLAIN(view.read("swappiness", out.swappiness));
  TRY_PLAIN(view.read("disableOOMKiller", out.disable_oom_killer));
  TRY_PLAIN(view.read("kernel", out.kernel_bytes));
  TRY_PLAIN(view.read("kernelTCP", out.kernel_tcp_bytes));
  TRY_PLAIN(view.read("useHierarchy", out.use_hierarchy));
  return view.read("checkBeforeUpdate", out.check_before_update);
}

static Status from_json(const JsonView& view, CpuLimits& out) {
  TRY_PLAIN(view.read("shares", out.shares));
  TRY_PLAIN(view.read("quota", out.quota_us));
  TRY_PLAIN(view.read("burst", out.burst_us));
  TRY_PLAIN(view.read("period", out.period_us));
  TRY_PLAIN(view.read("realtimeRuntime", out.realtime_runtime_us));
  TRY_PLAIN(view.read("realtimePeriod", out.realtime_period_us));
  TRY_PLAIN(view.read("cpus", out.cpus));
  TRY_PLAIN(view.read("mems", out.mems));
  return view.read("idle", out.idle);
}

static Status from_json(const JsonView& view, ThrottleDevice& out) {
  TRY_PLAIN(view.read("major", out.major));
  TRY_PLAIN(view.read("minor", out.minor));
  return view.read("rate", out.rate);
}

static Status from_json(const JsonView& view, WeightDevice& out) {
  TRY_PLAIN(view.read("major", out.major));
  TRY_PLAIN(view.read("minor", out.minor));
  return view.read("weight", out.weight);
}

static Status from_json(const JsonView& view, BlockIoLimits& out) {
  TRY_PLAIN(view.read("weight", out.weight));
  TRY_PLAIN(view.read("weightDevice", out.weight_devices));
  TRY_PLAIN(view.read("throttleReadBpsDevice", out.read_bps));
  TRY_PLAIN(view.read("throttleWriteBpsDevice", out.write_bps));
  TRY_PLAIN(view.read("throttleReadIOPSDevice", out.read_iops));
  return view.read("throttleWriteIOPSDevice", out.write_iops);
}

static Status from_json(const JsonView& view, HugepageLimit& out) {
  TRY_PLAIN(view.read("pageSize", out.page_size));
  return view.read("limit", out.limit_bytes);
}

static Status from_json(const JsonView& view, NetworkPriority& out) {
  TRY_PLAIN(view.read("name", out.interface));
  return view.read("priority", out.priority);
}

static Status from_json(const JsonView& view, NetworkLimits& out) {
  TRY_PLAIN(view.read("classID", out.class_id));
  return view.read("priorities", out.priorities);
}

static Status from_json(const JsonView& view, RdmaLimit& out) {
  TRY_PLAIN(view.read("hcaHandles", out.handles));
  return view.read("hcaObjects", out.objects);
}

static Status from_json(const JsonView& view, Resources& out) {
  TRY_PLAIN(view.read("devices", out.devices));
  TRY_PLAIN(view.read("memory", out.memory));
  TRY_PLAIN(view.read("cpu", out.cpu));
  TRY_PLAIN(view.read("blockIO", out.block_io));
  auto pids = TRY_PLAIN(view.at("pids"));
  TRY_PLAIN(pids.read("limit", out.pids_limit));
  TRY_PLAIN(view.read("hugepageLimits", out.hugepages));
  TRY_PLAIN(view.read("network", out.network));
  auto rdma = TRY_PLAIN(view.at("rdma"));
  TRY_PLAIN(rdma.for_each_member(
      [&](std::string_view device, const JsonView& limit) -> Status { return limit.read(out.rdma[std::string(device)]); }));
  return view.read("unified", out.unified);
}

static Status from_json(const JsonView& view, SeccompArg& out) {
  TRY_PLAIN(view.read("index", out.index));
  TRY_PLAIN(view.read("value", out.value));
  TRY_PLAIN(view.read("valueTwo", out.value_two));
  return view.read("op", out.op);
}

static Status from_json(const JsonView& view, SeccompRule& out) {
  TRY_PLAIN(view.read("names", out.names));
  TRY_PLAIN(view.read("action", out.action));
  TRY_PLAIN(view.read("errnoRet", out.errno_ret));
  TRY_PLAIN(view.read("args", out.args));
  if (out.names.empty()) return bad_member(view, "names", "at least one system call is needed");
  if (out.action.empty()) return bad_member(view, "action", "missing");
  return {};
}

static Status from_json(const JsonView& view, SeccompProfile& out) {
  TRY_PLAIN(view.read("defaultAction", out.default_action));
  TRY_PLAIN(view.read("defaultErrnoRet", out.default_errno_ret));
  TRY_PLAIN(view.read("architectures", out.architectures));
  TRY_PLAIN(view.read("flags", out.flags));
  TRY_PLAIN(view.read("listenerPath", out.listener_path));
  TRY_PLAIN(view.read("listenerMetadata", out.listener_metadata));
  TRY_PLAIN(view.read("syscalls", out.syscalls));
  if (out.default_action.empty()) return bad_member(view, "defaultAction", "missing");
  return {};
}

static Status from_json(const JsonView& view, Hook& out) {
  TRY_PLAIN(view.read("path", out.path));
  TRY_PLAIN(view.read("args", out.args));
  TRY_PLAIN(view.read("env", out.env));
  TRY_PLAIN(view.read("timeout", out.timeout_seconds));
  if (out.path.empty() || out.path[0] != '/') return bad_member(view, "path", "must be absolute");
  if (out.timeout_seconds && *out.timeout_seconds <= 0) return bad_member(view, "timeout", "must be more than 0 seconds");
  return {};
}

static Status from_json(const JsonView& view, Hooks& out) {
  TRY_PLAIN(view.read("prestart", out.prestart));
  TRY_PLAIN(view.read("createRuntime", out.create_runtime));
  TRY_PLAIN(view.read("createContainer", out.create_container));
  TRY_PLAIN(view.read("startContainer", out.start_container));
  TRY_PLAIN(view.read("poststart", out.poststart));
  return view.read("poststop", out.poststop);
}

static Status from_json(const JsonView& view, TimeOffset& out) {
  TRY_PLAIN(view.read("secs", out.seconds));
  return view.read("nanosecs", out.nanoseconds);
}

static Status from_json(const JsonView& view, Personality& out) {
  TRY_PLAIN(view.read("domain", out.domain));
  return view.read("flags", out.flags);
}

static Status from_json(const JsonView& view, MemoryPolicy& out) {
  TRY_PLAIN(view.read("mode", out.mode));
  TRY_PLAIN(view.read("nodes", out.nodes));
  return view.read("flags", out.flags);
}

static Status from_json(const JsonView& view, IntelRdt& out) {
  TRY_PLAIN(view.read("closID", out.clos_id));
  TRY_PLAIN(view.read("l3CacheSchema", out.l3_cache_schema));
  TRY_PLAIN(view.read("memBwSchema", out.memory_bandwidth_schema));
  TRY_PLAIN(view.read("schemata", out.schemata));
  TRY_PLAIN(view.read("enableMonitoring", out.enable_monitoring));
  // enableCMT and enableMBM were the words for it up to 1.2.
  bool cache = false;
  bool bandwidth = false;
  TRY_PLAIN(view.read("enableCMT", cache));
  TRY_PLAIN(view.read("enableMBM", bandwidth));
  out.enable_monitoring = out.enable_monitoring || cache || bandwidth;
  return {};
}

static Status read_linux(const JsonView& view, Spec& out) {
  TRY_PLAIN(view.read("namespaces", out.namespaces));
  TRY_PLAIN(read_id_map(view, out.id_map));
  TRY_PLAIN(view.read("devices", out.devices));
  TRY_PLAIN(view.read("cgroupsPath", out.cgroups_path));
  TRY_PLAIN(view.read("resources", out.resources));
  TRY_PLAIN(view.read("rootfsPropagation", out.rootfs_propagation));
  TRY_PLAIN(view.read("seccomp", out.seccomp));
  TRY_PLAIN(view.read("sysctl", out.sysctl));
  TRY_PLAIN(view.read("maskedPaths", out.masked_paths));
  TRY_PLAIN(view.read("readonlyPaths", out.readonly_paths));
  TRY_PLAIN(view.read("mountLabel", out.mount_label));
  TRY_PLAIN(view.read("personality", out.personality));
  TRY_PLAIN(view.read("memoryPolicy", out.memory_policy));
  TRY_PLAIN(view.read("intelRdt", out.intel_rdt));
  auto offsets = TRY_PLAIN(view.at("timeOffsets"));
  TRY_PLAIN(offsets.for_each_member(
      [&](std::string_view clock, const JsonView& offset) -> Status { return offset.read(out.time_offsets[std::string(clock)]); }));
  auto devices = TRY_PLAIN(view.at("netDevices"));
  return devices.for_each_member([&](std::string_view host_name, const JsonView& device) -> Status {
    NetDevice item;
    item.host_name = host_name;
    TRY_PLAIN(device.read("name", item.name));
    out.net_devices.push_back(std::move(item));
    return {};
  });
}

Result<Spec> parse_spec(std::string_view text) {
  auto document = TRY_PLAIN(parse_json(text, "config.json"));
  JsonView view(document);
  if (!document.is_object()) return Error(ErrorKind::invalid, "config.json: want an object");
  Spec spec;
  spec.oci_version.clear();
  spec.process.cwd.clear();
  TRY_PLAIN(view.read("ociVersion", spec.oci_version));
  TRY_PLAIN(view.read("root", spec.root));
  TRY_PLAIN(view.read("hostname", spec.hostname));
  TRY_PLAIN(view.read("domainname", spec.domainname));
  TRY_PLAIN(view.read("process", spec.process));
  TRY_PLAIN(view.read("mounts", spec.mounts));
  TRY_PLAIN(view.read("hooks", spec.hooks));
  TRY_PLAIN(view.read("annotations", spec.annotations));
  auto linux_view = TRY_PLAIN(view.at("linux"));
  TRY_PLAIN(read_linux(linux_view, spec));
  if (spec.oci_version.empty()) return Error(ErrorKind::invalid, "ociVersion: missing");
  if (spec.root.path.empty()) return Error(ErrorKind::invalid, "root.path: missing");
  TRY_PLAIN(check_spec(spec));
  return spec;
}

Result<Process> parse_process(std::string_view text) {
  auto document = TRY_PLAIN(parse_json(text, "process"));
  JsonView view(document);
  if (!document.is_object()) return Error(ErrorKind::invalid, "process: want an object");
  Process process;
  process.cwd.clear();
  TRY_PLAIN(from_json(view, process));
  TRY_PLAIN(check_process(process, "process"));
  return process;
}

Result<Resources> parse_resources(std::string_view text) {
  auto document = TRY_PLAIN(parse_json(text, "resources"));
  if (!document.is_object()) return Error(ErrorKind::invalid, "resources: want an object");
  Resources resources;
  TRY_PLAIN(from_json(JsonView(document), resources));
  return resources;
}

Result<SeccompProfile> parse_seccomp_profile(std::string_view text) {
  auto document = TRY_PLAIN(parse_json(text, "seccomp profile"));
  if (!document.is_object()) return Error(ErrorKind::invalid, "seccomp profile: want an object");
  SeccompProfile profile;
  TRY_PLAIN(from_json(JsonView(document), profile));
  return profile;
}

const Namespace* Spec::find_namespace(NamespaceType type) const {
  for (const auto& entry : namespaces)
    if (entry.type == type) return &entry;
  return nullptr;
}

bool Spec::may_be_host_root() const {
  const auto* user = find_namespace(NamespaceType::user);
  if (user == nullptr || !user->path.empty()) return true;
  return std::any_of(id_map.uids.begin(), id_map.uids.end(), [](const linux::IdMapping& mapping) { return mapping.outside == 0; });
}

}  // namespace caisson::runtime
