// Event formats and pages of the kernel's ring buffer.
#include "linux/trace_page.hpp"

#include <cstring>
#include <optional>

#include "base/strings.hpp"

namespace caisson::linux {

namespace {

constexpr std::size_t header_size = 16;  // u64 time stamp, local_t commit
constexpr std::uint64_t missed_flag = 1U << 31U;
constexpr std::uint64_t length_mask = 0xfffff;  // above it are flags
constexpr std::uint32_t padding = 29;
constexpr std::uint32_t time_extend = 30;
constexpr std::uint32_t time_stamp = 31;
constexpr unsigned delta_bits = 27;

template <typename T>
std::optional<T> number_at(std::string_view bytes, std::size_t offset) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T)) return std::nullopt;
  T value{};
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

/// "offset:8;" → 8.
std::optional<std::uint64_t> part_of(std::string_view line, std::string_view key) {
  const auto at = line.find(key);
  if (at == std::string_view::npos) return std::nullopt;
  auto rest = line.substr(at + key.size());
  auto number = parse_integer<std::uint64_t>(rest.substr(0, rest.find(';')));
  return number ? std::optional(*number) : std::nullopt;
}

}  // namespace

Result<TraceFormat> parse_trace_format(std::string_view text) {
  TraceFormat format;
  for (auto line : split(text, '\n')) {
    line = trim(line);
    if (line.starts_with("ID:")) {
      auto id = parse_integer<std::uint16_t>(trim(line.substr(3)));
      if (!id) return Error(ErrorKind::corrupt, concat("trace event: \"", line, "\" is no number of an event"));
      format.id = *id;
      continue;
    }
    if (!line.starts_with("field:")) continue;
    auto declaration = line.substr(6, line.find(';') - 6);
    const auto name_at = declaration.find_last_of(" *");
    const auto name = name_at == std::string_view::npos ? declaration : declaration.substr(name_at + 1);
    const auto offset = part_of(line, "offset:");
    const auto size = part_of(line, "size:");
    if (name.empty() || name.ends_with(']') || !offset || !size || *offset > 4096 || (*size != 1 && *size != 2 && *size != 4 && *size != 8)) continue;
    format.fields.insert_or_assign(std::string(name), TraceField{static_cast<std::uint16_t>(*offset), static_cast<std::uint8_t>(*size), part_of(line, "signed:").value_or(0) != 0});
  }
  if (format.id == 0 || !format.fields.contains("common_pid")) return Error(ErrorKind::corrupt, "trace event: its format has no number, or does not say where the thread stands");
  return format;
}

Result<std::int64_t> trace_number(const TraceRecord& record, const TraceField& field) {
  auto read = [&]<typename Signed, typename Unsigned>(Signed, Unsigned) -> Result<std::int64_t> {
    auto value = number_at<Unsigned>(record.bytes, field.offset);
    if (!value) return Error(ErrorKind::corrupt, "trace event: shorter than its format says");
    return field.is_signed ? static_cast<std::int64_t>(static_cast<Signed>(*value)) : static_cast<std::int64_t>(*value);
  };
  switch (field.size) {
    case 1: return read(std::int8_t{}, std::uint8_t{});
    case 2: return read(std::int16_t{}, std::uint16_t{});
    case 4: return read(std::int32_t{}, std::uint32_t{});
    default: return read(std::int64_t{}, std::uint64_t{});
  }
}

Result<TracePage> parse_trace_page(std::string_view page) {
  const Error broken(ErrorKind::corrupt, "trace buffer: a length leads out of its page");
  auto time = number_at<std::uint64_t>(page, 0);
  auto commit = number_at<std::uint64_t>(page, 8);
  if (!time || !commit) return broken;
  TracePage out;
  out.has_lost = (*commit & missed_flag) != 0;
  const std::size_t size = *commit & length_mask;
  if (size > page.size() - header_size) return broken;
  const auto data = page.substr(header_size, size);
  std::uint64_t now = *time;
  for (std::size_t at = 0; at + 4 <= data.size();) {
    const std::uint32_t head = *number_at<std::uint32_t>(data, at);
    const std::uint32_t kind = head & 31U;
    const std::uint64_t delta = head >> 5U;
    at += 4;
    if (kind == time_extend || kind == time_stamp) {
      auto high = number_at<std::uint32_t>(data, at);
      if (!high) return broken;
      const std::uint64_t full = (std::uint64_t{*high} << delta_bits) + delta;
      now = kind == time_extend ? now + full : (now & ~((std::uint64_t{1} << (delta_bits + 32)) - 1)) | full;  // the stamp has the lower 59 bits
      at += 4;
      continue;
    }
    std::size_t length = std::size_t{kind} * 4;
    if (kind == 0 || kind == padding) {
      if (kind == padding && delta == 0) break;  // nothing more on this page
      auto written = number_at<std::uint32_t>(data, at);
      if (!written || *written < 4) return broken;
      length = *written - 4;  // the length counts itself
      at += 4;
    }
    if (length > data.size() - at) return broken;
    now += delta;
    if (kind != padding) {
      auto id = number_at<std::uint16_t>(data.substr(at, length), 0);
      if (!id) return broken;
      out.records.push_back({now, *id, std::string(data.substr(at, length))});
    }
    at += length;
  }
  return out;
}

}  // namespace caisson::linux
