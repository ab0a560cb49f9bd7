// Part after part; all but the check itself goes into the sum that it checks.
#include "image/gzip_header.hpp"

#include <algorithm>

#include "image/crc32.hpp"

namespace caisson::image {

namespace {

constexpr unsigned has_check = 0x02, has_extra = 0x04, has_name = 0x08, has_comment = 0x10, reserved = 0xe0;
constexpr unsigned deflated = 8;
constexpr std::size_t fixed_bytes = 10;

Error damaged(const char* what) { return {ErrorKind::corrupt, what}; }

}  // namespace

Result<bool> GzipHeader::read(std::string_view& input) {
  while (part_ != Part::whole) {
    if (input.empty()) return false;
    const auto before = input;
    const bool is_done = consume(input);
    if (part_ != Part::check) sum_ = crc32_of(sum_, before.substr(0, before.size() - input.size()));
    if (is_done) TRY_PLAIN(finish());
  }
  return true;
}

/// Takes what there is of the part; true: that was its end.
bool GzipHeader::consume(std::string_view& input) {
  switch (part_) {
    case Part::fixed: return collect(input, fixed_bytes);
    case Part::extra_size:
    case Part::check: return collect(input, 2);
    case Part::extra: {
      const auto taken = std::min(extra_left_, input.size());
      input.remove_prefix(taken);
      extra_left_ -= taken;
      return extra_left_ == 0;
    }
    case Part::name:
    case Part::comment: {
      const auto end = input.find('\0');
      input.remove_prefix(end == std::string_view::npos ? input.size() : end + 1);
      return end != std::string_view::npos;
    }
    case Part::whole: break;
  }
  return true;
}

bool GzipHeader::collect(std::string_view& input, std::size_t bytes) {
  const auto taken = std::min(bytes - collected_bytes_, input.size());
  std::copy_n(input.begin(), taken, collected_.begin() + static_cast<std::ptrdiff_t>(collected_bytes_));
  input.remove_prefix(taken);
  collected_bytes_ += taken;
  if (collected_bytes_ < bytes) return false;
  collected_bytes_ = 0;
  return true;
}

Status GzipHeader::finish() {
  switch (part_) {
    case Part::fixed:
      if (collected_number() != 0x8b1f) return damaged("incorrect header check");
      if (collected_[2] != deflated) return damaged("unknown compression method");
      flags_ = collected_[3];
      if ((flags_ & reserved) != 0) return damaged("unknown header flags set");
      break;
    case Part::extra_size:
      extra_left_ = collected_number();
      if (extra_left_ == 0) {
        begin_after(Part::extra);
        return {};
      }
      break;
    case Part::check:
      if (collected_number() != (sum_ & 0xffffU)) return damaged("header crc mismatch");
      break;
    default: break;
  }
  begin_after(part_);
  return {};
}

void GzipHeader::begin_after(Part part) {
  if (part == Part::extra_size) part_ = Part::extra;
  else if (part < Part::extra_size && (flags_ & has_extra) != 0) part_ = Part::extra_size;
  else if (part < Part::name && (flags_ & has_name) != 0) part_ = Part::name;
  else if (part < Part::comment && (flags_ & has_comment) != 0) part_ = Part::comment;
  else if (part < Part::check && (flags_ & has_check) != 0) part_ = Part::check;
  else part_ = Part::whole;
}

}  // namespace caisson::image
