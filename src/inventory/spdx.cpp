// Image contains layers, layers contain packages.
#include "inventory/spdx.hpp"

#include "base/json.hpp"
#include "base/strings.hpp"

namespace caisson::inventory {

namespace {

constexpr const char* nothing_said = "NOASSERTION";
constexpr std::size_t short_hash = 12;

std::string percent_encode(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_' || c == '~' || c == ':';
    if (is_plain) {
      out += c;
      continue;
    }
    constexpr std::string_view digits = "0123456789ABCDEF";
    const auto byte = static_cast<std::uint8_t>(c);
    out += '%';
    out += digits[byte >> 4U];
    out += digits[byte & 15U];
  }
  return out;
}

/// SPDX 2.3, clause 7.2: letters, digits, "." and "-".
std::string id_text(std::string_view text) {
  std::string out;
  for (const char c : text) out += (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ? c : '-';
  return out;
}

std::string package_id(const Package& package) {
  const auto whole = concat(to_string(package.kind), "\n", package.name, "\n", package.version, "\n", package.architecture, "\n", package.source, "\n", package.source_version);
  return concat("SPDXRef-Package-", to_string(package.kind), "-", id_text(package.name), "-", sha256_of(whole).hex().substr(0, short_hash));
}

std::string layer_id(std::size_t layer) { return concat("SPDXRef-Layer-", layer + 1); }

json::array checksum_of(const Digest& digest) {
  return {json::object{{"algorithm", digest.kind() == DigestAlgorithm::sha512 ? "SHA512" : "SHA256"}, {"checksumValue", digest.hex()}}};
}

/// What every package of SPDX has to have.
json::object plain_package(std::string id, std::string_view name, std::string_view version) {
  return {{"name", name}, {"SPDXID", std::move(id)}, {"versionInfo", version}, {"downloadLocation", nothing_said}, {"filesAnalyzed", false},
          {"licenseConcluded", nothing_said}, {"licenseDeclared", nothing_said}, {"copyrightText", nothing_said}};
}

json::object url_reference(std::string url) { return {{"referenceCategory", "PACKAGE-MANAGER"}, {"referenceType", "purl"}, {"referenceLocator", std::move(url)}}; }

json::object write_package(const InstalledPackage& installed, const Inventory& inventory) {
  const auto& package = installed.package;
  auto out = plain_package(package_id(package), package.name, package.version);
  if (!package.maintainer.empty()) out["supplier"] = concat("Organization: ", package.maintainer);
  // A package manager's word for a licence is seldom an SPDX expression.
  if (!package.license.empty()) out["licenseComments"] = concat("declared by the package: ", package.license);
  out["sourceInfo"] = concat("installed by layer ", installed.layer + 1, " of ", inventory.layers.size(), ", ", inventory.layers[installed.layer].text(), "; built from ", package.source, " ",
                             package.source_version);
  out["externalRefs"] = json::array{url_reference(package_url(package, inventory.distribution))};
  return out;
}

json::object relation(std::string from, const char* type, std::string to) {
  return {{"spdxElementId", std::move(from)}, {"relationshipType", type}, {"relatedSpdxElement", std::move(to)}};
}

/// SPDX 2.3, clause 6.9: whole seconds.
std::string whole_seconds(TimestampNs time) {
  const auto text = to_rfc3339(time > 0 ? time : 1);
  return concat(text.substr(0, text.find('.')), "Z");
}

}  // namespace

std::string package_url(const Package& package, const Distribution& distribution) {
  auto out = concat("pkg:", to_string(package.kind), "/", distribution.id.empty() ? "" : percent_encode(distribution.id), distribution.id.empty() ? "" : "/", percent_encode(package.name));
  // An epoch is part of a deb's and apk's version, but a qualifier of an rpm's (purl types).
  std::string_view version = package.version;
  std::string_view epoch;
  if (package.kind == PackageKind::rpm)
    if (const auto halves = split_once(version, ':'); halves.found) {
      epoch = halves.before;
      version = halves.after;
    }
  out += concat("@", percent_encode(version));
  std::vector<std::string> qualifiers;
  if (!package.architecture.empty()) qualifiers.push_back(concat("arch=", percent_encode(package.architecture)));
  if (!distribution.id.empty() && !distribution.version_id.empty()) qualifiers.push_back(concat("distro=", percent_encode(distribution.id), "-", percent_encode(distribution.version_id)));
  if (!epoch.empty()) qualifiers.push_back(concat("epoch=", epoch));
  if (package.source != package.name) qualifiers.push_back(concat("upstream=", percent_encode(package.source)));
  return qualifiers.empty() ? out : concat(out, "?", join(qualifiers, "&"));
}

std::string write_spdx(const Inventory& inventory, const SpdxSubject& subject) {
  json::array packages;
  json::array relations;
  relations.push_back(relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image"));
  auto image = plain_package("SPDXRef-Image", subject.name, subject.digest.text());
  image["primaryPackagePurpose"] = "CONTAINER";
  image["checksums"] = checksum_of(subject.digest);
  if (!inventory.distribution.name.empty()) image["comment"] = inventory.distribution.name;
  const auto repository = concat("/", split_once(subject.name, '@').before);
  const auto last = split_once(split_last(repository, '/').after, ':').before;
  image["externalRefs"] = json::array{url_reference(concat("pkg:oci/", percent_encode(last), "@", percent_encode(subject.digest.text()), "?arch=", percent_encode(subject.platform_architecture)))};
  packages.push_back(std::move(image));
  for (std::size_t layer = 0; layer < inventory.layers.size(); ++layer) {
    auto out = plain_package(layer_id(layer), concat("layer ", layer + 1), inventory.layers[layer].text());
    out["checksums"] = checksum_of(inventory.layers[layer]);
    packages.push_back(std::move(out));
    relations.push_back(relation("SPDXRef-Image", "CONTAINS", layer_id(layer)));
  }
  for (const auto& installed : inventory.packages) {
    packages.push_back(write_package(installed, inventory));
    relations.push_back(relation(layer_id(installed.layer), "CONTAINS", package_id(installed.package)));
  }
  json::object out;
  out["spdxVersion"] = "SPDX-2.3";
  out["dataLicense"] = "CC0-1.0";
  out["SPDXID"] = "SPDXRef-DOCUMENT";
  out["name"] = subject.name;
  out["documentNamespace"] = concat("https://spdx.org/spdxdocs/caisson-", id_text(last), "-", subject.digest.hex());
  out["creationInfo"] = json::object{{"created", whole_seconds(subject.created)}, {"creators", json::array{"Tool: caisson-" CAISSON_VERSION}}};
  out["packages"] = std::move(packages);
  out["relationships"] = std::move(relations);
  return to_text(out) + "\n";
}

}  // namespace caisson::inventory
