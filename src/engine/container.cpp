// Records change in the store first, then in memory; waiters are told last.
#include "engine/container.hpp"

#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "engine/liveness.hpp"
#include "linux/event.hpp"

namespace caisson::engine {

std::string container_key(const std::string& id) { return "container/" + id; }
std::string name_key(const std::string& name) { return "name/" + name; }
std::string garbage_key(const std::string& id) { return "garbage/" + id; }

Result<std::shared_ptr<WaitState>> WaitState::create(WaitCondition condition) {
  auto wake = TRY(linux::eventfd(), "register a wait");
  return std::shared_ptr<WaitState>(new WaitState(condition, std::move(wake)));
}

void WaitState::complete(WaitResult result) {
  std::lock_guard lock(mutex_);
  if (result_) return;
  result_ = std::move(result);
  ignore(linux::eventfd_signal(wake_.get()));  // fails only on a full counter, which is readable already
}

Result<WaitResult> WaitState::wait(Cancel cancel, int timeout_ms) {
  std::array<linux::PollEntry, 2> entries{};
  entries[0] = {wake_.get(), POLLIN, 0};
  entries[1] = {cancel.fd, POLLIN, 0};
  int ready = TRY(linux::poll(entries, timeout_ms), "wait for a container");
  std::lock_guard lock(mutex_);
  if (result_) return *result_;
  if (ready == 0) return Error(ErrorKind::timeout, "the container is still running");
  return Error(ErrorKind::timeout, "wait for a container: the client went away");
}

std::shared_ptr<const Record> Container::snapshot() const {
  std::lock_guard lock(record_mutex_);
  return record_;
}

void Container::publish(std::shared_ptr<const Record> record) {
  std::lock_guard lock(record_mutex_);
  record_.swap(record);
}

Status Container::change(const std::function<void(Record&)>& edit, const std::function<void(const Record&)>& tell) {
  std::lock_guard lock(state_mutex_);
  if (removed) return Error(ErrorKind::not_found, concat("No such container: ", id));
  auto next = std::make_shared<Record>(*snapshot());
  edit(*next);
  state::Transaction transaction;
  transaction.put(container_key(id), to_text(*next));
  transaction.frees = !is_alive(next->info.state);  // an end has to be on record before what it leaves can be removed
  auto committed = store_.commit(transaction);
  unsaved_ = !committed.ok();
  std::shared_ptr<const Record> changed = std::move(next);
  publish(changed);
  if (tell) tell(*changed);
  if (!committed.ok()) return std::move(committed).error().in(concat("save the record of container ", id.substr(0, 12)));
  return {};
}

Status Container::change_with(state::Transaction transaction, const std::function<void(Record&)>& edit) {
  std::lock_guard lock(state_mutex_);
  if (removed) return Error(ErrorKind::not_found, concat("No such container: ", id));
  auto next = std::make_shared<Record>(*snapshot());
  edit(*next);
  transaction.put(container_key(id), to_text(*next));
  TRY(store_.commit(transaction), concat("save the record of container ", id.substr(0, 12)));
  unsaved_ = false;
  publish(std::move(next));
  return {};
}

Status Container::erase(const std::function<void(Record&)>& edit,
                        const std::function<void(const Record&, state::Transaction&)>& build) {
  std::lock_guard lock(state_mutex_);
  if (removed.exchange(true)) return Error(ErrorKind::not_found, concat("No such container: ", id));
  auto last = std::make_shared<Record>(*snapshot());
  edit(*last);
  state::Transaction transaction;
  transaction.erase(container_key(id)).erase(name_key(last->info.name));
  transaction.frees = true;
  build(*last, transaction);
  publish(std::move(last));
  TRY(store_.commit(transaction), concat("erase the record of container ", id.substr(0, 12)));
  return {};
}

void Container::change_in_memory(const std::function<void(Record&)>& edit) {
  std::lock_guard lock(state_mutex_);
  auto next = std::make_shared<Record>(*snapshot());
  edit(*next);
  publish(std::move(next));
}

void Container::forget_restarts() {
  restart_delay_ms = 0;
  change_in_memory([](Record& record) { record.info.restart_count = 0; });
}

Status Container::flush() {
  std::lock_guard lock(state_mutex_);
  if (!unsaved_ || removed) return {};
  state::Transaction transaction;
  transaction.put(container_key(id), to_text(*snapshot()));
  TRY(store_.commit(transaction), concat("save the record of container ", id.substr(0, 12)));
  unsaved_ = false;
  return {};
}

void Container::begin_start() {
  std::lock_guard lock(state_mutex_);
  starting_ = true;
  kept_exit_.reset();
}

std::optional<runtime::ExitStatus> Container::finish_start() {
  std::lock_guard lock(state_mutex_);
  starting_ = false;
  return std::exchange(kept_exit_, std::nullopt);
}

bool Container::keep_exit(const runtime::ExitStatus& status) {
  std::lock_guard lock(state_mutex_);
  if (!starting_) return false;
  kept_exit_ = status;
  return true;
}

Result<std::shared_ptr<WaitState>> Container::add_waiter(WaitCondition condition) {
  auto waiter = TRY_PLAIN(WaitState::create(condition));
  std::lock_guard lock(state_mutex_);
  auto record = snapshot();
  bool running = record->info.state == State::running || record->info.state == State::paused || record->info.state == State::restarting;
  WaitResult now{record->info.exit_code, record->info.error};
  if ((condition == WaitCondition::not_running && !running && !starting_) || removed) {
    waiter->complete(now);
    return waiter;
  }
  // Clients that went away are forgotten here, so that the list stays as short as its live waiters.
  std::erase_if(waiters_, [](const auto& other) { return other.use_count() == 1; });
  waiters_.push_back(waiter);
  return waiter;
}

void Container::complete_waiters(std::initializer_list<WaitCondition> conditions, const WaitResult& result) {
  std::vector<std::shared_ptr<WaitState>> done;
  {
    std::lock_guard lock(state_mutex_);
    auto is_meant = [&](const auto& waiter) { return std::find(conditions.begin(), conditions.end(), waiter->condition()) != conditions.end(); };
    auto rest = std::stable_partition(waiters_.begin(), waiters_.end(), [&](const auto& waiter) { return !is_meant(waiter); });
    done.assign(rest, waiters_.end());
    waiters_.erase(rest, waiters_.end());
  }
  for (const auto& waiter : done) waiter->complete(result);
}

void Container::keep_client(runtime::AttachRequest client) {
  std::lock_guard lock(state_mutex_);
  clients_.push_back(std::move(client));
}

std::vector<runtime::AttachRequest> Container::take_clients() {
  std::lock_guard lock(state_mutex_);
  return std::exchange(clients_, {});
}

}  // namespace caisson::engine
