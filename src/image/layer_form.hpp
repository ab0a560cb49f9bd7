// layer_form: in which form layers leave the store, and at which level they are compressed for it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "image/image_store.hpp"
#include "image/inflate.hpp"

namespace caisson::image {

enum class LayerForm : std::uint8_t { uncompressed, gzip, zstd, zstd_chunked };
/// "uncompressed", "gzip", "zstd", "zstd:chunked".
std::string_view to_string(LayerForm form);
Compression compression_of(LayerForm form);

/// A wish that was checked.
struct FormPlan {
  LayerForm form = LayerForm::gzip;
  int level = 0;         ///< never "the usual one": a number, so that it can be remembered what came of it; 0 for uncompressed
  bool has_all = false;  ///< also layers that are compressed otherwise are made anew
};
/// `usual`: of a wish that names no format. Errors: invalid, naming the formats there are or the range of levels.
Result<FormPlan> plan_form(const CompressionWish& wish, LayerForm usual);

}  // namespace caisson::image
