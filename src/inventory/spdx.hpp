// An inventory as a bill of materials in SPDX 2.3 JSON: the same image gives the same bytes.
#pragma once

#include <string>

#include "base/time.hpp"
#include "inventory/inventory.hpp"

namespace caisson::inventory {

struct SpdxSubject {
  std::string name;        ///< "registry.example.org/app:1"
  Digest digest;           ///< of the manifest
  std::string platform_os;
  std::string platform_architecture;
  TimestampNs created = 0;  ///< the image's own: a document about the same image must not differ from day to day
};
/// Ends with a newline.
std::string write_spdx(const Inventory& inventory, const SpdxSubject& subject);

/// "pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?arch=amd64&distro=debian-12&upstream=glibc" (purl specification).
std::string package_url(const Package& package, const Distribution& distribution);

}  // namespace caisson::inventory
