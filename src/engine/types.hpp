// The engine's vocabulary: what a container is asked to be, what it became, and everything its verbs take and return.
// Names follow Docker's meaning but no Docker JSON shape: the api translates both ways.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "image/image_store.hpp"
#include "network/network.hpp"
#include "policy/policy.hpp"
#include "runtime/runtime.hpp"

namespace caisson::engine {

/// Who asks. Every verb takes one first.
struct Caller {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;
  std::string source;        ///< "unix:/run/caisson.sock", "tcp:127.0.0.1:4711"
  std::string who;           ///< "uid:1000", "container:0123456789ab", "token:ci"; "": the engine for itself, which leaves no line in the audit log
  policy::RolePointer role;  ///< null: none
};

/// Whoever the engine does something for that nobody has asked for: it may everything.
Caller engine_itself();

/// A connection, as the server sees it, for identify().
struct Connection {
  policy::Peer peer;
  pid_t pid = 0;       ///< of a unix socket; 0: in no PID namespace of ours
  int pidfd = -1;      ///< borrowed; -1: the process is gone
  std::string source;
};

// ---- what a container is asked to be ------------------------------------------------------------------------------

enum class MountType : std::uint8_t { bind, volume, tmpfs };

struct MountSpec {
  MountType type = MountType::bind;
  std::string source;            ///< bind: absolute host path; volume: its name, "" = anonymous; tmpfs: unused
  std::string target;            ///< absolute, inside the container
  bool read_only = false;
  std::string propagation;       ///< bind: "", "rprivate", "private", "rshared", "shared", "rslave", "slave"
  bool non_recursive = false;    ///< bind: without the source's own submounts
  bool create_source = false;    ///< bind: make a missing source directory (`-v`); otherwise it is an error (`--mount`)
  bool no_copy = false;          ///< volume: no copy-up of the image's content on first use
  std::string subpath;           ///< volume: a path below its root
  std::string driver;            ///< volume: "" = "local"
  std::map<std::string, std::string> driver_options;  ///< volume, when it is created by this container
  std::map<std::string, std::string> labels;          ///< volume, when it is created by this container
  std::int64_t tmpfs_size_bytes = 0;                  ///< 0: unlimited (the memory limit holds)
  std::optional<std::uint32_t> tmpfs_mode;            ///< none: 01777
  std::vector<std::string> options;  ///< further words as given ("z", "nosuid", "size=64m"); unknown ones are refused at create
  std::string origin;            ///< how it was written, for the api to give back: "binds", "mounts", "tmpfs", "volumes"
  // The engine's to say: whatever a request has here, create() begins without it.
  std::string within;            ///< bind: the folder that a policy granted; the source is resolved beneath it at every start. "": anywhere
  bool without_owners = false;   ///< bind: files belong to nobody inside, whatever they are on disk
  bool of_step = false;          ///< bind: it was a StepMount
};

struct Ulimit {
  std::string name;  ///< "nofile", without RLIMIT_
  std::int64_t soft = 0;  ///< -1: unlimited
  std::int64_t hard = 0;
};

struct DeviceSpec {
  std::string path_on_host;
  std::string path_in_container;  ///< "": the same
  std::string permissions = "rwm";
};

/// Devices by what they can do (--gpus) or by their names in CDI specifications (`--device vendor.com/class=name`).
struct DeviceRequest {
  std::string driver;                                ///< "", "nvidia", "cdi"
  std::int64_t count = 0;                            ///< -1: all
  std::vector<std::string> device_ids;
  std::vector<std::vector<std::string>> capabilities;  ///< one of the lists must be met whole
};

struct WeightDevice {
  std::string path;
  std::uint16_t weight = 0;
};
struct ThrottleDevice {
  std::string path;
  std::uint64_t rate = 0;
};

/// Limits; 0 or unset means "no limit" at create and "unchanged" at update, as Docker has it.
struct ResourceSpec {
  std::int64_t memory_bytes = 0;
  std::int64_t memory_swap_bytes = 0;         ///< memory plus swap; -1: unlimited swap; 0: twice the memory
  std::int64_t memory_reservation_bytes = 0;
  std::optional<std::int64_t> memory_swappiness;  ///< 0–100
  std::optional<bool> oom_kill_disable;
  std::int64_t nano_cpus = 0;
  std::int64_t cpu_quota_us = 0;
  std::int64_t cpu_period_us = 0;
  std::int64_t cpu_shares = 0;
  std::int64_t cpu_realtime_period_us = 0;
  std::int64_t cpu_realtime_runtime_us = 0;
  std::string cpuset_cpus;
  std::string cpuset_mems;
  std::optional<std::int64_t> pids_limit;     ///< ≤ 0: unlimited
  std::uint16_t blkio_weight = 0;             ///< 10–1000
  std::vector<WeightDevice> blkio_weight_devices;
  std::vector<ThrottleDevice> blkio_read_bps;
  std::vector<ThrottleDevice> blkio_write_bps;
  std::vector<ThrottleDevice> blkio_read_iops;
  std::vector<ThrottleDevice> blkio_write_iops;
};

enum class RestartCondition : std::uint8_t { no, always, on_failure, unless_stopped };
struct RestartPolicy {
  RestartCondition condition = RestartCondition::no;
  std::int64_t maximum_retry_count = 0;  ///< on_failure only; 0: no bound
};

/// How the container appears on one network.
struct EndpointSpec {
  std::string network;                ///< name or id; after create the name, where the network exists
  std::string network_id;             ///< of the last connect; "" before
  std::string ipv4;                   ///< a wanted address, or ""
  std::string ipv6;
  std::vector<std::string> link_local;
  std::string mac;
  std::vector<std::string> aliases;   ///< more names on this network
  std::vector<std::string> links;     ///< "container[:alias]": names that this container alone knows
  std::map<std::string, std::string> driver_options;
  std::int64_t gateway_priority = 0;
};

struct NetworkSpec {
  /// "bridge" (also "" and "default"), "host", "none", "container:<id or name>", or a network's name or id.
  std::string mode = "bridge";
  /// What it is connected to, in this order; none for the modes that are no network. After create the network of `mode` is the first, unless
  /// it was disconnected since.
  std::vector<EndpointSpec> endpoints;
};

struct ContainerSpec {
  std::string name;                   ///< "" at create: one is made up; without a leading slash
  std::string image;                  ///< as the user typed it
  std::string platform;               ///< "" or "linux/amd64"

  /// Unset: the image's. Set entrypoint clears the image's cmd; {""} means "no entrypoint". After create both hold what is in force.
  std::optional<std::vector<std::string>> entrypoint;
  std::optional<std::vector<std::string>> cmd;
  std::vector<std::string> env;       ///< "K=V"; "K" alone removes the image's K. After create: merged with the image's
  std::vector<std::string> secret_env;  ///< "K=V" added at the start; in memory only: never recorded, never shown
  std::string working_dir;            ///< "": the image's, else "/"
  std::string user;                   ///< "name|uid[:group|gid]"; "": the image's, else root
  std::vector<std::string> groups;    ///< supplementary, names or numbers
  std::string hostname;               ///< "": first 12 digits of the id
  std::string domainname;
  bool tty = false;
  bool open_stdin = false;
  bool stdin_once = false;
  bool attach_stdin = false;          ///< what the client intended; shown in inspect, no effect
  bool attach_stdout = false;
  bool attach_stderr = false;
  runtime::ConsoleSize console_size;  ///< 0×0: unset
  std::map<std::string, std::string> labels;  ///< after create: merged over the image's
  std::vector<std::string> image_labels;      ///< keys of those that are the image's: they say nothing about whose container it is
  std::map<std::string, std::string> annotations;

  std::vector<MountSpec> mounts;
  std::vector<std::string> volumes_from;      ///< "container[:ro|rw]"
  std::vector<std::string> exposed_ports;     ///< "80/tcp"
  std::vector<network::PortBinding> ports;
  bool publish_all_ports = false;
  NetworkSpec network;
  std::vector<std::string> dns;
  std::vector<std::string> dns_search;
  std::vector<std::string> dns_options;
  std::vector<std::string> extra_hosts;       ///< "name:address"; address "host-gateway" is the bridge's own
  std::vector<std::string> links;             ///< "container[:alias]" on the default bridge; after create "id:alias"

  std::vector<std::string> cap_add;           ///< "NET_ADMIN", "CAP_NET_ADMIN", "ALL"
  std::vector<std::string> cap_drop;
  bool privileged = false;
  std::string seccomp;                        ///< "": default, "unconfined", or the profile's JSON text
  std::string apparmor_profile;
  bool no_new_privileges = false;
  bool log_refusals = false;                  ///< the kernel writes down what the seccomp filter refuses
  bool nesting = false;                       ///< a container engine may run inside: namespaces, mounts, its own cgroup; needs a user namespace of its own
  std::vector<std::string> security_options;  ///< as given, for the api to give back
  bool read_only_rootfs = false;
  std::optional<std::vector<std::string>> masked_paths;    ///< none: the default list
  std::optional<std::vector<std::string>> readonly_paths;
  std::vector<Ulimit> ulimits;
  ResourceSpec resources;
  std::string cgroup_parent;
  std::optional<std::int32_t> oom_score_adj;
  std::vector<DeviceSpec> devices;
  std::vector<DeviceRequest> device_requests;
  std::vector<std::string> device_cgroup_rules;  ///< "c 1:3 rwm"
  std::map<std::string, std::string> sysctls;
  std::int64_t shm_size_bytes = 0;            ///< 0: 64 MiB
  std::int64_t storage_size_bytes = 0;        ///< quota of the writable layer; 0: none
  std::optional<bool> init;                   ///< unset: no
  bool auto_remove = false;
  RestartPolicy restart;
  std::string stop_signal;                    ///< "", "TERM", "SIGTERM", "15"
  std::optional<std::int64_t> stop_timeout_s; ///< unset: 10
  std::string log_driver;                     ///< after create the one in force: "json-file", "local", "syslog", "journald", "none"
  std::map<std::string, std::string> log_options;  ///< "max-size", "tag", "syslog-address", …
  std::string userns_mode;                    ///< "": own user namespace; "host": none
  std::string pid_mode;                       ///< "", "private", "host", "container:<id>"
  std::string ipc_mode;                       ///< "", "private", "shareable", "none", "host", "container:<id>"
  std::string uts_mode;                       ///< "", "host"
  std::string cgroupns_mode;                  ///< "", "private", "host"
  std::optional<image::Healthcheck> healthcheck;  ///< after create: what the request leaves out is the image's
  std::vector<std::string> shell;             ///< what a CMD-SHELL probe runs in; empty: /bin/sh -c
  std::string runtime_name;                   ///< "" or what inspect shall show
  /// Opaque to the engine: the api's own JSON for fields that only it gives back.
  std::string client_data;
};

/// A file or folder that the builder has made for a step or keeps for it: a cache mount, a secret, a copy of a source, the socket of an agent. No request of a client has a place for one, and
/// bounds of roles do not ask about it (Engine::create_step).
struct StepMount {
  std::string source;
  std::string target;
  bool read_only = false;
};
struct StepSpec {
  ContainerSpec container;
  std::vector<StepMount> mounts;
};

// ---- what it became -----------------------------------------------------------------------------------------------

enum class State : std::uint8_t { creating, created, running, paused, restarting, removing, exited, dead };
std::string_view to_string(State state);

enum class HealthStatus : std::uint8_t { none, starting, healthy, unhealthy };
std::string_view to_string(HealthStatus status);

/// One run of a container's health check.
struct ProbeResult {
  TimestampNs start = 0;
  TimestampNs end = 0;
  int exit_code = 0;   ///< -1: it could not be started, or took too long
  std::string output;  ///< its first 4096 bytes, or why it has none
};
struct Health {
  HealthStatus status = HealthStatus::starting;
  std::int64_t failing_streak = 0;
  std::vector<ProbeResult> log;  ///< the last five, oldest first
};

/// A mount as it was resolved at create.
struct MountPoint {
  MountType type = MountType::bind;
  std::string name;         ///< of the volume
  std::string source;       ///< host path; "" for tmpfs
  std::string destination;
  std::string driver;       ///< "local" for volumes
  std::string mode;         ///< "ro", "z", …, as written
  bool read_write = true;
  std::string propagation;
  bool anonymous = false;   ///< a volume without a given name: removed by rm -v and --rm
};

struct ContainerInfo {
  std::string id;
  std::string name;
  TimestampNs created = 0;
  ContainerSpec spec;                 ///< merged with the image's configuration
  std::vector<std::string> args;      ///< entrypoint and cmd as they run; args[0] is the program
  std::string image_id;               ///< "sha256:…"
  State state = State::creating;
  int exit_code = 0;
  bool exit_status_lost = false;      ///< nobody saw the exit status; exit_code is 255 then
  std::string error;                  ///< of the last start, or why it is dead
  bool oom_killed = false;
  pid_t pid = 0;                      ///< 0 when not running
  TimestampNs started_at = 0;
  TimestampNs finished_at = 0;
  std::int64_t restart_count = 0;
  std::vector<MountPoint> mounts;
  std::vector<network::Endpoint> endpoints;   ///< while running: one per network, in the order of connecting
  std::vector<network::PortBinding> ports;    ///< while running: host ports filled in; otherwise as asked for
  std::vector<std::string> warnings;  ///< of create and of the last start
  std::vector<std::string> exec_ids;
  std::vector<std::string> links;     ///< "/db:/web/alias", with the names of now
  std::string hostname_path;
  std::string hosts_path;
  std::string resolv_conf_path;
  std::string log_path;               ///< of a log that is json-file's; "" otherwise
  bool has_logs = false;              ///< logs() has something to read
  std::uint64_t unsent_logs = 0;      ///< log records that a log server did not take in time
  std::uint64_t log_drops = 0;        ///< log records lost to a full disk
  std::string lower_dirs;             ///< ':'-joined, for GraphDriver.Data
  std::string upper_dir;
  std::string work_dir;
  std::uint32_t first_host_id = 0;    ///< host id of the container's root; 0 without an own user namespace
  bool stopped_by_user = false;
  policy::Creator creator;            ///< whoever created it, and with which role; of containers older than roles: nobody
  std::optional<Health> health;       ///< once it was started with a health check
  std::optional<std::int64_t> size_rw_bytes;      ///< only when asked for
  std::optional<std::int64_t> size_root_fs_bytes;
};

/// The endpoint on a network; null when there is none.
const network::Endpoint* endpoint_on(const std::vector<network::Endpoint>& endpoints, std::string_view network_name);
/// Published ports of all endpoints.
std::vector<network::PortBinding> published_ports(const std::vector<network::Endpoint>& endpoints);

struct ContainerSummary {
  std::string id;
  std::string name;
  std::vector<std::string> link_names;  ///< "web/db": what other containers call it by links
  std::string image;       ///< as typed
  std::string image_id;
  std::vector<std::string> args;
  TimestampNs created = 0;
  State state = State::creating;
  int exit_code = 0;
  TimestampNs started_at = 0;
  TimestampNs finished_at = 0;
  std::string status;      ///< "Up 3 minutes (Paused)", "Up 2 seconds (healthy)", "Exited (0) 2 hours ago", "Created"
  HealthStatus health = HealthStatus::none;
  std::map<std::string, std::string> labels;
  std::string network_mode;
  std::vector<EndpointSpec> networks;
  std::vector<network::Endpoint> endpoints;   ///< while running
  std::vector<network::PortBinding> ports;
  std::vector<std::string> exposed_ports;
  std::vector<MountPoint> mounts;
  std::optional<std::int64_t> size_rw_bytes;
  std::optional<std::int64_t> size_root_fs_bytes;
};

struct CreateResult {
  std::string id;
  std::string name;
  std::vector<std::string> warnings;
};

// ---- verbs --------------------------------------------------------------------------------------------------------

enum class WaitCondition : std::uint8_t { not_running, next_exit, removed };
struct WaitResult {
  int exit_code = 0;
  std::string error;  ///< of a start that failed
};
/// One registered wait. It counts from its creation on, so that the api may send its headers between the two.
class Waiter {
 public:
  virtual ~Waiter() = default;
  /// Blocks. Errors: timeout when `cancel` fired ("the client went away").
  virtual Result<WaitResult> wait(Cancel cancel) = 0;
};

struct StopOptions {
  std::optional<std::int64_t> timeout_s;  ///< unset: the container's; negative: for ever
  std::string signal;                     ///< "": the container's, else the image's, else TERM
};
struct RemoveOptions {
  bool force = false;     ///< kill it first
  bool volumes = false;   ///< its anonymous volumes too
  bool link = false;      ///< not the container: the name is OWNER/ALIAS, and only that link goes
};
struct ListOptions {
  bool all = false;       ///< false: running, paused and restarting ones only
  bool size = false;
};
struct UpdateSpec {
  ResourceSpec resources;                 ///< zeros and unset members stay as they are
  std::optional<RestartPolicy> restart;
};

struct AttachOptions {
  runtime::AttachRequest request;   ///< `framed` is set by the engine (false on a terminal)
  bool stream = true;               ///< false: logs only
  bool raw = false;                 ///< never framed: the client has no way to tell the streams apart (websockets)
  bool logs = false;                ///< first replay what was logged so far
  /// Called once, when nothing can refuse the attach any more, and under the container's lock: fills request.client and
  /// request.pending_input. The api answers 101 there, so that a client that was told so misses nothing of a start that follows.
  /// Unset: the request holds its client already.
  std::function<Status(runtime::AttachRequest&)> connect;
};

struct ExecSpec {
  std::vector<std::string> cmd;
  std::vector<std::string> env;     ///< added to the container's
  std::string working_dir;          ///< "": the container's
  std::string user;                 ///< "": the container's
  bool tty = false;
  bool privileged = false;
  bool attach_stdin = false;
  bool attach_stdout = false;
  bool attach_stderr = false;
  std::string detach_keys;          ///< raw bytes
  runtime::ConsoleSize console_size;
  std::string client_data;          ///< opaque to the engine
};
struct ExecInfo {
  std::string id;
  std::string container_id;
  ExecSpec spec;
  bool started = false;
  bool running = false;
  std::optional<int> exit_code;     ///< once it ended, or could not start (126, 127)
  pid_t pid = 0;
};
struct ExecStart {
  bool detach = false;
  /// The client, unless detached. Keep a duplicate of its descriptor to report a start that fails.
  std::optional<runtime::AttachRequest> attached;
  runtime::ConsoleSize console_size;
};

enum class LogStream : std::uint8_t { standard_output, standard_error };
struct LogOptions {
  bool standard_output = true;
  bool standard_error = true;
  TimestampNs since = 0;
  TimestampNs until = 0;                    ///< 0: no bound
  std::optional<std::uint64_t> tail;        ///< last N lines; unset: all
  bool follow = false;
};
/// One write of the program, or a piece of one; `text` ends with '\n' unless the line was longer than a record or is the last.
struct LogRecord {
  LogStream stream = LogStream::standard_output;
  TimestampNs time = 0;
  std::string text;
  std::string attributes;  ///< "key=value,…": what the driver's options chose from labels and environment
};
/// Takes records in order. An error of write() or flush() ends the reading.
class LogSink {
 public:
  virtual ~LogSink() = default;
  virtual Status write(const LogRecord& record) = 0;
  /// Called before the reader waits for more.
  virtual Status flush() = 0;
};

// ---- files of a container ------------------------------------------------------------------------------------------

/// The numbers are docker's.
enum class ChangeKind : std::uint8_t { modified = 0, added = 1, deleted = 2 };
struct FileChange {
  ChangeKind kind = ChangeKind::modified;
  std::string path;  ///< absolute
  bool operator==(const FileChange&) const = default;
};

struct PlaceOptions {
  std::string path;            ///< a folder in the container
  bool keep_kinds = false;     ///< a folder never replaces a file, nor a file a folder
  bool own_by_user = false;    ///< what is placed belongs to the container's user instead of the archive's owners
};

struct ExportOptions {
  bool has_mount_points = true;  ///< with the empty files and folders that the engine mounts upon, as docker's exports have them
};
struct CommitOptions {
  std::string reference;       ///< "": no name
  std::string author;
  std::string comment;
  std::vector<std::string> changes;  ///< Dockerfile lines
  bool pause = true;           ///< while the files are read
  /// Given: what is set here replaces the container's own configuration, as docker merges it.
  std::optional<image::ContainerConfig> config;
};

struct TopResult {
  std::vector<std::string> titles;
  std::vector<std::vector<std::string>> processes;
};

struct InterfaceStats {
  std::uint64_t rx_bytes = 0;
  std::uint64_t rx_packets = 0;
  std::uint64_t rx_errors = 0;
  std::uint64_t rx_dropped = 0;
  std::uint64_t tx_bytes = 0;
  std::uint64_t tx_packets = 0;
  std::uint64_t tx_errors = 0;
  std::uint64_t tx_dropped = 0;
};
struct ContainerStats {
  std::string id;
  std::string name;
  bool running = false;              ///< false: everything below is zero
  runtime::Stats cgroup;
  bool cgroup_v2 = false;
  std::uint64_t system_cpu_ns = 0;   ///< of the whole host, since boot
  std::uint32_t online_cpus = 0;
  std::map<std::string, InterfaceStats> networks;
};

struct Event {
  std::string type;    ///< "container", "image", "volume", "network"
  std::string action;  ///< "create", "start", "die", "destroy", "exec_start: sh", …
  std::string actor_id;
  std::map<std::string, std::string> attributes;  ///< "image", "name", "exitCode", labels, …
  TimestampNs time = 0;
  policy::Labels labels;  ///< that people gave the actor; for the judgement of who may hear of it, told to nobody
  std::string project;
};
struct EventOptions {
  TimestampNs since = 0;  ///< 0: only new ones
  TimestampNs until = 0;  ///< 0: for ever
};
class EventStream {
 public:
  virtual ~EventStream() = default;
  /// The next event in order; nothing when `until` has passed. Errors: timeout when `cancel` fired, unavailable when this
  /// reader was too slow and events had to be dropped.
  virtual Result<std::optional<Event>> next(Cancel cancel) = 0;
};

struct VolumeSpec {
  std::string name;    ///< "": anonymous, 64 hex digits
  std::string driver;  ///< "" and "local"
  std::map<std::string, std::string> options;
  std::map<std::string, std::string> labels;
};
struct VolumeInfo {
  std::string name;
  std::string driver = "local";
  std::string mountpoint;
  TimestampNs created = 0;
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> options;
  bool anonymous = false;
  std::vector<std::string> used_by;          ///< container ids
  std::optional<std::int64_t> size_bytes;    ///< only when asked for
};

struct ImageInfo {
  image::Image image;
  std::vector<std::string> used_by;   ///< container ids
};

struct NetworkInfo {
  network::Network network;
  std::vector<std::pair<std::string, network::Endpoint>> endpoints;  ///< by container id
  std::map<std::string, std::string> container_names;                ///< id → name
};

struct PruneResult {
  std::vector<std::string> deleted;     ///< ids or names
  std::vector<image::RemovedImage> images;
  std::uint64_t reclaimed_bytes = 0;
};
/// Decides whether one candidate may go; unset: all of them. Filters are the api's.
using ContainerFilter = std::function<bool(const ContainerSummary&)>;
using VolumeFilter = std::function<bool(const VolumeInfo&)>;
using ImageFilter = std::function<bool(const ImageInfo&)>;
using NetworkFilter = std::function<bool(const network::Network&)>;

struct DiskUsage {
  std::vector<ImageInfo> images;
  std::vector<ContainerSummary> containers;   ///< with sizes
  std::vector<VolumeInfo> volumes;            ///< with sizes
  std::uint64_t layers_bytes = 0;
  std::uint64_t blobs_bytes = 0;
  std::uint64_t store_bytes = 0;              ///< what the image store takes on the disk: both of these, downloads too, shared data once
  std::uint64_t unused_bytes = 0;             ///< the part of it that no container's image needs
  std::map<Digest, std::uint64_t> layers;     ///< the size of each, by its diffID
};

/// What may change while the engine runs; containers that exist keep what they were created with.
struct Settings {
  std::string log_driver = "json-file";             ///< where a container says nothing
  std::map<std::string, std::string> log_options;   ///< the same; for that driver only
  std::optional<std::int64_t> default_pids_limit = 4096;  ///< a fork bomb must not take the host's pids; none: unlimited
  std::vector<std::string> labels;                  ///< "key=value", shown by info
  std::shared_ptr<const policy::Policy> policy = std::make_shared<const policy::Policy>();  ///< never null; shared with the calls that it judges
  bool debug = false;                               ///< shown by info
};

struct SystemInfo {
  std::string id;                 ///< of this engine's state folder, kept
  std::string name;               ///< host name
  std::string version;
  std::string root_dir;
  std::string exec_root;
  bool rootless = false;
  std::uint64_t containers = 0;
  std::uint64_t containers_running = 0;
  std::uint64_t containers_paused = 0;
  std::uint64_t containers_stopped = 0;
  std::uint64_t images = 0;
  std::string kernel_version;
  std::string operating_system;   ///< PRETTY_NAME of os-release
  std::string os_version;
  std::string architecture;       ///< "x86_64"
  std::uint32_t cpus = 0;
  std::uint64_t memory_bytes = 0;
  std::string cgroup_version;     ///< "1" or "2"
  std::string policy_path;        ///< "": the rules that are built in
  std::uint64_t lost_audit_lines = 0;
  std::string cgroup_driver = "cgroupfs";
  std::string snapshot_form = "directory";  ///< of layers to come; "erofs"
  std::uint64_t store_used_bytes = 0;       ///< by images, on the disk
  std::uint64_t store_quota_bytes = 0;      ///< of that; 0: none
  std::vector<std::string> security_options;
  bool memory_limit = true;
  bool swap_limit = true;
  bool pids_limit = true;
  bool cpu_quota = true;
  std::uint64_t events_listeners = 0;
  std::uint64_t open_fds = 0;
  std::uint64_t threads = 0;
  TimestampNs started_at = 0;
  std::string log_driver;             ///< of containers that ask for none
  std::vector<std::string> log_drivers;
  std::vector<std::string> labels;    ///< the host's, as configured
  std::vector<std::string> cdi_spec_dirs;
  bool debug = false;
  std::vector<std::string> repairs;   ///< what recover() had to repair, one sentence each
  std::vector<std::string> warnings;
};

}  // namespace caisson::engine
