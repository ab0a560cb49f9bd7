// Made once per engine, by its first start.
#include "engine/mount_points.hpp"

#include <array>

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"

namespace caisson::engine {

namespace {
constexpr std::array folders = {"dev", "etc", "proc", "sys"};
constexpr std::array files = {"etc/hostname", "etc/hosts", "etc/resolv.conf"};
}  // namespace

Status make_mount_points(const std::string& dir) {
  TRY_PLAIN(linux::make_dirs(dir, 0755));
  for (const auto* folder : folders) TRY_PLAIN(linux::make_dirs(concat(dir, "/", folder), 0755));
  for (const auto* file : files) TRY_PLAIN(linux::write_file(concat(dir, "/", file), "", 0644));
  return {};
}

}  // namespace caisson::engine
