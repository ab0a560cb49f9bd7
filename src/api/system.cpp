// /_ping, /version, /info, /events, /system/df, and the clear answers for what is not there.
#include <map>
#include <set>

#include "api/api.hpp"
#include "api/handlers.hpp"
#include "api/json_out.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"

namespace caisson::api {

namespace {

constexpr std::string_view go_architecture(std::string_view machine) {
  if (machine == "x86_64") return "amd64";
  if (machine == "aarch64") return "arm64";
  return machine;
}

}  // namespace

Status ping(Request& request) {
  auto headers = common_headers();
  headers.emplace_back("Builder-Version", "1");  // "2" would make clients open /session and /grpc
  headers.emplace_back("Swarm", "inactive");
  headers.emplace_back("Cache-Control", "no-cache, no-store, must-revalidate");
  headers.emplace_back("Pragma", "no-cache");
  headers.emplace_back("Content-Type", "text/plain; charset=utf-8");
  return request.exchange.respond(200, headers, request.exchange.method() == "HEAD" ? "" : "OK");
}

Status show_version(Request& request) {
  auto info = TRY_PLAIN(request.engine.info(request.caller));
  const auto arch = go_architecture(info.architecture);
  const std::string experimental = "false";
  json::object details{{"ApiVersion", api_version},  {"Arch", arch},
                       {"BuildTime", ""},            {"Experimental", experimental},
                       {"GitCommit", ""},            {"GoVersion", ""},
                       {"KernelVersion", info.kernel_version}, {"MinAPIVersion", min_api_version},
                       {"Os", "linux"}};
  json::object component{{"Name", "Engine"}, {"Version", info.version}, {"Details", std::move(details)}};
  return request.reply_json(200, json::object{{"Platform", json::object{{"Name", "Caisson"}}},
                                              {"Components", json::array{std::move(component)}},
                                              {"Version", info.version},
                                              {"ApiVersion", api_version},
                                              {"MinAPIVersion", min_api_version},
                                              {"GitCommit", ""},
                                              {"GoVersion", ""},
                                              {"Os", "linux"},
                                              {"Arch", arch},
                                              {"KernelVersion", info.kernel_version},
                                              {"BuildTime", ""}});
}

Status show_info(Request& request) {
  auto info = TRY_PLAIN(request.engine.info(request.caller));
  json::object out;
  out["ID"] = info.id;
  out["Containers"] = info.containers;
  out["ContainersRunning"] = info.containers_running;
  out["ContainersPaused"] = info.containers_paused;
  out["ContainersStopped"] = info.containers_stopped;
  out["Images"] = info.images;
  out["Driver"] = "overlay2";
  out["DriverStatus"] = json::array{json::array{"Supports d_type", "true"}, json::array{"Native Overlay Diff", "true"}, json::array{"userxattr", "false"},
                                    json::array{"Snapshot form", info.snapshot_form},
                                    json::array{"Store use", human_size_binary(info.store_used_bytes)},
                                    json::array{"Store quota", info.store_quota_bytes == 0 ? "none" : human_size_binary(info.store_quota_bytes)}};
  out["Policy"] = info.policy_path.empty() ? "built in" : info.policy_path;
  out["ImageStore"] = json::object{{"UsedBytes", info.store_used_bytes}, {"QuotaBytes", info.store_quota_bytes}};  // ours; 0: no quota
  out["Plugins"] = json::object{{"Volume", json::array{"local"}},
                                {"Network", json::array{"bridge", "host", "macvlan", "null"}},
                                {"Authorization", nullptr},
                                {"Log", texts(info.log_drivers)}};
  out["MemoryLimit"] = info.memory_limit;
  out["SwapLimit"] = info.swap_limit;
  out["CpuCfsPeriod"] = info.cpu_quota;
  out["CpuCfsQuota"] = info.cpu_quota;
  out["CPUShares"] = true;
  out["CPUSet"] = true;
  out["PidsLimit"] = info.pids_limit;
  out["IPv4Forwarding"] = true;
  out["BridgeNfIptables"] = false;
  out["BridgeNfIp6tables"] = false;
  out["Debug"] = info.debug;
  out["NFd"] = info.open_fds;
  out["OomKillDisable"] = info.cgroup_version == "1";
  out["NGoroutines"] = info.threads;
  out["SystemTime"] = to_rfc3339(now_ns());
  out["LoggingDriver"] = info.log_driver;
  out["CgroupDriver"] = info.cgroup_driver;
  out["CgroupVersion"] = info.cgroup_version;
  out["NEventsListener"] = info.events_listeners;
  out["KernelVersion"] = info.kernel_version;
  out["OperatingSystem"] = info.operating_system;
  out["OSVersion"] = info.os_version;
  out["OSType"] = "linux";
  out["Architecture"] = info.architecture;
  out["IndexServerAddress"] = "https://index.docker.io/v1/";
  out["RegistryConfig"] = json::object{{"AllowNondistributableArtifactsCIDRs", json::array{}},
                                       {"AllowNondistributableArtifactsHostnames", json::array{}},
                                       {"InsecureRegistryCIDRs", json::array{"127.0.0.0/8"}},
                                       {"IndexConfigs", json::object{}},
                                       {"Mirrors", json::array{}}};
  out["NCPU"] = info.cpus;
  out["MemTotal"] = info.memory_bytes;
  out["GenericResources"] = nullptr;
  out["DockerRootDir"] = info.root_dir;
  out["HttpProxy"] = "";
  out["HttpsProxy"] = "";
  out["NoProxy"] = "";
  out["Name"] = info.name;
  out["Labels"] = texts(info.labels);
  out["ExperimentalBuild"] = false;
  out["ServerVersion"] = info.version;
  out["Runtimes"] = json::object{{"caisson", json::object{{"path", "caisson-runtime"}}}, {"runc", json::object{{"path", "caisson-runtime"}}}};
  out["DefaultRuntime"] = "caisson";
  out["Swarm"] = json::object{{"NodeID", ""},      {"NodeAddr", ""}, {"LocalNodeState", "inactive"}, {"ControlAvailable", false},
                              {"Error", ""},       {"RemoteManagers", nullptr}};
  out["LiveRestoreEnabled"] = true;  // containers outlive the daemon, always
  out["Isolation"] = "";
  out["InitBinary"] = "caisson-runtime";
  out["ContainerdCommit"] = json::object{{"ID", ""}, {"Expected", ""}};
  out["RuncCommit"] = json::object{{"ID", ""}, {"Expected", ""}};
  out["InitCommit"] = json::object{{"ID", ""}, {"Expected", ""}};
  out["SecurityOptions"] = texts(info.security_options);
  out["CDISpecDirs"] = texts(info.cdi_spec_dirs);
  std::vector<std::string> warnings = info.warnings;
  if (info.lost_audit_lines != 0) warnings.push_back(concat("the audit log lost ", info.lost_audit_lines, " lines: the daemon's log says why"));
  for (const auto& repair : info.repairs) warnings.push_back(concat("repaired at start: ", repair));
  out["Warnings"] = texts_or_null(warnings);
  return request.reply_json(200, out);
}

// -- who asks

Status show_identity(Request& request) {
  const auto& caller = request.caller;
  if (!caller.role) return Error(ErrorKind::denied, "you have no role here");
  const auto& role = *caller.role;
  json::array may;
  for (const auto& verb : policy::all_verbs())
    if (role.allows(verb.verb)) may.emplace_back(verb.name);
  json::object out{{"Who", caller.who}, {"Role", role.name}, {"Origin", role.origin}, {"May", std::move(may)}, {"Project", role.scope.project}};
  json::object labels;
  for (const auto& [key, value] : role.scope.labels) labels[key] = value;
  out["Labels"] = std::move(labels);
  out["Bounds"] = nullptr;
  if (!role.bounds) return request.reply_json(200, out);
  const auto& bounds = *role.bounds;
  auto ranges = [](const std::vector<policy::Range>& list) {
    json::array texts;
    for (const auto& range : list) texts.emplace_back(range.first == range.last ? concat(range.first) : concat(range.first, "-", range.last));
    return texts;
  };
  json::array binds;
  for (const auto& grant : bounds.binds) binds.emplace_back(concat(grant.path, grant.read_only ? ":ro" : "", grant.keeps_owners ? ":owners" : ""));
  out["Bounds"] = json::object{{"Privileged", bounds.privileged},
                               {"Unconfined", bounds.unconfined},
                               {"CgroupParent", bounds.cgroup_parent},
                               {"VolumeOptions", bounds.volume_options},
                               {"Capabilities", texts(bounds.capabilities)},
                               {"Binds", std::move(binds)},
                               {"Devices", texts(bounds.devices)},
                               {"HostNamespaces", texts(bounds.host_namespaces)},
                               {"Images", texts(bounds.images)},
                               {"Networks", texts(bounds.networks)},
                               {"LogDrivers", texts(bounds.log_drivers)},
                               {"Users", ranges(bounds.users)},
                               {"Ports", ranges(bounds.ports)},
                               {"Memory", bounds.memory_bytes},
                               {"NanoCpus", bounds.nano_cpus},
                               {"Pids", bounds.pids}};
  return request.reply_json(200, out);
}

// -- events

namespace {

bool wanted(const Filters& filters, const engine::Event& event) {
  auto attribute = [&](const char* key) {
    auto found = event.attributes.find(key);
    return found == event.attributes.end() ? std::string() : found->second;
  };
  if (!filters.exact("type", event.type) || !filters.exact("scope", "local")) return false;
  // "exec_start: sh -c x" is asked for as exec_start; with one of these three Docker compares beginnings only (moby #25798).
  const auto& actions = filters.get("event");
  const bool by_beginning = std::any_of(actions.begin(), actions.end(), [](const std::string& asked) {
    return asked == "health_status" || asked == "exec_create" || asked == "exec_start";
  });
  if (by_beginning ? !filters.prefix("event", event.action) : !filters.exact("event", event.action)) return false;
  if (!filters.labels("label", event.attributes)) return false;
  // Names and ids by their beginnings, as Docker has it.
  auto names = [&](std::string_view type) {
    if (!filters.has(type)) return true;
    return event.type == type && (filters.prefix(type, event.actor_id) || filters.prefix(type, attribute("name")) || filters.prefix(type, slashed(attribute("name"))));
  };
  for (auto type : {"container", "volume", "network", "daemon", "plugin", "service", "node", "secret", "config"})
    if (!names(type)) return false;
  if (!filters.has("image")) return true;
  // Of an image event the image itself, of a container's its image.
  const std::string image = event.type == "image" ? attribute("name") : attribute("image");
  return filters.exact("image", image) || filters.exact("image", split_last(image, ':').before) || filters.exact("image", event.actor_id);
}

std::string event_line(const engine::Event& event) {
  json::object out;
  if (event.type == "container" || event.type == "image") {
    out["status"] = event.action;
    out["id"] = event.actor_id;
  }
  if (event.type == "container") {
    if (auto image = event.attributes.find("image"); image != event.attributes.end()) out["from"] = image->second;
  }
  out["Type"] = event.type;
  out["Action"] = event.action;
  out["Actor"] = json::object{{"ID", event.actor_id}, {"Attributes", text_map(event.attributes)}};
  out["scope"] = "local";
  out["time"] = unix_seconds(event.time);
  out["timeNano"] = event.time;
  return to_text(out) + "\n";
}

Result<TimestampNs> point_in_time(const Query& query, std::string_view name) {
  const std::string text = query.text(name);
  if (text.empty() || text == "0") return TimestampNs{0};
  return TRY(parse_point_in_time(text, now_ns()), concat("query parameter ", name));
}

}  // namespace

Status stream_events(Request& request) {
  engine::EventOptions options;
  options.since = TRY_PLAIN(point_in_time(request.query, "since"));
  options.until = TRY_PLAIN(point_in_time(request.query, "until"));
  if (options.since != 0 && options.until != 0 && options.until < options.since)
    return Error(ErrorKind::invalid, "`since` time cannot be after `until` time");
  auto filters = TRY_PLAIN(Filters::parse(request.query.text("filters"),
                                          {"config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope",
                                           "secret", "service", "type", "volume"}));
  auto stream = TRY_PLAIN(request.engine.events(request.caller, options));
  TRY_PLAIN(request.begin(200, "application/json"));
  for (;;) {
    auto event = stream->next(request.exchange.cancel());
    if (!event.ok()) {
      // The client left, or was too slow: the stream ends without its last chunk only in the second case.
      if (event.error().kind() == ErrorKind::timeout) return request.exchange.end();
      return std::move(event).error();
    }
    if (!*event) return request.exchange.end();
    if (wanted(filters, **event)) TRY_PLAIN(request.exchange.write(event_line(**event)));
  }
}

// -- disk usage

namespace {
/// `?type=`, since 1.42: which kinds are wanted; none named means all. Errors: invalid.
Result<std::vector<std::string>> wanted_types(const Request& request) {
  if (request.version < version_1_42) return std::vector<std::string>{};
  auto types = request.query.all("type");
  static constexpr std::string_view known[] = {"container", "image", "volume", "build-cache"};
  for (const auto& type : types)
    if (std::find(std::begin(known), std::end(known), type) == std::end(known)) return Error(ErrorKind::invalid, concat("unknown object type: ", type));
  return types;
}

/// How many images have each layer.
std::map<Digest, std::size_t> layer_uses(const std::vector<engine::ImageInfo>& images) {
  std::map<Digest, std::size_t> uses;
  for (const auto& info : images) {
    const std::set<Digest> layers(info.image.diff_ids.begin(), info.image.diff_ids.end());  // one image may have one twice
    for (const auto& layer : layers) ++uses[layer];
  }
  return uses;
}

/// Of the layers that other images have too.
std::uint64_t shared_bytes(const image::Image& image, const std::map<Digest, std::size_t>& uses, const std::map<Digest, std::uint64_t>& sizes) {
  std::uint64_t sum = 0;
  const std::set<Digest> layers(image.diff_ids.begin(), image.diff_ids.end());
  for (const auto& layer : layers)
    if (auto size = sizes.find(layer); size != sizes.end() && uses.at(layer) > 1) sum += size->second;
  return sum;
}
}  // namespace

Status show_disk_usage(Request& request) {
  auto types = TRY_PLAIN(wanted_types(request));
  auto is_wanted = [&](std::string_view type) { return types.empty() || std::find(types.begin(), types.end(), type) != types.end(); };
  auto usage = TRY_PLAIN(request.engine.disk_usage(request.caller));
  json::object out{{"LayersSize", is_wanted("image") ? usage.store_bytes : 0}, {"Images", nullptr}, {"Containers", nullptr}, {"Volumes", nullptr},
                   {"BuildCache", nullptr}, {"BuilderSize", 0}};
  if (is_wanted("image")) {
    out["LayersReclaimable"] = usage.unused_bytes;  // ours: docker's clients reckon with the sizes of images, which are not what the disk holds
    json::array images;
    const auto hidden = request.builder.hidden_images();
    std::erase_if(usage.images, [&](const engine::ImageInfo& image) { return image.image.repo_tags.empty() && hidden.contains(image.image.id.text()); });
    const auto uses = layer_uses(usage.images);
    for (const auto& image : usage.images) {
      auto entry = image_summary_json(image, request.version < version_1_44);
      entry["Containers"] = image.used_by.size();
      entry["SharedSize"] = shared_bytes(image.image, uses, usage.layers);
      images.push_back(std::move(entry));
    }
    out["Images"] = std::move(images);
  }
  if (is_wanted("container")) {
    json::array containers;
    for (const auto& container : usage.containers) containers.push_back(container_summary_json(container));
    out["Containers"] = std::move(containers);
  }
  if (is_wanted("volume")) {
    json::array volumes;
    for (const auto& volume : usage.volumes) volumes.push_back(volume_json(volume));
    out["Volumes"] = std::move(volumes);
  }
  if (is_wanted("build-cache")) {
    auto cache = TRY_PLAIN(request.builder.cache(request.caller));
    std::uint64_t cache_bytes = 0;
    for (const auto& entry : cache) cache_bytes += entry.size_bytes;
    out["BuildCache"] = build_cache_json(cache);
    out["BuilderSize"] = cache_bytes;
  }
  return request.reply_json(200, out);
}

// -- what is not there

Status list_plugins(Request& request) { return request.reply_json(200, json::array{}); }

Status no_such_plugin(Request& request) { return request.reply_error(404, concat("plugin \"", request.name, "\" not found")); }

Status refuse_plugin(Request& request) { return request.reply_error(501, "plugins are not supported: this engine loads no foreign code as root"); }

Status refuse_swarm(Request& request) {
  return request.reply_error(503,
                             "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to "
                             "swarm and try again.");
}

Status leave_no_swarm(Request& request) { return request.reply_error(503, "This node is not part of a swarm"); }

Status found_no_swarm(Request& request) { return request.reply_error(503, "swarm mode is not supported by this engine"); }

Status no_buildkit(Request& request) { return request.reply_error(404, "page not found"); }

}  // namespace caisson::api
