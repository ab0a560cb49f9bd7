// A docker image as the archive that `load` takes, its layers put together again byte for byte, so that it keeps its id.
#include <array>

#include "base/strings.hpp"
#include "cli/docker_folder.hpp"
#include "image/inflate.hpp"
#include "image/tar_writer.hpp"
#include "linux/file.hpp"

namespace caisson::cli {

namespace {

using Sink = std::function<Status(std::string_view)>;
constexpr std::size_t most_compressed_bytes = 256U << 20U;
constexpr std::size_t longest_line_bytes = 16U << 20U;
constexpr std::size_t buffer_bytes = 1U << 18U;

std::string layer_record(const DockerFolder& folder, const std::string& chain_id) {
  return concat(folder.root, "/image/", folder.driver, "/layerdb/sha256/", chain_id);
}

Result<std::string> layer_files(const DockerFolder& folder, const std::string& chain_id) {
  std::string path = concat(layer_record(folder, chain_id), "/cache-id");
  std::string text = TRY(linux::read_file(path), concat("read ", path));
  std::string_view cache_id = trim(text);
  return folder.driver == "vfs" ? concat(folder.root, "/vfs/dir/", cache_id) : concat(folder.root, "/", folder.driver, "/", cache_id, "/diff");
}

// Every piece of the layer's tar in order.
Status for_each_piece(const DockerFolder& folder, const std::string& chain_id, const std::function<Status(const TarSplitPiece&)>& visit) {
  std::string path = concat(layer_record(folder, chain_id), "/tar-split.json.gz");
  std::string packed = TRY(linux::read_file(path, most_compressed_bytes), concat("read ", path));
  image::MemorySource source(packed);
  auto inflater = TRY(image::open_inflater(source), path);
  std::string rest;
  for (;;) {
    auto bytes = TRY(inflater->next(), path);
    rest += bytes;
    if (rest.size() > longest_line_bytes) return Error(ErrorKind::corrupt, concat(path, ": a line of more than ", longest_line_bytes, " bytes"));
    std::size_t begun = 0;
    for (auto end = rest.find('\n'); end != std::string::npos; end = rest.find('\n', begun)) {
      std::string_view line = std::string_view(rest).substr(begun, end - begun);
      begun = end + 1;
      if (!trim(line).empty()) TRY_PLAIN(visit(TRY(parse_tar_split(line), path)));
    }
    rest.erase(0, begun);
    if (bytes.empty()) return {};
  }
}

Status copy_contents(int layer_fd, const TarSplitPiece& piece, const Sink& sink) {
  auto file = TRY(linux::open_in_root(layer_fd, piece.file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK), piece.file);
  std::array<char, buffer_bytes> buffer;  // NOLINT: filled by read
  std::uint64_t done = 0;
  while (done < piece.size) {
    std::size_t want = std::min<std::uint64_t>(buffer.size(), piece.size - done);
    std::size_t got = TRY(linux::read(file.get(), std::span(buffer.data(), want)), piece.file);
    if (got == 0) return Error(ErrorKind::corrupt, concat(piece.file, " has ", done, " bytes, but its layer had ", piece.size));
    TRY_PLAIN(sink(std::string_view(buffer.data(), got)));
    done += got;
  }
  return {};
}

Result<std::uint64_t> layer_size(const DockerFolder& folder, const std::string& chain_id) {
  std::uint64_t size = 0;
  TRY_PLAIN(for_each_piece(folder, chain_id, [&](const TarSplitPiece& piece) -> Status {
    size += piece.bytes.size() + piece.size;
    return {};
  }));
  return size;
}

}  // namespace

Result<TarSplitPiece> parse_tar_split(std::string_view line) {
  constexpr std::int64_t file_type = 1;
  constexpr std::int64_t segment_type = 2;
  auto document = TRY_PLAIN(parse_json(line, "a line of tar-split"));
  JsonView view(document);
  std::int64_t type = 0;
  TRY_PLAIN(view.read("type", type));
  TarSplitPiece piece;
  if (type == segment_type) {
    std::string payload;
    TRY_PLAIN(view.read("payload", payload));
    piece.bytes = TRY_PLAIN(base64_decode(payload));
    return piece;
  }
  if (type != file_type) return Error(ErrorKind::corrupt, concat("tar-split: an element of type ", type));
  TRY_PLAIN(view.read("name", piece.file));
  std::string raw;  // a name that is no UTF-8
  TRY_PLAIN(view.read("name_raw", raw));
  if (!raw.empty()) piece.file = TRY_PLAIN(base64_decode(raw));
  TRY_PLAIN(view.read("size", piece.size));
  return piece;
}

Status write_docker_layer(const DockerFolder& folder, const std::string& chain_id, const Sink& sink) {
  std::string files = TRY_PLAIN(layer_files(folder, chain_id));
  auto layer = TRY(linux::open(files, O_PATH | O_DIRECTORY), concat("open ", files));
  return for_each_piece(folder, chain_id, [&](const TarSplitPiece& piece) -> Status {
    if (!piece.bytes.empty()) return sink(piece.bytes);
    if (piece.size == 0) return {};
    return copy_contents(layer.get(), piece, sink);
  });
}

Status write_docker_image(const DockerFolder& folder, const DockerImage& image, const Sink& sink) {
  image::TarWriter tar(sink);
  auto entry_of = [](std::string name, std::uint64_t size) {
    image::TarEntry entry;
    entry.name = std::move(name);
    entry.mode = 0644;
    entry.size_bytes = size;
    return entry;
  };
  std::string config_name = concat(std::string_view(image.id).substr(image.id.find(':') + 1), ".json");
  json::array layers;
  json::array tags;
  for (const auto& tag : image.tags) tags.emplace_back(tag);
  for (const auto& chain_id : image.chain_ids) layers.emplace_back(concat(chain_id, "/layer.tar"));
  std::string manifest = to_text(json::array{json::object{{"Config", config_name}, {"RepoTags", tags}, {"Layers", layers}}});
  TRY_PLAIN(tar.add(entry_of("manifest.json", manifest.size()), manifest));
  TRY_PLAIN(tar.add(entry_of(config_name, image.config.size()), image.config));
  for (const auto& chain_id : image.chain_ids) {
    TRY_PLAIN(tar.begin(entry_of(concat(chain_id, "/layer.tar"), TRY(layer_size(folder, chain_id), concat("layer ", chain_id.substr(0, 12))))));
    TRY(write_docker_layer(folder, chain_id, [&](std::string_view bytes) { return tar.write(bytes); }), concat("layer ", chain_id.substr(0, 12)));
  }
  return tar.finish();
}

}  // namespace caisson::cli
