// The keys of `--mount`, by docker's reference, "RUN --mount".
#include "dockerfile/mount.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "base/strings.hpp"
#include "dockerfile/source.hpp"

namespace caisson::dockerfile {

namespace {

/// Fields between commas; a field may stand in double quotes, in which "" is a quote.
Result<std::vector<std::string>> csv_fields(std::string_view text) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    char c = text[at];
    if (quoted && c == '"' && text.substr(at + 1).starts_with('"')) fields.back() += text[at++];
    else if (c == '"' && (quoted || fields.back().empty())) quoted = !quoted;
    else if (c == ',' && !quoted) fields.emplace_back();
    else fields.back() += c;
  }
  if (quoted) return Error(ErrorKind::invalid, concat("failed to parse csv mounts: open quote in \"", text, "\""));
  return fields;
}

Result<MountKind> kind_of(std::string_view name) {
  constexpr std::array<std::string_view, 5> names{"bind", "cache", "tmpfs", "secret", "ssh"};
  auto found = std::find(names.begin(), names.end(), lower(name));
  if (found != names.end()) return static_cast<MountKind>(found - names.begin());
  auto close = nearest(name, names.data(), names.size());
  return Error(ErrorKind::invalid, concat("unsupported mount type \"", name, "\"", close.empty() ? std::string() : concat(" (did you mean ", close, "?)")));
}

Result<bool> boolean_of(std::string_view key, std::string_view value, bool has_value) {
  if (!has_value || value == "true" || value == "1") return true;
  if (value == "false" || value == "0") return false;
  return Error(ErrorKind::invalid, concat("invalid value for ", key, ": ", value));
}

/// Which kinds know a key, as letters: b c t s (secret) h (ssh).
struct Key {
  std::string_view name;
  std::string_view kinds;
};
constexpr std::array keys{
    Key{"type", "bctsh"}, Key{"target", "bctsh"}, Key{"dst", "bctsh"}, Key{"destination", "bctsh"}, Key{"source", "bcs"}, Key{"src", "bcs"},
    Key{"from", "bc"}, Key{"ro", "bc"}, Key{"readonly", "bc"}, Key{"rw", "bc"}, Key{"readwrite", "bc"}, Key{"id", "csh"},
    Key{"sharing", "c"}, Key{"size", "t"}, Key{"env", "s"}, Key{"required", "sh"}, Key{"mode", "csh"}, Key{"uid", "csh"}, Key{"gid", "csh"},
};

Status check_key(std::string_view key, MountKind kind) {
  auto found = std::find_if(keys.begin(), keys.end(), [&](const Key& known) { return known.name == key; });
  if (found == keys.end()) {
    std::array<std::string_view, keys.size()> names;
    std::transform(keys.begin(), keys.end(), names.begin(), [](const Key& known) { return known.name; });
    auto close = nearest(key, names.data(), names.size());
    return Error(ErrorKind::invalid, concat("unexpected key '", key, "' in '--mount'", close.empty() ? std::string() : concat(" (did you mean ", close, "?)")));
  }
  constexpr std::string_view letters = "bctsh";
  constexpr std::array<std::string_view, 5> names{"bind", "cache", "tmpfs", "secret", "ssh"};
  auto index = static_cast<std::size_t>(kind);
  if (found->kinds.find(letters[index]) == std::string_view::npos)
    return Error(ErrorKind::invalid, concat("unexpected key '", key, "' for mount type '", names[index], "'"));
  return {};
}

Result<CacheSharing> sharing_of(std::string_view value) {
  if (value == "shared") return CacheSharing::shared;
  if (value == "private") return CacheSharing::private_;
  if (value == "locked") return CacheSharing::locked;
  return Error(ErrorKind::invalid, concat("unsupported sharing value \"", value, "\" (shared, private, locked)"));
}

struct Given {
  std::optional<std::uint32_t> mode;
  bool source = false;
  bool read_only = false;
};

Status set_number(std::string_view key, std::string_view value, RunMount& mount, Given& given) {
  auto number = parse_integer<std::uint32_t>(value, key == "mode" ? 8 : 10);
  if (!number.ok()) return Error(ErrorKind::invalid, concat("invalid value ", value, " for ", key));
  if (key == "mode") given.mode = *number;
  else (key == "uid" ? mount.uid : mount.gid) = *number;
  return {};
}

Status set_key(std::string_view key, std::string_view value, bool has_value, RunMount& mount, Given& given) {
  bool is_switch = key == "ro" || key == "readonly" || key == "rw" || key == "readwrite" || key == "required";
  if (!has_value && !is_switch) return Error(ErrorKind::invalid, concat("invalid field '", key, "' must be a key=value pair"));
  if (key == "target" || key == "dst" || key == "destination") mount.target = value;
  else if (key == "source" || key == "src") {
    mount.source = value;
    given.source = true;
  } else if (key == "from") mount.from = value;
  else if (key == "id") mount.id = value;
  else if (key == "env") mount.environment = value;
  else if (key == "sharing") mount.sharing = TRY_PLAIN(sharing_of(value));
  else if (key == "required") mount.required = TRY_PLAIN(boolean_of(key, value, has_value));
  else if (key == "size") mount.size_bytes = TRY(parse_size_bytes(value), "size");
  else if (key == "mode" || key == "uid" || key == "gid") return set_number(key, value, mount, given);
  else if (is_switch) {
    bool on = TRY_PLAIN(boolean_of(key, value, has_value));
    mount.read_only = key[1] == 'o' || key == "readonly" ? on : !on;
    given.read_only = true;
  }
  return {};
}

std::string base_name(std::string_view path) { return std::string(path.substr(path.find_last_of('/') + 1)); }

/// What is derived from the other keys, and what must be there.
Status complete(RunMount& mount, const Given& given) {
  bool wants_target = mount.kind == MountKind::bind || mount.kind == MountKind::cache || mount.kind == MountKind::tmpfs;
  if (wants_target && mount.target.empty()) return Error(ErrorKind::invalid, "target can't be empty: name a target");
  if (mount.kind != MountKind::bind && !given.read_only) mount.read_only = false;
  if (mount.kind == MountKind::cache) {
    if (mount.id.empty()) mount.id = mount.target;
    mount.mode = given.mode.value_or(0755);
  }
  if (mount.kind == MountKind::secret) {
    if (mount.id.empty()) mount.id = given.source ? base_name(mount.source) : base_name(mount.target);
    if (mount.id.empty()) return Error(ErrorKind::invalid, "a secret needs an id, a source or a target");
    if (mount.target.empty() && mount.environment.empty()) mount.target = concat("/run/secrets/", base_name(mount.id));
    mount.mode = given.mode.value_or(0400);
  }
  if (mount.kind == MountKind::ssh) {
    if (mount.id.empty()) mount.id = "default";
    mount.mode = given.mode.value_or(0600);
  }
  return {};
}

}  // namespace

Result<RunMount> parse_mount(std::string_view text) {
  auto fields = TRY_PLAIN(csv_fields(text));
  RunMount mount;
  for (const auto& field : fields) {
    auto halves = split_once(field, '=');
    if (lower(halves.before) == "type") mount.kind = TRY_PLAIN(kind_of(halves.after));
  }
  Given given;
  for (const auto& field : fields) {
    auto halves = split_once(field, '=');
    auto key = lower(halves.before);
    TRY_PLAIN(check_key(key, mount.kind));
    TRY_PLAIN(set_key(key, halves.after, halves.found, mount, given));
  }
  TRY_PLAIN(complete(mount, given));
  return mount;
}

}  // namespace caisson::dockerfile
