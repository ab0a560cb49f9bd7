// Fuzzes what the inventory reads: package databases, SQLite files, rpm headers, layers, advisories of each kind, and the orders of versions.
#include <string>

#include "base/json.hpp"
#include "fuzz/fuzz.hpp"
#include "inventory/advisories.hpp"
#include "inventory/databases.hpp"
#include "inventory/inventory.hpp"
#include "inventory/spdx.hpp"
#include "inventory/versions.hpp"

namespace {

using namespace caisson;
using namespace caisson::inventory;

ScanQuestion question() {
  ScanQuestion out;
  out.distribution = {"debian", "12", "bookworm", ""};
  out.packages.push_back({PackageKind::deb, "a", "1:1.0-1", "amd64", "a", "1:1.0-1", "", ""});
  return out;
}

int sign(int value) { return value < 0 ? -1 : value > 0 ? 1 : 0; }

/// An order has to be one: turned around it is the opposite, and equal to itself.
void check_orders(std::string_view text) {
  const auto cut = text.find('\n');
  const auto a = text.substr(0, cut);
  const auto b = cut == std::string_view::npos ? std::string_view() : text.substr(cut + 1);
  for (auto kind : {PackageKind::deb, PackageKind::apk, PackageKind::rpm}) {
    fuzz::demand(compare_versions(kind, a, a) == 0, "a version is the same as itself");
    fuzz::demand(sign(compare_versions(kind, a, b)) == -sign(compare_versions(kind, b, a)), "an order turned around is the opposite");
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto text = fuzz::text_of(data + 1, size - 1);
  switch (data[0] % 8) {
    case 0: ignore(parse_dpkg_status(text)); break;
    case 1: ignore(parse_apk_installed(text)); break;
    case 2: ignore(parse_rpm_header(text)); break;
    case 3: ignore(parse_rpm_database(text)); break;
    case 4: {
      image::MemorySource source(text);
      auto report = examine_layer(source);
      if (!report.ok()) break;
      auto inventory = stack_layers({sha256_of("layer")}, {*report});
      SpdxSubject subject;
      subject.digest = sha256_of("image");
      if (inventory.ok()) fuzz::demand(parse_json(write_spdx(*inventory, subject), "spdx").ok(), "the document is JSON");
      break;
    }
    case 5: ignore(find_faults(text, question())); break;
    case 6: check_orders(text); break;
    default: (void)severity_of_cvss(text); break;
  }
  return 0;
}
