// The texts in which package managers remember what is installed. Pure parsers of hostile bytes; fuzzed.
#pragma once

#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "inventory/package.hpp"

namespace caisson::inventory {

/// dpkg's status file, or one of a status.d folder, whose paragraphs have no Status (distroless images). Packages that are not installed are left out.
/// Errors: corrupt (a paragraph without a name or version), naming its line.
Result<std::vector<Package>> parse_dpkg_status(std::string_view text);
/// apk's lib/apk/db/installed: "P:", "V:", "A:", "o:" and further lines, paragraphs apart by empty ones. Errors: corrupt, naming the line.
Result<std::vector<Package>> parse_apk_installed(std::string_view text);
/// One header of rpm's database (rpm's header.c: two counts, an index of 16-byte entries, data). Errors: corrupt.
Result<Package> parse_rpm_header(std::string_view blob);
/// rpm's database as an SQLite file. The public keys that rpm keeps beside the packages are left out. Errors: corrupt, unsupported.
Result<std::vector<Package>> parse_rpm_database(std::string_view file);
/// Unknown lines are skipped: every distribution has its own.
Distribution parse_os_release(std::string_view text);

}  // namespace caisson::inventory
