// A stopped Docker's folder as plain data: which images, networks, volumes and containers lie in it. It is root's own and only read.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace caisson::cli {

struct DockerImage {
  std::string id;                 ///< "sha256:…"
  std::vector<std::string> tags;  ///< "busybox:latest"
  std::string config;             ///< its JSON, byte for byte: the id is its digest
  std::vector<std::string> chain_ids;  ///< of its layers, lowest first, without "sha256:"
};

struct DockerVolume {
  std::string name;
  std::string data;                            ///< its folder
  std::map<std::string, std::string> options;  ///< of the local driver; with them the data lies elsewhere
  std::map<std::string, std::string> labels;
};

struct DockerNetwork {
  std::string name;
  std::string id;
  std::string driver;
  std::string bridge;    ///< the interface, which outlives dockerd; "" for drivers that make none
  std::string created;   ///< RFC 3339
  json::object request;  ///< the body of "create"
  std::string refusal;   ///< why there can be none like it here; "": there can
};

struct DockerContainer {
  std::string id;
  std::string name;
  std::string image_id;
  bool is_running = false;   ///< even now, without a dockerd
  json::object config;       ///< as the API has it
  json::object host_config;  ///< as the API has it
  json::value mount_points;  ///< target → {Type, Name, RW, …}
  json::value networks;      ///< name → endpoint
  std::string layer;         ///< folder of what it wrote, as overlayfs keeps it; "" where the storage driver keeps it otherwise
  bool leaves_changes = false;  ///< it may have written something, and there is no such folder
};

struct DockerFolder {
  std::string root;
  std::string driver;  ///< "overlay2", "vfs"
  std::vector<DockerImage> images;
  std::vector<DockerNetwork> networks;  ///< without those every Docker has
  std::vector<DockerVolume> volumes;
  std::vector<DockerContainer> containers;
  std::vector<UniqueFd> locks;  ///< held, so that no dockerd starts meanwhile
};

/// Reads the folder. Errors: not_found (no Docker's folder), conflict (a dockerd uses it), unsupported (a storage driver
/// whose layers are no folders), corrupt, denied.
Result<DockerFolder> read_docker_folder(const std::string& root);

/// Hands a layer's tar, byte for byte as it was pulled or built, to `sink`: docker keeps the headers ("tar-split") and the files apart.
/// Errors: corrupt when a file is not as it was; those of the sink.
Status write_docker_layer(const DockerFolder& folder, const std::string& chain_id, const std::function<Status(std::string_view)>& sink);

/// An image as the archive that `load` takes. Errors: as write_docker_layer.
Status write_docker_image(const DockerFolder& folder, const DockerImage& image, const std::function<Status(std::string_view)>& sink);

/// The body of "create" for a container: its own configuration, with the names of what was anonymous. Pure.
/// `names`: docker's ids of containers and networks → their names. `image`: how the image is called here.
Result<json::object> create_body_of(const DockerContainer& container, const std::map<std::string, std::string>& names, const std::string& image);

/// The names of containers that must be there before this one: whose namespaces it shares, and which it is linked to. Pure.
std::vector<std::string> partners_of(const DockerContainer& container, const std::map<std::string, std::string>& names);

/// A network out of dockerd's database: eight bytes of libkv's, then libnetwork's JSON. Pure. Errors: corrupt, invalid.
Result<DockerNetwork> parse_docker_network(std::string_view record, const std::string& what);
/// The user's networks in the order they were made; of several with one name the first can be taken. Errors: as of the database and its records.
Result<std::vector<DockerNetwork>> read_docker_networks(const std::string& root);
/// Volume → labels, out of dockerd's database; none where there is no such database. Errors: the same.
Result<std::map<std::string, std::map<std::string, std::string>>> read_volume_labels(const std::string& root);

/// Reads one element of a tar-split file: the bytes to put there, or the file whose contents belong there.
struct TarSplitPiece {
  std::string bytes;
  std::string file;
  std::uint64_t size = 0;
};
/// Errors: corrupt.
Result<TarSplitPiece> parse_tar_split(std::string_view line);

}  // namespace caisson::cli
