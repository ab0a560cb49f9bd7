// Images as streams: load, save, import, bootstrap.
#include "api/handlers.hpp"
#include "api/json_out.hpp"
#include "api/progress_stream.hpp"
#include "api/transfer.hpp"
#include "base/strings.hpp"

namespace caisson::api {

namespace {

Status save(Request& request, const image::SaveRequest& save) {
  for (const auto& name : save.names) TRY_PLAIN(request.engine.inspect_image(request.caller, name));
  return stream_out(request, headers_of_type("application/x-tar"),
                    [&](int fd, Cancel cancel) { return request.engine.save_images(request.caller, save, fd, cancel); });
}

Status import(Request& request) {
  image::ImportRequest import;
  const std::string repo = request.query.text("repo");
  const std::string tag = request.query.text("tag");
  import.reference = repo.empty() || tag.empty() ? repo : concat(repo, ":", tag);
  import.message = request.query.text("message");
  import.changes = request.query.all("changes");
  import.platform = request.query.text("platform");
  ProgressStream progress(request);
  auto outcome = feed_body(request, [&](int fd) -> Status {
    import.source_fd = fd;
    auto image = TRY_PLAIN(request.engine.import_image(request.caller, import, progress.sink(), request.exchange.cancel()));
    progress.send(json::object{{"status", image.id.text()}});
    return {};
  });
  return progress.finish(outcome);
}

}  // namespace

Status create_image(Request& request) {
  const std::string source = request.query.text("fromSrc");
  const std::string name = request.query.text("fromImage");
  if (source == "-") return import(request);
  if (!source.empty())
    return Error(ErrorKind::unsupported, concat("import from ", source, " is not supported yet")).with_hint("download the archive and import it from a file or `-`");
  if (name.empty()) return Error(ErrorKind::invalid, "query parameter fromImage or fromSrc is missing");
  return pull_image(request);
}

Status load_images(Request& request) {
  ProgressStream progress(request);
  const bool quiet = request.query.flag("quiet");
  auto outcome = feed_body(request, [&](int fd) -> Status {
    auto sink = quiet ? image::ProgressSink([](const image::Progress& /*asked not to*/) {}) : progress.sink();
    auto images = TRY_PLAIN(request.engine.load_images(request.caller, fd, sink, request.exchange.cancel()));
    for (const auto& image : images) {
      if (image.repo_tags.empty()) progress.send(json::object{{"stream", concat("Loaded image ID: ", image.id.text(), "\n")}});
      for (const auto& tag : image.repo_tags) progress.send(json::object{{"stream", concat("Loaded image: ", tag, "\n")}});
    }
    return {};
  });
  return progress.finish(outcome);
}

Status save_one_image(Request& request) {
  image::SaveRequest wanted;
  wanted.names.push_back(request.name);
  wanted.compression = TRY_PLAIN(read_compression(request.query));
  return save(request, wanted);
}

Status save_images(Request& request) {
  image::SaveRequest wanted;
  for (const auto& value : request.query.all("names"))
    for (auto name : split(value, ','))
      if (!name.empty()) wanted.names.emplace_back(name);
  if (wanted.names.empty()) return Error(ErrorKind::invalid, "query parameter names is missing");
  wanted.index_name = request.query.text("index");  // ours: several platforms as one image
  wanted.annotations = TRY_PLAIN(read_index_annotations(request.query));
  wanted.compression = TRY_PLAIN(read_compression(request.query));
  return save(request, wanted);
}

/// Native: {"suite", "include": [], "reference", "mirror", "snapshot"} → progress lines, then {"id", "status"}.
Status bootstrap_image(Request& request) {
  auto document = TRY_PLAIN(request.read_json());
  JsonView body(document);
  image::BootstrapRequest bootstrap;
  TRY_PLAIN(body.read("suite", bootstrap.suite));
  TRY_PLAIN(body.read("include", bootstrap.include));
  TRY_PLAIN(body.read("reference", bootstrap.reference));
  TRY_PLAIN(body.read("mirror", bootstrap.mirror));
  TRY_PLAIN(body.read("snapshot", bootstrap.snapshot));
  if (bootstrap.suite.empty()) return Error(ErrorKind::invalid, "suite: is missing (want \"debian:bookworm\" or \"debian:trixie\")");
  ProgressStream progress(request);
  Status outcome = [&]() -> Status {
    auto image = TRY_PLAIN(request.engine.bootstrap_image(request.caller, bootstrap, progress.sink(), request.exchange.cancel()));
    json::object done{{"status", "Done"}, {"aux", json::object{{"ID", image.id.text()}}}};
    if (!image.repo_tags.empty()) done["stream"] = concat(image.repo_tags.front(), "\n");
    progress.send(done);
    return {};
  }();
  return progress.finish(outcome);
}

}  // namespace caisson::api
