// What was built here, when, how it ended and what it said: the last hundred builds.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "build/builder.hpp"
#include "state/store.hpp"

namespace caisson::build {

/// "Step 1/3 : FROM x\n", " ---> Using cache\n": what an event is called in plain text, as docker's classic builder says it; "" for what is only for
/// programs.
std::string text_of(const Event& event);

/// Records "build/history/<id>" in the state store, and a file per build with its output. Thread-safe.
class History {
 public:
  /// One build that is going on. Taken by one thread at a time; ends as failed when nobody says otherwise.
  class Recording {
   public:
    Recording(History& history, BuildRecord record, UniqueFd file) : history_(history), record_(std::move(record)), file_(std::move(file)) {}
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;
    ~Recording();
    [[nodiscard]] const std::string& id() const { return record_.id; }
    /// Appends what the event says. A disk that is full costs lines, never the build: they are counted.
    void take(const Event& event);
    /// `ended_early`: the client went away, or a signal came.
    void finish(const Result<BuildOutcome>& outcome, bool ended_early);

   private:
    void write(std::string_view text);
    void flush();
    History& history_;
    BuildRecord record_;
    UniqueFd file_;
    std::string waiting_;  ///< what steps that cost no time said; counted in log_bytes already
    bool is_finished_ = false;
  };

  /// `folder`: exists, 0700.
  History(state::Store& store, std::string folder) : store_(store), folder_(std::move(folder)) {}
  /// Reads what is recorded. What was going on when the daemon died is said to have failed; files without a record go.
  Status open();
  /// Fills in id, beginning and status. The oldest ended builds make room.
  Result<std::unique_ptr<Recording>> begin(BuildRecord record);
  /// Newest first.
  [[nodiscard]] std::vector<BuildRecord> records() const;
  /// By id, unique prefix of one, or "^N": the Nth behind the newest. Errors: not_found, conflict (ambiguous).
  Result<BuildRecord> find(const std::string& name) const;
  /// The output so far. Errors: as find.
  Result<UniqueFd> open_log(const std::string& name) const;
  /// Errors: as find; conflict for one that is going on.
  Status remove(const std::string& name);

 private:
  /// `instead_of`: ids of records that go.
  Status store(const BuildRecord& record, const std::vector<std::string>& instead_of = {});
  Status erase(const std::string& id);
  [[nodiscard]] std::string log_path(const std::string& id) const;

  state::Store& store_;
  std::string folder_;
  mutable std::mutex mutex_;
  std::map<std::string, BuildRecord> records_;
};

}  // namespace caisson::build
