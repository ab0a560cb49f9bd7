// ProgressStream: long image operations tell how far they are.
#pragma once

#include <string>

#include "api/request.hpp"
#include "base/strings.hpp"

namespace caisson::api {

/// Docker's lines of progress: one JSON object each. The head goes out with the first line, so that an error before it is an
/// ordinary error answer. Used by one thread at a time.
class ProgressStream {
 public:
  /// `status_of`: what an error before the first line is answered with.
  explicit ProgressStream(Request& request, int (*status_of)(ErrorKind) = http_status) : request_(request), status_of_(status_of) {}

  void send(const json::object& line) {
    if (!begun_) {
      begun_ = true;
      broken_ = !request_.begin(200, "application/json").ok();
    }
    // A client that left stops the work through its cancel; here it is only not written to any more.
    if (!broken_) broken_ = !request_.exchange.write(to_text(line) + "\r\n").ok();
  }

  void send(const image::Progress& progress) {
    json::object line{{"status", progress.status}};
    if (!progress.id.empty()) line["id"] = progress.id;
    if (progress.total != 0 || progress.current != 0) {
      json::object detail{{"current", progress.current}};
      if (progress.total != 0) detail["total"] = progress.total;
      line["progressDetail"] = std::move(detail);
      line["progress"] = progress.total == 0 ? human_size(progress.current)
                                             : concat(human_size(progress.current), "/", human_size(progress.total));
    }
    send(line);
  }

  image::ProgressSink sink() {
    return [this](const image::Progress& progress) { send(progress); };
  }

  /// Ends the answer: an error becomes the last line once the head is out (Docker's failure inside a 200).
  Status finish(const Status& outcome) {
    if (!outcome.ok() && !begun_) return request_.reply_error(status_of_(outcome.error().kind()), outcome.error().text(), outcome.error().hint());
    if (!outcome.ok()) {
      const auto& text = outcome.error().text();
      send(json::object{{"errorDetail", json::object{{"message", text}}}, {"error", text}});
    }
    if (!begun_) TRY_PLAIN(request_.begin(200, "application/json"));
    return request_.exchange.end();
  }

 private:
  Request& request_;
  int (*status_of_)(ErrorKind);
  bool begun_ = false;
  bool broken_ = false;
};

}  // namespace caisson::api
