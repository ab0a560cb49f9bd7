// `build`: packs the context, sends it, and prints what the builder says.

#include <algorithm>
#include <cerrno>
#include <optional>
#include <set>

#include "base/digest.hpp"
#include "base/environment.hpp"
#include "base/strings.hpp"
#include "cli/build_annotations.hpp"
#include "cli/build_cache.hpp"
#include "cli/build_call.hpp"
#include "cli/build_context.hpp"
#include "cli/build_result.hpp"
#include "cli/build_tree.hpp"
#include "cli/debug_shell.hpp"
#include "cli/run_build.hpp"
#include "cli/commands.hpp"
#include "cli/create_body.hpp"
#include "cli/listing.hpp"
#include "cli/place_here.hpp"
#include "cli/platform.hpp"
#include "cli/progress.hpp"
#include "cli/registry.hpp"
#include "cli/request.hpp"
#include "cli/save_stream.hpp"
#include "cli/ssh_agents.hpp"
#include "dockerfile/git_url.hpp"
#include "image/manifest.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"
#include "linux/tree.hpp"

namespace caisson::cli {

namespace {

/// "A=b", or "A" for the value from here; nothing when that is unset.
void add_argument(json::object& out, std::string_view text) {
  auto halves = split_once(text, '=');
  std::string name(halves.before);
  if (halves.found) {
    out[name] = std::string(halves.after);
  } else if (const char* value = environment(name.c_str()); value != nullptr) {
    out[name] = value;
  }
}

/// "id=x,src=path", "id=x,env=NAME" or "type=file,…": docker's --secret. The content travels in a header of the request only.
Status add_secret(json::object& out, const std::string& text) {
  std::string id;
  std::string source;
  std::string variable;
  for (auto field : split(text, ',')) {
    auto halves = split_once(field, '=');
    if (halves.before == "id") id = halves.after;
    else if (halves.before == "src" || halves.before == "source") source = halves.after;
    else if (halves.before == "env") variable = halves.after;
    else if (halves.before != "type") return Error(ErrorKind::invalid, concat("--secret: unexpected key '", halves.before, "' in ", text));
  }
  if (id.empty()) return Error(ErrorKind::invalid, concat("--secret: id is missing in ", text));
  std::string content;
  if (!source.empty()) {
    content = TRY(linux::read_file(source), concat("--secret ", id));
  } else {
    const char* value = environment(variable.empty() ? id.c_str() : variable.c_str());
    if (value == nullptr) return Error(ErrorKind::invalid, concat("--secret ", id, ": neither src nor a variable of that name"));
    content = value;
  }
  out[id] = base64_encode(content);
  return {};
}

/// What to build for; "": this machine's. The daemon's own, if it is among them, comes last: names that mean one image mean that one.
Result<std::vector<std::string>> wanted_platforms(Session& session, const Invocation& invocation) {
  std::vector<std::string> platforms;
  for (const auto& list : invocation.list("platform"))
    for (auto word : split(list, ',')) {
      if (word.empty()) continue;
      auto text = image::platform_text(TRY(image::parse_platform(word), "--platform"));
      if (std::find(platforms.begin(), platforms.end(), text) == platforms.end()) platforms.push_back(std::move(text));
    }
  if (platforms.empty()) return std::vector<std::string>{""};
  if (platforms.size() == 1) return platforms;
  const auto own = TRY_PLAIN(daemon_platform(session));
  std::stable_partition(platforms.begin(), platforms.end(), [&](const std::string& text) { return text != own; });
  return platforms;
}

Result<Query> build_query(const Invocation& invocation, const std::string& dockerfile) {
  Query query;
  if (!dockerfile.empty()) query.add("dockerfile", dockerfile);
  json::object arguments;
  for (const auto& argument : invocation.list("build-arg")) add_argument(arguments, argument);
  // Reproducible builds name their time in the environment, as other tools take it.
  if (const char* epoch = environment("SOURCE_DATE_EPOCH"); epoch != nullptr && !arguments.contains("SOURCE_DATE_EPOCH")) arguments["SOURCE_DATE_EPOCH"] = epoch;
  if (!arguments.empty()) query.add("buildargs", to_text(arguments));
  json::object labels;
  for (const auto& label : invocation.list("label")) {
    auto halves = split_once(label, '=');
    labels[std::string(halves.before)] = std::string(halves.after);
  }
  if (!labels.empty()) query.add("labels", to_text(labels));
  query.add_if(!invocation.text("target").empty(), "target", invocation.text("target"));
  query.add_if(invocation.flag("no-cache"), "nocache").add_if(invocation.flag("pull"), "pull");
  query.add_if(invocation.flag("quiet") || invocation.text("progress") == "quiet", "q");
  query.add("rm", invocation.flag("rm") ? "1" : "0").add_if(invocation.flag("force-rm"), "forcerm");
  query.add_if(!invocation.text("network").empty(), "networkmode", invocation.text("network"));
  for (const auto& host : invocation.list("add-host")) query.add("extrahosts", host);
  if (invocation.has("memory")) query.add("memory", concat(invocation.bytes("memory")));
  if (invocation.has("memory-swap")) query.add("memswap", concat(invocation.bytes("memory-swap")));
  if (invocation.has("shm-size")) query.add("shmsize", concat(invocation.bytes("shm-size")));
  for (const auto& [flag, key] : {std::pair{"cpu-period", "cpuperiod"}, std::pair{"cpu-quota", "cpuquota"}, std::pair{"cpu-shares", "cpushares"}, std::pair{"cpuset-cpus", "cpusetcpus"},
                                  std::pair{"cpuset-mems", "cpusetmems"}})
    query.add_if(invocation.has(flag), key, invocation.text(flag));
  if (invocation.has("ulimit")) query.add("ulimits", to_text(TRY_PLAIN(parse_ulimits(invocation.list("ulimit")))));
  if (auto isolation = invocation.text("isolation"); !isolation.empty() && isolation != "default")
    return Error(ErrorKind::unsupported, concat("invalid isolation: ", isolation, ": only default is known on Linux"));
  query.add_if(!invocation.text("cgroup-parent").empty(), "cgroupparent", invocation.text("cgroup-parent"));
  return query;
}

Result<std::string> extension_header(const Invocation& invocation, const BuildCallFlags& call, json::object annotations, const CacheFlags& cache, json::object contexts, const std::string& provenance, json::object agents, json::object kept, bool wants_events) {
  json::object out;
  if (!kept.empty()) out["kept"] = std::move(kept);
  if (wants_events) out["events"] = true;
  if (!provenance.empty()) out["provenance"] = provenance;
  if (!agents.empty()) out["ssh"] = std::move(agents);
  if (!contexts.empty()) out["contexts"] = std::move(contexts);
  if (!cache.from.empty()) out["cache_from"] = cache.from;
  if (!cache.to.empty()) out["cache_to"] = cache.to;
  json::object secrets;
  for (const auto& secret : invocation.list("secret")) TRY_PLAIN(add_secret(secrets, secret));
  json::array allowed;
  for (const auto& right : invocation.list("allow")) allowed.push_back(json::value(right));
  if (!secrets.empty()) out["secrets"] = std::move(secrets);
  if (!allowed.empty()) out["allow"] = std::move(allowed);
  if (!call.builds()) out["call"] = call.call;
  if (!annotations.empty()) out["annotations"] = std::move(annotations);
  json::array redone;
  for (const auto& list : invocation.list("no-cache-filter"))
    for (auto stage : split(list, ','))
      if (!stage.empty()) redone.push_back(json::value(stage));
  if (!redone.empty()) out["no_cache"] = std::move(redone);
  if (invocation.has("debug-shell")) out["debug_shell"] = TRY_PLAIN(debug_shell_wish(invocation));
  return out.empty() ? std::string() : base64_encode(to_text(out));
}

struct Built {
  std::string image;
  std::vector<std::string> caches;  ///< images with the cache
  std::string provenance;
  json::value answer;  ///< of what was asked instead
};
/// A tree where somebody watches, lines elsewhere. Errors: invalid.
Result<bool> draws_tree(Session& session, const Invocation& invocation, const BuildCallFlags& call) {
  const auto wish = invocation.text("progress");
  if (wish == "tty") {
    if (!session.err().is_terminal()) return Error(ErrorKind::invalid, "--progress tty: standard error is no terminal");
    return !invocation.flag("quiet");
  }
  if (wish == "auto") return session.err().has_colour() && !invocation.flag("quiet") && call.builds();
  if (wish == "plain" || wish == "json" || wish == "rawjson" || wish == "quiet") return false;
  return Error(ErrorKind::invalid, concat("--progress ", wish, ": want auto, tty, plain, json or quiet"));
}

Status read_build(Session& session, wire::Client& client, ProgressPrinter& printer, bool is_raw) {
  while (true) {
    auto piece = TRY(client.read_some(), "read the builder's progress");
    if (piece.empty()) break;
    if (is_raw) session.out().write(piece);
    TRY_PLAIN(session.out().flush());
    TRY_PLAIN(printer.feed(piece));
    TRY_PLAIN(session.out().flush());
  }
  return printer.finish();
}

Result<Built> follow_build(Session& session, wire::Client& client, const Invocation& invocation, bool has_tree, const ShellTaker& taker) {
  // Programs get every document as it came; what they say decides here too, how it ended.
  const bool is_raw = invocation.text("progress") == "json" || invocation.text("progress") == "rawjson";
  std::optional<LiveTree> tree;
  if (has_tree) tree.emplace(session.err());
  auto take_shell = [&](const JsonView& shell) -> Status {
    if (tree) tree->close(true);  // the terminal is the shell's now
    const auto offered = TRY_PLAIN(read_offered_shell(shell));
    return taker ? taker(offered) : enter_debug_shell(session, offered);
  };
  ProgressPrinter printer(session.out(), session.err(), {.is_quiet = is_raw, .prints_results = !is_raw, .on_debug_shell = take_shell, .tree = tree ? &*tree : nullptr});
  auto ended = read_build(session, client, printer, is_raw);
  if (tree) tree->close(!ended.ok());
  session.out().write(printer.kept_text());
  TRY_PLAIN(std::move(ended));
  // A quiet build has its id as its one text.
  auto id = printer.result_id();
  if (id.empty() && invocation.flag("quiet") && Digest::parse(trim(printer.last_result())).ok()) id = trim(printer.last_result());
  return Built{std::move(id), printer.cache_ids(), printer.provenance(), printer.answer()};
}

/// --ssh; where it is not given and the context is a repository by ssh, the agent that is there, as buildx has it.
std::vector<std::string> wanted_agents(const Invocation& invocation) {
  auto wanted = invocation.list("ssh");
  if (!wanted.empty() || environment_text("SSH_AUTH_SOCK").empty()) return wanted;
  bool needs_one = dockerfile::is_ssh_git_url(invocation.word(0)) && is_remote(invocation.word(0));
  for (const auto& context : invocation.list("build-context")) needs_one = needs_one || dockerfile::is_ssh_git_url(split_once(context, '=').after);
  if (needs_one) wanted.emplace_back("default");
  return wanted;
}

/// What goes over the wire: a packed folder, standard input as it is, or an address that the daemon fetches from.
struct Source {
  BuildContext context;
  std::optional<ContextFiles> files;  ///< of a folder whose files the daemon may have
  bool is_stdin = false;
  std::string remote;
};

Result<Source> open_source(const Invocation& invocation, const std::string& inline_text) {
  Source source;
  const std::string& path = invocation.word(0);
  const std::string file(invocation.text("file"));
  if (is_remote(path)) {
    if (!inline_text.empty()) return Error(ErrorKind::invalid, concat("an inline Dockerfile does not go with the context ", path));
    if (file == "-") return Error(ErrorKind::invalid, concat("-f -: a Dockerfile on standard input does not go with the context ", path));
    source.remote = path;
    source.context.dockerfile = file;
    return source;
  }
  if (path != "-") {
    source.context = TRY_PLAIN(open_context(path, file, inline_text));
    return source;
  }
  if (file == "-") return Error(ErrorKind::invalid, "invalid argument: can't use stdin for both build context and dockerfile");
  source.is_stdin = true;
  source.context.dockerfile = file;
  return source;
}

/// A Dockerfile on standard input, not an archive: text has neither NULs nor a compressor's mark at its start.
bool is_dockerfile(std::string_view head) { return head.find('\0') == std::string_view::npos && !head.starts_with("\x1f\x8b") && !head.starts_with("\x28\xb5\x2f\xfd") && !head.starts_with("BZh"); }

/// Heads of files and small files go together: each piece that goes alone wakes everybody on the way to the worker.
class Gatherer {
 public:
  explicit Gatherer(int fd) : fd_(fd) {}
  Status take(std::string_view bytes) {
    if (buffer_.size() + bytes.size() > most_bytes) TRY_PLAIN(flush());
    if (bytes.size() >= most_bytes) return linux::send_all(fd_, bytes);
    buffer_ += bytes;
    return {};
  }
  Status flush() {
    auto sent = buffer_.empty() ? Status() : linux::send_all(fd_, buffer_);
    buffer_.clear();
    return sent;
  }

 private:
  static constexpr std::size_t most_bytes = 64U << 10U;
  int fd_;
  std::string buffer_;
};

/// What the daemon has of the files, and has kept for a build that follows.
struct Kept {
  json::object said;                ///< of X-Caisson-Build; empty: nothing is kept
  std::string list;                 ///< goes ahead of the archive
  std::set<std::string> left_out;
};

/// A daemon that cannot answer (docker's, an older one) gets everything.
Kept ask_for_kept(Session& session, const ContextFiles& files) {
  json::array digests;
  for (const auto& file : files.files) digests.emplace_back(file.digest);
  const json::value question = json::object{{"name", files.name}, {"digests", std::move(digests)}};
  auto answer = session.post("/caisson/v1/builds/context", &question);
  std::vector<std::size_t> missing;
  if (!answer.ok() || !JsonView(*answer).read("Missing", missing).ok()) return {};
  Kept kept;
  json::array list;
  auto next = missing.begin();
  for (std::size_t i = 0; i < files.files.size(); ++i) {
    if (next != missing.end() && *next == i) {
      ++next;
      continue;
    }
    const auto& file = files.files[i];
    list.push_back(json::array{file.name, file.digest, file.mode, file.mtime_s});
    kept.left_out.insert(file.name);
  }
  kept.list = to_text(list);
  kept.said = json::object{{"name", files.name}, {"text", files.text}, {"bytes", kept.list.size()}};
  return kept;
}

Status send_source(const Source& source, const Kept& kept, int fd) {
  if (!source.remote.empty()) return {};
  Gatherer gatherer(fd);
  TRY_PLAIN(gatherer.take(kept.list));
  image::TarWriter tar([&](std::string_view bytes) { return gatherer.take(bytes); });
  auto pack = [&](const BuildContext& context) -> Status {
    TRY_PLAIN(pack_context(context, kept.left_out, tar));
    return gatherer.flush();
  };
  if (!source.is_stdin) return pack(source.context);
  std::string head(512, '\0');
  auto got = TRY(linux::read(0, head), "read standard input");
  head.resize(got);
  if (is_dockerfile(head)) {
    BuildContext context;
    context.dockerfile = "Dockerfile";
    context.dockerfile_text = head + TRY(linux::read_all(0), "read standard input");
    return pack(context);
  }
  std::string buffer(256 << 10, '\0');
  TRY_PLAIN(linux::send_all(fd, head));
  while (true) {
    auto more = TRY(linux::read(0, buffer), "read standard input");
    if (more == 0) return {};
    TRY_PLAIN(linux::send_all(fd, std::string_view(buffer).substr(0, more)));
  }
}

}  // namespace

Result<std::string> run_build(Session& session, const Invocation& invocation, const BuildWish& wish) {
  const auto output = TRY_PLAIN(parse_build_output(invocation));
  const auto call = TRY_PLAIN(parse_build_call(invocation));
  const auto annotations = TRY_PLAIN(parse_annotations(invocation.list("annotation")));
  if (const auto builder = invocation.text("builder"); !builder.empty() && builder != "default") return Error(ErrorKind::not_found, concat("no builder \"", builder, "\" found: an engine has one, \"default\"")).with_hint("another engine is named with --context or -H");
  const auto tags = invocation.list("tag");
  const auto attestations = TRY_PLAIN(parse_attestation_flags(session, invocation));
  const auto platforms = TRY_PLAIN(wanted_platforms(session, invocation));
  TRY_PLAIN(check_result(invocation, output, attestations, annotations, platforms.size()));
  auto source = TRY_PLAIN(open_source(invocation, wish.inline_dockerfile));
  if (source.is_stdin && platforms.size() > 1) return Error(ErrorKind::invalid, "a context on standard input can be sent once, for one platform");
  auto contexts = TRY_PLAIN(parse_named_contexts(invocation.list("build-context"), source.context));
  if (source.remote.empty() && !source.is_stdin) source.files = TRY_PLAIN(list_files(source.context));
  auto query = TRY_PLAIN(build_query(invocation, source.context.dockerfile));
  query.add_if(!source.remote.empty(), "remote", source.remote);
  const auto cache = TRY_PLAIN(parse_cache_flags(invocation.list("cache-from"), invocation.list("cache-to"), platforms.size() > 1));
  LentCaches lent(session);
  TakenCaches taken(session);
  auto headers = TRY_PLAIN(all_auth_headers(session));
  // Provenance is asked for where a file wants it, too.
  const bool has_metadata = invocation.has("metadata-file") || wish.metadata != nullptr;
  const auto provenance = attestations.provenance.empty() && has_metadata ? std::string("min") : attestations.provenance;
  const bool has_tree = TRY_PLAIN(draws_tree(session, invocation, call));
  const auto own_agents = TRY_PLAIN(open_agents(wanted_agents(invocation)));
  if (!own_agents.problem.empty()) session.err().line(concat("warning: --ssh: ", own_agents.problem));
  std::vector<BuiltImage> images;
  for (const auto& platform : platforms) {
    auto own = query;
    own.add_if(!platform.empty(), "platform", platform);
    if (&platform == &platforms.back())
      for (const auto& tag : tags) own.add("t", tag);
    if (platforms.size() > 1) session.err().line(concat("Building for ", platform));
    auto own_cache = cache;
    for (const auto& folder : cache.folders)
      if (auto id = TRY_PLAIN(lent.lend(folder, platform)); !id.empty()) own_cache.from.push_back(json::object{{"ref", id}, {"local", true}});
    auto client = TRY_PLAIN(session.connect());  // it starts the daemon, if need be, before agents are lent
    // A session is of one build.
    auto agents = TRY_PLAIN(LentAgents::start(session, own_agents));
    auto send = [&](const Kept& kept) -> Result<Session::Upload> {
      auto own_headers = headers;
      if (auto extension = TRY_PLAIN(extension_header(invocation, call, manifest_annotations(annotations, platform), own_cache, contexts, provenance, agents->extension(), kept.said, has_tree)); !extension.empty()) own_headers.emplace_back("X-Caisson-Build", extension);
      return session.upload_written(*client, "/build" + own.text(), [&](int fd) { return send_source(source, kept, fd); }, "POST", own_headers);
    };
    auto outcome = [&]() -> Result<Built> {
      const auto kept = source.files ? ask_for_kept(session, *source.files) : Kept();
      auto sent = TRY_PLAIN(send(kept));
      if (!kept.left_out.empty() && !sent.answered.ok() && sent.answered.error().kind() == ErrorKind::conflict) {  // they went between the answer and the build
        client = TRY_PLAIN(session.connect());
        agents.reset();
        agents = TRY_PLAIN(LentAgents::start(session, own_agents));
        sent = TRY_PLAIN(send({}));
      }
      // A file that could not be read here is why the daemon got half an archive; a daemon that hung up has said why.
      const int number = sent.written.ok() ? 0 : sent.written.error().error_number();
      if (number == EPIPE || number == ECONNRESET) TRY_PLAIN(std::move(sent.answered));
      TRY(std::move(sent.written), "build context");
      TRY_PLAIN(std::move(sent.answered));
      return follow_build(session, *client, invocation, has_tree, wish.take_shell);
    }();
    for (const auto& problem : agents->take_problems()) session.err().line(concat("warning: ", problem));
    agents.reset();
    TRY_PLAIN(session.err().flush());
    auto built = TRY_PLAIN(std::move(outcome));
    if (!built.answer.is_null() && invocation.text("progress").find("json") == std::string_view::npos) TRY_PLAIN(print_build_answer(session.out(), call, built.answer));
    if (built.image.empty()) continue;  // --call
    taken.add(built.caches);
    images.push_back({platform, built.image, built.provenance});
  }
  if (images.empty()) return std::string();
  TRY_PLAIN(taken.deliver(cache.places, invocation.flag("quiet")));
  auto metadata = TRY_PLAIN(deliver(session, invocation, output, attestations, annotations, images));
  if (wish.metadata != nullptr) *wish.metadata = std::move(metadata);
  return images.back().image;
}

Result<int> build_image(Session& session, const Invocation& invocation) {
  TRY_PLAIN(run_build(session, invocation));
  return 0;
}

Result<int> prune_build_cache(Session& session, const Invocation& invocation) {
  Query query;
  query.add_if(invocation.flag("all"), "all");
  for (const auto* name : {"keep-storage", "reserved-space"})
    if (invocation.has(name)) query.add(name, concat(invocation.bytes(name)));
  query.add_filters(TRY_PLAIN(parse_filters(invocation.list("filter"))));
  auto answer = TRY_PLAIN(session.post("/build/prune" + query.text()));
  std::uint64_t reclaimed = 0;
  TRY_PLAIN(JsonView(answer).read("SpaceReclaimed", reclaimed));
  session.out().line(concat("Total:\t", four_digit_size(reclaimed)));
  return 0;
}

}  // namespace caisson::cli
