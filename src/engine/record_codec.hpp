// How records become JSON in the store and back: a struct names its fields once and both directions use that list.
// Zero values are not written; an absent field reads as zero. Enums are written as numbers, so their order is append-only.
#pragma once

#include <concepts>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"

namespace caisson::engine {

class RecordWriter;
class RecordReader;

template <class T>
json::value to_record_value(const T& value);
template <class T>
Status from_record_value(const JsonView& view, T& out);

namespace detail {
template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <class T>
concept Scalar = std::is_arithmetic_v<T> || std::is_enum_v<T>;
template <class T>
concept Sized = requires(const T& value) { value.empty(); };

template <class T>
bool is_zero(const T& value) {
  if constexpr (Scalar<T>) return value == T{};
  else if constexpr (IsOptional<T>::value) return !value.has_value();
  else if constexpr (Sized<T>) return value.empty();
  else return false;
}
}  // namespace detail

/// Collects the fields of one struct.
class RecordWriter {
 public:
  template <class T>
  void operator()(std::string_view key, const T& value) {
    if (!detail::is_zero(value)) object_.insert_or_assign(key, to_record_value(value));
  }
  json::object take() { return std::move(object_); }

 private:
  json::object object_;
};

/// Fills the fields of one struct; the first error stays.
class RecordReader {
 public:
  explicit RecordReader(const JsonView& view) : view_(view) {}
  template <class T>
  void operator()(std::string_view key, T& out) {
    out = T{};
    if (!status_.ok()) return;
    auto member = view_.at(key);
    status_ = member.ok() ? from_record_value(*member, out) : Status(std::move(member).error());
  }
  Status take() { return std::move(status_); }

 private:
  const JsonView& view_;
  Status status_;
};

template <class T>
json::value to_record_value(const T& value) {
  if constexpr (std::is_enum_v<T>) {
    return static_cast<std::int64_t>(value);
  } else if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
    return json::value(value);
  } else if constexpr (detail::IsVector<T>::value) {
    json::array items;
    items.reserve(value.size());
    for (const auto& item : value) items.push_back(to_record_value(item));
    return items;
  } else if constexpr (detail::IsOptional<T>::value) {
    return to_record_value(*value);
  } else if constexpr (std::is_same_v<T, std::map<std::string, std::string>>) {
    json::object members;
    for (const auto& [key, text] : value) members.emplace(key, text);
    return members;
  } else {
    RecordWriter writer;
    fields(writer, const_cast<T&>(value));  // fields takes T& so that one list serves both directions
    return writer.take();
  }
}

template <class T>
Status from_record_value(const JsonView& view, T& out) {
  if (!view.is_set()) return {};
  if constexpr (std::is_enum_v<T>) {
    std::int64_t number = 0;
    TRY_PLAIN(view.read(number));
    out = static_cast<T>(number);
    return {};
  } else if constexpr (detail::IsVector<T>::value) {
    return view.for_each_element([&](const JsonView& element) -> Status { return from_record_value(element, out.emplace_back()); });
  } else if constexpr (detail::IsOptional<T>::value) {
    return from_record_value(view, out.emplace());
  } else if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string> || std::is_same_v<T, std::map<std::string, std::string>>) {
    return view.read(out);
  } else {
    RecordReader reader(view);
    fields(reader, out);
    return reader.take();
  }
}

}  // namespace caisson::engine
