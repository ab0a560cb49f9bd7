// CRC-32 of gzip (RFC 1952, section 8), by carry-less multiplication where the processor has it.
#pragma once

#include <cstdint>
#include <string_view>

namespace caisson::image {

/// The checksum of what `sum` is the checksum of (0: nothing), followed by `bytes`.
std::uint32_t crc32_of(std::uint32_t sum, std::string_view bytes);

}  // namespace caisson::image
