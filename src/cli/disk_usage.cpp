// system df: what takes disk space, as sums or object by object.
#include "cli/disk_usage.hpp"

#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "cli/commands.hpp"
#include "cli/listing.hpp"
#include "cli/ps.hpp"

namespace caisson::cli {

namespace {

struct Usage {
  std::size_t total = 0;
  std::size_t active = 0;
  std::uint64_t size = 0;
  std::uint64_t reclaimable = 0;
  bool has_share = true;  ///< docker shows none for the build cache
};

Result<Usage> image_usage(const JsonView& view) {
  Usage usage;
  TRY_PLAIN(view.read("LayersSize", usage.size));
  JsonView images = TRY_PLAIN(view.at("Images"));
  std::uint64_t used = 0;
  TRY_PLAIN(images.for_each_element([&](const JsonView& image) -> Status {
    std::int64_t containers = 0;
    std::int64_t shared = 0;
    std::int64_t size = 0;
    TRY_PLAIN(image.read("Containers", containers));
    TRY_PLAIN(image.read("SharedSize", shared));
    TRY_PLAIN(image.read("Size", size));
    ++usage.total;
    if (containers > 0) {
      ++usage.active;
      used += static_cast<std::uint64_t>(std::max<std::int64_t>(0, size - std::max<std::int64_t>(shared, 0)));
    }
    return {};
  }));
  usage.reclaimable = usage.size > used ? usage.size - used : 0;
  TRY_PLAIN(view.read("LayersReclaimable", usage.reclaimable));  // our daemon knows; of others it is reckoned, as docker does
  return usage;
}

Result<Usage> container_usage(const JsonView& view) {
  Usage usage;
  JsonView containers = TRY_PLAIN(view.at("Containers"));
  TRY_PLAIN(containers.for_each_element([&](const JsonView& container) -> Status {
    std::string state;
    std::uint64_t size = 0;
    TRY_PLAIN(container.read("State", state));
    TRY_PLAIN(container.read("SizeRw", size));
    ++usage.total;
    usage.size += size;
    bool is_active = state == "running" || state == "paused" || state == "restarting";
    if (is_active) ++usage.active;
    else usage.reclaimable += size;
    return {};
  }));
  return usage;
}

Result<Usage> volume_usage(const JsonView& view) {
  Usage usage;
  JsonView volumes = TRY_PLAIN(view.at("Volumes"));
  TRY_PLAIN(volumes.for_each_element([&](const JsonView& volume) -> Status {
    JsonView data = TRY_PLAIN(volume.at("UsageData"));
    std::int64_t links = 0;
    std::int64_t size = 0;
    TRY_PLAIN(data.read("RefCount", links));
    TRY_PLAIN(data.read("Size", size));
    auto bytes = static_cast<std::uint64_t>(std::max<std::int64_t>(size, 0));
    ++usage.total;
    usage.size += bytes;
    if (links > 0) ++usage.active;
    else usage.reclaimable += bytes;
    return {};
  }));
  return usage;
}

Row usage_row(std::string_view type, const Usage& usage) {
  Row row;
  row.fields["Active"] = concat(usage.active);
  std::uint64_t share = usage.size == 0 ? 0 : usage.reclaimable * 100 / usage.size;
  row.fields["Reclaimable"] = usage.size == 0 ? four_digit_size(0) : concat(four_digit_size(usage.reclaimable), usage.has_share ? concat(" (", share, "%)") : "");
  row.fields["Size"] = four_digit_size(usage.size);
  row.fields["TotalCount"] = concat(usage.total);
  row.fields["Type"] = type;
  return row;
}

constexpr std::array usage_columns = {Column{"Type", "TYPE"}, Column{"TotalCount", "TOTAL"}, Column{"Active", "ACTIVE"}, Column{"Size", "SIZE"}, Column{"Reclaimable", "RECLAIMABLE"}};

// What is shared with an image is counted there.
Result<Usage> cache_usage(const JsonView& view) {
  Usage usage;
  usage.has_share = false;
  JsonView entries = TRY_PLAIN(view.at("BuildCache"));
  TRY_PLAIN(entries.for_each_element([&](const JsonView& entry) -> Status {
    bool in_use = false;
    bool shared = false;
    std::uint64_t size = 0;
    TRY_PLAIN(entry.read("InUse", in_use));
    TRY_PLAIN(entry.read("Shared", shared));
    TRY_PLAIN(entry.read("Size", size));
    ++usage.total;
    if (in_use) ++usage.active;
    if (shared) return {};
    usage.size += size;
    if (!in_use) usage.reclaimable += size;
    return {};
  }));
  return usage;
}

std::string age_of(TimestampNs time, TimestampNs now) { return concat(human_duration(now - time), " ago"); }

// "-1" is docker's "not known".
std::string known_size(std::int64_t bytes) { return bytes < 0 ? "N/A" : four_digit_size(static_cast<std::uint64_t>(bytes)); }

Result<Row> image_row(const JsonView& image, TimestampNs now, bool no_trunc) {
  constexpr std::int64_t second_ns = 1'000'000'000;
  std::string id;
  std::vector<std::string> tags;
  std::int64_t created = 0;
  std::int64_t size = 0;
  std::int64_t shared = 0;
  std::int64_t containers = 0;
  TRY_PLAIN(image.read("Id", id));
  TRY_PLAIN(image.read("RepoTags", tags));
  TRY_PLAIN(image.read("Created", created));
  TRY_PLAIN(image.read("Size", size));
  TRY_PLAIN(image.read("SharedSize", shared));
  TRY_PLAIN(image.read("Containers", containers));
  const std::string tag = tags.empty() ? "<none>:<none>" : tags[0];
  const auto colon = tag.rfind(':');
  Row row;
  row.fields = {{"Repository", tag.substr(0, colon)},
                {"Tag", tag.substr(colon + 1)},
                {"ID", no_trunc ? id : short_id(id)},
                {"CreatedAt", list_time(created * second_ns)},
                {"CreatedSince", age_of(created * second_ns, now)},
                {"Size", size < 0 ? "N/A" : human_size(static_cast<std::uint64_t>(size))},
                {"SharedSize", known_size(shared)},
                {"UniqueSize", known_size(size - std::max<std::int64_t>(shared, 0))},
                {"Containers", containers < 0 ? "N/A" : concat(containers)}};
  return row;
}

Result<Row> container_usage_row(const JsonView& container, TimestampNs now, bool no_trunc) {
  std::int64_t size = 0;
  TRY_PLAIN(container.read("SizeRw", size));
  Row row = TRY_PLAIN(container_row(container, now, no_trunc));
  row.fields["Size"] = size < 0 ? "N/A" : human_size(static_cast<std::uint64_t>(size));  // without the image's
  return row;
}

Result<Row> volume_usage_row(const JsonView& volume) {
  std::int64_t links = -1;
  std::int64_t size = -1;
  std::string name;
  JsonView usage = TRY_PLAIN(volume.at("UsageData"));
  TRY_PLAIN(usage.read("RefCount", links));
  TRY_PLAIN(usage.read("Size", size));
  TRY_PLAIN(volume.read("Name", name));
  Row row;
  row.fields = {{"Name", name}, {"Links", links < 0 ? "N/A" : concat(links)}, {"Size", known_size(size)}};
  return row;
}

}  // namespace

Result<Row> cache_row(const JsonView& entry, TimestampNs now, bool no_trunc) {
  Row row;
  std::string id;
  std::string text;
  std::int64_t size = 0;
  std::int64_t uses = 0;
  bool shared = false;
  bool in_use = false;
  TRY_PLAIN(entry.read("ID", id));
  TRY_PLAIN(entry.read("Size", size));
  TRY_PLAIN(entry.read("UsageCount", uses));
  TRY_PLAIN(entry.read("Shared", shared));
  TRY_PLAIN(entry.read("InUse", in_use));
  row.fields = {{"ID", no_trunc ? id : id.substr(0, 12)}, {"Size", known_size(size)}, {"UsageCount", concat(uses)}, {"Shared", shared ? "true" : "false"}, {"InUse", in_use ? "true" : "false"}};
  for (const auto& [field, key] : {std::pair{"CacheType", "Type"}, std::pair{"Description", "Description"}, std::pair{"Parent", "Parent"}}) {
    text.clear();
    TRY_PLAIN(entry.read(key, text));
    row.fields[field] = text;
  }
  for (const auto& [field, key] : {std::pair{"CreatedSince", "CreatedAt"}, std::pair{"LastUsedSince", "LastUsedAt"}}) {
    text.clear();
    TRY_PLAIN(entry.read(key, text));
    auto time = parse_rfc3339(text);
    row.fields[field] = time.ok() ? age_of(*time, now) : "";
  }
  return row;
}

namespace {

struct Section {
  std::string_view name;   ///< what templates call it
  std::string title;
  std::string_view table;
  std::span<const Column> columns;
  std::vector<Row> rows;
};

constexpr std::array image_columns = {Column{"Repository", "REPOSITORY"}, Column{"Tag", "TAG"}, Column{"ID", "IMAGE ID"}, Column{"CreatedAt", "CREATED AT"}, Column{"CreatedSince", "CREATED"},
                                      Column{"Size", "SIZE"}, Column{"SharedSize", "SHARED SIZE"}, Column{"UniqueSize", "UNIQUE SIZE"}, Column{"Containers", "CONTAINERS"}};
constexpr std::array volume_columns = {Column{"Name", "VOLUME NAME"}, Column{"Links", "LINKS"}, Column{"Size", "SIZE"}};
constexpr std::array cache_columns = {Column{"ID", "CACHE ID"}, Column{"CacheType", "CACHE TYPE"}, Column{"Size", "SIZE"}, Column{"CreatedSince", "CREATED"}, Column{"LastUsedSince", "LAST USED"},
                                      Column{"UsageCount", "USAGE"}, Column{"Shared", "SHARED"}};

// `no_trunc`: as templates and JSON see it.
Result<std::vector<Section>> sections_of(const JsonView& view, bool no_trunc) {
  const TimestampNs now = now_ns();
  std::vector<Section> out;
  out.push_back({"Images", "Images space usage:", "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}", image_columns, {}});
  out.push_back({"Containers", "Containers space usage:", "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}", container_columns(), {}});
  out.push_back({"Volumes", "Local Volumes space usage:", "{{.Name}}\t{{.Links}}\t{{.Size}}", volume_columns, {}});
  out.push_back({"BuildCache", concat("Build cache usage: ", four_digit_size(TRY_PLAIN(cache_usage(view)).size)),
                 "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}", cache_columns, {}});
  for (auto& section : out) {
    JsonView list = TRY_PLAIN(view.at(section.name));
    TRY_PLAIN(list.for_each_element([&](const JsonView& item) -> Status {
      if (section.name == "Images") section.rows.push_back(TRY_PLAIN(image_row(item, now, no_trunc)));
      else if (section.name == "Containers") section.rows.push_back(TRY_PLAIN(container_usage_row(item, now, no_trunc)));
      else if (section.name == "Volumes") section.rows.push_back(TRY_PLAIN(volume_usage_row(item)));
      else section.rows.push_back(TRY_PLAIN(cache_row(item, now, no_trunc)));
      return {};
    }));
  }
  return out;
}

// The objects behind the sums: one table each, or all of them as one object for a template.
Status print_details(Output& out, const JsonView& view, std::string_view format) {
  const bool is_template = !format.empty() && format != "table";
  auto sections = TRY_PLAIN(sections_of(view, is_template));
  if (is_template) {
    json::object all;
    for (const auto& section : sections) {
      json::array rows;
      for (const auto& row : section.rows) rows.emplace_back(row.fields);
      all[section.name] = std::move(rows);
    }
    return print_document(out, json::value(std::move(all)), format);
  }
  bool is_first = true;
  for (const auto& section : sections) {
    if (!is_first) out.line("");
    is_first = false;
    out.line(section.title);
    out.line("");
    ListFormat list;
    list.columns = section.columns;
    list.table = section.table;
    TRY_PLAIN(print_list(out, list, section.rows));
  }
  return {};
}

}  // namespace

Result<int> show_disk_usage(Session& session, const Invocation& invocation) {
  auto document = TRY_PLAIN(session.get("/system/df"));
  JsonView view(document);
  if (invocation.flag("verbose")) {
    TRY_PLAIN(print_details(session.out(), view, invocation.text("format")));
    return 0;
  }
  std::vector<Row> rows;
  rows.push_back(usage_row("Images", TRY_PLAIN(image_usage(view))));
  rows.push_back(usage_row("Containers", TRY_PLAIN(container_usage(view))));
  rows.push_back(usage_row("Local Volumes", TRY_PLAIN(volume_usage(view))));
  rows.push_back(usage_row("Build Cache", TRY_PLAIN(cache_usage(view))));
  ListFormat list;
  list.columns = usage_columns;
  list.table = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
  list.format = invocation.text("format");
  TRY_PLAIN(print_list(session.out(), list, rows));
  return 0;
}

}  // namespace caisson::cli
