// Fuzzes what strangers send to the registry server: paths, ranges, manifests, tokens; and what its administrator may mistype.
#include <string>

#include "base/strings.hpp"
#include "fuzz/fuzz.hpp"
#include "registry/conditions.hpp"
#include "registry/config.hpp"
#include "registry/htpasswd.hpp"
#include "registry/manifest_check.hpp"
#include "registry/range.hpp"
#include "registry/route.hpp"
#include "registry/token.hpp"

namespace {

using caisson::fuzz::demand;

void fuzz_path(std::string_view text) {
  auto route = caisson::registry::parse_route(text);
  if (route.target == caisson::registry::Target::none || !route.is_good_name || route.repository.empty()) return;
  demand(route.repository.find("..") == std::string::npos && route.repository.front() != '/', "a good name leads nowhere else");
  demand(route.repository.find_first_of("@:") == std::string::npos, "a good name cannot end a record's key");
}

void fuzz_range(std::string_view text) {
  constexpr std::uint64_t size = 1000;
  auto range = caisson::registry::parse_range(text, size);
  if (range.verdict == caisson::registry::RangeVerdict::part) demand(range.range.first <= range.range.last && range.range.last < size, "a part lies within the file");
  if (auto chunk = caisson::registry::parse_chunk_range(text)) demand(chunk->size_bytes() >= 1, "a chunk has a byte");
  caisson::registry::matches_etag(text, "\"x\"");
  caisson::registry::only_etag(text);
}

void fuzz_manifest(std::string_view text) {
  for (std::string_view type : {"", "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.v2+json"}) {
    auto checked = caisson::registry::check_manifest(text, type);
    if (!checked.ok()) continue;
    demand(checked->record.size_bytes == text.size(), "the record tells the size");
    for (const auto& part : checked->blobs) demand(!part.digest.empty(), "every part has a digest");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto text = caisson::fuzz::text_of(data + 1, size - 1);
  switch (data[0] % 6) {
    case 0: fuzz_path(text); break;
    case 1: fuzz_range(text); break;
    case 2: fuzz_manifest(text); break;
    case 3: {
      const caisson::registry::TokenRules rules{"realm", "service", "issuer", {}};
      demand(!caisson::registry::verify_token(text, rules, 0).ok(), "without a key no token is good");
      break;
    }
    case 4: {
      auto config = caisson::registry::parse_config(text);
      if (config.ok()) (void)caisson::registry::check_config(*config).ok();
      break;
    }
    default: (void)caisson::registry::Htpasswd::parse(text).ok();
  }
  return 0;
}
