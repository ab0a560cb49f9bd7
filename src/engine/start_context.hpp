// What one start gathers on its way; undone by its destructor unless the program runs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/capabilities.hpp"
#include "engine/local_engine.hpp"

namespace caisson::engine {

/// Namespaces of other containers that this one shares.
struct LocalEngine::Joined {
  pid_t pid = 0;  ///< 0: none
  std::uint32_t first_host_id = 0;
  std::string pid_path;
  std::string ipc_path;
  std::string net_path;
};

struct LocalEngine::StartContext {
  StartContext(LocalEngine& its_engine, std::string container_id) : engine(its_engine), id(std::move(container_id)) {}
  StartContext(const StartContext&) = delete;
  StartContext& operator=(const StartContext&) = delete;
  ~StartContext();

  LocalEngine& engine;
  std::string id;
  Record record;                     ///< what it will be once it runs
  std::uint32_t first_host_id = 0;
  linux::IdMap id_map;
  UniqueFd user_namespace;
  UniqueFd network_namespace;
  bool network_is_ready = false;     ///< `lo` is up, and `link` made if it should have one
  std::optional<network::ReadyLink> link;  ///< until connect() has used it up
  std::string joined_pid_path;
  std::string joined_ipc_path;
  std::vector<std::string> lowerdirs;
  VolumeSources volumes;             ///< open until the program runs
  std::vector<std::string> unmappable_sources;
  bool made_run_dir = false;
  bool connecting = false;
  std::vector<network::Endpoint> endpoints;
  bool was_launched = false;
  bool committed = false;
};

}  // namespace caisson::engine
