// What every wrapper is made of: fault hook, EINTR, errno → Error. Only for files of this module.
#pragma once

#include <sched.h>

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

#if defined(__SANITIZE_THREAD__)
#define CAISSON_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CAISSON_THREAD_SANITIZER 1
#endif
#endif
#ifdef CAISSON_THREAD_SANITIZER
/// glibc's other name of clone(): ThreadSanitizer wraps that one as a fork, and dies of a child that shares our memory.
extern "C" int __clone(int (*function)(void*), void* stack, int flags, void* argument, ...) noexcept;  // NOLINT: reserved, by glibc
#endif

namespace caisson::linux::detail {

/// clone(2) with CLONE_VM. Its pid, or -1 and errno.
template <class... More>
int clone_sharing_memory(int (*function)(void*), void* stack, int flags, void* argument, More... more) noexcept {
#ifdef CAISSON_THREAD_SANITIZER
  return ::__clone(function, stack, flags | CLONE_VM, argument, more...);
#else
  return ::clone(function, stack, flags | CLONE_VM, argument, more...);
#endif
}

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
