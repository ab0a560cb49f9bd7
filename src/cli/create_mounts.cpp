// --mount and -v.
#include <array>
#include <optional>

#include "base/strings.hpp"
#include "cli/create_body.hpp"
#include "cli/parse.hpp"

namespace caisson::cli {

namespace {

Error bad(std::string text) { return {ErrorKind::invalid, std::move(text)}; }

Error mount_error(std::string_view spec, std::string_view why) { return bad_value("mount", spec, why); }

// One --mount while its fields are read; options are sorted into their group, which must match the type at the end.
struct MountFields {
  std::string type = "volume";
  std::string source;
  std::string target;
  bool read_only = false;
  std::string consistency;
  std::string bind_recursive;
  json::object bind;
  json::object volume;
  json::object driver;
  json::object tmpfs;
};

json::object& child(json::object& parent, std::string_view key) {
  json::value& value = parent[key];
  if (!value.is_object()) value = json::object();
  return value.get_object();
}

Result<bool> read_bool(std::string_view spec, std::string_view key, std::string_view value, bool has_value) {
  if (!has_value) return true;
  auto parsed = parse_bool(value);
  if (!parsed) return mount_error(spec, concat("invalid value for ", key, ": ", value));
  return *parsed;
}

// tmpfs-mode is octal.
Result<std::int64_t> read_mode(std::string_view spec, std::string_view value) {
  auto parsed = parse_integer<std::uint32_t>(value, 8);
  if (!parsed.ok()) return mount_error(spec, concat("invalid value for tmpfs-mode: ", value));
  return static_cast<std::int64_t>(*parsed);
}

Status read_volume_field(MountFields& out, std::string_view spec, std::string_view key, std::string_view value, bool has_value) {
  if (key == "volume-nocopy") {
    out.volume["NoCopy"] = TRY_PLAIN(read_bool(spec, key, value, has_value));
  } else if (key == "volume-subpath") {
    out.volume["Subpath"] = value;
  } else if (key == "volume-driver") {
    out.driver["Name"] = value;
  } else {
    auto pair = split_once(value, '=');
    (key == "volume-label" ? child(out.volume, "Labels") : child(out.driver, "Options"))[pair.before] = pair.after;
  }
  return {};
}

Status read_field(MountFields& out, std::string_view spec, std::string_view field) {
  auto halves = split_once(field, '=');
  std::string key = lower(halves.before);
  std::string_view value = halves.after;
  bool may_be_bare = key == "readonly" || key == "ro" || key == "volume-nocopy" || key == "bind-nonrecursive";
  if (!halves.found && !may_be_bare) return mount_error(spec, concat("invalid field '", field, "' must be a key=value pair"));
  if (key == "type") {
    out.type = lower(value);
  } else if (key == "source" || key == "src") {
    out.source = value;
  } else if (key == "target" || key == "dst" || key == "destination") {
    out.target = value;
  } else if (key == "readonly" || key == "ro") {
    out.read_only = TRY_PLAIN(read_bool(spec, key, value, halves.found));
  } else if (key == "consistency") {
    out.consistency = lower(value);
  } else if (key == "bind-propagation") {
    out.bind["Propagation"] = lower(value);
  } else if (key == "bind-nonrecursive") {
    out.bind["NonRecursive"] = TRY_PLAIN(read_bool(spec, key, value, halves.found));
  } else if (key == "bind-recursive") {
    out.bind_recursive = value;
  } else if (key == "volume-nocopy" || key == "volume-subpath" || key == "volume-driver" || key == "volume-label" || key == "volume-opt") {
    TRY_PLAIN(read_volume_field(out, spec, key, value, halves.found));
  } else if (key == "tmpfs-size") {
    auto size = parse_size_bytes(value);
    if (!size.ok()) return mount_error(spec, concat("invalid value for tmpfs-size: ", value));
    out.tmpfs["SizeBytes"] = *size;
  } else if (key == "tmpfs-mode") {
    out.tmpfs["Mode"] = TRY_PLAIN(read_mode(spec, value));
  } else {
    static constexpr std::array<std::string_view, 15> keys = {"type", "source", "target", "readonly", "consistency", "bind-propagation", "bind-recursive",
        "bind-nonrecursive", "volume-nocopy", "volume-subpath", "volume-driver", "volume-label", "volume-opt", "tmpfs-size", "tmpfs-mode"};
    std::string near = nearest(key, keys);
    return mount_error(spec, concat("unexpected key '", key, "' in '", field, "'", near.empty() ? "" : concat("; the nearest is '", near, "'")));
  }
  return {};
}

Status apply_recursive(MountFields& out, std::string_view spec) {
  const std::string& value = out.bind_recursive;
  if (value.empty() || value == "enabled") return {};
  if (value == "disabled") {
    out.bind["NonRecursive"] = true;
  } else if (value == "writable") {
    out.bind["ReadOnlyNonRecursive"] = true;
    if (!out.read_only) return mount_error(spec, "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction");
  } else if (value == "readonly") {
    out.bind["ReadOnlyForceRecursive"] = true;
    if (!out.read_only) return mount_error(spec, "option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction");
    auto* propagation = out.bind.if_contains("Propagation");
    if (propagation == nullptr || *propagation != "rprivate")
      return mount_error(spec, "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction");
  } else {
    return mount_error(spec, concat("invalid value for bind-recursive: ", value, " (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"));
  }
  return {};
}

std::string absolute(std::string_view path, const std::string& folder) {
  std::string joined = path.starts_with("/") ? std::string(path) : concat(folder, "/", path);
  std::vector<std::string> parts;
  for (auto part : split(joined, '/')) {
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else {
      parts.emplace_back(part);
    }
  }
  return "/" + join(parts, "/");
}

}  // namespace

Result<std::vector<std::string>> parse_csv(std::string_view line) {
  std::vector<std::string> fields;
  std::string field;
  std::size_t at = 0;
  for (;;) {
    field.clear();
    if (at < line.size() && line[at] == '"') {
      ++at;
      for (;;) {
        std::size_t quote = line.find('"', at);
        if (quote == std::string_view::npos) return bad("a quoted field is not closed");
        field += line.substr(at, quote - at);
        at = quote + 1;
        if (at >= line.size() || line[at] != '"') break;
        field += '"';
        ++at;
      }
      if (at < line.size() && line[at] != ',') return bad("text behind a quoted field");
    } else {
      std::size_t comma = line.find(',', at);
      field = line.substr(at, comma == std::string_view::npos ? comma : comma - at);
      if (field.find('"') != std::string::npos) return bad("a bare quote inside a field");
      at = comma == std::string_view::npos ? line.size() : comma;
    }
    fields.push_back(field);
    if (at >= line.size()) return fields;
    ++at;
  }
}

Result<json::object> parse_mount(std::string_view spec) {
  auto fields = parse_csv(trim(spec));
  if (!fields.ok()) return mount_error(spec, fields.error().text());
  MountFields mount;
  for (const auto& field : *fields) TRY_PLAIN(read_field(mount, spec, field));
  if (mount.type.empty()) return mount_error(spec, "type is required");
  if (mount.target.empty()) return mount_error(spec, "target is required");
  TRY_PLAIN(apply_recursive(mount, spec));
  if (!mount.driver.empty() || mount.volume.contains("Subpath")) mount.volume["DriverConfig"] = mount.driver;
  auto mixed = [&](std::string_view group, const json::object& options, std::string_view type) {
    return !options.empty() && mount.type != type ? concat("cannot mix '", group, "-*' options with mount type '", mount.type, "'") : std::string();
  };
  for (const auto& problem : {mixed("volume", mount.volume, "volume"), mixed("bind", mount.bind, "bind"), mixed("tmpfs", mount.tmpfs, "tmpfs")})
    if (!problem.empty()) return mount_error(spec, problem);

  json::object out{{"Type", mount.type}};
  if (!mount.source.empty()) out["Source"] = mount.source;
  out["Target"] = mount.target;
  if (mount.read_only) out["ReadOnly"] = true;
  if (!mount.consistency.empty()) out["Consistency"] = mount.consistency;
  if (!mount.bind.empty()) out["BindOptions"] = mount.bind;
  if (!mount.volume.empty()) out["VolumeOptions"] = mount.volume;
  if (!mount.tmpfs.empty()) out["TmpfsOptions"] = mount.tmpfs;
  return out;
}

Result<VolumeFlags> parse_volumes(const std::vector<std::string>& specs, const std::string& working_folder) {
  VolumeFlags out;
  for (const auto& spec : specs) {
    if (spec.empty()) return bad("invalid empty volume spec");
    auto parts = split(spec, ':');
    for (auto part : parts)
      if (part.empty()) return bad(concat("invalid spec: ", spec, ": empty section between colons"));
    if (parts.size() == 1) {
      out.anonymous[spec] = json::object();
      continue;
    }
    bool is_relative = parts[0] == "." || parts[0] == ".." || parts[0].starts_with("./") || parts[0].starts_with("../");
    if (is_relative) out.binds.emplace_back(concat(absolute(parts[0], working_folder), std::string_view(spec).substr(parts[0].size())));
    else out.binds.emplace_back(spec);
  }
  return out;
}

}  // namespace caisson::cli
