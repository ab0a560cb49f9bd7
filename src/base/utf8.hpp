// UTF-8 as RFC 3629 has it: what JSON is made of, while file names, logs and request lines are any bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace caisson {

/// Length of the valid sequence at the start of `text`, 0 when there is none (no surrogates, no longer form than needed).
/// Precondition: `text` is not empty.
std::size_t utf8_sequence_size(std::string_view text) noexcept;

/// `text` with each byte that belongs to no valid sequence as U+FFFD, as Go's encoding/json writes it.
std::string valid_utf8(std::string text);

/// The character of that number, at most U+10FFFF and no surrogate: whoever reads escapes has checked that.
void append_utf8(std::string& out, std::uint32_t code);

}  // namespace caisson
