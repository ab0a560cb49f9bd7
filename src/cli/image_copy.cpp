// image copy, image sync: images from place to place without this host's image store.
#include "base/strings.hpp"
#include "cli/travel_commands.hpp"
#include "cli/places.hpp"
#include "cli/progress.hpp"
#include "linux/file.hpp"
#include "linux/sysinfo.hpp"
#include "transport/copier.hpp"
#include "transport/sync.hpp"

namespace caisson::cli {

namespace {

using transport::SyncOutcome;

constexpr std::int64_t most_blobs_at_once = 32;

Result<transport::CopyOptions> copy_options(const Invocation& invocation) {
  transport::CopyOptions options;
  options.all_platforms = invocation.flag("all");
  options.signatures = invocation.flag("signatures");
  options.referrers = invocation.flag("referrers");
  const auto wanted = invocation.text("platform");
  if (options.all_platforms && !wanted.empty()) return Error(ErrorKind::invalid, "--all and --platform are mutually exclusive");
  if (wanted.empty()) options.platform = image::platform_of_machine(TRY_PLAIN(linux::uname()).machine);
  else options.platform = TRY_PLAIN(image::parse_platform(wanted));
  const auto jobs = invocation.integer("jobs");
  if (jobs < 1 || jobs > most_blobs_at_once) return Error(ErrorKind::invalid, concat("--jobs must be 1 to ", most_blobs_at_once));
  options.blobs_at_once = static_cast<std::size_t>(jobs);
  return options;
}

/// Lines as a daemon would send them: one printer shows both.
image::ProgressSink sink_of(ProgressPrinter& printer, Status& failure) {
  return [&printer, &failure](const image::Progress& progress) {
    json::object line{{"id", progress.id}, {"status", progress.status}};
    if (progress.total != 0) line["progressDetail"] = json::object{{"current", progress.current}, {"total", progress.total}};
    auto shown = printer.feed(to_text(line) + "\n");
    if (failure.ok()) failure = std::move(shown);
  };
}

std::string traffic_text(const transport::Traffic& traffic) {
  auto counted = [](std::uint64_t number, std::string_view one) { return concat(number, " ", one, number == 1 ? "" : "s"); };
  return concat(counted(traffic.manifests, "manifest"), ", ", counted(traffic.blobs, "blob"), " (", human_size(traffic.bytes), "), ", traffic.mounted, " mounted, ", traffic.there,
                " there already");
}

void show_outcome(Session& session, const SyncOutcome& outcome) {
  switch (outcome.kind) {
    case SyncOutcome::Kind::copied: session.out().line(concat("copied     ", outcome.from, " -> ", outcome.to, " ", outcome.digest, " (", traffic_text(outcome.traffic), ")")); break;
    case SyncOutcome::Kind::unchanged: session.out().line(concat("unchanged  ", outcome.from, " -> ", outcome.to, " ", outcome.digest)); break;
    case SyncOutcome::Kind::would_copy: session.out().line(concat("would copy ", outcome.from, " -> ", outcome.to, " ", outcome.digest)); break;
    case SyncOutcome::Kind::failed: session.err().line(concat("failed     ", outcome.from, ": ", outcome.error ? outcome.error->text() : "")); break;
  }
}

/// "oci:FOLDER" is where all entries lie; everything else is an entry.
Result<transport::SyncRequest> sync_request(const Invocation& invocation) {
  transport::SyncRequest request;
  const auto& words = invocation.words();
  request.target = TRY_PLAIN(transport::parse_sync_target(words.back()));
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    constexpr std::string_view layout = "oci:";
    if (!words[i].starts_with(layout)) {
      request.entries.push_back(TRY_PLAIN(transport::parse_sync_line(words[i])));
      continue;
    }
    if (!request.source_folder.empty()) return Error(ErrorKind::invalid, "only one folder of layouts can be the source");
    request.source_folder = words[i].substr(layout.size());
    if (request.source_folder.empty()) return Error(ErrorKind::invalid, concat("\"", words[i], "\" names no folder"));
  }
  for (const auto& file : invocation.list("file")) {
    auto text = TRY_PLAIN(linux::read_file(file));
    for (auto& entry : TRY(transport::parse_sync_list(text, transport::format_of(file)), file)) request.entries.push_back(std::move(entry));
  }
  if (request.entries.empty() && request.source_folder.empty())
    return Error(ErrorKind::invalid, "nothing says what is to be brought").with_hint("name repositories before the target, or a list with --file");
  request.is_dry_run = invocation.flag("dry-run");
  request.copy = TRY_PLAIN(copy_options(invocation));
  return request;
}

}  // namespace

Result<int> copy_image(Session& session, const Invocation& invocation) {
  const auto from = TRY_PLAIN(transport::parse_location(invocation.word(0)));
  const auto to = TRY_PLAIN(transport::parse_location(invocation.word(1)));
  auto options = TRY_PLAIN(copy_options(invocation));
  if (options.all_platforms && (to.kind == transport::Kind::local || to.kind == transport::Kind::docker_archive))
    return Error(ErrorKind::invalid, concat(transport::to_text(to), " holds single images; --all has no meaning there"));
  if (options.referrers && (to.kind == transport::Kind::local || to.kind == transport::Kind::docker_archive))
    return Error(ErrorKind::invalid, concat(transport::to_text(to), " holds images only; --referrers has no meaning there"));
  auto places = TRY_PLAIN(Places::create(session, invocation));
  auto source = TRY_PLAIN(places.open_source(from));
  const bool has_tag = !source.name.empty() && source.name.find(':') == std::string::npos;
  auto target = TRY_PLAIN(places.open_target(to, has_tag ? source.name : from.kind == transport::Kind::local ? from.reference.tag : ""));

  const auto at_target = target.place().spool_folder();
  auto spool = TRY_PLAIN(transport::Spool::open(at_target.empty() ? places.spool_folder() : at_target));
  transport::Holders holders;
  ProgressPrinter printer(session.out(), session.err(), {.is_quiet = invocation.flag("quiet"), .prints_results = false});
  Status shown;
  transport::Copier copier(source.place(), target.place(), spool, holders, options, sink_of(printer, shown));
  auto run = [&]() -> Result<image::FetchedManifest> {
    auto manifest = TRY_PLAIN(copier.resolve(source.name));
    const auto& wanted = to.reference.digest;
    if (to.kind == transport::Kind::registry && wanted && *wanted != manifest.digest)
      return Error(ErrorKind::invalid, concat(transport::to_text(to), " names another digest than the source's ", manifest.digest.text()));
    TRY_PLAIN(copier.copy(manifest, target.tag()));
    TRY_PLAIN(copier.copy_signatures(manifest));
    TRY_PLAIN(copier.copy_referrers(manifest));
    return manifest;
  };
  auto done = run();
  spool.leave();
  const auto manifest = TRY_PLAIN(std::move(done));
  TRY_PLAIN(target.finish());
  TRY_PLAIN(std::move(shown));
  if (!invocation.flag("quiet")) session.err().line(traffic_text(copier.traffic()));
  session.out().line(manifest.digest.text());
  return 0;
}

Result<int> sync_images(Session& session, const Invocation& invocation) {
  auto request = TRY_PLAIN(sync_request(invocation));
  auto places = TRY_PLAIN(Places::create(session, invocation));
  ProgressPrinter printer(session.out(), session.err(), {.is_quiet = invocation.flag("quiet"), .prints_results = false});
  Status shown;
  transport::SyncSurroundings surroundings;
  surroundings.open_registry = [&](const image::Reference& reference, const std::string& actions) { return places.open_registry(reference, actions); };
  surroundings.spool_folder = places.spool_folder();
  surroundings.progress = sink_of(printer, shown);
  surroundings.on_outcome = [&](const SyncOutcome& outcome) { show_outcome(session, outcome); };
  const auto summary = TRY_PLAIN(transport::run_sync(request, surroundings));
  TRY_PLAIN(std::move(shown));
  session.out().line(concat(request.is_dry_run ? "to copy: " : "copied: ", summary.copied, ", unchanged: ", summary.unchanged, ", failed: ", summary.failed));
  if (!request.is_dry_run) session.out().line(traffic_text(summary.traffic));
  return summary.failed == 0 ? 0 : 1;
}

}  // namespace caisson::cli
