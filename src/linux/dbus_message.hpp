// D-Bus messages as values and bytes (D-Bus specification 0.42, "Marshaling" and "Message Format"). Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace caisson::linux {

/// One complete value. Which member holds it says the first letter of its signature.
struct DbusValue {
  std::string signature;         ///< exactly one complete type: "s", "as", "a(sv)", "v"
  std::uint64_t number = 0;      ///< y b n q i u x t h; signed ones sign-extended; d by its bits
  std::string text;              ///< s o g
  std::vector<DbusValue> items;  ///< a: elements; ( and {: fields; v: the one value inside
  bool operator==(const DbusValue&) const = default;

  static DbusValue string(std::string text) { return {.signature = "s", .text = std::move(text)}; }
  static DbusValue boolean(bool value) { return {.signature = "b", .number = value ? 1U : 0U}; }
  static DbusValue uint32(std::uint32_t value) { return {.signature = "u", .number = value}; }
  static DbusValue uint64(std::uint64_t value) { return {.signature = "t", .number = value}; }
  static DbusValue variant(DbusValue inside);
  static DbusValue structure(std::vector<DbusValue> fields);
  /// `element` is the signature of one element; all items must have it.
  static DbusValue array(std::string_view element, std::vector<DbusValue> items);
  static DbusValue bytes(std::string_view bytes);
};

enum class DbusMessageType : std::uint8_t { call = 1, reply = 2, error = 3, signal = 4 };

struct DbusMessage {
  DbusMessageType type = DbusMessageType::call;
  std::uint8_t flags = 0;
  std::uint32_t serial = 0;
  std::uint32_t reply_serial = 0;
  std::string path;
  std::string interface;
  std::string member;
  std::string error_name;
  std::string destination;
  std::string sender;
  std::vector<DbusValue> body;
  bool operator==(const DbusMessage&) const = default;
};

/// A peer's message longer than this is refused; systemd's answers to what we ask are some hundred bytes.
inline constexpr std::size_t dbus_message_limit_bytes = 256U << 10U;
/// Of a message's fixed head, which tells its length.
inline constexpr std::size_t dbus_head_bytes = 16;

/// Little endian. Errors: invalid (a value that does not fit its signature, text with a NUL inside, nesting beyond 32).
Result<std::string> encode_dbus_message(const DbusMessage& message);
/// The whole length of the message that begins so. Errors: corrupt (no D-Bus head, or longer than the limit).
Result<std::size_t> dbus_message_size(std::string_view head);
/// Exactly one message, either byte order. Errors: corrupt. Never reads outside `bytes`; work and memory are bounded by its length.
Result<DbusMessage> decode_dbus_message(std::string_view bytes);
/// Length of the first complete type in a signature. Errors: invalid.
Result<std::size_t> dbus_type_length(std::string_view signature);

/// A value in GVariant's text form (GLib, "GVariant Text Format"): true, 'text', 5, uint64 5, byte 0x1f, ['a', 'b'], @as [],
/// ('a', 1), <'inside'>, objectpath '/x'. Dictionaries too: {'a': 1}. Errors: invalid, naming the place.
Result<DbusValue> parse_gvariant(std::string_view text);

}  // namespace caisson::linux
