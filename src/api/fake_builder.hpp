// A builder for the api's tests: remembers what it was asked, says what it was told to say.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "base/strings.hpp"
#include "build/builder.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"

namespace caisson::api {

class FakeBuilder final : public build::Builder {
 public:
  build::BuildRequest request;
  std::string context;  ///< what the context held
  std::vector<build::Event> events;
  Result<build::BuildOutcome> outcome = build::BuildOutcome{};
  std::vector<build::CacheEntry> entries;
  std::vector<build::BuildRecord> builds;
  std::set<std::string> hidden;
  build::CacheMountImport imported;
  std::set<std::string> kept;  ///< "NAME DIGEST"
  std::string agent_session;
  std::string agent_id;
  std::string agent_says;

  Result<build::BuildOutcome> build(const engine::Caller& /*caller*/, const build::BuildRequest& wanted, const build::EventSink& sink, Cancel /*cancel*/) override {
    request = wanted;
    context = TRY_PLAIN(linux::read_all(wanted.context_fd));
    for (const auto& event : events) {
      if (wanted.at_once) wanted.at_once(event);
      sink(event);
    }
    return outcome;
  }
  Result<std::vector<std::size_t>> missing_files(const engine::Caller& /*caller*/, const std::string& name, const std::vector<std::string>& digests) override {
    std::vector<std::size_t> out;
    for (std::size_t i = 0; i < digests.size(); ++i)
      if (!kept.contains(concat(name, " ", digests[i]))) out.push_back(i);
    return out;
  }
  /// The connection of somebody who said `agent_says` and left.
  Result<build::AgentUse> lend_agent(const engine::Caller& /*caller*/, const std::string& session, const std::string& id, Cancel /*client*/) override {
    if (session != agent_session) return Error(ErrorKind::denied, concat("no agents for ", session));
    agent_id = id;
    auto ends = TRY_PLAIN(linux::socketpair(linux::UnixType::stream));
    TRY_PLAIN(linux::send_all(ends.second.get(), agent_says));
    build::AgentUse use;
    use.connection = std::move(ends.first);
    return use;
  }
  Result<std::vector<build::CacheEntry>> prune(const engine::Caller& /*caller*/, const std::function<bool(const build::CacheEntry&)>& select) override {
    std::vector<build::CacheEntry> gone;
    for (const auto& entry : entries)
      if (!select || select(entry)) gone.push_back(entry);
    return gone;
  }
  Result<std::vector<build::CacheEntry>> cache(const engine::Caller& /*caller*/) override { return entries; }
  Result<build::CacheEntry> find_cache_mount(const engine::Caller& /*caller*/, const std::string& name) override {
    for (const auto& entry : entries)
      if (entry.kind == build::CacheKind::mount && entry.id == name) return entry;
    return Error(ErrorKind::not_found, concat("No such cache mount: ", name));
  }
  Status remove_cache_mount(const engine::Caller& caller, const std::string& name) override {
    TRY_PLAIN(find_cache_mount(caller, name));
    std::erase_if(entries, [&](const build::CacheEntry& entry) { return entry.id == name; });
    return {};
  }
  Status export_cache_mount(const engine::Caller& caller, const std::string& name, int target_fd, Cancel /*cancel*/) override {
    TRY_PLAIN(find_cache_mount(caller, name));
    return linux::write_all(target_fd, "an archive");
  }
  Result<build::CacheEntry> import_cache_mount(const engine::Caller& /*caller*/, const build::CacheMountImport& wanted, Cancel /*cancel*/) override {
    imported = wanted;
    if (wanted.source_fd >= 0) context = TRY_PLAIN(linux::read_all(wanted.source_fd));
    build::CacheEntry entry;
    entry.kind = build::CacheKind::mount;
    entry.key = std::string(64, 'm');
    entry.id = wanted.id;
    return entry;
  }
  Result<std::vector<build::BuildRecord>> history(const engine::Caller& /*caller*/) override { return builds; }
  Result<build::BuildRecord> find_build(const engine::Caller& /*caller*/, const std::string& name) override {
    for (const auto& record : builds)
      if (record.id == name) return record;
    return Error(ErrorKind::not_found, concat("No such build: ", name));
  }
  Result<UniqueFd> open_build_log(const engine::Caller& caller, const std::string& name) override {
    TRY_PLAIN(find_build(caller, name));
    auto file = TRY_PLAIN(linux::memfd_create("build-log"));
    TRY_PLAIN(linux::write_all(file.get(), "Step 1/1 : FROM x\n"));
    return file;
  }
  Status remove_build(const engine::Caller& caller, const std::string& name) override {
    TRY_PLAIN(find_build(caller, name));
    std::erase_if(builds, [&](const build::BuildRecord& record) { return record.id == name; });
    return {};
  }
  std::set<std::string> hidden_images() override { return hidden; }
};

}  // namespace caisson::api
