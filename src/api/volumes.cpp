// /volumes.
#include "api/handlers.hpp"
#include "api/json_out.hpp"
#include "base/strings.hpp"

namespace caisson::api {

namespace {
constexpr std::string_view anonymous_label = "com.docker.volume.anonymous";
}

json::object volume_json(const engine::VolumeInfo& volume) {
  auto labels = volume.labels;
  if (volume.anonymous) labels.emplace(anonymous_label, "");
  json::object out{{"Driver", volume.driver},
                   {"Labels", text_map_or_null(labels)},
                   {"Mountpoint", volume.mountpoint},
                   {"Name", volume.name},
                   {"Options", text_map_or_null(volume.options)},
                   {"Scope", "local"}};
  // Docker gives whole seconds: "2026-11-20T15:27:32Z".
  std::string created = to_rfc3339(volume.created);
  out["CreatedAt"] = concat(std::string_view(created).substr(0, 19), "Z");
  if (volume.size_bytes) out["UsageData"] = json::object{{"RefCount", volume.used_by.size()}, {"Size", *volume.size_bytes}};
  return out;
}

Status list_volumes(Request& request) {
  auto filters = TRY_PLAIN(Filters::parse(request.query.text("filters"), {"dangling", "driver", "label", "name"}));
  auto dangling = TRY_PLAIN(filters.boolean("dangling"));
  auto volumes = TRY_PLAIN(request.engine.list_volumes(request.caller, false));
  json::array out;
  for (const auto& volume : volumes) {
    if (dangling && *dangling != volume.used_by.empty()) continue;
    if (!filters.exact("driver", volume.driver) || !filters.part("name", volume.name) || !filters.labels("label", volume.labels)) continue;
    out.push_back(volume_json(volume));
  }
  return request.reply_json(200, json::object{{"Volumes", std::move(out)}, {"Warnings", nullptr}});
}

Status create_volume(Request& request) {
  auto document = TRY_PLAIN(request.read_optional_json());
  JsonView body(document);
  engine::VolumeSpec spec;
  TRY_PLAIN(body.read("Name", spec.name));
  TRY_PLAIN(body.read("Driver", spec.driver));
  TRY_PLAIN(body.read("DriverOpts", spec.options));
  TRY_PLAIN(body.read("Labels", spec.labels));
  if (TRY_PLAIN(body.at("ClusterVolumeSpec")).is_set()) return Error(ErrorKind::unsupported, "ClusterVolumeSpec: cluster volumes are not supported");
  auto volume = TRY_PLAIN(request.engine.create_volume(request.caller, spec));
  return request.reply_json(201, volume_json(volume));
}

Status inspect_volume(Request& request) {
  auto volume = TRY_PLAIN(request.engine.inspect_volume(request.caller, request.name));
  return request.reply_json(200, volume_json(volume));
}

Status remove_volume(Request& request) {
  TRY_PLAIN(request.engine.remove_volume(request.caller, request.name, request.query.flag("force")));
  return request.reply_empty(204);
}

Status prune_volumes(Request& request) {
  auto filters = TRY_PLAIN(Filters::parse(request.query.text("filters"), {"all", "label", "label!"}));
  const bool named_too = TRY_PLAIN(filters.boolean("all")).value_or(request.version < version_1_42);
  auto result = TRY_PLAIN(request.engine.prune_volumes(request.caller, [&](const engine::VolumeInfo& volume) {
    const bool excluded = filters.has("label!") && filters.labels("label!", volume.labels);
    return (named_too || volume.anonymous) && filters.labels("label", volume.labels) && !excluded;
  }));
  return request.reply_json(200, json::object{{"VolumesDeleted", texts_or_null(result.deleted)}, {"SpaceReclaimed", result.reclaimed_bytes}});
}

}  // namespace caisson::api
