// What /images shows.
#include "api/json_out.hpp"
#include "base/strings.hpp"

namespace caisson::api {

namespace {

json::object config_json(const image::Image& image) {
  const auto& config = image.config;
  json::object out{{"Hostname", ""},        {"Domainname", ""},   {"User", config.user}, {"AttachStdin", false},
                   {"AttachStdout", false}, {"AttachStderr", false}};
  if (!config.exposed_ports.empty()) out["ExposedPorts"] = text_set(config.exposed_ports);
  out["Tty"] = false;
  out["OpenStdin"] = false;
  out["StdinOnce"] = false;
  out["Env"] = texts(config.env);
  out["Cmd"] = texts_or_null(config.cmd);
  if (config.healthcheck) out["Healthcheck"] = healthcheck_json(config.healthcheck);
  out["Image"] = "";
  out["Volumes"] = config.volumes.empty() ? json::value(nullptr) : json::value(text_set(config.volumes));
  out["WorkingDir"] = config.working_dir;
  out["Entrypoint"] = texts_or_null(config.entrypoint);
  out["OnBuild"] = texts_or_null(image.on_build);
  out["Labels"] = text_map_or_null(config.labels);
  if (!config.stop_signal.empty()) out["StopSignal"] = config.stop_signal;
  if (!config.shell.empty()) out["Shell"] = texts(config.shell);
  return out;
}

}  // namespace

namespace {

/// Ours, and only there while it says something: an image that was pulled lazily and is not all here.
void add_coming(json::object& out, const image::Image& image) {
  if (!image.coming) return;
  json::object coming{{"Layers", image.coming->layers}, {"LayersHere", image.coming->layers_here}, {"Refused", image.coming->is_refused}};
  if (!image.coming->trouble.empty()) coming["Trouble"] = image.coming->trouble;
  out["Coming"] = std::move(coming);
}

}  // namespace

json::object image_summary_json(const engine::ImageInfo& info, bool with_virtual_size) {
  const auto& image = info.image;
  json::object out{{"Containers", -1},
                   {"Created", unix_seconds(image.created)},
                   {"Id", image.id.text()},
                   {"Labels", text_map_or_null(image.config.labels)},
                   {"ParentId", ""},
                   {"RepoDigests", texts(image.repo_digests)},
                   {"RepoTags", texts(image.repo_tags)},
                   {"SharedSize", -1},
                   {"Size", image.size_bytes}};
  if (with_virtual_size) out["VirtualSize"] = image.size_bytes;
  add_coming(out, image);
  return out;
}

json::object image_json(const engine::ImageInfo& info, bool with_virtual_size) {
  const auto& image = info.image;
  json::array layers;
  for (const auto& layer : image.diff_ids) layers.emplace_back(layer.text());
  json::object out{{"Id", image.id.text()},
                   {"RepoTags", texts(image.repo_tags)},
                   {"RepoDigests", texts(image.repo_digests)},
                   {"Parent", ""},
                   {"Comment", image.history.empty() ? "" : image.history.back().comment},
                   {"Created", to_rfc3339(image.created)},
                   {"DockerVersion", ""},
                   {"Author", image.author},
                   {"Config", config_json(image)},
                   {"ContainerConfig", config_json(image)},  // gone from the API at 1.45, but docker-compose 1.29 reads its Volumes
                   {"Architecture", image.architecture}};
  if (!image.variant.empty()) out["Variant"] = image.variant;
  out["Os"] = image.os;
  out["Size"] = image.size_bytes;
  add_coming(out, image);
  if (with_virtual_size) out["VirtualSize"] = image.size_bytes;
  out["GraphDriver"] = json::object{{"Data", json::object()}, {"Name", "overlay2"}};
  out["RootFS"] = json::object{{"Type", "layers"}, {"Layers", std::move(layers)}};
  out["Metadata"] = json::object{{"LastTagTime", to_rfc3339(0)}};
  return out;
}

}  // namespace caisson::api
