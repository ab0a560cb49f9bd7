// Construction, access, events and paths: what all verbs share.
#include "base/json.hpp"
#include "base/log.hpp"
#include "base/ids.hpp"
#include "base/strings.hpp"
#include "engine/apparmor.hpp"
#include "engine/local_engine.hpp"
#include "engine/mount_points.hpp"
#include "linux/process.hpp"
#include "linux/sysinfo.hpp"
#include "linux/trace_events.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {

namespace {
constexpr unsigned background_threads = 2;  // one slow teardown (a process in D state) must not hold up all others

}  // namespace

std::string_view to_string(State state) {
  switch (state) {
    case State::creating: return "creating";
    case State::created: return "created";
    case State::running: return "running";
    case State::paused: return "paused";
    case State::restarting: return "restarting";
    case State::removing: return "removing";
    case State::exited: return "exited";
    case State::dead: return "dead";
  }
  return "dead";
}

LocalEngine::LocalEngine(LocalOptions options, LocalParts parts)
    : options_(std::move(options)),
      audit_(options_.audit_log),
      store_(std::move(parts.store)),
      registries_(std::move(parts.registries)),
      images_(std::move(parts.images)),
      network_(std::move(parts.network)),
      make_dns_(std::move(parts.make_dns)),
      make_runtime_(std::move(parts.make_runtime)),
      settings_(std::make_shared<const Settings>(options_.settings)),
      ranges_(options_.rootless ? options_.shared_ids : 0),
      repairs_(parts.repairs),
      state_damage_(std::move(parts.repairs)),
      shippers_(options_.journal_socket),
      health_checks_({[this](const std::string& id, const std::string& exec_id, UniqueFd client) { return begin_probe(id, exec_id, std::move(client)); },
                      [this](const std::string& id, ProbeResult result) { return end_probe(id, std::move(result)); }}),
      pool_(options_.start_pool, pool_source()),
      refusals_([this](const linux::AuditRecord& record) {
        auto container = container_of_process(record.pid);
        if (!container && record.uid) container = container_of_user(*record.uid);  // it is gone: who it was remains
        return container ? container->id : execs_.container_of(record.pid);
      }) {}

LocalEngine::~LocalEngine() {
  {
    std::lock_guard lock(learning_mutex_);
    learning_.clear();  // their threads ask for containers, and the runtime for figures
  }
  refusals_.finish();
  health_checks_.finish();
  shippers_.finish();
  compressor_.finish();
  worker_.finish();   // its tasks use the runtime
  pool_.drain();      // its links hang on the bridge
  if (is_open_) leave_host();
  runtime_.reset();   // its events use everything
}

Status LocalEngine::open() {
  started_at_ = now_ns();
  boot_id_ = TRY(linux::boot_id(), "open the engine");
  host_.cpus = static_cast<std::uint32_t>(linux::cpu_count());
  host_.memory_bytes = TRY(linux::total_memory_bytes(), "open the engine");
  for (const auto& dir : {options_.root + "/containers", options_.root + "/volumes", options_.exec_root + "/containers"})
    TRY(linux::make_dirs(dir, 0700), "open the engine");
  TRY(make_mount_points(mount_points_dir()), "open the engine");
  // A store's id tells clients whether they still speak to the same engine; it is made once.
  auto id = store_->get("engine/id");
  if (id.ok()) {
    auto value = TRY(parse_json(id->value, "engine/id"), "open the engine");
    TRY(JsonView(value, "engine/id").read(engine_id_), "open the engine");
  } else if (id.error().kind() == ErrorKind::not_found) {
    engine_id_ = random_id();
    state::Transaction transaction;
    transaction.put("engine/id", caisson::to_text(json::value(engine_id_)));
    TRY(store_->commit(transaction), "open the engine");
  } else {
    return std::move(id).error().in("open the engine");
  }
  for (const auto& repair : repairs_) log(LogLevel::warning, "recover", "state", repair);
  TRY(remember_cgroup_parent(), "open the engine");
  if (options_.loads_apparmor) {
    auto loaded = load_default_apparmor();
    if (!loaded.ok()) note_repair(concat("containers run without an AppArmor profile: ", loaded.error().text()));
    else if (*loaded) apparmor_default_ = default_apparmor_name;
  }
  runtime_ = TRY(make_runtime_(*this), "open the engine");
  TRY_PLAIN(recover());
  is_open_ = true;
  worker_.start(background_threads);
  if (options_.hears_refusals) {
    if (auto heard = refusals_.begin(); !heard.ok()) log_error("refusals", "the kernel's audit records", heard.error());
    auto removed = linux::remove_trace_instances(concat("caisson-", engine_id_.substr(0, 12), "-"));  // of a daemon that was killed
    if (!removed.ok() && removed.error().kind() != ErrorKind::unsupported) log_error("learn", "trace", removed.error());
  }
  return {};
}

Result<std::unique_ptr<Engine>> open_local_engine(LocalOptions options, LocalParts parts) {
  auto engine = std::make_unique<LocalEngine>(std::move(options), std::move(parts));
  TRY_PLAIN(engine->open());
  return std::unique_ptr<Engine>(std::move(engine));
}

void LocalEngine::publish(const Record& record, std::string action, std::map<std::string, std::string> more) {
  Event event;
  event.type = "container";
  event.action = std::move(action);
  event.actor_id = record.info.id;
  event.attributes = record.info.spec.labels;
  event.labels = given_labels(record.info.spec);
  event.project = policy::project_of(event.labels, record.info.id);
  event.attributes["image"] = record.info.spec.image;
  event.attributes["name"] = record.info.name;
  event.attributes.merge(more);
  events_->publish(std::move(event));
}

void LocalEngine::publish_object(std::string type, std::string action, std::string id, std::map<std::string, std::string> attributes, policy::Labels labels) {
  Event event;
  event.type = std::move(type);
  event.action = std::move(action);
  event.actor_id = std::move(id);
  event.attributes = std::move(attributes);
  event.project = policy::project_of(labels, "");
  event.labels = std::move(labels);
  events_->publish(std::move(event));
}

void LocalEngine::note_repair(std::string text) {
  log(LogLevel::warning, "recover", "", text);
  std::lock_guard lock(repairs_mutex_);
  repairs_.push_back(std::move(text));
}

std::string LocalEngine::log_path_of(const Record& record) const {
  if (record.info.spec.log_driver == "none") return "";
  return log_file_of(record.info.id);
}

runtime::LogPolicy LocalEngine::log_policy_of(const Record& record) const {
  runtime::LogPolicy policy;
  policy.path = log_path_of(record);
  // create() refused what cannot be read.
  const LogLimits limits = file_limits_of(record.info.spec).value_or(LogLimits{});
  policy.max_size_bytes = limits.max_size_bytes;
  policy.max_files = limits.max_files;
  policy.attributes = attributes_json(record.info).value_or("");
  if (policy.attributes.size() > runtime::LogPolicy::longest_attributes) policy.attributes.clear();  // a record would hold more labels than log
  return policy;
}

std::shared_ptr<const Settings> LocalEngine::settings() const {
  std::lock_guard lock(settings_mutex_);
  return settings_;
}

std::string LocalEngine::cgroups_path_of(const Record& record) const {
  if (!options_.has_cgroups) return "";
  const auto& parent = record.info.spec.cgroup_parent;
  return cgroup_below(parent.empty() ? options_.cgroup_parent : parent, record.info.id);
}

std::string LocalEngine::cgroup_below(const std::string& parent, const std::string& id) const {
  if (!options_.systemd) return concat(parent, "/", id);
  const std::string slice = slice_of_parent(parent);
  auto path = linux::systemd_cgroup_path(concat(slice, ":caisson:", id), id, *options_.systemd);
  // A parent that is no slice was given by a user: the start of that container names it as wrong.
  return path ? std::move(path).value() : concat("systemd:/", parent, "/caisson-", id, ".scope");
}

std::string slice_of_parent(std::string_view parent) {
  if (parent.starts_with('/')) parent.remove_prefix(1);
  std::string out = replace_all(parent, "/", "-");
  return out.ends_with(".slice") ? out : out + ".slice";
}

void LocalEngine::fill_derived(ContainerInfo& info) const {
  const std::string dir = container_dir(info.id);
  bool joins_network = !container_of_mode(info.spec.network.mode).empty();
  if (!joins_network) {
    info.hostname_path = dir + "/hostname";
    info.hosts_path = dir + "/hosts";
    info.resolv_conf_path = dir + "/resolv.conf";
  }
  info.upper_dir = dir + "/upper";
  info.work_dir = dir + "/work";
  info.spec.name = info.name;
}

}  // namespace caisson::engine
