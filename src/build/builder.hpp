// Builder: from a Dockerfile and its context to an image, through the engine's own containers and image store.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/cancel.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "base/unique_fd.hpp"
#include "dockerfile/lint.hpp"
#include "dockerfile/outline.hpp"
#include "dockerfile/scope.hpp"
#include "engine/engine.hpp"
#include "image/image_store.hpp"
#include "image/worker.hpp"
#include "state/store.hpp"

namespace caisson::build {

/// What a build tells while it goes on. The events of one stage come in order; stages come one after the other, whatever ran side by side.
enum class EventKind : std::uint8_t {
  step,     ///< text: the instruction; step, steps
  cached,   ///< the step was done before
  running,  ///< id: the container of a RUN
  output,   ///< text: bytes of that container; is_error: of its stderr
  removed,  ///< id: the container is gone
  made,     ///< id: of the image as it stands after a step, "sha256:…"
  stage,    ///< id: the image of a finished stage
  failed,   ///< the step is what the build fails by
  warning,  ///< text
  shell,    ///< debug_shell: the build has failed, and waits
};

/// A look into what a failed step left: a container for whoever asked, made and not started. The build waits until it has ended.
struct DebugShell {
  std::string container;         ///< id; "": there is none
  std::string problem;           ///< why there is none
  std::string program;           ///< what runs in it
  std::string step;              ///< the instruction, its first line
  std::uint32_t line = 0;        ///< of the Dockerfile
  std::optional<int> exit_code;  ///< of a RUN that ran
  std::string failure;           ///< why the build fails
  bool is_before_step = false;   ///< the files are as they were before the step, not as it left them
};

struct Event {
  EventKind kind = EventKind::step;
  std::string text;
  std::string id;
  std::uint32_t step = 0;
  std::uint32_t steps = 0;
  std::uint32_t stage = 0;  ///< of those that are built, the lowest first
  bool is_error = false;
  std::shared_ptr<const DebugShell> debug_shell;  ///< of `shell`: events are copied, and this is large
};
/// Called by one thread at a time.
using EventSink = std::function<void(const Event&)>;

/// Where steps may be found done.
struct CacheSource {
  std::string reference;    ///< of an image; one without a cache in it offers nothing
  bool is_local = false;    ///< of this store only
  bool is_remote = false;   ///< of its registry only; neither: of this store, else of its registry
};
enum class CacheTargetKind : std::uint8_t {
  inline_,   ///< in the manifest of the result: only its own steps can be told
  registry,  ///< as an image of its own, pushed under `reference`
  image,     ///< as an image of its own without a name, left in this store: BuildOutcome::cache_images
};
struct CacheTarget {
  CacheTargetKind kind = CacheTargetKind::inline_;
  std::string reference;
  bool all_stages = false;  ///< also the steps of stages that the target only copies from
};

/// Files that are smaller are always sent: an entry of the archive takes as much.
inline constexpr std::uint64_t least_kept_bytes = 512;
/// A file of the context that is not in its archive, because an earlier context had its contents.
struct KeptFile {
  std::string path;
  std::string digest;       ///< SHA-256, hexadecimal
  std::uint32_t mode = 0;
  std::int64_t mtime_s = 0;
};
/// A context that is kept for the builds that follow.
struct KeptContext {
  std::string name;         ///< the client's, the same for the same folder; each role's scope has its own
  std::string text;         ///< for people: the folder
  std::vector<KeptFile> files;
};

enum class ContextKind : std::uint8_t {
  image,   ///< value: an image's name
  folder,  ///< value: where it lies in the context's archive, "NAME/SUBFOLDER"; NAME is no part of the context then
  remote,  ///< value: a git repository, or the address of an archive
};
struct NamedContext {
  ContextKind kind = ContextKind::image;
  std::string value;
};

/// How much a build tells of what it was made of.
enum class Provenance : std::uint8_t {
  none,
  min,  ///< what came from outside, and the platform; nothing that may hold a secret by mistake
  max,  ///< also arguments, labels, and the Dockerfile
};

/// Somebody waits at the other end for the shell of a step that fails.
struct DebugWish {
  std::string program;                ///< path or name in the step's files; "": the stage's shell, else /bin/sh
  bool has_terminal = false;
  runtime::ConsoleSize console_size;
};

/// What is wanted of a Dockerfile.
enum class BuildCall : std::uint8_t {
  build,
  check,    ///< parse and lint
  outline,  ///< what the target takes
  targets,  ///< which targets there are
};

struct BuildRequest {
  int context_fd = -1;             ///< borrowed; a tar, plain or gzip or zstd. -1: `remote` or `dockerfile_text` is all there is
  std::optional<KeptContext> kept; ///< with context_fd: what it leaves out, and that it is to be kept
  std::string remote;              ///< instead of context_fd: a git repository, or the http(s) address of an archive or of a Dockerfile
  std::string dockerfile;          ///< path in the context; "": Dockerfile, then dockerfile
  std::string dockerfile_text;     ///< set: used instead of a file of the context
  std::vector<std::string> tags;
  std::string target;              ///< a stage's name or number; "": the last one
  dockerfile::Arguments arguments; ///< --build-arg
  std::map<std::string, std::string> labels;
  bool use_cache = true;
  bool pull = false;               ///< ask the registry for base images although they are here
  std::map<std::string, image::RegistryCredentials> registries;  ///< by host: "docker.io", "localhost:5000"
  std::vector<std::string> no_cache_stages;  ///< names or numbers: their steps are done again
  BuildCall call = BuildCall::build;         ///< others build nothing
  std::map<std::string, std::string> annotations;  ///< of the image's manifest
  std::string platform;            ///< "": this machine's
  std::string network;             ///< of RUN without a --network of its own: "", "none", "host", a network's name
  std::vector<std::string> extra_hosts;
  engine::ResourceSpec resources;
  std::vector<engine::Ulimit> ulimits;
  std::int64_t shm_size_bytes = 0;
  std::string cgroup_parent;
  std::map<std::string, std::string> secrets;  ///< id → content; never part of a layer, a key or a history
  std::string agent_session;       ///< random name, by which the client lends its ssh agents to this build alone; "": it lends none
  std::set<std::string> agents;    ///< their ids
  std::string known_hosts;         ///< keys of hosts that the client believes, as sshd(8) has them; for git by ssh
  std::set<std::string> allowed;   ///< "network.host", "security.insecure"
  std::map<std::string, NamedContext> contexts;  ///< what FROM and --from mean by a name, ahead of stages and images
  std::vector<CacheSource> cache_from;  ///< asked in order, behind this builder's own cache
  std::vector<CacheTarget> cache_to;
  Provenance provenance = Provenance::none;
  std::optional<DebugWish> debug;
  /// Set: is told the events of stages, too, as they happen, not one stage after the other. Called by one thread at a time.
  EventSink at_once;

  /// Those of the reference's registry; empty when none were given.
  [[nodiscard]] image::RegistryCredentials credentials_for(const Reference& reference) const {
    auto known = registries.find(reference.domain);
    return known == registries.end() ? image::RegistryCredentials() : known->second;
  }
};

struct BuildOutcome {
  image::Image image;                        ///< of a build
  std::vector<std::string> cache_images;     ///< ids, of the cache targets of kind `image` in their order
  std::vector<dockerfile::Warning> warnings; ///< of the build checks
  std::string dockerfile_name;
  std::string provenance;                    ///< JSON: a predicate of SLSA 1.0; "": nobody asked for it
  bool warnings_are_errors = false;
  dockerfile::Outline outline;                  ///< if that was wanted
  std::vector<dockerfile::TargetInfo> targets;  ///< the same
  /// Set: a RUN ended with this code; `image` is empty. The text names the command, in docker's words.
  std::optional<int> failed_code;
  std::string failure;
};

enum class CacheKind : std::uint8_t {
  step,   ///< what was done and need not be done again
  mount,  ///< a folder of RUN --mount=type=cache
  context,  ///< files that clients have sent, so that they need not send them again
};
/// What builds leave for later builds.
struct CacheEntry {
  CacheKind kind = CacheKind::step;
  std::string key;
  std::string image;        ///< of a step: id of the image that ends with its layer
  std::string text;         ///< of a step: the instruction; of a mount: where its last step had it; of a context: the client's folder
  std::string id;           ///< of a mount; "": a version that did not record it has left it
  std::string scope;        ///< of a mount or a context: the labels of the role whose builds it is for; "": those of whoever may touch everything
  std::string sharing;      ///< of a mount, as its last step had it: "shared", "private", "locked"
  std::uint64_t size_bytes = 0;
  TimestampNs created = 0;
  TimestampNs last_used = 0;
  std::uint64_t use_count = 0;
  bool in_use = false;      ///< by a build that is going on
};

/// A RUN's connection to a lent ssh agent, for whoever carries its bytes to the client.
struct AgentUse {
  UniqueFd connection;
  Cancel over;                 ///< readable once the build has ended; as long as `seat`
  std::shared_ptr<void> seat;
};

enum class BuildStatus : std::uint8_t { running, completed, failed, cancelled };
/// A build of the past, or one that is going on.
struct BuildRecord {
  std::string id;           ///< 25 hexadecimal digits
  std::string name;         ///< the first tag, else the target, else the Dockerfile
  BuildStatus status = BuildStatus::running;
  TimestampNs started = 0;
  TimestampNs ended = 0;    ///< 0: it is going on
  std::vector<std::string> tags;
  std::string target;
  std::string platform;     ///< "": this machine's
  std::string dockerfile;
  std::string context;      ///< the address it came from, without credentials; "": it was sent
  std::string image;        ///< "sha256:…" when there is one
  std::string error;
  std::uint32_t steps = 0;
  std::uint32_t cached = 0;
  std::uint64_t log_bytes = 0;
  std::uint64_t lost_bytes = 0;  ///< of output that had no room
};

/// What becomes a cache mount.
struct CacheMountImport {
  int source_fd = -1;       ///< borrowed; an archive of an image, if `reference` is empty
  std::string reference;    ///< what a registry has under that name
  image::RegistryCredentials credentials;
  std::string id;           ///< "": the one it was exported with
};

struct BuilderOptions {
  std::string root;          ///< exists, 0700: builds/, build-cache/, build-contexts/ and build-history/ below
  std::string exec_root;     ///< exists: secrets lie below while a build goes on
  image::WorkerOptions worker;
  std::uint64_t cache_limit_bytes = 20ULL << 30U;  ///< of steps, cache mounts and kept contexts together
};

/// Thread-safe; a build runs in the caller's thread and a few of its own, and stops when `cancel` fires.
class Builder {
 public:
  virtual ~Builder() = default;
  /// Errors: invalid (Dockerfile, context, arguments; with the place), not_found (base image), denied, unavailable (cancelled, full
  /// disk), conflict (files of `kept` are not kept any more: send all), io. Nothing is left behind but the cache entries of steps that were finished.
  virtual Result<BuildOutcome> build(const engine::Caller& caller, const BuildRequest& request, const EventSink& sink, Cancel cancel) = 0;
  /// Which of these files (SHA-256, hexadecimal) a build with this KeptContext::name would have to send, by their places. Errors: invalid, denied.
  virtual Result<std::vector<std::size_t>> missing_files(const engine::Caller& caller, const std::string& name, const std::vector<std::string>& digests) = 0;
  /// Waits until a RUN of the caller's build with this `agent_session` connects to the agent `id`; the build may have yet to begin. Errors: invalid
  /// (names), denied (another user's session), conflict (too many at once), unavailable (the build ended, or `client` left).
  virtual Result<AgentUse> lend_agent(const engine::Caller& caller, const std::string& session, const std::string& id, Cancel client) = 0;
  /// Entries for which `select` says so (unset: all) and that no build uses; it is asked about what was used longest ago first. Returns what went.
  virtual Result<std::vector<CacheEntry>> prune(const engine::Caller& caller, const std::function<bool(const CacheEntry&)>& select) = 0;
  /// Steps, and the cache mounts in the caller's scope.
  virtual Result<std::vector<CacheEntry>> cache(const engine::Caller& caller) = 0;
  /// By id, or by four digits or more of its key. Errors: not_found, conflict (ambiguous), denied.
  virtual Result<CacheEntry> find_cache_mount(const engine::Caller& caller, const std::string& name) = 0;
  /// Errors: as find_cache_mount; conflict when a build uses it.
  virtual Status remove_cache_mount(const engine::Caller& caller, const std::string& name) = 0;
  /// Writes an archive of an image whose one layer is the mount's tree: the same tree gives the same digests. Errors: as remove_cache_mount; invalid, naming a file that no layer
  /// can hold; unavailable (full disk, cancelled).
  virtual Status export_cache_mount(const engine::Caller& caller, const std::string& name, int target_fd, Cancel cancel) = 0;
  /// Takes the place of the mount of that id, as a whole or not at all. Errors: invalid (it is no cache mount, or holds what none can hold), conflict (a build uses the mount),
  /// denied (the role, the signature policy), those of loading and pulling.
  virtual Result<CacheEntry> import_cache_mount(const engine::Caller& caller, const CacheMountImport& request, Cancel cancel) = 0;
  /// The last builds, newest first. What they said is for admins: it may hold what should have been a secret.
  virtual Result<std::vector<BuildRecord>> history(const engine::Caller& caller) = 0;
  /// By id, unique prefix, or "^N": the Nth behind the newest. Errors: not_found, conflict (ambiguous), denied.
  virtual Result<BuildRecord> find_build(const engine::Caller& caller, const std::string& name) = 0;
  /// Its output so far, opened for reading. Errors: as find_build.
  virtual Result<UniqueFd> open_build_log(const engine::Caller& caller, const std::string& name) = 0;
  /// Errors: as find_build; conflict for one that is going on.
  virtual Status remove_build(const engine::Caller& caller, const std::string& name) = 0;
  /// Ids of images that exist only for the cache's sake: lists of images leave them out.
  virtual std::set<std::string> hidden_images() = 0;
};

/// Takes away what an interrupted build left. The arguments outlive the builder.
Result<std::unique_ptr<Builder>> open_builder(BuilderOptions options, engine::Engine& engine, image::ImageStore& images, state::Store& store);

}  // namespace caisson::build
