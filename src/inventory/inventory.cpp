// The overlay's rules, applied to a handful of files.
#include "inventory/inventory.hpp"

#include <algorithm>
#include <map>
#include <set>

#include "base/strings.hpp"

namespace caisson::inventory {

namespace {

struct Seen {
  const LayerFile* file = nullptr;
  std::size_t layer = 0;
};
using View = std::map<std::string, Seen>;

void apply(const LayerReport& report, std::size_t layer, View& view) {
  std::erase_if(view, [&](const auto& entry) {
    const auto& path = entry.first;
    return std::any_of(report.removed.begin(), report.removed.end(), [&](const auto& gone) { return is_at_or_below(path, gone); }) ||
           std::any_of(report.opaque.begin(), report.opaque.end(), [&](const auto& folder) { return path != folder && is_at_or_below(path, folder); });
  });
  for (const auto& file : report.files) view[file.path] = {&file, layer};
}

std::set<Package> packages_in(const View& view) {
  std::set<Package> out;
  for (const auto& [path, seen] : view) out.insert(seen.file->packages.begin(), seen.file->packages.end());
  return out;
}

/// rpm leaves its old database behind when it is moved to SQLite in another folder; then it does not count.
Status check_readable(const View& view, const std::vector<Digest>& layers) {
  const bool has_sqlite = std::any_of(view.begin(), view.end(), [](const auto& entry) { return entry.second.file->kind == FileKind::rpm_sqlite; });
  for (const auto& [path, seen] : view) {
    if (seen.file->trouble.empty() || (seen.file->kind == FileKind::rpm_other && has_sqlite)) continue;
    return Error(seen.file->kind == FileKind::rpm_other ? ErrorKind::unsupported : ErrorKind::corrupt,
                 concat("layer ", layers[seen.layer].text(), ": /", path, ": ", seen.file->trouble));
  }
  return {};
}

Distribution distribution_of(const View& view) {
  for (const char* path : {"etc/os-release", "usr/lib/os-release"})
    if (auto found = view.find(path); found != view.end()) return found->second.file->distribution;
  return {};
}

}  // namespace

Result<Inventory> stack_layers(const std::vector<Digest>& layers, const std::vector<LayerReport>& reports) {
  View view;
  std::vector<std::set<Package>> after;  // each layer
  for (std::size_t layer = 0; layer < reports.size(); ++layer) {
    apply(reports[layer], layer, view);
    const bool is_same = layer > 0 && reports[layer].files.empty() && reports[layer].removed.empty() && reports[layer].opaque.empty();
    after.push_back(is_same ? after.back() : packages_in(view));
  }
  TRY_PLAIN(check_readable(view, layers));
  Inventory out;
  out.layers = layers;
  out.distribution = distribution_of(view);
  if (after.empty()) return out;
  for (const auto& package : after.back()) {
    // Down from the top as long as it was there: removed and installed again counts as installed by the later layer.
    std::size_t layer = after.size() - 1;
    while (layer > 0 && after[layer - 1].count(package) != 0) --layer;
    out.packages.push_back({package, layer});
  }
  return out;
}

}  // namespace caisson::inventory
