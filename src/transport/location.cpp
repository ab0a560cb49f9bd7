// The grammar of locations.
#include "transport/location.hpp"

#include "base/reference.hpp"
#include "base/strings.hpp"

namespace caisson::transport {

namespace {

constexpr std::string_view layout_scheme = "oci:";
constexpr std::string_view oci_archive_scheme = "oci-archive:";
constexpr std::string_view docker_archive_scheme = "docker-archive:";
constexpr std::string_view local_scheme = "local:";
constexpr std::string_view registry_scheme = "docker://";

/// "FOLDER:TAG": only what can be a tag is one, so that other colons stay part of the path.
Status take_path_and_tag(std::string_view rest, Location& out) {
  if (const auto at = rest.rfind('@'); at != std::string_view::npos) {
    auto digest = Digest::parse(rest.substr(at + 1));
    if (digest.ok()) {
      out.digest = std::move(*digest);
      rest = rest.substr(0, at);
    }
  }
  const auto halves = split_last(rest, ':');
  if (!out.digest && halves.found && is_tag(halves.after)) {
    out.tag = halves.after;
    rest = halves.before;
  }
  out.path = rest;
  if (out.path.empty()) return Error(ErrorKind::invalid, "names no folder or file");
  return {};
}

/// "FILE:NAME:TAG": a file's name ends at the first colon, as skopeo has it.
Status take_path_and_name(std::string_view rest, Location& out) {
  const auto halves = split_once(rest, ':');
  out.path = halves.before;
  if (out.path.empty()) return Error(ErrorKind::invalid, "names no file");
  if (halves.found) out.reference = TRY_PLAIN(image::parse_reference(halves.after));
  return {};
}

/// What `images -q` prints, or all of it: no reference, but the engine knows it.
bool is_id(std::string_view text) {
  if (text.starts_with("sha256:")) text.remove_prefix(std::string_view("sha256:").size());
  return text.size() >= 4 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

Result<image::Reference> remote_reference(std::string_view text) {
  auto reference = TRY_PLAIN(image::parse_reference(text));
  if (reference.digest) reference.tag.clear();  // "x:1@sha256:…" is what the digest says
  return reference;
}

Status take(std::string_view text, Location& out) {
  auto after = [&](std::string_view scheme) { return text.substr(scheme.size()); };
  if (text.starts_with(oci_archive_scheme)) {
    out.kind = Kind::oci_archive;
    return take_path_and_tag(after(oci_archive_scheme), out);
  }
  if (text.starts_with(layout_scheme)) {
    out.kind = Kind::layout;
    return take_path_and_tag(after(layout_scheme), out);
  }
  if (text.starts_with(docker_archive_scheme)) {
    out.kind = Kind::docker_archive;
    return take_path_and_name(after(docker_archive_scheme), out);
  }
  if (text.starts_with(local_scheme)) {
    out.kind = Kind::local;
    out.path = after(local_scheme);
    auto reference = image::parse_reference(out.path);
    if (reference.ok()) out.reference = std::move(*reference);
    else if (!is_id(out.path)) return std::move(reference).error();
    return {};
  }
  out.reference = TRY_PLAIN(remote_reference(text.starts_with(registry_scheme) ? after(registry_scheme) : text));
  return {};
}

}  // namespace

Result<Location> parse_location(std::string_view text) {
  Location out;
  auto status = take(text, out);
  if (!status.ok())
    return std::move(status).error().in(concat("\"", text, "\"")).with_hint("write host/path:tag, oci:FOLDER[:TAG], oci-archive:FILE[:TAG], docker-archive:FILE[:NAME] or local:NAME");
  return out;
}

std::string to_text(const Location& location) {
  const auto name = location.digest ? concat("@", location.digest->text()) : location.tag.empty() ? std::string() : concat(":", location.tag);
  switch (location.kind) {
    case Kind::registry: return location.reference.canonical();
    case Kind::layout: return concat(layout_scheme, location.path, name);
    case Kind::oci_archive: return concat(oci_archive_scheme, location.path, name);
    case Kind::docker_archive: return concat(docker_archive_scheme, location.path, location.reference.path.empty() ? "" : ":", location.reference.path.empty() ? "" : location.reference.familiar());
    case Kind::local: return concat(local_scheme, location.path);
  }
  return {};
}

std::string name_in(const Location& location) {
  if (location.digest) return location.digest->text();
  if (location.kind == Kind::layout || location.kind == Kind::oci_archive) return location.tag;
  if (location.reference.digest) return location.reference.digest->text();
  return location.reference.path.empty() ? "" : location.reference.tag;
}

}  // namespace caisson::transport
