// A user's seccomp profile: docker's format has conditions (capabilities, architectures, kernel) that the OCI's lacks.
#include <algorithm>

#include "base/json.hpp"
#include "engine/spec_builder.hpp"

namespace caisson::engine {

namespace {
constexpr std::string_view docker_architecture = "amd64";  // names of archMap's rules; the build's own
constexpr std::string_view native_architecture = "SCMP_ARCH_X86_64";

struct Conditions {
  std::vector<std::string> caps;
  std::vector<std::string> arches;
  std::string min_kernel;
};

Result<Conditions> read_conditions(const JsonView& view) {
  Conditions conditions;
  TRY_PLAIN(view.read("caps", conditions.caps));
  TRY_PLAIN(view.read("arches", conditions.arches));
  TRY_PLAIN(view.read("minKernel", conditions.min_kernel));
  return conditions;
}

bool contains(const std::vector<std::string>& list, std::string_view item) { return std::find(list.begin(), list.end(), item) != list.end(); }

/// `includes` must all hold; of `excludes` none may. Every kernel this engine runs on (6.1 and later) is newer than the minKernel
/// conditions in use (4.8), so that condition always holds.
Result<bool> applies(const JsonView& rule, const std::vector<std::string>& capabilities) {
  auto includes = TRY_PLAIN(read_conditions(TRY_PLAIN(rule.at("includes"))));
  auto excludes = TRY_PLAIN(read_conditions(TRY_PLAIN(rule.at("excludes"))));
  bool has_all = std::all_of(includes.caps.begin(), includes.caps.end(), [&](const auto& cap) { return contains(capabilities, cap); });
  bool has_excluded = std::any_of(excludes.caps.begin(), excludes.caps.end(), [&](const auto& cap) { return contains(capabilities, cap); });
  bool arch_included = includes.arches.empty() || contains(includes.arches, docker_architecture);
  bool arch_excluded = contains(excludes.arches, docker_architecture);
  return has_all && !has_excluded && arch_included && !arch_excluded && excludes.min_kernel.empty();
}

Result<json::array> architectures_of(const JsonView& profile) {
  json::array names;
  TRY_PLAIN(TRY_PLAIN(profile.at("archMap")).for_each_element([&](const JsonView& entry) -> Status {
    std::string name;
    std::vector<std::string> subs;
    TRY_PLAIN(entry.read("architecture", name));
    TRY_PLAIN(entry.read("subArchitectures", subs));
    if (name != native_architecture) return {};
    names.emplace_back(name);
    for (const auto& sub : subs) names.emplace_back(sub);
    return {};
  }));
  return names;
}
}  // namespace

Result<runtime::SeccompProfile> seccomp_from_text(const std::string& text, const std::vector<std::string>& capabilities) {
  json::value document = TRY_PLAIN(parse_json(text, "seccomp profile"));
  JsonView profile(document, "seccomp profile");
  std::string default_action;
  TRY_PLAIN(profile.read("defaultAction", default_action));
  if (default_action.empty()) return Error(ErrorKind::invalid, "seccomp profile: defaultAction: must be set");

  json::array rules;
  TRY_PLAIN(TRY_PLAIN(profile.at("syscalls")).for_each_element([&](const JsonView& rule) -> Status {
    if (!TRY_PLAIN(applies(rule, capabilities))) return {};
    json::object plain = rule.raw().get_object();
    std::string single_name;
    TRY_PLAIN(rule.read("name", single_name));
    if (!single_name.empty() && !plain.contains("names")) plain["names"] = json::array{json::value(single_name)};
    for (const char* key : {"includes", "excludes", "comment", "name"}) plain.erase(key);
    rules.push_back(std::move(plain));
    return {};
  }));
  json::object& object = document.get_object();
  if (auto view = TRY_PLAIN(profile.at("archMap")); view.is_set()) {
    json::array names = TRY_PLAIN(architectures_of(profile));
    object["architectures"] = std::move(names);
  }
  object.erase("archMap");
  object["syscalls"] = std::move(rules);
  return runtime::parse_seccomp_profile(to_text(document));
}

}  // namespace caisson::engine
