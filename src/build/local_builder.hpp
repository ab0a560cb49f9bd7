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
#include "build/ssh_agents.hpp"
#include "image/ready_workers.hpp"

namespace caisson::build {

class LocalBuilder final : public Builder {
 public:
  LocalBuilder(BuilderOptions options, engine::Engine& engine, image::ImageStore& images, state::Store& store)
      : options_(std::move(options)), engine_(engine), images_(images), cache_(store, images), history_(store, options_.root + "/build-history") {}
  ~LocalBuilder() override { images_.when_full({}); }
  LocalBuilder(const LocalBuilder&) = delete;
  LocalBuilder& operator=(const LocalBuilder&) = delete;
  /// The second half of construction: folders, records, and what an interrupted build left.
  Status open();

  Result<BuildOutcome> build(const engine::Caller& caller, const BuildRequest& request, const EventSink& sink, Cancel cancel) override;
  Result<AgentUse> lend_agent(const engine::Caller& caller, const std::string& session, const std::string& id, Cancel client) override;
  Result<std::vector<CacheEntry>> prune(const engine::Caller& caller, const std::function<bool(const CacheEntry&)>& select) override;
  Result<std::vector<CacheEntry>> cache(const engine::Caller& caller) override;
  Result<std::vector<BuildRecord>> history(const engine::Caller& caller) override;
  Result<BuildRecord> find_build(const engine::Caller& caller, const std::string& name) override;
  Result<UniqueFd> open_build_log(const engine::Caller& caller, const std::string& name) override;
  Status remove_build(const engine::Caller& caller, const std::string& name) override;
  std::set<std::string> hidden_images() override { return cache_.images(); }

 private:
  Result<BuildOutcome> build_now(const engine::Caller& caller, const BuildRequest& given, const std::string& id, const EventSink& sink, Cancel cancel);
  /// `stop` tells the other stages of one that failed. `client`: its departure alone.
  Status run_stages(SharedBuild& build, const std::vector<std::size_t>& needed, const std::function<void()>& stop, Cancel client);
  Result<image::Image> finish(SharedBuild& build, std::size_t target);
  /// Adds what cannot be reached or read as a warning.
  void import_cache(const BuildRequest& request, const std::string& platform, ImportedCache& imported, Reporter& reporter, Cancel cancel);
  Status export_cache(SharedBuild& build, std::size_t target, BuildOutcome& outcome);
  std::vector<ExportedStep> steps_to_export(SharedBuild& build, std::size_t target, bool all_stages);
  Status remove_leftovers();
  /// The context's folder; for an address that gives a Dockerfile alone an empty one, and the text in `request`.
  Result<UniqueFd> open_context(BuildRequest& request, BuildFolder& folder, Materials& materials, BuildAgents* agents, Cancel cancel);
  /// Folders leave the context; what is remote is fetched.
  Result<NamedContexts> open_named_contexts(const BuildRequest& request, int context_fd, BuildFolder& folder, Materials& materials, BuildAgents* agents, Cancel cancel);
  /// A git repository, or an archive at an address; empty when the address gives something else, which is in `other` then.
  Result<UniqueFd> fetch_context(const std::string& address, const BuildRequest& request, BuildFolder& folder, Materials& materials, BuildAgents* agents, std::string& other, Cancel cancel);
  Status prune_cache_mounts();

  std::unique_ptr<image::ReadyWorkers> workers_;
  BuilderOptions options_;
  engine::Engine& engine_;
  image::ImageStore& images_;
  Cache cache_;
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
