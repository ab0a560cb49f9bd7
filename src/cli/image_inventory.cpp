// image sbom, image scan: what is installed in an image, and what is known to be wrong with it.
#include "cli/image_inventory.hpp"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "base/json_array.hpp"
#include "base/strings.hpp"
#include "cli/attachments.hpp"
#include "cli/listing.hpp"
#include "cli/places.hpp"
#include "cli/save_stream.hpp"
#include "cli/travel_commands.hpp"
#include "inventory/advisories.hpp"
#include "inventory/spdx.hpp"
#include "inventory/task.hpp"
#include "linux/file.hpp"
#include "linux/sysinfo.hpp"
#include "transport/checked_blob.hpp"
#include "trust/bundle.hpp"

namespace caisson::cli {

namespace {

constexpr std::size_t most_config_bytes = 8 << 20;
constexpr std::size_t shown_digest = 12;

constexpr std::array finding_columns = {
    Column{"Severity", "SEVERITY"}, Column{"ID", "ID"}, Column{"Package", "PACKAGE"}, Column{"Version", "VERSION"}, Column{"Fixed", "FIXED IN"}, Column{"Layer", "LAYER"}, Column{"Summary", "SUMMARY"},
};

/// A plain name is this engine's image, as everywhere but in copies and where something is attached.
Result<transport::Location> image_location(std::string_view text) {
  for (std::string_view scheme : {"oci:", "oci-archive:", "docker-archive:", "local:", "docker://"})
    if (text.starts_with(scheme)) return transport::parse_location(text);
  return transport::parse_location(concat("local:", text));
}

Result<image::Platform> wanted_platform(const Invocation& invocation) {
  const auto wanted = invocation.text("platform");
  if (!wanted.empty()) return image::parse_platform(wanted);
  return image::platform_of_machine(TRY_PLAIN(linux::uname()).machine);
}

struct Examined {
  inventory::Inventory inventory;
  inventory::SpdxSubject subject;
};

/// A checked blob, of which nothing stays in the spool.
Result<UniqueFd> open_blob(transport::Place& place, const image::Descriptor& blob, const transport::Spool& spool) {
  auto checked = TRY_PLAIN(transport::bring_checked(place, blob, spool, {}));
  if (!checked->path.empty()) TRY_PLAIN(linux::unlink(checked->path));
  TRY_PLAIN(linux::lseek(checked->fd.get(), 0, SEEK_SET));
  return std::move(checked->fd);
}

Result<Examined> examine(Places& places, const Places::Source& source, const transport::Location& location, const image::Platform& platform) {
  auto& place = source.place();
  const auto found = TRY_PLAIN(transport::resolve_image(place, source.name, platform));
  const auto step = concat(place.name(), ": manifest ", found.digest.text());
  const auto manifest = TRY(image::parse_manifest(found.text), step);
  const auto spool = TRY_PLAIN(transport::Spool::open(places.spool_folder()));
  Examined out;
  const auto config_file = TRY_PLAIN(open_blob(place, manifest.config, spool));
  const auto config = TRY(image::parse_image_config(TRY(linux::read_all(config_file.get(), most_config_bytes), step)), step);
  out.subject.name = location.kind == transport::Kind::local ? location.path : transport::to_text(location);
  out.subject.digest = found.digest;
  out.subject.created = config.created;
  out.subject.platform_os = config.os;
  out.subject.platform_architecture = config.architecture;
  std::vector<Digest> layers;
  std::vector<inventory::LayerReport> reports;
  for (const auto& layer : manifest.layers) {
    const auto file = TRY_PLAIN(open_blob(place, layer, spool));
    reports.push_back(TRY(inventory::examine_layer_in_worker({places.worker_path(), 0}, file.get(), Cancel{}), concat("layer ", layer.digest.text())));
    layers.push_back(layer.digest);
  }
  out.inventory = TRY(inventory::stack_layers(layers, reports), out.subject.name);
  return out;
}

/// A file, or the first blob of an artifact in a layout or registry.
Result<UniqueFd> open_data(Places& places, const std::string& text) {
  if (TRY_PLAIN(linux::exists(text))) return linux::open(text, O_RDONLY);
  const bool is_elsewhere = text.starts_with("oci:") || text.starts_with("docker://") || text.starts_with("oci-archive:");
  if (!is_elsewhere) return Error(ErrorKind::not_found, concat(text, ": there is no such file")).with_hint("artifacts are named as docker://host/path:tag or oci:FOLDER:TAG");
  auto source = TRY_PLAIN(places.open_source(TRY_PLAIN(transport::parse_location(text))));
  const auto found = TRY_PLAIN(source.place().manifest(source.name));
  const auto manifest = TRY(image::parse_manifest(found.text), text);
  if (manifest.layers.size() != 1) return Error(ErrorKind::invalid, concat(text, " has ", manifest.layers.size(), " blobs; data are one"));
  return open_blob(source.place(), manifest.layers[0], TRY_PLAIN(transport::Spool::open(places.spool_folder())));
}

/// An empty list may mean that all is well, or that nobody could look.
void tell_emptiness(Session& session, const Examined& examined) {
  if (examined.inventory.packages.empty()) session.err().line(concat("no database of dpkg, apk or rpm was found in ", examined.subject.name));
}

std::string layer_text(const Examined& examined, std::size_t package) {
  const auto layer = examined.inventory.packages[package].layer;
  return concat(layer + 1, " ", examined.inventory.layers[layer].hex().substr(0, shown_digest));
}

Status print_table(Session& session, const Examined& examined, const std::vector<inventory::Finding>& findings) {
  std::vector<Row> rows;
  for (const auto& finding : findings) {
    const auto& package = examined.inventory.packages[finding.package].package;
    Row row;
    row.fields["Severity"] = inventory::to_string(finding.severity);
    row.fields["ID"] = finding.id;
    row.fields["Package"] = package.name;
    row.fields["Version"] = package.version;
    row.fields["Fixed"] = finding.fixed_version;
    row.fields["Layer"] = layer_text(examined, finding.package);
    row.fields["Summary"] = finding.summary;
    rows.push_back(std::move(row));
  }
  ListFormat list;
  list.columns = finding_columns;
  list.table = "{{.Severity}}\t{{.ID}}\t{{.Package}}\t{{.Version}}\t{{.Fixed}}\t{{.Layer}}";
  list.quiet_field = "ID";
  return print_list(session.out(), list, rows);
}

void print_json(Session& session, const Examined& examined, const std::vector<inventory::Finding>& findings) {
  json::array list;
  for (const auto& finding : findings) {
    const auto& installed = examined.inventory.packages[finding.package];
    list.push_back(json::object{{"id", finding.id}, {"aliases", texts(finding.aliases)}, {"severity", inventory::to_string(finding.severity)}, {"package", installed.package.name},
                                {"version", installed.package.version}, {"source", installed.package.source}, {"purl", inventory::package_url(installed.package, examined.inventory.distribution)},
                                {"fixed_version", finding.fixed_version}, {"layer", examined.inventory.layers[installed.layer].text()}, {"summary", finding.summary}});
  }
  session.out().line(to_text(json::object{{"image", examined.subject.name}, {"digest", examined.subject.digest.text()}, {"packages", examined.inventory.packages.size()}, {"findings", std::move(list)}}));
}

}  // namespace

Result<std::string> attach_inventory(Session& session, Places& places, const InventoryWish& wish, const trust::PrivateKey* key) {
  const auto examined = TRY_PLAIN(examine(places, wish.source, wish.location, wish.platform));
  tell_emptiness(session, examined);
  Attachment sbom;
  sbom.predicate_type = trust::spdx_predicate;
  sbom.predicate = inventory::write_spdx(examined.inventory, examined.subject);
  sbom.media_type = spdx_type;
  sbom.title = "sbom.spdx.json";
  sbom.created = examined.subject.created;  // as in the document: attached again, it is the same manifest
  TRY_PLAIN(attach_document(session, wish.source.place(), examined.subject.digest, sbom, key));
  return sbom.predicate;
}

Result<int> show_sbom(Session& session, const Invocation& invocation) {
  if (invocation.text("format") != "spdx-json") return Error(ErrorKind::invalid, concat("\"", invocation.text("format"), "\" is no format; there is spdx-json"));
  const bool attaches = invocation.flag("attach");
  if (attaches && invocation.flag("attached")) return Error(ErrorKind::invalid, "--attach and --attached are mutually exclusive");
  if (invocation.flag("attached")) return show_attached_sbom(session, invocation);
  if (invocation.has("key") && !attaches) return Error(ErrorKind::invalid, "--key is for --attach, which signs, and --attached, which verifies");
  const auto location = TRY_PLAIN((attaches ? attachable_location : image_location)(invocation.word(0)));
  const auto platform = TRY_PLAIN(wanted_platform(invocation));
  const auto key = TRY_PLAIN(attestation_key(session, invocation, "key"));
  auto places = TRY_PLAIN(Places::create(session, invocation));
  const auto source = TRY_PLAIN(places.open_source(location, attaches ? "pull,push" : "pull"));
  std::string text;
  if (attaches) {
    text = TRY_PLAIN(attach_inventory(session, places, {source, location, platform}, key ? &*key : nullptr));
  } else {
    const auto examined = TRY_PLAIN(examine(places, source, location, platform));
    tell_emptiness(session, examined);
    text = inventory::write_spdx(examined.inventory, examined.subject);
  }
  const std::string output(invocation.text("output"));
  if (!output.empty()) TRY_PLAIN(write_output_file(output, text));
  else if (!attaches) session.out().write(text);
  return 0;
}

Result<int> scan_image(Session& session, const Invocation& invocation) {
  const bool is_json = invocation.text("format") == "json";
  if (!is_json && invocation.text("format") != "table") return Error(ErrorKind::invalid, concat("\"", invocation.text("format"), "\" is no format; there are table and json"));
  const auto threshold = TRY(inventory::parse_severity(invocation.text("severity")), "--severity");
  const auto exit_code = invocation.integer("exit-code");
  if (exit_code < 0 || exit_code > 255) return Error(ErrorKind::invalid, "--exit-code must be 0 to 255");
  const auto data = invocation.list("data");
  if (data.empty()) return Error(ErrorKind::invalid, "--data is missing: a scan needs to know what is wrong with packages").with_hint("OSV's all.zip, Debian's tracker as JSON, or debsecan's file");
  const auto location = TRY_PLAIN(image_location(invocation.word(0)));
  const auto platform = TRY_PLAIN(wanted_platform(invocation));
  auto places = TRY_PLAIN(Places::create(session, invocation));
  const auto source = TRY_PLAIN(places.open_source(location));
  auto examined = TRY_PLAIN(examine(places, source, location, platform));

  tell_emptiness(session, examined);
  inventory::ScanQuestion question;
  question.distribution = examined.inventory.distribution;
  if (const auto release = invocation.text("release"); !release.empty()) (release[0] >= '0' && release[0] <= '9' ? question.distribution.version_id : question.distribution.codename) = release;
  for (const auto& installed : examined.inventory.packages) question.packages.push_back(installed.package);
  std::vector<inventory::Finding> findings;
  std::set<std::pair<std::uint64_t, std::string>> known;  // two sets of data may speak of the same fault
  for (const auto& name : data) {
    const auto file = TRY_PLAIN(open_data(places, name));
    auto found = TRY(inventory::find_faults_in_worker({places.worker_path(), 0}, file.get(), question, Cancel{}), name);
    for (auto& finding : found) {
      if (finding.package >= question.packages.size()) return Error(ErrorKind::corrupt, "the worker's answer names a package that it was not asked about");
      if (finding.severity >= threshold && known.emplace(finding.package, finding.id).second) findings.push_back(std::move(finding));
    }
  }
  std::stable_sort(findings.begin(), findings.end(), [](const auto& a, const auto& b) { return a.severity > b.severity; });
  if (is_json) print_json(session, examined, findings);
  else TRY_PLAIN(print_table(session, examined, findings));
  return findings.empty() ? 0 : static_cast<int>(exit_code);
}

}  // namespace caisson::cli
