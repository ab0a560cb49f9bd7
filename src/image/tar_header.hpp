// Fields of a 512-byte tar header block and the records of a PAX extension: pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "image/tar.hpp"

namespace caisson::image {

using TarBlock = std::string_view;  ///< exactly 512 bytes

/// Offsets and lengths of POSIX.1-1988 (ustar) and of GNU's and star's variants, from their manuals.
struct TarField {
  std::size_t offset;
  std::size_t length;
};
namespace tar_field {
constexpr TarField name{0, 100};
constexpr TarField mode{100, 8};
constexpr TarField uid{108, 8};
constexpr TarField gid{116, 8};
constexpr TarField size{124, 12};
constexpr TarField mtime{136, 12};
constexpr TarField checksum{148, 8};
constexpr TarField type{156, 1};
constexpr TarField link{157, 100};
constexpr TarField magic{257, 8};  // with the version
constexpr TarField device_major{329, 8};
constexpr TarField device_minor{337, 8};
constexpr TarField prefix{345, 155};
constexpr TarField star_prefix{345, 131};
constexpr TarField star_trailer{508, 4};
constexpr TarField gnu_sparse{386, 96};
constexpr TarField gnu_is_extended{482, 1};
constexpr TarField gnu_real_size{483, 12};
constexpr TarField gnu_more_sparse{0, 504};
constexpr TarField gnu_more_is_extended{504, 1};
}  // namespace tar_field

enum class TarFlavour : std::uint8_t { v7, ustar, star, gnu };

inline std::string_view raw_field(TarBlock block, TarField field) { return block.substr(field.offset, field.length); }
/// Up to the first NUL.
std::string_view text_field(TarBlock block, TarField field);
/// Octal with blanks around, or GNU's base-256. Errors: invalid.
Result<std::int64_t> number_field(TarBlock block, TarField field, std::string_view name);
bool is_zero_block(TarBlock block);
/// Sums of unsigned and of signed bytes are both in use (old SunOS).
bool has_right_checksum(TarBlock block);
TarFlavour flavour_of(TarBlock block);

/// "LENGTH KEY=VALUE\n" records. Errors: invalid.
Status parse_pax_records(std::string_view text, std::vector<std::pair<std::string, std::string>>& out);

/// "1700000000.25" → seconds and nanoseconds, rounding down for negative times. Errors: invalid.
Status parse_pax_time(std::string_view text, std::int64_t& seconds, std::uint32_t& nanoseconds);

}  // namespace caisson::image
