// Refusals and documents as JSON.
#include "registry/answer.hpp"

#include <cerrno>

#include "base/strings.hpp"

namespace caisson::registry {

Answer refuse(int status, std::string_view error_code, std::string message, json::value detail) {
  json::object error;
  error["code"] = error_code;
  error["message"] = message;
  if (!detail.is_null()) error["detail"] = std::move(detail);
  json::array errors;
  errors.push_back(std::move(error));
  json::object document;
  document["errors"] = std::move(errors);
  auto answer = answer_json(document);
  answer.status = status;
  answer.problem = concat(error_code, ": ", message);
  return answer;
}

Answer answer_json(const json::value& document, std::string_view media_type) {
  Answer answer;
  answer.with("Content-Type", std::string(media_type));
  answer.body = to_text(document);
  return answer;
}

Answer answer_of(const Error& error) {
  switch (error.kind()) {
    case ErrorKind::unavailable:
      if (error.error_number() == ENOSPC || error.error_number() == EDQUOT) return refuse(507, code::denied, concat("the registry's disk is full: ", error.text()));
      return refuse(429, code::too_many_requests, error.text()).with("Retry-After", "5");
    case ErrorKind::timeout: return refuse(504, code::unknown, error.text());
    default: return refuse(500, code::unknown, error.text());
  }
}

}  // namespace caisson::registry
