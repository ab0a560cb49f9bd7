// Blobs into a file: from where it ends, over lost connections and several endpoints, never beyond the announced size.
#include <optional>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "fetch/registry.hpp"
#include "linux/file.hpp"

namespace caisson::fetch {

namespace {
constexpr std::uint64_t progress_step_bytes = 1 << 20;
constexpr std::int64_t progress_step_ns = 100'000'000;
}  // namespace

/// Where a blob's bytes are now.
struct Registry::Download {
  int fd = -1;
  std::uint64_t bytes = 0;  ///< in the file, without a gap
  std::uint64_t size_bytes = 0;
  std::uint64_t reported = 0;
  std::int64_t reported_at_ns = 0;

  Status write(std::string_view piece, Ticket& ticket) {
    if (bytes + piece.size() > size_bytes) return Error(ErrorKind::corrupt, concat("the registry sends more than the ", size_bytes, " bytes it announced"));
    while (!piece.empty()) {
      auto written = TRY(linux::pwrite(fd, piece, bytes), "store the blob");
      piece.remove_prefix(written);
      bytes += written;
    }
    const auto now = monotonic_ns();
    if (bytes - reported >= progress_step_bytes || now - reported_at_ns >= progress_step_ns) report(ticket, now);
    return {};
  }
  void report(Ticket& ticket, std::int64_t now) {
    reported = bytes;
    reported_at_ns = now;
    if (ticket.on_progress) ticket.on_progress(bytes);
  }
};

Status Registry::get_blob(const Request& request, int fd, Ticket& ticket, Reply& reply) {
  if (fd < 0) return Error(ErrorKind::internal, "a blob needs a file");
  Download download;
  download.fd = fd;
  download.bytes = request.offset;
  download.size_bytes = request.size_bytes;
  auto outcome = try_each([](const image::RegistryEndpoint&) { return true; },
                          [&](Endpoint& endpoint) { return download_from(endpoint, request, download, ticket, reply); }, ticket);
  download.report(ticket, 0);
  if (!outcome.ok()) return std::move(outcome).error().in(concat("blob ", request.name));
  return {};
}

Status Registry::download_from(Endpoint& endpoint, const Request& request, Download& download, Ticket& ticket, Reply& reply) {
  std::optional<Error> last;
  // Attempts are counted in a row: a connection that is cut every megabyte still ends with the whole blob.
  for (std::uint32_t failures = 0; failures < session_.patience.attempts;) {
    if (download.bytes == download.size_bytes) return {};
    const std::uint64_t begin = download.bytes;
    HttpRequest http;
    http.url = url(endpoint, concat("blobs/", request.name));
    if (begin > 0) http.headers.push_back(concat("Range: bytes=", begin, "-"));
    std::uint64_t skip = begin;  // a server that knows no ranges sends all from the start
    bool is_first = true;
    http.sink = [&](const HttpReply& head, std::string_view piece) -> Status {
      if (is_first && head.status == 206) {
        auto range = parse_content_range(head.header("content-range"));
        if (!range || range->first != begin) return Error(ErrorKind::corrupt, "the registry sends another range than was asked for");
        skip = 0;
      }
      is_first = false;
      const auto skipped = static_cast<std::size_t>(std::min<std::uint64_t>(skip, piece.size()));
      skip -= skipped;
      return download.write(piece.substr(skipped), ticket);
    };
    auto answer = send(endpoint, http, ticket);
    if (answer.ok() && (answer->status == 200 || answer->status == 206)) {
      if (download.bytes == download.size_bytes) return {};
      last = Error(ErrorKind::corrupt, concat("the registry sent ", download.bytes, " of ", download.size_bytes, " bytes"));
    } else if (answer.ok()) {
      last = error_of(*answer, "Get", http.url, reply);
      if (!is_passing(answer->status)) return std::move(*last);
    } else {
      last = std::move(answer).error();
      const bool is_ours = last->kind() == ErrorKind::corrupt || last->kind() == ErrorKind::denied || last->kind() == ErrorKind::io;
      if (is_ours || ticket.is_cancelled()) return std::move(*last);
      // Nobody there, or a mirror that has left: another endpoint is quicker than patience.
      if (!endpoint.has_answered || (!endpoint.settings.is_origin && download.bytes == begin)) return std::move(*last);
    }
    failures = download.bytes > begin ? 0 : failures + 1;
    if (failures < session_.patience.attempts && !ticket.pause(pause_ms(failures, answer.ok() ? &*answer : nullptr)))
      return Error(ErrorKind::unavailable, "cancelled");
  }
  if (download.bytes == download.size_bytes) return {};
  return std::move(*last);
}

Status Registry::get_range(const Request& request, int fd, Ticket& ticket, Reply& reply) {
  if (fd < 0 || request.size_bytes == 0) return Error(ErrorKind::internal, "a range needs a file and a length");
  std::uint64_t done = 0;
  auto outcome = try_each([](const image::RegistryEndpoint&) { return true; }, [&](Endpoint& endpoint) { return range_from(endpoint, request, fd, done, ticket, reply); }, ticket);
  if (!outcome.ok()) return std::move(outcome).error().in(concat("blob ", request.name, ", bytes from ", request.offset, " on"));
  return {};
}

/// Unlike a whole blob it is not worth the bytes before it: a server that sends those is refused.
Status Registry::range_from(Endpoint& endpoint, const Request& request, int fd, std::uint64_t& done, Ticket& ticket, Reply& reply) {
  std::optional<Error> last;
  for (std::uint32_t failures = 0; failures < session_.patience.attempts;) {
    const auto begin = done;
    const auto first = request.offset + begin;
    HttpRequest http;
    http.url = url(endpoint, concat("blobs/", request.name));
    http.headers.push_back(concat("Range: bytes=", first, "-", request.offset + request.size_bytes - 1));
    bool is_first = true;
    http.sink = [&](const HttpReply& head, std::string_view piece) -> Status {
      if (is_first) {
        if (head.status == 200) return Error(ErrorKind::unsupported, "the registry does not answer ranges");
        const auto range = parse_content_range(head.header("content-range"));
        if (!range || range->first != first) return Error(ErrorKind::corrupt, "the registry sends another range than was asked for");
        is_first = false;
      }
      if (piece.size() > request.size_bytes - done) return Error(ErrorKind::corrupt, "the registry sends more than was asked for");
      while (!piece.empty()) {
        const auto written = TRY(linux::pwrite(fd, piece, done), "store the range");
        piece.remove_prefix(written);
        done += written;
      }
      return {};
    };
    auto answer = send(endpoint, http, ticket);
    if (done == request.size_bytes) return {};
    if (answer.ok() && answer->status == 206) {
      last = Error(ErrorKind::corrupt, concat("the registry sent ", done, " of ", request.size_bytes, " bytes"));
    } else if (answer.ok()) {
      last = error_of(*answer, "Get", http.url, reply);
      if (!is_passing(answer->status)) return std::move(*last);
    } else {
      last = std::move(answer).error();
      const bool is_ours = last->kind() == ErrorKind::corrupt || last->kind() == ErrorKind::denied || last->kind() == ErrorKind::io || last->kind() == ErrorKind::unsupported;
      if (is_ours || ticket.is_cancelled() || !endpoint.has_answered) return std::move(*last);
    }
    failures = done > begin ? 0 : failures + 1;
    if (failures < session_.patience.attempts && !ticket.pause(pause_ms(failures, answer.ok() ? &*answer : nullptr))) return Error(ErrorKind::unavailable, "cancelled");
  }
  return std::move(*last);
}

}  // namespace caisson::fetch
