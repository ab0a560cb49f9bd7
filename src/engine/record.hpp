// What the engine remembers of one container, in memory and in the store.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "engine/types.hpp"

namespace caisson::engine {

/// `info` without what is derived (folders, endpoint, exec ids, sizes), plus what only the engine needs.
struct Record {
  ContainerInfo info;
  std::uint64_t start_time = 0;   ///< of the init process, against pid reuse
  std::string boot_id;            ///< of the host when it was started last
  std::string cgroups_path;       ///< of the last start
  bool pid_is_current = false;    ///< not stored: `info.pid` was confirmed by this daemon
};

/// A container that is gone for its users but whose traces are still to be removed.
struct Garbage {
  std::string id;
  std::string cgroups_path;
  std::uint32_t first_host_id = 0;
  std::vector<std::string> volumes;            ///< all that it used: a file system mounted for it goes with its last user
  std::vector<std::string> anonymous_volumes;  ///< to be removed unless somebody else uses them
};

std::string to_text(const Record& record);
/// Errors: corrupt, naming the field.
Result<Record> parse_record(std::string_view text);

std::string to_text(const Garbage& garbage);
Result<Garbage> parse_garbage(std::string_view text);

/// A text as a JSON value: what the store takes.
std::string quoted(const std::string& text);

std::string to_text(const VolumeInfo& volume);
Result<VolumeInfo> parse_volume(std::string_view text);

}  // namespace caisson::engine
