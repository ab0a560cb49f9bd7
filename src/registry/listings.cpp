// Lists, in pages: tags, repositories, referrers.
#include "base/json_array.hpp"
#include "base/strings.hpp"
#include "image/manifest.hpp"
#include "registry/api.hpp"

namespace caisson::registry {

namespace {

constexpr std::size_t most_at_once = 10'000;
/// Bodies of referrers carry foreign annotations: a page ends when it is this large.
constexpr std::size_t most_page_bytes = 2 << 20;

/// How many entries a page may have, or the refusal.
struct Wanted {
  std::size_t count = most_at_once;
  std::optional<Answer> refusal;
};
Wanted wanted_count(std::string_view text) {
  if (text.empty()) return {};
  auto number = parse_integer<std::uint64_t>(text);
  if (!number.ok()) return {0, refuse(400, code::unsupported, concat("n=", text, ": want a number that is not negative"))};
  return {static_cast<std::size_t>(std::min<std::uint64_t>(*number, most_at_once)), std::nullopt};
}

void add_link(Answer& answer, std::string_view path, std::string_view last, std::size_t count) {
  answer.with("Link", concat("<", path, "?last=", wire::percent_encode(last), "&n=", count, ">; rel=\"next\""));
}

}  // namespace

Result<Answer> Api::list_tags(Request& request) {
  const auto& name = request.route.repository;
  auto wanted = wanted_count(request.parameter("n"));
  if (wanted.refusal) return std::move(*wanted.refusal);
  if (!TRY_PLAIN(parts_.catalog.exists(name))) return refuse(404, code::name_unknown, concat("there is no repository ", name));
  const auto page = TRY_PLAIN(parts_.catalog.tags(name, request.parameter("last"), wanted.count));
  json::object document;
  document["name"] = name;
  document["tags"] = texts(page.names);
  auto answer = answer_json(document);
  if (page.has_more && !page.names.empty()) add_link(answer, concat("/v2/", name, "/tags/list"), page.names.back(), wanted.count);
  return answer;
}

Result<Answer> Api::list_repositories(Request& request) {
  auto wanted = wanted_count(request.parameter("n"));
  if (wanted.refusal) return std::move(*wanted.refusal);
  const auto page = TRY_PLAIN(parts_.catalog.repositories(request.parameter("last"), wanted.count));
  json::object document;
  document["repositories"] = texts(page.names);
  auto answer = answer_json(document);
  if (page.has_more && !page.names.empty()) add_link(answer, "/v2/_catalog", page.names.back(), wanted.count);
  return answer;
}

Result<Answer> Api::list_referrers(Request& request) {
  const auto& name = request.route.repository;
  auto subject = Digest::parse(request.route.reference);
  if (!subject.ok()) return refuse(400, code::digest_invalid, subject.error().text());
  const std::string filter(request.parameter("artifactType"));
  const auto last = request.parameter("last");
  json::array manifests;
  std::string next;
  std::size_t bytes = 0;
  for (const auto& [digest, record] : TRY_PLAIN(parts_.catalog.referrers(name, *subject))) {
    if (!last.empty() && digest.text() <= last) continue;
    if (!filter.empty() && record.artifact_type != filter) continue;
    if (bytes > most_page_bytes) {
      next = json::value_to<std::string>(manifests.back().at("digest"));
      break;
    }
    json::object entry;
    entry["mediaType"] = record.media_type;
    entry["digest"] = digest.text();
    entry["size"] = record.size_bytes;
    if (!record.artifact_type.empty()) entry["artifactType"] = record.artifact_type;
    if (!record.annotations.empty()) {
      json::object annotations;
      for (const auto& [key, value] : record.annotations) {
        annotations[key] = value;
        bytes += key.size() + value.size();
      }
      entry["annotations"] = std::move(annotations);
    }
    bytes += 300;  // the rest of a descriptor
    manifests.push_back(std::move(entry));
  }
  json::object document;
  document["schemaVersion"] = 2;
  document["mediaType"] = image::media_type::oci_index;
  document["manifests"] = std::move(manifests);
  auto answer = answer_json(document, image::media_type::oci_index);
  if (!filter.empty()) answer.with("OCI-Filters-Applied", "artifactType");
  if (!next.empty()) {
    auto more = filter.empty() ? std::string() : concat("&artifactType=", wire::percent_encode(filter));
    answer.with("Link", concat("</v2/", name, "/referrers/", subject->text(), "?last=", wire::percent_encode(next), more, ">; rel=\"next\""));
  }
  return answer;
}

}  // namespace caisson::registry
