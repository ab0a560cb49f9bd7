// Manifests by tag and digest: read, checked and kept byte for byte, removed.
#include "registry/manifest_check.hpp"

#include <cerrno>

#include "base/reference.hpp"
#include "base/strings.hpp"
#include "registry/api.hpp"
#include "registry/conditions.hpp"

namespace caisson::registry {

namespace {

bool looks_like_digest(std::string_view reference) { return reference.find(':') != std::string_view::npos; }

std::string manifest_location(std::string_view repository, std::string_view digest) { return concat("/v2/", repository, "/manifests/", digest); }

Answer no_manifest(std::string_view repository, std::string_view reference) {
  json::object detail;
  detail["name"] = repository;
  detail["reference"] = reference;
  return refuse(404, code::manifest_unknown, concat("repository ", repository, " has no manifest ", reference), std::move(detail));
}

Answer missing_part(std::string_view repository, std::string_view what, const Digest& digest) {
  json::object detail;
  detail["digest"] = digest.text();
  return refuse(400, code::manifest_blob_unknown, concat("the manifest names the ", what, " ", digest.text(), ", which repository ", repository, " has not"), std::move(detail));
}

}  // namespace

Result<Answer> Api::get_manifest(Request& request) {
  const auto& [target, name, reference, is_good] = request.route;
  std::optional<Digest> digest;
  TRY_PLAIN(parts_.proxies.bring_manifest(name, reference));
  if (looks_like_digest(reference)) {
    auto parsed = Digest::parse(reference);
    if (!parsed.ok()) return refuse(400, code::digest_invalid, parsed.error().text());
    digest = std::move(*parsed);
  } else {
    if (!is_tag(reference)) return no_manifest(name, reference);
    digest = TRY_PLAIN(parts_.catalog.tag(name, reference));
  }
  auto record = digest ? TRY_PLAIN(parts_.catalog.manifest(name, *digest)) : std::nullopt;
  if (!record) return no_manifest(name, reference);
  const auto etag = concat("\"", digest->text(), "\"");
  Answer answer;
  answer.with("Content-Type", record->media_type).with("Docker-Content-Digest", digest->text()).with("ETag", etag);
  if (matches_etag(request.exchange.header("If-None-Match"), etag)) {
    answer.status = 304;
    return answer;
  }
  const bool is_head = request.exchange.method() == "HEAD";
  answer.body = TRY_PLAIN(parts_.storage.read(*digest));
  if (!is_head) tell(request, "pull", *digest, answer.body.size(), record->media_type, looks_like_digest(reference) ? "" : std::string_view(reference));
  return answer;
}

Result<Answer> Api::put_manifest(Request& request) {
  const auto& [target, name, reference, is_good] = request.route;
  auto& exchange = request.exchange;
  std::vector<std::string> tags;
  Digest digest;
  const bool is_by_digest = looks_like_digest(reference);
  if (is_by_digest) {
    auto parsed = Digest::parse(reference);
    if (!parsed.ok()) return refuse(400, code::digest_invalid, parsed.error().text());
    digest = std::move(*parsed);
    for (const auto& [key, value] : request.query)
      if (key == "tag") tags.push_back(value);
  } else {
    tags.push_back(reference);
  }
  for (const auto& tag : tags)
    if (!is_tag(tag)) return refuse(400, code::manifest_invalid, concat("\"", tag, "\" is no tag"));

  auto body = exchange.read_body(most_manifest_bytes);
  if (!body.ok() && body.error().kind() == ErrorKind::invalid) return refuse(413, code::size_invalid, concat("a manifest may have at most ", most_manifest_bytes, " bytes"));
  if (!body.ok()) return refuse(400, code::manifest_invalid, "the manifest did not arrive whole");
  const auto found = digest_of(*body, is_by_digest ? digest.kind() : DigestAlgorithm::sha256);
  if (is_by_digest && found != digest) return refuse(400, code::digest_invalid, concat("the manifest's digest is ", found.text(), ", not ", digest.text()));
  digest = found;

  auto checked = check_manifest(*body, exchange.header("Content-Type"));
  if (!checked.ok()) return refuse(400, code::manifest_invalid, checked.error().text());
  auto& record = checked->record;
  for (const auto& part : checked->blobs) {
    const auto size = TRY_PLAIN(parts_.catalog.blob_size(name, part.digest));
    if (!size && part.may_be_missing) continue;
    if (!size) return missing_part(name, "blob", part.digest);
    if (*size != part.size_bytes) return refuse(400, code::manifest_invalid, concat("the manifest says that blob ", part.digest.text(), " has ", part.size_bytes, " bytes; it has ", *size));
    parts_.catalog.touch(name, part.digest);
    record.blobs.push_back(part.digest.text());
  }
  for (const auto& part : checked->manifests) {
    if (!TRY_PLAIN(parts_.catalog.manifest(name, part.digest))) return missing_part(name, "manifest", part.digest);
    record.manifests.push_back(part.digest.text());
  }
  record.pushed = now_ns();

  TagCondition condition;
  condition.must_be = only_etag(exchange.header("If-Match"));
  condition.must_be_absent = trim(exchange.header("If-None-Match")) == "*";
  auto pins = image::Pins(parts_.storage.local());
  pins.add_blob(digest);
  const bool was_there = TRY_PLAIN(parts_.storage.has(digest));
  TRY_PLAIN(parts_.storage.put(*body, digest));
  if (!was_there) parts_.catalog.count_bytes(static_cast<std::int64_t>(body->size()));
  auto put = parts_.catalog.put_manifest(name, digest, record, tags, condition);
  if (!put.ok()) {
    const auto& error = put.error();
    if (error.kind() == ErrorKind::conflict) return refuse(412, code::denied, error.text());
    if (error.kind() == ErrorKind::not_found) return refuse(400, code::manifest_blob_unknown, error.text());
    if (error.error_number() == EDQUOT) return refuse(413, code::denied, concat("quota exceeded: ", error.text()));
    return std::move(put).error();
  }
  tell(request, "push", digest, body->size(), record.media_type, tags.empty() ? "" : std::string_view(tags.front()));
  Answer answer;
  answer.status = 201;
  answer.with("Location", manifest_location(name, digest.text())).with("Docker-Content-Digest", digest.text());
  if (!record.subject.empty()) answer.with("OCI-Subject", record.subject);
  if (is_by_digest)
    for (const auto& tag : tags) answer.with("OCI-Tag", tag);
  return answer;
}

Result<Answer> Api::delete_manifest(Request& request) {
  const auto& [target, name, reference, is_good] = request.route;
  Answer answer;
  answer.status = 202;
  if (!looks_like_digest(reference)) {
    auto digest = is_tag(reference) ? TRY_PLAIN(parts_.catalog.tag(name, reference)) : std::nullopt;
    if (!digest) return no_manifest(name, reference);
    auto removed = parts_.catalog.remove_tag(name, reference);
    if (!removed.ok() && removed.error().kind() == ErrorKind::not_found) return no_manifest(name, reference);
    TRY_PLAIN(std::move(removed));
    tell(request, "delete", *digest, 0, "", reference);
    return answer;
  }
  auto digest = Digest::parse(reference);
  if (!digest.ok()) return refuse(400, code::digest_invalid, digest.error().text());
  auto removed = parts_.catalog.remove_manifest(name, *digest);
  if (!removed.ok() && removed.error().kind() == ErrorKind::not_found) return no_manifest(name, reference);
  TRY_PLAIN(std::move(removed));
  tell(request, "delete", *digest, 0, "");
  return answer;
}

}  // namespace caisson::registry
