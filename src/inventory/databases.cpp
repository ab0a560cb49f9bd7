// dpkg's paragraphs, apk's lines, os-release's assignments. rpm's headers are in rpm.cpp.
#include "inventory/databases.hpp"

#include <map>

#include "base/strings.hpp"

namespace caisson::inventory {

namespace {

constexpr std::size_t most_packages = 200'000;

/// "name (1.2-3)" → name and version; the version is the binary's own where none stands there (deb-control(5), Source).
void take_source(std::string_view text, Package& out) {
  const auto halves = split_once(text, ' ');
  out.source = halves.before;
  auto version = trim(halves.after);
  if (version.starts_with('(') && version.ends_with(')')) out.source_version = version.substr(1, version.size() - 2);
}

/// Fields of one paragraph by lower-case name; continued lines are dropped: no field that is asked for has any.
using Paragraph = std::map<std::string, std::string_view>;

Status finish_paragraph(const Paragraph& fields, std::size_t line, std::vector<Package>& out) {
  if (fields.empty()) return {};
  auto field = [&](const char* name) {
    auto found = fields.find(name);
    return found == fields.end() ? std::string_view() : found->second;
  };
  const auto status = field("status");
  // "install ok installed": the third word is the state; half-installed and config-files have no files that count.
  if (!status.empty() && split_last(status, ' ').after != "installed") return {};
  Package package;
  package.name = field("package");
  package.version = field("version");
  if (package.name.empty() || package.version.empty()) return Error(ErrorKind::corrupt, concat("dpkg status: the paragraph that ends before line ", line, " has no Package or no Version"));
  package.architecture = field("architecture");
  package.maintainer = field("maintainer");
  take_source(field("source"), package);
  if (package.source.empty()) package.source = package.name;
  if (package.source_version.empty()) package.source_version = package.version;
  if (out.size() == most_packages) return Error(ErrorKind::corrupt, concat("dpkg status: more than ", most_packages, " packages"));
  out.push_back(std::move(package));
  return {};
}

}  // namespace

std::string_view to_string(PackageKind kind) {
  switch (kind) {
    case PackageKind::deb: return "deb";
    case PackageKind::apk: return "apk";
    case PackageKind::rpm: return "rpm";
  }
  return "unknown";
}

Result<std::vector<Package>> parse_dpkg_status(std::string_view text) {
  std::vector<Package> out;
  Paragraph fields;
  std::size_t number = 0;
  for (auto line : split(text, '\n')) {
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (trim(line).empty()) {
      TRY_PLAIN(finish_paragraph(fields, number, out));
      fields.clear();
      continue;
    }
    if (line.front() == ' ' || line.front() == '\t' || line.front() == '#') continue;
    const auto halves = split_once(line, ':');
    if (!halves.found) return Error(ErrorKind::corrupt, concat("dpkg status: line ", number, " is no field"));
    fields[lower(halves.before)] = trim(halves.after);
  }
  TRY_PLAIN(finish_paragraph(fields, number + 1, out));
  return out;
}

Result<std::vector<Package>> parse_apk_installed(std::string_view text) {
  std::vector<Package> out;
  Package package;
  std::size_t number = 0;
  bool is_open = false;
  auto finish = [&]() -> Status {
    if (!is_open) return {};
    is_open = false;
    if (package.name.empty() || package.version.empty()) return Error(ErrorKind::corrupt, concat("apk's database: the paragraph that ends before line ", number, " has no P: or no V:"));
    if (package.source.empty()) package.source = package.name;
    package.source_version = package.version;
    if (out.size() == most_packages) return Error(ErrorKind::corrupt, concat("apk's database: more than ", most_packages, " packages"));
    out.push_back(std::move(package));
    package = {};
    return {};
  };
  package.kind = PackageKind::apk;
  for (auto line : split(text, '\n')) {
    ++number;
    if (line.empty()) {
      TRY_PLAIN(finish());
      package.kind = PackageKind::apk;
      continue;
    }
    if (line.size() < 2 || line[1] != ':') return Error(ErrorKind::corrupt, concat("apk's database: line ", number, " is no field"));
    is_open = true;
    const auto value = line.substr(2);
    switch (line[0]) {
      case 'P': package.name = value; break;
      case 'V': package.version = value; break;
      case 'A': package.architecture = value; break;
      case 'o': package.source = value; break;
      case 'L': package.license = value; break;
      case 'm': package.maintainer = value; break;
      default: break;  // files, checksums, dependencies
    }
  }
  ++number;
  TRY_PLAIN(finish());
  return out;
}

Distribution parse_os_release(std::string_view text) {
  Distribution out;
  for (auto line : split(text, '\n')) {
    const auto halves = split_once(trim(line), '=');
    if (!halves.found) continue;
    auto value = halves.after;
    const bool is_quoted = value.size() >= 2 && (value.front() == '"' || value.front() == '\'') && value.back() == value.front();
    if (is_quoted) value = value.substr(1, value.size() - 2);
    if (halves.before == "ID") out.id = value;
    else if (halves.before == "VERSION_ID") out.version_id = value;
    else if (halves.before == "VERSION_CODENAME") out.codename = value;
    else if (halves.before == "PRETTY_NAME") out.name = value;
  }
  return out;
}

}  // namespace caisson::inventory
