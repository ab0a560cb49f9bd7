// Engine: everything one host can do with containers, images, volumes and networks, as synchronous calls.
// Implementations: LocalEngine (create_engine) and the api's test double.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "engine/security.hpp"
#include "engine/types.hpp"
#include "image/pack.hpp"
#include "image/registries.hpp"
#include "state/store.hpp"

namespace caisson::engine {

/// All calls are thread-safe and block until done; long ones stop when `cancel` fires. `name` is a container's full id,
/// unique id prefix or name (a leading slash is ignored). Each verb asks the policy first.
/// Errors common to all: denied (by the policy, naming the rule), not_found ("No such container: X"), io, corrupt.
class Engine {
 public:
  virtual ~Engine() = default;

  // -- who asks
  /// Who is at the other end of a connection, by the policy of now: a process of one of our containers has that container's identity,
  /// whatever user it is. Never fails: whoever cannot be judged has the role "none".
  virtual Caller identify(const Connection& connection) = 0;
  /// Asks the policy for a verb that somebody else performs, and writes it to the audit log. Errors: denied, naming the rule.
  virtual Status authorize(const Caller& caller, policy::Verb verb, std::string_view object) const = 0;

  // -- containers
  /// Reserves id and name, writes the record, prepares folders and volumes. Errors: invalid (names the field), not_found
  /// ("No such image: X"), conflict (name taken, in docker's words). Nothing is left behind on error.
  virtual Result<CreateResult> create(const Caller& caller, ContainerSpec spec) = 0;
  /// The container of a build's step, for the builder alone: as create, but the bounds of the caller's role are not asked about the mounts that the builder made, nor about the image, which is
  /// the builder's as well. Others whose roles have bounds do not reach into it.
  virtual Result<CreateResult> create_step(const Caller& caller, StepSpec step) = 0;
  /// Returns when the program runs. `already`: it ran before (docker answers 304). Errors: not_found and denied carry docker's words
  /// for a program that cannot be executed; State.ExitCode is then 127 or 126 and the state stays `created`.
  enum class Changed : std::uint8_t { yes, already };
  virtual Result<Changed> start(const Caller& caller, const std::string& name) = 0;
  /// Errors of stop, restart, kill and a forced remove: also timeout (it outlives SIGKILL for 30 s), unavailable (the daemon is ending, and waits for nobody).
  virtual Result<Changed> stop(const Caller& caller, const std::string& name, const StopOptions& options) = 0;
  virtual Status restart(const Caller& caller, const std::string& name, const StopOptions& options) = 0;
  /// `signal`: "", "KILL", "SIGKILL", "9". Errors: conflict when it is not running, invalid (unknown signal).
  virtual Status kill(const Caller& caller, const std::string& name, const std::string& signal) = 0;
  virtual Status pause(const Caller& caller, const std::string& name) = 0;
  virtual Status unpause(const Caller& caller, const std::string& name) = 0;
  /// Errors: conflict when it runs and `force` is not set.
  virtual Status remove(const Caller& caller, const std::string& name, const RemoveOptions& options) = 0;
  virtual Status rename(const Caller& caller, const std::string& name, const std::string& new_name) = 0;
  /// Returns warnings.
  virtual Result<std::vector<std::string>> update(const Caller& caller, const std::string& name, const UpdateSpec& changes) = 0;
  virtual Result<std::unique_ptr<Waiter>> begin_wait(const Caller& caller, const std::string& name, WaitCondition condition) = 0;
  virtual Result<ContainerInfo> inspect(const Caller& caller, const std::string& name, bool with_size) = 0;
  /// Newest first; never waits for a long operation on a container.
  virtual Result<std::vector<ContainerSummary>> list(const Caller& caller, const ListOptions& options) = 0;
  /// `ps_arguments`: "-ef" (also ""), "aux", "-o pid,ppid,…". Errors: conflict when not running, invalid (unknown column).
  virtual Result<TopResult> top(const Caller& caller, const std::string& name, const std::string& ps_arguments) = 0;
  /// One reading; a stopped container gives zeros.
  virtual Result<ContainerStats> stats(const Caller& caller, const std::string& name) = 0;
  /// Blocks until the end of the log, or (follow) until the container's end or `cancel`. Errors: unsupported when nothing is logged.
  virtual Status logs(const Caller& caller, const std::string& name, const LogOptions& options, LogSink& sink, Cancel cancel) = 0;
  /// Returns as soon as the client is connected; its stream is the monitor's from then on. A container that was not started
  /// yet keeps the client until start. Errors: conflict ("container X is not running", "… is paused").
  virtual Status attach(const Caller& caller, const std::string& name, AttachOptions options) = 0;
  /// Errors: conflict when not running.
  virtual Status resize(const Caller& caller, const std::string& name, runtime::ConsoleSize size) = 0;

  // -- files of a container, running or not
  /// What differs from its image, parents before children, in order of names. Errors: invalid (deeper than 256 folders).
  virtual Result<std::vector<FileChange>> changes(const Caller& caller, const std::string& name) = 0;
  /// Its root file system as a tar, without what is mounted in it.
  virtual Status export_container(const Caller& caller, const std::string& name, const ExportOptions& options, int target_fd, Cancel cancel) = 0;
  /// What lies at a path, a last symbolic link not followed. Errors: not_found, in docker's words.
  virtual Result<image::PathStatus> stat_path(const Caller& caller, const std::string& name, const std::string& path) = 0;
  /// What lies at a path with all below it, volumes too, as a tar whose first entry is called `entry_name`.
  virtual Status read_archive(const Caller& caller, const std::string& name, const std::string& path, const std::string& entry_name, int target_fd, Cancel cancel) = 0;
  /// The reverse: a tar (plain or compressed) into a folder. Errors: not_found, invalid (kinds differ, a bad archive), denied (read-only).
  virtual Status write_archive(const Caller& caller, const std::string& name, const PlaceOptions& options, int source_fd, Cancel cancel) = 0;
  /// An image from the container. Errors: invalid (change, reference), unavailable (full disk); nothing is half-created.
  virtual Result<image::Image> commit(const Caller& caller, const std::string& name, const CommitOptions& options, Cancel cancel) = 0;

  // -- security
  /// The box that a container is in, and what the kernel refused it.
  virtual Result<SecurityReport> explain(const Caller& caller, const std::string& name) = 0;
  /// Watches from now on, or from its next start on, what a container does, until it has ended or end_learning(). Privilege of the daemon: root of
  /// the host. Errors: conflict (it is watched already), unsupported (no tracefs, or a rootless daemon).
  virtual Status begin_learning(const Caller& caller, const std::string& name) = 0;
  /// What was seen so far: calls, capabilities, figures. Errors: not_found, when it is not watched.
  virtual Result<Learned> learned(const Caller& caller, const std::string& name) = 0;
  /// Ends the watch. The same, what it wrote, and the box that would have done.
  virtual Result<Learned> end_learning(const Caller& caller, const std::string& name) = 0;

  // -- exec
  /// Returns the exec's id. Errors: conflict ("container X is not running", paused), invalid (no command).
  virtual Result<std::string> create_exec(const Caller& caller, const std::string& name, ExecSpec spec) = 0;
  /// Returns once the program runs (the attached stream is the monitor's then). Errors: not_found, conflict (started already), and
  /// as start(): the exit code is then 126 or 127 and kept.
  virtual Status start_exec(const Caller& caller, const std::string& exec_id, ExecStart options) = 0;
  virtual Result<ExecInfo> inspect_exec(const Caller& caller, const std::string& exec_id) = 0;
  virtual Status resize_exec(const Caller& caller, const std::string& exec_id, runtime::ConsoleSize size) = 0;

  // -- events
  virtual Result<std::unique_ptr<EventStream>> events(const Caller& caller, const EventOptions& options) = 0;

  // -- volumes
  /// An existing volume of that name is returned as it is. Errors: invalid (name, driver, option).
  virtual Result<VolumeInfo> create_volume(const Caller& caller, const VolumeSpec& spec) = 0;
  virtual Result<std::vector<VolumeInfo>> list_volumes(const Caller& caller, bool with_size) = 0;
  virtual Result<VolumeInfo> inspect_volume(const Caller& caller, const std::string& name) = 0;
  /// Errors: not_found (none when `force`), conflict when a container uses it.
  virtual Status remove_volume(const Caller& caller, const std::string& name, bool force) = 0;

  // -- networks
  virtual Result<std::vector<NetworkInfo>> list_networks(const Caller& caller) = 0;
  virtual Result<NetworkInfo> inspect_network(const Caller& caller, const std::string& name_or_id) = 0;
  /// Errors: as NetworkManager::create().
  virtual Result<network::Network> create_network(const Caller& caller, const network::NetworkRequest& request) = 0;
  /// Errors: not_found, denied (predefined, or in use).
  virtual Status remove_network(const Caller& caller, const std::string& name_or_id) = 0;
  /// A running container is plugged in at once, another one at its next start. `wanted.network` is the network. Errors: not_found, invalid (a
  /// container without a network namespace of its own, or network "none" or "host"), denied (connected already), and as connect().
  virtual Status connect_network(const Caller& caller, const std::string& container, EndpointSpec wanted) = 0;
  /// Errors: not_found, invalid (as above), internal when it is not connected (docker's 500).
  virtual Status disconnect_network(const Caller& caller, const std::string& network, const std::string& container, bool force) = 0;

  // -- images
  virtual Result<std::vector<ImageInfo>> list_images(const Caller& caller) = 0;
  virtual Result<ImageInfo> inspect_image(const Caller& caller, const std::string& name) = 0;
  virtual Result<image::Image> import_image(const Caller& caller, const image::ImportRequest& request, const image::ProgressSink& progress, Cancel cancel) = 0;
  virtual Result<std::vector<image::Image>> load_images(const Caller& caller, int source_fd, const image::ProgressSink& progress, Cancel cancel) = 0;
  virtual Status save_images(const Caller& caller, const image::SaveRequest& request, int target_fd, Cancel cancel) = 0;
  virtual Result<image::Image> bootstrap_image(const Caller& caller, const image::BootstrapRequest& request, const image::ProgressSink& progress, Cancel cancel) = 0;
  /// Errors of the five below: see image/image_store.hpp and image/registries.hpp.
  virtual Result<std::vector<image::Image>> pull_images(const Caller& caller, const image::PullRequest& request, const image::ProgressSink& progress, Cancel cancel) = 0;
  virtual Result<std::vector<image::PushedTag>> push_image(const Caller& caller, const image::PushRequest& request, const image::ProgressSink& progress, Cancel cancel) = 0;
  /// Checks credentials with a registry. Returns its identity token, or "".
  virtual Result<std::string> login(const Caller& caller, const std::string& server, const image::RegistryCredentials& credentials, Cancel cancel) = 0;
  virtual Result<std::vector<image::SearchHit>> search_images(const Caller& caller, const image::SearchRequest& request, Cancel cancel) = 0;
  virtual Result<image::DistributionInfo> inspect_distribution(const Caller& caller, const std::string& reference, const image::RegistryCredentials& credentials, Cancel cancel) = 0;
  virtual Status tag_image(const Caller& caller, const std::string& source, const std::string& target) = 0;
  virtual Result<image::RemovedImage> remove_image(const Caller& caller, const std::string& name, bool force) = 0;

  // -- system
  virtual Result<PruneResult> prune_containers(const Caller& caller, const ContainerFilter& filter) = 0;
  virtual Result<PruneResult> prune_volumes(const Caller& caller, const VolumeFilter& filter) = 0;
  virtual Result<PruneResult> prune_networks(const Caller& caller, const NetworkFilter& filter) = 0;
  virtual Result<PruneResult> prune_images(const Caller& caller, const ImageFilter& filter) = 0;
  virtual Result<DiskUsage> disk_usage(const Caller& caller) = 0;
  virtual Result<SystemInfo> info(const Caller& caller) = 0;
  /// Takes `settings` into force and tells it as an event. Errors: invalid; nothing changes then.
  virtual Status reload(const Caller& caller, Settings settings) = 0;

  /// Whether the image in its registry satisfies the signature policy, or other requirements. Role operator.
  virtual Result<image::VerifyReport> verify_image(const Caller& caller, const image::VerifyRequest& request, Cancel cancel) = 0;
  /// Adds a signature beside an image in its registry; the digest of what carries it. Role admin, as for a push.
  virtual Result<Digest> attach_signature(const Caller& caller, const image::SignRequest& request, Cancel cancel) = 0;
};

}  // namespace caisson::engine
