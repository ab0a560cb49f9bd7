// gzip (RFC 1952) as an Inflater: members one after the other around our own decoder of DEFLATE.
#pragma once

#include <array>
#include <cstdint>

#include "image/deflate_decoder.hpp"
#include "image/gzip_header.hpp"
#include "image/inflate.hpp"
#include "image/peeked_source.hpp"

namespace caisson::image {

class GzipInflater final : public Inflater {
 public:
  explicit GzipInflater(PeekedSource input) : input_(std::move(input)) {}
  Result<std::string_view> next() override;
  [[nodiscard]] Compression compression() const override { return Compression::gzip; }

 private:
  enum class Part : std::uint8_t { header, stream, trailer, padding };

  Result<bool> refill();
  Result<bool> advance();
  Result<bool> decode();
  Status check_trailer() const;
  void sum_up();

  PeekedSource input_;
  std::string_view rest_;  // of what input_ gave last
  Part part_ = Part::header;
  bool finished_ = false;
  GzipHeader header_;
  DeflateDecoder decoder_;
  std::uint32_t sum_ = 0;    // of the member, as far as it is summed up
  std::uint32_t bytes_ = 0;  // modulo 2^32, as its trailer has them
  std::size_t summed_ = 0;   // of the decoder's piece
  std::array<unsigned char, 8> trailer_{};
  std::size_t trailer_bytes_ = 0;
};

}  // namespace caisson::image
