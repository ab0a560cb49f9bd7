// AWS, "Signature Version 4 for API requests" and "Authenticating Requests (AWS Signature Version 4)" of the S3 API reference.
#include "registry/s3_signature.hpp"

#include <algorithm>

#include "base/digest.hpp"
#include "base/signature.hpp"
#include "base/strings.hpp"

namespace caisson::registry {

namespace {

constexpr std::string_view algorithm = "AWS4-HMAC-SHA256";
constexpr std::size_t date_length = 8;  // of "20130524T000000Z"

std::string hex_of(std::string_view bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  for (const char byte : bytes) {
    out += digits[static_cast<unsigned char>(byte) >> 4];
    out += digits[static_cast<unsigned char>(byte) & 15];
  }
  return out;
}

/// "20130524T000000Z" from "2013-05-24T00:00:00.…Z".
std::string basic_time(TimestampNs now) {
  std::string out;
  constexpr std::size_t seconds_length = 19;
  for (const char c : to_rfc3339(now).substr(0, seconds_length))
    if (c != '-' && c != ':') out += c;
  return out + "Z";
}

std::string scope_of(std::string_view time, std::string_view region) { return concat(time.substr(0, date_length), "/", region, "/s3/aws4_request"); }

std::string signature_of(const std::string& canonical, const S3Keys& keys, std::string_view region, std::string_view time) {
  const auto text = concat(algorithm, "\n", time, "\n", scope_of(time, region), "\n", sha256_of(canonical).hex());
  auto key = hmac_sha256(concat("AWS4", keys.secret_key), time.substr(0, date_length));
  key = hmac_sha256(key, region);
  key = hmac_sha256(key, "s3");
  key = hmac_sha256(key, "aws4_request");
  return hex_of(hmac_sha256(key, text));
}

}  // namespace

std::string s3_encode(std::string_view text, bool keeps_slash) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const bool is_plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~' || (keeps_slash && c == '/');
    if (is_plain) {
      out += c;
      continue;
    }
    out += '%';
    out += digits[static_cast<unsigned char>(c) >> 4];
    out += digits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

std::string s3_query(std::vector<std::pair<std::string, std::string>> query) {
  for (auto& [name, value] : query) {
    name = s3_encode(name, false);
    value = s3_encode(value, false);
  }
  std::sort(query.begin(), query.end());
  std::string out;
  for (const auto& [name, value] : query) out += concat(out.empty() ? "" : "&", name, "=", value);
  return out;
}

std::string canonical_request(const S3Request& request, std::string& signed_headers) {
  auto headers = request.headers;
  headers.emplace_back("host", request.host);
  std::sort(headers.begin(), headers.end());
  std::string lines;
  signed_headers.clear();
  for (const auto& [name, value] : headers) {
    lines += concat(name, ":", trim(value), "\n");
    signed_headers += concat(signed_headers.empty() ? "" : ";", name);
  }
  return concat(request.method, "\n", s3_encode(request.path, true), "\n", s3_query(request.query), "\n", lines, "\n", signed_headers, "\n", request.payload_hash);
}

std::vector<std::pair<std::string, std::string>> sign_headers(S3Request request, const S3Keys& keys, std::string_view region, TimestampNs now) {
  const auto time = basic_time(now);
  std::vector<std::pair<std::string, std::string>> added{{"x-amz-content-sha256", request.payload_hash}, {"x-amz-date", time}};
  if (!keys.session_token.empty()) added.emplace_back("x-amz-security-token", keys.session_token);
  request.headers.insert(request.headers.end(), added.begin(), added.end());
  std::string signed_headers;
  const auto canonical = canonical_request(request, signed_headers);
  added.emplace_back("Authorization", concat(algorithm, " Credential=", keys.access_key, "/", scope_of(time, region), ",SignedHeaders=", signed_headers,
                                             ",Signature=", signature_of(canonical, keys, region, time)));
  return added;
}

std::string sign_query(S3Request request, const S3Keys& keys, std::string_view region, TimestampNs now, std::uint32_t seconds) {
  const auto time = basic_time(now);
  request.payload_hash = unsigned_payload;
  request.query.emplace_back("X-Amz-Algorithm", algorithm);
  request.query.emplace_back("X-Amz-Credential", concat(keys.access_key, "/", scope_of(time, region)));
  request.query.emplace_back("X-Amz-Date", time);
  request.query.emplace_back("X-Amz-Expires", concat(seconds));
  if (!keys.session_token.empty()) request.query.emplace_back("X-Amz-Security-Token", keys.session_token);
  request.query.emplace_back("X-Amz-SignedHeaders", "host");
  std::string signed_headers;
  const auto canonical = canonical_request(request, signed_headers);
  return concat(s3_query(request.query), "&X-Amz-Signature=", signature_of(canonical, keys, region, time));
}

}  // namespace caisson::registry
