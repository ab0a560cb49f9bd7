// Records, their files, and how many of them are kept.
#include "build/history.hpp"

#include <algorithm>
#include <cerrno>

#include "base/ids.hpp"
#include "base/json.hpp"
#include "base/log.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::build {

namespace {

constexpr std::string_view prefix = "build/history/";
constexpr std::size_t most_records = 100;
constexpr std::size_t most_waiting_bytes = 4096;
constexpr std::uint64_t most_log_bytes = 8U << 20U;  // of one build: endless output must not fill the disk

std::string_view name_of(BuildStatus status) {
  switch (status) {
    case BuildStatus::running: return "running";
    case BuildStatus::completed: return "completed";
    case BuildStatus::failed: return "failed";
    case BuildStatus::cancelled: return "cancelled";
  }
  return "failed";
}

std::string encode(const BuildRecord& record) {
  json::array tags;
  for (const auto& tag : record.tags) tags.push_back(json::value(tag));
  return to_text(json::object{{"name", record.name}, {"status", name_of(record.status)}, {"started", record.started}, {"ended", record.ended}, {"tags", std::move(tags)},
                              {"target", record.target}, {"platform", record.platform}, {"dockerfile", record.dockerfile}, {"context", record.context}, {"image", record.image},
                              {"error", record.error}, {"steps", record.steps}, {"cached", record.cached}, {"lost_bytes", record.lost_bytes}});
}

Status read_record(const JsonView& view, BuildRecord& out) {
  std::string status;
  TRY_PLAIN(view.read("name", out.name));
  TRY_PLAIN(view.read("status", status));
  TRY_PLAIN(view.read("started", out.started));
  TRY_PLAIN(view.read("ended", out.ended));
  TRY_PLAIN(view.read("tags", out.tags));
  TRY_PLAIN(view.read("target", out.target));
  TRY_PLAIN(view.read("platform", out.platform));
  TRY_PLAIN(view.read("dockerfile", out.dockerfile));
  TRY_PLAIN(view.read("context", out.context));
  TRY_PLAIN(view.read("image", out.image));
  TRY_PLAIN(view.read("error", out.error));
  TRY_PLAIN(view.read("steps", out.steps));
  TRY_PLAIN(view.read("cached", out.cached));
  TRY_PLAIN(view.read("lost_bytes", out.lost_bytes));
  for (auto known : {BuildStatus::running, BuildStatus::completed, BuildStatus::failed, BuildStatus::cancelled})
    if (name_of(known) == status) {
      out.status = known;
      return {};
    }
  return Error(ErrorKind::corrupt, concat("status: \"", status, "\" is none"));
}

}  // namespace

std::string text_of(const Event& event) {
  auto short_id = [&] {
    std::string_view id = event.id;
    if (id.starts_with("sha256:")) id.remove_prefix(7);
    return id.substr(0, 12);
  };
  switch (event.kind) {
    case EventKind::step: return concat("Step ", event.step, "/", event.steps, " : ", event.text, "\n");
    case EventKind::cached: return " ---> Using cache\n";
    case EventKind::running: return concat(" ---> Running in ", short_id(), "\n");
    case EventKind::output: return event.text;
    case EventKind::removed: return concat("Removing intermediate container ", short_id(), "\n");
    case EventKind::made: return concat(" ---> ", short_id(), "\n");
    case EventKind::stage:
    case EventKind::failed: return "";
    case EventKind::warning: return concat(event.text, "\n");
    case EventKind::shell:
      if (event.debug_shell->container.empty()) return concat("No debug shell: ", event.debug_shell->problem, "\n");
      return concat(" ---> Debug shell in ", event.debug_shell->container.substr(0, 12), "\n");
  }
  return "";
}

History::Recording::~Recording() {
  if (!is_finished_) finish(Error(ErrorKind::internal, "the build ended without a result"), false);
}

void History::Recording::write(std::string_view text) {
  const auto room = most_log_bytes - std::min(most_log_bytes, record_.log_bytes);
  if (text.size() > room) {
    record_.lost_bytes += text.size();
    return;
  }
  record_.log_bytes += text.size();
  waiting_ += text;
}

void History::Recording::flush() {
  if (waiting_.empty()) return;
  if (!linux::write_all(file_.get(), waiting_).ok()) {
    record_.lost_bytes += waiting_.size();
    record_.log_bytes -= waiting_.size();
  }
  waiting_.clear();
}

void History::Recording::take(const Event& event) {
  if (event.kind == EventKind::step) {
    record_.steps = std::max(record_.steps, event.steps);
  } else if (event.kind == EventKind::cached) {
    ++record_.cached;
  }
  write(text_of(event));
  // A build that finds all its steps done is over before anybody could read; whoever waits for a step sees what led to it.
  const auto keyword = lower(std::string_view(event.text).substr(0, 4));
  const bool is_copy = event.kind == EventKind::step && (keyword == "copy" || keyword == "add ");
  const bool is_quick = (event.kind == EventKind::step && !is_copy) || event.kind == EventKind::cached || event.kind == EventKind::made || event.kind == EventKind::stage;
  if (!is_quick || waiting_.size() >= most_waiting_bytes) flush();
}

void History::Recording::finish(const Result<BuildOutcome>& outcome, bool ended_early) {
  is_finished_ = true;
  record_.ended = now_ns();
  record_.status = ended_early ? BuildStatus::cancelled : BuildStatus::failed;
  if (!outcome.ok()) {
    record_.error = outcome.error().text();
  } else if (outcome->failed_code) {
    record_.error = outcome->failure;
  } else {
    record_.status = BuildStatus::completed;
    record_.image = outcome->image.id.text();
  }
  if (!record_.error.empty()) write(concat(record_.error, "\n"));
  flush();
  std::lock_guard lock(history_.mutex_);
  history_.records_[record_.id] = record_;
  auto stored = history_.store(record_);
  if (!stored.ok()) log_error("build history", record_.id, stored.error());
}

std::string History::log_path(const std::string& id) const { return concat(folder_, "/", id); }

Status History::open() {
  std::lock_guard lock(mutex_);
  for (const auto& stored : TRY_PLAIN(store_.list(prefix))) {
    BuildRecord record;
    auto document = parse_json(stored.value, stored.key);
    auto read = document.ok() ? read_record(JsonView(*document), record) : Status(std::move(document).error());
    record.id = stored.key.substr(prefix.size());
    if (!read.ok()) {
      log_error("build history", stored.key, read.error());
      TRY_PLAIN(erase(record.id));
      continue;
    }
    if (record.status == BuildStatus::running) {
      record.status = BuildStatus::failed;
      record.error = "the daemon ended while this was built";
      record.ended = now_ns();
      TRY_PLAIN(store(record));
    }
    auto status = linux::stat(log_path(record.id));
    record.log_bytes = status.ok() ? static_cast<std::uint64_t>(status->st_size) : 0;
    records_[record.id] = std::move(record);
  }
  for (const auto& entry : TRY_PLAIN(linux::list_dir(folder_)))
    if (!records_.contains(entry.name)) TRY_PLAIN(linux::unlink(log_path(entry.name)));
  return {};
}

Status History::store(const BuildRecord& record, const std::vector<std::string>& instead_of) {
  state::Transaction transaction;
  for (const auto& id : instead_of) transaction.erase(concat(prefix, id));
  transaction.put(concat(prefix, record.id), encode(record));
  TRY_PLAIN(store_.commit(transaction));
  return {};
}

Status History::erase(const std::string& id) {
  state::Transaction transaction;
  transaction.erase(concat(prefix, id));
  transaction.frees = true;
  TRY_PLAIN(store_.commit(transaction));
  records_.erase(id);
  auto removed = linux::unlink(log_path(id));
  if (!removed.ok() && removed.error().kind() != ErrorKind::not_found) return removed;
  return {};
}

Result<std::unique_ptr<History::Recording>> History::begin(BuildRecord record) {
  record.id = random_id().substr(0, 25);
  record.started = now_ns();
  record.status = BuildStatus::running;
  std::lock_guard lock(mutex_);
  std::vector<const BuildRecord*> ended;  // the oldest first
  for (const auto& [id, known] : records_)
    if (known.status != BuildStatus::running) ended.push_back(&known);
  std::sort(ended.begin(), ended.end(), [](const BuildRecord* a, const BuildRecord* b) { return a->started < b->started; });
  std::vector<std::string> gone;
  for (std::size_t i = 0; i < ended.size() && records_.size() - i >= most_records; ++i) gone.push_back(ended[i]->id);
  auto file = TRY_PLAIN(linux::open(log_path(record.id), O_WRONLY | O_CREAT | O_EXCL, 0600));
  TRY_PLAIN(store(record, gone));  // one commit for all
  for (const auto& id : gone) {
    records_.erase(id);
    auto removed = linux::unlink(log_path(id));
    if (!removed.ok() && removed.error().kind() != ErrorKind::not_found) log_error("build history", id, removed.error());  // one without a record goes at the next start
  }
  records_[record.id] = record;
  return std::make_unique<Recording>(*this, std::move(record), std::move(file));
}

std::vector<BuildRecord> History::records() const {
  std::lock_guard lock(mutex_);
  std::vector<BuildRecord> out;
  for (const auto& [id, record] : records_) out.push_back(record);
  std::sort(out.begin(), out.end(), [](const BuildRecord& a, const BuildRecord& b) { return a.started > b.started; });
  return out;
}

Result<BuildRecord> History::find(const std::string& name) const {
  auto all = records();
  if (name.starts_with('^')) {
    const auto text = std::string_view(name).substr(1);
    auto behind = text.empty() ? Result<std::size_t>(std::size_t{0}) : parse_integer<std::size_t>(text);
    if (!behind.ok() || *behind >= all.size()) return Error(ErrorKind::not_found, concat("No such build: ", name));
    return std::move(all[*behind]);
  }
  std::vector<const BuildRecord*> found;
  for (const auto& record : all) {
    if (record.id == name) return record;
    if (!name.empty() && record.id.starts_with(name)) found.push_back(&record);
  }
  if (found.empty()) return Error(ErrorKind::not_found, concat("No such build: ", name));
  if (found.size() > 1) return Error(ErrorKind::conflict, concat("several builds have ids that begin with ", name));
  return *found.front();
}

Result<UniqueFd> History::open_log(const std::string& name) const {
  auto record = TRY_PLAIN(find(name));
  return TRY(linux::open(log_path(record.id), O_RDONLY), concat("output of build ", record.id));
}

Status History::remove(const std::string& name) {
  auto record = TRY_PLAIN(find(name));
  std::lock_guard lock(mutex_);
  auto known = records_.find(record.id);
  if (known == records_.end()) return Error(ErrorKind::not_found, concat("No such build: ", name));
  if (known->second.status == BuildStatus::running) return Error(ErrorKind::conflict, concat("the build ", record.id, " is going on"));
  return erase(record.id);
}

}  // namespace caisson::build
