// Fuzzes manifests, indexes, image configs and docker-archive manifests. The first byte picks the parser.
#include "fuzz/fuzz.hpp"
#include "image/manifest.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  if (size == 0) return 0;
  std::string_view text = fuzz::text_of(data + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      if (auto manifest = image::parse_manifest(text); manifest.ok()) {
        std::string written = image::write_manifest(*manifest);
        auto again = image::parse_manifest(written);
        fuzz::demand(again.ok() && image::write_manifest(*again) == written, "a manifest survives writing");
      }
      break;
    case 1:
      if (auto index = image::parse_index(text); index.ok()) {
        std::string written = image::write_index(*index);
        auto again = image::parse_index(written);
        fuzz::demand(again.ok() && image::write_index(*again) == written, "an index survives writing");
      }
      break;
    case 2:
      if (auto config = image::parse_image_config(text); config.ok()) {
        std::string written = image::write_image_config(*config);
        auto again = image::parse_image_config(written);
        fuzz::demand(again.ok() && image::write_image_config(*again) == written, "an image config survives writing");
      }
      break;
    default:
      if (auto archive = image::parse_archive_manifest(text); archive.ok())
        for (const auto& one : *archive) fuzz::demand(!one.config.empty(), "an archived image names its config");
      break;
  }
  return 0;
}
