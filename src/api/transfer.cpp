// The thread that works and the thread that serves the client meet at a socket pair.
#include "api/transfer.hpp"

#include <thread>

#include "linux/file.hpp"
#include "linux/socket.hpp"

namespace caisson::api {

Status feed_body(Request& request, const std::function<Status(int fd)>& consume) {
  auto ends = TRY_PLAIN(linux::socketpair(linux::UnixType::stream));
  Status outcome;
  std::thread consumer([&] {
    outcome = consume(ends.second.get());
    ends.second.reset();  // ends the feeding
  });
  Status fed;
  for (;;) {
    auto piece = request.exchange.read_body_some();
    if (!piece.ok()) {
      fed = std::move(piece).error();
      break;
    }
    if (piece->empty() || !linux::send_all(ends.first.get(), *piece).ok()) break;
  }
  ends.first.reset();
  consumer.join();
  if (!fed.ok()) return std::move(fed).error().in("read the request body");
  return outcome;
}

Status stream_out(Request& request, const wire::Headers& headers, const std::function<Status(int fd, Cancel cancel)>& produce) {
  auto ends = TRY_PLAIN(linux::socketpair(linux::UnixType::stream));
  Status outcome;
  std::thread producer([&] {
    // When this end is closed below, the producer sees a hang-up as well as an error of its write.
    outcome = produce(ends.second.get(), Cancel{ends.second.get()});
    ends.second.reset();
  });
  Status sent;
  bool begun = false;
  std::string buffer(64 << 10, '\0');
  for (;;) {
    auto got = linux::read(ends.first.get(), buffer);
    if (!got.ok() || *got == 0) break;
    if (!begun) {
      begun = true;
      sent = request.exchange.begin(200, headers);
    }
    if (sent.ok()) sent = request.exchange.write(std::string_view(buffer).substr(0, *got));
    if (!sent.ok()) break;
  }
  ends.first.reset();
  producer.join();
  if (!sent.ok()) return sent;
  if (!outcome.ok()) return outcome;
  if (!begun) TRY_PLAIN(request.exchange.begin(200, headers));
  return request.exchange.end();
}

Result<image::IndexAnnotations> read_index_annotations(const Query& query) {
  image::IndexAnnotations out;
  const auto text = query.text("annotations");
  if (text.empty()) return out;
  const auto document = TRY_PLAIN(parse_json(text, "annotations"));
  const JsonView view(document, "annotations");
  TRY_PLAIN(view.read("index", out.index));
  TRY_PLAIN(view.read("manifests", out.manifests));
  TRY_PLAIN(view.read("entry", out.entry));
  return out;
}

Result<image::CompressionWish> read_compression(const Query& query) {
  image::CompressionWish wish;
  wish.format = query.text("compression");
  wish.level = TRY_PLAIN(query.integer("compression-level"));
  wish.has_all = query.flag("force-compression", !wish.format.empty());
  return wish;
}

wire::Headers headers_of_type(std::string_view content_type) {
  auto headers = common_headers();
  headers.emplace_back("Content-Type", std::string(content_type));
  return headers;
}

}  // namespace caisson::api
