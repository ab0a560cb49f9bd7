// Fuzzes tables of contents of layers: the annotations and footers that lead to them, their JSON, and the trees that are made of them.
#include "fuzz/fuzz.hpp"
#include "image/index_form.hpp"
#include "image/layer_toc.hpp"
#include "image/unpack.hpp"

namespace {

using namespace caisson;

/// What the tar of a table promises is what the table promised: the one that is made of it compares equal with it, but for contents.
void make_tree(const image::LayerToc& toc) {
  std::uint64_t bytes = 0;
  for (const auto& entry : toc.entries) bytes += entry.tar.size_bytes;
  if (bytes > 1 << 24) return;  // zeros cost time
  image::TocArchive archive(toc);
  image::TarReader tar(archive);
  image::IndexForm form({});
  image::UnpackedLayer layer;
  if (!image::unpack_into(form, tar, layer).ok()) return;
  std::uint64_t end = 0;
  for (const auto& chunk : archive.chunks()) {
    fuzz::demand(chunk.file_offset >= end, "pieces follow each other");
    end = chunk.file_offset + chunk.size_bytes;
    fuzz::demand(end <= archive.bytes(), "pieces lie inside");
  }
  ignore(form.write(archive.bytes(), [](std::string_view) -> Status { return {}; }));
  image::TocArchive again(toc);
  ignore(image::compare_with_toc(toc, image::TocFormat::zstd_chunked, again));
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = fuzz::text_of(data, size);
  image::TocPlace place;
  ignore(image::read_estargz_footer(text, 1 << 20, place));
  for (const auto format : {image::TocFormat::estargz, image::TocFormat::zstd_chunked}) {
    place.format = format;
    place.digest = sha256_of(text);
    ignore(image::decode_toc(text, place));
  }
  image::Descriptor layer;
  layer.size_bytes = 1 << 20;
  layer.annotations[image::toc_annotation::chunked_digest] = sha256_of(text).text();
  layer.annotations[image::toc_annotation::chunked_position] = std::string(text);
  if (auto found = image::toc_of(layer); found.ok() && *found) fuzz::demand((*found)->offset + (*found)->size_bytes <= layer.size_bytes, "a table lies in its blob");
  place.offset = 1 << 20;
  if (auto toc = image::parse_toc(text, place); toc.ok()) make_tree(*toc);
  return 0;
}
