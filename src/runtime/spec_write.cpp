// Spec to config.json, for `caisson-runtime spec` and for tests that compare.
#include "base/json_array.hpp"
#include "runtime/spec.hpp"

namespace caisson::runtime {

namespace {

json::object text_map(const std::map<std::string, std::string>& items) {
  json::object out;
  for (const auto& [key, value] : items) out[key] = value;
  return out;
}

template <typename T>
void put(json::object& out, std::string_view key, const std::optional<T>& value) {
  if (value) out[key] = *value;
}
void put(json::object& out, std::string_view key, const std::string& value) {
  if (!value.empty()) out[key] = value;
}
void put(json::object& out, std::string_view key, json::array value) {
  if (!value.empty()) out[key] = std::move(value);
}
void put(json::object& out, std::string_view key, json::object value) {
  if (!value.empty()) out[key] = std::move(value);
}

json::array mappings(const std::vector<linux::IdMapping>& items) {
  json::array out;
  for (const auto& item : items)
    out.push_back(json::object{{"containerID", item.inside}, {"hostID", item.outside}, {"size", item.count}});
  return out;
}

json::object mount_json(const Mount& mount) {
  json::object out{{"destination", mount.destination}};
  put(out, "type", mount.type);
  put(out, "source", mount.source);
  put(out, "options", texts(mount.options));
  put(out, "uidMappings", mappings(mount.id_map.uids));
  put(out, "gidMappings", mappings(mount.id_map.gids));
  return out;
}

json::object hook_json(const Hook& hook) {
  json::object out{{"path", hook.path}};
  put(out, "args", texts(hook.args));
  put(out, "env", texts(hook.env));
  put(out, "timeout", hook.timeout_seconds);
  return out;
}

json::array hooks_json(const std::vector<Hook>& hooks) {
  json::array out;
  for (const auto& hook : hooks) out.push_back(hook_json(hook));
  return out;
}

json::object device_json(const Device& device) {
  json::object out{{"path", device.path}, {"type", std::string(1, device.type)}, {"major", device.major}, {"minor", device.minor}};
  put(out, "fileMode", device.file_mode);
  out["uid"] = device.uid;
  out["gid"] = device.gid;
  return out;
}

json::object rule_json(const DeviceRule& rule) {
  json::object out{{"allow", rule.allow}};
  if (rule.type != 'a') out["type"] = std::string(1, rule.type);
  put(out, "major", rule.major);
  put(out, "minor", rule.minor);
  put(out, "access", rule.access);
  return out;
}

json::array throttles(const std::vector<ThrottleDevice>& items) {
  json::array out;
  for (const auto& item : items) out.push_back(json::object{{"major", item.major}, {"minor", item.minor}, {"rate", item.rate}});
  return out;
}

json::object block_io_json(const BlockIoLimits& limits) {
  json::object out;
  put(out, "weight", limits.weight);
  json::array weights;
  for (const auto& item : limits.weight_devices)
    weights.push_back(json::object{{"major", item.major}, {"minor", item.minor}, {"weight", item.weight}});
  put(out, "weightDevice", std::move(weights));
  put(out, "throttleReadBpsDevice", throttles(limits.read_bps));
  put(out, "throttleWriteBpsDevice", throttles(limits.write_bps));
  put(out, "throttleReadIOPSDevice", throttles(limits.read_iops));
  put(out, "throttleWriteIOPSDevice", throttles(limits.write_iops));
  return out;
}

json::object resources_json(const Resources& resources) {
  json::object out;
  json::array rules;
  for (const auto& rule : resources.devices) rules.push_back(rule_json(rule));
  put(out, "devices", std::move(rules));
  json::object memory;
  put(memory, "limit", resources.memory.limit_bytes);
  put(memory, "reservation", resources.memory.reservation_bytes);
  put(memory, "swap", resources.memory.swap_bytes);
  put(memory, "kernel", resources.memory.kernel_bytes);
  put(memory, "kernelTCP", resources.memory.kernel_tcp_bytes);
  put(memory, "swappiness", resources.memory.swappiness);
  put(memory, "disableOOMKiller", resources.memory.disable_oom_killer);
  put(memory, "useHierarchy", resources.memory.use_hierarchy);
  put(memory, "checkBeforeUpdate", resources.memory.check_before_update);
  put(out, "memory", std::move(memory));
  json::object cpu;
  put(cpu, "shares", resources.cpu.shares);
  put(cpu, "quota", resources.cpu.quota_us);
  put(cpu, "burst", resources.cpu.burst_us);
  put(cpu, "period", resources.cpu.period_us);
  put(cpu, "realtimeRuntime", resources.cpu.realtime_runtime_us);
  put(cpu, "realtimePeriod", resources.cpu.realtime_period_us);
  put(cpu, "cpus", resources.cpu.cpus);
  put(cpu, "mems", resources.cpu.mems);
  put(cpu, "idle", resources.cpu.idle);
  put(out, "cpu", std::move(cpu));
  put(out, "blockIO", block_io_json(resources.block_io));
  if (resources.pids_limit) out["pids"] = json::object{{"limit", *resources.pids_limit}};
  json::array hugepages;
  for (const auto& item : resources.hugepages)
    hugepages.push_back(json::object{{"pageSize", item.page_size}, {"limit", item.limit_bytes}});
  put(out, "hugepageLimits", std::move(hugepages));
  json::object network;
  put(network, "classID", resources.network.class_id);
  json::array priorities;
  for (const auto& item : resources.network.priorities)
    priorities.push_back(json::object{{"name", item.interface}, {"priority", item.priority}});
  put(network, "priorities", std::move(priorities));
  put(out, "network", std::move(network));
  json::object rdma;
  for (const auto& [device, limit] : resources.rdma) {
    json::object item;
    put(item, "hcaHandles", limit.handles);
    put(item, "hcaObjects", limit.objects);
    rdma[device] = std::move(item);
  }
  put(out, "rdma", std::move(rdma));
  put(out, "unified", text_map(resources.unified));
  return out;
}

json::object seccomp_json(const SeccompProfile& profile) {
  json::object out{{"defaultAction", profile.default_action}};
  put(out, "defaultErrnoRet", profile.default_errno_ret);
  put(out, "architectures", texts(profile.architectures));
  put(out, "flags", texts(profile.flags));
  put(out, "listenerPath", profile.listener_path);
  put(out, "listenerMetadata", profile.listener_metadata);
  json::array rules;
  for (const auto& rule : profile.syscalls) {
    json::object item{{"names", texts(rule.names)}, {"action", rule.action}};
    put(item, "errnoRet", rule.errno_ret);
    json::array args;
    for (const auto& arg : rule.args)
      args.push_back(json::object{{"index", arg.index}, {"value", arg.value}, {"valueTwo", arg.value_two}, {"op", arg.op}});
    put(item, "args", std::move(args));
    rules.push_back(std::move(item));
  }
  put(out, "syscalls", std::move(rules));
  return out;
}

json::object intel_rdt_json(const IntelRdt& rdt) {
  json::object out;
  put(out, "closID", rdt.clos_id);
  put(out, "l3CacheSchema", rdt.l3_cache_schema);
  put(out, "memBwSchema", rdt.memory_bandwidth_schema);
  put(out, "schemata", texts(rdt.schemata));
  if (rdt.enable_monitoring) out["enableMonitoring"] = true;
  return out;
}

/// The fields that few configurations have.
void put_rare_fields(json::object& out, const Spec& spec) {
  if (spec.personality) {
    json::object item{{"domain", spec.personality->domain}};
    put(item, "flags", texts(spec.personality->flags));
    out["personality"] = std::move(item);
  }
  if (spec.memory_policy) {
    json::object item{{"mode", spec.memory_policy->mode}};
    put(item, "nodes", spec.memory_policy->nodes);
    put(item, "flags", texts(spec.memory_policy->flags));
    out["memoryPolicy"] = std::move(item);
  }
  if (spec.intel_rdt) out["intelRdt"] = intel_rdt_json(*spec.intel_rdt);
  json::object offsets;
  for (const auto& [clock, offset] : spec.time_offsets)
    offsets[clock] = json::object{{"secs", offset.seconds}, {"nanosecs", offset.nanoseconds}};
  put(out, "timeOffsets", std::move(offsets));
  json::object devices;
  for (const auto& device : spec.net_devices) {
    json::object item;
    put(item, "name", device.name);
    devices[device.host_name] = std::move(item);
  }
  put(out, "netDevices", std::move(devices));
}

json::object linux_json(const Spec& spec) {
  json::object out;
  json::array namespaces;
  for (const auto& one : spec.namespaces) {
    json::object item{{"type", std::string(to_string(one.type))}};
    put(item, "path", one.path);
    namespaces.push_back(std::move(item));
  }
  put(out, "namespaces", std::move(namespaces));
  put(out, "uidMappings", mappings(spec.id_map.uids));
  put(out, "gidMappings", mappings(spec.id_map.gids));
  json::array devices;
  for (const auto& device : spec.devices) devices.push_back(device_json(device));
  put(out, "devices", std::move(devices));
  put(out, "cgroupsPath", spec.cgroups_path);
  put(out, "resources", resources_json(spec.resources));
  put(out, "rootfsPropagation", spec.rootfs_propagation);
  if (spec.seccomp) out["seccomp"] = seccomp_json(*spec.seccomp);
  put(out, "sysctl", text_map(spec.sysctl));
  put(out, "maskedPaths", texts(spec.masked_paths));
  put(out, "readonlyPaths", texts(spec.readonly_paths));
  put(out, "mountLabel", spec.mount_label);
  put_rare_fields(out, spec);
  return out;
}

void put_scheduling(json::object& out, const Process& process) {
  if (process.scheduler) {
    const Scheduler& scheduler = *process.scheduler;
    json::object item{{"policy", scheduler.policy}};
    if (scheduler.nice != 0) item["nice"] = scheduler.nice;
    if (scheduler.priority != 0) item["priority"] = scheduler.priority;
    put(item, "flags", texts(scheduler.flags));
    if (scheduler.runtime_ns != 0) item["runtime"] = scheduler.runtime_ns;
    if (scheduler.deadline_ns != 0) item["deadline"] = scheduler.deadline_ns;
    if (scheduler.period_ns != 0) item["period"] = scheduler.period_ns;
    out["scheduler"] = std::move(item);
  }
  if (process.io_priority)
    out["ioPriority"] = json::object{{"class", process.io_priority->io_class}, {"priority", process.io_priority->priority}};
  if (process.exec_cpu_affinity) {
    json::object item;
    put(item, "initial", process.exec_cpu_affinity->initial);
    put(item, "final", process.exec_cpu_affinity->final);
    out["execCPUAffinity"] = std::move(item);
  }
}

}  // namespace

json::value to_json(const Process& process) {
  json::object out;
  out["terminal"] = process.terminal;
  if (process.console_size)
    out["consoleSize"] = json::object{{"height", process.console_size->height}, {"width", process.console_size->width}};
  json::object user{{"uid", process.user.uid}, {"gid", process.user.gid}};
  put(user, "umask", process.user.umask);
  json::array groups;
  for (auto gid : process.user.additional_gids) groups.push_back(gid);
  put(user, "additionalGids", std::move(groups));
  out["user"] = std::move(user);
  out["args"] = texts(process.args);
  put(out, "env", texts(process.env));
  out["cwd"] = process.cwd;
  if (process.capabilities) {
    json::object sets;
    put(sets, "bounding", texts(process.capabilities->bounding));
    put(sets, "effective", texts(process.capabilities->effective));
    put(sets, "permitted", texts(process.capabilities->permitted));
    put(sets, "inheritable", texts(process.capabilities->inheritable));
    put(sets, "ambient", texts(process.capabilities->ambient));
    out["capabilities"] = std::move(sets);
  }
  json::array limits;
  for (const auto& limit : process.rlimits)
    limits.push_back(json::object{{"type", limit.type}, {"soft", limit.soft}, {"hard", limit.hard}});
  put(out, "rlimits", std::move(limits));
  out["noNewPrivileges"] = process.no_new_privileges;
  put(out, "apparmorProfile", process.apparmor_profile);
  put(out, "selinuxLabel", process.selinux_label);
  put(out, "oomScoreAdj", process.oom_score_adj);
  put_scheduling(out, process);
  return out;
}

json::value to_json(const Spec& spec) {
  json::object out{{"ociVersion", spec.oci_version}};
  out["process"] = to_json(spec.process);
  out["root"] = json::object{{"path", spec.root.path}, {"readonly", spec.root.readonly}};
  put(out, "hostname", spec.hostname);
  put(out, "domainname", spec.domainname);
  json::array mounts;
  for (const auto& mount : spec.mounts) mounts.push_back(mount_json(mount));
  put(out, "mounts", std::move(mounts));
  json::object hooks;
  put(hooks, "prestart", hooks_json(spec.hooks.prestart));
  put(hooks, "createRuntime", hooks_json(spec.hooks.create_runtime));
  put(hooks, "createContainer", hooks_json(spec.hooks.create_container));
  put(hooks, "startContainer", hooks_json(spec.hooks.start_container));
  put(hooks, "poststart", hooks_json(spec.hooks.poststart));
  put(hooks, "poststop", hooks_json(spec.hooks.poststop));
  put(out, "hooks", std::move(hooks));
  put(out, "annotations", text_map(spec.annotations));
  out["linux"] = linux_json(spec);
  return out;
}

}  // namespace caisson::runtime
