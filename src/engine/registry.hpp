// Registry: containers by id, id prefix and name.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "engine/container.hpp"

namespace caisson::engine {

/// Thread-safe; no call blocks longer than a lookup.
class Registry {
 public:
  using Pointer = std::shared_ptr<Container>;  // shared: see Container

  /// Keeps `name` for a container that is being created or renamed. Errors: conflict, in docker's words.
  Status reserve_name(const std::string& name, const std::string& id);
  void release_name(const std::string& name, const std::string& id);
  void add(const Pointer& container, const std::string& name);
  void remove(const std::string& id, const std::string& name);

  /// Full id, name (a leading slash is ignored), then unique id prefix. Errors: not_found ("No such container: X"), invalid (ambiguous).
  Result<Pointer> find(std::string_view name_or_id);
  Pointer find_id(const std::string& id);
  std::vector<Pointer> all();

 private:
  std::mutex mutex_;
  std::map<std::string, Pointer, std::less<>> by_id_;
  std::map<std::string, std::string, std::less<>> id_by_name_;
};

}  // namespace caisson::engine
