// /build: docker's classic builder as its clients know it: a context in the body, lines of progress in the answer.
#include <algorithm>

#include "api/credentials.hpp"
#include "api/handlers.hpp"
#include "api/json_out.hpp"
#include "api/stream_frames.hpp"
#include "api/transfer.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "build/builder.hpp"
#include "build/history.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"
#include "wire/relay.hpp"

namespace caisson::api {

namespace {

constexpr std::size_t most_context_name_bytes = 256;
constexpr std::uint64_t most_kept_list_bytes = 64 << 20;

std::string short_id(std::string_view id) {
  if (id.starts_with("sha256:")) id.remove_prefix(7);
  return std::string(id.substr(0, 12));
}

/// The lines of D20's builder. The head goes out with the first one, so that an error before it is an ordinary error answer.
class BuildStream {
 public:
  BuildStream(Request& request, bool is_quiet, bool removes) : request_(request), is_quiet_(is_quiet), removes_(removes) {}

  void send(const json::object& line) {
    if (!begun_) {
      begun_ = true;
      broken_ = !request_.begin(200, "application/json").ok();
    }
    // A client that left stops the build through its cancel; here it is only not written to any more.
    if (!broken_) broken_ = !request_.exchange.write(to_text(line) + "\r\n").ok();
  }
  void text(std::string text) { send({{"stream", std::move(text)}}); }

  /// Ours: {"event": {"kind", "stage", "step", "steps", "text"}}, when it happens.
  void take_at_once(const build::Event& event) {
    if (event.debug_shell) return offer(*event.debug_shell);
    const auto kind = name_of(event.kind);
    if (kind.empty()) return;
    send({{"event", json::object{{"kind", kind}, {"stage", event.stage}, {"step", event.step}, {"steps", event.steps}, {"text", event.text}}}});
  }
  void take(const build::Event& event) {
    if (event.debug_shell) return offer(*event.debug_shell);
    if (is_quiet_ || event.kind == build::EventKind::stage || event.kind == build::EventKind::failed || (event.kind == build::EventKind::removed && !removes_)) return;
    text(build::text_of(event));
  }

  /// Ours too: the client attaches to the container and starts it; nothing more is said before it has ended. Without an "ID" there is none.
  void offer(const build::DebugShell& shell) {
    json::object out{{"ID", shell.container}, {"Problem", shell.problem}, {"Program", shell.program}, {"Step", shell.step}, {"Line", shell.line}, {"Failure", shell.failure}, {"BeforeStep", shell.is_before_step}};
    if (shell.exit_code) out["ExitCode"] = *shell.exit_code;
    send({{"aux", json::object{{"DebugShell", std::move(out)}}}});
  }

  /// The kinds that a picture of the build needs.
  static std::string_view name_of(build::EventKind kind) {
    switch (kind) {
      case build::EventKind::step: return "step";
      case build::EventKind::cached: return "cached";
      case build::EventKind::output: return "output";
      case build::EventKind::made: return "made";
      case build::EventKind::warning: return "warning";
      case build::EventKind::failed: return "failed";
      default: return "";
    }
  }
  [[nodiscard]] bool begun() const { return begun_; }
  Status end() {
    if (!begun_) TRY_PLAIN(request_.begin(200, "application/json"));
    return request_.exchange.end();
  }

 private:
  Request& request_;
  bool is_quiet_;
  bool removes_;
  bool begun_ = false;
  bool broken_ = false;
};

/// A JSON object of texts in a query; null, "" and {} are none, a null value is skipped (a build-arg without value).
Result<std::map<std::string, std::string>> map_of(const Request& request, std::string_view name) {
  std::map<std::string, std::string> out;
  auto text = request.query.text(name);
  if (text.empty()) return out;
  auto document = TRY_PLAIN(parse_json(text, name));
  if (document.is_null()) return out;
  TRY_PLAIN(JsonView(document, std::string(name)).for_each_member([&](std::string_view key, const JsonView& value) -> Status {
    if (!value.is_set()) return {};
    return value.read(out[std::string(key)]);
  }));
  return out;
}

Status read_limits(const Request& request, build::BuildRequest& out) {
  auto number = [&](std::string_view name) -> Result<std::int64_t> { return TRY_PLAIN(request.query.integer(name)).value_or(0); };
  out.resources.memory_bytes = TRY_PLAIN(number("memory"));
  out.resources.memory_swap_bytes = TRY_PLAIN(number("memswap"));
  out.resources.cpu_shares = TRY_PLAIN(number("cpushares"));
  out.resources.cpu_period_us = TRY_PLAIN(number("cpuperiod"));
  out.resources.cpu_quota_us = TRY_PLAIN(number("cpuquota"));
  out.resources.cpuset_cpus = request.query.text("cpusetcpus");
  out.resources.cpuset_mems = request.query.text("cpusetmems");
  out.shm_size_bytes = TRY_PLAIN(number("shmsize"));
  out.cgroup_parent = request.query.text("cgroupparent");
  auto ulimits = request.query.text("ulimits");
  if (ulimits.empty() || ulimits == "null") return {};
  auto document = TRY_PLAIN(parse_json(ulimits, "ulimits"));
  return JsonView(document, "ulimits").for_each_element([&](const JsonView& item) -> Status {
    engine::Ulimit limit;
    TRY_PLAIN(item.read("Name", limit.name));
    TRY_PLAIN(item.read("Soft", limit.soft));
    TRY_PLAIN(item.read("Hard", limit.hard));
    out.ulimits.push_back(std::move(limit));
    return {};
  });
}

Status read_cache_source(const JsonView& view, build::CacheSource& out) {
  TRY_PLAIN(view.read("ref", out.reference));
  TRY_PLAIN(view.read("local", out.is_local));
  TRY_PLAIN(view.read("remote", out.is_remote));
  return {};
}

Status read_cache_target(const JsonView& view, build::CacheTarget& out) {
  std::string type;
  TRY_PLAIN(view.read("type", type));
  TRY_PLAIN(view.read("ref", out.reference));
  TRY_PLAIN(view.read("all_stages", out.all_stages));
  if (type == "inline") out.kind = build::CacheTargetKind::inline_;
  else if (type == "registry") out.kind = build::CacheTargetKind::registry;
  else if (type == "image") out.kind = build::CacheTargetKind::image;
  else return Error(ErrorKind::invalid, concat("type: \"", type, "\" is no kind of cache"));
  if (out.kind == build::CacheTargetKind::registry) TRY(image::parse_reference(out.reference), "ref");
  return {};
}

Status read_context(const JsonView& view, build::NamedContext& out) {
  std::string type;
  TRY_PLAIN(view.read("type", type));
  TRY_PLAIN(view.read("value", out.value));
  if (type == "image") out.kind = build::ContextKind::image;
  else if (type == "folder") out.kind = build::ContextKind::folder;
  else if (type == "remote") out.kind = build::ContextKind::remote;
  else return Error(ErrorKind::invalid, concat("type: \"", type, "\" is no kind of context"));
  return {};
}

/// Docker's `cachefrom`: a JSON array of image names. Here one that this host does not have is looked for in its registry.
Status read_cache_names(const Request& request, build::BuildRequest& out) {
  // BuildKit's name for it, which pipelines set.
  if (auto given = out.arguments.find("BUILDKIT_INLINE_CACHE"); given != out.arguments.end() && given->second == "1") out.cache_to.push_back({});
  auto text = request.query.text("cachefrom");
  if (text.empty()) return {};
  std::vector<std::string> names;
  auto document = TRY_PLAIN(parse_json(text, "cachefrom"));
  if (!document.is_null()) TRY_PLAIN(JsonView(document, "cachefrom").read(names));
  for (auto& name : names)
    if (!name.empty()) out.cache_from.push_back({std::move(name), false, false});
  return {};
}

/// {"program", "tty", "size": [rows, columns]}
Result<build::DebugWish> read_debug_wish(const JsonView& view) {
  build::DebugWish wish;
  std::vector<std::uint16_t> size;
  TRY_PLAIN(view.read("program", wish.program));
  TRY_PLAIN(view.read("tty", wish.has_terminal));
  if (const auto given = TRY_PLAIN(view.at("size")); given.is_set()) TRY_PLAIN(given.read(size));
  if (size.empty()) return wish;
  if (size.size() != 2) return Error(ErrorKind::invalid, "debug_shell.size: want [rows, columns]");
  wish.console_size.height = size[0];
  wish.console_size.width = size[1];
  return wish;
}

/// What docker's protocol has no place for, from our own command line: {"secrets": {id: base64}, "allow": [], "call": "check"|"outline"|"targets",
/// "no_cache": [stages], "annotations": {name: text},
/// "cache_from": [{"ref", "local", "remote"}], "cache_to": [{"type", "ref", "all_stages"}], "contexts": {name: {"type", "value"}}, "provenance": "min"|"max", "events": true,
/// "ssh": {"session", "ids": [], "known_hosts"}, "debug_shell": {"program", "tty", "size"}, "kept": {"name", "text", "bytes"}}.
Status read_extensions(const Request& request, const build::EventSink& at_once, build::BuildRequest& out, std::uint64_t& kept_bytes) {
  auto header = request.exchange.header("X-Caisson-Build");
  if (header.empty()) return {};
  auto document = TRY_PLAIN(parse_json(TRY(base64_decode(header), "X-Caisson-Build"), "X-Caisson-Build"));
  JsonView view(document);
  std::map<std::string, std::string> secrets;
  std::vector<std::string> allowed;
  TRY_PLAIN(view.read("secrets", secrets));
  TRY_PLAIN(view.read("allow", allowed));
  std::string call;
  TRY_PLAIN(view.read("call", call));
  if (call == "check") out.call = build::BuildCall::check;
  else if (call == "outline") out.call = build::BuildCall::outline;
  else if (call == "targets") out.call = build::BuildCall::targets;
  else if (!call.empty() && call != "build") return Error(ErrorKind::invalid, concat("call: \"", call, "\" is none of build, check, outline and targets"));
  TRY_PLAIN(view.read("no_cache", out.no_cache_stages));
  TRY_PLAIN(view.read("annotations", out.annotations));
  bool wants_events = false;
  TRY_PLAIN(view.read("events", wants_events));
  if (wants_events) out.at_once = at_once;
  std::string provenance;
  TRY_PLAIN(view.read("provenance", provenance));
  if (provenance == "min") out.provenance = build::Provenance::min;
  else if (provenance == "max") out.provenance = build::Provenance::max;
  else if (!provenance.empty()) return Error(ErrorKind::invalid, concat("provenance: \"", provenance, "\" is neither min nor max"));
  if (auto ssh = TRY_PLAIN(view.at("ssh")); ssh.is_set()) {
    std::vector<std::string> ids;
    TRY_PLAIN(ssh.read("session", out.agent_session));
    TRY_PLAIN(ssh.read("ids", ids));
    TRY_PLAIN(ssh.read("known_hosts", out.known_hosts));
    out.agents.insert(ids.begin(), ids.end());
  }
  if (auto kept = TRY_PLAIN(view.at("kept")); kept.is_set()) {
    auto& context = out.kept.emplace();
    TRY_PLAIN(kept.read("name", context.name));
    TRY_PLAIN(kept.read("text", context.text));
    TRY_PLAIN(kept.read("bytes", kept_bytes));
    if (context.name.empty() || context.name.size() > most_context_name_bytes || kept_bytes > most_kept_list_bytes)
      return Error(ErrorKind::invalid, concat("kept: want a name of at most ", most_context_name_bytes, " bytes and a list of at most ", most_kept_list_bytes));
  }
  if (auto shell = TRY_PLAIN(view.at("debug_shell")); shell.is_set()) out.debug = TRY_PLAIN(read_debug_wish(shell));
  auto contexts = TRY_PLAIN(view.at("contexts"));
  if (contexts.is_set()) TRY_PLAIN(contexts.for_each_member([&](std::string_view name, const JsonView& item) { return read_context(item, out.contexts[std::string(name)]); }));
  auto from = TRY_PLAIN(view.at("cache_from"));
  if (from.is_set()) TRY_PLAIN(from.for_each_element([&](const JsonView& item) { return read_cache_source(item, out.cache_from.emplace_back()); }));
  auto to = TRY_PLAIN(view.at("cache_to"));
  if (to.is_set()) TRY_PLAIN(to.for_each_element([&](const JsonView& item) { return read_cache_target(item, out.cache_to.emplace_back()); }));
  for (const auto& [id, text] : secrets) out.secrets[id] = TRY(base64_decode(text), concat("secret ", id));
  out.allowed.insert(allowed.begin(), allowed.end());
  return {};
}

/// The body begins with it: what the archive leaves out, as [[path, digest, mode, time in seconds], …].
Status read_kept_list(int fd, std::uint64_t bytes, build::KeptContext& out) {
  if (bytes == 0) return {};
  std::string text(static_cast<std::size_t>(bytes), '\0');
  for (std::size_t done = 0; done < text.size();) {
    const auto got = TRY_PLAIN(linux::read(fd, std::span(text).subspan(done)));
    if (got == 0) return Error(ErrorKind::invalid, "build context: it ends in the list of kept files");
    done += got;
  }
  const auto document = TRY_PLAIN(parse_json(text, "list of kept files"));
  return JsonView(document, "list of kept files").for_each_element([&](const JsonView& item) -> Status {
    auto& file = out.files.emplace_back();
    std::size_t place = 0;
    TRY_PLAIN(item.for_each_element([&](const JsonView& part) -> Status {
      switch (place++) {
        case 0: return part.read(file.path);
        case 1: return part.read(file.digest);
        case 2: return part.read(file.mode);
        case 3: return part.read(file.mtime_s);
        default: return Error(ErrorKind::invalid, "list of kept files: want [path, digest, mode, time]");
      }
    }));
    return place == 4 ? Status() : Error(ErrorKind::invalid, "list of kept files: want [path, digest, mode, time]");
  });
}

/// X-Registry-Config: base64 of {"https://index.docker.io/v1/": {"username", …}, "localhost:5000": …}. As with X-Registry-Auth, what
/// cannot be read counts as none.
void read_registries(const Request& request, build::BuildRequest& out) {
  auto text = base64_decode(request.exchange.header("X-Registry-Config"));
  auto document = text.ok() && !text->empty() ? parse_json(*text, "X-Registry-Config") : Result<json::value>(json::value());
  if (!document.ok() || !document->is_object()) return;
  for (const auto& member : document->get_object()) {
    std::string_view host(member.key());
    if (host.find("://") != std::string_view::npos) host.remove_prefix(host.find("://") + 3);
    host = host.substr(0, host.find('/'));
    image::RegistryCredentials credentials;
    if (read_credentials(JsonView(member.value()), credentials).ok()) out.registries[host == "index.docker.io" ? "docker.io" : std::string(host)] = std::move(credentials);
  }
}

/// `at_once`: for events, if they are asked for.
Result<build::BuildRequest> read_build(const Request& request, const build::EventSink& at_once, std::uint64_t& kept_bytes) {
  build::BuildRequest out;
  if (request.query.text("version") == "2")
    return Error(ErrorKind::unsupported, "BuildKit's protocol is not served").with_hint("set DOCKER_BUILDKIT=0, or use `caisson build`");
  out.remote = request.query.text("remote");
  if (out.remote == "client-session") return Error(ErrorKind::unsupported, "remote: client-session is BuildKit's protocol, which this engine does not speak");
  if (request.query.flag("squash")) return Error(ErrorKind::unsupported, "squash is not supported");
  out.dockerfile = request.query.text("dockerfile");
  // "Dockerfile" is what clients send when nobody named one: the lower-case name serves too then.
  if (out.dockerfile == "Dockerfile") out.dockerfile.clear();
  for (const auto& tag : request.query.all("t"))
    if (!tag.empty()) out.tags.push_back(tag);
  out.target = request.query.text("target");
  for (auto& [key, value] : TRY_PLAIN(map_of(request, "buildargs"))) out.arguments[key] = value;
  out.labels = TRY_PLAIN(map_of(request, "labels"));
  out.use_cache = !request.query.flag("nocache");
  out.pull = request.query.flag("pull");
  read_registries(request, out);
  out.platform = request.query.text("platform");
  out.network = request.query.text("networkmode");
  if (out.network == "default") out.network.clear();
  for (const auto& hosts : request.query.all("extrahosts"))
    for (auto host : split(hosts, ','))
      if (!host.empty()) out.extra_hosts.emplace_back(host);
  TRY_PLAIN(read_limits(request, out));
  TRY_PLAIN(read_cache_names(request, out));
  TRY_PLAIN(read_extensions(request, at_once, out, kept_bytes));
  return out;
}

void report_failure(BuildStream& stream, int code, const std::string& text) {
  json::object detail;
  if (code != 0) detail["code"] = code;
  detail["message"] = text;
  stream.send({{"errorDetail", std::move(detail)}, {"error", text}});
}

/// In BuildKit's members.
json::object outline_json(const dockerfile::Outline& outline) {
  json::object out;
  if (!outline.name.empty()) out["name"] = outline.name;
  if (!outline.description.empty()) out["description"] = outline.description;
  json::array arguments;
  for (const auto& argument : outline.arguments) {
    json::object item{{"name", argument.name}};
    if (!argument.description.empty()) item["description"] = argument.description;
    if (argument.value) item["value"] = *argument.value;
    arguments.push_back(std::move(item));
  }
  if (!arguments.empty()) out["args"] = std::move(arguments);
  for (const auto& [key, needs] : {std::pair("secrets", &outline.secrets), std::pair("ssh", &outline.agents)}) {
    json::array items;
    for (const auto& need : *needs) {
      json::object item{{"name", need.name}};
      if (need.is_required) item["required"] = true;
      items.push_back(std::move(item));
    }
    if (!items.empty()) out[key] = std::move(items);
  }
  json::array caches;
  for (const auto& id : outline.caches) caches.push_back(json::object{{"ID", id}});
  if (!caches.empty()) out["cache"] = std::move(caches);
  return out;
}

json::array targets_json(const std::vector<dockerfile::TargetInfo>& targets) {
  json::array out;
  for (const auto& target : targets) {
    json::object item;
    for (const auto& [key, text] : {std::pair("name", &target.name), std::pair("description", &target.description), std::pair("base", &target.base), std::pair("platform", &target.platform)})
      if (!text->empty()) item[key] = *text;
    if (target.is_default) item["default"] = true;
    out.push_back(std::move(item));
  }
  return out;
}

void report_result(BuildStream& stream, const build::BuildRequest& wanted, const build::BuildOutcome& outcome, bool is_quiet) {
  for (const auto& warning : outcome.warnings)
    if (!is_quiet || wanted.call == build::BuildCall::check) stream.text(concat("[Warning] ", warning.rule, ": ", warning.message, " (", outcome.dockerfile_name, ":", warning.lines.first, ")\n"));
  if (wanted.call == build::BuildCall::outline) return stream.send({{"aux", json::object{{"Outline", outline_json(outcome.outline)}}}});
  if (wanted.call == build::BuildCall::targets) return stream.send({{"aux", json::object{{"Targets", targets_json(outcome.targets)}}}});
  if (wanted.call == build::BuildCall::check) {
    stream.text(outcome.warnings.empty() ? "Check complete, no warnings found.\n"
                                         : concat("Check complete, ", outcome.warnings.size(), outcome.warnings.size() == 1 ? " warning has been found!\n" : " warnings have been found!\n"));
    return;
  }
  for (const auto& cache : outcome.cache_images) stream.send({{"aux", json::object{{"CacheID", cache}}}});
  if (!outcome.provenance.empty()) stream.send({{"aux", json::object{{"Provenance", outcome.provenance}}}});
  if (is_quiet) {
    stream.text(concat(outcome.image.id.text(), "\n"));
    return;
  }
  stream.send({{"aux", json::object{{"ID", outcome.image.id.text()}}}});
  stream.text(concat("Successfully built ", short_id(outcome.image.id.text()), "\n"));
  for (const auto& tag : wanted.tags) {
    auto reference = image::parse_reference(tag);
    stream.text(concat("Successfully tagged ", reference.ok() ? reference->familiar() : tag, "\n"));
  }
}

}  // namespace

Status build_image(Request& request) {
  const bool is_quiet = request.query.flag("q");
  BuildStream stream(request, is_quiet, request.query.flag("rm", true));
  std::uint64_t kept_bytes = 0;
  auto wanted = TRY_PLAIN(read_build(request, [&](const build::Event& event) { stream.take_at_once(event); }, kept_bytes));
  const bool has_events = wanted.at_once != nullptr;  // instead of the lines, which come stage by stage
  auto outcome = feed_body(request, [&](int fd) -> Status {
    if (wanted.kept) TRY_PLAIN(read_kept_list(fd, kept_bytes, *wanted.kept));
    wanted.context_fd = fd;
    auto built = TRY_PLAIN(request.builder.build(request.caller, wanted, [&](const build::Event& event) {
      if (!has_events) stream.take(event);
    }, request.exchange.cancel()));
    if (built.failed_code) report_failure(stream, *built.failed_code, built.failure);
    else report_result(stream, wanted, built, is_quiet);
    if (wanted.call == build::BuildCall::check && built.warnings_are_errors && !built.warnings.empty()) report_failure(stream, 0, "lint violation found");
    return {};
  });
  if (!outcome.ok() && !stream.begun()) return request.reply_error(outcome.error());
  if (!outcome.ok()) report_failure(stream, 0, outcome.error().text());
  return stream.end();
}

/// {"name", "digests": []}: {"Missing": []}, the places of those that a build with this kept context has to send.
Status list_missing_files(Request& request) {
  auto body = TRY_PLAIN(request.read_json());
  JsonView view(body);
  std::string name;
  std::vector<std::string> digests;
  TRY_PLAIN(view.read("name", name));
  TRY_PLAIN(view.read("digests", digests));
  json::array missing;
  for (const auto place : TRY_PLAIN(request.builder.missing_files(request.caller, name, digests))) missing.emplace_back(place);
  return request.reply_json(200, json::object{{"Missing", std::move(missing)}});
}

/// {"session", "id"}: the answer comes when a RUN of that session's build connects to the agent, and is its connection. One request per connection.
Status lend_agent(Request& request) {
  auto body = TRY_PLAIN(request.read_json());
  JsonView view(body);
  std::string session;
  std::string id;
  TRY_PLAIN(view.read("session", session));
  TRY_PLAIN(view.read("id", id));
  if (!request.wants_upgrade()) return Error(ErrorKind::invalid, "an agent is lent by an upgraded connection: send Connection: Upgrade and Upgrade: tcp");
  auto use = TRY_PLAIN(request.builder.lend_agent(request.caller, session, id, request.exchange.cancel()));
  auto taken = TRY_PLAIN(request.exchange.hijack(hijack_head(request, false)));
  if (!taken.pending.empty()) TRY_PLAIN(linux::send_all(use.connection.get(), taken.pending));
  return wire::relay(taken.socket.get(), use.connection.get(), use.over);
}

namespace {

/// BuildKit's words for what the classic builder had no word for.
std::string_view type_of(const build::CacheEntry& entry) {
  switch (entry.kind) {
    case build::CacheKind::mount: return "exec.cachemount";
    case build::CacheKind::context: return "source.local";
    case build::CacheKind::step: break;
  }
  return "regular";
}

std::string description_of(const build::CacheEntry& entry) {
  if (entry.kind == build::CacheKind::context) return concat("local source for ", entry.text);
  if (entry.kind != build::CacheKind::mount) return entry.text;
  return concat("cached mount", entry.text.empty() ? "" : " ", entry.text, " with id \"", entry.id, "\"");
}

}  // namespace

json::array build_cache_json(const std::vector<build::CacheEntry>& entries) {
  json::array out;
  for (const auto& entry : entries) {
    json::object row{{"ID", entry.key.substr(0, 25)},
                     {"Parent", ""},
                     {"Parents", nullptr},
                     {"Type", type_of(entry)},
                     {"Description", description_of(entry)},
                     {"InUse", entry.in_use},
                     {"Shared", false},
                     {"Size", entry.size_bytes},
                     {"CreatedAt", to_rfc3339(entry.created)},
                     {"LastUsedAt", to_rfc3339(entry.last_used)},
                     {"UsageCount", entry.use_count}};
    if (entry.kind == build::CacheKind::mount) row["CacheMount"] = json::object{{"ID", entry.id}, {"Scope", entry.scope}, {"Sharing", entry.sharing}, {"Target", entry.text}};  // ours
    out.emplace_back(std::move(row));
  }
  return out;
}

/// `filters={"until":["24h"]}`, and `keep-storage` or, as newer clients say it, `reserved-space`: what was used last goes last.
Status prune_build_cache(Request& request) {
  auto filters = TRY_PLAIN(Filters::parse(request.query.text("filters"), {"until", "unused-for", "id", "type", "inuse", "shared", "private", "description", "parent", "label", "label!"}));
  TimestampNs until = 0;
  for (const auto& key : {"until", "unused-for"})
    for (const auto& text : filters.get(key)) until = TRY(parse_point_in_time(text, now_ns()), "invalid filter 'until'");
  // Nothing here is shared with another store, has a parent or a label, or goes while it is used: who asks for such asks for none.
  auto asks_for = [&](std::string_view key) -> Result<bool> {  // the empty text is docker's "yes"
    if (!filters.has(key) || filters.exact(key, "")) return filters.has(key);
    return TRY_PLAIN(filters.boolean(key)).value_or(false);
  };
  const bool wants_shared = TRY_PLAIN(asks_for("shared"));
  const bool wants_used = TRY_PLAIN(asks_for("inuse"));
  const bool wants_private = !filters.has("private") || TRY_PLAIN(asks_for("private"));
  const bool wants_none = filters.has("label") || filters.has("parent") || wants_shared || wants_used || !wants_private;
  auto kept = TRY_PLAIN(request.query.integer("reserved-space")).value_or(0);
  if (kept == 0) kept = TRY_PLAIN(request.query.integer("keep-storage")).value_or(0);
  std::uint64_t total = 0;
  if (kept != 0)
    for (const auto& entry : TRY_PLAIN(request.builder.cache(request.caller))) total += entry.size_bytes;
  auto select = [&](const build::CacheEntry& entry) {
    if (wants_none || (until != 0 && entry.last_used >= until)) return false;
    if (!filters.exact("type", type_of(entry)) || !filters.part("description", description_of(entry))) return false;
    // "id" means the row's, or the mount's own.
    if (!filters.prefix("id", entry.key) && (entry.kind != build::CacheKind::mount || !filters.exact("id", entry.id))) return false;
    if (kept != 0 && total <= static_cast<std::uint64_t>(kept)) return false;
    total -= std::min(total, entry.size_bytes);
    return true;
  };
  json::array deleted;
  std::uint64_t reclaimed = 0;
  for (const auto& entry : TRY_PLAIN(request.builder.prune(request.caller, select))) {
    deleted.push_back(json::value(entry.key.substr(0, 25)));
    reclaimed += entry.size_bytes;
  }
  return request.reply_json(200, json::object{{"CachesDeleted", deleted.empty() ? json::value(nullptr) : json::value(std::move(deleted))}, {"SpaceReclaimed", reclaimed}});
}

// -- cache mounts one by one. Their ids have slashes, and stand in the query.

/// Those of the build cache's rows that are cache mounts; with `id` that one.
Status list_cache_mounts(Request& request) {
  std::vector<build::CacheEntry> mounts;
  if (const auto id = request.query.text("id"); !id.empty()) mounts.push_back(TRY_PLAIN(request.builder.find_cache_mount(request.caller, id)));
  else mounts = TRY_PLAIN(request.builder.cache(request.caller));
  std::erase_if(mounts, [](const build::CacheEntry& entry) { return entry.kind != build::CacheKind::mount; });
  return request.reply_json(200, build_cache_json(mounts));
}

namespace {
Result<std::string> mount_of(const Request& request) {
  auto id = request.query.text("id");
  if (id.empty()) return Error(ErrorKind::invalid, "which cache mount? The parameter id is missing");
  return id;
}
}  // namespace

Status remove_cache_mount(Request& request) {
  TRY_PLAIN(request.builder.remove_cache_mount(request.caller, TRY_PLAIN(mount_of(request))));
  return request.reply_empty(204);
}

Status export_cache_mount(Request& request) {
  const auto id = TRY_PLAIN(mount_of(request));
  return stream_out(request, headers_of_type("application/x-tar"), [&](int fd, Cancel cancel) { return request.builder.export_cache_mount(request.caller, id, fd, cancel); });
}

/// With `ref` from that registry, else from the body. `id`: another one than it was exported with.
Status import_cache_mount(Request& request) {
  build::CacheMountImport wanted;
  wanted.id = request.query.text("id");
  wanted.reference = request.query.text("ref");
  wanted.credentials = credentials_of(request);
  auto import = [&](int fd) -> Status {
    wanted.source_fd = fd;
    const auto made = TRY_PLAIN(request.builder.import_cache_mount(request.caller, wanted, request.exchange.cancel()));
    return request.reply_json(201, build_cache_json({made}).front().get_object());
  };
  return wanted.reference.empty() ? feed_body(request, import) : import(-1);
}

namespace {

std::string_view status_text(build::BuildStatus status) {
  switch (status) {
    case build::BuildStatus::running: return "Running";
    case build::BuildStatus::completed: return "Completed";
    case build::BuildStatus::failed: return "Error";
    case build::BuildStatus::cancelled: return "Canceled";
  }
  return "Error";
}

json::object build_json(const build::BuildRecord& record) {
  json::array tags;
  for (const auto& tag : record.tags) tags.push_back(json::value(tag));
  return {{"ID", record.id},
          {"Name", record.name},
          {"Status", status_text(record.status)},
          {"CreatedAt", to_rfc3339(record.started)},
          {"CompletedAt", record.ended == 0 ? std::string() : to_rfc3339(record.ended)},
          {"DurationNs", (record.ended == 0 ? now_ns() : record.ended) - record.started},
          {"Tags", std::move(tags)},
          {"Target", record.target},
          {"Platform", record.platform},
          {"Dockerfile", record.dockerfile},
          {"Context", record.context},
          {"ImageID", record.image},
          {"Error", record.error},
          {"TotalSteps", record.steps},
          {"CachedSteps", record.cached},
          {"LogBytes", record.log_bytes},
          {"LostLogBytes", record.lost_bytes}};
}

}  // namespace

Status list_builds(Request& request) {
  json::array out;
  for (const auto& record : TRY_PLAIN(request.builder.history(request.caller))) out.push_back(build_json(record));
  return request.reply_json(200, out);
}

Status inspect_build(Request& request) { return request.reply_json(200, build_json(TRY_PLAIN(request.builder.find_build(request.caller, request.name)))); }

Status show_build_log(Request& request) {
  auto file = TRY_PLAIN(request.builder.open_build_log(request.caller, request.name));
  const auto size_bytes = static_cast<std::uint64_t>(TRY_PLAIN(linux::fstat(file.get())).st_size);
  return request.exchange.respond_file(200, headers_of_type("text/plain; charset=utf-8"), file.get(), 0, size_bytes);
}

Status remove_build(Request& request) {
  TRY_PLAIN(request.builder.remove_build(request.caller, request.name));
  return request.reply_empty(204);
}

}  // namespace caisson::api
