// Streams between a client and whoever reads or writes a descriptor: archives in and out.
#pragma once

#include <functional>
#include <string_view>

#include "api/request.hpp"

namespace caisson::api {

/// Runs `consume(fd)` in a thread of its own while this one feeds it the request's body. A socket, not a pipe: a consumer that
/// stops early must not cost the daemon a SIGPIPE.
Status feed_body(Request& request, const std::function<Status(int fd)>& consume);

/// Runs `produce(fd)` in a thread of its own and sends what it writes as the answer's body, under `headers`. An error before the first
/// byte is an ordinary error answer; a later one cuts the stream, so that nobody takes a part for the whole.
Status stream_out(Request& request, const wire::Headers& headers, const std::function<Status(int fd, Cancel cancel)>& produce);

/// compression, compression-level and force-compression of a push or an archive, ours: a compression that is named is every layer's unless force-compression is off.
/// Errors: invalid.
Result<image::CompressionWish> read_compression(const Query& query);
/// Ours: `annotations` as JSON, {"index", "manifests", "entry"}, each of them texts by name. Errors: invalid.
Result<image::IndexAnnotations> read_index_annotations(const Query& query);

/// What every answer carries, and a content type.
wire::Headers headers_of_type(std::string_view content_type);

}  // namespace caisson::api
