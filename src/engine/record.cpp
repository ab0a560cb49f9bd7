// The field lists of everything that is stored.
#include "engine/record.hpp"

#include "engine/record_codec.hpp"

namespace caisson::engine {

template <class C>
void fields(C& c, image::Healthcheck& h) {
  c("test", h.test);
  c("interval_ns", h.interval_ns);
  c("timeout_ns", h.timeout_ns);
  c("start_period_ns", h.start_period_ns);
  c("start_interval_ns", h.start_interval_ns);
  c("retries", h.retries);
}
template <class C>
void fields(C& c, network::PortBinding& p) {
  c("protocol", p.protocol);
  c("container_port", p.container_port);
  c("host_ip", p.host_ip);
  c("host_port", p.host_port);
}
template <class C>
void fields(C& c, runtime::ConsoleSize& s) {
  c("height", s.height);
  c("width", s.width);
}
template <class C>
void fields(C& c, MountSpec& m) {
  c("type", m.type);
  c("source", m.source);
  c("target", m.target);
  c("read_only", m.read_only);
  c("propagation", m.propagation);
  c("non_recursive", m.non_recursive);
  c("create_source", m.create_source);
  c("no_copy", m.no_copy);
  c("subpath", m.subpath);
  c("driver", m.driver);
  c("driver_options", m.driver_options);
  c("labels", m.labels);
  c("tmpfs_size_bytes", m.tmpfs_size_bytes);
  c("tmpfs_mode", m.tmpfs_mode);
  c("options", m.options);
  c("origin", m.origin);
  c("within", m.within);
  c("without_owners", m.without_owners);
  c("of_step", m.of_step);
}
template <class C>
void fields(C& c, Ulimit& u) {
  c("name", u.name);
  c("soft", u.soft);
  c("hard", u.hard);
}
template <class C>
void fields(C& c, DeviceSpec& d) {
  c("path_on_host", d.path_on_host);
  c("path_in_container", d.path_in_container);
  c("permissions", d.permissions);
}
template <class C>
void fields(C& c, DeviceRequest& d) {
  c("driver", d.driver);
  c("count", d.count);
  c("device_ids", d.device_ids);
  c("capabilities", d.capabilities);
}
template <class C>
void fields(C& c, WeightDevice& d) {
  c("path", d.path);
  c("weight", d.weight);
}
template <class C>
void fields(C& c, ThrottleDevice& d) {
  c("path", d.path);
  c("rate", d.rate);
}
template <class C>
void fields(C& c, ResourceSpec& r) {
  c("memory_bytes", r.memory_bytes);
  c("memory_swap_bytes", r.memory_swap_bytes);
  c("memory_reservation_bytes", r.memory_reservation_bytes);
  c("memory_swappiness", r.memory_swappiness);
  c("oom_kill_disable", r.oom_kill_disable);
  c("nano_cpus", r.nano_cpus);
  c("cpu_quota_us", r.cpu_quota_us);
  c("cpu_period_us", r.cpu_period_us);
  c("cpu_shares", r.cpu_shares);
  c("cpu_realtime_period_us", r.cpu_realtime_period_us);
  c("cpu_realtime_runtime_us", r.cpu_realtime_runtime_us);
  c("cpuset_cpus", r.cpuset_cpus);
  c("cpuset_mems", r.cpuset_mems);
  c("pids_limit", r.pids_limit);
  c("blkio_weight", r.blkio_weight);
  c("blkio_weight_devices", r.blkio_weight_devices);
  c("blkio_read_bps", r.blkio_read_bps);
  c("blkio_write_bps", r.blkio_write_bps);
  c("blkio_read_iops", r.blkio_read_iops);
  c("blkio_write_iops", r.blkio_write_iops);
}
template <class C>
void fields(C& c, RestartPolicy& p) {
  c("condition", p.condition);
  c("maximum_retry_count", p.maximum_retry_count);
}
template <class C>
void fields(C& c, EndpointSpec& e) {
  c("network", e.network);
  c("network_id", e.network_id);
  c("ipv4", e.ipv4);
  c("ipv6", e.ipv6);
  c("link_local", e.link_local);
  c("mac", e.mac);
  c("aliases", e.aliases);
  c("links", e.links);
  c("driver_options", e.driver_options);
  c("gateway_priority", e.gateway_priority);
}
template <class C>
void fields(C& c, NetworkSpec& n) {
  c("mode", n.mode);
  c("endpoints", n.endpoints);
  if constexpr (std::is_same_v<C, RecordReader>) {
    // A container of a build that knew one network each has its settings here.
    EndpointSpec only;
    c("ipv4", only.ipv4);
    c("mac", only.mac);
    c("aliases", only.aliases);
    only.network = n.mode;
    if (n.endpoints.empty() && !(only.ipv4.empty() && only.mac.empty() && only.aliases.empty())) n.endpoints.push_back(std::move(only));
  }
}
template <class C>
void fields(C& c, ContainerSpec& s) {
  c("image", s.image);
  c("platform", s.platform);
  c("entrypoint", s.entrypoint);
  c("cmd", s.cmd);
  c("env", s.env);
  c("working_dir", s.working_dir);
  c("user", s.user);
  c("groups", s.groups);
  c("hostname", s.hostname);
  c("domainname", s.domainname);
  c("tty", s.tty);
  c("open_stdin", s.open_stdin);
  c("stdin_once", s.stdin_once);
  c("attach_stdin", s.attach_stdin);
  c("attach_stdout", s.attach_stdout);
  c("attach_stderr", s.attach_stderr);
  c("console_size", s.console_size);
  c("labels", s.labels);
  c("image_labels", s.image_labels);
  c("annotations", s.annotations);
  c("mounts", s.mounts);
  c("volumes_from", s.volumes_from);
  c("exposed_ports", s.exposed_ports);
  c("ports", s.ports);
  c("publish_all_ports", s.publish_all_ports);
  c("network", s.network);
  c("dns", s.dns);
  c("dns_search", s.dns_search);
  c("dns_options", s.dns_options);
  c("extra_hosts", s.extra_hosts);
  c("links", s.links);
  c("cap_add", s.cap_add);
  c("cap_drop", s.cap_drop);
  c("privileged", s.privileged);
  c("seccomp", s.seccomp);
  c("apparmor_profile", s.apparmor_profile);
  c("no_new_privileges", s.no_new_privileges);
  c("log_refusals", s.log_refusals);
  c("nesting", s.nesting);
  c("security_options", s.security_options);
  c("read_only_rootfs", s.read_only_rootfs);
  c("masked_paths", s.masked_paths);
  c("readonly_paths", s.readonly_paths);
  c("ulimits", s.ulimits);
  c("resources", s.resources);
  c("cgroup_parent", s.cgroup_parent);
  c("oom_score_adj", s.oom_score_adj);
  c("devices", s.devices);
  c("device_requests", s.device_requests);
  c("device_cgroup_rules", s.device_cgroup_rules);
  c("sysctls", s.sysctls);
  c("shm_size_bytes", s.shm_size_bytes);
  c("storage_size_bytes", s.storage_size_bytes);
  c("init", s.init);
  c("auto_remove", s.auto_remove);
  c("restart", s.restart);
  c("stop_signal", s.stop_signal);
  c("stop_timeout_s", s.stop_timeout_s);
  c("log_driver", s.log_driver);
  c("log_options", s.log_options);
  c("userns_mode", s.userns_mode);
  c("pid_mode", s.pid_mode);
  c("ipc_mode", s.ipc_mode);
  c("uts_mode", s.uts_mode);
  c("cgroupns_mode", s.cgroupns_mode);
  c("healthcheck", s.healthcheck);
  c("shell", s.shell);
  c("runtime_name", s.runtime_name);
  c("client_data", s.client_data);
}
template <class C>
void fields(C& c, MountPoint& m) {
  c("type", m.type);
  c("name", m.name);
  c("source", m.source);
  c("destination", m.destination);
  c("driver", m.driver);
  c("mode", m.mode);
  c("read_write", m.read_write);
  c("propagation", m.propagation);
  c("anonymous", m.anonymous);
}
template <class C>
void fields(C& c, ProbeResult& p) {
  c("start", p.start);
  c("end", p.end);
  c("exit_code", p.exit_code);
  c("output", p.output);
}
template <class C>
void fields(C& c, Health& h) {
  c("status", h.status);
  c("failing_streak", h.failing_streak);
  c("log", h.log);
}
template <class C>
void fields(C& c, Record& r) {
  c("id", r.info.id);
  c("name", r.info.name);
  c("created", r.info.created);
  c("spec", r.info.spec);
  c("args", r.info.args);
  c("image_id", r.info.image_id);
  c("state", r.info.state);
  c("exit_code", r.info.exit_code);
  c("exit_status_lost", r.info.exit_status_lost);
  c("error", r.info.error);
  c("oom_killed", r.info.oom_killed);
  c("pid", r.info.pid);
  c("started_at", r.info.started_at);
  c("finished_at", r.info.finished_at);
  c("restart_count", r.info.restart_count);
  c("mounts", r.info.mounts);
  c("warnings", r.info.warnings);
  c("log_drops", r.info.log_drops);
  c("first_host_id", r.info.first_host_id);
  c("stopped_by_user", r.info.stopped_by_user);
  c("creator_who", r.info.creator.who);
  c("creator_role", r.info.creator.role);
  c("creator_labels", r.info.creator.labels);
  c("health", r.info.health);
  c("start_time", r.start_time);
  c("boot_id", r.boot_id);
  c("cgroups_path", r.cgroups_path);
}
template <class C>
void fields(C& c, Garbage& g) {
  c("id", g.id);
  c("cgroups_path", g.cgroups_path);
  c("first_host_id", g.first_host_id);
  c("volumes", g.volumes);
  c("anonymous_volumes", g.anonymous_volumes);
}
template <class C>
void fields(C& c, VolumeInfo& v) {
  c("name", v.name);
  c("driver", v.driver);
  c("created", v.created);
  c("labels", v.labels);
  c("options", v.options);
  c("anonymous", v.anonymous);
}

namespace {
template <class T>
Result<T> parse_as(std::string_view text, std::string_view what) {
  auto document = parse_json(text, what);
  if (!document.ok()) return std::move(document).error().with_kind(ErrorKind::corrupt);
  T out;
  auto status = from_record_value(JsonView(*document, std::string(what)), out);
  if (!status.ok()) return std::move(status).error().with_kind(ErrorKind::corrupt);
  return out;
}
}  // namespace

std::string to_text(const Record& record) { return caisson::to_text(to_record_value(record)); }
std::string to_text(const Garbage& garbage) { return caisson::to_text(to_record_value(garbage)); }
std::string to_text(const VolumeInfo& volume) { return caisson::to_text(to_record_value(volume)); }

std::string quoted(const std::string& text) { return caisson::to_text(json::string(text)); }

Result<Record> parse_record(std::string_view text) {
  auto record = TRY_PLAIN(parse_as<Record>(text, "container record"));
  if (record.info.id.size() != 64) return Error(ErrorKind::corrupt, "container record: id: want 64 hex digits");
  if (record.info.state > State::dead) return Error(ErrorKind::corrupt, "container record: state: unknown value");
  record.info.spec.name = record.info.name;
  return record;
}
Result<Garbage> parse_garbage(std::string_view text) { return parse_as<Garbage>(text, "garbage record"); }
Result<VolumeInfo> parse_volume(std::string_view text) { return parse_as<VolumeInfo>(text, "volume record"); }

}  // namespace caisson::engine
