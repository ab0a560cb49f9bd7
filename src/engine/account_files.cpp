// Each layer is a root of its own for path resolution, so no symbolic link of an image leads out of it.
#include "engine/account_files.hpp"

#include <algorithm>
#include <optional>

#include "linux/file.hpp"

namespace caisson::engine {

namespace {
constexpr std::size_t largest_file_bytes = 1 << 20;  // a hostile image may bring any size; real files are some kilobytes

/// Nothing: this layer says nothing about the file.
std::optional<std::string> read_in_layer(int layer_fd, const char* path) {
  auto fd = linux::open_in_root(layer_fd, path, O_PATH);
  if (!fd.ok()) return fd.error().kind() == ErrorKind::not_found ? std::nullopt : std::optional<std::string>("");
  auto status = linux::fstat(fd->get());
  if (!status.ok() || !S_ISREG(status->st_mode)) return "";  // a whiteout, a FIFO, a device: never opened
  auto readable = linux::reopen(fd->get(), O_RDONLY | O_NOCTTY | O_NONBLOCK);
  if (!readable.ok()) return "";
  std::string text(std::min<std::size_t>(static_cast<std::size_t>(status->st_size), largest_file_bytes), '\0');
  auto size = linux::pread(readable->get(), text, 0);
  text.resize(size.ok() ? *size : 0);
  return text;
}

std::string read_from_layers(std::span<const std::string> layers, const char* path) {
  for (const auto& layer : layers) {
    auto fd = linux::open(layer, O_PATH | O_DIRECTORY);
    if (!fd.ok()) continue;
    if (auto text = read_in_layer(fd->get(), path)) return *text;
  }
  return "";
}
}  // namespace

AccountFiles read_account_files(std::span<const std::string> layers) {
  return {read_from_layers(layers, "etc/passwd"), read_from_layers(layers, "etc/group")};
}

}  // namespace caisson::engine
