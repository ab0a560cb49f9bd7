// What a handler answers: a status with headers and a body or a piece of a file, and refusals in the specification's words.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "wire/http_server.hpp"

namespace caisson::registry {

/// Codes of the distribution specification, section "Error Codes".
namespace code {
inline constexpr std::string_view blob_unknown = "BLOB_UNKNOWN";
inline constexpr std::string_view upload_invalid = "BLOB_UPLOAD_INVALID";
inline constexpr std::string_view upload_unknown = "BLOB_UPLOAD_UNKNOWN";
inline constexpr std::string_view digest_invalid = "DIGEST_INVALID";
inline constexpr std::string_view manifest_blob_unknown = "MANIFEST_BLOB_UNKNOWN";
inline constexpr std::string_view manifest_invalid = "MANIFEST_INVALID";
inline constexpr std::string_view manifest_unknown = "MANIFEST_UNKNOWN";
inline constexpr std::string_view name_invalid = "NAME_INVALID";
inline constexpr std::string_view name_unknown = "NAME_UNKNOWN";
inline constexpr std::string_view size_invalid = "SIZE_INVALID";
inline constexpr std::string_view unauthorized = "UNAUTHORIZED";
inline constexpr std::string_view denied = "DENIED";
inline constexpr std::string_view unsupported = "UNSUPPORTED";
inline constexpr std::string_view too_many_requests = "TOOMANYREQUESTS";
inline constexpr std::string_view unknown = "UNKNOWN";  ///< Docker's, for what is our own failure
}  // namespace code

struct Answer {
  int status = 200;
  wire::Headers headers;
  std::string body;
  UniqueFd file;  ///< instead of `body`: this file's bytes from `offset` on
  std::uint64_t offset = 0;
  std::uint64_t size_bytes = 0;  ///< of the file's piece
  bool only_tells_size = false;  ///< to HEAD: `size_bytes` of a file that is not opened
  std::string problem;           ///< of a refusal, for the log

  Answer& with(std::string name, std::string value) & {
    headers.emplace_back(std::move(name), std::move(value));
    return *this;
  }
  Answer&& with(std::string name, std::string value) && { return std::move(with(std::move(name), std::move(value))); }
};

/// {"errors":[{"code","message","detail"}]}. `message` should name the object and the reason.
Answer refuse(int status, std::string_view error_code, std::string message, json::value detail = nullptr);
/// A document.
Answer answer_json(const json::value& document, std::string_view media_type = "application/json");
/// A failure of ours: 507 for a full disk, 429 for other shortages, 500 else.
Answer answer_of(const Error& error);

}  // namespace caisson::registry
