// Contents, owner, mode, times and extended attributes of what archives hold: which are taken, and in which order they are set.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "image/tar_reader.hpp"
#include "linux/file.hpp"

namespace caisson::image {

/// Owners that a container has; an archive that names others could not be shown right.
constexpr std::uint64_t most_file_id = 65535;

/// Attributes that layers and archives keep. Overlay's own would hide files of other layers, trusted.* is for host root, and
/// security.selinux, .ima, .evm are this host's to decide.
bool is_kept_xattr(std::string_view name);

linux::TimeSpec time_of(const TarEntry& entry);

/// Writes the contents of the reader's current entry to a new, empty file; holes of a sparse one stay holes.
Status write_contents(TarReader& tar, int fd, const TarEntry& entry);

/// Owner, then mode (chown clears setuid), then attributes (chown and writes clear security.capability), then times. `is_new_file`: the
/// file was made with the mode's lower bits and belongs to 0:0. A file system without such attributes loses them.
Status apply_attributes(int fd, const TarEntry& entry, bool is_new_file);
/// Of what cannot be opened: a link, a fifo.
Status apply_link_attributes(int folder_fd, const std::string& name, const TarEntry& entry);

/// The kept attributes of an open file.
Result<std::map<std::string, std::string>> read_kept_xattrs(int fd);

}  // namespace caisson::image
