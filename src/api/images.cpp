// /images: what is here, names, removal.
#include <algorithm>

#include "api/handlers.hpp"
#include "api/json_out.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"

namespace caisson::api {

namespace {

/// `reference=alp*:3.?`: Go's path.Match on the familiar name, with and without the tag. '*' stops at a slash.
bool glob_matches(std::string_view pattern, std::string_view text) {
  while (!pattern.empty()) {
    if (pattern[0] == '*') {
      for (std::size_t taken = 0;; ++taken) {
        if (glob_matches(pattern.substr(1), text.substr(taken))) return true;
        if (taken == text.size() || text[taken] == '/') return false;
      }
    }
    if (text.empty() || (pattern[0] == '?' ? text[0] == '/' : pattern[0] != text[0])) return false;
    pattern.remove_prefix(1);
    text.remove_prefix(1);
  }
  return text.empty();
}

bool reference_matches(std::string_view pattern, const image::Image& image) {
  return std::any_of(image.repo_tags.begin(), image.repo_tags.end(), [&](const std::string& tag) {
    return glob_matches(pattern, tag) || glob_matches(pattern, split_last(tag, ':').before);
  });
}

/// `before` and `since` name images. Errors: not_found.
Result<TimestampNs> created_of(Request& request, const Filters& filters, std::string_view key, TimestampNs fallback) {
  TimestampNs time = fallback;
  for (const auto& name : filters.get(key)) time = TRY_PLAIN(request.engine.inspect_image(request.caller, name)).image.created;
  return time;
}

}  // namespace

Status list_images(Request& request) {
  auto filters = TRY_PLAIN(Filters::parse(request.query.text("filters"), {"before", "dangling", "label", "reference", "since", "until"}));
  // `filter=NAME`: how clients before 1.24 asked.
  const std::string old_filter = request.query.text("filter");
  auto dangling = TRY_PLAIN(filters.boolean("dangling"));
  const auto before = TRY_PLAIN(created_of(request, filters, "before", 0));
  const auto since = TRY_PLAIN(created_of(request, filters, "since", 0));
  TimestampNs until = 0;
  for (const auto& text : filters.get("until")) until = TRY(parse_point_in_time(text, now_ns()), "invalid filter 'until'");
  auto images = TRY_PLAIN(request.engine.list_images(request.caller));
  std::stable_sort(images.begin(), images.end(), [](const auto& a, const auto& b) { return a.image.created > b.image.created; });
  const auto hidden = request.builder.hidden_images();
  const bool all = request.query.flag("all");
  json::array out;
  for (const auto& info : images) {
    const auto& image = info.image;
    if (!all && image.repo_tags.empty() && hidden.contains(image.id.text())) continue;
    if (dangling && *dangling != image.repo_tags.empty()) continue;
    if (before != 0 && image.created >= before) continue;
    if (since != 0 && image.created <= since) continue;
    if (until != 0 && image.created >= until) continue;
    if (!filters.labels("label", image.config.labels)) continue;
    const auto& references = filters.get("reference");
    if (!references.empty() && std::none_of(references.begin(), references.end(), [&](const auto& pattern) { return reference_matches(pattern, image); }))
      continue;
    if (!old_filter.empty() && !reference_matches(old_filter, image)) continue;
    out.push_back(image_summary_json(info, request.version < version_1_44));
  }
  return request.reply_json(200, out);
}

Status inspect_image(Request& request) {
  auto info = TRY_PLAIN(request.engine.inspect_image(request.caller, request.name));
  return request.reply_json(200, image_json(info, request.version < version_1_44));
}

Status show_history(Request& request) {
  auto info = TRY_PLAIN(request.engine.inspect_image(request.caller, request.name));
  const auto& image = info.image;
  json::array out;
  for (std::size_t i = image.history.size(); i-- > 0;) {
    const auto& entry = image.history[i];
    const bool top = i + 1 == image.history.size();
    // One layer has the whole size; of several, only their sum is known.
    const bool only_layer = image.diff_ids.size() == 1 && !entry.empty_layer;
    out.push_back(json::object{{"Comment", entry.comment},
                               {"Created", unix_seconds(entry.created)},
                               {"CreatedBy", entry.created_by},
                               {"Id", top ? image.id.text() : "<missing>"},
                               {"Size", only_layer ? image.size_bytes : 0},
                               {"Tags", top && !image.repo_tags.empty() ? json::value(texts(image.repo_tags)) : json::value(nullptr)}});
  }
  return request.reply_json(200, out);
}

Status tag_image(Request& request) {
  const std::string repo = request.query.text("repo");
  const std::string tag = request.query.text("tag");
  if (repo.empty()) return Error(ErrorKind::invalid, "query parameter repo is missing");
  TRY_PLAIN(request.engine.tag_image(request.caller, request.name, tag.empty() ? repo : concat(repo, ":", tag)));
  return request.reply_empty(201);
}

Status remove_image(Request& request) {
  auto removed = TRY_PLAIN(request.engine.remove_image(request.caller, request.name, request.query.flag("force")));
  json::array out;
  for (const auto& reference : removed.untagged) out.push_back(json::object{{"Untagged", reference}});
  for (const auto& id : removed.deleted) out.push_back(json::object{{"Deleted", id}});
  return request.reply_json(200, out);
}

Status prune_images(Request& request) {
  auto filters = TRY_PLAIN(Filters::parse(request.query.text("filters"), {"dangling", "label", "label!", "until"}));
  const bool dangling_only = TRY_PLAIN(filters.boolean("dangling")).value_or(true);
  TimestampNs until = 0;
  for (const auto& text : filters.get("until")) until = TRY(parse_point_in_time(text, now_ns()), "invalid filter 'until'");
  // What only the build cache needs is the cache's to remove.
  const auto hidden = request.builder.hidden_images();
  auto result = TRY_PLAIN(request.engine.prune_images(request.caller, [&](const engine::ImageInfo& info) {
    const auto& image = info.image;
    if (image.repo_tags.empty() && hidden.contains(image.id.text())) return false;
    const bool excluded = filters.has("label!") && filters.labels("label!", image.config.labels);
    return (!dangling_only || image.repo_tags.empty()) && (until == 0 || image.created < until) && filters.labels("label", image.config.labels) && !excluded;
  }));
  json::array deleted;
  for (const auto& image : result.images) {
    for (const auto& reference : image.untagged) deleted.push_back(json::object{{"Untagged", reference}});
    for (const auto& id : image.deleted) deleted.push_back(json::object{{"Deleted", id}});
  }
  return request.reply_json(200, json::object{{"ImagesDeleted", deleted.empty() ? json::value(nullptr) : json::value(std::move(deleted))},
                                              {"SpaceReclaimed", result.reclaimed_bytes}});
}

}  // namespace caisson::api
