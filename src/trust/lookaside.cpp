// registries.d: the little of it that says where signatures are.
#include "trust/lookaside.hpp"

#include <algorithm>
#include <map>

#include "base/strings.hpp"
#include "base/yaml.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"
#include "trust/policy.hpp"

namespace caisson::trust {

namespace {

constexpr std::size_t most_file_bytes = 1 << 20;

Result<std::string> base_of(const JsonView& place) {
  std::string lookaside;
  TRY_PLAIN(place.read("lookaside", lookaside));
  if (lookaside.empty()) TRY_PLAIN(place.read("sigstore", lookaside));
  return lookaside;
}

}  // namespace

Result<std::optional<std::string>> find_lookaside(const std::vector<LookasideFile>& files, const Reference& reference) {
  std::map<std::string, std::string> scopes;
  std::optional<std::string> fallback;
  for (const auto& file : files) {
    auto document = TRY_PLAIN(parse_yaml(file.text, file.name));
    JsonView view(document, file.name);
    auto general = TRY_PLAIN(view.at("default-docker"));
    if (general.is_set()) {
      if (fallback) return view.error("default-docker was there already in another file");
      fallback = TRY_PLAIN(base_of(general));
    }
    auto docker = TRY_PLAIN(view.at("docker"));
    TRY_PLAIN(docker.for_each_member([&](std::string_view scope, const JsonView& place) -> Status {
      auto base = TRY_PLAIN(base_of(place));
      if (!scopes.emplace(std::string(scope), std::move(base)).second) return view.error(concat("docker.", scope, " was there already in another file"));
      return {};
    }));
  }
  for (const auto& scope : scopes_of(reference))
    if (auto found = scopes.find(scope); found != scopes.end() && !found->second.empty()) return std::optional(found->second);
  if (fallback && fallback->empty()) fallback.reset();
  return fallback;
}

std::string lookaside_url(std::string_view base, const Reference& reference, const Digest& manifest, std::size_t number) {
  while (base.ends_with('/')) base.remove_suffix(1);
  return concat(base, "/", reference.path, "@", manifest.algorithm(), "=", manifest.hex(), "/signature-", number);
}

Result<std::vector<LookasideFile>> read_lookaside_files(const std::string& folder) {
  std::vector<LookasideFile> out;
  auto listed = linux::list_dir(folder);
  if (!listed.ok() && listed.error().kind() == ErrorKind::not_found) return out;
  std::vector<std::string> names;
  for (const auto& entry : TRY(std::move(listed), folder)) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  for (const auto& name : names) {
    if (!name.ends_with(".yaml")) continue;
    const auto path = concat(folder, "/", name);
    auto text = TRY(linux::read_file(path, most_file_bytes), path);
    out.push_back({path, std::move(text)});
  }
  return out;
}

}  // namespace caisson::trust
