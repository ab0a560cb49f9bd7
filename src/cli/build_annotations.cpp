#include "cli/build_annotations.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "base/strings.hpp"
#include "image/manifest.hpp"

namespace caisson::cli {

namespace {

constexpr std::array levels = {"manifest", "index", "manifest-descriptor", "index-descriptor"};

/// "index", "manifest[linux/arm64]".
Result<Annotation> parse_level(std::string_view text) {
  Annotation out;
  const auto halves = split_once(text, '[');
  out.level = halves.before;
  if (std::find(levels.begin(), levels.end(), out.level) == levels.end()) return Error(ErrorKind::invalid, concat("\"", out.level, "\" is none of manifest, index, manifest-descriptor and index-descriptor"));
  if (!halves.found) return out;
  if (!halves.after.ends_with(']')) return Error(ErrorKind::invalid, concat("\"", text, "\": the platform's ] is missing"));
  if (out.level != "manifest") return Error(ErrorKind::invalid, concat("\"", text, "\": only a manifest is for one platform"));
  out.platform = image::platform_text(TRY_PLAIN(image::parse_platform(halves.after.substr(0, halves.after.size() - 1))));
  return out;
}

}  // namespace

Result<std::vector<Annotation>> parse_annotations(const std::vector<std::string>& texts) {
  std::vector<Annotation> out;
  for (const auto& text : texts) {
    const auto what = concat("--annotation ", text);
    std::string_view rest = text;
    std::vector<Annotation> of;
    if (const auto colon = rest.find(':'); colon != std::string_view::npos && colon < rest.find('=')) {
      for (auto level : split(rest.substr(0, colon), ',')) of.push_back(TRY(parse_level(level), what));
      rest.remove_prefix(colon + 1);
    } else {
      of.push_back({"manifest", "", "", ""});
    }
    const auto pair = split_once(rest, '=');
    if (!pair.found || pair.before.empty()) return Error(ErrorKind::invalid, concat(what, ": want key=value"));
    for (auto& annotation : of) {
      annotation.key = pair.before;
      annotation.value = pair.after;
      out.push_back(std::move(annotation));
    }
  }
  return out;
}

json::object manifest_annotations(const std::vector<Annotation>& annotations, const std::string& platform) {
  json::object out;
  for (const auto& annotation : annotations)
    if (annotation.level == "manifest" && (annotation.platform.empty() || annotation.platform == platform)) out[annotation.key] = annotation.value;
  return out;
}

json::object index_annotations(const std::vector<Annotation>& annotations) {
  json::object out;
  for (const auto& [level, member] : {std::pair("index", "index"), std::pair("manifest-descriptor", "manifests"), std::pair("index-descriptor", "entry")}) {
    json::object texts;
    for (const auto& annotation : annotations)
      if (annotation.level == level) texts[annotation.key] = annotation.value;
    if (!texts.empty()) out[member] = std::move(texts);
  }
  return out;
}

}  // namespace caisson::cli
