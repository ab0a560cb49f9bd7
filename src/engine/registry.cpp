// Lookup as docker does it.
#include "engine/registry.hpp"

#include "base/strings.hpp"

namespace caisson::engine {

Status Registry::reserve_name(const std::string& name, const std::string& id) {
  std::lock_guard lock(mutex_);
  auto [found, inserted] = id_by_name_.emplace(name, id);
  if (inserted) return {};
  return Error(ErrorKind::conflict,
               concat("Conflict. The container name \"/", name, "\" is already in use by container \"", found->second,
                      "\". You have to remove (or rename) that container to be able to reuse that name."));
}

void Registry::release_name(const std::string& name, const std::string& id) {
  std::lock_guard lock(mutex_);
  auto found = id_by_name_.find(name);
  if (found != id_by_name_.end() && found->second == id) id_by_name_.erase(found);
}

void Registry::add(const Pointer& container, const std::string& name) {
  std::lock_guard lock(mutex_);
  by_id_[container->id] = container;
  id_by_name_[name] = container->id;
}

void Registry::remove(const std::string& id, const std::string& name) {
  std::lock_guard lock(mutex_);
  by_id_.erase(id);
  auto found = id_by_name_.find(name);
  if (found != id_by_name_.end() && found->second == id) id_by_name_.erase(found);
}

Result<Registry::Pointer> Registry::find(std::string_view name_or_id) {
  std::lock_guard lock(mutex_);
  std::string_view name = name_or_id;
  if (name.starts_with('/')) name.remove_prefix(1);
  auto missing = [&] { return Error(ErrorKind::not_found, concat("No such container: ", name_or_id)); };
  if (name.empty()) return missing();
  if (auto exact = by_id_.find(name); exact != by_id_.end()) return exact->second;
  if (auto named = id_by_name_.find(name); named != id_by_name_.end()) {
    // A name may be reserved for a container that is still being created.
    auto container = by_id_.find(named->second);
    if (container == by_id_.end()) return missing();
    return container->second;
  }
  auto first = by_id_.lower_bound(name);
  if (first == by_id_.end() || !std::string_view(first->first).starts_with(name)) return missing();
  auto second = std::next(first);
  if (second != by_id_.end() && std::string_view(second->first).starts_with(name))
    return Error(ErrorKind::invalid, concat("Multiple IDs found with provided prefix: ", name_or_id));
  return first->second;
}

Registry::Pointer Registry::find_id(const std::string& id) {
  std::lock_guard lock(mutex_);
  auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : found->second;
}

std::vector<Registry::Pointer> Registry::all() {
  std::lock_guard lock(mutex_);
  std::vector<Pointer> containers;
  containers.reserve(by_id_.size());
  for (const auto& [id, container] : by_id_) containers.push_back(container);
  return containers;
}

}  // namespace caisson::engine
