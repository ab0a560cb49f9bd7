// Result<T>, Status and TRY: how every fallible function of Caisson reports failure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace caisson {

/// What a caller may decide on. Text is for people; we never parse it.
enum class ErrorKind : std::uint8_t {
  invalid,      ///< the request itself is wrong (HTTP 400)
  not_found,    ///< the named object does not exist (404)
  conflict,     ///< the object is in a state that forbids this (409)
  denied,       ///< policy or the kernel forbids it (403)
  unsupported,  ///< this kernel or build cannot do it (501)
  unavailable,  ///< try again later: a resource is missing for now (503)
  timeout,      ///< it took too long (504)
  corrupt,      ///< stored or received data contradict themselves (500)
  io,           ///< a system call failed for a reason outside us (500)
  internal,     ///< a broken invariant of ours (500)
};

std::string_view to_string(ErrorKind kind);

/// One failure: a kind, the errno it began with (0 if none), and a text that reads outermost step first and ends with
/// the kernel's reason. `hint` is a next step for the user, shown on a line of its own.
class [[nodiscard]] Error {
 public:
  Error(ErrorKind kind, std::string text, int error_number = 0)
      : kind_(kind), errno_(error_number), text_(std::move(text)) {}

  /// From an errno: kind by kind_of_errno(), text "STEP: strerror".
  static Error from_errno(int error_number, std::string_view step);

  [[nodiscard]] ErrorKind kind() const { return kind_; }
  [[nodiscard]] int error_number() const { return errno_; }
  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] const std::string& hint() const { return hint_; }

  /// Puts "STEP: " in front of the text (the TRY macro's work).
  Error&& in(std::string_view step) &&;
  Error&& with_hint(std::string hint) &&;
  Error&& with_kind(ErrorKind kind) &&;

 private:
  ErrorKind kind_;
  int errno_;
  std::string text_;
  std::string hint_;
};

/// ENOENT → not_found, EEXIST and EBUSY → conflict, EPERM and EACCES → denied, EINVAL → invalid, ENOSYS and EOPNOTSUPP →
/// unsupported, ENOSPC, ENOMEM, EMFILE, EAGAIN → unavailable, ETIMEDOUT → timeout; everything else io.
ErrorKind kind_of_errno(int error_number);

template <typename T>
class [[nodiscard]] Result {
 public:
  using value_type = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}   // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  explicit operator bool() const { return state_.index() == 0; }
  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  T& value() & { return *std::get_if<0>(&state_); }
  const T& value() const& { return *std::get_if<0>(&state_); }
  T&& value() && { return std::move(*std::get_if<0>(&state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  Error& error() & { return *std::get_if<1>(&state_); }
  const Error& error() const& { return *std::get_if<1>(&state_); }
  Error&& error() && { return std::move(*std::get_if<1>(&state_)); }
  T value_or(T fallback) && { return ok() ? std::move(*this).value() : std::move(fallback); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using value_type = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  explicit operator bool() const { return !error_; }
  [[nodiscard]] bool ok() const { return !error_; }
  void value() && {}
  Error& error() & { return *error_; }
  const Error& error() const& { return *error_; }
  Error&& error() && { return std::move(*error_); }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

/// Drops a failure on purpose (cleanup paths, where the first error is the one to report). Say why at the call.
template <typename T>
void ignore(Result<T>&& /*result*/) {}

}  // namespace caisson

/// Evaluates to the value of EXPR, or returns its error from the enclosing function with "STEP: " in front.
/// Never inside aggregate braces or a co_await expression (measured traps of g++ 12 and clang 14: docs/style in CONTRIBUTING).
#define TRY(EXPR, STEP)                                              \
  __extension__({                                                    \
    auto try_result_ = (EXPR);                                       \
    if (!try_result_.ok()) return std::move(try_result_).error().in(STEP); \
    std::move(try_result_).value();                                  \
  })

/// The same without a step of its own, where the callee already names everything.
#define TRY_PLAIN(EXPR)                                              \
  __extension__({                                                    \
    auto try_result_ = (EXPR);                                       \
    if (!try_result_.ok()) return std::move(try_result_).error();    \
    std::move(try_result_).value();                                  \
  })
