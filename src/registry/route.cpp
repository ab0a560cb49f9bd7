// Paths of the distribution specification, section "Endpoints".
#include "registry/route.hpp"

#include <vector>

#include "base/reference.hpp"
#include "base/strings.hpp"
#include "wire/http_server.hpp"

namespace caisson::registry {

namespace {

constexpr std::string_view root = "/v2/";

void set_repository(Route& route, std::string_view rest, std::size_t used_bytes) {
  route.repository = wire::percent_decode(rest.substr(0, rest.size() - used_bytes));
  route.is_good_name = route.repository.size() <= most_repository_bytes && is_repository_path(route.repository);
}

}  // namespace

Route parse_route(std::string_view path) {
  Route route;
  if (path == "/v2") path = root;  // every client sends the slash, people do not
  if (!path.starts_with(root)) return route;
  const auto rest = path.substr(root.size());
  if (rest.empty() || rest == "_catalog") {
    route.target = rest.empty() ? Target::base : Target::catalog;
    return route;
  }
  const auto parts = split(rest, '/');
  const auto count = parts.size();
  auto part = [&](std::size_t from_end) { return from_end < count ? parts[count - 1 - from_end] : std::string_view(); };
  const auto last = part(0);
  auto found = [&](Target target, std::string_view marker, std::string_view reference) {
    route.target = target;
    route.reference = wire::percent_decode(reference);
    set_repository(route, rest, marker.size() + reference.size());
    return route;
  };
  if (count >= 4 && part(2) == "blobs" && part(1) == "uploads") return found(last.empty() ? Target::uploads : Target::upload, "/blobs/uploads/", last);
  if (count >= 3 && part(1) == "blobs" && last == "uploads") return found(Target::uploads, "/blobs/uploads", "");
  if (count >= 3 && part(1) == "tags" && last == "list") return found(Target::tags, "/tags/list", "");
  if (count >= 3 && part(1) == "manifests" && !last.empty()) return found(Target::manifest, "/manifests/", last);
  if (count >= 3 && part(1) == "blobs" && !last.empty()) return found(Target::blob, "/blobs/", last);
  if (count >= 3 && part(1) == "referrers" && !last.empty()) return found(Target::referrers, "/referrers/", last);
  return route;
}

}  // namespace caisson::registry
