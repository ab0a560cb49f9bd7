// The image is in the engine's store already: here it goes on from there.
#include "cli/build_result.hpp"

#include <algorithm>

#include "base/json.hpp"
#include "base/strings.hpp"
#include "cli/place_here.hpp"
#include "cli/registry.hpp"
#include "cli/request.hpp"
#include "cli/save_stream.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::cli {

namespace {

/// "type=tar,dest=x.tar", "x.tar" ("-" too).
Result<BuildOutput> parse_output(std::string_view text) {
  BuildOutput out;
  out.compression.is_of_all_layers = false;  // buildx's rule: what a base image brings stays as it is, unless it is forced
  if (text.empty()) return out;
  if (text.find('=') == std::string_view::npos) {
    out.type = text == "-" ? "tar" : "local";
    out.destination = text;
  }
  for (auto field : split(text, ',')) {
    auto halves = split_once(field, '=');
    if (halves.before == "type") out.type = halves.after;
    if (halves.before == "dest") out.destination = halves.after;
    if (halves.before == "push") out.is_pushed = halves.after == "true";
    if (halves.before == "compression") out.compression.format = halves.after;
    if (halves.before == "compression-level") out.compression.level = halves.after;
    if (halves.before == "force-compression") out.compression.is_of_all_layers = halves.after == "true" || halves.after == "1";
  }
  if (out.type == "registry") {
    out.type = "image";
    out.is_pushed = true;
  }
  if (out.type != "image" && out.type != "local" && out.type != "tar" && out.type != "docker" && out.type != "oci")
    return Error(ErrorKind::unsupported, concat("--output type=", out.type, " is not supported (image, registry, local, tar, docker, oci)"));
  if ((out.type == "tar" || out.type == "local") && out.destination.empty())
    return Error(ErrorKind::invalid, concat("--output type=", out.type, " needs dest=", out.type == "tar" ? "FILE" : "FOLDER"));
  return out;
}

std::string stream_target(const BuildOutput& output) { return output.destination == "-" ? "" : output.destination; }

/// As an archive: one image, or one of several platforms.
Status write_archive(Session& session, const BuildOutput& output, const std::vector<BuiltImage>& images, const std::string& name, const json::object& annotations) {
  Query query;
  for (const auto& built : images) query.add("names", built.image);
  if (images.size() > 1) query.add("index", name);
  add_compression(query, output.compression);
  query.add_if(!annotations.empty(), "annotations", to_text(annotations));
  auto client = TRY_PLAIN(session.connect());
  TRY_PLAIN(session.open_stream(*client, "GET", "/images/get" + query.text()));
  return save_stream(*client, stream_target(output));
}

/// The files of an image, as a tar or into a folder.
Status write_files(Session& session, const BuildOutput& output, const std::string& image) {
  json::value body = json::object{{"Image", image}, {"Entrypoint", json::array{"/"}}};
  auto created = TRY_PLAIN(session.post("/containers/create", &body));
  std::string id;
  TRY_PLAIN(JsonView(created).read("Id", id));
  auto client = TRY_PLAIN(session.connect());
  auto saved = [&]() -> Status {
    TRY_PLAIN(session.open_stream(*client, "GET", object_path("containers", id, "export") + "?mountpoints=0"));
    if (output.type == "local") {
      TRY(linux::make_dirs(output.destination, 0755), "--output");
      return place_here(*client, output.destination);
    }
    return save_stream(*client, stream_target(output));
  }();
  TRY_PLAIN(session.call("DELETE", object_path("containers", id)));
  return saved;
}

/// "linux/arm64" as a folder of that platform's files.
std::string folder_of(const std::string& platform) {
  auto name = platform;
  std::replace(name.begin(), name.end(), '/', '_');
  return name;
}

Status write_output(Session& session, const BuildOutput& output, const std::vector<BuiltImage>& images, const std::string& name, const json::object& annotations) {
  if (output.type == "image") return {};
  if (output.type == "oci" || output.type == "docker") return write_archive(session, output, images, name, annotations);
  for (const auto& built : images) {
    auto own = output;
    if (images.size() > 1) own.destination = concat(output.destination, "/", folder_of(built.platform));
    TRY_PLAIN(write_files(session, own, built.image));
  }
  return {};
}

/// buildx's names where it has them.
Result<json::object> metadata_of(const std::vector<BuiltImage>& images, const std::vector<std::string>& tags, const std::string& pushed) {
  json::object out{{"containerimage.config.digest", images.back().image}};
  if (!pushed.empty()) out["containerimage.digest"] = pushed;
  if (!tags.empty()) out["image.name"] = join(tags, ",");
  for (const auto& built : images) {
    if (built.provenance.empty()) continue;
    const auto key = images.size() > 1 ? concat("caisson.build.provenance/", built.platform) : std::string("caisson.build.provenance");
    out[key] = TRY_PLAIN(parse_json(built.provenance, "the daemon's provenance"));
  }
  return out;
}

}  // namespace

Result<BuildOutput> parse_build_output(const Invocation& invocation) {
  auto output = TRY_PLAIN(parse_output(invocation.text("output")));
  output.is_pushed = output.is_pushed || invocation.flag("push");
  const bool has_compression = !output.compression.format.empty() || !output.compression.level.empty() || output.compression.is_of_all_layers;
  if (has_compression && !output.is_pushed && output.type != "oci" && output.type != "docker")
    return Error(ErrorKind::invalid, concat("--output type=", output.type, ": compression is for layers that leave the store, and these do not")).with_hint("use type=registry, oci or docker");
  if (has_compression && output.compression.format.empty() && !output.is_pushed) return Error(ErrorKind::invalid, "--output compression-level and force-compression need compression=FORMAT");
  return output;
}

Status check_result(const Invocation& invocation, const BuildOutput& output, const AttestationFlags& attestations, const std::vector<Annotation>& annotations, std::size_t platform_count) {
  const bool has_name = !invocation.list("tag").empty();
  if (output.is_pushed && !has_name) return Error(ErrorKind::invalid, "a push needs a name").with_hint("give the image one with -t");
  if (attestations.any() && !output.is_pushed) return Error(ErrorKind::invalid, "attestations are attached to images in registries").with_hint("push the image, with --push");
  if (invocation.has("attestation-key") && !attestations.any()) return Error(ErrorKind::invalid, "--attestation-key signs attestations, and none is asked for").with_hint("ask for them with --sbom=true or --provenance=true");
  for (const auto& annotation : annotations) {
    if (annotation.level == "manifest") continue;
    const bool has_index_file = output.type == "oci" || output.type == "docker";  // in which a single image has an entry too
    if (platform_count > 1 ? has_index_file || (output.is_pushed && annotation.level != "index-descriptor") : has_index_file && annotation.level == "manifest-descriptor") continue;
    return Error(ErrorKind::invalid, concat("--annotation ", annotation.level, ":", annotation.key, ": the result has no ", annotation.level))
        .with_hint("an index is of several platforms, pushed or as type=oci; descriptors are in indexes");
  }
  if (platform_count == 1) return {};
  if (output.type == "docker" || output.type == "tar") return Error(ErrorKind::invalid, concat("--output type=", output.type, " holds one platform")).with_hint("type=oci and type=local take several");
  if (output.type == "oci" && !has_name) return Error(ErrorKind::invalid, "an archive of several platforms needs a name for them").with_hint("give the image one with -t");
  return {};
}

Result<json::object> deliver(Session& session, const Invocation& invocation, const BuildOutput& output, const AttestationFlags& attestations, const std::vector<Annotation>& annotations, const std::vector<BuiltImage>& images) {
  const auto tags = invocation.list("tag");
  if (const auto file = invocation.text("iidfile"); !file.empty()) TRY(write_output_file(std::string(file), images.back().image), "--iidfile");
  TRY_PLAIN(write_output(session, output, images, tags.empty() ? "" : tags.front(), index_annotations(annotations)));
  std::string pushed;
  std::vector<std::string> repositories;
  for (const auto& tag : output.is_pushed ? tags : std::vector<std::string>()) {
    PushWish wish{tag, false, invocation.flag("quiet"), {}, output.compression, index_annotations(annotations)};
    if (images.size() > 1)
      for (const auto& built : images) wish.images.push_back(built.image);
    pushed = TRY_PLAIN(push(session, wish));
    const auto repository = TRY_PLAIN(image::parse_reference(tag)).repository();
    if (!attestations.any() || std::find(repositories.begin(), repositories.end(), repository) != repositories.end()) continue;
    repositories.push_back(repository);
    TRY_PLAIN(attach_attestations(session, invocation, attestations, tag, images));
  }
  auto metadata = TRY_PLAIN(metadata_of(images, tags, pushed));
  if (const auto file = invocation.text("metadata-file"); !file.empty()) TRY(write_output_file(std::string(file), to_text(metadata) + "\n"), "--metadata-file");
  return metadata;
}

}  // namespace caisson::cli
