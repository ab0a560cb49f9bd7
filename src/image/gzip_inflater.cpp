// Header, stream, trailer, padding, and round again, until a piece is full or the input has ended.
#include "image/gzip_inflater.hpp"

#include <algorithm>

#include "base/strings.hpp"
#include "image/crc32.hpp"

namespace caisson::image {

namespace {

std::uint32_t number_at(const unsigned char* bytes) {
  return static_cast<std::uint32_t>(bytes[0]) | static_cast<std::uint32_t>(bytes[1]) << 8U |
         static_cast<std::uint32_t>(bytes[2]) << 16U | static_cast<std::uint32_t>(bytes[3]) << 24U;
}

}  // namespace

Result<std::string_view> GzipInflater::next() {
  if (finished_) return std::string_view();
  decoder_.begin_piece();
  summed_ = 0;
  for (;;) {
    if (rest_.empty() && !TRY_PLAIN(refill())) {
      if (part_ != Part::padding) return Error(ErrorKind::corrupt, "gzip: unexpected end of data");
      finished_ = true;
      break;
    }
    if (TRY(advance(), "gzip")) break;
  }
  sum_up();
  return decoder_.piece();
}

Result<bool> GzipInflater::refill() {
  rest_ = TRY_PLAIN(input_.next());
  return !rest_.empty();
}

/// Goes on with what there is of the input. True: the piece is full.
Result<bool> GzipInflater::advance() {
  switch (part_) {
    case Part::header:
      if (!TRY_PLAIN(header_.read(rest_))) break;
      decoder_.begin_stream();
      sum_ = bytes_ = 0;
      part_ = Part::stream;
      break;
    case Part::stream: return decode();
    case Part::trailer: {
      const auto taken = std::min(trailer_.size() - trailer_bytes_, rest_.size());
      std::copy_n(rest_.begin(), taken, trailer_.begin() + static_cast<std::ptrdiff_t>(trailer_bytes_));
      rest_.remove_prefix(taken);
      trailer_bytes_ += taken;
      if (trailer_bytes_ < trailer_.size()) break;
      TRY_PLAIN(check_trailer());
      part_ = Part::padding;
      break;
    }
    case Part::padding:
      // Zeros are padding, the magic begins another member, all else is damage.
      rest_.remove_prefix(std::min(rest_.find_first_not_of('\0'), rest_.size()));
      if (rest_.empty()) break;
      if (rest_.front() != '\x1f') return Error(ErrorKind::corrupt, "bytes behind the end that are no gzip member");
      header_ = GzipHeader();
      part_ = Part::header;
      break;
  }
  return false;
}

Result<bool> GzipInflater::decode() {
  switch (TRY_PLAIN(decoder_.decode(rest_))) {
    case DeflateDecoder::Stop::input_used: return false;
    case DeflateDecoder::Stop::room_used: return true;
    case DeflateDecoder::Stop::stream_ended: break;
  }
  sum_up();
  trailer_bytes_ = 0;
  part_ = Part::trailer;
  return false;
}

Status GzipInflater::check_trailer() const {
  if (number_at(trailer_.data()) != sum_) return Error(ErrorKind::corrupt, "incorrect data check");
  if (number_at(trailer_.data() + 4) != bytes_) return Error(ErrorKind::corrupt, "incorrect length check");
  return {};
}

/// While the bytes are warm: once per piece and member.
void GzipInflater::sum_up() {
  const auto fresh = decoder_.piece().substr(summed_);
  sum_ = crc32_of(sum_, fresh);
  bytes_ += static_cast<std::uint32_t>(fresh.size());
  summed_ += fresh.size();
}

}  // namespace caisson::image
