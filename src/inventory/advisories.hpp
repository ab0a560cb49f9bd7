// What is known to be wrong with packages: OSV records, Debian's security tracker, debsecan's lists. Pure parsers of foreign bytes; fuzzed. They run in the worker.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/codec.hpp"
#include "base/result.hpp"
#include "inventory/inventory.hpp"

namespace caisson::inventory {

enum class Severity : std::uint8_t { unknown, negligible, low, medium, high, critical };
std::string_view to_string(Severity severity);
/// Errors: invalid, listing what there is.
Result<Severity> parse_severity(std::string_view text);

/// An installed package with a known fault.
struct Finding {
  std::string id;       ///< "CVE-2024-1234", "DSA-…", "GHSA-…"
  std::vector<std::string> aliases;
  Severity severity = Severity::unknown;
  std::uint64_t package = 0;  ///< index into what was asked for
  std::string fixed_version;  ///< "": none yet
  std::string summary;
};
template <class C>
void visit(C& c, Finding& f) {
  c(f.id);
  c(f.aliases);
  c(f.severity);
  c(f.package);
  c(f.fixed_version);
  c(f.summary);
}

/// What is asked of a set of advisories.
struct ScanQuestion {
  Distribution distribution;
  std::vector<Package> packages;
};
template <class C>
void visit(C& c, ScanQuestion& q) {
  c(q.distribution);
  c(q.packages);
}

/// Findings in order of package and id, each once. The data's kind is told by its first bytes: a zip of OSV records, debsecan's file (as served, or its text),
/// or JSON: one OSV record, a list of them, {"vulns": […]}, or Debian's tracker.
/// Errors: invalid, corrupt (the data, naming the record), unsupported (a kind that is not known; data of a distribution whose release the image does not say; data that
/// say nothing about the image's distribution or release: silence would look like health).
Result<std::vector<Finding>> find_faults(std::string_view data, const ScanQuestion& question);

// Each kind by itself. `take` gets findings as they come, in no order.
using TakeFinding = std::function<void(Finding)>;
/// False: the record is not about the image's distribution, or was withdrawn.
Result<bool> match_osv_record(std::string_view text, const ScanQuestion& question, const TakeFinding& take);
Status match_debian_tracker(std::string_view text, const ScanQuestion& question, const TakeFinding& take);
/// `text`: decompressed, beginning with "VERSION 1".
Status match_debsecan(std::string_view text, const ScanQuestion& question, const TakeFinding& take);

/// The base score of a CVSS vector of version 3.0 or 3.1 as a severity, unknown for others and for damaged ones.
Severity severity_of_cvss(std::string_view vector);

/// Calls `visit` for the files of a zip archive, decompressed (stored and deflate). Errors: corrupt, unsupported (encrypted, zip64, larger than 1 GiB together).
Status for_each_zip_member(std::string_view zip, const std::function<Status(std::string_view name, std::string_view bytes)>& visit);

/// The members of a JSON object with their values as they are written: a document of which little is wanted need not be built whole.
/// Errors: corrupt (no object, unbalanced).
Status for_each_raw_member(std::string_view object, const std::function<Status(std::string_view key, std::string_view raw)>& visit);

}  // namespace caisson::inventory
