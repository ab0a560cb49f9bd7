// A thin owner of one SQLite connection: statements cached by their text, codes turned into Error with the file named.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"

struct sqlite3;
struct sqlite3_stmt;

namespace caisson::state {

/// One prepared statement in use; resets itself when it goes, so that the cache can hand it out again.
class Statement {
 public:
  Statement(sqlite3_stmt* statement, class Database& database) : statement_(statement), database_(&database) {}
  Statement(Statement&& other) noexcept;
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  Statement& operator=(Statement&&) = delete;
  ~Statement();

  /// Parameters are numbered from 1. Texts are borrowed until the statement resets.
  Statement& bind(int index, std::string_view text);
  Statement& bind(int index, std::int64_t number);

  /// True: a row is there. False: done. Errors: conflict (constraint), unavailable (full disk), corrupt, io.
  Result<bool> step();
  /// Steps once and expects no row.
  Status run();

  [[nodiscard]] std::string text(int column) const;  ///< also of blobs
  [[nodiscard]] std::int64_t number(int column) const;

 private:
  sqlite3_stmt* statement_;
  class Database* database_;
};

/// Not thread-safe: one user at a time.
class Database {
 public:
  enum class Purpose : std::uint8_t {
    use,
    salvage,  ///< read what can be read of a damaged file
  };
  /// Opens or creates `path` as the only user of the file. Errors: corrupt (no database, or a damaged one), denied,
  /// unavailable (full disk), io.
  static Result<std::unique_ptr<Database>> open(const std::string& path, Purpose purpose = Purpose::use);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  /// Runs statements that return nothing of interest.
  Status execute(const char* sql);
  /// A statement of the cache; `sql` must be a literal or otherwise outlive the connection. The same text may not be in
  /// use twice at a time.
  Result<Statement> prepare(const char* sql);
  /// An error of the last call, in words, with the path.
  [[nodiscard]] Error error(int code) const;
  [[nodiscard]] bool in_transaction() const;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  Database(sqlite3* handle, std::string path) : handle_(handle), path_(std::move(path)) {}
  sqlite3* handle_;
  std::string path_;
  std::map<const char*, sqlite3_stmt*> cache_;
};

/// Rolls back when it goes without commit().
class WriteGuard {
 public:
  static Result<WriteGuard> begin(Database& database);
  WriteGuard(WriteGuard&& other) noexcept : database_(std::exchange(other.database_, nullptr)) {}
  WriteGuard(const WriteGuard&) = delete;
  WriteGuard& operator=(const WriteGuard&) = delete;
  WriteGuard& operator=(WriteGuard&&) = delete;
  ~WriteGuard();
  Status commit();

 private:
  explicit WriteGuard(Database& database) : database_(&database) {}
  Database* database_;
};

}  // namespace caisson::state
