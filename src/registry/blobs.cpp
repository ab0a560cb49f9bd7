// Blobs: whole, by range, not again; and away.
#include "base/strings.hpp"
#include "registry/api.hpp"
#include "registry/conditions.hpp"
#include "registry/range.hpp"

namespace caisson::registry {

namespace {

Answer no_blob(std::string_view repository, std::string_view digest) {
  json::object detail;
  detail["digest"] = digest;
  return refuse(404, code::blob_unknown, concat("repository ", repository, " has no blob ", digest), std::move(detail));
}

}  // namespace

Result<Answer> Api::get_blob(Request& request) {
  const auto& name = request.route.repository;
  auto digest = Digest::parse(request.route.reference);
  if (!digest.ok()) return refuse(400, code::digest_invalid, digest.error().text());
  TRY_PLAIN(parts_.proxies.bring_blob(name, *digest));
  const auto size = TRY_PLAIN(parts_.catalog.blob_size(name, *digest));
  if (!size) return no_blob(name, digest->text());
  const bool is_head = request.exchange.method() == "HEAD";
  if (is_head) parts_.catalog.touch(name, *digest);  // "you need not send it"
  const auto etag = concat("\"", digest->text(), "\"");
  Answer answer;
  answer.with("Docker-Content-Digest", digest->text()).with("ETag", etag).with("Cache-Control", "max-age=31536000").with("Accept-Ranges", "bytes");
  if (matches_etag(request.exchange.header("If-None-Match"), etag)) {
    answer.status = 304;
    return answer;
  }
  answer.size_bytes = *size;
  answer.with("Content-Type", "application/octet-stream");
  // RFC 9110, 13.1.5: a range of something else than the client has is no use to it.
  const auto if_range = request.exchange.header("If-Range");
  const auto wanted = if_range.empty() || if_range == etag ? parse_range(request.exchange.header("Range"), *size) : RangeRequest{};
  if (wanted.verdict == RangeVerdict::unsatisfiable)
    return refuse(416, code::size_invalid, concat("blob ", digest->text(), " has ", *size, " bytes: the range asked for begins behind them")).with("Content-Range", concat("bytes */", *size));
  if (wanted.verdict == RangeVerdict::part) {
    answer.status = 206;
    answer.size_bytes = wanted.range.size_bytes();
    answer.with("Content-Range", concat("bytes ", wanted.range.first, "-", wanted.range.last, "/", *size));
  }
  answer.only_tells_size = is_head;
  if (is_head) return answer;
  const auto part = wanted.verdict == RangeVerdict::part ? wanted.range : ByteRange{0, *size - 1};
  if (auto url = parts_.storage.direct_url(*digest); !url.empty()) {
    Answer elsewhere;
    elsewhere.status = 307;
    elsewhere.with("Location", std::move(url)).with("Docker-Content-Digest", digest->text()).with("Cache-Control", "no-store");
    tell(request, "pull", *digest, *size, "application/octet-stream");
    return elsewhere;
  }
  auto opened = TRY(parts_.storage.open(*digest, *size, part), concat("repository ", name));
  answer.file = std::move(opened.fd);
  answer.offset = opened.offset;
  tell(request, "pull", *digest, *size, "application/octet-stream");
  return answer;
}

Result<Answer> Api::delete_blob(Request& request) {
  const auto& name = request.route.repository;
  auto digest = Digest::parse(request.route.reference);
  if (!digest.ok()) return refuse(400, code::digest_invalid, digest.error().text());
  const auto size = TRY_PLAIN(parts_.catalog.blob_size(name, *digest));
  auto released = parts_.catalog.release_blob(name, *digest);
  if (!released.ok() && released.error().kind() == ErrorKind::not_found) return no_blob(name, digest->text());
  TRY_PLAIN(std::move(released));
  tell(request, "delete", *digest, size.value_or(0), "");
  Answer answer;
  answer.status = 202;
  answer.with("Docker-Content-Digest", digest->text());
  return answer;
}

}  // namespace caisson::registry
