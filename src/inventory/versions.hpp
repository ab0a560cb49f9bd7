// Which of two versions is older, as dpkg, apk and rpm each see it. Pure.
#pragma once

#include <string_view>

#include "inventory/package.hpp"

namespace caisson::inventory {

// < 0: a is older; 0: they are the same; > 0: a is newer. Any text has a place in the order.

/// deb-version(7): [epoch:]upstream[-revision].
int compare_deb_versions(std::string_view a, std::string_view b);
/// apk-package(5): digits{.digits}[letter]{_suffix[number]}[-rN].
int compare_apk_versions(std::string_view a, std::string_view b);
/// [epoch:]version[-release], the parts as rpmvercmp orders them. Without a release on one side, releases do not count.
int compare_rpm_versions(std::string_view a, std::string_view b);

int compare_versions(PackageKind kind, std::string_view a, std::string_view b);

}  // namespace caisson::inventory
