// Debian's security tracker (https://security-tracker.debian.org/tracker/data/json), and the lists made of it for debsecan.
#include <algorithm>
#include <map>
#include <optional>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "inventory/advisories.hpp"
#include "inventory/versions.hpp"

namespace caisson::inventory {

namespace {

/// "bookworm": of the image, or of its number where an old os-release has none.
Result<std::string> release_of(const Distribution& distribution) {
  if (distribution.id != "debian") return Error(ErrorKind::unsupported, concat("the data are about Debian, and the image is \"", distribution.id, "\""));
  if (!distribution.codename.empty()) return distribution.codename;
  static const std::map<std::string_view, const char*> names = {{"9", "stretch"}, {"10", "buster"}, {"11", "bullseye"}, {"12", "bookworm"}, {"13", "trixie"}, {"14", "forky"}};
  auto found = names.find(distribution.version_id);
  if (found != names.end()) return std::string(found->second);
  return Error(ErrorKind::unsupported, "the image does not say which release of Debian it is").with_hint("name it with --release, such as --release bookworm");
}

Severity severity_of_urgency(std::string_view urgency) {
  if (urgency.starts_with("high")) return Severity::high;
  if (urgency.starts_with("medium")) return Severity::medium;
  if (urgency.starts_with("low")) return Severity::low;
  return urgency == "unimportant" ? Severity::negligible : Severity::unknown;
}

using Packages = std::multimap<std::string_view, std::size_t>;
Packages by_source(const ScanQuestion& question) {
  Packages out;
  for (std::size_t i = 0; i < question.packages.size(); ++i)
    if (question.packages[i].kind == PackageKind::deb) out.emplace(question.packages[i].source, i);
  return out;
}

/// One release of one fault of one source package.
Status match_release(const JsonView& view, Finding found, const Packages& packages, std::string_view source, const ScanQuestion& question, const TakeFinding& take) {
  std::string status;
  std::string fixed;
  std::string urgency;
  TRY_PLAIN(view.read("status", status));
  TRY_PLAIN(view.read("fixed_version", fixed));
  TRY_PLAIN(view.read("urgency", urgency));
  const bool is_resolved = status == "resolved";
  if (is_resolved && (fixed == "0" || fixed.empty())) return {};  // never was in this release
  found.severity = severity_of_urgency(urgency);
  if (is_resolved) found.fixed_version = fixed;
  const auto range = packages.equal_range(source);
  for (auto at = range.first; at != range.second; ++at) {
    if (is_resolved && compare_deb_versions(question.packages[at->second].source_version, fixed) >= 0) continue;
    found.package = at->second;
    take(found);
  }
  return {};
}

}  // namespace

Status match_debian_tracker(std::string_view text, const ScanQuestion& question, const TakeFinding& take) {
  const auto release = TRY_PLAIN(release_of(question.distribution));
  const auto packages = by_source(question);
  bool has_faults = false;
  bool knows_release = false;
  // The whole file has 70 MB; of it only the packages that are installed are read.
  TRY_PLAIN(for_each_raw_member(text, [&](std::string_view source, std::string_view raw) -> Status {
    if (packages.count(source) == 0) return {};
    const auto document = TRY(parse_json(raw, "Debian's tracker"), source);
    return JsonView(document, std::string(source)).for_each_member([&](std::string_view id, const JsonView& fault) -> Status {
      auto releases = TRY_PLAIN(fault.at("releases"));
      if (!releases.is_set()) return {};
      has_faults = true;
      auto ours = TRY_PLAIN(releases.at(release));
      if (!ours.is_set()) return {};
      knows_release = true;
      Finding found;
      found.id = id;
      TRY_PLAIN(fault.read("description", found.summary));
      return match_release(ours, std::move(found), packages, source, question, take);
    });
  }));
  if (has_faults && !knows_release) return Error(ErrorKind::unsupported, concat("the data say nothing about Debian's release \"", release, "\""));
  return {};
}

namespace {

/// A fault of debsecan's first list: "CVE-2024-1234,FLAGS,description".
struct Fault {
  std::string_view id;
  std::string_view description;
};

/// "package,index,FLAGS,unstable_version,versions": flags are B or S (binary or source), urgency, remote, F (fixed).
struct Line {
  std::string_view package;
  std::size_t fault = 0;
  bool is_binary = false;
  Severity severity = Severity::unknown;
  std::string_view unstable_version;
  std::vector<std::string_view> other_versions;
};

Result<Line> read_line(std::string_view text, std::size_t faults) {
  auto error = [&] { return Error(ErrorKind::corrupt, concat("debsecan: \"", text.substr(0, 80), "\" is no line about a package")); };
  const auto fields = split(text, ',');
  if (fields.size() != 5 || fields[2].size() < 2) return error();
  Line out;
  out.package = fields[0];
  auto index = parse_integer<std::size_t>(fields[1]);
  if (!index.ok() || *index >= faults) return error();
  out.fault = *index;
  out.is_binary = fields[2][0] == 'B';
  switch (fields[2][1]) {
    case 'H': out.severity = Severity::high; break;
    case 'M': out.severity = Severity::medium; break;
    case 'L': out.severity = Severity::low; break;
    default: break;
  }
  out.unstable_version = fields[3];
  for (const auto version : split(fields[4], ' '))
    if (!version.empty()) out.other_versions.push_back(version);
  return out;
}

/// debsecan's rule (its class Vulnerability): older than the version that was mended in unstable; of a source package, also none of those that were mended elsewhere.
bool is_vulnerable(const Line& line, const Package& package) {
  auto is_older = [&](std::string_view version) { return line.unstable_version.empty() || compare_deb_versions(version, line.unstable_version) < 0; };
  if (line.is_binary && package.name == line.package) return is_older(package.version);
  if (package.source != line.package || !is_older(package.source_version)) return false;
  return std::none_of(line.other_versions.begin(), line.other_versions.end(), [&](auto other) { return compare_deb_versions(package.source_version, other) == 0; });
}

}  // namespace

Status match_debsecan(std::string_view text, const ScanQuestion& question, const TakeFinding& take) {
  if (question.distribution.id != "debian") return Error(ErrorKind::unsupported, concat("debsecan's data are about Debian, and the image is \"", question.distribution.id, "\""));
  const auto lines = split(text, '\n');
  if (lines.empty() || lines[0] != "VERSION 1") return Error(ErrorKind::unsupported, "debsecan: the data are not of version 1");
  std::size_t at = 1;
  std::vector<Fault> faults;
  for (; at < lines.size() && !lines[at].empty(); ++at) {
    const auto id = split_once(lines[at], ',');
    const auto flags = split_once(id.after, ',');
    if (!id.found || !flags.found) return Error(ErrorKind::corrupt, concat("debsecan: line ", at + 1, " is no fault"));
    faults.push_back({id.before, flags.after});
  }
  for (++at; at < lines.size() && !lines[at].empty(); ++at) {
    const auto line = TRY_PLAIN(read_line(lines[at], faults.size()));
    for (std::size_t i = 0; i < question.packages.size(); ++i) {
      const auto& package = question.packages[i];
      if (package.kind != PackageKind::deb || !is_vulnerable(line, package)) continue;
      Finding found;
      found.id = faults[line.fault].id;
      found.summary = faults[line.fault].description;
      found.severity = line.severity;
      found.package = i;
      // With a version of its own release mended, the highest of them is the one to wait for; else unstable's.
      for (const auto version : line.other_versions)
        if (compare_deb_versions(version, package.source_version) > 0 && (found.fixed_version.empty() || compare_deb_versions(version, found.fixed_version) < 0)) found.fixed_version = version;
      if (found.fixed_version.empty()) found.fixed_version = line.unstable_version;
      take(std::move(found));
    }
  }
  return {};
}

}  // namespace caisson::inventory
