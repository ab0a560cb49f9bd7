// Fuzzes what an S3-compatible service answers, and what its administrator keeps in the file of keys.
#include <string>

#include "fuzz/fuzz.hpp"
#include "registry/s3_answers.hpp"
#include "registry/s3_keys.hpp"

namespace {

using caisson::fuzz::demand;

void fuzz_pages(std::string_view text) {
  if (auto page = caisson::registry::parse_s3_page(text); page.ok())
    for (const auto& object : page->objects) demand(!object.key.empty(), "every object has a key");
  if (auto uploads = caisson::registry::parse_s3_uploads(text); uploads.ok())
    for (const auto& upload : uploads->uploads) demand(!upload.key.empty() && !upload.id.empty(), "every upload has a key and an id");
  if (auto id = caisson::registry::parse_s3_upload_id(text); id.ok()) demand(!id->empty(), "an upload has an id");
  caisson::registry::parse_s3_fault(text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto text = caisson::fuzz::text_of(data + 1, size - 1);
  if (data[0] % 2 == 0) {
    fuzz_pages(text);
    return 0;
  }
  const auto keys = caisson::registry::parse_s3_keys(text, "default");
  if (keys.ok()) demand(!keys->access_key.empty() && !keys->secret_key.empty(), "keys are whole");
  return 0;
}
