// Error texts and the mapping from errno to kinds.
#include "base/result.hpp"

#include <cerrno>
#include <cstring>

namespace caisson {

std::string_view to_string(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::invalid: return "invalid";
    case ErrorKind::not_found: return "not_found";
    case ErrorKind::conflict: return "conflict";
    case ErrorKind::denied: return "denied";
    case ErrorKind::unsupported: return "unsupported";
    case ErrorKind::unavailable: return "unavailable";
    case ErrorKind::timeout: return "timeout";
    case ErrorKind::corrupt: return "corrupt";
    case ErrorKind::io: return "io";
    case ErrorKind::internal: return "internal";
  }
  return "unknown";
}

ErrorKind kind_of_errno(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ESRCH: return ErrorKind::not_found;
    case EEXIST:
    case EBUSY: return ErrorKind::conflict;
    case EPERM:
    case EACCES: return ErrorKind::denied;
    case EINVAL: return ErrorKind::invalid;
    case ENOSYS:
    case EOPNOTSUPP: return ErrorKind::unsupported;
    case ENOSPC:
    case EDQUOT:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
    case EAGAIN: return ErrorKind::unavailable;
    case ETIMEDOUT: return ErrorKind::timeout;
    default: return ErrorKind::io;
  }
}

Error Error::from_errno(int error_number, std::string_view step) {
  std::string text(step);
  text += ": ";
  // strerrordesc_np never allocates and always speaks the C locale: clients decide exit codes by these words.
  const char* description = strerrordesc_np(error_number);
  text += description != nullptr ? description : "unknown error";
  return {kind_of_errno(error_number), std::move(text), error_number};
}

Error&& Error::in(std::string_view step) && {
  if (!step.empty()) {
    std::string text(step);
    text += ": ";
    text += text_;
    text_ = std::move(text);
  }
  return std::move(*this);
}

Error&& Error::with_hint(std::string hint) && {
  hint_ = std::move(hint);
  return std::move(*this);
}

Error&& Error::with_kind(ErrorKind kind) && {
  kind_ = kind;
  return std::move(*this);
}

}  // namespace caisson
