// Reading one table of an SQLite file as it lies in memory: the format alone, no SQL. Pure; fuzzed.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace caisson::inventory {

/// Texts and blobs as their bytes; numbers and NULL as "".
using SqliteRow = std::vector<std::string>;

/// Calls `visit` with each row of an ordinary table, in order of its rowid (https://www.sqlite.org/fileformat2.html). The library is left out: it would read a hostile
/// schema, which is a program, and needs files where we have bytes.
/// Errors: corrupt (not such a file, a page that leads nowhere or in a circle), not_found (no such table), those of `visit`.
Status for_each_sqlite_row(std::string_view file, std::string_view table, const std::function<Status(const SqliteRow&)>& visit);

}  // namespace caisson::inventory
