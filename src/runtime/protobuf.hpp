// The wire form of Protocol Buffers, as much of it as CRIU's RPC needs: varints and length-delimited fields.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace caisson::runtime {

/// Appends fields in the order of the calls (protobuf.dev, "Encoding").
class ProtobufWriter {
 public:
  /// int32, int64, uint32, enum: negative numbers take ten bytes, as the specification wants it.
  void number(std::uint32_t field, std::int64_t value);
  void flag(std::uint32_t field, bool value) { number(field, value ? 1 : 0); }
  /// string, bytes, or an embedded message's bytes.
  void bytes(std::uint32_t field, std::string_view value);
  void message(std::uint32_t field, const ProtobufWriter& value) { bytes(field, value.text()); }
  [[nodiscard]] const std::string& text() const { return out_; }

 private:
  void varint(std::uint64_t value);
  std::string out_;
};

struct ProtobufField {
  std::uint32_t number = 0;
  std::uint64_t value = 0;  ///< of a varint or fixed field
  std::string_view bytes;   ///< of a length-delimited one; points into the text
};
/// All fields in order. Errors: corrupt, for a text that is cut off or holds a wire type that nobody uses any more (groups).
Result<std::vector<ProtobufField>> read_protobuf(std::string_view text);

}  // namespace caisson::runtime
