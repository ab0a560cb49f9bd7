// What an image's package databases say: packages, and the distribution they belong to.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/codec.hpp"

namespace caisson::inventory {

enum class PackageKind : std::uint8_t { deb, apk, rpm };
/// "deb", "apk", "rpm": also the type in a package URL.
std::string_view to_string(PackageKind kind);

struct Package {
  PackageKind kind = PackageKind::deb;
  std::string name;
  std::string version;       ///< as the package manager shows it: "1:2.3-4"
  std::string architecture;  ///< its own word for it: "amd64", "x86_64", "noarch"
  std::string source;         ///< the source package it was built of; advisories speak of those
  std::string source_version;
  std::string license;        ///< as it is written there
  std::string maintainer;
  auto operator<=>(const Package&) const = default;
};
template <class C>
void visit(C& c, Package& p) {
  c(p.kind);
  c(p.name);
  c(p.version);
  c(p.architecture);
  c(p.source);
  c(p.source_version);
  c(p.license);
  c(p.maintainer);
}

/// os-release(5), as far as advisories and package URLs need it.
struct Distribution {
  std::string id;          ///< "debian"
  std::string version_id;  ///< "12"
  std::string codename;    ///< "bookworm"
  std::string name;        ///< "Debian GNU/Linux 12 (bookworm)"
};
template <class C>
void visit(C& c, Distribution& d) {
  c(d.id);
  c(d.version_id);
  c(d.codename);
  c(d.name);
}

}  // namespace caisson::inventory
