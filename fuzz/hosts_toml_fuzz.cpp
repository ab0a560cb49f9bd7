// Fuzzes containerd's hosts.toml: what is read names HTTP servers and headers of one line only.
#include "fuzz/fuzz.hpp"
#include "image/registry_hosts.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace caisson;
  auto hosts = image::parse_hosts_toml(fuzz::text_of(data, size), "r.example:5000");
  if (!hosts.ok()) return 0;
  fuzz::demand(!hosts->empty(), "there is always somebody to ask");
  for (const auto& host : *hosts) {
    fuzz::demand(host.endpoint.url.starts_with("http://") || host.endpoint.url.starts_with("https://"), "only HTTP");
    for (const auto& [name, value] : host.endpoint.headers) fuzz::demand((name + value).find_first_of("\r\n") == std::string::npos, "a header is one line");
  }
  return 0;
}
