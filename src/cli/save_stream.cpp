// Written beside the target and renamed.
#include "cli/save_stream.hpp"

#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/file.hpp"

namespace caisson::cli {

Status copy_stream(wire::Client& client, int target_fd) {
  for (;;) {
    std::string piece = TRY(client.read_some(), "read the archive");
    if (piece.empty()) return {};
    TRY(linux::write_all(target_fd, piece), "write the archive");
  }
}

Status save_stream(wire::Client& client, const std::string& output) {
  constexpr int standard_output = 1;
  if (output.empty()) return copy_stream(client, standard_output);
  // A new file takes the name: that would put it in the place of a device.
  if (auto there = linux::stat(output); there.ok() && !S_ISREG(there->st_mode) && !S_ISDIR(there->st_mode))
    return Error(ErrorKind::invalid, concat("invalid output path: \"", output, "\" must be a directory or a regular file: got ", S_ISCHR(there->st_mode) || S_ISBLK(there->st_mode) ? "a device" : "an irregular file"));
  const std::string temporary = concat(output, ".", now_ns(), ".tmp");
  auto file = TRY_PLAIN(linux::open(temporary, O_WRONLY | O_CREAT | O_EXCL, 0600));
  auto done = copy_stream(client, file.get());
  if (done.ok()) done = linux::rename(temporary, output);
  if (!done.ok()) ignore(linux::unlink(temporary));  // the first error is the one to tell
  return done;
}

Status write_output_file(const std::string& path, std::string_view text) {
  auto there = linux::stat(path);
  if (!there.ok() || S_ISREG(there->st_mode)) return linux::write_file_atomic(path, text, 0644, linux::Durability::none);
  auto file = TRY_PLAIN(linux::open(path, O_WRONLY));
  return linux::write_all(file.get(), text);
}

}  // namespace caisson::cli
