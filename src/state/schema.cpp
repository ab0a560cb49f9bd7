// Schema versions of the state file, and repair of what a crash of the disk left.
#include "state/schema.hpp"

#include <array>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/file.hpp"

namespace caisson::state {

namespace {

/// Step n brings a file from version n to n + 1. Steps are never edited once released; a change is a new step.
constexpr std::array<const char*, 1> migrations = {
    "CREATE TABLE entries(key TEXT PRIMARY KEY, value TEXT NOT NULL, revision INTEGER NOT NULL,"
    "                     lease INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;"
    "CREATE INDEX entries_by_lease ON entries(lease) WHERE lease <> 0;"
    "CREATE TABLE leases(id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL, expires_ns INTEGER NOT NULL);"
    // The counters of revisions and leases live apart from the rows, so that they never go back when rows are deleted.
    "CREATE TABLE counters(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "INSERT INTO counters VALUES('revision', 0), ('lease', 0);"
    "CREATE TABLE damaged(key TEXT, value BLOB, reason TEXT NOT NULL, found_ns INTEGER NOT NULL);",
};

Status migrate(Database& database) {
  std::int64_t version = 0;
  {
    auto query = TRY_PLAIN(database.prepare("PRAGMA user_version"));
    if (TRY_PLAIN(query.step())) version = query.number(0);
  }
  if (version < 0 || version > static_cast<std::int64_t>(migrations.size()))
    return Error(ErrorKind::unsupported, concat(database.path(), ": written by a newer version of Caisson (format ", version, ", this one knows ",
                                                migrations.size(), ")"))
        .with_hint("Use the newer version, or another --root");
  for (auto step = static_cast<std::size_t>(version); step < migrations.size(); ++step) {
    auto guard = TRY_PLAIN(WriteGuard::begin(database));
    TRY_PLAIN(database.execute(migrations[step]));
    TRY_PLAIN(database.execute(concat("PRAGMA user_version=", step + 1).c_str()));
    TRY_PLAIN(guard.commit());
  }
  return {};
}

/// quick_check reads every page once; "ok" or the first finding.
Result<std::string> first_finding(Database& database) {
  auto query = TRY_PLAIN(database.prepare("PRAGMA quick_check(1)"));
  if (!TRY_PLAIN(query.step())) return std::string("ok");
  return query.text(0);
}

Status set_aside_unreadable_rows(Database& database, std::vector<std::string>& repairs) {
  std::vector<std::string> keys;
  {
    auto query = TRY_PLAIN(database.prepare("SELECT key FROM entries WHERE typeof(value) <> 'text' OR typeof(key) <> 'text' OR NOT json_valid(value)"));
    while (TRY_PLAIN(query.step())) keys.push_back(query.text(0));
  }
  if (keys.empty()) return {};
  auto guard = TRY_PLAIN(WriteGuard::begin(database));
  {
    auto copy = TRY_PLAIN(database.prepare("INSERT INTO damaged SELECT key, value, 'not valid JSON', ?1 FROM entries WHERE typeof(value) <> 'text' OR typeof(key) <> 'text' OR NOT json_valid(value)"));
    TRY_PLAIN(copy.bind(1, now_ns()).run());
    auto erase = TRY_PLAIN(database.prepare("DELETE FROM entries WHERE typeof(value) <> 'text' OR typeof(key) <> 'text' OR NOT json_valid(value)"));
    TRY_PLAIN(erase.run());
  }
  TRY_PLAIN(guard.commit());
  for (const auto& key : keys) repairs.push_back(concat("record \"", key, "\" was unreadable (not valid JSON) and was moved to the table \"damaged\" of ", database.path()));
  return {};
}

/// Rows of a damaged file as far as they can be read: from the front until damage stops us, then from the back.
std::size_t salvage(const std::string& damaged_path, Database& target) {
  auto source = Database::open(damaged_path, Database::Purpose::salvage);
  if (!source.ok()) return 0;
  std::size_t saved = 0;
  auto copy_rows = [&](const char* sql) -> Status {
    auto query = TRY_PLAIN((*source)->prepare(sql));
    while (TRY_PLAIN(query.step())) {
      std::string key = query.text(0);
      std::string value = query.text(1);
      auto insert = TRY_PLAIN(target.prepare("INSERT OR IGNORE INTO entries SELECT ?1, ?2, ?3, ?4 WHERE json_valid(?2)"));
      insert.bind(1, key).bind(2, value).bind(3, query.number(2)).bind(4, std::int64_t{0});
      TRY_PLAIN(insert.run());
      ++saved;
    }
    return {};
  };
  auto guard = WriteGuard::begin(target);
  if (!guard.ok()) return 0;
  if (!copy_rows("SELECT key, value, revision FROM entries WHERE lease = 0 ORDER BY key").ok())
    ignore(copy_rows("SELECT key, value, revision FROM entries WHERE lease = 0 ORDER BY key DESC"));
  ignore(target.execute("UPDATE counters SET value = 1 + (SELECT coalesce(max(revision), 0) FROM entries) WHERE name = 'revision'"));
  if (!guard->commit().ok()) return 0;
  if (auto count = target.prepare("SELECT count(*) FROM entries"); count.ok())
    if (auto row = count->step(); row.ok() && *row) saved = static_cast<std::size_t>(count->number(0));
  return saved;
}

Result<std::unique_ptr<Database>> begin_anew(const std::string& path, const std::string& reason, std::vector<std::string>& repairs) {
  std::string aside = concat(path, ".damaged-", now_ns() / 1'000'000'000);
  TRY(linux::rename(path, aside), "put the damaged state file aside");
  // The write-ahead log belongs to the damaged file and must follow it: beside a new file it would be taken for its own.
  if (auto moved = linux::rename(path + "-wal", aside + "-wal"); !moved.ok() && moved.error().kind() != ErrorKind::not_found)
    return std::move(moved).error().in("put the damaged state file's log aside");
  auto database = TRY_PLAIN(Database::open(path));
  TRY_PLAIN(migrate(*database));
  auto saved = salvage(aside, *database);
  repairs.push_back(concat("state file ", path, " was damaged (", reason, "); it was put aside as ", aside, ", a new one was begun and ", saved,
                           " records were saved into it"));
  return database;
}

Result<std::unique_ptr<Database>> open_checked(const std::string& path) {
  auto database = TRY_PLAIN(Database::open(path));
  auto finding = TRY_PLAIN(first_finding(*database));
  if (finding != "ok") return Error(ErrorKind::corrupt, finding);
  TRY_PLAIN(migrate(*database));
  return database;
}

}  // namespace

Result<std::unique_ptr<Database>> open_repaired(const std::string& path, std::vector<std::string>& repairs) {
  // SQLite takes an empty file for a new one. It also is what a truncated one looks like, so it is worth a sentence.
  if (auto status = linux::stat(path); status.ok() && status->st_size == 0)
    repairs.push_back(concat("state file ", path, " was empty; a new one was begun"));
  auto database = open_checked(path);
  if (!database.ok() && database.error().kind() == ErrorKind::corrupt) database = begin_anew(path, database.error().text(), repairs);
  if (!database.ok()) return std::move(database).error();
  TRY_PLAIN(set_aside_unreadable_rows(**database, repairs));
  return database;
}

}  // namespace caisson::state
