// AWS Signature Version 4, as S3 wants requests to be signed: in a header, or in the query of a URL that somebody else is given. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.hpp"

namespace caisson::registry {

struct S3Keys {
  std::string access_key;
  std::string secret_key;
  std::string session_token;  ///< of temporary keys, or ""
};

struct S3Request {
  std::string method = "GET";
  std::string host;  ///< as the Host header has it
  std::string path;  ///< "/bucket/key", not encoded
  std::vector<std::pair<std::string, std::string>> query;    ///< not encoded
  std::vector<std::pair<std::string, std::string>> headers;  ///< signed, all of them; names in lower case, without host
  std::string payload_hash;  ///< hex of the body's SHA-256, or unsigned_payload
};
inline constexpr std::string_view unsigned_payload = "UNSIGNED-PAYLOAD";  ///< the body is protected by TLS alone

/// Every byte but A-Z a-z 0-9 - . _ ~ (and '/', if it is kept) as %XX, which is what gets signed.
std::string s3_encode(std::string_view text, bool keeps_slash);
/// "key=value&…", encoded and in the order in which it is signed.
std::string s3_query(std::vector<std::pair<std::string, std::string>> query);

/// "Canonical request": what is signed, line by line. `signed_headers`: their names.
std::string canonical_request(const S3Request& request, std::string& signed_headers);
/// The headers to send beside request.headers and Host: Authorization, X-Amz-Date, X-Amz-Content-Sha256 and, with temporary keys, X-Amz-Security-Token.
std::vector<std::pair<std::string, std::string>> sign_headers(S3Request request, const S3Keys& keys, std::string_view region, TimestampNs now);
/// The query of a URL by which anybody may make this request, without a body, for so many seconds (at most seven days).
std::string sign_query(S3Request request, const S3Keys& keys, std::string_view region, TimestampNs now, std::uint32_t seconds);

}  // namespace caisson::registry
