// What the parts of one build share: the request, the context, the cache, the events, and how far each stage is.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "build/builder.hpp"
#include "build/cache.hpp"
#include "build/cache_mounts.hpp"
#include "build/fetch.hpp"
#include "build/named_contexts.hpp"
#include "build/provenance.hpp"
#include "build/portable_cache.hpp"
#include "build/ssh_agents.hpp"
#include "build/tree.hpp"
#include "dockerfile/parser.hpp"
#include "image/manifest.hpp"

namespace caisson::build {

/// On every container of a step; its value is the name of the build's folder.
inline constexpr std::string_view build_label = "org.caisson.build";

/// A folder below <root>/builds that vanishes with everything in it.
class BuildFolder {
 public:
  static Result<BuildFolder> create(const std::string& parent);
  /// The same, but it is not there before the first folder in it is: most builds need none.
  static BuildFolder create_later(const std::string& parent);
  BuildFolder(BuildFolder&& other) noexcept : path_(std::exchange(other.path_, {})), is_there_(other.is_there_.load()) {}
  BuildFolder& operator=(BuildFolder&&) = delete;
  BuildFolder(const BuildFolder&) = delete;
  BuildFolder& operator=(const BuildFolder&) = delete;
  ~BuildFolder();
  [[nodiscard]] const std::string& path() const { return path_; }
  /// A new empty folder in it.
  Result<std::string> make(std::string_view purpose);

 private:
  BuildFolder(std::string path, bool is_there) : path_(std::move(path)), is_there_(is_there) {}
  std::string path_;
  std::atomic<bool> is_there_;
  std::atomic<unsigned> count_ = 0;
};

/// Events of stages that run side by side, handed on stage by stage.
class Reporter {
 public:
  /// `at_once` may be empty: it gets each event when it happens.
  Reporter(const EventSink& sink, const EventSink& at_once, std::size_t stages) : sink_(sink), at_once_(at_once), waiting_(stages), done_(stages) {}
  void send(std::size_t stage, Event event);
  /// The stage sends nothing more: the next one's events may pass.
  void finish(std::size_t stage);
  /// After a failure: what still waits is passed on.
  void flush();
  /// Outside any stage.
  void send_now(const Event& event);

 private:
  const EventSink& sink_;
  const EventSink& at_once_;
  std::mutex mutex_;
  std::size_t current_ = 0;
  std::vector<std::deque<Event>> waiting_;
  std::vector<bool> done_;
};

/// A stage as far as it is built.
struct StageState {
  std::string base_image;                      ///< id of the image that FROM named; "": scratch
  image::ImageConfig config;                   ///< without the base's layers; its history is the base's
  std::vector<image::MadeLayer> layers;        ///< upon the base's
  std::vector<image::HistoryEntry> history;    ///< behind the base's
  std::string key;                             ///< of the file system: what could make it differ
  std::vector<std::string> keys;               ///< of the steps behind the base
  std::string image;                           ///< id of an image with exactly these files; "" for none at all
  std::string platform;
  bool has_cmd = false;
};

struct SharedBuild {
  const engine::Caller& caller;
  const BuildRequest& request;
  engine::Engine& engine;
  image::ImageStore& images;
  Cache& cache;
  CacheMounts& mounts;
  const BuilderOptions& options;
  BuildFolder& folder;       ///< on disk
  BuildFolder& run_folder;   ///< below the exec root: secrets
  Reporter& reporter;
  const dockerfile::Source& source;
  const dockerfile::File& file;
  const dockerfile::GlobalScope& globals;
  UniqueFd context;          ///< opened for reading; empty: none
  std::string platform;      ///< of the result
  std::optional<std::int64_t> source_date_epoch_s;
  const ImportedCache& imported;
  const NamedContexts& contexts;
  Materials& materials;
  BuildAgents* agents;       ///< ssh agents that the client lends; nullptr: none
  Cancel cancel;             ///< the client's departure, or another stage's failure

  std::mutex mutex;
  std::map<std::size_t, StageState> finished;
  std::set<std::string> used_keys;             ///< pinned in the cache until the build ends
  std::optional<int> failed_code;              ///< of a RUN
  std::map<std::string, CacheMounts::Use> used_mounts;  ///< by key: nobody takes them away before the build ends

  void use_key(const std::string& key) {
    {
      std::lock_guard lock(mutex);
      if (!used_keys.insert(key).second) return;
    }
    cache.pin(key);
  }
  /// Returns where it lies.
  std::string keep_mount(CacheMounts::Use use) {
    std::lock_guard lock(mutex);
    return used_mounts.try_emplace(use.key(), std::move(use)).first->second.path();
  }
};

/// Of the folders that git works in, told apart by engine.
std::string git_work_prefix(const BuilderOptions& options);
/// `agents`: nullptr when the client lends none.
GitOptions git_options(const BuilderOptions& options, const dockerfile::GitSource& source, const BuildRequest& request, BuildAgents* agents);

/// Folders of a state's file system, topmost first; at least one.
Result<std::vector<std::string>> lower_folders(SharedBuild& build, const StageState& state);
/// Moves the state on to what a step made.
void add_layer(SharedBuild& build, StageState& state, const std::string& key, const Made& made);
/// The layer's image: the state's files and this layer.
Result<std::string> compose_step(SharedBuild& build, const StageState& state, const image::MadeLayer& layer);
/// What lies in the upper folder as a layer; times clamped when the build has a SOURCE_DATE_EPOCH.
Result<image::MadeLayer> layer_of(SharedBuild& build, const std::string& upper, image::LayerTrees source = {});

/// Of trees that become layers in this build's store.
Result<TreeLimits> tree_limits(const SharedBuild& build);

/// A file system to read, or to write into an upper folder.
struct OpenedTree {
  std::string upper;  ///< "": read-only
  UniqueFd mounts;
  UniqueFd root;      ///< opened for reading
};
Result<OpenedTree> hold_tree(SharedBuild& build, const std::vector<std::string>& lowers, bool writable);

}  // namespace caisson::build
