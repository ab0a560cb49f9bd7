// Reading and applying CDI specifications.
#include "engine/cdi.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "base/yaml.hpp"
#include "engine/spec_builder.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {

namespace {

Status read_device_node(const JsonView& node, std::vector<DeviceSpec>& devices) {
  DeviceSpec device;
  TRY_PLAIN(node.read("path", device.path_in_container));
  TRY_PLAIN(node.read("hostPath", device.path_on_host));
  if (device.path_on_host.empty()) device.path_on_host = device.path_in_container;
  std::string permissions;
  TRY_PLAIN(node.read("permissions", permissions));
  if (!permissions.empty()) device.permissions = permissions;
  if (!device.path_in_container.starts_with('/')) return node.error("path: must be absolute");
  devices.push_back(std::move(device));
  return {};
}

Status read_mount(const JsonView& entry, std::vector<runtime::Mount>& mounts) {
  runtime::Mount mount;
  TRY_PLAIN(entry.read("hostPath", mount.source));
  TRY_PLAIN(entry.read("containerPath", mount.destination));
  TRY_PLAIN(entry.read("options", mount.options));
  TRY_PLAIN(entry.read("type", mount.type));
  if (!mount.destination.starts_with('/') || mount.source.empty()) return entry.error("needs hostPath and an absolute containerPath");
  if (mount.type.empty()) mount.type = "bind";
  const bool has_bind = std::any_of(mount.options.begin(), mount.options.end(), [](const auto& word) { return word == "bind" || word == "rbind"; });
  if (mount.type == "bind" && !has_bind) mount.options.emplace_back("bind");
  mounts.push_back(std::move(mount));
  return {};
}

Status read_hook(const JsonView& entry, runtime::Hooks& hooks) {
  std::string name;
  runtime::Hook hook;
  TRY_PLAIN(entry.read("hookName", name));
  TRY_PLAIN(entry.read("path", hook.path));
  TRY_PLAIN(entry.read("args", hook.args));
  TRY_PLAIN(entry.read("env", hook.env));
  if (TRY_PLAIN(entry.at("timeout")).is_set()) TRY_PLAIN(entry.read("timeout", hook.timeout_seconds.emplace()));
  if (!hook.path.starts_with('/')) return entry.error("path: must be absolute");
  for (auto [known, list] : {std::pair{"prestart", &hooks.prestart}, {"createRuntime", &hooks.create_runtime}, {"createContainer", &hooks.create_container},
                             {"startContainer", &hooks.start_container}, {"poststart", &hooks.poststart}, {"poststop", &hooks.poststop}}) {
    if (name != known) continue;
    list->push_back(std::move(hook));
    return {};
  }
  return entry.error(concat("hookName: \"", name, "\" is not known"));
}

Status read_edits(const JsonView& view, CdiEdits& edits) {
  TRY_PLAIN(view.read("env", edits.env));
  TRY_PLAIN(view.read("additionalGids", edits.additional_gids));
  TRY_PLAIN(TRY_PLAIN(view.at("deviceNodes")).for_each_element([&](const JsonView& node) { return read_device_node(node, edits.devices); }));
  TRY_PLAIN(TRY_PLAIN(view.at("mounts")).for_each_element([&](const JsonView& entry) { return read_mount(entry, edits.mounts); }));
  TRY_PLAIN(TRY_PLAIN(view.at("hooks")).for_each_element([&](const JsonView& entry) { return read_hook(entry, edits.hooks); }));
  if (TRY_PLAIN(view.at("intelRdt")).is_set()) return view.error("intelRdt is not supported");
  return {};
}

template <typename T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

void append(CdiEdits& to, const CdiEdits& from) {
  append(to.env, from.env);
  append(to.devices, from.devices);
  append(to.mounts, from.mounts);
  append(to.additional_gids, from.additional_gids);
  append(to.hooks.prestart, from.hooks.prestart);
  append(to.hooks.create_runtime, from.hooks.create_runtime);
  append(to.hooks.create_container, from.hooks.create_container);
  append(to.hooks.start_container, from.hooks.start_container);
  append(to.hooks.poststart, from.hooks.poststart);
  append(to.hooks.poststop, from.hooks.poststop);
}

/// As Go prints a list of lists: [[gpu utility]].
std::string list_text(const std::vector<std::vector<std::string>>& lists) {
  std::vector<std::string> inner;
  for (const auto& list : lists) inner.push_back(concat("[", join(list, " "), "]"));
  return concat("[", join(inner, " "), "]");
}

}  // namespace

Result<CdiSpec> parse_cdi_spec(std::string_view text, CdiFormat format) {
  auto document = TRY_PLAIN(format == CdiFormat::yaml ? parse_yaml(text, "CDI specification") : parse_json(text, "CDI specification"));
  JsonView view(document, "CDI specification");
  if (!document.is_object()) return view.error("want an object");
  CdiSpec spec;
  std::string version;
  TRY_PLAIN(view.read("cdiVersion", version));
  TRY_PLAIN(view.read("kind", spec.kind));
  if (version.empty()) return view.error("cdiVersion is missing");
  auto halves = split_once(spec.kind, '/');
  if (!halves.found || halves.before.empty() || halves.after.empty()) return view.error("kind: want vendor.com/class");
  TRY_PLAIN(read_edits(TRY_PLAIN(view.at("containerEdits")), spec.common));
  TRY_PLAIN(TRY_PLAIN(view.at("devices")).for_each_element([&](const JsonView& entry) -> Status {
    std::string name;
    TRY_PLAIN(entry.read("name", name));
    if (name.empty()) return entry.error("name is missing");
    return read_edits(TRY_PLAIN(entry.at("containerEdits")), spec.devices[name]);
  }));
  return spec;
}

std::map<std::string, CdiSpec> read_cdi_specs(const std::vector<std::string>& dirs, std::vector<std::string>& broken) {
  std::map<std::string, CdiSpec> specs;
  for (const auto& dir : dirs) {
    auto entries = linux::list_dir(dir);
    if (!entries.ok()) continue;  // most hosts have none
    std::sort(entries->begin(), entries->end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    for (const auto& entry : *entries) {
      const std::string path = dir + "/" + entry.name;
      const bool is_yaml = entry.name.ends_with(".yaml");
      if (!is_yaml && !entry.name.ends_with(".json")) continue;
      auto text = linux::read_file(path);
      auto spec = text.ok() ? parse_cdi_spec(*text, is_yaml ? CdiFormat::yaml : CdiFormat::json) : Result<CdiSpec>(std::move(text).error());
      if (!spec.ok()) {
        broken.push_back(concat(path, ": ", spec.error().text()));
        continue;
      }
      CdiSpec& known = specs[spec->kind];
      known.kind = spec->kind;
      // The file's own edits for all belong to its own devices only; two files of one kind must not mix them.
      for (auto& [name, edits] : spec->devices) {
        CdiEdits whole = spec->common;
        append(whole, edits);
        known.devices[name] = std::move(whole);
      }
    }
  }
  return specs;
}

Result<std::vector<std::string>> cdi_names(const std::vector<DeviceRequest>& requests, const std::map<std::string, CdiSpec>& specs) {
  std::vector<std::string> names;
  for (const auto& request : requests) {
    if (request.driver == "cdi") {
      append(names, request.device_ids);
      continue;
    }
    const bool wants_gpu = std::any_of(request.capabilities.begin(), request.capabilities.end(), [](const auto& list) {
      return std::find(list.begin(), list.end(), "gpu") != list.end();
    });
    auto found = specs.find("nvidia.com/gpu");
    if (!wants_gpu || (!request.driver.empty() && request.driver != "nvidia") || found == specs.end())
      return Error(ErrorKind::invalid, concat("could not select device driver \"", request.driver, "\" with capabilities: ", list_text(request.capabilities)))
          .with_hint("GPUs come from CDI specifications: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml");
    const auto& devices = found->second.devices;
    auto add = [&](const std::string& name) { names.push_back(concat("nvidia.com/gpu=", name)); };
    if (!request.device_ids.empty()) {
      for (const auto& id : request.device_ids) add(id);
    } else if (request.count == -1) {
      if (devices.contains("all")) add("all");
      else for (const auto& [name, edits] : devices) add(name);
    } else {
      for (std::int64_t i = 0; i < std::max<std::int64_t>(request.count, 1); ++i) add(concat(i));
    }
  }
  return names;
}

Result<CdiEdits> collect_cdi_edits(const std::vector<std::string>& names, const std::map<std::string, CdiSpec>& specs, const std::vector<std::string>& broken) {
  CdiEdits edits;
  std::vector<std::string> missing;
  for (const auto& name : names) {
    auto halves = split_once(name, '=');
    auto kind = specs.find(std::string(halves.before));
    auto device = kind == specs.end() ? std::map<std::string, CdiEdits>::const_iterator() : kind->second.devices.find(std::string(halves.after));
    if (kind == specs.end() || device == kind->second.devices.end()) missing.push_back(name);
    else append(edits, device->second);
  }
  if (missing.empty()) return edits;
  Error error(ErrorKind::invalid, concat("CDI device injection failed: unresolvable CDI devices ", join(missing, ", ")));
  return broken.empty() ? std::move(error) : std::move(error).with_hint(join(broken, "; "));
}

void apply_cdi_edits(const CdiEdits& edits, runtime::Spec& plan) {
  plan.process.env = merge_environment(std::move(plan.process.env), edits.env);
  // Two devices of one kind bring the same libraries.
  for (const auto& mount : edits.mounts) {
    const bool is_there = std::any_of(plan.mounts.begin(), plan.mounts.end(), [&](const auto& known) { return known.destination == mount.destination && known.source == mount.source; });
    if (!is_there) plan.mounts.push_back(mount);
  }
  append(plan.process.user.additional_gids, edits.additional_gids);
  append(plan.hooks.prestart, edits.hooks.prestart);
  append(plan.hooks.create_runtime, edits.hooks.create_runtime);
  append(plan.hooks.create_container, edits.hooks.create_container);
  append(plan.hooks.start_container, edits.hooks.start_container);
  append(plan.hooks.poststart, edits.hooks.poststart);
  append(plan.hooks.poststop, edits.hooks.poststop);
}

}  // namespace caisson::engine
