// The distribution API over the catalog: one handler per endpoint, no state of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "registry/access.hpp"
#include "registry/answer.hpp"
#include "registry/catalog.hpp"
#include "registry/events.hpp"
#include "registry/metrics.hpp"
#include "registry/proxy.hpp"
#include "registry/range.hpp"
#include "registry/route.hpp"
#include "registry/storage.hpp"
#include "registry/uploads.hpp"
#include "wire/http_server.hpp"

namespace caisson::registry {

/// What handlers work on; everything outlives the API.
struct Parts {
  Catalog& catalog;
  Storage& storage;
  Uploads& uploads;
  Access& access;
  Metrics& metrics;
  EventSink& events;
  Proxies& proxies;
};

struct ApiOptions {
  bool is_read_only = false;  ///< pushes and deletes are refused with 405
  bool logs_requests = false;
};

class Api {
 public:
  Api(Parts parts, ApiOptions options) : parts_(parts), options_(options) {}
  /// Answers one request. Thread-safe.
  void handle(wire::Exchange& exchange);

 private:
  struct Request {
    wire::Exchange& exchange;
    Route route;
    std::vector<std::pair<std::string, std::string>> query;
    Caller caller;
    [[nodiscard]] std::string_view parameter(std::string_view name) const;
  };
  Result<Answer> dispatch(Request& request);
  Result<Answer> route(Request& request);
  /// The refusal, or none when the caller may.
  std::optional<Answer> check_right(const Request& request, Right right);
  void send(wire::Exchange& exchange, Answer answer);
  void tell(const Request& request, std::string_view action, const Digest& digest, std::uint64_t size_bytes, std::string_view media_type, std::string_view tag = "",
            std::string_view from = "");

  // blobs.cpp
  Result<Answer> get_blob(Request& request);
  Result<Answer> delete_blob(Request& request);

  // upload_routes.cpp
  Result<Answer> begin_upload(Request& request);
  Result<std::optional<Answer>> mount(Request& request);
  Result<Answer> upload_status(Request& request);
  Result<Answer> patch_upload(Request& request);
  Result<Answer> put_upload(Request& request);
  Result<Answer> cancel_upload(Request& request);
  /// The request's body to the upload's end. The refusal, or none.
  Result<std::optional<Answer>> receive(Request& request, UploadWriter& upload, std::optional<ByteRange> range);
  Result<Answer> finish_upload(Request& request, UploadWriter upload, std::string_view digest_text);

  // manifests.cpp
  Result<Answer> get_manifest(Request& request);
  Result<Answer> put_manifest(Request& request);
  Result<Answer> delete_manifest(Request& request);

  // listings.cpp
  Result<Answer> list_tags(Request& request);
  Result<Answer> list_repositories(Request& request);
  Result<Answer> list_referrers(Request& request);

  Parts parts_;
  ApiOptions options_;
};

/// "/v2/NAME/blobs/DIGEST": locations are relative, so that they are right behind any proxy.
std::string blob_location(std::string_view repository, std::string_view digest);

}  // namespace caisson::registry
