// The builder of this host.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "build/build_state.hpp"
#include "build/builder.hpp"
#include "build/history.hpp"
#include "build/kept_context.hpp"
#include "build/ssh_agents.hpp"
#include "image/ready_workers.hpp"

namespace caisson::build {

class LocalBuilder final : public Builder {
 public:
  LocalBuilder(BuilderOptions options, engine::Engine& engine, image::ImageStore& images, state::Store& store)
      : options_(std::move(options)),
        engine_(engine),
        images_(images),
        store_(store),
        cache_(store, images),
        mounts_(store, CacheKind::mount, options_.root + "/build-cache", listener()),
        contexts_(store, CacheKind::context, options_.root + "/build-contexts", listener()),
        history_(store, options_.root + "/build-history") {}
  ~LocalBuilder() override {
    images_.when_full({});
    mounts_.stop();
    contexts_.stop();
  }
  LocalBuilder(const LocalBuilder&) = delete;
  LocalBuilder& operator=(const LocalBuilder&) = delete;
  /// The second half of construction: folders, records, and what an interrupted build left.
  Status open();

  Result<BuildOutcome> build(const engine::Caller& caller, const BuildRequest& request, const EventSink& sink, Cancel cancel) override;
  Result<std::vector<std::size_t>> missing_files(const engine::Caller& caller, const std::string& name, const std::vector<std::string>& digests) override;
  Result<AgentUse> lend_agent(const engine::Caller& caller, const std::string& session, const std::string& id, Cancel client) override;
  Result<std::vector<CacheEntry>> prune(const engine::Caller& caller, const std::function<bool(const CacheEntry&)>& select) override;
  Result<std::vector<CacheEntry>> cache(const engine::Caller& caller) override;
  Result<CacheEntry> find_cache_mount(const engine::Caller& caller, const std::string& name) override;
  Status remove_cache_mount(const engine::Caller& caller, const std::string& name) override;
  Status export_cache_mount(const engine::Caller& caller, const std::string& name, int target_fd, Cancel cancel) override;
  Result<CacheEntry> import_cache_mount(const engine::Caller& caller, const CacheMountImport& request, Cancel cancel) override;
  Result<std::vector<BuildRecord>> history(const engine::Caller& caller) override;
  Result<BuildRecord> find_build(const engine::Caller& caller, const std::string& name) override;
  Result<UniqueFd> open_build_log(const engine::Caller& caller, const std::string& name) override;
  Status remove_build(const engine::Caller& caller, const std::string& name) override;
  std::set<std::string> hidden_images() override;

 private:
  CacheMounts::Listener listener() {
    return {[this](const std::string& path, std::uint64_t bytes) { images_.count_folder(path, bytes); }, [this] { bound_behind(); }};
  }
  Result<BuildOutcome> build_now(const engine::Caller& caller, const BuildRequest& given, const std::string& id, const EventSink& sink, Cancel cancel);
  /// `stop` tells the other stages of one that failed. `client`: its departure alone.
  Status run_stages(SharedBuild& build, const std::vector<std::size_t>& needed, const std::function<void()>& stop, Cancel client);
  Result<image::Image> finish(SharedBuild& build, std::size_t target);
  /// Adds what cannot be reached or read as a warning.
  void import_cache(const BuildRequest& request, const std::string& platform, ImportedCache& imported, Reporter& reporter, Cancel cancel);
  Status export_cache(SharedBuild& build, std::size_t target, BuildOutcome& outcome);
  std::vector<ExportedStep> steps_to_export(SharedBuild& build, std::size_t target, bool all_stages);
  Status remove_leftovers();
  class ContextInUse;
  /// The context's folder; for an address that gives a Dockerfile alone an empty one, and the text in `request`.
  Result<UniqueFd> open_context(BuildRequest& request, BuildFolder& folder, Materials& materials, BuildAgents* agents, Cancel cancel);
  /// Folders leave the context; what is remote is fetched.
  Result<NamedContexts> open_named_contexts(const BuildRequest& request, int context_fd, BuildFolder& folder, ContextInUse* kept, Materials& materials, BuildAgents* agents, Cancel cancel);
  /// A git repository, or an archive at an address; empty when the address gives something else, which is in `other` then.
  Result<UniqueFd> fetch_context(const std::string& address, const BuildRequest& request, BuildFolder& folder, Materials& materials, BuildAgents* agents, std::string& other, Cancel cancel);

  /// Steps, all cache mounts and all contexts, what was used longest ago first.
  std::vector<CacheEntry> oldest_first();
  Result<std::vector<CacheEntry>> take(const std::vector<CacheEntry>& entries);
  /// Lets the one that was used longest ago go, unless a build needs it. False: there is none.
  Result<bool> release_oldest();
  /// Lets those that were used longest ago go until the rest is within the builder's bound and the store within its quota.
  Status bound_cache();
  /// The same, when sizes were found out that nobody waits for.
  void bound_behind();

  // mount_transfer.cpp
  class Transfer;
  Status remove_transfer_leftovers();
  Status forget_image(const std::string& id);
  void hide(const std::string& image, bool is_hidden);
  [[nodiscard]] std::vector<CacheEntry> mounts_in_scope(const engine::Caller& caller) const { return in_scope(caller, mounts_.entries()); }
  [[nodiscard]] static std::vector<CacheEntry> in_scope(const engine::Caller& caller, std::vector<CacheEntry> all);
  Result<CacheEntry> find_mount(const engine::Caller& caller, const std::string& name) const;

  std::unique_ptr<image::ReadyWorkers> workers_;
  BuilderOptions options_;
  engine::Engine& engine_;
  image::ImageStore& images_;
  state::Store& store_;
  Cache cache_;
  CacheMounts mounts_;
  CacheMounts contexts_;
  LentFiles lent_;  // of kept contexts
  std::mutex hidden_mutex_;
  std::set<std::string> hidden_;  // images of cache mounts on their way
  History history_;
  AgentSessions agents_;
};

/// What the target needs, lowest number first: stages it is built FROM, and those that it copies from or mounts.
std::vector<std::size_t> needed_stages(const dockerfile::File& file, const dockerfile::GlobalScope& globals, std::size_t target, const NamedContexts& contexts = {});
/// The stages that one stage needs itself.
std::set<std::size_t> needs_of(const dockerfile::File& file, const dockerfile::GlobalScope& globals, std::size_t stage, const NamedContexts& contexts = {});
/// "": the last one; a name or a number. Errors: invalid, in docker's words.
Result<std::size_t> find_target(const dockerfile::File& file, const std::string& target);

}  // namespace caisson::build
