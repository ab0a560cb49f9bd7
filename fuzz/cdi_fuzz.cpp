// Fuzzes CDI specifications in both formats: what is read names absolute paths only.
#include "engine/cdi.hpp"
#include "fuzz/fuzz.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  for (const auto format : {engine::CdiFormat::json, engine::CdiFormat::yaml}) {
    auto spec = engine::parse_cdi_spec(fuzz::text_of(data, size), format);
    if (!spec.ok()) continue;
    fuzz::demand(spec->kind.find('/') != std::string::npos, "a kind is vendor/class");
    for (const auto& [name, edits] : spec->devices) {
      for (const auto& device : edits.devices) fuzz::demand(device.path_in_container.starts_with('/'), "a device has an absolute path");
      for (const auto& mount : edits.mounts) fuzz::demand(mount.destination.starts_with('/'), "a mount has an absolute path");
    }
  }
  return 0;
}
