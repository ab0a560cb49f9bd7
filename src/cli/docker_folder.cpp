// Reading what dockerd has written: image database, volumes, containers' configurations (moby, layer/filestore.go and container/container.go).
#include "cli/docker_folder.hpp"

#include <algorithm>
#include <set>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::cli {

namespace {

constexpr std::string_view digest_prefix = "sha256:";

std::string without_prefix(std::string_view digest) {
  return std::string(digest.starts_with(digest_prefix) ? digest.substr(digest_prefix.size()) : digest);
}

Result<json::value> read_json(const std::string& path) {
  std::string text = TRY(linux::read_file(path), concat("read ", path));
  return parse_json(text, path);
}

// bbolt holds flock on its file while dockerd runs; a shared lock of ours keeps the next dockerd waiting.
Status lock_databases(DockerFolder& folder) {
  for (std::string_view database : {"network/files/local-kv.db", "volumes/metadata.db"}) {
    std::string path = concat(folder.root, "/", database);
    auto file = linux::open(path, O_RDONLY);
    if (!file.ok() && file.error().kind() == ErrorKind::not_found) continue;
    if (!file.ok()) return Error(file.error()).in(concat("open ", path));
    auto locked = linux::flock(file->get(), LOCK_SH | LOCK_NB);
    if (!locked.ok() && locked.error().kind() == ErrorKind::unavailable)
      return Error(ErrorKind::conflict, concat("a dockerd uses ", folder.root, ": it holds ", path)).with_hint("stop it first: systemctl stop docker.socket docker.service");
    if (!locked.ok()) return Error(locked.error()).in(concat("lock ", path));
    folder.locks.push_back(std::move(*file));
  }
  return {};
}

Result<std::string> find_driver(const std::string& root) {
  auto entries = linux::list_dir(concat(root, "/image"));
  if (!entries.ok()) return Error(ErrorKind::not_found, concat(root, " is no folder of Docker: ", entries.error().text())).with_hint("name it with --docker-root");
  for (std::string_view known : {"overlay2", "fuse-overlayfs", "vfs"})
    for (const auto& entry : *entries)
      if (entry.name == known) return std::string(known);
  std::vector<std::string> names;
  for (const auto& entry : *entries) names.push_back(entry.name);
  return Error(ErrorKind::unsupported, concat(root, ": the layers of the storage driver ", join(names, ", "), " are no folders"))
      .with_hint("docker save and caisson load move its images");
}

// Docker's own records of layers: "PARENT DIFF" → chain id, PARENT empty for the lowest.
using Layers = std::map<std::string, std::string>;
Result<Layers> read_layers(const DockerFolder& folder) {
  Layers layers;
  std::string records = concat(folder.root, "/image/", folder.driver, "/layerdb/sha256");
  auto entries = linux::list_dir(records);
  if (!entries.ok() && entries.error().kind() == ErrorKind::not_found) return layers;
  if (!entries.ok()) return Error(entries.error()).in(concat("list ", records));
  for (const auto& entry : *entries) {
    std::string record = concat(records, "/", entry.name);
    std::string diff = TRY(linux::read_file(record + "/diff"), concat("read ", record, "/diff"));
    auto parent = linux::read_file(record + "/parent");
    if (!parent.ok() && parent.error().kind() != ErrorKind::not_found) return Error(parent.error()).in(concat("read ", record, "/parent"));
    layers[concat(parent.ok() ? without_prefix(trim(*parent)) : "", " ", trim(diff))] = entry.name;
  }
  return layers;
}

Result<DockerImage> read_image(const DockerFolder& folder, const Layers& layers, const std::string& id) {
  DockerImage image;
  image.id = id;
  std::string path = concat(folder.root, "/image/", folder.driver, "/imagedb/content/sha256/", without_prefix(id));
  image.config = TRY(linux::read_file(path), concat("read ", path));
  auto document = TRY_PLAIN(parse_json(image.config, path));
  JsonView rootfs = TRY_PLAIN(JsonView(document, path).at("rootfs"));
  std::vector<std::string> diff_ids;
  TRY_PLAIN(rootfs.read("diff_ids", diff_ids));
  for (const auto& diff_id : diff_ids) {
    auto layer = layers.find(concat(image.chain_ids.empty() ? "" : image.chain_ids.back(), " ", diff_id));
    if (layer == layers.end()) return Error(ErrorKind::corrupt, concat("the layer ", diff_id, " is missing"));
    image.chain_ids.push_back(layer->second);
  }
  return image;
}

// repositories.json: name → reference → id. References by digest name a registry's copy and are left out.
Result<std::map<std::string, std::vector<std::string>>> read_tags(const DockerFolder& folder) {
  std::map<std::string, std::vector<std::string>> tags;
  std::string path = concat(folder.root, "/image/", folder.driver, "/repositories.json");
  if (!TRY_PLAIN(linux::exists(path))) return tags;
  auto document = TRY_PLAIN(read_json(path));
  JsonView repositories = TRY_PLAIN(JsonView(document, path).at("Repositories"));
  TRY_PLAIN(repositories.for_each_member([&](std::string_view, const JsonView& references) -> Status {
    return references.for_each_member([&](std::string_view reference, const JsonView& id) -> Status {
      std::string text;
      TRY_PLAIN(id.read(text));
      if (reference.find('@') == std::string_view::npos) tags[text].emplace_back(reference);
      return {};
    });
  }));
  return tags;
}

Status read_volumes(DockerFolder& folder) {
  auto labels = TRY_PLAIN(read_volume_labels(folder.root));
  auto entries = linux::list_dir(concat(folder.root, "/volumes"));
  if (!entries.ok() && entries.error().kind() == ErrorKind::not_found) return {};
  if (!entries.ok()) return Error(entries.error()).in(concat("list ", folder.root, "/volumes"));
  for (const auto& entry : *entries) {
    DockerVolume volume;
    volume.name = entry.name;
    volume.labels = labels[entry.name];
    volume.data = concat(folder.root, "/volumes/", entry.name, "/_data");
    if (!TRY_PLAIN(linux::exists(volume.data))) continue;  // the database, the driver's own device node
    std::string options = concat(folder.root, "/volumes/", entry.name, "/opts.json");
    if (TRY_PLAIN(linux::exists(options))) {
      auto document = TRY_PLAIN(read_json(options));
      std::map<std::string, std::string> raw;
      for (auto [ours, theirs] : {std::pair("type", "MountType"), std::pair("device", "MountDevice"), std::pair("o", "MountOpts")}) {
        std::string text;
        TRY_PLAIN(JsonView(document, options).read(theirs, text));
        if (!text.empty()) volume.options[ours] = text;
      }
    }
    folder.volumes.push_back(std::move(volume));
  }
  std::sort(folder.volumes.begin(), folder.volumes.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return {};
}

// Where what the container wrote lies by itself: not with vfs, which copies the image, and fuse-overlayfs has marks of its own.
Result<std::string> writable_layer(const DockerFolder& folder, const std::string& id) {
  if (folder.driver != "overlay2") return std::string();
  std::string path = concat(folder.root, "/image/", folder.driver, "/layerdb/mounts/", id, "/mount-id");
  auto layer = linux::read_file(path);
  if (!layer.ok() && layer.error().kind() == ErrorKind::not_found) return std::string();  // it was never made whole
  if (!layer.ok()) return Error(layer.error()).in(concat("read ", path));
  return concat(folder.root, "/", folder.driver, "/", trim(*layer), "/diff");
}

Result<json::object> object_of(const JsonView& view) {
  if (!view.is_set()) return json::object();
  const auto* object = view.raw().if_object();
  if (object == nullptr) return view.error("is no object");
  return *object;
}

Result<json::value> value_of(const JsonView& parent, std::string_view key) {
  JsonView view = TRY_PLAIN(parent.at(key));
  return view.is_set() ? view.raw() : json::value();
}

// With live-restore containers outlive their dockerd. Its cgroup's name has the container's id under both cgroup drivers.
Result<bool> still_runs(std::int32_t pid, const std::string& id) {
  if (pid <= 0) return false;
  auto cgroups = linux::read_file(concat("/proc/", pid, "/cgroup"));
  if (cgroups.ok()) return cgroups->find(id) != std::string::npos;
  if (cgroups.error().kind() == ErrorKind::not_found || cgroups.error().error_number() == ESRCH) return false;
  return std::move(cgroups).error();
}

Result<DockerContainer> read_container(const DockerFolder& folder, const std::string& id) {
  DockerContainer container;
  container.id = id;
  std::string path = concat(folder.root, "/containers/", id, "/config.v2.json");
  auto document = TRY_PLAIN(read_json(path));
  JsonView view(document, path);
  TRY_PLAIN(view.read("Name", container.name));
  if (container.name.starts_with("/")) container.name.erase(0, 1);
  TRY_PLAIN(view.read("Image", container.image_id));
  container.config = TRY_PLAIN(object_of(TRY_PLAIN(view.at("Config"))));
  container.mount_points = TRY_PLAIN(value_of(view, "MountPoints"));
  container.networks = TRY_PLAIN(value_of(TRY_PLAIN(view.at("NetworkSettings")), "Networks"));
  JsonView state = TRY_PLAIN(view.at("State"));
  std::int32_t pid = 0;
  TRY_PLAIN(state.read("Pid", pid));
  container.is_running = TRY_PLAIN(still_runs(pid, id));
  auto host = TRY_PLAIN(read_json(concat(folder.root, "/containers/", id, "/hostconfig.json")));
  container.host_config = TRY_PLAIN(object_of(JsonView(host, "hostconfig.json")));
  container.layer = TRY_PLAIN(writable_layer(folder, id));
  container.leaves_changes = folder.driver != "overlay2";
  return container;
}

Status read_containers(DockerFolder& folder) {
  auto entries = linux::list_dir(concat(folder.root, "/containers"));
  if (!entries.ok() && entries.error().kind() == ErrorKind::not_found) return {};
  if (!entries.ok()) return Error(entries.error()).in(concat("list ", folder.root, "/containers"));
  for (const auto& entry : *entries) {
    if (!TRY_PLAIN(linux::exists(concat(folder.root, "/containers/", entry.name, "/config.v2.json")))) continue;
    folder.containers.push_back(TRY(read_container(folder, entry.name), concat("container ", entry.name.substr(0, 12))));
  }
  std::sort(folder.containers.begin(), folder.containers.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return {};
}

}  // namespace

Result<DockerFolder> read_docker_folder(const std::string& root) {
  DockerFolder folder;
  folder.root = root;
  folder.driver = TRY_PLAIN(find_driver(root));
  TRY_PLAIN(lock_databases(folder));
  folder.networks = TRY_PLAIN(read_docker_networks(root));
  TRY_PLAIN(read_volumes(folder));
  TRY_PLAIN(read_containers(folder));
  auto tags = TRY_PLAIN(read_tags(folder));
  std::set<std::string> wanted;
  for (const auto& [id, names] : tags) wanted.insert(id);
  for (const auto& container : folder.containers) wanted.insert(container.image_id);
  auto layers = TRY_PLAIN(read_layers(folder));
  for (const auto& id : wanted) {
    auto image = TRY(read_image(folder, layers, id), concat("image ", id));
    image.tags = tags[id];
    folder.images.push_back(std::move(image));
  }
  return folder;
}

}  // namespace caisson::cli
