// The only file that calls SQLite.
#include "state/sqlite.hpp"

#include <sqlite3.h>

#include <cerrno>
#include <mutex>

#include "base/strings.hpp"

namespace caisson::state {

namespace {

ErrorKind kind_of(int code) {
  switch (code & 0xFF) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return ErrorKind::corrupt;
    case SQLITE_FULL:
    case SQLITE_NOMEM:
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return ErrorKind::unavailable;
    case SQLITE_CONSTRAINT: return ErrorKind::conflict;
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_READONLY: return ErrorKind::denied;
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
    case SQLITE_ERROR: return ErrorKind::internal;
    default: return ErrorKind::io;
  }
}

/// SQLite keeps many small allocations in per-connection pools; an idle daemon must not pay for them.
void configure_library_once() {
  static std::once_flag once;
  std::call_once(once, [] {
    sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0);
    sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
  });
}

/// Two kinds of damage make a whole page unreadable only when somebody steps on it; cell_size_check finds them early.
constexpr const char* connection_settings =
    "PRAGMA locking_mode=EXCLUSIVE;"  // we are the only user: the wal-index stays in memory, no lock call per commit
    "PRAGMA journal_mode=WAL;"
    "PRAGMA synchronous=NORMAL;"
    "PRAGMA cache_size=-512;"  // KiB; the daemon's whole budget is 10 MB
    "PRAGMA mmap_size=0;"      // a damaged disk must be an error code, not SIGBUS
    "PRAGMA temp_store=MEMORY;"
    "PRAGMA wal_autocheckpoint=250;"
    "PRAGMA journal_size_limit=1048576;"
    "PRAGMA cell_size_check=ON;"
    "PRAGMA trusted_schema=OFF;";

/// writable_schema is also SQLite's way to read a file that is shorter than its header says.
constexpr const char* salvage_settings = "PRAGMA writable_schema=ON; PRAGMA locking_mode=EXCLUSIVE; PRAGMA mmap_size=0;";

}  // namespace

Statement::Statement(Statement&& other) noexcept
    : statement_(std::exchange(other.statement_, nullptr)), database_(other.database_) {}

Statement::~Statement() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

Statement& Statement::bind(int index, std::string_view text) {
  // data() of an empty view may be null, which SQLite would bind as NULL.
  sqlite3_bind_text64(statement_, index, text.data() != nullptr ? text.data() : "", text.size(), SQLITE_STATIC, SQLITE_UTF8);
  return *this;
}

Statement& Statement::bind(int index, std::int64_t number) {
  sqlite3_bind_int64(statement_, index, number);
  return *this;
}

Result<bool> Statement::step() {
  int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return database_->error(code);
}

Status Statement::run() {
  TRY_PLAIN(step());
  return {};
}

std::string Statement::text(int column) const {
  const void* bytes = sqlite3_column_blob(statement_, column);
  if (bytes == nullptr) return {};
  return {static_cast<const char*>(bytes), static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
}

std::int64_t Statement::number(int column) const { return sqlite3_column_int64(statement_, column); }

Result<std::unique_ptr<Database>> Database::open(const std::string& path, Purpose purpose) {
  configure_library_once();
  sqlite3* handle = nullptr;
  int code = sqlite3_open_v2(path.c_str(), &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  if (handle == nullptr) return Error(ErrorKind::unavailable, concat("open ", path, ": out of memory"), ENOMEM);
  std::unique_ptr<Database> database(new Database(handle, path));
  if (code != SQLITE_OK) return database->error(code).in("open");
  sqlite3_extended_result_codes(handle, 1);
  TRY(database->execute(purpose == Purpose::use ? connection_settings : salvage_settings), "open");
  return database;
}

Database::~Database() {
  for (const auto& [sql, statement] : cache_) sqlite3_finalize(statement);
  sqlite3_close(handle_);
}

Status Database::execute(const char* sql) {
  int code = sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return error(code);
  return {};
}

Result<Statement> Database::prepare(const char* sql) {
  auto& cached = cache_[sql];
  if (cached == nullptr) {
    int code = sqlite3_prepare_v3(handle_, sql, -1, SQLITE_PREPARE_PERSISTENT, &cached, nullptr);
    if (code != SQLITE_OK) return error(code);
  }
  return Statement(cached, *this);
}

Error Database::error(int code) const {
  int system_errno = sqlite3_system_errno(handle_);
  bool is_system = (code & 0xFF) == SQLITE_IOERR || (code & 0xFF) == SQLITE_CANTOPEN;
  if ((code & 0xFF) == SQLITE_FULL) return Error::from_errno(ENOSPC, path_);
  if (is_system && system_errno != 0) return Error::from_errno(system_errno, path_);
  return {kind_of(code), concat(path_, ": ", sqlite3_errmsg(handle_))};
}

bool Database::in_transaction() const { return sqlite3_get_autocommit(handle_) == 0; }

Result<WriteGuard> WriteGuard::begin(Database& database) {
  auto statement = TRY_PLAIN(database.prepare("BEGIN IMMEDIATE"));
  TRY_PLAIN(statement.run());
  return WriteGuard(database);
}

WriteGuard::~WriteGuard() {
  // A failed write may already have rolled back by itself (full disk); asking twice would be an error of its own.
  if (database_ != nullptr && database_->in_transaction()) ignore(database_->execute("ROLLBACK"));
}

Status WriteGuard::commit() {
  auto statement = TRY_PLAIN(database_->prepare("COMMIT"));
  TRY_PLAIN(statement.run());
  database_ = nullptr;
  return {};
}

}  // namespace caisson::state
