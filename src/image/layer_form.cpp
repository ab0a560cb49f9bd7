// Formats by name, and their levels.
#include "image/layer_form.hpp"

#include <zstd.h>

#include <array>

#include "base/strings.hpp"

namespace caisson::image {

namespace {

constexpr std::array all_forms = {LayerForm::uncompressed, LayerForm::gzip, LayerForm::zstd, LayerForm::zstd_chunked};

struct Levels {
  int least;
  int most;
  int usual;
};

Levels levels_of(LayerForm form) {
  // libdeflate's 4 makes layers 1.4 to 2.4 % larger than zlib's 6 does, in less than a third of its time; its 5 makes them as small in two fifths, and is below the
  // 100 MB/s that are promised (SPECIFICATION.md).
  if (form == LayerForm::gzip) return {1, 12, 4};
  return {1, ZSTD_maxCLevel(), ZSTD_CLEVEL_DEFAULT};
}

}  // namespace

std::string_view to_string(LayerForm form) {
  switch (form) {
    case LayerForm::uncompressed: return "uncompressed";
    case LayerForm::gzip: return "gzip";
    case LayerForm::zstd: return "zstd";
    case LayerForm::zstd_chunked: return "zstd:chunked";
  }
  return "";
}

Compression compression_of(LayerForm form) {
  if (form == LayerForm::uncompressed) return Compression::none;
  return form == LayerForm::gzip ? Compression::gzip : Compression::zstd;
}

Result<FormPlan> plan_form(const CompressionWish& wish, LayerForm usual) {
  FormPlan plan;
  plan.form = usual;
  plan.has_all = wish.has_all;
  if (!wish.format.empty()) {
    bool is_known = false;
    for (const auto form : all_forms) {
      if (to_string(form) != wish.format) continue;
      plan.form = form;
      is_known = true;
    }
    if (!is_known) return Error(ErrorKind::invalid, concat("layers have no form \"", wish.format, "\": gzip, zstd, zstd:chunked and uncompressed are the ones they can leave in"));
  }
  if (plan.form == LayerForm::uncompressed) {
    if (wish.level) return Error(ErrorKind::invalid, "a compression level does not go with layers that are to be uncompressed");
    return plan;
  }
  const auto levels = levels_of(plan.form);
  if (wish.level && (*wish.level < levels.least || *wish.level > levels.most))
    return Error(ErrorKind::invalid, concat("compression level ", *wish.level, " is out of range: ", to_string(plan.form), " has the levels ", levels.least, " to ", levels.most));
  plan.level = static_cast<int>(wish.level.value_or(levels.usual));
  return plan;
}

}  // namespace caisson::image
