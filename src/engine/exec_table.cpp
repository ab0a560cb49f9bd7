// Execs by id.
#include "engine/exec_table.hpp"

#include <chrono>

#include "base/strings.hpp"
#include "linux/process.hpp"

namespace caisson::engine {

void ExecTable::add(ExecInfo exec) {
  std::lock_guard lock(mutex_);
  std::string id = exec.id;
  execs_[id] = std::move(exec);
}

Result<ExecInfo> ExecTable::find(const std::string& id) {
  std::lock_guard lock(mutex_);
  auto found = execs_.find(id);
  if (found == execs_.end()) return Error(ErrorKind::not_found, concat("No such exec instance: ", id));
  return found->second;
}

Result<ExecInfo> ExecTable::claim(const std::string& id) {
  std::lock_guard lock(mutex_);
  auto found = execs_.find(id);
  if (found == execs_.end()) return Error(ErrorKind::not_found, concat("No such exec instance: ", id));
  if (found->second.started) return Error(ErrorKind::conflict, concat("Error: Exec command ", id, " is already running"));
  found->second.started = true;
  found->second.running = true;
  launching_.insert(id);
  return found->second;
}

Result<ExecInfo> ExecTable::find_settled(const std::string& id) {
  constexpr std::chrono::seconds longest(2);
  auto exec = TRY_PLAIN(find(id));
  bool has_ended = exec.running && exec.pid != 0 && !linux::process_start_time(exec.pid).ok();
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, longest, [&] {
    auto found = execs_.find(id);
    if (found == execs_.end() || found->second.exit_code) return true;
    if (launching_.contains(id)) return false;
    // The pid became known while we waited: it may have ended already.
    pid_t pid = found->second.pid;
    return !has_ended && (pid == 0 || linux::process_start_time(pid).ok());
  });
  auto found = execs_.find(id);
  if (found == execs_.end()) return Error(ErrorKind::not_found, concat("No such exec instance: ", id));
  return found->second;
}

void ExecTable::started(const std::string& id, pid_t pid) {
  std::lock_guard lock(mutex_);
  launching_.erase(id);
  changed_.notify_all();
  auto found = execs_.find(id);
  if (found != execs_.end()) found->second.pid = pid;  // also of one that has ended by now
}

std::string ExecTable::container_of(pid_t pid) {
  std::lock_guard lock(mutex_);
  const ExecInfo* newest = nullptr;
  for (const auto& [id, exec] : execs_)
    if (exec.pid == pid && (newest == nullptr || exec.running)) newest = &exec;
  return newest == nullptr ? "" : newest->container_id;
}

void ExecTable::finished(const std::string& id, int exit_code) {
  std::lock_guard lock(mutex_);
  launching_.erase(id);
  changed_.notify_all();
  auto found = execs_.find(id);
  if (found == execs_.end() || found->second.exit_code) return;
  found->second.exit_code = exit_code;
  found->second.running = false;
  found->second.pid = 0;
  finished_.push_back(id);
  if (finished_.size() > finished_limit) {
    execs_.erase(finished_.front());
    finished_.pop_front();
  }
}

std::vector<std::string> ExecTable::of_container(const std::string& container_id) {
  std::lock_guard lock(mutex_);
  std::vector<std::string> ids;
  for (const auto& [id, exec] : execs_)
    if (exec.container_id == container_id && !exec.exit_code) ids.push_back(id);
  return ids;
}

void ExecTable::forget_container(const std::string& container_id) {
  std::lock_guard lock(mutex_);
  std::erase_if(finished_, [&](const std::string& id) {
    auto found = execs_.find(id);
    return found != execs_.end() && found->second.container_id == container_id;
  });
  std::erase_if(execs_, [&](const auto& entry) { return entry.second.container_id == container_id; });
}

}  // namespace caisson::engine
