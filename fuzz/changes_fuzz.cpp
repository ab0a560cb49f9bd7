// Fuzzes the lines of `import --change` and `commit --change`: what is taken can be written as a config and read back.
#include "fuzz/fuzz.hpp"
#include "image/changes.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  image::ImageConfig config;
  config.config.env = {"PATH=/bin", "A=b"};
  if (!image::apply_changes({std::string(fuzz::text_of(data, size))}, config).ok()) return 0;
  fuzz::demand(image::parse_image_config(image::write_image_config(config)).ok(), "the configuration can be written and read");
  return 0;
}
