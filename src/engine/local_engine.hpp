// LocalEngine: the verbs over one host's parts. Each verb family is implemented in the file of its name.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/strings.hpp"
#include "engine/audit_log.hpp"
#include "engine/bounds.hpp"
#include "engine/container.hpp"
#include "engine/event_hub.hpp"
#include "engine/exec_table.hpp"
#include "engine/health_checks.hpp"
#include "engine/id_ranges.hpp"
#include "engine/learning.hpp"
#include "engine/links.hpp"
#include "engine/local.hpp"
#include "engine/log_compressor.hpp"
#include "engine/log_shipper.hpp"
#include "engine/name_table.hpp"
#include "engine/namespace_pool.hpp"
#include "engine/network_files.hpp"
#include "engine/refusals.hpp"
#include "engine/registry.hpp"
#include "engine/size_limit.hpp"
#include "engine/spec_builder.hpp"
#include "engine/volume_mounts.hpp"
#include "engine/worker.hpp"

namespace caisson::engine {

/// Named moments at which a test may stop the process, to show that the next start repairs what is left. Does nothing unless
/// CAISSON_CRASH_AT names the point.
void crash_point(std::string_view name);

using policy::Verb;

/// "/caisson" → "caisson.slice", "/a/b" → "a-b.slice", "x.slice" as it is.
std::string slice_of_parent(std::string_view parent);

class LocalEngine final : public Engine, public runtime::RuntimeObserver {
 public:
  LocalEngine(LocalOptions options, LocalParts parts);
  ~LocalEngine() override;
  /// The second half of construction: makes the runtime and recovers.
  Status open();

  // -- Engine, in the order of engine.hpp
  Caller identify(const Connection& connection) override;
  Status authorize(const Caller& caller, Verb verb, std::string_view object) const override;
  Result<CreateResult> create(const Caller& caller, ContainerSpec spec) override;
  Result<CreateResult> create_step(const Caller& caller, StepSpec step) override;
  Result<Changed> start(const Caller& caller, const std::string& name) override;
  Result<Changed> stop(const Caller& caller, const std::string& name, const StopOptions& options) override;
  Status restart(const Caller& caller, const std::string& name, const StopOptions& options) override;
  Status kill(const Caller& caller, const std::string& name, const std::string& signal) override;
  Status pause(const Caller& caller, const std::string& name) override;
  Status unpause(const Caller& caller, const std::string& name) override;
  Status remove(const Caller& caller, const std::string& name, const RemoveOptions& options) override;
  Status rename(const Caller& caller, const std::string& name, const std::string& new_name) override;
  Result<std::vector<std::string>> update(const Caller& caller, const std::string& name, const UpdateSpec& changes) override;
  Result<std::unique_ptr<Waiter>> begin_wait(const Caller& caller, const std::string& name, WaitCondition condition) override;
  Result<ContainerInfo> inspect(const Caller& caller, const std::string& name, bool with_size) override;
  Result<std::vector<ContainerSummary>> list(const Caller& caller, const ListOptions& options) override;
  Result<TopResult> top(const Caller& caller, const std::string& name, const std::string& ps_arguments) override;
  Result<ContainerStats> stats(const Caller& caller, const std::string& name) override;
  Status logs(const Caller& caller, const std::string& name, const LogOptions& options, LogSink& sink, Cancel cancel) override;
  Status attach(const Caller& caller, const std::string& name, AttachOptions options) override;
  Status resize(const Caller& caller, const std::string& name, runtime::ConsoleSize size) override;
  Result<std::vector<FileChange>> changes(const Caller& caller, const std::string& name) override;
  Status export_container(const Caller& caller, const std::string& name, const ExportOptions& options, int target_fd, Cancel cancel) override;
  Result<image::PathStatus> stat_path(const Caller& caller, const std::string& name, const std::string& path) override;
  Status read_archive(const Caller& caller, const std::string& name, const std::string& path, const std::string& entry_name, int target_fd, Cancel cancel) override;
  Status write_archive(const Caller& caller, const std::string& name, const PlaceOptions& options, int source_fd, Cancel cancel) override;
  Result<image::Image> commit(const Caller& caller, const std::string& name, const CommitOptions& options, Cancel cancel) override;
  Result<SecurityReport> explain(const Caller& caller, const std::string& name) override;
  Status begin_learning(const Caller& caller, const std::string& name) override;
  Result<Learned> learned(const Caller& caller, const std::string& name) override;
  Result<Learned> end_learning(const Caller& caller, const std::string& name) override;
  Result<std::string> create_exec(const Caller& caller, const std::string& name, ExecSpec spec) override;
  Status start_exec(const Caller& caller, const std::string& exec_id, ExecStart options) override;
  Result<ExecInfo> inspect_exec(const Caller& caller, const std::string& exec_id) override;
  Status resize_exec(const Caller& caller, const std::string& exec_id, runtime::ConsoleSize size) override;
  Result<std::unique_ptr<EventStream>> events(const Caller& caller, const EventOptions& options) override;
  Result<VolumeInfo> create_volume(const Caller& caller, const VolumeSpec& spec) override;
  Result<std::vector<VolumeInfo>> list_volumes(const Caller& caller, bool with_size) override;
  Result<VolumeInfo> inspect_volume(const Caller& caller, const std::string& name) override;
  Status remove_volume(const Caller& caller, const std::string& name, bool force) override;
  Result<std::vector<NetworkInfo>> list_networks(const Caller& caller) override;
  Result<NetworkInfo> inspect_network(const Caller& caller, const std::string& name_or_id) override;
  Result<network::Network> create_network(const Caller& caller, const network::NetworkRequest& request) override;
  Status remove_network(const Caller& caller, const std::string& name_or_id) override;
  Status connect_network(const Caller& caller, const std::string& container, EndpointSpec wanted) override;
  Status disconnect_network(const Caller& caller, const std::string& network, const std::string& container, bool force) override;
  Result<std::vector<ImageInfo>> list_images(const Caller& caller) override;
  Result<ImageInfo> inspect_image(const Caller& caller, const std::string& name) override;
  Result<image::Image> import_image(const Caller& caller, const image::ImportRequest& request, const image::ProgressSink& progress, Cancel cancel) override;
  Result<std::vector<image::Image>> load_images(const Caller& caller, int source_fd, const image::ProgressSink& progress, Cancel cancel) override;
  Status save_images(const Caller& caller, const image::SaveRequest& request, int target_fd, Cancel cancel) override;
  Result<image::Image> bootstrap_image(const Caller& caller, const image::BootstrapRequest& request, const image::ProgressSink& progress, Cancel cancel) override;
  Result<std::vector<image::Image>> pull_images(const Caller& caller, const image::PullRequest& request, const image::ProgressSink& progress, Cancel cancel) override;
  Result<std::vector<image::PushedTag>> push_image(const Caller& caller, const image::PushRequest& request, const image::ProgressSink& progress, Cancel cancel) override;
  Result<std::string> login(const Caller& caller, const std::string& server, const image::RegistryCredentials& credentials, Cancel cancel) override;
  Result<std::vector<image::SearchHit>> search_images(const Caller& caller, const image::SearchRequest& request, Cancel cancel) override;
  Result<image::DistributionInfo> inspect_distribution(const Caller& caller, const std::string& reference, const image::RegistryCredentials& credentials, Cancel cancel) override;
  Result<image::VerifyReport> verify_image(const Caller& caller, const image::VerifyRequest& request, Cancel cancel) override;
  Result<Digest> attach_signature(const Caller& caller, const image::SignRequest& request, Cancel cancel) override;
  Status tag_image(const Caller& caller, const std::string& source, const std::string& target) override;
  Result<image::RemovedImage> remove_image(const Caller& caller, const std::string& name, bool force) override;
  Result<PruneResult> prune_containers(const Caller& caller, const ContainerFilter& filter) override;
  Result<PruneResult> prune_volumes(const Caller& caller, const VolumeFilter& filter) override;
  Result<PruneResult> prune_networks(const Caller& caller, const NetworkFilter& filter) override;
  Result<PruneResult> prune_images(const Caller& caller, const ImageFilter& filter) override;
  Result<DiskUsage> disk_usage(const Caller& caller) override;
  Result<SystemInfo> info(const Caller& caller) override;
  Status reload(const Caller& caller, Settings settings) override;

  // -- RuntimeObserver
  void container_exited(const std::string& id, const runtime::ExitStatus& status) override;
  void container_oom(const std::string& id) override;
  void exec_exited(const std::string& id, const std::string& exec_id, const runtime::ExitStatus& status) override;
  void monitor_replaced(const std::string& id, const Status& outcome) override;
  void client_detached(const std::string& id) override;

  /// The filter of a container's next start; none: unconfined, as privileged ones are. Errors: invalid, naming the field of its own profile. Pure.
  static Result<std::optional<runtime::SeccompProfile>> seccomp_of(const ContainerSpec& spec, const std::vector<std::string>& capabilities);

 private:
  using Pointer = Registry::Pointer;

  // -- access.cpp
  /// An object by which a verb is judged: what it is called, and whose it is.
  struct Object {
    std::string_view name;
    std::string_view id;
    const policy::Labels& labels;  ///< that people gave it
    std::string project;
  };
  Status permit(const Caller& caller, Verb verb, const Object& object) const;
  /// The verb is asked for first, so that nobody learns of names who may not ask for them at all; then the container is found and judged.
  Result<Pointer> find_for(const Caller& caller, Verb verb, const std::string& name);
  /// The scope, and how far the container reaches; the verb itself is permitted already.
  Status permit_container(const Caller& caller, Verb verb, const Record& record) const;
  Status permit_network(const Caller& caller, Verb verb, const network::Network& network) const;
  Status permit_volume(const Caller& caller, Verb verb, const VolumeInfo& volume) const;
  /// A network that containers of this role may be on.
  [[nodiscard]] static bool may_join(const policy::Role& role, const network::Network& network);
  Status check_networks(const policy::Role& role, const std::string& object, const NetworkSpec& networks);
  /// The scope and the bounds of the caller's role on a container that is to be: labels and limits are filled in, all else is refused.
  /// `image`: null when it is not the caller who has chosen it.
  Status bound_creation(const Caller& caller, ContainerInfo& info, const image::Image* image);
  Status put_in_scope_of(const Caller& caller, Verb verb, std::string_view object, policy::Labels& labels) const;
  /// The verb alone; what it is done to is judged, and written down, later.
  Status permit_verb(const Caller& caller, Verb verb, std::string_view object) const;
  Status check_partners(const policy::Role& role, const ContainerSpec& spec);
  void follow_own_socket(ContainerSpec& spec) const;
  /// The role that a container's networks are judged by when it starts; null: nothing bounds it.
  static policy::Creator creator_of(const Caller& caller);
  [[nodiscard]] policy::RolePointer role_of_creator(const policy::Creator& creator) const;
  static const policy::Role& role_of(const Caller& caller) { return caller.role ? *caller.role : *policy::built_in("none"); }
  /// Whether a caller is shown it in lists.
  [[nodiscard]] static bool sees(const Caller& caller, const network::Network& network);
  [[nodiscard]] static bool sees(const Caller& caller, const VolumeInfo& volume);
  [[nodiscard]] bool sees(const Caller& caller, const Record& record) const;
  /// Of a process of one of our containers; null when it is none.
  Pointer container_of_peer(const Connection& connection);
  /// By the cgroup that the container's first process is in.
  Pointer container_of_process(pid_t pid);
  /// By its range of ids.
  Pointer container_of_user(std::uint32_t uid);
  [[nodiscard]] Result<bool> is_of_host(pid_t pid) const;
  Status refuse(const Caller& caller, Verb verb, std::string_view object, std::string_view id, std::string_view why) const;
  void note(const Caller& caller, Verb verb, std::string_view object, std::string_view id, const json::object& asks = {}) const;
  void publish(const Record& record, std::string action, std::map<std::string, std::string> more = {});
  void publish_object(std::string type, std::string action, std::string id, std::map<std::string, std::string> attributes = {}, policy::Labels labels = {});
  void note_repair(std::string text);

  // -- paths (engine.cpp)
  [[nodiscard]] std::string container_dir(const std::string& id) const { return options_.root + "/containers/" + id; }
  [[nodiscard]] std::string run_dir(const std::string& id) const { return options_.exec_root + "/containers/" + id; }
  [[nodiscard]] std::string volume_dir(const std::string& name) const { return options_.root + "/volumes/" + name; }
  [[nodiscard]] std::string mount_points_dir() const { return options_.root + "/mount-points"; }
  [[nodiscard]] std::string log_file_of(const std::string& id) const { return concat(container_dir(id), "/", id, "-json.log"); }
  [[nodiscard]] std::string log_path_of(const Record& record) const;
  [[nodiscard]] runtime::LogPolicy log_policy_of(const Record& record) const;
  [[nodiscard]] std::string cgroups_path_of(const Record& record) const;
  /// As linux::Cgroup takes it, with the driver in it.
  [[nodiscard]] std::string cgroup_below(const std::string& parent, const std::string& id) const;
  void fill_derived(ContainerInfo& info) const;
  [[nodiscard]] std::shared_ptr<const Settings> settings() const;  // shared: whoever reads keeps what it saw

  // -- create.cpp
  enum class Chooser : std::uint8_t { caller, builder };
  Result<CreateResult> create_from(const Caller& caller, ContainerSpec spec, Chooser of_image);
  Status merge_image(ContainerSpec& spec, const image::Image& image, std::vector<std::string>& args) const;
  Status adopt_volumes_from(ContainerSpec& spec);
  struct MadeVolumes;
  Status resolve_mounts(const Caller& caller, Record& record, state::Transaction& transaction, MadeVolumes& made);
  Result<MountPoint> resolve_volume(const Caller& caller, const MountSpec& mount, state::Transaction& transaction, MadeVolumes& made);
  static Status fill_volume(const std::string& contents, const MountPoint& point, const std::string& target, const std::vector<std::string>& layers);
  Status make_container_dirs(const std::string& id, std::int64_t size_bytes);

  // -- start.cpp
  struct StartContext;
  struct Joined;
  /// The operation lock must be held.
  Status start_locked(const Pointer& container);
  Status take_id_range(Container& container, StartContext& context, const Joined& joined);
  Status prepare_start(Container& container, StartContext& context);
  static ContainerInfo shown_with_sources(const ContainerInfo& info, const StartContext& context);
  Result<Joined> resolve_joins(const ContainerSpec& spec);
  Status open_namespaces(StartContext& context, const ContainerSpec& spec, const Joined& joined);
  Status plug_in(Container& container, StartContext& context);
  Status connect_networks(Container& container, StartContext& context);
  Status connect_one(Container& container, StartContext& context, EndpointSpec& wanted);

  // -- ready.cpp
  /// What pool a container of this specification can be served from; none when it shares namespaces or asks for an address of its own.
  static std::optional<NamespacePool::Kind> pool_kind(const ContainerSpec& spec);
  NamespacePool::Source pool_source();
  Result<ReadyPair> make_ready_pair(NamespacePool::Kind kind);
  void unmake(ReadyPair pair);
  void refill_later();
  /// A range for a new container: a ready pair's, a free one, or one that the pool must give back.
  Result<std::uint32_t> choose_range(const std::string& container_id, const ContainerSpec& spec);
  /// Waits until containers that have ended have given their ports back; false when none was about to.
  bool wait_for_released_ports();
  Status write_network_files(const ContainerInfo& info);

  // -- networks.cpp
  /// Fills in what create leaves to us: the network of the mode is among the endpoints, and all are called by their names.
  Status settle_networks(ContainerSpec& spec);
  static network::ConnectRequest connect_request(const std::string& container_id, const ContainerSpec& spec, const EndpointSpec& wanted);

  // -- names.cpp
  /// Tells the DNS server what a running container is called, and serves it from then on where it is on a network with names.
  Status serve_names(const ContainerInfo& info, int netns_fd);
  void forget_names(const std::string& id);
  Result<network::DnsServer*> dns_server();
  [[nodiscard]] std::string host_resolver_text() const;
  /// After a restart of the daemon: for everything that runs.
  void recover_names();

  // -- links.cpp
  struct LiveLink {
    Link link;
    std::shared_ptr<const Record> target;  // shared: a snapshot
  };
  /// Targets become ids, so that a link follows a rename. Errors: invalid, when a link's container is not there.
  [[nodiscard]] std::string missing_limits(const ResourceSpec& resources) const;
  Status settle_links(ContainerSpec& spec);
  [[nodiscard]] std::vector<LiveLink> links_of(const ContainerSpec& spec);
  /// Errors: conflict, in docker's words.
  Status check_links_run(const ContainerInfo& info);
  /// What --link puts into /etc/hosts, and into the environment.
  [[nodiscard]] std::vector<HostsLine> link_lines(const ContainerSpec& spec);
  [[nodiscard]] std::vector<std::string> link_settings(const ContainerInfo& info);
  /// "/db:/web/alias"; of user-defined networks, which make no links, as they were given.
  [[nodiscard]] std::vector<std::string> shown_links(const ContainerInfo& info);
  /// id → "web/alias": more names, as docker lists them.
  std::multimap<std::string, std::string> link_names();
  /// As the registry, and by "web/alias".
  Result<Pointer> find_container(std::string_view name);
  Status remove_link(const std::string& name);
  /// The operation lock must be held.
  Status refresh_hosts(const Container& container);
  /// Running containers that link to this one learn its new address.
  void tell_linking(const std::string& id);

  void publish_network(std::string action, const network::Network& network, const std::string& container_id);
  /// The same for every network of a container that has started or ended.
  void publish_endpoints(const std::string& action, const std::vector<network::Endpoint>& endpoints, const std::string& container_id);
  Status connect_running(Container& container, const Record& record, const EndpointSpec& wanted, int netns_fd);
  Status refresh_endpoints(Container& container, int netns_fd, const std::function<void(Record&)>& edit);
  Result<runtime::Spec> plan(const ContainerInfo& info, const StartContext& context);
  Status launch(Container& container, StartContext& context);
  void record_failed_start(Container& container, const Error& error, bool was_launched);
  [[nodiscard]] std::vector<std::string> find_unmappable_sources(const ContainerInfo& info, int user_namespace) const;
  Result<ResolvedUser> resolve_container_user(const ContainerInfo& info, const std::string& user, const std::vector<std::string>& groups);

  // -- container_files.cpp
  struct OpenFiles;
  /// Directories of the layers below the container's own, topmost first.
  Result<std::vector<std::string>> lower_layers(const ContainerInfo& info, bool has_mount_points = true);
  /// The container's files as it sees them, with its mounts. One that is not running cannot be started while the result lives.
  Result<OpenFiles> open_files(const Pointer& container);

  // -- commit.cpp
  class PausedForCommit;
  void end_commit_pause(const Pointer& container);
  [[nodiscard]] std::string commit_mark(const std::string& id) const { return run_dir(id) + "/paused-for-commit"; }
  Result<image::ComposeRequest> plan_commit(const ContainerInfo& info, const CommitOptions& options);

  // -- security.cpp
  Learning::Subject look_at(const std::string& id);
  void tell_learning(const std::string& id, pid_t first);
  Result<std::shared_ptr<Learning>> learning_of(const Container& container, bool takes_away);
  Result<Learned> conclude(const Pointer& container, const Learning& learning);

  // -- exit.cpp
  void handle_exit(const Pointer& container, const runtime::ExitStatus& status);
  [[nodiscard]] static bool should_restart(const Container& container, const Record& record, const runtime::ExitStatus& status);
  void schedule_restart(const Pointer& container);
  void schedule_teardown(const Pointer& container);
  void restart_by_policy(const Pointer& container, int looks);
  /// Clears away what the last run left: ports, cgroups, run folder, id range. The operation lock must be held.
  Status teardown_locked(Container& container);
  /// Withdraws ports and address; the first step of every teardown, because others may wait for them.
  Status release_network(const std::string& id);
  /// Takes a container out of store and memory; what it leaves on the host is then garbage, to be collected by the caller. The
  /// operation lock must be held, or the container be one that just ended by itself.
  Result<Garbage> forget(const Pointer& container, const std::function<void(Record&)>& last_edit, bool with_volumes = true);
  Status collect_garbage(const Garbage& garbage);
  void collect_later(Garbage garbage);

  // -- exec.cpp
  /// The exec's request without its client.
  Result<runtime::ExecRequest> plan_exec(const Record& record, const ExecInfo& exec);

  // -- probes.cpp
  /// Probes begin when a container runs (again), and end with it or while it is paused.
  void begin_probes(const Record& record);
  Result<std::int64_t> begin_probe(const std::string& container_id, const std::string& exec_id, UniqueFd client);
  std::optional<std::int64_t> end_probe(const std::string& container_id, ProbeResult result);

  // -- logs.cpp
  /// Has the container's records sent to its log server from now on, when its driver does that. Errors: docker's words for a driver that
  /// cannot work ("failed to initialize logging driver: …").
  Status begin_shipping(const Record& record, LogShippers::Start start);

  // -- stop.cpp
  Status stop_container(const Pointer& container, const StopOptions& options);
  /// Errors: timeout when it still runs afterwards.
  Status signal_and_wait(const Pointer& container, int signal, int timeout_ms);
  /// KILL, and the thaw without which a frozen process cannot die.
  Status kill_and_wait(const Pointer& container);
  /// Of containers that removed themselves (--rm), the last ones, by their whole id: a client that lost the daemon asks for the exit code when it finds the next.
  void remember_gone(std::shared_ptr<const Record> last);
  std::shared_ptr<const Record> gone(std::string_view id);
  /// Whoever marks must not hold the container's operation lock. True: a restart was planned, and is called off.
  static Result<bool> mark_stopped_by_user(Container& container);

  // -- recover.cpp
  Status recover();

  // -- close.cpp
  /// Notes that the cgroup parent did not exist before us, so that the orderly end may remove it.
  Status remember_cgroup_parent();
  /// With nothing running: takes down the bridge, its rules and our cgroup parent. Failures are logged: there is nobody to tell.
  void leave_host();
  Status load_records();
  void recover_containers();
  void recover_container(const Pointer& container);
  void recover_running(const Pointer& container, const runtime::Recovered& found);
  void restart_after_boot(const Pointer& container);
  /// The end of a container that nobody was there to see. `why`: "" when the status is known.
  void recover_exit(const Pointer& container, const runtime::ExitStatus& status, const std::string& why);
  void recover_garbage();
  void recover_networks();
  /// Folders without a record: of creates that a crash cut short, or of records that were damaged.
  void remove_strays();
  void remove_stray_run(const std::string& id);
  void remove_stray_folder(const std::string& id);
  void repair_volumes();
  /// Kills what still runs under an id that has no record.
  Status end_stray(const std::string& id, const std::string& cgroups_path);

  // -- volumes.cpp
  Result<VolumeInfo> load_volume(const std::string& name);
  std::map<std::string, std::vector<std::string>> volume_users();
  Status make_volume_dir(const std::string& name, const std::string& subdirectory) const;
  /// By its option `size`, once its folder is there and still empty. Errors: invalid (no quotas here), unavailable.
  Status limit_volume(const VolumeSpec& spec);
  Status remove_volume_locked(const std::string& name);
  static Status check_volume_spec(const VolumeSpec& spec);
  [[nodiscard]] LoadVolume volume_loader();
  /// Unmounts the file systems of a container's volumes that no other running container uses.
  void release_volumes(const std::string& container_id, const std::vector<std::string>& names);
  static std::vector<std::string> volume_names(const ContainerInfo& info);

  // -- inspect.cpp
  ContainerSummary summarize(const Record& record) const;
  void measure(const Record& record, std::optional<std::int64_t>& rw, std::optional<std::int64_t>& root_fs);
  std::map<std::string, std::vector<std::string>> image_users();

  LocalOptions options_;
  mutable AuditLog audit_;  ///< takes lines from calls that change nothing of the engine
  std::shared_ptr<EventHub> events_ = std::make_shared<EventHub>();  // shared with streams that clients still read
  std::unique_ptr<state::Store> store_;
  std::unique_ptr<image::Registries> registries_;  ///< null: this engine speaks to none
  std::unique_ptr<image::ImageStore> images_;
  std::unique_ptr<network::NetworkManager> network_;
  std::function<Result<std::unique_ptr<network::DnsServer>>(network::NameSource&)> make_dns_;
  NameTable names_;
  std::mutex dns_mutex_;                     ///< of the next two
  std::unique_ptr<network::DnsServer> dns_;  ///< once a container needs it; asks names_
  std::set<std::string> named_;              ///< ids of the containers that it serves
  bool is_open_ = false;  ///< recover() has told what lives here
  std::function<Result<std::unique_ptr<runtime::Runtime>>(runtime::RuntimeObserver&)> make_runtime_;
  mutable std::mutex settings_mutex_;  ///< only for the pointer
  std::shared_ptr<const Settings> settings_;
  HostLimits host_;
  std::string boot_id_;
  std::string apparmor_default_;  ///< the profile of containers that name none; "": AppArmor is off, or has no such profile
  std::string engine_id_;
  TimestampNs started_at_ = 0;

  Registry registry_;
  std::atomic<bool> has_links_ = false;  ///< some container has, or had, a link: else nobody looks for them
  ExecTable execs_;
  IdRanges ranges_;
  /// Held shared while a container takes hold of images and volumes, alone while one of these is removed.
  std::shared_mutex uses_mutex_;
  std::mutex volume_creation_mutex_;
  std::mutex repairs_mutex_;
  std::vector<std::string> repairs_;
  std::vector<std::string> state_damage_;  ///< what opening the store had to put aside
  std::set<std::string> unreadable_;  ///< ids of records that could not be read at start; written by recover() only
  /// Ended containers whose ports are still to be withdrawn.
  std::mutex releases_mutex_;
  std::condition_variable releases_changed_;
  std::set<std::string> pending_releases_;  ///< by id

  SizeLimits size_limits_;
  LogShippers shippers_;
  LogCompressor compressor_;
  HealthChecks health_checks_;                 ///< its thread uses all of the above and the runtime
  Worker worker_;                              ///< its tasks use all of the above and the runtime
  std::unique_ptr<runtime::Runtime> runtime_;  ///< ends before everything its events touch
  NamespacePool pool_;
  Refusals refusals_;                          ///< its thread asks for containers
  std::mutex gone_mutex_;  ///< of the next
  std::deque<std::shared_ptr<const Record>> gone_;
  std::mutex learning_mutex_;                  ///< of the next
  std::map<std::string, std::shared_ptr<Learning>> learning_;  ///< by container; shared: whoever reads one keeps it
};

}  // namespace caisson::engine
