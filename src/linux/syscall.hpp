// What every wrapper is made of: fault hook, EINTR, errno → Error. Only for files of this module.
#pragma once

#include <cerrno>
#include <concepts>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.hpp"
#include "base/strings.hpp"
#include "base/unique_fd.hpp"
#include "linux/fault.hpp"
#include "linux/path_arg.hpp"

namespace caisson::linux::detail {

inline std::string_view piece(const PathArg& path) { return path.view(); }
inline std::string_view piece(std::string_view text) { return text; }
inline std::string_view piece(const char* text) { return text; }
inline std::string_view piece(const std::string& text) { return text; }
template <std::integral T>
T piece(T number) {
  return number;
}

inline bool is_broken(const PathArg& path) { return path.has_nul(); }
template <typename T>
bool is_broken(const T& /*not a path*/) {
  return false;
}

/// Runs `call` until it is not interrupted. Returns its result, or -errno. Allocates nothing.
template <typename Call>
auto call_raw(const char* name, Call&& call) -> decltype(call()) {
  using Value = decltype(call());
  if (const int injected = fault::check(name); injected != 0) return static_cast<Value>(-injected);
  while (true) {
    const Value value = call();
    if (value != static_cast<Value>(-1)) return value;
    if (errno != EINTR) return static_cast<Value>(-errno);
  }
}

/// "NAME OBJECT: reason".
template <typename... Pieces>
Error failure(long error_number, const char* name, const Pieces&... object) {
  if constexpr (sizeof...(object) == 0) return Error::from_errno(static_cast<int>(error_number), name);
  else return Error::from_errno(static_cast<int>(error_number), concat(name, ' ', piece(object)...));
}

/// The value of a call that returns -1 and errno on failure. The text is built on failure only. A path with a NUL
/// inside is refused: the kernel would see only the part before it.
template <typename T, typename Call, typename... Pieces>
Result<T> value(const char* name, Call&& call, const Pieces&... object) {
  if ((is_broken(object) || ...)) return Error(ErrorKind::invalid, concat(name, ": the path contains a NUL character"), EINVAL);
  const auto result = call_raw(name, std::forward<Call>(call));
  if (result < 0) return failure(-static_cast<long>(result), name, object...);
  return static_cast<T>(result);
}

template <typename Call, typename... Pieces>
Status status(const char* name, Call&& call, const Pieces&... object) {
  auto result = value<long>(name, std::forward<Call>(call), object...);
  if (!result) return std::move(result).error();
  return {};
}

template <typename Call, typename... Pieces>
Result<UniqueFd> descriptor(const char* name, Call&& call, const Pieces&... object) {
  auto result = value<int>(name, std::forward<Call>(call), object...);
  if (!result) return std::move(result).error();
  return UniqueFd(*result);
}

}  // namespace caisson::linux::detail
