// Docker's stream framing and the heads of hijacked answers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "api/request.hpp"

namespace caisson::api {

enum class StreamId : std::uint8_t { standard_input = 0, standard_output = 1, standard_error = 2 };

/// Appends one frame: stream number, three zero bytes, the length as big-endian u32, the payload.
void append_frame(std::string& out, StreamId stream, std::string_view payload);

/// "application/vnd.docker.multiplexed-stream" for framed streams of clients that know it (1.42), else "…raw-stream".
std::string_view stream_content_type(const Request& request, bool framed);

/// The head of a hijacked answer: 101 for a client that asked for an upgrade, else a 200 whose body lasts until the close.
std::string hijack_head(const Request& request, bool framed);
/// Hijacks with that head. For clients that would lose what comes together with it (docker-py, docker-sdk-python) it returns once they have read it.
Result<wire::Hijacked> hijack_stream(Request& request, bool framed);

}  // namespace caisson::api
