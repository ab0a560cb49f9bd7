// Varints and length-delimited fields.
#include "runtime/protobuf.hpp"

#include <optional>

#include "base/strings.hpp"

namespace caisson::runtime {

namespace {

constexpr unsigned int wire_varint = 0;
constexpr unsigned int wire_fixed64 = 1;
constexpr unsigned int wire_bytes = 2;
constexpr unsigned int wire_fixed32 = 5;

std::optional<std::uint64_t> take_varint(std::string_view& text) {
  std::uint64_t value = 0;
  for (unsigned int shift = 0; shift < 64 && !text.empty(); shift += 7) {
    const auto byte = static_cast<unsigned char>(text[0]);
    text.remove_prefix(1);
    value |= static_cast<std::uint64_t>(byte & 0x7fU) << shift;
    if ((byte & 0x80U) == 0) return value;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> take_fixed(std::string_view& text, std::size_t size) {
  if (text.size() < size) return std::nullopt;
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i) value |= static_cast<std::uint64_t>(static_cast<unsigned char>(text[i])) << (8 * i);
  text.remove_prefix(size);
  return value;
}

std::optional<ProtobufField> take_field(std::string_view& text) {
  const auto key = take_varint(text);
  if (!key || (*key >> 3U) == 0 || (*key >> 3U) > 0x1fffffffU) return std::nullopt;
  ProtobufField field;
  field.number = static_cast<std::uint32_t>(*key >> 3U);
  std::optional<std::uint64_t> value;
  switch (*key & 7U) {
    case wire_varint: value = take_varint(text); break;
    case wire_fixed64: value = take_fixed(text, 8); break;
    case wire_fixed32: value = take_fixed(text, 4); break;
    case wire_bytes:
      value = take_varint(text);
      if (!value || *value > text.size()) return std::nullopt;
      field.bytes = text.substr(0, *value);
      text.remove_prefix(*value);
      break;
    default: return std::nullopt;
  }
  if (!value) return std::nullopt;
  field.value = *value;
  return field;
}

}  // namespace

void ProtobufWriter::varint(std::uint64_t value) {
  for (; value >= 0x80U; value >>= 7U) out_ += static_cast<char>((value & 0x7fU) | 0x80U);
  out_ += static_cast<char>(value);
}

void ProtobufWriter::number(std::uint32_t field, std::int64_t value) {
  varint(std::uint64_t{field} << 3U | wire_varint);
  varint(static_cast<std::uint64_t>(value));
}

void ProtobufWriter::bytes(std::uint32_t field, std::string_view value) {
  varint(std::uint64_t{field} << 3U | wire_bytes);
  varint(value.size());
  out_ += value;
}

Result<std::vector<ProtobufField>> read_protobuf(std::string_view text) {
  std::vector<ProtobufField> out;
  while (!text.empty()) {
    auto field = take_field(text);
    if (!field) return Error(ErrorKind::corrupt, "protobuf: a field is cut off or malformed");
    out.push_back(*field);
  }
  return out;
}

}  // namespace caisson::runtime
