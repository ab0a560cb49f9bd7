// A compact binary form for plain structs: how plans and requests travel between our own processes.
// A struct names its fields once:  template <class C> void visit(C& c, Plan& p) { c(p.a); c(p.b); }
// and both Encoder and Decoder use that list. Little-endian, lengths as u32; the decoder checks every bound.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/result.hpp"

namespace caisson {

/// Specialised to true for a struct without padding whose visit() names all fields in their order: many at once are copied as they
/// lie in memory, which is the same bytes.
template <typename T>
inline constexpr bool is_encoded_as_it_lies = false;

class Encoder {
 public:
  template <typename T>
  void operator()(const T& value) {
    if constexpr (std::is_enum_v<T> || std::is_arithmetic_v<T>) {
      bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    } else if constexpr (std::is_same_v<T, std::string>) {
      (*this)(static_cast<std::uint32_t>(value.size()));
      bytes_ += value;
    } else {
      visit(*this, const_cast<T&>(value));  // visit takes T& so that one list of fields serves both directions
    }
  }
  template <typename T>
  void operator()(const std::vector<T>& items) {
    (*this)(static_cast<std::uint32_t>(items.size()));
    if constexpr (is_encoded_as_it_lies<T>) {
      static_assert(std::has_unique_object_representations_v<T>);
      bytes_.append(reinterpret_cast<const char*>(items.data()), items.size() * sizeof(T));
    } else {
      for (const auto& item : items) (*this)(item);
    }
  }
  template <typename T>
  void operator()(const std::optional<T>& value) {
    (*this)(static_cast<std::uint8_t>(value ? 1 : 0));
    if (value) (*this)(*value);
  }
  template <typename K, typename V>
  void operator()(const std::map<K, V>& items) {
    (*this)(static_cast<std::uint32_t>(items.size()));
    for (const auto& [key, value] : items) {
      (*this)(key);
      (*this)(value);
    }
  }
  std::string take() { return std::move(bytes_); }

 private:
  std::string bytes_;
};

/// Reads what Encoder wrote. After the first bad length everything reads as empty and ok() is false.
class Decoder {
 public:
  explicit Decoder(std::string_view bytes) : rest_(bytes) {}

  template <typename T>
  void operator()(T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      std::uint8_t byte = 0;
      (*this)(byte);
      value = byte != 0;
    } else if constexpr (std::is_enum_v<T> || std::is_arithmetic_v<T>) {
      if (rest_.size() < sizeof value) return fail();
      std::memcpy(&value, rest_.data(), sizeof value);
      rest_.remove_prefix(sizeof value);
    } else if constexpr (std::is_same_v<T, std::string>) {
      std::uint32_t size = 0;
      (*this)(size);
      if (rest_.size() < size) return fail();
      value.assign(rest_.data(), size);
      rest_.remove_prefix(size);
    } else {
      visit(*this, value);
    }
  }
  template <typename T>
  void operator()(std::vector<T>& items) {
    std::uint32_t count = 0;
    (*this)(count);
    items.clear();
    if constexpr (is_encoded_as_it_lies<T>) {
      if (rest_.size() / sizeof(T) < count) return fail();
      items.resize(count);
      if (count != 0) std::memcpy(items.data(), rest_.data(), count * sizeof(T));
      rest_.remove_prefix(count * sizeof(T));
    } else {
      for (std::uint32_t i = 0; i < count && ok_; ++i) (*this)(items.emplace_back());  // a lying count ends at the first missing byte
    }
  }
  template <typename T>
  void operator()(std::optional<T>& value) {
    std::uint8_t present = 0;
    (*this)(present);
    value.reset();
    if (present != 0 && ok_) (*this)(value.emplace());
  }
  template <typename K, typename V>
  void operator()(std::map<K, V>& items) {
    std::uint32_t count = 0;
    (*this)(count);
    items.clear();
    for (std::uint32_t i = 0; i < count && ok_; ++i) {
      K key{};
      (*this)(key);
      (*this)(items[key]);
    }
  }
  /// True when nothing was missing so far.
  [[nodiscard]] bool ok() const { return ok_; }
  /// True when everything was read and nothing is left.
  [[nodiscard]] bool complete() const { return ok_ && rest_.empty(); }

 private:
  void fail() {
    ok_ = false;
    rest_ = {};
  }
  std::string_view rest_;
  bool ok_ = true;
};

template <typename T>
std::string encode(const T& value) {
  Encoder encoder;
  encoder(value);
  return encoder.take();
}

/// Errors: corrupt, naming `what`.
template <typename T>
Result<T> decode(std::string_view bytes, std::string_view what) {
  T value{};
  Decoder decoder(bytes);
  decoder(value);
  if (!decoder.complete()) return Error(ErrorKind::corrupt, std::string(what) + ": message is cut off or has bytes left over");
  return value;
}

}  // namespace caisson
