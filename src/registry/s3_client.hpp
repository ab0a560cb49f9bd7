// S3Client: objects of one bucket below a prefix. Signs and says what is to be sent; who sends it (a process of its own) never sees the keys.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <semaphore>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "image/fetch_protocol.hpp"
#include "registry/s3_answers.hpp"
#include "registry/s3_signature.hpp"

namespace caisson::registry {

struct S3Settings {
  std::string endpoint;  ///< "https://s3.eu-central-1.amazonaws.com": scheme and host, no path
  std::string region = "us-east-1";
  std::string bucket;
  std::string prefix;        ///< "" or "images/"
  bool path_style = true;    ///< endpoint/bucket/key; else the bucket is part of the host's name
  bool signs_payload = true; ///< bodies are hashed into the signature; else only TLS protects them
  std::uint64_t part_bytes = 16 << 20;  ///< larger blobs travel in parts
  S3Keys keys;
};
/// How long to be patient with a service that is ill.
struct S3Patience {
  std::uint32_t attempts = 6;
  std::uint32_t first_pause_ms = 200;  ///< doubled after each attempt, with jitter
  std::uint32_t longest_pause_ms = 10'000;
};

/// Sends one `exchange` (image::FetchTask); an answer of any status is a success.
using S3Send = std::function<Result<image::FetchReply>(image::FetchRequest request, int fd)>;

/// "https://bucket.host" or "https://host": where requests go. Errors: invalid (no URL, one with a path, a bucket's name that is none).
Result<std::string> s3_base_url(const S3Settings& settings);

/// Thread-safe. Keys of objects are those below the prefix. Errors of all calls: timeout (it did not answer, or was ill, in all attempts), denied, not_found, io; each
/// names the bucket, the key and what the service said.
class S3Client {
 public:
  /// Errors: those of s3_base_url.
  static Result<std::unique_ptr<S3Client>> create(S3Settings settings, S3Send send, S3Patience patience = {});

  Result<bool> has(std::string_view key);
  Status put(std::string_view key, std::string_view bytes);
  /// `size_bytes` of a file; in parts when they are many. An interrupted upload in parts is given up.
  Status put_file(std::string_view key, int fd, std::uint64_t size_bytes);
  /// None: it is not there. Errors: invalid (more than a document has).
  Result<std::optional<std::string>> get(std::string_view key);
  /// Bytes of an object to the start of `fd`, an empty file. Errors: not_found, corrupt (fewer came).
  Status get_file(std::string_view key, int fd, std::uint64_t first, std::uint64_t size_bytes, bool is_whole);
  /// What is not there is no error.
  Status remove(std::string_view key);
  Result<std::vector<S3Object>> list(std::string_view prefix);
  /// Gives up uploads in parts that no call of this process is about: an earlier process was killed over them. How many.
  Result<std::size_t> abort_leftovers(std::string_view prefix);
  /// A URL by which anybody may get the object for so long.
  [[nodiscard]] std::string presigned_url(std::string_view key, std::uint32_t seconds) const;
  [[nodiscard]] std::string name() const;

 private:
  struct Ask {
    std::string method = "GET";
    std::string key;  ///< below the prefix; with `of_bucket` none
    bool of_bucket = false;
    std::vector<std::pair<std::string, std::string>> query;
    std::vector<std::pair<std::string, std::string>> headers;
    std::string body;
    int fd = -1;
    std::uint64_t offset = 0;
    std::uint64_t size_bytes = 0;
  };
  S3Client(S3Settings settings, std::string base_url, S3Send send, S3Patience patience);
  [[nodiscard]] S3Request request_of(const Ask& ask) const;
  Result<std::string> payload_hash(const Ask& ask) const;
  /// Until it is answered with something that another attempt would not change.
  Result<image::FetchReply> call(const Ask& ask);
  Result<image::FetchReply> send_once(const Ask& ask, const std::string& hash);
  /// The same; what is no success is an error.
  Result<image::FetchReply> succeed(const Ask& ask);
  [[nodiscard]] Error error_of(const Ask& ask, const image::FetchReply& reply) const;
  [[nodiscard]] std::string step(const Ask& ask) const;
  Status put_parts(const std::string& key, int fd, std::uint64_t size_bytes);
  Status send_parts(const std::string& key, const std::string& id, int fd, std::uint64_t size_bytes);
  Status abort(const std::string& key, const std::string& id);

  const S3Settings settings_;
  const std::string base_url_;
  const std::string host_;
  S3Send send_;
  const S3Patience patience_;
  std::counting_semaphore<> slots_;  ///< the process that sends takes a bounded number of requests at once
  std::mutex mutex_;
  std::multiset<std::string> under_way_;  ///< keys that are being uploaded in parts
};

}  // namespace caisson::registry
