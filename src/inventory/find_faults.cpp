// Which kind of data it is, and the findings of all of them in one order.
#include <algorithm>
#include <map>
#include <utility>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "image/zlib_text.hpp"
#include "inventory/advisories.hpp"

namespace caisson::inventory {

namespace {

constexpr std::size_t most_debsecan_bytes = 256 << 20;
constexpr std::size_t most_findings = 1'000'000;
constexpr std::size_t most_summary_bytes = 200;

/// The first line, cut at a sensible length: descriptions may be pages.
std::string shortened(std::string_view text) {
  text = split_once(trim(text), '\n').before;
  if (text.size() <= most_summary_bytes) return std::string(text);
  auto end = most_summary_bytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;  // not inside a character
  return concat(text.substr(0, end), "…");
}

/// {"vulns": […]}, a list, or one record.
Status match_osv_json(std::string_view text, const ScanQuestion& question, const TakeFinding& take) {
  const auto document = TRY_PLAIN(parse_json(text, "OSV records"));
  JsonView view(document);
  auto match = [&](const JsonView& record) -> Status {
    TRY_PLAIN(match_osv_record(to_text(record.raw()), question, take));
    return {};
  };
  if (!document.is_object()) return view.for_each_element(match);
  auto list = TRY_PLAIN(view.at("vulns"));
  return list.is_set() ? list.for_each_element(match) : match(view);
}

/// All of a distribution's records, or of everybody's.
Status match_osv_zip(std::string_view zip, const ScanQuestion& question, const TakeFinding& take) {
  bool is_about_us = false;
  TRY_PLAIN(for_each_zip_member(zip, [&](std::string_view name, std::string_view bytes) -> Status {
    if (!name.ends_with(".json")) return {};
    if (TRY(match_osv_record(bytes, question, take), name)) is_about_us = true;
    return {};
  }));
  if (is_about_us) return {};
  return Error(ErrorKind::unsupported, concat("the data say nothing about \"", question.distribution.id, "\" ", question.distribution.version_id));
}

/// By its first member: an OSV record has texts and lists on its first level, the tracker only objects of objects.
Result<bool> is_tracker(std::string_view text) {
  bool out = true;
  bool is_first = true;
  auto looked = for_each_raw_member(text, [&](std::string_view key, std::string_view raw) -> Status {
    out = raw.starts_with('{') && key != "database_specific";
    is_first = false;
    return Error(ErrorKind::internal, "one member is enough");
  });
  if (!looked.ok() && is_first) return std::move(looked).error();
  return out && !is_first;
}

Status match_any(std::string_view data, const ScanQuestion& question, const TakeFinding& take) {
  if (data.starts_with("PK")) return match_osv_zip(data, question, take);
  if (data.starts_with("VERSION ")) return match_debsecan(data, question, take);
  if (image::is_zlib(data)) return match_debsecan(TRY_PLAIN(image::inflate_zlib(data, most_debsecan_bytes)), question, take);
  const auto begin = data.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos || (data[begin] != '{' && data[begin] != '['))
    return Error(ErrorKind::unsupported, "the data are of no kind that is known: OSV (zip or JSON), Debian's security tracker (JSON), debsecan");
  if (data[begin] == '{' && TRY_PLAIN(is_tracker(data))) return match_debian_tracker(data, question, take);
  return match_osv_json(data, question, take);
}

}  // namespace

Result<std::vector<Finding>> find_faults(std::string_view data, const ScanQuestion& question) {
  std::map<std::pair<std::uint64_t, std::string>, Finding> found;
  bool is_too_much = false;
  TRY_PLAIN(match_any(data, question, [&](Finding finding) {
    if (found.size() == most_findings) {
      is_too_much = true;
      return;
    }
    finding.summary = shortened(finding.summary);
    std::sort(finding.aliases.begin(), finding.aliases.end());
    finding.aliases.erase(std::unique(finding.aliases.begin(), finding.aliases.end()), finding.aliases.end());
    auto key = std::pair(finding.package, finding.id);
    found.emplace(std::move(key), std::move(finding));
  }));
  if (is_too_much) return Error(ErrorKind::unsupported, concat("the data have more than ", most_findings, " findings for one image"));
  std::vector<Finding> out;
  for (auto& [key, finding] : found) out.push_back(std::move(finding));
  return out;
}

}  // namespace caisson::inventory
