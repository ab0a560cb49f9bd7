// /containers: the verbs that answer at once.
#include <algorithm>

#include "api/create_body.hpp"
#include "api/handlers.hpp"
#include "api/json_out.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"

namespace caisson::api {

namespace {

json::array warnings_json(const std::vector<std::string>& warnings) { return texts(warnings); }

Result<engine::StopOptions> stop_options(const Query& query) {
  engine::StopOptions options;
  options.timeout_s = TRY_PLAIN(query.integer("t"));
  options.signal = query.text("signal");
  return options;
}

/// Docker's name filter is a regular expression; what clients send are parts of names, with or without "^/" and "$".
bool name_matches(std::string_view pattern, std::string_view name) {
  const bool from_start = pattern.starts_with('^');
  if (from_start) pattern.remove_prefix(1);
  const bool to_end = pattern.ends_with('$');
  if (to_end) pattern.remove_suffix(1);
  if (pattern.starts_with("/?")) pattern.remove_prefix(2);
  if (pattern.starts_with('/')) {
    pattern.remove_prefix(1);
    if (!to_end) return name.starts_with(pattern);
    return name == pattern;
  }
  if (from_start && to_end) return name == pattern;
  if (from_start) return name.starts_with(pattern);
  if (to_end) return name.ends_with(pattern);
  return name.find(pattern) != std::string_view::npos;
}

bool image_matches(std::string_view asked, const engine::ContainerSummary& container) {
  if (container.image == asked || container.image_id == asked) return true;
  if (std::string_view(container.image_id).substr(container.image_id.find(':') + 1).starts_with(asked) && asked.size() >= 4) return true;
  auto wanted = image::parse_reference(asked);
  auto actual = image::parse_reference(container.image);
  return wanted.ok() && actual.ok() && wanted->canonical() == actual->canonical();
}

bool port_matches(std::string_view asked, std::uint16_t port, network::Protocol protocol) {
  auto halves = split_once(asked, '/');
  if (halves.found && halves.after != protocol_name(protocol)) return false;
  auto range = split_once(halves.before, '-');
  auto first = parse_integer<std::uint16_t>(range.before);
  auto last = range.found ? parse_integer<std::uint16_t>(range.after) : first;
  return first.ok() && last.ok() && port >= *first && port <= *last;
}

/// The filters of /containers/json, applied to one container.
class ContainerFilters {
 public:
  static Result<ContainerFilters> create(const Query& query) {
    ContainerFilters self;
    self.filters_ = TRY_PLAIN(Filters::parse(query.text("filters"), {"ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label",
                                                                     "name", "network", "publish", "since", "status", "volume"}));
    static constexpr std::string_view states[] = {"created", "restarting", "running", "removing", "paused", "exited", "dead"};
    for (const auto& state : self.filters_.get("status"))
      if (std::find(std::begin(states), std::end(states), state) == std::end(states))
        return Error(ErrorKind::invalid, concat("invalid filter 'status=", state, "'"));
    static constexpr std::string_view health[] = {"none", "starting", "healthy", "unhealthy"};
    for (const auto& word : self.filters_.get("health"))
      if (std::find(std::begin(health), std::end(health), word) == std::end(health))
        return Error(ErrorKind::invalid, concat("invalid filter 'health=", word, "'"));
    for (const auto& code : self.filters_.get("exited")) self.exit_codes_.push_back(TRY(parse_integer<int>(code), "invalid filter 'exited'"));
    self.is_task_ = TRY_PLAIN(self.filters_.boolean("is-task"));
    return self;
  }

  /// A filter by state looks at stopped containers too.
  [[nodiscard]] bool asks_for_all() const { return filters_.has("status") || filters_.has("exited"); }

  /// `before` and `since` name containers. Errors: not_found.
  Status resolve(const std::vector<engine::ContainerSummary>& all) {
    auto created = [&](const std::string& name) -> Result<TimestampNs> {
      for (const auto& container : all)
        if (container.name == name || slashed(container.name) == name || container.id.starts_with(name)) return container.created;
      return Error(ErrorKind::not_found, concat("No such container: ", name));
    };
    for (const auto& name : filters_.get("before")) before_ = TRY_PLAIN(created(name));
    for (const auto& name : filters_.get("since")) since_ = TRY_PLAIN(created(name));
    return {};
  }

  [[nodiscard]] bool passes(const engine::ContainerSummary& container) const {
    return passes_identity(container) && passes_state(container) && passes_network(container) && passes_volume(container);
  }

 private:
  template <typename Matches>
  [[nodiscard]] bool any(std::string_view key, const Matches& matches) const {
    const auto& asked = filters_.get(key);
    return asked.empty() || std::any_of(asked.begin(), asked.end(), matches);
  }

  [[nodiscard]] bool passes_identity(const engine::ContainerSummary& container) const {
    if (!filters_.prefix("id", container.id) || !filters_.labels("label", container.labels)) return false;
    if (!any("name", [&](const std::string& asked) { return name_matches(asked, container.name); })) return false;
    if (!any("ancestor", [&](const std::string& asked) { return image_matches(asked, container); })) return false;
    if (before_ && container.created >= *before_) return false;
    return !since_ || container.created > *since_;
  }

  [[nodiscard]] bool passes_state(const engine::ContainerSummary& container) const {
    if (!filters_.exact("status", engine::to_string(container.state)) || !filters_.exact("health", engine::to_string(container.health))) return false;
    if (is_task_.value_or(false)) return false;
    if (exit_codes_.empty()) return true;
    return container.state == engine::State::exited && std::find(exit_codes_.begin(), exit_codes_.end(), container.exit_code) != exit_codes_.end();
  }

  [[nodiscard]] bool passes_network(const engine::ContainerSummary& container) const {
    if (!any("network", [&](const std::string& asked) {
          if (asked == container.network_mode) return true;
          return std::any_of(container.networks.begin(), container.networks.end(),
                             [&](const engine::EndpointSpec& network) { return asked == network.network || asked == network.network_id; });
        }))
      return false;
    if (!any("publish", [&](const std::string& asked) {
          return std::any_of(container.ports.begin(), container.ports.end(),
                             [&](const auto& port) { return port_matches(asked, port.container_port, port.protocol); });
        }))
      return false;
    return any("expose", [&](const std::string& asked) {
      return std::any_of(container.exposed_ports.begin(), container.exposed_ports.end(), [&](const auto& text) {
        auto key = parse_port_key(text);
        return key.ok() && port_matches(asked, key->port, key->protocol);
      });
    });
  }

  [[nodiscard]] bool passes_volume(const engine::ContainerSummary& container) const {
    return any("volume", [&](const std::string& asked) {
      return std::any_of(container.mounts.begin(), container.mounts.end(),
                         [&](const auto& mount) { return mount.name == asked || mount.destination == asked || mount.source == asked; });
    });
  }

  Filters filters_;
  std::vector<int> exit_codes_;
  std::optional<bool> is_task_;
  std::optional<TimestampNs> before_;
  std::optional<TimestampNs> since_;
};

}  // namespace

Status create_container(Request& request) {
  auto document = TRY_PLAIN(request.read_json());
  auto spec = TRY_PLAIN(read_create_body(document));
  spec.name = request.query.text("name");
  if (spec.name.size() > 1 && spec.name.starts_with('/')) spec.name.erase(0, 1);  // "/" alone is a bad name, not no name
  spec.platform = request.query.text("platform");
  auto created = TRY_PLAIN(request.engine.create(request.caller, std::move(spec)));
  return request.reply_json(201, json::object{{"Id", created.id}, {"Warnings", warnings_json(created.warnings)}});
}

Status list_containers(Request& request) {
  auto filters = TRY_PLAIN(ContainerFilters::create(request.query));
  const auto limit = TRY_PLAIN(request.query.integer("limit")).value_or(0);
  engine::ListOptions options;
  options.all = request.query.flag("all") || limit > 0 || filters.asks_for_all();
  options.size = request.query.flag("size");
  auto containers = TRY_PLAIN(request.engine.list(request.caller, options));
  TRY_PLAIN(filters.resolve(containers));
  json::array out;
  for (const auto& container : containers) {
    if (limit > 0 && out.size() >= static_cast<std::size_t>(limit)) break;
    if (filters.passes(container)) out.push_back(container_summary_json(container));
  }
  return request.reply_json(200, out);
}

Status inspect_container(Request& request) {
  auto info = TRY_PLAIN(request.engine.inspect(request.caller, request.name, request.query.flag("size")));
  return request.reply_json(200, container_json(info));
}

Status start_container(Request& request) {
  TRY_PLAIN(parse_detach_keys(request.query.text("detachKeys")));
  if (!request.query.text("checkpoint").empty()) return Error(ErrorKind::unsupported, "starting from a checkpoint is not supported yet");
  TRY_PLAIN(request.engine.inspect(request.caller, request.name, false));  // 404 is for a missing container only
  auto changed = request.engine.start(request.caller, request.name);
  if (!changed.ok()) {
    // A program that cannot be executed is the request's fault to Docker (400); the text tells the CLI its exit code.
    const auto kind = changed.error().kind();
    // What the kernel refuses the program, not the policy the caller.
    const bool is_programs = kind == ErrorKind::denied && changed.error().error_number() != 0;
    return request.reply_error(is_programs || kind == ErrorKind::not_found ? 400 : http_status(kind), changed.error().text(), changed.error().hint());
  }
  return request.reply_empty(*changed == engine::Engine::Changed::already ? 304 : 204);
}

Status stop_container(Request& request) {
  auto options = TRY_PLAIN(stop_options(request.query));
  auto changed = TRY_PLAIN(request.engine.stop(request.caller, request.name, options));
  return request.reply_empty(changed == engine::Engine::Changed::already ? 304 : 204);
}

Status restart_container(Request& request) {
  auto options = TRY_PLAIN(stop_options(request.query));
  TRY_PLAIN(request.engine.restart(request.caller, request.name, options));
  return request.reply_empty(204);
}

Status kill_container(Request& request) {
  TRY_PLAIN(request.engine.kill(request.caller, request.name, request.query.text("signal")));
  return request.reply_empty(204);
}

Status pause_container(Request& request) {
  TRY_PLAIN(request.engine.pause(request.caller, request.name));
  return request.reply_empty(204);
}

Status unpause_container(Request& request) {
  auto outcome = request.engine.unpause(request.caller, request.name);
  // Docker answers 500 here, and its clients look for that.
  if (!outcome.ok() && outcome.error().kind() == ErrorKind::conflict) return request.reply_error(500, outcome.error().text());
  TRY_PLAIN(std::move(outcome));
  return request.reply_empty(204);
}

Status remove_container(Request& request) {
  engine::RemoveOptions options;
  options.link = request.query.flag("link");
  options.force = request.query.flag("force");
  options.volumes = request.query.flag("v");
  auto outcome = request.engine.remove(request.caller, request.name, options);
  // Docker's answer to a name that is no link's.
  if (!outcome.ok() && options.link && outcome.error().kind() == ErrorKind::conflict) return request.reply_error(500, outcome.error().text());
  TRY_PLAIN(std::move(outcome));
  return request.reply_empty(204);
}

Status rename_container(Request& request) {
  std::string name = request.query.text("name");
  if (name.starts_with('/')) name.erase(0, 1);
  if (name.empty()) return Error(ErrorKind::invalid, "Neither old nor new names may be empty");
  TRY_PLAIN(request.engine.rename(request.caller, request.name, name));
  return request.reply_empty(204);
}

Status update_container(Request& request) {
  auto document = TRY_PLAIN(request.read_json());
  auto changes = TRY_PLAIN(read_update_body(document));
  auto warnings = TRY_PLAIN(request.engine.update(request.caller, request.name, changes));
  return request.reply_json(200, json::object{{"Warnings", warnings_json(warnings)}});
}

Result<runtime::ConsoleSize> console_size(const Query& query) {
  runtime::ConsoleSize size;
  for (auto [key, out] : {std::pair{"h", &size.height}, {"w", &size.width}}) {
    auto value = query.find(key);
    if (!value) return Error(ErrorKind::invalid, concat("query parameter ", key, " is missing"));
    *out = TRY(parse_integer<std::uint16_t>(*value), concat("query parameter ", key));
  }
  return size;
}

Status resize_container(Request& request) {
  auto size = TRY_PLAIN(console_size(request.query));
  TRY_PLAIN(request.engine.resize(request.caller, request.name, size));
  return request.reply_empty(200);
}

Status resize_exec(Request& request) {
  auto size = TRY_PLAIN(console_size(request.query));
  TRY_PLAIN(request.engine.resize_exec(request.caller, request.name, size));
  return request.reply_empty(200);
}

Status top_container(Request& request) {
  auto result = TRY_PLAIN(request.engine.top(request.caller, request.name, request.query.text("ps_args")));
  json::array processes;
  for (const auto& process : result.processes) processes.push_back(texts(process));
  return request.reply_json(200, json::object{{"Titles", texts(result.titles)}, {"Processes", std::move(processes)}});
}

Status prune_containers(Request& request) {
  auto filters = TRY_PLAIN(Filters::parse(request.query.text("filters"), {"label", "label!", "until"}));
  TimestampNs until = 0;
  for (const auto& text : filters.get("until")) until = TRY(parse_point_in_time(text, now_ns()), "invalid filter 'until'");
  auto result = TRY_PLAIN(request.engine.prune_containers(request.caller, [&](const engine::ContainerSummary& container) {
    const bool excluded = filters.has("label!") && filters.labels("label!", container.labels);
    return (until == 0 || container.created < until) && filters.labels("label", container.labels) && !excluded;
  }));
  return request.reply_json(200, json::object{{"ContainersDeleted", texts_or_null(result.deleted)}, {"SpaceReclaimed", result.reclaimed_bytes}});
}

}  // namespace caisson::api
