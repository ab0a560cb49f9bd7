// A stopped Docker's folder as plain data: which images, volumes and containers lie in it. It is root's own and only read.
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
};

struct DockerContainer {
  std::string id;
  std::string name;
  std::string image_id;
  bool was_running = false;
  json::object config;       ///< as the API has it
  json::object host_config;  ///< as the API has it
  json::value mount_points;  ///< target → {Type, Name, RW, …}
  json::value networks;      ///< name → endpoint
  bool has_changes = false;  ///< its own writable layer holds files
};

struct DockerFolder {
  std::string root;
  std::string driver;  ///< "overlay2", "vfs"
  std::vector<DockerImage> images;
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
/// `names`: docker's ids of containers → their names. `image`: how the image is called here.
Result<json::object> create_body_of(const DockerContainer& container, const std::map<std::string, std::string>& names, const std::string& image);

/// Reads one element of a tar-split file: the bytes to put there, or the file whose contents belong there.
struct TarSplitPiece {
  std::string bytes;
  std::string file;
  std::uint64_t size = 0;
};
/// Errors: corrupt.
Result<TarSplitPiece> parse_tar_split(std::string_view line);

}  // namespace caisson::cli
