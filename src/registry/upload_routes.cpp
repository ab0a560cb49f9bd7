// Pushing blobs: monolithic, in chunks, resumed, mounted from a neighbour.
#include <cerrno>

#include "base/strings.hpp"
#include "registry/api.hpp"
#include "registry/range.hpp"

namespace caisson::registry {

namespace {

std::string upload_location(std::string_view repository, std::string_view id) { return concat("/v2/", repository, "/blobs/uploads/", id); }

/// "0-99" of a hundred bytes. Nothing has no inclusive range; Docker's client wants one behind every PATCH, and "0-0" is what its registry says.
std::string range_text(std::uint64_t size_bytes) { return concat("0-", size_bytes == 0 ? 0 : size_bytes - 1); }

Answer& with_upload(Answer& answer, std::string_view repository, const UploadWriter& upload) {
  return answer.with("Location", upload_location(repository, upload.id())).with("Docker-Upload-UUID", upload.id()).with("Range", range_text(upload.size_bytes()));
}

Answer no_upload(std::string_view repository, std::string_view id) { return refuse(404, code::upload_unknown, concat("repository ", repository, " has no upload ", id)); }

/// The quota that was hit, or none when it is another failure.
std::optional<Answer> quota_refusal(const Error& error) {
  if (error.error_number() != EDQUOT || error.kind() != ErrorKind::unavailable) return std::nullopt;
  return refuse(413, code::denied, concat("quota exceeded: ", error.text()));
}

std::optional<Answer> taking_failed(const Error& error, std::string_view repository, std::string_view id) {
  if (error.kind() == ErrorKind::not_found) return no_upload(repository, id);
  if (error.kind() == ErrorKind::conflict) return refuse(409, code::upload_invalid, error.text());
  return std::nullopt;
}

Answer created(std::string_view repository, const Digest& digest) {
  Answer answer;
  answer.status = 201;
  answer.with("Location", blob_location(repository, digest.text())).with("Docker-Content-Digest", digest.text());
  return answer;
}

}  // namespace

/// 201 when the blob could be had from another repository; none when the bytes must travel.
Result<std::optional<Answer>> Api::mount(Request& request) {
  const auto& name = request.route.repository;
  auto digest = Digest::parse(request.parameter("mount"));
  if (!digest.ok()) return std::optional<Answer>();
  auto pins = image::Pins(parts_.storage.local());
  pins.add_blob(*digest);
  const std::string wanted(request.parameter("from"));
  // distribution-spec: without "from" a registry may look by itself; only where the caller may pull.
  const auto sources = wanted.empty() ? TRY_PLAIN(parts_.catalog.holders(*digest)) : std::vector<std::string>{wanted};
  for (const auto& source : sources) {
    if (!parts_.access.may(request.caller, Right::pull, source)) continue;
    const auto size = TRY_PLAIN(parts_.catalog.blob_size(source, *digest));
    if (!size || !TRY_PLAIN(parts_.storage.has(*digest))) continue;
    auto held = parts_.catalog.hold_blob(name, *digest, *size);
    if (!held.ok()) {
      if (auto refusal = quota_refusal(held.error())) return std::optional<Answer>(std::move(*refusal));
      return std::move(held).error();
    }
    tell(request, "mount", *digest, *size, "application/octet-stream", "", source);
    return std::optional<Answer>(created(name, *digest));
  }
  return std::optional<Answer>();
}

Result<Answer> Api::begin_upload(Request& request) {
  const auto& name = request.route.repository;
  if (!request.parameter("mount").empty()) {
    auto mounted = TRY_PLAIN(mount(request));
    if (mounted) return std::move(*mounted);
  }
  const auto digest_text = request.parameter("digest");
  auto algorithm = DigestAlgorithm::sha256;
  if (request.parameter("digest-algorithm") == "sha512" || digest_text.starts_with("sha512:")) algorithm = DigestAlgorithm::sha512;
  if (!digest_text.empty()) {
    auto digest = Digest::parse(digest_text);
    if (!digest.ok()) return refuse(400, code::digest_invalid, digest.error().text());
  }
  auto upload = TRY_PLAIN(parts_.uploads.begin(name, algorithm));
  if (!digest_text.empty()) {
    auto received = receive(request, upload, std::nullopt);
    // The client was told no location, so it cannot go on with this one.
    if (!received.ok() || *received) ignore(upload.cancel());  // what is left is forgotten by age
    auto refusal = TRY_PLAIN(std::move(received));
    if (refusal) return std::move(*refusal);
    return finish_upload(request, std::move(upload), digest_text);
  }
  Answer answer;
  answer.status = 202;
  with_upload(answer, name, upload).with("OCI-Chunk-Min-Length", "1");
  // Whoever asks later must be able to tell an empty upload from one byte.
  std::erase_if(answer.headers, [](const auto& header) { return header.first == "Range"; });
  return answer;
}

Result<Answer> Api::upload_status(Request& request) {
  const auto& [target, name, id, is_good] = request.route;
  auto size = parts_.uploads.size_bytes(name, id);
  if (!size.ok()) return no_upload(name, id);
  Answer answer;
  answer.status = 204;
  answer.with("Location", upload_location(name, id)).with("Docker-Upload-UUID", id);
  if (*size > 0) answer.with("Range", range_text(*size));
  return answer;
}

Result<std::optional<Answer>> Api::receive(Request& request, UploadWriter& upload, std::optional<ByteRange> range) {
  const auto& name = request.route.repository;
  auto announced = parse_integer<std::uint64_t>(request.exchange.header("Content-Length"));
  if (range && announced.ok() && *announced != range->size_bytes())
    return std::optional<Answer>(refuse(400, code::size_invalid, concat("the Content-Range names ", range->size_bytes(), " bytes, the Content-Length ", *announced)));
  std::uint64_t checked = 0;  // bytes of this request that the quota is known to allow
  auto check = [&](std::uint64_t bytes) -> std::optional<Answer> {
    auto status = parts_.catalog.check_quota(name, bytes);
    return status.ok() ? std::nullopt : quota_refusal(status.error());
  };
  if (announced.ok()) {
    if (auto refusal = check(upload.size_bytes() + *announced)) return refusal;
    checked = *announced;
  }
  constexpr std::uint64_t quota_step_bytes = 16 << 20;
  std::uint64_t received = 0;
  for (;;) {
    auto piece = request.exchange.read_body_some();
    if (!piece.ok() && piece.error().kind() == ErrorKind::invalid) return std::optional<Answer>(refuse(400, code::upload_invalid, piece.error().text()));
    if (!piece.ok()) return std::optional<Answer>(refuse(400, code::upload_invalid, "the connection was cut; what came is kept, and the upload can go on"));
    if (piece->empty()) break;
    received += piece->size();
    if (range && received > range->size_bytes()) return std::optional<Answer>(refuse(400, code::size_invalid, concat("the body is longer than the Content-Range's ", range->size_bytes(), " bytes")));
    if (received > checked) {
      checked = received + quota_step_bytes;
      if (auto refusal = check(upload.size_bytes() + piece->size())) return refusal;
    }
    TRY_PLAIN(upload.append(*piece));
    parts_.metrics.received_bytes += piece->size();
  }
  if (range && received != range->size_bytes())
    return std::optional<Answer>(refuse(400, code::size_invalid, concat("the body has ", received, " bytes, the Content-Range names ", range->size_bytes())));
  return std::optional<Answer>();
}

namespace {

/// A chunk that does not begin where the upload ends.
std::optional<Answer> check_order(std::string_view repository, const UploadWriter& upload, std::string_view header, std::optional<ByteRange>& range) {
  if (header.empty()) return std::nullopt;
  range = parse_chunk_range(header);
  if (!range) return refuse(400, code::upload_invalid, concat("Content-Range \"", header, "\": want FIRST-LAST"));
  if (range->first == upload.size_bytes()) return std::nullopt;
  auto answer = refuse(416, code::upload_invalid, concat("the chunk begins at byte ", range->first, ", the upload has ", upload.size_bytes(), " bytes"));
  with_upload(answer, repository, upload);
  return answer;
}

}  // namespace

Result<Answer> Api::patch_upload(Request& request) {
  const auto& [target, name, id, is_good] = request.route;
  auto taken = parts_.uploads.take(name, id);
  if (!taken.ok()) {
    if (auto refusal = taking_failed(taken.error(), name, id)) return std::move(*refusal);
    return std::move(taken).error();
  }
  auto& upload = *taken;
  std::optional<ByteRange> range;
  if (auto refusal = check_order(name, upload, request.exchange.header("Content-Range"), range)) return std::move(*refusal);
  auto refusal = TRY_PLAIN(receive(request, upload, range));
  if (refusal) return std::move(*refusal);
  Answer answer;
  answer.status = 202;
  with_upload(answer, name, upload);
  return answer;
}

Result<Answer> Api::put_upload(Request& request) {
  const auto& [target, name, id, is_good] = request.route;
  const auto digest_text = request.parameter("digest");
  auto digest = Digest::parse(digest_text);
  if (!digest.ok()) return refuse(400, code::digest_invalid, digest_text.empty() ? "the parameter \"digest\" is missing" : digest.error().text());
  auto taken = parts_.uploads.take(name, id);
  if (!taken.ok()) {
    if (auto refusal = taking_failed(taken.error(), name, id)) return std::move(*refusal);
    return std::move(taken).error();
  }
  std::optional<ByteRange> range;
  const auto header = request.exchange.header("Content-Range");
  // Some clients close with an empty body and the range of the last chunk.
  const bool is_empty = request.exchange.header("Content-Length") == "0";
  if (auto refusal = is_empty ? std::nullopt : check_order(name, *taken, header, range)) return std::move(*refusal);
  auto refusal = TRY_PLAIN(receive(request, *taken, range));
  if (refusal) return std::move(*refusal);
  return finish_upload(request, std::move(*taken), digest_text);
}

Result<Answer> Api::finish_upload(Request& request, UploadWriter upload, std::string_view digest_text) {
  const auto& name = request.route.repository;
  const auto digest = TRY_PLAIN(Digest::parse(digest_text));
  const auto size = upload.size_bytes();
  auto pins = image::Pins(parts_.storage.local());
  pins.add_blob(digest);
  auto finished = upload.finish(digest);
  if (!finished.ok() && finished.error().kind() == ErrorKind::invalid) return refuse(400, code::digest_invalid, finished.error().text());
  const auto new_bytes = TRY_PLAIN(std::move(finished));
  parts_.catalog.count_bytes(static_cast<std::int64_t>(new_bytes));
  auto held = parts_.catalog.hold_blob(name, digest, size);
  if (!held.ok()) {
    if (auto refusal = quota_refusal(held.error())) return std::move(*refusal);
    return std::move(held).error();
  }
  tell(request, "push", digest, size, "application/octet-stream");
  return created(name, digest);
}

Result<Answer> Api::cancel_upload(Request& request) {
  const auto& [target, name, id, is_good] = request.route;
  auto taken = parts_.uploads.take(name, id);
  if (!taken.ok()) {
    if (auto refusal = taking_failed(taken.error(), name, id)) return std::move(*refusal);
    return std::move(taken).error();
  }
  TRY_PLAIN(taken->cancel());
  Answer answer;
  answer.status = 204;
  return answer;
}

}  // namespace caisson::registry
