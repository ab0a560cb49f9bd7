// OSV records (https://ossf.github.io/osv-schema/): which packages of which release are affected, and CVSS scores.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "inventory/advisories.hpp"
#include "inventory/versions.hpp"

namespace caisson::inventory {

namespace {

/// "Debian:12" is for Debian 12, "Debian" for every release. Vendors name releases as they like: "Ubuntu:22.04:LTS", "Alpine:v3.20", "Rocky Linux:9".
bool is_for(std::string_view ecosystem, const Distribution& distribution) {
  const auto halves = split_once(ecosystem, ':');
  static const std::map<std::string_view, std::string_view> ids = {
      {"Debian", "debian"}, {"Ubuntu", "ubuntu"}, {"Alpine", "alpine"}, {"Rocky Linux", "rocky"}, {"AlmaLinux", "almalinux"}, {"Red Hat", "rhel"}, {"openSUSE", "opensuse-leap"},
      {"SUSE", "sles"}, {"Wolfi", "wolfi"}, {"Chainguard", "chainguard"}, {"Mageia", "mageia"}, {"openEuler", "openEuler"}, {"Azure Linux", "azurelinux"}, {"MinimOS", "minimos"},
      {"Photon OS", "photon"}};
  auto id = ids.find(halves.before);
  if (id == ids.end() || id->second != distribution.id) return false;
  auto release = halves.after;
  if (release.empty()) return true;
  if (distribution.id == "ubuntu") {  // "Pro:" before it, ":LTS" behind it
    if (release.starts_with("Pro:")) release.remove_prefix(4);
    release = split_once(release, ':').before;
  }
  if (release.starts_with('v')) release.remove_prefix(1);
  const std::string_view have = distribution.version_id;
  return have == release || (have.starts_with(release) && have[release.size()] == '.');
}

struct Event {
  std::string introduced;
  std::string fixed;
  std::string last_affected;
};
Status from_json(const JsonView& view, Event& out) {
  TRY_PLAIN(view.read("introduced", out.introduced));
  TRY_PLAIN(view.read("fixed", out.fixed));
  return view.read("last_affected", out.last_affected);
}

struct Range {
  std::string type;
  std::vector<Event> events;
};
Status from_json(const JsonView& view, Range& out) {
  TRY_PLAIN(view.read("type", out.type));
  return view.read("events", out.events);
}

struct Affected {
  std::string ecosystem;
  std::string name;
  std::vector<Range> ranges;
  std::vector<std::string> versions;
  std::string urgency;
};
Status from_json(const JsonView& view, Affected& out) {
  auto package = TRY_PLAIN(view.at("package"));
  if (package.is_set()) {
    TRY_PLAIN(package.read("ecosystem", out.ecosystem));
    TRY_PLAIN(package.read("name", out.name));
  }
  TRY_PLAIN(view.read("ranges", out.ranges));
  TRY_PLAIN(view.read("versions", out.versions));
  for (const char* where : {"ecosystem_specific", "database_specific"}) {
    auto more = TRY_PLAIN(view.at(where));
    if (!more.is_set() || !more.raw().is_object()) continue;
    for (const char* key : {"urgency", "severity"})
      if (const auto* value = more.raw().get_object().if_contains(key); value != nullptr && value->is_string() && out.urgency.empty()) out.urgency = value->get_string();
  }
  return {};
}

/// "0" is before every version, whatever a distribution's order makes of it.
int compare_events(PackageKind kind, const Event& a, const Event& b) {
  auto version = [](const Event& event) -> const std::string& { return !event.introduced.empty() ? event.introduced : !event.fixed.empty() ? event.fixed : event.last_affected; };
  const bool is_first = a.introduced == "0";
  if (is_first || b.introduced == "0") return is_first == (b.introduced == "0") ? 0 : is_first ? -1 : 1;
  return compare_versions(kind, version(a), version(b));
}

/// The schema's algorithm: of the events at or before the version, the last one decides. `fixed`: the first fix behind the version.
bool is_in_range(const Range& range, PackageKind kind, std::string_view version, std::string& fixed) {
  bool is_affected = false;
  auto events = range.events;
  std::stable_sort(events.begin(), events.end(), [&](const Event& a, const Event& b) { return compare_events(kind, a, b) < 0; });
  for (const auto& event : events) {
    if (!event.introduced.empty() && (event.introduced == "0" || compare_versions(kind, version, event.introduced) >= 0)) is_affected = true;
    if (!event.fixed.empty() && compare_versions(kind, version, event.fixed) >= 0) is_affected = false;
    if (!event.last_affected.empty() && compare_versions(kind, version, event.last_affected) > 0) is_affected = false;
  }
  if (!is_affected) return false;
  for (const auto& event : range.events) {
    if (event.fixed.empty() || compare_versions(kind, version, event.fixed) >= 0) continue;
    if (fixed.empty() || compare_versions(kind, event.fixed, fixed) < 0) fixed = event.fixed;
  }
  return true;
}

bool is_affected(const Affected& affected, const Package& package, std::string& fixed) {
  // Advisories of Debian, Ubuntu and Alpine speak of source packages, those of rpm's distributions of what is installed.
  const bool is_source = affected.name == package.source;
  if (!is_source && affected.name != package.name) return false;
  const auto& version = is_source ? package.source_version : package.version;
  bool found = false;
  for (const auto& range : affected.ranges)
    if (range.type == "ECOSYSTEM" && is_in_range(range, package.kind, version, fixed)) found = true;
  return found || std::find(affected.versions.begin(), affected.versions.end(), version) != affected.versions.end();
}

Severity severity_of_word(std::string_view word) {
  const auto text = lower(word);
  if (text == "critical") return Severity::critical;
  if (text == "high" || text == "important") return Severity::high;
  if (text == "medium" || text == "moderate") return Severity::medium;
  if (text == "low") return Severity::low;
  return text == "unimportant" || text == "negligible" || text == "none" ? Severity::negligible : Severity::unknown;
}

Status read_severity(const JsonView& record, Severity& out) {
  auto scores = TRY_PLAIN(record.at("severity"));
  if (scores.is_set())
    TRY_PLAIN(scores.for_each_element([&](const JsonView& item) -> Status {
      std::string score;
      TRY_PLAIN(item.read("score", score));
      out = std::max(out, severity_of_cvss(score));
      return {};
    }));
  auto more = TRY_PLAIN(record.at("database_specific"));
  if (out != Severity::unknown || !more.is_set() || !more.raw().is_object()) return {};
  if (const auto* word = more.raw().get_object().if_contains("severity"); word != nullptr && word->is_string()) out = severity_of_word(word->get_string());
  return {};
}

/// Metrics of a CVSS v3 vector: "AV" → 'N'.
std::optional<std::map<std::string_view, char>> metrics_of(std::string_view vector) {
  std::map<std::string_view, char> out;
  auto parts = split(vector, '/');
  if (parts.empty() || (parts[0] != "CVSS:3.0" && parts[0] != "CVSS:3.1")) return std::nullopt;
  for (std::size_t i = 1; i < parts.size(); ++i) {
    const auto halves = split_once(parts[i], ':');
    if (halves.after.size() != 1) return std::nullopt;
    out[halves.before] = halves.after[0];
  }
  return out;
}

struct Weight {
  char letter;
  double value;
};
template <std::size_t N>
std::optional<double> weight(const std::map<std::string_view, char>& metrics, std::string_view name, const std::array<Weight, N>& weights) {
  const auto found = metrics.find(name);
  if (found == metrics.end()) return std::nullopt;
  for (const auto& candidate : weights)
    if (candidate.letter == found->second) return candidate.value;
  return std::nullopt;
}

}  // namespace

std::string_view to_string(Severity severity) {
  switch (severity) {
    case Severity::unknown: return "unknown";
    case Severity::negligible: return "negligible";
    case Severity::low: return "low";
    case Severity::medium: return "medium";
    case Severity::high: return "high";
    case Severity::critical: return "critical";
  }
  return "unknown";
}

Result<Severity> parse_severity(std::string_view text) {
  for (auto severity : {Severity::unknown, Severity::negligible, Severity::low, Severity::medium, Severity::high, Severity::critical})
    if (lower(text) == to_string(severity)) return severity;
  return Error(ErrorKind::invalid, concat("\"", text, "\" is no severity; there are unknown, negligible, low, medium, high and critical"));
}

/// CVSS v3.1 specification, section 7.1 and the weights of 7.4; the scale of section 5.
Severity severity_of_cvss(std::string_view vector) {
  const auto metrics = metrics_of(vector);
  if (!metrics) return Severity::unknown;
  const auto scope = metrics->find("S");
  if (scope == metrics->end() || (scope->second != 'U' && scope->second != 'C')) return Severity::unknown;
  const bool is_changed = scope->second == 'C';
  constexpr std::array impacts = {Weight{'H', 0.56}, Weight{'L', 0.22}, Weight{'N', 0.0}};
  const auto confidentiality = weight(*metrics, "C", impacts);
  const auto integrity = weight(*metrics, "I", impacts);
  const auto availability = weight(*metrics, "A", impacts);
  const auto attack = weight(*metrics, "AV", std::array{Weight{'N', 0.85}, Weight{'A', 0.62}, Weight{'L', 0.55}, Weight{'P', 0.2}});
  const auto complexity = weight(*metrics, "AC", std::array{Weight{'L', 0.77}, Weight{'H', 0.44}});
  const auto privileges = weight(*metrics, "PR", std::array{Weight{'N', 0.85}, Weight{'L', is_changed ? 0.68 : 0.62}, Weight{'H', is_changed ? 0.5 : 0.27}});
  const auto interaction = weight(*metrics, "UI", std::array{Weight{'N', 0.85}, Weight{'R', 0.62}});
  if (!confidentiality || !integrity || !availability || !attack || !complexity || !privileges || !interaction) return Severity::unknown;
  const double base = 1 - (1 - *confidentiality) * (1 - *integrity) * (1 - *availability);
  const double impact = is_changed ? 7.52 * (base - 0.029) - 3.25 * std::pow(base - 0.02, 15) : 6.42 * base;
  if (impact <= 0) return Severity::negligible;
  const double exploitability = 8.22 * *attack * *complexity * *privileges * *interaction;
  const double score = std::ceil(std::round(std::min((is_changed ? 1.08 : 1.0) * (impact + exploitability), 10.0) * 100000) / 10000) / 10;
  if (score >= 9.0) return Severity::critical;
  if (score >= 7.0) return Severity::high;
  return score >= 4.0 ? Severity::medium : Severity::low;
}

Result<bool> match_osv_record(std::string_view text, const ScanQuestion& question, const TakeFinding& take) {
  auto document = TRY_PLAIN(parse_json(text, "OSV record"));
  JsonView record(document);
  Finding found;
  TRY_PLAIN(record.read("id", found.id));
  if (found.id.empty()) return Error(ErrorKind::corrupt, "OSV record: it has no id");
  std::string withdrawn;
  TRY_PLAIN(record.read("withdrawn", withdrawn));
  if (!withdrawn.empty()) return false;
  std::vector<Affected> affected;
  TRY(record.read("affected", affected), found.id);
  std::erase_if(affected, [&](const Affected& item) { return !is_for(item.ecosystem, question.distribution); });
  if (affected.empty()) return false;
  TRY(record.read("aliases", found.aliases), found.id);
  std::vector<std::string> upstream;  // Debian's and Ubuntu's records name the CVE there
  TRY(record.read("upstream", upstream), found.id);
  found.aliases.insert(found.aliases.end(), upstream.begin(), upstream.end());
  TRY(record.read("summary", found.summary), found.id);
  TRY(read_severity(record, found.severity), found.id);
  for (std::size_t i = 0; i < question.packages.size(); ++i)
    for (const auto& item : affected) {
      Finding one = found;
      one.package = i;
      if (!is_affected(item, question.packages[i], one.fixed_version)) continue;
      if (one.severity == Severity::unknown) one.severity = severity_of_word(item.urgency);
      take(std::move(one));
    }
  return true;
}

}  // namespace caisson::inventory
